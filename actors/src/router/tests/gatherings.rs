//! Debounces and batches from their events to their run.

use std::time::Duration;

use serde_json::json;

use super::idle;
use crate::domain::{Batch, Debounce, DueBy, Function, SkipReason, Trigger};
use crate::orchestrator::Settings;
use crate::testkit::{Answer, FakeApp, Fault, Rig, function, returned, steps, virtually};

fn debounced(timeout: Option<u64>) -> Function {
    let mut function = function("one", "order/paid");
    function.flow.debounce = Some(Debounce {
        period: Duration::from_secs(10),
        key: Some("event.data.id".to_owned()),
        timeout: timeout.map(Duration::from_secs),
    });
    function
}

fn batching() -> Function {
    let mut function = function("one", "order/paid");
    function.flow.batch = Some(Batch {
        max_size: 3,
        timeout: Duration::from_secs(60),
        key: None,
        condition: None,
    });
    function
}

/// Whether they are batches, by what they were due, and how many.
fn fired(rig: &Rig) -> Vec<(bool, DueBy, u64)> {
    let all = rig.orchestrator.metrics().events.fired.all();
    all.filter(|(_, _, count)| *count > 0).collect()
}

#[test]
fn a_debounce_starts_once_with_the_last_event() {
    virtually(async {
        let rig = Rig::new(vec![debounced(None)], idle()).await;
        let mut sent = Vec::new();
        for _ in 0..3 {
            sent.push(rig.send("order/paid", &json!({ "id": 1 })).await);
            rig.pass(Duration::from_secs(9)).await;
        }
        let other = rig.send("order/paid", &json!({ "id": 2 })).await;
        assert_eq!(rig.store.runs().len(), 0);
        let began = rig.now();
        rig.until("both have started", |rig| rig.store.runs().len() == 2).await;
        assert_eq!(rig.now().since(began).as_secs(), 10, "no later than it is due");
        let mut causes: Vec<_> = rig.store.runs().iter().map(|run| run.event_ids.clone()).collect();
        causes.sort();
        assert_eq!(causes, [vec![sent[2]], vec![other]]);
        let skips = rig.store.skips();
        assert_eq!(
            skips,
            [(sent[0], SkipReason::Debounced), (sent[1], SkipReason::Debounced)]
        );
        assert_eq!(fired(&rig), [(false, DueBy::Period, 2)]);
        assert_eq!(rig.orchestrator.metrics().events.gathered.value(), 4);
    });
}

#[test]
fn a_debounce_waits_no_longer_than_its_timeout() {
    virtually(async {
        let rig = Rig::new(vec![debounced(Some(25))], idle()).await;
        let began = rig.now();
        while rig.store.runs().is_empty() {
            rig.send("order/paid", &json!({ "id": 1 })).await;
            rig.pass(Duration::from_secs(4)).await;
        }
        assert_eq!(rig.store.runs()[0].created_at().since(began).as_secs(), 25);
        assert_eq!(fired(&rig), [(false, DueBy::Timeout, 1)]);
    });
}

#[test]
fn a_full_batch_starts_at_once_and_the_rest_by_and_by() {
    virtually(async {
        let rig = Rig::new(vec![batching()], idle()).await;
        let began = rig.now();
        let mut sent = Vec::new();
        for id in 0..5 {
            sent.push(rig.send("order/paid", &json!({ "id": id })).await);
        }
        rig.until("the first has started", |rig| rig.store.runs().len() == 1)
            .await;
        assert!(rig.now().since(began) < Duration::from_secs(1));
        assert_eq!(rig.store.runs()[0].event_ids, sent[..3]);
        rig.until("so has the second", |rig| rig.store.runs().len() == 2).await;
        assert_eq!(rig.now().since(began).as_secs(), 60);
        let mut causes: Vec<_> = rig.store.runs().iter().map(|run| run.event_ids.clone()).collect();
        causes.sort();
        assert_eq!(causes[1], sent[3..]);
        assert_eq!(fired(&rig), [(true, DueBy::Timeout, 1), (true, DueBy::Full, 1)]);
    });
}

/// Of two nodes each starts its share, and what one has left behind the other one starts.
#[test]
fn what_a_node_leaves_behind_another_one_fires() {
    virtually(async {
        let rig = Rig::new(vec![debounced(None)], idle()).await;
        let event = rig.send("order/paid", &json!({ "id": 1 })).await;
        let rig = rig.restarted(Duration::from_secs(60), Settings::default()).await;
        rig.until("it has started", |rig| rig.store.runs().len() == 1).await;
        assert_eq!(rig.store.runs()[0].event_ids, [event]);
        // A second node knows nothing of this one, and looks now and then.
        let beside = rig.beside(Settings::default()).await;
        rig.send("order/paid", &json!({ "id": 2 })).await;
        rig.within(rig.orchestrator.drain(Duration::from_secs(1))).await;
        beside
            .until("the other one has fired it", |rig| rig.store.runs().len() == 2)
            .await;
    });
}

#[test]
fn a_database_that_fails_delays_the_start_only() {
    virtually(async {
        let rig = Rig::new(vec![debounced(None)], idle()).await;
        rig.send("order/paid", &json!({ "id": 1 })).await;
        rig.pass(Duration::from_secs(9)).await;
        rig.store.fail(&[Fault::Unavailable, Fault::Forgotten]);
        rig.until("it has started", |rig| rig.store.runs().len() == 1).await;
        rig.pass(Duration::from_secs(30)).await;
        assert_eq!(rig.store.runs().len(), 1);
    });
}

#[test]
fn a_function_that_changes_starts_what_it_has_gathered() {
    virtually(async {
        let rig = Rig::new(
            vec![debounced(None), {
                let mut f = function("two", "order/paid");
                f.flow.batch = batching().flow.batch;
                f
            }],
            idle(),
        )
        .await;
        let event = rig.send("order/paid", &json!({ "id": 1 })).await;
        let mut gone = function("two", "order/paid");
        gone.archived = true;
        rig.store.replace_functions(vec![function("one", "order/paid"), gone]);
        rig.until("the first has started", |rig| rig.store.runs().len() == 1)
            .await;
        rig.until("why the second has not is recorded", |rig| {
            rig.store.skips() == [(event, SkipReason::Archived)]
        })
        .await;
        assert_eq!(rig.store.runs()[0].event_ids, [event]);
    });
}

/// Two runs invoke a function one after another; what they come to.
fn invoked(mut target: Function) -> Vec<String> {
    target.triggers = Vec::<Trigger>::new();
    virtually(async {
        let app = FakeApp::new(|call| {
            let memo = call.steps.first().map(|(_, memo)| memo.to_tree());
            Answer::Now(match memo {
                _ if call.events[0].as_str().contains("function.invoked") => returned(&json!(call.events.len())),
                None => steps(&json!([{ "op": "InvokeFunction", "id": "i", "name": "i",
                    "opts": { "function_id": "one", "payload": {"data": {"id": 1}} } }])),
                Some(memo) => returned(&memo),
            })
        });
        let caller = function("caller", "call/me");
        let rig = Rig::new(vec![target, caller.clone()], app).await;
        let mut runs = Vec::new();
        for _ in 0..2 {
            runs.push(rig.start(&caller, "call/me", &json!({})).await);
            rig.pass(Duration::from_secs(1)).await;
        }
        let mut outputs = Vec::new();
        for run in runs {
            assert_eq!(rig.ended(run).await, "completed");
            outputs.push(rig.store.output(run).expect("an output"));
        }
        outputs
    })
}

#[test]
fn all_who_invoke_a_batch_hear_of_its_end() {
    assert_eq!(invoked(batching()), ["{\"data\":2}", "{\"data\":2}"]);
}

#[test]
fn whose_invoke_is_replaced_in_a_debounce_is_told() {
    let outputs = invoked(debounced(None));
    assert!(outputs[0].contains("taken its place"), "{}", outputs[0]);
    assert_eq!(outputs[1], "{\"data\":1}");
}
