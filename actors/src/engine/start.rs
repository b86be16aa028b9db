//! The beginning of a run.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::admission::Claims;
use super::deadline;
use super::gates::gates;
use crate::domain::{
    Class, Event, EventId, Function, FunctionMode, Job, JobId, JobKey, JsonError, Lookup, NewRun, Priority, RunId,
    RunState, Skip, SkipReason, Timestamp, Wait, WaitKey, WaitKind, limits,
};
use crate::expression::{Expression, Scope, time};

/// The run that `event` starts of `function`: always the same one, so that starting it twice starts it once.
///
/// An event of the future starts its run then; the run exists, and can be cancelled, from now on.
///
/// # Errors
/// The reason why it starts none, whatever the store holds.
pub fn start(function: &Function, event: &Event, now: Timestamp) -> Result<NewRun, Skip> {
    if let Some((reason, detail)) = standstill(function.mode) {
        return Err(Skip {
            event: event.id,
            function: Some(function.id),
            reason,
            detail,
        });
    }
    let id = RunId::derive(event.id, function.id);
    let mut run = begin(function, event, id, event.ts.max(now), now)?;
    run.idempotency = event.has_own_id.then(|| event.external_id.clone());
    Ok(run)
}

/// The run `id` for this event, whose first call is due then.
pub(super) fn begin(
    function: &Function,
    event: &Event,
    id: RunId,
    due: Timestamp,
    now: Timestamp,
) -> Result<NewRun, Skip> {
    let Claims { rate, lock } = Claims::of(function, event)?;
    let events: Arc<[_]> = Arc::new([event.body.clone()]);
    let mut state = RunState::new(id, function.id, event.name.clone(), vec![event.id], events);
    state.priority = priority(function, event);
    state.gates = gates(function, event);
    let job_id = JobId {
        run: id,
        key: JobKey::Start,
    };
    let job = Job {
        id: job_id,
        function: function.id,
        attempt: 0,
        due,
        priority: state.priority,
        payload: None,
        gates: state.gates.of_job(&JobKey::Start, 0),
    };
    state.jobs.insert(JobKey::Start, 0);
    let deadline = deadline::for_start(function, id);
    state.jobs.extend(deadline.iter().map(|job| (job.id.key.clone(), 0)));
    state.lock = lock.as_ref().map(|lock| lock.bucket);
    Ok(NewRun {
        waits: cancel_waits(function, event, id, now),
        state,
        job,
        deadline,
        idempotency: None,
        rate,
        lock,
    })
}

/// Why a function in this mode starts no runs.
fn standstill(mode: FunctionMode) -> Option<(SkipReason, String)> {
    match mode {
        FunctionMode::Active => None,
        FunctionMode::Paused { since } => Some((
            SkipReason::Paused,
            format!("the function is paused since {}", since.to_rfc3339()),
        )),
        FunctionMode::Draining { since } => Some((
            SkipReason::Draining,
            format!("the function is drained since {}", since.to_rfc3339()),
        )),
    }
}

/// The head start of the run: what its function asks for, within bounds. An expression that gives no whole number asks for
/// nothing.
fn priority(function: &Function, event: &Event) -> Priority {
    let class = if event.name == Event::SCHEDULED {
        Class::Normal
    } else {
        Class::High
    };
    let factor = function.flow.priority.as_deref().and_then(|source| {
        let expression = Expression::compile(source, &["event"]).ok()?;
        let body = event.body.to_tree();
        let scope = Scope::of_event(&body, event.received_at.to_datetime());
        expression.integer(&scope).ok()
    });
    Priority::new(class, factor.unwrap_or(0))
}

/// One wait for each of the function's cancel rules that can match at all.
fn cancel_waits(function: &Function, event: &Event, run: RunId, now: Timestamp) -> Vec<Wait> {
    let mut waits = Vec::with_capacity(function.flow.cancel.len());
    for (rule, place) in function.flow.cancel.iter().zip(0..) {
        let timeout = rule.timeout.as_deref().filter(|text| !text.is_empty());
        let expires_at = timeout
            .and_then(|text| time::timeout(text, now.to_datetime()).ok())
            .map_or(now.after(limits::DEFAULT_WAIT), Timestamp::from_datetime);
        let mut wait = Wait {
            run,
            function: function.id,
            key: WaitKey::Cancel(place),
            kind: WaitKind::Cancel,
            name: rule.event.clone(),
            lookup: None,
            condition: None,
            created_at: now,
            expires_at,
        };
        if let Some(condition) = rule
            .condition
            .as_deref()
            .filter(|condition| !condition.trim().is_empty())
        {
            let bound = Expression::compile(condition, &["event", "async"]).and_then(|e| e.bind(&event.body.to_tree()));
            // Registration refuses conditions that don't compile.
            let Ok(bound) = bound else { continue };
            if bound.constant == Some(false) {
                continue;
            }
            wait.lookup = bound.equality.map(|equality| Lookup {
                path: equality.path,
                key: equality.key,
            });
            wait.condition = Some(bound.expression.source().to_owned());
        }
        waits.push(wait);
    }
    waits
}

/// The event that runs one particular function. `own` is the server's part of its data, with the target in `fn_id`.
///
/// # Errors
/// When the payload's `data` or `user` is not an object, or holds numbers that JSON can't represent.
pub fn invoked_event(
    payload: &Map<String, Value>,
    own: Value,
    id: EventId,
    now: Timestamp,
) -> Result<Event, JsonError> {
    let mut data = match payload.get("data") {
        Some(Value::Object(data)) => data.clone(),
        _ => Map::new(),
    };
    data.insert("_inngest".to_owned(), own);
    let user = payload
        .get("user")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let rest = |key: &str| payload.get(key).cloned();
    Event::invoked(id, now, data, user, rest("v"), rest("meta"))
}
