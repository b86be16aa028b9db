//! What a run has to get past to be created, beside being new: the rate limit of its function, and the lock of a singleton.
//!
//! Both are claims, decided by the store in the commit that creates the run. Each is on a bucket, which stands for what a
//! key expression gives for the run's event.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    ClaimId, Class, Event, FunctionId, Gates, Job, JobId, JobKey, Json, Priority, RateLimit, RunId, SingletonMode,
    SkipReason, Timestamp,
};

impl ClaimId {
    /// The bucket of a rate limit. `key` is the key's expression and its value, if there is a key.
    #[must_use]
    pub fn of_rate(function: FunctionId, key: Option<(&str, &Json)>) -> Self {
        Self::derive("rate", function, key)
    }

    /// The bucket of a lock.
    #[must_use]
    pub fn of_lock(function: FunctionId, key: Option<(&str, &Json)>) -> Self {
        Self::derive("lock", function, key)
    }

    /// The first 128 bits of a SHA-256.
    pub(super) fn derive(kind: &str, function: FunctionId, key: Option<(&str, &Json)>) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(kind);
        hasher.update(function.as_uuid());
        if let Some((expression, value)) = key {
            // Neither can be taken for a part of the other: an expression holds no U+0000.
            hasher.update(expression);
            hasher.update([0]);
            hasher.update(value.as_str());
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let (first, _) = digest.split_at(16);
        Self::from_uuid(Uuid::from_slice(first).expect("sixteen bytes"))
    }
}

/// How fast a bucket lets runs pass, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// From one run to the next, on average.
    pub interval: i64,
    /// How much earlier than that a run may come.
    pub tolerance: i64,
}

impl Cadence {
    /// The rate of a limit: one in ten of its runs may come at once, on top of the first.
    #[must_use]
    pub fn of(limit: &RateLimit) -> Self {
        let period = i64::try_from(limit.period.as_nanos()).unwrap_or(i64::MAX);
        let interval = period / i64::from(limit.limit.max(1));
        Self {
            interval,
            tolerance: interval.saturating_mul(i64::from(limit.limit / 10)),
        }
    }
}

/// What a bucket of a rate limit remembers, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// When the next run would come if they came evenly.
    pub next: i64,
    /// When the last one came.
    pub last: i64,
}

/// A claim to pass a rate limit.
#[derive(Debug, Clone, PartialEq)]
pub struct RateClaim {
    /// Of which bucket.
    pub bucket: ClaimId,
    /// How fast it may be.
    pub rate: Cadence,
    /// When the run was asked for: when its event was received.
    pub at: Timestamp,
    /// Why the run is said to have been left out: [`SkipReason::RateLimited`] or [`SkipReason::Idempotency`].
    pub reason: SkipReason,
    /// The rule with the key's value; when the next run may pass, in RFC 3339, follows at the end.
    pub rule: String,
    /// The event that tells whoever invoked the function.
    pub refusal: Option<Box<Event>>,
}

/// A claim to a lock, held from the run's creation to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct LockClaim {
    /// Which lock.
    pub bucket: ClaimId,
    /// What happens if it is held.
    pub mode: SingletonMode,
    /// When the run was asked for.
    pub at: Timestamp,
    /// The rule with the key's value; the run that holds the lock follows at the end.
    pub rule: String,
    /// The event that tells whoever invoked the function.
    pub refusal: Option<Box<Event>>,
}

impl LockClaim {
    /// Why the holder of the lock is cancelled for the sake of the run `by`.
    #[must_use]
    pub fn reason(by: RunId) -> String {
        format!("run {by} takes its place (singleton)")
    }

    /// The job that cancels the holder for the sake of the run `by` of the same function.
    ///
    /// # Panics
    /// Never: a text is JSON.
    #[must_use]
    pub fn eviction(&self, function: FunctionId, holder: RunId, by: RunId) -> Job {
        Job {
            id: JobId {
                run: holder,
                key: JobKey::Cancel,
            },
            function,
            attempt: 0,
            due: self.at,
            priority: Priority::new(Class::High, 0),
            payload: Some(Json::from_value(&Self::reason(by)).expect("a text is JSON")),
            gates: Gates::NONE,
        }
    }
}

/// A rule for people: `at most 3 in 60s` or, with a key, ``at most 3 in 60s for `event.data.id` = 7``.
pub(crate) fn rule(what: &str, key: Option<(&str, &Json)>) -> String {
    let Some((expression, value)) = key else {
        return what.to_owned();
    };
    format!("{what} for `{expression}` = {}", shown(value))
}

/// A key's value for people, shortened.
pub(crate) fn shown(value: &Json) -> String {
    /// In characters.
    const SHOWN: usize = 200;
    let mut shown: String = value.as_str().chars().take(SHOWN).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    shown
}

/// What a rate limit says, without its key.
pub(crate) fn rate_rule(limit: u32, period: Duration) -> String {
    format!("at most {limit} in {period:?}")
}
