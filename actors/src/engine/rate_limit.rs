//! A rate limit: the generic cell rate algorithm.
//!
//! Runs pass one `interval` apart on average; a few may come early, all together by `tolerance`. What is rejected costs
//! nothing, so it does not put the next one off.

use crate::domain::{Cadence, Level, Timestamp};

/// Nanoseconds of a millisecond.
const NANOS: i64 = 1_000_000;

/// Whether a run that was asked for at a time passes: what its bucket remembers then, or when the next one may pass.
///
/// A limit that was made wider since the last run counts as if it had been so before.
///
/// # Errors
/// The first millisecond at which a run passes, when this one does not.
pub fn admit(level: Option<Level>, rate: Cadence, at: Timestamp) -> Result<Level, Timestamp> {
    let at = at.as_nanos();
    let Some(Level { next, last }) = level else {
        return Ok(Level {
            next: at.saturating_add(rate.interval),
            last: at,
        });
    };
    let next = next.min(last.saturating_add(rate.interval).saturating_add(rate.tolerance));
    let opens = next.saturating_sub(rate.tolerance);
    if opens > at {
        return Err(Timestamp::from_millis(opens.saturating_add(NANOS - 1) / NANOS));
    }
    Ok(Level {
        next: next.max(at).saturating_add(rate.interval),
        last: last.max(at),
    })
}
