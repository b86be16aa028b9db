//! The SQLite store against the port's suite, and what only it promises.

mod audit;
mod durability;
mod opening;
mod plans;

use std::sync::Arc;

use callboard_actors::domain::{
    Accept, Event, EventId, FunctionId, Gates, Job, JobId, JobKey, NewRun, RunId, RunState, Timestamp, Write,
};
use callboard_actors::ports::Store;
use tempfile::TempDir;

use super::SqliteStore;

async fn fresh() -> (Arc<dyn Store>, TempDir) {
    let directory = TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    (Arc::new(store), directory)
}

mod conformance {
    callboard_actors::store_conformance!(super::fresh);
}

/// An event with a run; `number` tells it from others.
fn accepted(number: i64, data: &str) -> (Event, RunState, Write) {
    let at = Timestamp::from_millis(1_750_000_000_000 + number);
    let id = EventId::derive(at, "test");
    let event = Event::glued("test/event", id, id.to_string(), at, data);
    let function = FunctionId::derive("test", "test-one");
    let run = RunId::derive(id, function);
    let bodies = vec![event.body.clone()].into();
    let mut state = RunState::new(run, function, event.name.clone(), vec![id], bodies);
    state.jobs.insert(JobKey::Start, 0);
    let job = Job {
        id: JobId {
            run,
            key: JobKey::Start,
        },
        function,
        attempt: 0,
        due: at,
        priority: state.priority,
        payload: None,
        gates: Gates::NONE,
    };
    let run = NewRun {
        state: state.clone(),
        job,
        deadline: None,
        rate: None,
        lock: None,
        waits: Vec::new(),
        idempotency: None,
    };
    let write = Write::Accept(Accept {
        event: event.clone(),
        runs: vec![run],
        joins: Vec::new(),
        skips: Vec::new(),
        catalog: None,
    });
    (event, state, write)
}
