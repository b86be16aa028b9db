//! Rate limits and singletons from an event to its run, or to the recorded reason why there is none.

use std::time::Duration;

use serde_json::json;

use super::idle;
use crate::domain::{Function, RateLimit, Singleton, SingletonMode, SkipReason, Trigger};
use crate::testkit::{Answer, FakeApp, Rig, function, returned, steps, virtually};

fn limited(slug: &str) -> Function {
    let mut function = function(slug, "order/paid");
    function.flow.rate_limit = Some(RateLimit {
        limit: 1,
        period: Duration::from_secs(60),
        key: Some("event.data.id".to_owned()),
        idempotency: false,
    });
    function
}

fn single(mode: SingletonMode) -> Function {
    let mut function = function("single", "order/paid");
    function.flow.singleton = Some(Singleton { mode, key: None });
    function
}

fn asleep() -> FakeApp {
    FakeApp::new(|_| Answer::Now(steps(&json!([{ "op": "Sleep", "id": "nap", "name": "1h" }]))))
}

fn reasons(rig: &Rig) -> Vec<SkipReason> {
    rig.store.skips().into_iter().map(|(_, reason)| reason).collect()
}

#[test]
fn a_rate_limit_starts_one_and_records_why_not_the_next() {
    virtually(async {
        let rig = Rig::new(vec![limited("one")], idle()).await;
        for id in [1, 1, 2] {
            rig.send("order/paid", &json!({ "id": id })).await;
        }
        assert_eq!(rig.store.runs().len(), 2);
        assert_eq!(reasons(&rig), [SkipReason::RateLimited]);
        rig.pass(Duration::from_secs(60)).await;
        rig.send("order/paid", &json!({ "id": 1 })).await;
        assert_eq!(rig.store.runs().len(), 3);
        let counted: Vec<_> = rig
            .orchestrator
            .metrics()
            .events
            .skips
            .all()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(counted, [(SkipReason::RateLimited, 1)]);
    });
}

#[test]
fn whoever_invokes_too_often_is_told() {
    virtually(async {
        let app = FakeApp::new(|call| {
            let memo = call.steps.first().map(|(_, memo)| memo.to_tree());
            Answer::Now(match memo {
                _ if call.events[0].as_str().contains("function.invoked") => returned(&json!("invoked")),
                None => steps(&json!([{ "op": "InvokeFunction", "id": "i", "name": "i",
                    "opts": { "function_id": "one", "payload": {"data": {"id": 1}} } }])),
                Some(memo) => returned(&memo),
            })
        });
        let mut target = limited("one");
        target.triggers = Vec::<Trigger>::new();
        let caller = function("caller", "call/me");
        let rig = Rig::new(vec![target, caller.clone()], app).await;
        let first = rig.start(&caller, "call/me", &json!({})).await;
        assert_eq!(rig.ended(first).await, "completed");
        assert!(rig.store.output(first).expect("an output").contains("invoked\""));
        let second = rig.start(&caller, "call/me", &json!({})).await;
        assert_eq!(rig.ended(second).await, "completed");
        let output = rig.store.output(second).expect("an output");
        assert!(
            output.contains(r#""message":"invoked function is rate limited","name":"Error""#),
            "{output}"
        );
        assert_eq!(reasons(&rig), [SkipReason::RateLimited]);
    });
}

#[test]
fn whoever_invokes_a_singleton_that_is_taken_is_told_at_once() {
    virtually(async {
        let app = FakeApp::new(|call| {
            let memo = call.steps.first().map(|(_, memo)| memo.to_tree());
            Answer::Now(match memo {
                _ if call.events[0].as_str().contains("function.invoked") => steps(&json!([
                    { "op": "Sleep", "id": "s", "name": "s", "opts": { "duration": "1h" } }
                ])),
                None => steps(&json!([{ "op": "InvokeFunction", "id": "i", "name": "i",
                    "opts": { "function_id": "single", "payload": {"data": {"id": 1}} } }])),
                Some(memo) => returned(&memo),
            })
        });
        let mut target = single(SingletonMode::Skip);
        target.triggers = Vec::new();
        let caller = function("caller", "call/me");
        let rig = Rig::new(vec![target, caller.clone()], app).await;
        rig.start(&caller, "call/me", &json!({})).await;
        rig.until("the singleton sleeps", |rig| rig.store.runs().len() == 2)
            .await;
        let began = rig.now();
        let second = rig.start(&caller, "call/me", &json!({})).await;
        assert_eq!(rig.ended(second).await, "completed");
        assert!(rig.now().since(began) < Duration::from_secs(1));
        let output = rig.store.output(second).expect("an output");
        assert!(output.contains("invoked function is a singleton"), "{output}");
        assert_eq!(reasons(&rig), [SkipReason::Singleton]);
    });
}

#[test]
fn whoever_invokes_with_a_key_that_fails_is_told_too() {
    virtually(async {
        let app = FakeApp::new(|call| {
            let memo = call.steps.first().map(|(_, memo)| memo.to_tree());
            Answer::Now(match memo {
                None => steps(&json!([{ "op": "InvokeFunction", "id": "i", "name": "i",
                    "opts": { "function_id": "one", "payload": {"data": {"id": 1}} } }])),
                Some(memo) => returned(&memo),
            })
        });
        let mut target = limited("one");
        target.triggers = Vec::new();
        if let Some(limit) = &mut target.flow.rate_limit {
            limit.key = Some("event.data.id > duration('1h')".to_owned());
        }
        let caller = function("caller", "call/me");
        let rig = Rig::new(vec![target, caller.clone()], app).await;
        let run = rig.start(&caller, "call/me", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
        assert!(
            rig.store
                .output(run)
                .expect("an output")
                .contains("the key of the rate limit")
        );
        assert_eq!(reasons(&rig), [SkipReason::ExpressionError]);
    });
}

#[test]
fn a_singleton_starts_again_when_its_run_has_ended() {
    virtually(async {
        let function = single(SingletonMode::Skip);
        let rig = Rig::new(vec![function.clone()], asleep()).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        rig.send("order/paid", &json!({})).await;
        assert_eq!(
            (rig.store.runs().len(), reasons(&rig)),
            (1, vec![SkipReason::Singleton])
        );
        let cancelled = rig.within(rig.orchestrator.cancel(run)).await;
        assert!(cancelled.is_ok());
        assert_eq!(rig.ended(run).await, "cancelled");
        let next = rig.start(&function, "order/paid", &json!({})).await;
        assert!(rig.store.run(next).is_some());
    });
}

#[test]
fn a_singleton_that_cancels_has_the_new_run_take_the_old_ones_place_at_once() {
    virtually(async {
        let function = single(SingletonMode::Cancel);
        let rig = Rig::new(vec![function.clone()], asleep()).await;
        let old = rig.start(&function, "order/paid", &json!({})).await;
        rig.until("it sleeps", |rig| {
            rig.store.run(old).is_some_and(|run| !run.steps.is_empty())
        })
        .await;
        let before = rig.now();
        let new = rig.start(&function, "order/paid", &json!({})).await;
        assert_eq!(rig.ended(old).await, "cancelled");
        assert!(
            rig.now().since(before) < Duration::from_secs(1),
            "nobody had to look for the job"
        );
        let told = rig
            .store
            .events()
            .into_iter()
            .find(|event| event.name == "inngest/function.cancelled");
        assert!(
            told.expect("others hear of it")
                .body
                .as_str()
                .contains(&format!("run {new} takes its place"))
        );
        assert!(rig.store.run(new).is_some_and(|run| !run.status.is_final()));
    });
}
