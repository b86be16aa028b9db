//! The PostgreSQL store against the port's suite, directly and through a transaction pooler, and what only it promises.

mod audit;
mod durability;
mod gatherings;
mod history;
mod opening;
mod plans;
mod rivals;
mod run_slots;
mod starts;
mod trouble;
mod waits;

use std::sync::Arc;

use callboard_actors::domain::{
    Accept, Advance, Change, Event, EventId, FunctionId, Gates, Job, JobId, JobKey, NewRun, RunId, RunState, Timestamp,
    Write,
};
use callboard_actors::ports::Store;
use callboard_backends::pgbouncer::PgBouncer;
use callboard_backends::postgres::Server;

use super::{Options, PostgresStore};

/// A database of its own, on the server that all tests share.
fn options() -> Options {
    Options::new(Server::shared().create_database().expect("makes a database"))
}

async fn open() -> PostgresStore {
    PostgresStore::open(&options()).await.expect("opens")
}

async fn fresh() -> (Arc<dyn Store>, ()) {
    (Arc::new(open().await), ())
}

/// The same behind a pooler that hands out another connection for every transaction.
async fn pooled() -> (Arc<dyn Store>, ()) {
    let server = Server::shared();
    let direct = server.create_database().expect("makes a database");
    let port = PgBouncer::shared().port();
    let options = Options {
        pooler: true,
        ..Options::new(direct.replace(&format!(":{}/", server.port()), &format!(":{port}/")))
    };
    let store = PostgresStore::open(&options).await.expect("opens");
    (Arc::new(store), ())
}

mod conformance {
    callboard_actors::store_conformance!(super::fresh);
}

mod pooled_conformance {
    callboard_actors::store_conformance!(super::pooled);
}

/// An event with a run, created at that time.
fn accepted_at(at: Timestamp, number: i64) -> (Event, RunState, Write) {
    let id = EventId::derive(at, &format!("test {number}"));
    let event = Event::glued("test/event", id, id.to_string(), at, "{}");
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

/// An event with a run; `number` tells it from others.
fn accepted(number: i64) -> (Event, RunState, Write) {
    accepted_at(Timestamp::from_millis(1_750_000_000_000 + number), number)
}

fn advance(run: RunId, expected: u64, changes: Vec<Change>) -> Write {
    Write::Advance(Advance { run, expected, changes })
}
