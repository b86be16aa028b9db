//! A world for tests of the actors: everything the ports ask for, in memory, on the virtual clock, and faulty on demand.
//!
//! All of a test runs on one thread whose clock stands still while anybody has something to do, so a test that waits a
//! virtual minute takes no time, and one that waits for what never comes fails at its deadline at once.

mod app;
mod queue;
mod store;
mod world;

pub(crate) use app::{Answer, FakeApp};
pub(crate) use queue::FakeQueue;
pub(crate) use store::{FakeStore, Fault};
pub(crate) use world::{FakeRandom, Rig, VirtualClock, virtually};

use serde_json::{Value, json};

use crate::domain::{
    Caps, Event, EventId, FlowControl, Function, FunctionId, FunctionMode, Gates, Job, JobId, JobKey, Json, Opcode,
    Priority, Reply, RunId, Timestamp, Trigger,
};

/// When every test begins.
pub(crate) const EPOCH: Timestamp = Timestamp::from_millis(1_750_000_000_000);

/// A function of the app `shop` with one event trigger.
pub(crate) fn function(slug: &str, event: &str) -> Function {
    let trigger = Trigger::Event {
        event: event.to_owned(),
        expression: None,
    };
    Function {
        id: FunctionId::derive("shop", slug),
        slug: slug.into(),
        app: "shop".into(),
        name: slug.to_owned(),
        version: 1,
        url: "http://localhost:3000/api/inngest".to_owned(),
        triggers: vec![trigger],
        retries: 4,
        flow: FlowControl::default(),
        config: Json::null(),
        endpoint: None,
        archived: false,
        mode: FunctionMode::Active,
        caps: Caps::default(),
    }
}

/// An event from outside; `n` tells it from others.
pub(crate) fn event(name: &str, data: &Value, n: u128, at: Timestamp) -> Event {
    let incoming = serde_json::from_value(json!({ "name": name, "data": data })).expect("an event");
    Event::accept(incoming, EventId::new(at, n), at).expect("a valid event")
}

/// A 206 with these opcodes, in request version 2.
pub(crate) fn steps(ops: &Value) -> Reply {
    Reply::Steps {
        ops: Opcode::parse_reply(ops.to_string().as_bytes()).expect("valid opcodes"),
        request_version: 2,
        no_retry: false,
        retry_after: None,
    }
}

/// The reply of a call that ran one step.
pub(crate) fn ran(step: &str) -> Reply {
    steps(&json!([{ "op": "StepRun", "id": step, "data": step }]))
}

/// The reply of a function that returned.
pub(crate) fn returned(value: &Value) -> Reply {
    Reply::Returned(Json::from_value(value).expect("JSON"))
}

/// A job of a run.
pub(crate) fn job(run: RunId, key: &str, function: FunctionId, due: Timestamp) -> Job {
    Job {
        id: JobId {
            run,
            key: key.parse::<JobKey>().expect("a job key"),
        },
        function,
        attempt: 0,
        due,
        priority: Priority::NONE,
        payload: None,
        gates: Gates::NONE,
    }
}
