//! What becomes of slots whose time has come: a pure function.
//!
//! A slot is *missed* if nobody dealt with it within [`LATE`] of its time, whyever: no process ran, the database was away,
//! the machine slept, or its clock was set ahead. Others fire, whatever the policy; so a restart that takes a moment loses
//! nothing.

use std::time::Duration;

use super::cron::Tick;
use crate::domain::Timestamp;
use crate::ports::GapReason;

/// How long after its time a slot may fire without being late.
pub const LATE: Duration = Duration::from_secs(10);

/// Missed slots of one schedule that are made up for at one time, at the most.
pub const MOST: usize = 100;

/// What to do about missed slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Nothing: the next one counts.
    Nothing,
    /// The newest slot makes up for those before it: the newest missed one, unless one that is not missed has come as well.
    Last,
    /// Each is made up for, the oldest first; the newest [`MOST`], if there are more.
    All,
}

/// What to do about missed slots, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchUp {
    /// What.
    pub policy: Policy,
    /// How old a missed slot may be to be made up for.
    pub window: Duration,
}

impl Default for CatchUp {
    fn default() -> Self {
        Self {
            policy: Policy::Last,
            window: Duration::from_secs(60 * 60),
        }
    }
}

/// Slots from the first to the last, and why they are skipped.
pub(super) type Span = (Timestamp, Timestamp, GapReason);

/// What becomes of some slots of one schedule.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// These fire, in this order.
    pub(super) fire: Vec<Tick>,
    /// These do not.
    pub(super) skip: Vec<(Tick, GapReason)>,
}

impl CatchUp {
    /// What becomes of slots that have come by `now`, in order.
    pub(super) fn judge(self, due: Vec<Tick>, now: Timestamp) -> Verdict {
        let is_fresh = |tick: &Tick| now.since(tick.fires_at) <= LATE;
        let is_within = |tick: &Tick| now.since(tick.at) <= self.window;
        let mut candidates = due.iter().filter(|tick| is_fresh(tick) || is_within(tick));
        // The slots from this one on are made up for.
        let from = match self.policy {
            Policy::Nothing => None,
            Policy::Last => candidates.next_back().map(|tick| tick.at),
            Policy::All => {
                let missed = candidates.filter(|tick| !is_fresh(tick)).rev().take(MOST);
                missed.last().map(|tick| tick.at)
            }
        };
        let mut verdict = Verdict::default();
        for tick in due {
            if is_fresh(&tick) || from.is_some_and(|from| from <= tick.at) {
                verdict.fire.push(tick);
            } else if self.policy == Policy::Last && is_within(&tick) {
                verdict.skip.push((tick, GapReason::Superseded));
            } else {
                verdict.skip.push((tick, GapReason::Down));
            }
        }
        verdict
    }

    /// Why slots from one to another are skipped that are too many to be looked at one by one.
    pub(super) fn skip_many(self, first: Timestamp, last: Timestamp, now: Timestamp) -> Vec<Span> {
        let window = now.before(self.window);
        if self.policy != Policy::Last || last < window {
            return vec![(first, last, GapReason::Down)];
        }
        let newer = (first.max(window), last, GapReason::Superseded);
        let older = (first, Timestamp::from_millis(window.as_millis() - 1), GapReason::Down);
        Some(older)
            .filter(|_| first < window)
            .into_iter()
            .chain([newer])
            .collect()
    }
}

impl Verdict {
    /// The skipped slots as spans, one for each reason.
    pub(super) fn spans(&self) -> Vec<Span> {
        let of = |reason: GapReason| {
            let mut times = self
                .skip
                .iter()
                .filter(|(_, why)| *why == reason)
                .map(|(tick, _)| tick.at);
            let first = times.next()?;
            Some((first, times.next_back().unwrap_or(first), reason))
        };
        [GapReason::Down, GapReason::Superseded]
            .into_iter()
            .filter_map(of)
            .collect()
    }
}

#[cfg(test)]
mod tests;
