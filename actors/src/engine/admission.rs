//! What a run has to get past: its function's rate limit and lock, with the values of their keys.
//!
//! Keys are evaluated here, once, from the event. Who passes is decided by the store when the run is to be created.

use super::subject::{Key, Subject};
use crate::domain::admission::{rate_rule, rule};
use crate::domain::{
    Cadence, ClaimId, Event, Function, Json, LockClaim, RateClaim, RateLimit, SingletonMode, Skip, SkipReason,
};

/// What to do about a run that wants a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock<R> {
    /// It holds the lock from now on.
    Held,
    /// It does, and this run, which has held it, is to be cancelled.
    Taken(R),
    /// It is not created, because this run holds the lock.
    Refused(R),
}

/// Decides who holds a lock.
pub fn lock<R>(holder: Option<R>, mode: SingletonMode) -> Lock<R> {
    match (holder, mode) {
        (None, _) => Lock::Held,
        (Some(holder), SingletonMode::Cancel) => Lock::Taken(holder),
        (Some(holder), SingletonMode::Skip) => Lock::Refused(holder),
    }
}

/// The claims of a run that an event starts, in the order in which they are decided.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) rate: Option<RateClaim>,
    pub(super) lock: Option<LockClaim>,
}

impl Claims {
    /// What the function asks of a run by this event.
    ///
    /// # Errors
    /// The key of the rate limit can't be evaluated: the event starts no run. A lock without a key is none.
    pub(super) fn of(function: &Function, subject: &Subject<'_>) -> Result<Self, Skip> {
        Ok(Self {
            rate: Self::rate_of(function, subject)?,
            lock: Self::lock_of(function, subject),
        })
    }

    /// Those of a run that has passed the rate limit, or gets past it: the lock alone.
    pub(super) fn past_the_rate_limit(function: &Function, subject: &Subject<'_>) -> Self {
        Self {
            rate: None,
            lock: Self::lock_of(function, subject),
        }
    }

    /// The rate limit of the function.
    ///
    /// # Errors
    /// As [`Claims::of`].
    pub(super) fn rate_of(function: &Function, subject: &Subject<'_>) -> Result<Option<RateClaim>, Skip> {
        let Some(limit) = &function.flow.rate_limit else {
            return Ok(None);
        };
        match subject.key(limit.key.as_deref()) {
            Key::Failed(error) => {
                let detail = format!("the key of the rate limit: {error}");
                Err(subject.skip(function, SkipReason::ExpressionError, detail))
            }
            Key::Value(value) if value.as_str() == "false" => Ok(None),
            Key::Value(value) => Ok(Some(rate_claim(function, subject.event, limit, Some(&value)))),
            Key::None => Ok(Some(rate_claim(function, subject.event, limit, None))),
        }
    }

    /// The lock of the function.
    fn lock_of(function: &Function, subject: &Subject<'_>) -> Option<LockClaim> {
        let singleton = function.flow.singleton.as_ref()?;
        let expression = singleton.key.as_deref().unwrap_or_default();
        let claim = |value: Option<&Json>| {
            let key = value.map(|value| (expression, value));
            LockClaim {
                bucket: ClaimId::of_lock(function.id, key),
                mode: singleton.mode,
                at: subject.event.received_at,
                rule: rule("one run at a time", key) + ": held by run ",
                refusal: None,
            }
        };
        match subject.key(singleton.key.as_deref()) {
            Key::Failed(error) => {
                tracing::warn!(function = %function.id, event = %subject.event.id, error, "the key of a singleton");
                None
            }
            Key::Value(value) if value.as_str() == "false" => None,
            Key::Value(value) => Some(claim(Some(&value))),
            Key::None => Some(claim(None)),
        }
    }
}

fn rate_claim(function: &Function, event: &Event, limit: &RateLimit, value: Option<&Json>) -> RateClaim {
    let key = limit.key.as_deref().zip(value);
    RateClaim {
        bucket: ClaimId::of_rate(function.id, key),
        rate: Cadence::of(limit),
        at: event.received_at,
        reason: if limit.idempotency {
            SkipReason::Idempotency
        } else {
            SkipReason::RateLimited
        },
        rule: rule(&rate_rule(limit.limit, limit.period), key) + "; the next one passes at ",
        refusal: None,
    }
}
