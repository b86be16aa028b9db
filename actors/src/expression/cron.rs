//! Cron schedules (semantics 16, protocol 2.4).
//!
//! Five fields, optionally after `TZ=<zone> ` or `CRON_TZ=<zone> `. Promises one fire per slot: a
//! local time that a clock change skips fires when the clock jumps, a repeated one fires once if
//! its hour is fixed. Never searches without bound: a date that does not exist has no next fire.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use thiserror::Error;

/// Longest schedule, in bytes.
pub const MAX_SCHEDULE_BYTES: usize = 255;
/// Smallest offset of a jitter.
const MIN_JITTER: Duration = Duration::from_secs(1);

/// Why a text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CronError {
    /// Too long.
    #[error("the cron schedule is longer than {MAX_SCHEDULE_BYTES} bytes")]
    TooLong,
    /// Not five fields of the grammar.
    #[error("'{0}' isn't a valid cron schedule")]
    Invalid(String),
    /// A time zone that the IANA database does not know.
    #[error("'{0}' isn't a known time zone")]
    TimeZone(String),
}

/// A parsed schedule.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    zone: Tz,
    cron: Cron,
}

impl Schedule {
    /// Parses a schedule.
    ///
    /// # Errors
    ///
    /// If it is too long, has other than five fields, uses a word such as `@daily` or one of the
    /// extensions of other schedulers (`L`, `W`, `#`), or names an unknown time zone.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        if text.len() > MAX_SCHEDULE_BYTES {
            return Err(CronError::TooLong);
        }
        let invalid = || CronError::Invalid(text.to_owned());
        let trimmed = text.trim();
        let prefixed = trimmed.strip_prefix("CRON_TZ=").or_else(|| trimmed.strip_prefix("TZ="));
        let (zone, fields) = match prefixed {
            Some(rest) => {
                let (zone, fields) = rest.split_once(char::is_whitespace).ok_or_else(invalid)?;
                let known = zone.parse().map_err(|_| CronError::TimeZone(zone.to_owned()))?;
                (known, fields)
            }
            None => (Tz::UTC, trimmed),
        };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        if fields.len() != 5 || !fields.iter().all(|field| is_plain(field)) {
            return Err(invalid());
        }
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            // `5/10` means from five on, every ten.
            .sloppy_ranges(true)
            .build()
            .parse(&fields.join(" ").replace('?', "*"))
            .map_err(|_| invalid())?;
        Ok(Self {
            text: text.to_owned(),
            zone,
            cron,
        })
    }

    /// The text this was parsed from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The time zone its fields are in.
    #[must_use]
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first fire strictly after a time; `None` if there is none.
    #[must_use]
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = self
            .cron
            .find_next_occurrence(&time.with_timezone(&self.zone), false)
            .ok()?
            .with_timezone(&Utc);
        // A search that does not move would make its caller loop.
        (next > time).then_some(next)
    }

    /// The last `count` fires after `after` and not after `until`, in order. The work is bounded by `count` and by the
    /// logarithm of the time in between, however dense the schedule is.
    #[must_use]
    pub fn last_fires(&self, after: DateTime<Utc>, until: DateTime<Utc>, count: usize) -> Vec<DateTime<Utc>> {
        let most = count.saturating_mul(4).saturating_add(64);
        let mut spans = vec![(after, until)];
        // From the last span to the first, each in order.
        let mut parts = Vec::new();
        let mut missing = count;
        while let Some((from, to)) = spans.pop().filter(|_| missing > 0) {
            let mut fires: Vec<_> = self.fires_within(from, to).take(most).collect();
            if fires.len() == most {
                let middle = from + (to - from) / 2;
                spans.extend([(from, middle), (middle, to)]);
                continue;
            }
            let part = fires.split_off(fires.len().saturating_sub(missing));
            missing -= part.len();
            parts.push(part);
        }
        parts.into_iter().rev().flatten().collect()
    }

    /// The fires after `after` and not after `until`, in order.
    fn fires_within(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let next = move |time| self.next_after(time).filter(|fire| *fire <= until);
        std::iter::successors(next(after), move |fire| next(*fire))
    }
}

/// Whether a field consists of lists, ranges, steps, numbers and names only.
fn is_plain(field: &str) -> bool {
    field.split(',').all(|element| {
        let (range, step) = match element.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (element, None),
        };
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let name = |text: &str| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        let valid_range = range == "*"
            || range == "?"
            || range.split('-').count() <= 2 && range.split('-').all(|end| number(end) || name(end));
        valid_range && step.is_none_or(|step| number(step) && step.bytes().any(|byte| byte != b'0'))
    })
}

/// The offset of a fire from its tick: the same for the same seed, at least one second, below
/// `jitter`. Zero if the jitter leaves no room for that.
#[must_use]
pub fn jitter(seed: &str, jitter: Duration) -> Duration {
    let Some(room) = jitter.checked_sub(MIN_JITTER) else {
        return Duration::ZERO;
    };
    let digest = Sha256::digest(seed);
    let mut word = [0; 8];
    word.copy_from_slice(&digest[..8]);
    let room = u64::try_from(room.as_nanos()).unwrap_or(u64::MAX);
    match u64::from_be_bytes(word).checked_rem(room) {
        Some(offset) => MIN_JITTER + Duration::from_nanos(offset),
        None => Duration::ZERO,
    }
}
