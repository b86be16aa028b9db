//! Waits that look back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rstest::rstest;
use serde_json::json;
use tokio::sync::oneshot;

use crate::domain::{Function, Reply, RunId};
use crate::orchestrator::Settings;
use crate::testkit::{Answer, FakeApp, Rig, function, returned, steps, virtually};

fn charge() -> Function {
    function("charge", "order/paid")
}

fn settings() -> Settings {
    Settings {
        look_back: Some(Duration::from_secs(60)),
        ..Settings::default()
    }
}

type Held = Arc<Mutex<Vec<oneshot::Sender<Reply>>>>;

/// An app whose first reply the test gives; then it returns what it waited for.
fn app() -> (FakeApp, Held) {
    let held = Held::default();
    let kept = Arc::clone(&held);
    let app = FakeApp::new(move |call| match call.steps.first() {
        Some((_, memo)) => Answer::Now(returned(&memo.to_tree())),
        None => {
            let (sender, reply) = oneshot::channel();
            kept.lock().expect("no panic").push(sender);
            Answer::Held(reply)
        }
    });
    (app, held)
}

/// It waits for a shipment of this number.
fn wait_for(held: &Held, n: u64) {
    let condition = format!("async.data.n == {n}");
    let reply = steps(&json!([{ "op": "WaitForEvent", "id": "w", "name": "order/shipped",
        "opts": { "timeout": "1h", "if": condition } }]));
    let sender = held.lock().expect("no panic").pop().expect("a call");
    let _ = sender.send(reply);
}

fn wait(held: &Held) {
    wait_for(held, 7);
}

async fn called(rig: &Rig) -> RunId {
    let run = rig.start(&charge(), "order/paid", &json!({})).await;
    rig.until("it is called", |rig| rig.app.in_flight() == 1).await;
    run
}

async fn ship(rig: &Rig, n: u64) {
    rig.send("order/shipped", &json!({ "n": n })).await;
}

#[test]
fn an_event_that_came_while_the_app_was_called_ends_the_wait_at_once() {
    virtually(async {
        let (app, held) = app();
        let rig = Rig::with(vec![charge()], app, settings()).await;
        let run = called(&rig).await;
        for n in [6, 7, 8] {
            rig.pass(Duration::from_millis(10)).await;
            ship(&rig, n).await;
        }
        rig.pass(Duration::from_secs(30)).await;
        let began = rig.now();
        wait(&held);
        assert_eq!(rig.ended(run).await, "completed");
        assert!(rig.now().since(began) < Duration::from_secs(1));
        assert!(rig.store.output(run).expect("an output").contains("\"n\":7"));
        assert!(rig.store.jobs().is_empty() && rig.store.waits() == 0, "P4");
    });
}

#[rstest]
fn what_came_before_the_look_back_or_without_it_is_not_found(
    #[values(Some(Duration::from_secs(60)), None)] look_back: Option<Duration>,
) {
    virtually(async {
        let (app, held) = app();
        let settings = Settings {
            look_back,
            ..Settings::default()
        };
        let rig = Rig::with(vec![charge()], app, settings).await;
        let run = called(&rig).await;
        ship(&rig, 7).await;
        rig.pass(Duration::from_secs(61)).await;
        wait(&held);
        rig.pass(Duration::from_secs(60)).await;
        assert_eq!(rig.store.waits(), 1);
        ship(&rig, 7).await;
        assert_eq!(rig.ended(run).await, "completed");
        assert!(rig.store.output(run).expect("an output").contains("\"n\":7"));
    });
}

#[test]
fn a_wait_that_finds_nothing_times_out_as_ever() {
    virtually(async {
        let (app, held) = app();
        let rig = Rig::with(vec![charge()], app, settings()).await;
        let run = called(&rig).await;
        let began = rig.now();
        wait(&held);
        rig.until("the search is over", |rig| {
            rig.store
                .jobs()
                .iter()
                .any(|job| job.payload.is_none() && job.due > began)
        })
        .await;
        rig.pass(Duration::from_secs(3_599)).await;
        assert_eq!(rig.store.waits(), 1);
        assert_eq!(rig.ended(run).await, "completed");
        assert_eq!(rig.store.output(run).as_deref(), Some("null"));
        let waited = rig.now().since(began);
        assert!(
            waited >= Duration::from_secs(3_600) && waited < Duration::from_secs(3_602),
            "{waited:?}"
        );
    });
}

/// At whatever instant around the reply the event comes, it ends the wait.
#[test]
fn no_instant_is_missed() {
    virtually(async {
        let (app, held) = app();
        let rig = Rig::with(vec![charge()], app, settings()).await;
        for offset in 0..40 {
            let run = called(&rig).await;
            let began = rig.now();
            let reply = async {
                rig.pass(Duration::from_millis(20)).await;
                wait_for(&held, offset);
            };
            let event = async {
                rig.pass(Duration::from_millis(offset)).await;
                ship(&rig, offset).await;
            };
            tokio::join!(reply, event);
            assert_eq!(rig.ended(run).await, "completed");
            assert!(rig.now().since(began) < Duration::from_secs(1), "at {offset} ms");
        }
    });
}

#[test]
fn a_search_that_was_not_made_is_made_after_a_restart() {
    virtually(async {
        let (app, held) = app();
        let rig = Rig::with(vec![charge()], app, settings()).await;
        let run = called(&rig).await;
        ship(&rig, 7).await;
        let orchestrator = rig.orchestrator.clone();
        // Calls under way end, and what follows from them is left for the next start.
        let drain = actix::spawn(async move { orchestrator.drain(Duration::from_secs(20)).await });
        rig.pass(Duration::from_secs(1)).await;
        wait(&held);
        rig.within(drain).await.expect("drained");
        assert_eq!(rig.store.waits(), 1);
        let rig = rig.restarted(Duration::from_secs(300), settings()).await;
        let began = rig.now();
        assert_eq!(rig.ended(run).await, "completed");
        assert!(rig.now().since(began) < Duration::from_secs(1));
        assert!(rig.store.output(run).expect("an output").contains("\"n\":7"));
    });
}
