//! Dates, timeouts, the operand of sleeps, and `Retry-After` (semantics 3, protocol 5.5.8, 6.3, 9.3).
//!
//! Promises that each place accepts what its facts say: timeouts are strict about dates, sleeps and
//! `Retry-After` are lenient. Never reads a clock; times without a zone are UTC.

use super::duration;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, TimeDelta, Utc};
use std::time::Duration;
use thiserror::Error;

/// Shortest text that is tried as a date before it is tried as a duration.
const MIN_DATE_BYTES: usize = 10;
/// Longest `Retry-After` that is a number of seconds.
const MAX_SECONDS_BYTES: usize = 7;
/// Bounds of what `Retry-After` may ask for.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(86_400));

/// Why a text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TimeError {
    /// Neither a duration nor a date.
    #[error("'{0}' is neither a duration nor a date")]
    Unparsable(String),
    /// So far away that there is no such time.
    #[error("'{0}' is out of range")]
    OutOfRange(String),
}

/// When a timeout strikes: a duration from now, or a date in RFC 3339.
///
/// It may lie in the past. What an empty text means differs by feature: ask before calling.
///
/// # Errors
///
/// If the text is neither, an empty one included.
pub fn timeout(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, TimeError> {
    if let Some(date) = rfc3339(text) {
        return Ok(date);
    }
    let duration = parse_duration(text)?;
    now.checked_add_signed(duration)
        .ok_or_else(|| TimeError::OutOfRange(excerpt(text)))
}

/// How long to sleep, given the operand of a sleep: a lenient date if it is at least ten bytes long
/// and is one, else a duration. Never negative; an empty text is zero.
///
/// The distance to a date is exact: nobody is woken before it.
///
/// # Errors
///
/// If the text is neither a date nor a duration.
pub fn sleep(text: &str, now: DateTime<Utc>) -> Result<Duration, TimeError> {
    if text.is_empty() {
        return Ok(Duration::ZERO);
    }
    let date = if text.len() >= MIN_DATE_BYTES {
        lenient(text)
    } else {
        None
    };
    let delay = match date {
        Some(date) => date.signed_duration_since(now),
        None => parse_duration(text)?,
    };
    Ok(delay.to_std().unwrap_or(Duration::ZERO))
}

/// How long a `Retry-After` header asks to wait, between one second and a day. `None` if it is
/// neither a number of seconds nor a date: then it counts as absent.
#[must_use]
pub fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    let delay = if text.len() <= MAX_SECONDS_BYTES {
        TimeDelta::seconds(text.parse().ok()?)
    } else {
        lenient(text)?.signed_duration_since(now)
    };
    let delay = delay.to_std().unwrap_or(Duration::ZERO);
    Some(delay.clamp(RETRY_AFTER.0, RETRY_AFTER.1))
}

/// A date in RFC 3339, strictly: `2024-05-06T07:08:09.123Z`.
#[must_use]
pub fn rfc3339(text: &str) -> Option<DateTime<Utc>> {
    let separator = text.as_bytes().get(MIN_DATE_BYTES)?;
    if !separator.eq_ignore_ascii_case(&b'T') {
        return None;
    }
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|date| date.with_timezone(&Utc))
}

/// A date in any of the common forms: RFC 3339 with or without fraction, seconds or zone, with a
/// `T` or a space; RFC 1123 and 2822; a date alone.
#[must_use]
pub fn lenient(text: &str) -> Option<DateTime<Utc>> {
    const ZONED: [&str; 4] = [
        "%Y-%m-%dT%H:%M:%S%.f%#z",
        "%Y-%m-%d %H:%M:%S%.f%#z",
        "%Y-%m-%d %H:%M:%S%.f %#z",
        "%Y-%m-%dT%H:%M%#z",
    ];
    const LOCAL: [&str; 4] = [
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M",
    ];
    let text = text.trim();
    if let Ok(date) = DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_rfc2822(text)) {
        return Some(date.with_timezone(&Utc));
    }
    // `Z` and `UTC` are no offsets for the formats below.
    let bare = ["Z", "z", " UTC", " GMT"]
        .iter()
        .find_map(|suffix| text.strip_suffix(suffix))
        .unwrap_or(text);
    let local = LOCAL
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(bare, format).ok())
        .or_else(|| {
            let date = NaiveDate::parse_from_str(bare, "%Y-%m-%d").ok()?;
            Some(date.and_time(NaiveTime::MIN))
        });
    if let Some(local) = local {
        return Some(local.and_utc());
    }
    ZONED
        .iter()
        .find_map(|format| DateTime::parse_from_str(text, format).ok())
        .map(|date| date.with_timezone(&Utc))
}

/// A time from a number: seconds of the epoch, or milliseconds if it is too large for seconds.
///
/// The border lies at the year 5138 in seconds, 1973 in milliseconds.
#[must_use]
pub fn from_epoch(number: i64) -> Option<DateTime<Utc>> {
    if number.unsigned_abs() < 100_000_000_000 {
        DateTime::from_timestamp(number, 0)
    } else {
        DateTime::from_timestamp_millis(number)
    }
}

/// RFC 3339 in UTC, with as many decimals as the time has.
#[must_use]
pub fn render(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn parse_duration(text: &str) -> Result<TimeDelta, TimeError> {
    duration::parse(text).map_err(|error| match error {
        duration::DurationError::Range => TimeError::OutOfRange(excerpt(text)),
        _ => TimeError::Unparsable(excerpt(text)),
    })
}

/// The beginning of a text, for messages.
fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}
