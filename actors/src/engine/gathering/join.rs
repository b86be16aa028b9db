//! Which gathering an event joins, and what becomes of it then.
//!
//! Clocks of instances differ, and may be set back. An event that joins never puts the start off further than it would by
//! its own time, counted from then.

use std::time::Duration;

use crate::domain::admission::shown;
use crate::domain::{
    ClaimId, DueBy, Function, Gather, GatheringId, Join, Json, Skip, SkipReason, Standing, Timestamp, limits,
};
use crate::engine::admission::Claims;
use crate::engine::subject::{Key, Subject};
use crate::expression::Expression;

/// The bucket of debounced events whose key can't be evaluated.
const INVALID: &str = "\"<invalid>\"";

/// How an event joins what its function gathers; `None` if it starts a run by itself.
///
/// # Errors
/// The reason why it does neither, whatever the store holds.
pub(in crate::engine) fn join(
    function: &Function,
    subject: &Subject<'_>,
    now: Timestamp,
) -> Result<Option<Join>, Skip> {
    let (flow, event) = (&function.flow, subject.event);
    let new = |bucket, gather, key: Option<&Json>| Join {
        id: GatheringId::derive(now, event.id, function.id),
        function: function.id,
        event: event.id,
        bucket,
        gather,
        key: key.map(shown),
        at: now,
        ts: event.ts,
        bytes: u64::try_from(event.body.len()).unwrap_or(u64::MAX),
        idempotency: None,
        is_awaited: super::correlation_id(&event.body, function).is_some(),
        rate: None,
    };
    if let Some(batch) = &flow.batch {
        if !batch
            .condition
            .as_deref()
            .is_none_or(|condition| holds(condition, subject))
        {
            return Ok(None);
        }
        let gather = Gather::Batch {
            max_size: batch.max_size,
            timeout: batch.timeout,
        };
        let expression = batch.key.as_deref().unwrap_or_default();
        let mut join = match subject.key(batch.key.as_deref()) {
            Key::Failed(error) => {
                let detail = format!("the key of the batch: {error}");
                return Err(subject.skip(function, SkipReason::ExpressionError, detail));
            }
            Key::Value(key) => new(
                ClaimId::of_batch(function.id, Some((expression, &key))),
                gather,
                Some(&key),
            ),
            Key::None => new(ClaimId::of_batch(function.id, None), gather, None),
        };
        join.idempotency = event.has_own_id.then(|| event.external_id.clone());
        return Ok(Some(join));
    }
    let Some(debounce) = &flow.debounce else {
        return Ok(None);
    };
    let gather = Gather::Debounce {
        period: debounce.period,
        timeout: debounce.timeout,
    };
    let expression = debounce.key.as_deref().unwrap_or_default();
    let key = match subject.key(debounce.key.as_deref()) {
        Key::Failed(error) => {
            tracing::warn!(function = %function.id, event = %event.id, error, "the key of a debounce");
            Some(Json::from_canonical(INVALID))
        }
        Key::Value(key) => Some(key),
        Key::None => None,
    };
    let bucket = ClaimId::of_debounce(function.id, key.as_ref().map(|key| (expression, key)));
    let mut join = new(bucket, gather, key.as_ref());
    join.rate = Claims::rate_of(function, subject)?;
    Ok(Some(join))
}

/// Whether a condition is true of an event. One that can't be evaluated is not.
fn holds(condition: &str, subject: &Subject<'_>) -> bool {
    if condition.trim().is_empty() {
        return true;
    }
    Expression::remembered(condition, &["event"])
        .is_ok_and(|condition| condition.truth(&subject.scope()).unwrap_or(false))
}

/// What an event does to the gatherings of its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Where the gathering stands that the event is in.
    pub standing: Standing,
    /// Whether the event has opened it. Then the one that was open, if there was one, is closed.
    pub opens: bool,
    /// How the one that was open stands when it is closed so.
    pub closed: Option<Standing>,
    /// Whether the event has filled it: it is closed and due now.
    pub is_full: bool,
}

/// Has an event join the gathering that is open, or open one. `None` if it comes to a debounce that holds an event which
/// happened later: it leaves no trace there.
#[must_use]
pub fn admit(open: Option<Standing>, join: &Join) -> Option<Admitted> {
    match join.gather {
        Gather::Debounce { period, timeout } => debounce(open, join, period, timeout),
        Gather::Batch { max_size, timeout } => Some(batch(open, join, max_size, timeout)),
    }
}

fn debounce(open: Option<Standing>, join: &Join, period: Duration, timeout: Option<Duration>) -> Option<Admitted> {
    let current = open.filter(|open| join.at < open.due_at);
    if current.is_some_and(|current| join.ts < current.newest) {
        return None;
    }
    let opened_at = current.map_or(join.at, |current| current.opened_at.min(join.at));
    let quiet = join.at.after(period);
    let latest = timeout.map(|timeout| opened_at.after(timeout));
    let (due_at, due_by) = match latest.filter(|latest| *latest < quiet) {
        Some(latest) => (latest, DueBy::Timeout),
        None => (quiet, DueBy::Period),
    };
    Some(Admitted {
        standing: Standing {
            opened_at,
            due_at,
            due_by,
            newest: join.ts,
            count: current.map_or(0, |current| current.count) + 1,
            bytes: join.bytes,
        },
        opens: current.is_none(),
        closed: open.filter(|_| current.is_none()),
        is_full: false,
    })
}

fn batch(open: Option<Standing>, join: &Join, max_size: u32, timeout: Duration) -> Admitted {
    let has_room =
        |open: &Standing| open.count < max_size && open.bytes.saturating_add(join.bytes) <= limits::BATCH_BYTES;
    let current = open.filter(|open| join.at < open.due_at && has_room(open));
    let due_at = join.at.after(timeout);
    let mut standing = match current {
        Some(current) => Standing {
            due_at: current.due_at.min(due_at),
            newest: current.newest.max(join.ts),
            count: current.count + 1,
            bytes: current.bytes + join.bytes,
            ..current
        },
        None => Standing {
            opened_at: join.at,
            due_at,
            due_by: DueBy::Timeout,
            newest: join.ts,
            count: 1,
            bytes: join.bytes,
        },
    };
    let is_full = standing.count >= max_size || standing.bytes >= limits::BATCH_BYTES;
    if is_full {
        standing = fill(standing, join.at);
    }
    Admitted {
        standing,
        opens: current.is_none(),
        closed: open.filter(|_| current.is_none()).map(|open| {
            if join.at < open.due_at {
                fill(open, join.at)
            } else {
                open
            }
        }),
        is_full,
    }
}

/// It takes nothing more, and is due.
fn fill(standing: Standing, at: Timestamp) -> Standing {
    Standing {
        due_at: at,
        due_by: DueBy::Full,
        ..standing
    }
}
