//! Every event finds its functions and its waits, once, whatever fails in between.

mod gatherings;
mod starts;

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::is_match;
use crate::domain::{
    CancelRule, Function, RunId, RunStatus, SkipReason, Target, Timestamp, Trigger, Wait, WaitKey, WaitKind,
};
use crate::expression::Scope;
use crate::orchestrator::{Refusal, Settings};
use crate::ports::StoreError;
use crate::testkit::{Answer, FakeApp, Fault, Rig, event, function, returned, steps, virtually};

fn idle() -> FakeApp {
    FakeApp::new(|_| Answer::Now(returned(&json!("done"))))
}

fn filtered(slug: &str, name: &str, expression: &str) -> Function {
    let mut function = function(slug, name);
    function.triggers = vec![Trigger::Event {
        event: name.to_owned(),
        expression: Some(expression.to_owned()),
    }];
    function
}

/// Waits for `order/shipped` with these options and returns what it got.
fn waiting(opts: Value) -> FakeApp {
    FakeApp::new(move |call| {
        let memo = call.steps.first().map(|(_, memo)| memo.to_tree());
        Answer::Now(match memo {
            None => steps(&json!([{ "op": "WaitForEvent", "id": "w", "name": "w", "opts": opts.clone() }])),
            Some(memo) => returned(&memo),
        })
    })
}

#[test]
fn an_event_creates_exactly_the_runs_of_those_it_matches() {
    virtually(async {
        let functions = vec![
            function("one", "order/paid"),
            function("other", "order/lost"),
            function("all-orders", "order/*"),
            filtered("large", "order/paid", "event.data.sum > 100"),
            filtered("broken", "order/paid", "size(event.data.sum) > 1"),
        ];
        let rig = Rig::new(functions.clone(), idle()).await;
        rig.send("order/paid", &json!({ "sum": 7 })).await;
        let started = rig.store.runs();
        let slugs: Vec<_> = functions
            .iter()
            .filter(|function| started.iter().any(|run| run.function == function.id))
            .map(|function| function.slug.to_string())
            .collect();
        assert_eq!(slugs, ["one", "all-orders"], "P2");
        let mut reasons: Vec<_> = rig
            .store
            .skips()
            .into_iter()
            .map(|(_, reason)| reason.as_str())
            .collect();
        reasons.sort_unstable();
        assert_eq!(
            reasons,
            ["expression_error", "expression_false"],
            "P2: and why not the others"
        );
    });
}

#[test]
fn an_event_that_is_sent_again_starts_nothing_again() {
    virtually(async {
        let rig = Rig::new(vec![function("one", "order/paid")], idle()).await;
        let first = event("order/paid", &json!({}), 7, rig.now());
        for _ in 0..3 {
            let again = rig.within(rig.orchestrator.accept(vec![first.clone()])).await;
            assert!(again.is_ok());
        }
        assert_eq!(
            (
                rig.store.events().iter().filter(|e| !e.is_internal()).count(),
                rig.store.runs().len()
            ),
            (1, 1)
        );
    });
}

#[test]
fn a_database_that_is_away_is_answered_with_a_refusal_and_keeps_nothing() {
    virtually(async {
        let rig = Rig::new(vec![function("one", "order/paid")], idle()).await;
        rig.store.fail(&[Fault::Full]);
        let refusal = rig.try_send("order/paid", &json!({})).await;
        assert!(
            matches!(refusal, Err(Refusal::Store(StoreError::Full(_)))),
            "{refusal:?}"
        );
        assert!(rig.store.events().is_empty() && rig.store.runs().is_empty());
        assert!(rig.try_send("order/paid", &json!({})).await.is_ok());
    });
}

#[test]
fn a_writer_that_dies_is_answered_with_a_refusal_and_comes_back() {
    virtually(async {
        let rig = Rig::new(vec![function("one", "order/paid")], idle()).await;
        rig.store.fail(&[Fault::Panic]);
        let refusal = rig.try_send("order/paid", &json!({})).await;
        assert!(matches!(refusal, Err(Refusal::Unavailable(_))), "{refusal:?}");
        rig.pass(Duration::from_secs(1)).await;
        assert!(rig.try_send("order/paid", &json!({})).await.is_ok());
    });
}

#[rstest]
#[case::any(json!({ "event": "order/shipped", "timeout": "90s" }), json!({ "id": 1 }), true)]
#[case::same(json!({ "event": "order/shipped", "timeout": "90s", "if": "event.data.id == async.data.id" }), json!({ "id": 7 }), true)]
#[case::other(json!({ "event": "order/shipped", "timeout": "90s", "if": "event.data.id == async.data.id" }), json!({ "id": 8 }), false)]
#[case::condition(json!({ "event": "order/shipped", "timeout": "90s", "if": "async.data.id > 3" }), json!({ "id": 4 }), true)]
#[case::false_condition(json!({ "event": "order/shipped", "timeout": "90s", "if": "async.data.id > 3" }), json!({ "id": 2 }), false)]
#[case::error_in_condition(json!({ "event": "order/shipped", "timeout": "90s", "if": "async.data.none.x > 3" }), json!({ "id": 2 }), false)]
fn waits_end_by_the_events_they_are_for(#[case] opts: Value, #[case] data: Value, #[case] ends: bool) {
    virtually(async {
        let function = function("one", "order/paid");
        let rig = Rig::new(vec![function.clone()], waiting(opts)).await;
        let run = rig.start(&function, "order/paid", &json!({ "id": 7 })).await;
        rig.until("it waits", |rig| rig.store.waits() == 1).await;
        rig.send("order/shipped", &data).await;
        rig.until("the event is routed", |rig| rig.store.unrouted_count() == 0)
            .await;
        rig.pass(Duration::from_secs(1)).await;
        let is_over = rig.store.status(run).is_some_and(RunStatus::is_final);
        assert_eq!(is_over, ends);
        assert_eq!(rig.ended(run).await, "completed", "by the event or by its timeout");
        let got_event = rig.store.output(run).expect("an output").contains("order/shipped");
        assert_eq!(got_event, ends, "the event, or null when time is up");
        assert_eq!(rig.store.waits(), 0);
    });
}

#[test]
fn a_wait_that_has_expired_is_not_ended_by_an_event() {
    virtually(async {
        let function = function("one", "order/paid");
        let opts = json!({ "event": "order/shipped", "timeout": "10s" });
        let rig = Rig::new(vec![function.clone()], waiting(opts)).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        rig.until("it waits", |rig| rig.store.waits() == 1).await;
        // The timeout's job can't get through; the event comes after its time all the same.
        rig.store.fail(&[Fault::Hang]);
        let expired = rig.now().after(Duration::from_secs(10));
        let late = event("order/shipped", &json!({}), 99, expired);
        rig.pass(Duration::from_secs(11)).await;
        rig.store.thaw();
        let sent = rig.within(rig.orchestrator.accept(vec![late])).await;
        assert!(sent.is_ok());
        assert_eq!(rig.ended(run).await, "completed");
        assert_eq!(rig.store.output(run).as_deref(), Some("null"));
    });
}

#[test]
fn one_event_ends_every_wait_for_it_and_two_events_end_a_wait_once() {
    virtually(async {
        let function = function("one", "order/paid");
        let opts = json!({ "event": "order/shipped", "timeout": "90s" });
        let rig = Rig::new(vec![function.clone()], waiting(opts)).await;
        let mut runs = Vec::new();
        for _ in 0..20 {
            runs.push(rig.start(&function, "order/paid", &json!({})).await);
        }
        rig.until("all wait", |rig| rig.store.waits() == 20).await;
        let both = vec![
            event("order/shipped", &json!({ "n": 1 }), 501, rig.now()),
            event("order/shipped", &json!({ "n": 2 }), 502, rig.now()),
        ];
        let sent = rig.within(rig.orchestrator.accept(both)).await;
        assert!(sent.is_ok());
        for run in runs {
            assert_eq!(rig.ended(run).await, "completed");
            assert!(
                rig.store.output(run).expect("an output").contains("\"n\":1"),
                "the first one wins"
            );
        }
        assert!(rig.store.jobs().is_empty());
    });
}

#[test]
fn a_cancel_rule_ends_runs_that_began_before_the_event() {
    virtually(async {
        let mut function = function("one", "order/paid");
        function.flow.cancel.push(CancelRule {
            event: "order/withdrawn".to_owned(),
            condition: Some("event.data.id == async.data.id".to_owned()),
            timeout: None,
        });
        let opts = json!({ "event": "order/shipped", "timeout": "90s" });
        let rig = Rig::new(vec![function.clone()], waiting(opts)).await;
        let old = rig.start(&function, "order/paid", &json!({ "id": 7 })).await;
        let other = rig.start(&function, "order/paid", &json!({ "id": 8 })).await;
        rig.until("both wait", |rig| rig.store.waits() == 4).await;
        rig.pass(Duration::from_millis(5)).await;
        let withdrawal = event("order/withdrawn", &json!({ "id": 7 }), 900, rig.now());
        rig.pass(Duration::from_millis(5)).await;
        let young = rig.start(&function, "order/paid", &json!({ "id": 7 })).await;
        rig.until("all wait", |rig| rig.store.waits() == 6).await;
        let sent = rig.within(rig.orchestrator.accept(vec![withdrawal])).await;
        assert!(sent.is_ok());
        assert_eq!(rig.ended(old).await, "cancelled");
        rig.pass(Duration::from_secs(1)).await;
        for spared in [other, young] {
            assert_eq!(rig.store.status(spared).map(RunStatus::as_str), Some("running"));
        }
    });
}

/// Invokes `target` and returns what came of it.
fn invoking(target: &'static str, caller: &Function) -> FakeApp {
    let caller = caller.id;
    FakeApp::new(move |call| {
        if call.function != caller {
            return Answer::Now(returned(&json!("from the other side")));
        }
        assert!(matches!(call.target, Target::Discovery));
        Answer::Now(match call.steps.first() {
            None => steps(&json!([{ "op": "InvokeFunction", "id": "i", "name": "i", "opts": {
                "function_id": target, "payload": { "data": {} }, "timeout": "90s" } }])),
            Some((_, memo)) => returned(&memo.to_tree()),
        })
    })
}

#[rstest]
#[case::known("other", "from the other side")]
#[case::unknown("nobody", "could not find function")]
fn an_invoke_is_answered(#[case] target: &'static str, #[case] answer: &str) {
    virtually(async {
        let caller = function("one", "order/paid");
        let functions = vec![caller.clone(), function("other", "never/sent")];
        let rig = Rig::new(functions, invoking(target, &caller)).await;
        let run = rig.start(&caller, "order/paid", &json!({})).await;
        let began = tokio::time::Instant::now();
        rig.ended(run).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let output = rig.store.output(run).expect("an output");
        assert!(output.contains(answer), "{output}");
        let unknown = rig
            .store
            .skips()
            .iter()
            .filter(|(_, r)| *r == SkipReason::UnknownFunction)
            .count();
        assert_eq!(unknown, usize::from(target == "nobody"), "P2: recorded once");
    });
}

#[rstest]
#[case::before(Fault::Panic)]
#[case::after(Fault::PanicAfter)]
fn a_crash_between_commit_and_routing_is_made_good(#[case] fault: Fault) {
    virtually(async {
        let caller = function("one", "order/paid");
        let functions = vec![caller.clone(), function("other", "never/sent")];
        let rig = Rig::new(functions, invoking("other", &caller)).await;
        // The event, the invoke, and then the routing of it.
        rig.store.fail(&[Fault::None, Fault::None, fault]);
        let run = rig.start(&caller, "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
        assert_eq!(rig.store.runs().len(), 2, "P2: one run of each");
    });
}

#[test]
fn what_was_left_in_the_outbox_is_routed_at_the_next_start() {
    virtually(async {
        let caller = function("one", "order/paid");
        let functions = vec![caller.clone(), function("other", "never/sent")];
        let rig = Rig::new(functions, invoking("other", &caller)).await;
        rig.store.fail(&[Fault::None, Fault::None, Fault::Hang]);
        let run = rig.start(&caller, "order/paid", &json!({})).await;
        rig.until("the invoke is in the outbox", |rig| rig.store.unrouted_count() == 1)
            .await;
        rig.within(rig.orchestrator.drain(Duration::from_secs(1))).await;
        let store = Arc::clone(&rig.store);
        let app = rig.app.clone();
        drop(rig);
        let next = Rig::on(store, app, Settings::default()).await;
        assert_eq!(next.ended(run).await, "completed");
        assert_eq!(next.store.runs().len(), 2);
    });
}

#[test]
fn an_event_that_can_not_be_routed_does_not_block_the_others() {
    virtually(async {
        let function = function("one", "order/paid");
        let opts = json!({ "event": "order/shipped", "timeout": "90s" });
        let rig = Rig::new(vec![function.clone()], waiting(opts)).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        rig.until("it waits", |rig| rig.store.waits() == 1).await;
        // Accepted, and from then on refused whatever is written about it.
        let odd = event("order/shipped", &json!({ "odd": true }), 1, rig.now());
        assert!(rig.within(rig.orchestrator.accept(vec![odd.clone()])).await.is_ok());
        rig.store.refuse_event(odd.id);
        rig.send("order/shipped", &json!({ "odd": false })).await;
        rig.pass(Duration::from_secs(5)).await;
        assert_eq!(rig.store.status(run).map(RunStatus::as_str), Some("completed"));
    });
}

#[test]
fn an_invoke_through_the_api_is_matched_once_even_if_somebody_waits_for_it() {
    virtually(async {
        let opts = json!({ "event": "inngest/function.invoked", "timeout": "90s" });
        let waiter = function("one", "order/paid");
        let watcher = filtered("watcher", "inngest/function.invoked", "event.data.nobody == 1");
        let functions = vec![waiter.clone(), watcher, function("other", "never/sent")];
        let rig = Rig::new(functions, waiting(opts)).await;
        let run = rig.start(&waiter, "order/paid", &json!({})).await;
        rig.until("it waits", |rig| rig.store.waits() == 1).await;
        rig.invoke("other").await;
        let began = tokio::time::Instant::now();
        assert_eq!(rig.ended(run).await, "completed");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(rig.store.skips().len(), 1, "P2: one reason, recorded once");
    });
}

#[test]
fn a_signal_finds_its_run_among_many_that_wait_for_an_event_of_its_name() {
    virtually(async {
        let (listener, caller) = (function("one", "order/paid"), function("two", "order/held"));
        let signalled = caller.id;
        let app = FakeApp::new(move |call| {
            let memo = call.steps.first().map(|(_, memo)| memo.to_tree());
            Answer::Now(match memo {
                Some(memo) => returned(&memo),
                None if call.function == signalled => steps(&json!([{ "op": "WaitForSignal", "id": "w", "name": "w",
                    "opts": { "signal": "order/shipped", "timeout": "90s" } }])),
                None => steps(&json!([{ "op": "WaitForEvent", "id": "w", "name": "w",
                    "opts": { "event": "order/shipped", "timeout": "90s" } }])),
            })
        });
        let rig = Rig::new(vec![listener.clone(), caller.clone()], app).await;
        for _ in 0..200 {
            rig.start(&listener, "order/paid", &json!({})).await;
        }
        let run = rig.start(&caller, "order/held", &json!({})).await;
        rig.until("all wait", |rig| rig.store.waits() == 201).await;
        let data = crate::domain::Json::null();
        let delivered = rig.within(rig.orchestrator.signal("order/shipped", data)).await;
        assert_eq!(delivered.expect("a store"), Some(run));
        assert_eq!(rig.ended(run).await, "completed");
        // And nobody else may wait for it while it is taken.
        let first = rig.start(&caller, "order/held", &json!({})).await;
        rig.until("it waits", |rig| rig.store.waits() == 201).await;
        let second = rig.start(&caller, "order/held", &json!({})).await;
        assert_eq!(rig.ended(second).await, "failed");
        assert_eq!(rig.store.status(first).map(RunStatus::as_str), Some("running"));
    });
}

#[rstest]
#[case::set_before(-1_000, 60_000, true)]
#[case::crossed_on_the_way(5_000, 60_000, true)]
#[case::set_too_late(5_001, 60_000, false)]
#[case::just_in_time(-1_000, 1, true)]
#[case::expired(-1_000, 0, false)]
fn the_time_of_a_wait(#[case] created_after: i64, #[case] expires_after: i64, #[case] fits: bool) {
    let at = crate::testkit::EPOCH;
    let moment = |after: i64| Timestamp::from_millis(at.as_millis() + after);
    let event = event("order/shipped", &json!({}), 1, at);
    let body = event.body.to_tree();
    let scope = Scope::of_async(&body, at.to_datetime());
    let run = RunId::new(moment(-10_000), 1);
    let wait = |key, kind| Wait {
        run,
        function: function("one", "order/paid").id,
        key,
        kind,
        name: "order/shipped".to_owned(),
        lookup: None,
        condition: None,
        created_at: moment(created_after),
        expires_at: moment(expires_after),
    };
    let of_step = wait(WaitKey::Step("w".into()), WaitKind::Event);
    assert_eq!(is_match(&of_step, &event, &scope), fits);
    let of_rule = wait(WaitKey::Cancel(0), WaitKind::Cancel);
    assert_eq!(is_match(&of_rule, &event, &scope), fits);
    let signal = wait(WaitKey::Step("w".into()), WaitKind::Signal);
    assert!(!is_match(&signal, &event, &scope), "an event is no signal");
    let younger = Wait {
        run: RunId::new(moment(1), 1),
        ..of_rule
    };
    assert!(
        !is_match(&younger, &event, &scope),
        "nothing cancels what began after it"
    );
}
