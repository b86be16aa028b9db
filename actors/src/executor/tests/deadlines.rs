//! Runs with deadlines: cancelled on time whatever they are at, and not for a call that takes long.

use std::time::Duration;

use serde_json::json;

use super::{charge, let_go, parallel, sequential};
use crate::domain::{Event, EventId, Function, RunId, RunStatus, Timeouts};
use crate::testkit::{Answer, FakeApp};
use crate::testkit::{Fault, Rig, event, returned, steps, virtually};

fn timed(start: Option<u64>, finish: Option<u64>) -> Function {
    let mut function = charge();
    function.flow.timeouts = Timeouts {
        start: start.map(Duration::from_secs),
        finish: finish.map(Duration::from_secs),
    };
    function
}

/// Sends an event whose run starts only after so long.
async fn send_ahead(rig: &Rig, ahead: Duration) -> EventId {
    let now = rig.now();
    let sent = Event {
        ts: now.after(ahead),
        ..event("order/paid", &json!({}), 1, now)
    };
    let id = sent.id;
    rig.within(rig.orchestrator.accept(vec![sent])).await.expect("accepted");
    id
}

#[test]
fn a_run_that_does_not_start_in_time_is_cancelled_without_a_call() {
    virtually(async {
        let function = timed(Some(5), None);
        let rig = Rig::new(vec![function.clone()], sequential(1)).await;
        let id = send_ahead(&rig, Duration::from_secs(60)).await;
        let run = RunId::derive(id, function.id);
        assert_eq!(rig.ended(run).await, "cancelled");
        assert!(rig.now() < run.at().after(Duration::from_secs(10)), "on time");
        assert!(rig.app.seen().is_empty());
        assert!(rig.store.jobs().is_empty());
    });
}

#[test]
fn a_first_call_that_takes_longer_than_the_start_may_is_no_late_start() {
    virtually(async {
        let (app, held) = parallel(&["a"]);
        let function = timed(Some(5), Some(100));
        let rig = Rig::new(vec![function.clone()], app).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        rig.until("a call", |rig| rig.app.in_flight() == 1).await;
        let state = rig.store.run(run).expect("a run");
        assert_eq!((state.status, state.version), (RunStatus::Running, 2));
        rig.pass(Duration::from_secs(20)).await;
        let_go(&held, "a", crate::testkit::ran("a"));
        assert_eq!(rig.ended(run).await, "completed");
        assert!(rig.store.jobs().is_empty(), "the other deadline has gone");
    });
}

#[test]
fn a_run_that_sleeps_is_cancelled_when_it_had_to_end() {
    virtually(async {
        let app = FakeApp::new(|call| {
            Answer::Now(if call.stack.is_empty() {
                steps(&json!([{ "op": "Sleep", "id": "nap", "name": "1h" }]))
            } else {
                returned(&json!("awake"))
            })
        });
        let function = timed(None, Some(30));
        let rig = Rig::new(vec![function.clone()], app).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "cancelled");
        let late = rig.now().since(run.at());
        assert!(
            late >= Duration::from_secs(30) && late < Duration::from_secs(40),
            "{late:?}"
        );
    });
}

#[test]
fn a_run_that_is_being_called_is_cancelled_when_it_had_to_end() {
    virtually(async {
        let (app, held) = parallel(&["a"]);
        let function = timed(None, Some(30));
        let rig = Rig::new(vec![function.clone()], app).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "cancelled");
        let_go(&held, "a", crate::testkit::ran("a"));
        rig.until("the late answer is looked at", |rig| rig.app.in_flight() == 0)
            .await;
        assert_eq!(rig.store.run(run).expect("a run").stack.len(), 0);
    });
}

#[test]
fn a_beginning_that_could_not_be_told_is_told_again() {
    virtually(async {
        let function = timed(Some(50), Some(50));
        let rig = Rig::new(vec![function.clone()], sequential(2)).await;
        rig.store.fail(&[Fault::None, Fault::Unavailable, Fault::Forgotten]);
        let run = rig.start(&function, "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
        assert_eq!(rig.app.seen().len(), 3, "each call once");
        assert!(rig.store.jobs().is_empty());
    });
}

#[test]
fn without_deadlines_nothing_is_told_before_the_first_call() {
    virtually(async {
        let rig = Rig::new(vec![charge()], sequential(1)).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
        assert_eq!(
            rig.store.run(run).expect("a run").version,
            2,
            "one decision for each call"
        );
    });
}
