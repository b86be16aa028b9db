//! Events, runs and changes to test with.

use std::sync::Arc;

use serde_json::json;

use crate::domain::{
    Accept, Advance, Change, DeadLetter, Event, EventId, FunctionId, Gates, HistoryEntry, HistoryKind, Job, JobId,
    JobKey, Joined, Json, Lookup, NewRun, Priority, RunId, RunState, RunStatus, Step, StepId, StepOp, StepState,
    Timestamp, Wait, WaitKey, WaitKind, Write, Written,
};
use crate::ports::{DeadLetterFilter, Expiry, Store};

pub(super) type Shared = Arc<dyn Store>;

/// An arbitrary time at which the tests begin.
const START: i64 = 1_750_000_000_000;
/// The event that most tests begin with.
pub(super) const ORDERED: &str = "shop/ordered";

pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(START + millis)
}

pub(super) fn function(name: &str) -> FunctionId {
    FunctionId::derive("conformance", name)
}

pub(super) fn json(value: &serde_json::Value) -> Json {
    Json::from_value(value).expect("finite numbers")
}

/// An event of that name, received at that many milliseconds; the time tells it from others.
pub(super) fn event_named(name: &str, millis: i64) -> Event {
    let id = EventId::derive(at(millis), name);
    Event::glued(
        name,
        id,
        id.to_string(),
        at(millis),
        &json(&json!({ "at": millis })).to_string(),
    )
}

pub(super) fn event(millis: i64) -> Event {
    event_named(ORDERED, millis)
}

pub(super) fn job(run: RunId, key: JobKey, due: i64) -> Job {
    Job {
        id: JobId { run, key },
        function: function("one"),
        attempt: 0,
        due: at(due),
        priority: Priority::from_seconds(i32::try_from(due % 100).expect("small")),
        payload: None,
        gates: Gates::NONE,
    }
}

/// The run that this event starts of this function.
pub(super) fn new_run(event: &Event, name: &str) -> NewRun {
    let id = RunId::derive(event.id, function(name));
    let bodies = vec![event.body.clone()].into();
    let mut state = RunState::new(id, function(name), event.name.clone(), vec![event.id], bodies);
    state.priority = Priority::from_seconds(-7);
    state.jobs.insert(JobKey::Start, 0);
    let job = Job {
        function: function(name),
        due: event.ts,
        ..job(id, JobKey::Start, 0)
    };
    NewRun {
        state,
        job,
        deadline: None,
        rate: None,
        lock: None,
        waits: Vec::new(),
        idempotency: None,
    }
}

pub(super) fn keyed_run(event: &Event, name: &str, key: &str) -> NewRun {
    NewRun {
        idempotency: Some(key.to_owned()),
        ..new_run(event, name)
    }
}

pub(super) fn accept(event: &Event, runs: Vec<NewRun>) -> Write {
    Write::Accept(Accept {
        event: event.clone(),
        runs,
        joins: Vec::new(),
        skips: Vec::new(),
        catalog: None,
    })
}

pub(super) fn advance(run: RunId, expected: u64, changes: Vec<Change>) -> Write {
    Write::Advance(Advance { run, expected, changes })
}

pub(super) async fn commit(store: &Shared, write: Write) -> Written {
    let mut written = store.commit(&[write]).await.expect("commits");
    assert_eq!(written.len(), 1);
    written.remove(0)
}

/// Commits what must go through with nothing left out.
pub(super) async fn commit_all(store: &Shared, writes: &[Write]) {
    let written = store.commit(writes).await.expect("commits");
    assert_eq!(written, vec![Written::done(); writes.len()]);
}

/// Starts a run of the function `one` by an event at that time.
pub(super) async fn start(store: &Shared, millis: i64) -> RunState {
    start_of(store, "one", millis).await
}

pub(super) async fn start_of(store: &Shared, name: &str, millis: i64) -> RunState {
    let event = event_named(&format!("start/{name}"), millis);
    let run = new_run(&event, name);
    let state = run.state.clone();
    commit_all(store, &[accept(&event, vec![run])]).await;
    state
}

pub(super) async fn load(store: &Shared, run: RunId) -> Option<RunState> {
    store.load_run(run).await.expect("reads")
}

pub(super) fn step(id: &str, state: StepState) -> Step {
    Step {
        id: StepId::from(id),
        op: StepOp::Run,
        label: format!("the step {id}"),
        race: false,
        started_at: at(3),
        state,
    }
}

pub(super) fn done(position: u32, memo: &str) -> StepState {
    StepState::Done {
        memo: json(&json!({ "data": memo })),
        failed: false,
        position,
        at: at(7),
    }
}

pub(super) fn ended(status: RunStatus, millis: i64) -> Change {
    Change::Ended {
        status,
        output: json(&json!({"data": "the output"})),
        at: at(millis),
    }
}

pub(super) fn noted(kind: HistoryKind, attempt: u32) -> Change {
    Change::Noted(HistoryEntry {
        at: at(5),
        kind,
        step: None,
        attempt,
        detail: None,
    })
}

pub(super) fn wait(run: RunId, step: &str, name: &str, lookup: Option<Lookup>) -> Wait {
    Wait {
        run,
        function: function("one"),
        key: WaitKey::Step(StepId::from(step)),
        kind: WaitKind::Event,
        name: name.to_owned(),
        lookup,
        condition: Some("async.data.id == 7".to_owned()),
        created_at: at(1),
        expires_at: at(1_000),
    }
}

pub(super) fn signal(run: RunId, step: &str, name: &str) -> Wait {
    Wait {
        kind: WaitKind::Signal,
        condition: None,
        ..wait(run, step, name, None)
    }
}

pub(super) fn lookup(path: &str, key: &str) -> Option<Lookup> {
    Some(Lookup {
        path: path.to_owned(),
        key: key.to_owned(),
    })
}

/// The open waits of that name with one of these lookups.
pub(super) async fn waits(store: &Shared, name: &str, lookups: &[Option<Lookup>]) -> Vec<Wait> {
    store.waits(name, lookups, None, 1_000).await.expect("reads")
}

pub(super) async fn unrouted(store: &Shared) -> Vec<EventId> {
    let events = store.unrouted(1_000).await.expect("reads");
    events.iter().map(|event| event.id).collect()
}

/// All dead letters, from new to old.
pub(super) async fn letters(store: &Shared) -> Vec<DeadLetter> {
    let filter = DeadLetterFilter {
        limit: 1_000,
        ..DeadLetterFilter::default()
    };
    store.dead_letters(&filter).await.expect("reads").items
}

/// A letter about a job of the function `one`, given up at that time.
pub(super) fn letter(run: RunId, key: JobKey, millis: i64) -> DeadLetter {
    DeadLetter::new(job(run, key, 0), format!("as of {millis}"), 0, at(millis))
}

/// Keys of the jobs of a run, in order of their names.
pub(super) async fn job_keys(store: &Shared, run: RunId) -> Vec<String> {
    let view = store.run_view(run).await.expect("reads").expect("the run exists");
    let mut keys: Vec<_> = view.jobs.into_iter().map(|job| job.key).collect();
    keys.sort();
    keys
}

/// Written, with these events to be routed.
pub(super) fn done_unrouted(events: &[EventId]) -> Written {
    Written::Done {
        left_out: Vec::new(),
        missed: Vec::new(),
        unrouted: events.to_vec(),
        evictions: Vec::new(),
        joined: Joined::default(),
    }
}

/// Has a run in version 0 emit an event that functions listen to.
pub(super) async fn emit(store: &Shared, run: RunId, event: &Event) {
    let emitted = Change::Emit {
        event: event.clone(),
        has_listeners: true,
    };
    let written = commit(store, advance(run, 0, vec![emitted])).await;
    assert_eq!(written, done_unrouted(&[event.id]));
}

/// Has a run in version 0 wait.
pub(super) async fn set_waits(store: &Shared, run: RunId, waits: Vec<Wait>) {
    let changes = waits.into_iter().map(Change::WaitPut).collect();
    commit_all(store, &[advance(run, 0, changes)]).await;
}

/// What ended or arrived before these has expired, failed runs like the others.
pub(super) fn expiry(runs: Timestamp, events: Timestamp) -> Expiry {
    Expiry {
        finished_runs: runs,
        failed_runs: runs,
        events,
        rates: events,
    }
}

/// The first runs that nothing brings on.
pub(super) async fn orphans(store: &Shared) -> Vec<RunId> {
    store.orphans(None, 10).await.expect("reads").runs
}
