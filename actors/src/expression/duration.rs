//! The duration grammar of configurations and step operands (protocol 9.3).
//!
//! A sign, then one or more of number and unit without spaces: `1d12h`, `1.5h`, `-90s`; units `w`
//! (168 h), `d` (24 h), `h`, `m`, `s`, `ms`, `us`, `µs`, `ns`; or a bare `0`. Promises exact
//! arithmetic down to the nanosecond. Never saturates: what exceeds some 292 years is an error.

use chrono::TimeDelta;
use thiserror::Error;

const NANOS: [(&str, i128); 10] = [
    ("w", 7 * 86_400_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
    // The micro sign and the Greek letter look the same and are both in use.
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
];

/// How many of the units rendering uses.
const RENDERED_UNITS: usize = 8;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Nothing there, or only a sign.
    #[error("the duration is empty")]
    Empty,
    /// Not a number where one has to be.
    #[error("the duration has no number before its unit")]
    Number,
    /// A number without a unit, or with one that does not exist.
    #[error("the duration has a missing or unknown unit")]
    Unit,
    /// More than a signed 64-bit number of nanoseconds.
    #[error("the duration is out of range")]
    Range,
}

/// Parses a duration; it may be negative.
///
/// # Errors
///
/// If the text does not follow the grammar or the value is out of range.
pub fn parse(text: &str) -> Result<TimeDelta, DurationError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest.is_empty() {
        return Err(DurationError::Empty);
    }
    if rest == "0" {
        return Ok(TimeDelta::zero());
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let (whole, fraction, after) = split_number(rest)?;
        let unit_end = after
            .find(|character: char| character.is_ascii_digit() || character == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let scale = NANOS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, scale)| *scale)
            .ok_or(DurationError::Unit)?;
        let part = scaled(whole, fraction, scale).ok_or(DurationError::Range)?;
        nanos = nanos.checked_add(part).ok_or(DurationError::Range)?;
        rest = next;
    }
    let nanos = if negative { -nanos } else { nanos };
    i64::try_from(nanos)
        .map(TimeDelta::nanoseconds)
        .map_err(|_| DurationError::Range)
}

/// Splits `12.5h` into `12`, `5` and `h`.
fn split_number(text: &str) -> Result<(&str, &str, &str), DurationError> {
    let digits = |text: &str| {
        text.find(|character: char| !character.is_ascii_digit())
            .unwrap_or(text.len())
    };
    let (whole, after) = text.split_at(digits(text));
    let (fraction, after) = match after.strip_prefix('.') {
        Some(after) => after.split_at(digits(after)),
        None => ("", after),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Number);
    }
    Ok((whole, fraction, after))
}

/// The number times the scale, cut off below one nanosecond; `None` if it is out of range.
fn scaled(whole: &str, fraction: &str, scale: i128) -> Option<i128> {
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // No unit has more than 15 digits of nanoseconds: further decimals cannot matter.
    let fraction = &fraction[..fraction.len().min(18)];
    let parts: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let divisor = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_mul(scale)?.checked_add(parts * scale / divisor)
}

/// Renders a duration with the largest units first: `1w2d3h`, `1s500ms`, `0s`.
///
/// [`parse`] gives the same duration back.
#[must_use]
pub fn render(duration: TimeDelta) -> String {
    let seconds = i128::from(duration.num_seconds());
    let nanos = seconds * 1_000_000_000 + i128::from(duration.subsec_nanos());
    if nanos == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    if nanos < 0 {
        text.push('-');
    }
    let mut rest = nanos.abs();
    for (unit, scale) in &NANOS[..RENDERED_UNITS] {
        if rest >= *scale {
            text.push_str(&format!("{}{unit}", rest / scale));
            rest %= scale;
        }
    }
    text
}
