//! The beginning of a run.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::admission::Claims;
use super::finish::refused_invoke;
use super::gates::gates;
use super::subject::Subject;
use super::{deadline, gathering};
use crate::domain::{
    Class, Event, EventError, EventId, Failure, Function, FunctionMode, Gathering, GatheringId, Job, JobId, JobKey,
    Join, LockClaim, Lookup, NewRun, Priority, RunId, RunState, SingletonMode, Skip, SkipReason, Timestamp, Wait,
    WaitKey, WaitKind, limits, resolve_meta,
};
use crate::expression::{Expression, time};

/// What an event comes to that starts a function.
#[derive(Debug)]
pub enum Start {
    /// A run, now.
    Run(Box<NewRun>),
    /// A run by and by, for other events as well.
    Join(Box<Join>),
}

/// What becomes of `event`, which a trigger of `function` names or which invokes it.
///
/// # Errors
/// The reason why it starts no run, whatever the store holds.
pub fn begin(function: &Function, event: &Event, now: Timestamp) -> Result<Start, Skip> {
    let subject = Subject::new(event);
    admit(function, &subject)?;
    Ok(match gathering::join(function, &subject, now)? {
        Some(join) => Start::Join(Box::new(join)),
        None => Start::Run(Box::new(started(function, &subject, now)?)),
    })
}

/// The run that `event` starts of `function`: always the same one, so that starting it twice starts it once.
///
/// An event of the future starts its run then; the run exists, and can be cancelled, from now on.
///
/// # Errors
/// The reason why it starts none, whatever the store holds.
pub fn start(function: &Function, event: &Event, now: Timestamp) -> Result<NewRun, Skip> {
    let subject = Subject::new(event);
    admit(function, &subject)?;
    started(function, &subject, now)
}

/// The run that the event starts of a function that starts runs.
fn started(function: &Function, subject: &Subject<'_>, now: Timestamp) -> Result<NewRun, Skip> {
    let event = subject.event;
    let claims = Claims::of(function, subject)?;
    let id = RunId::derive(event.id, function.id);
    let events = std::slice::from_ref(event);
    let mut run = new_run(function, id, subject, events, claims, event.ts.max(now), now);
    run.idempotency = event.has_own_id.then(|| event.external_id.clone());
    Ok(run)
}

/// The run that a gathering starts; `None` without events. It is created now and due now, has passed the rate limit when
/// its events came, and takes its keys from the first of them.
pub(super) fn gathered(function: &Function, gathering: &Gathering, events: &[Event], now: Timestamp) -> Option<NewRun> {
    let event = events.first()?;
    let subject = Subject::new(event);
    let mut claims = Claims::past_the_rate_limit(function, &subject);
    if let Some(lock) = &mut claims.lock {
        lock.at = now;
    }
    let id = RunId::of_gathering(gathering.id, now);
    let mut run = new_run(function, id, &subject, events, claims, now, now);
    if gathering.is_batch {
        make_batch(&mut run, gathering.id);
        return Some(run);
    }
    run.idempotency = event.has_own_id.then(|| event.external_id.clone());
    let is_awaited = gathering::correlation_id(&event.body, function).is_some();
    if let Some(lock) = run.lock.as_mut().filter(|_| is_awaited) {
        refuse_lock(lock, event, now);
    }
    Some(run)
}

/// Tells whoever invoked the run by this event if it is left out for its lock.
pub(crate) fn refuse_lock(lock: &mut LockClaim, invoked: &Event, now: Timestamp) {
    if lock.mode == SingletonMode::Skip {
        let message = "invoked function is a singleton, and another run of it has not ended";
        lock.refusal = refused_invoke(invoked, &Failure::new("Error", message), now).map(Box::new);
    }
}

/// Makes a run that of a batch: it can't be cancelled by events and has no deadline for its start.
pub(super) fn make_batch(run: &mut NewRun, gathering: GatheringId) {
    run.state.batch = Some(gathering);
    run.waits = Vec::new();
    if let Some(deadline) = run.deadline.take() {
        run.state.jobs.remove(&deadline.id.key);
    }
}

/// The run `id` of these events, whose first call is due then; what it asks for it asks for the first one's sake.
pub(super) fn new_run(
    function: &Function,
    id: RunId,
    subject: &Subject<'_>,
    events: &[Event],
    Claims { rate, lock }: Claims,
    due: Timestamp,
    now: Timestamp,
) -> NewRun {
    let bodies: Arc<[_]> = events.iter().map(|event| event.body.clone()).collect();
    let ids = events.iter().map(|event| event.id).collect();
    let mut state = RunState::new(id, function.id, subject.event.name.clone(), ids, bodies);
    state.priority = priority(function, subject);
    state.gates = gates(function, subject);
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
    NewRun {
        waits: cancel_waits(function, subject, id, now),
        state,
        job,
        deadline,
        idempotency: None,
        rate,
        lock,
    }
}

/// Whether the function starts runs at all in its mode.
fn admit(function: &Function, subject: &Subject<'_>) -> Result<(), Skip> {
    match standstill(function.mode) {
        None => Ok(()),
        Some((reason, detail)) => Err(subject.skip(function, reason, detail)),
    }
}

/// Why a function in this mode starts no runs.
pub(super) fn standstill(mode: FunctionMode) -> Option<(SkipReason, String)> {
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
fn priority(function: &Function, subject: &Subject<'_>) -> Priority {
    let class = if subject.event.name == Event::SCHEDULED {
        Class::Normal
    } else {
        Class::High
    };
    let factor = function.flow.priority.as_deref().and_then(|source| {
        let expression = Expression::remembered(source, &["event"]).ok()?;
        expression.integer(&subject.scope()).ok()
    });
    Priority::new(class, factor.unwrap_or(0))
}

/// One wait for each of the function's cancel rules that can match at all.
fn cancel_waits(function: &Function, subject: &Subject<'_>, run: RunId, now: Timestamp) -> Vec<Wait> {
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
            let bound = Expression::remembered(condition, &["event", "async"]).and_then(|e| e.bind(subject.body()));
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
/// When it holds numbers that JSON can't represent, or sessions that an event may not have.
pub fn invoked_event(
    payload: &Map<String, Value>,
    own: Value,
    id: EventId,
    now: Timestamp,
) -> Result<Event, EventError> {
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
    let meta = resolve_meta(payload.get("meta").cloned())?;
    Ok(Event::invoked(id, now, data, user, payload.get("v").cloned(), meta)?)
}
