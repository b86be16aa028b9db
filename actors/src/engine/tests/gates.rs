//! Which gates a run passes: worked out once, from its first event.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;

use super::{NOW, event, function};
use crate::domain::{
    ConcurrencyLimit, Event, Function, Gate, GateKind, Gates, JobKey, Limit, Rate, Scope, StepId, Throttle,
};
use crate::engine::subject::Subject;
use crate::engine::{limits, run_limit, start};

fn limit(limit: u32, key: Option<&str>, scope: Scope) -> ConcurrencyLimit {
    ConcurrencyLimit {
        limit,
        key: key.map(str::to_owned),
        scope,
    }
}

fn gates(function: &Function, event: &Event) -> Gates {
    crate::engine::gates::gates(function, &Subject::new(event))
}

fn limited(concurrency: Vec<ConcurrencyLimit>) -> Function {
    let mut function = function(0);
    function.flow.concurrency = concurrency;
    function
}

fn throttled(key: &str) -> Function {
    let mut function = function(0);
    function.flow.throttle = Some(Throttle {
        limit: 3,
        period: Duration::from_secs(60),
        burst: 2,
        key: Some(key.to_owned()),
    });
    function
}

#[test]
fn a_function_without_limits_has_no_gates() {
    let function = limited(vec![limit(0, Some("event.data.id"), Scope::Fn)]);
    assert!(
        gates(&function, &event(json!({"id": 7}))).is_empty(),
        "without a number nothing is limited"
    );
    assert!(limits(&function).is_empty());
    assert!(
        start(&function, &event(json!({})), NOW)
            .expect("starts")
            .job
            .gates
            .is_empty()
    );
}

#[test]
fn gates_follow_the_first_event_and_stay_when_numbers_change() {
    let of = |slots| {
        limited(vec![
            limit(slots, None, Scope::Fn),
            limit(5, Some("event.data.id"), Scope::Fn),
        ])
    };
    let seven = event(json!({"id": 7}));
    let found = gates(&of(2), &seven);
    assert_eq!(found.as_slice().len(), 2);
    assert_eq!(found, gates(&of(3), &seven), "another number is the same gate");
    assert_ne!(found, gates(&of(2), &event(json!({"id": 8}))));
    let numbers = limits(&of(3));
    for gate in found.as_slice() {
        let expected = if gate.key.is_empty() { 3 } else { 5 };
        assert_eq!(numbers.of(gate.rule), Some(Limit::Slots(expected)));
    }
    let keyed = found.as_slice().iter().find(|gate| !gate.key.is_empty());
    assert_eq!(keyed.map(|gate| &*gate.key), Some("7"));
}

#[test]
fn functions_of_an_account_share_a_constant_key() {
    let of = |name: &str, scope| {
        let mut function = limited(vec![limit(1, Some("'global'"), scope)]);
        function.id = crate::domain::FunctionId::derive("shop", name);
        gates(&function, &event(json!({}))).as_slice()[0].bucket
    };
    assert_eq!(of("one", Scope::Account), of("two", Scope::Account));
    assert_eq!(of("one", Scope::Env), of("two", Scope::Env));
    assert_ne!(of("one", Scope::Account), of("one", Scope::Env));
    assert_ne!(of("one", Scope::Fn), of("two", Scope::Fn));
}

// A key that can't be evaluated is a key of its own: the empty one for concurrency, a word for throttles.
#[rstest]
#[case("event.data.id.size()", json!({"id": 7}), "", "<nil>")]
#[case("event.data.id", json!({"id": [1, "a"]}), "[1,\"a\"]", "[1,\"a\"]")]
#[case("event.data.id", json!({"id": true}), "true", "true")]
fn keys_are_texts(#[case] key: &str, #[case] data: serde_json::Value, #[case] slot: &str, #[case] throttle: &str) {
    let event = event(data);
    let slots = limited(vec![limit(1, Some(key), Scope::Fn)]);
    let expected = Gate::new(GateKind::Slot, Scope::Fn, slots.id, Some(key), slot);
    assert_eq!(gates(&slots, &event), Gates::new(vec![expected]));
    let expected = Gate::new(GateKind::Throttle, Scope::Fn, slots.id, Some(key), throttle);
    assert_eq!(gates(&throttled(key), &event), Gates::new(vec![expected]));
}

#[test]
fn a_throttle_is_for_the_start() {
    let mut function = throttled("event.data.id");
    function.flow.concurrency = vec![limit(1, None, Scope::Fn)];
    let new = start(&function, &event(json!({"id": 7})), NOW).expect("starts");
    assert_eq!(new.job.gates, new.state.gates);
    assert_eq!(new.job.gates.as_slice().len(), 2);
    let step = new.state.gates.of_job(&JobKey::Step(StepId::from("s")), 0);
    assert_eq!(step.as_slice().len(), 1);
    let rate = Rate::new(3, Duration::from_secs(60), 2);
    assert_eq!(
        limits(&function).of(new.job.gates.as_slice()[0].rule),
        Some(Limit::Rate(rate))
    );
}

#[test]
fn a_limit_on_runs_is_a_gate_of_the_run_and_none_of_the_queue() {
    let mut function = limited(vec![limit(4, None, Scope::Fn)]);
    function.flow.run_concurrency = Some(limit(3, Some("event.data.id"), Scope::Fn));
    let new = start(&function, &event(json!({"id": 7})), NOW).expect("starts");
    let gate = new.state.gates.run_slot().expect("one");
    assert_eq!((gate.kind, &*gate.key), (GateKind::RunSlot, "7"));
    assert_eq!(run_limit(&function), Some((gate.rule, 3)));
    assert_eq!(limits(&function).of(gate.rule), None);
    assert_eq!(limits(&function).iter().count(), 1);
    assert_eq!(new.job.gates.as_slice().len(), 1);
    assert_eq!(new.job.gates.run_slot(), None);
    function.flow.run_concurrency = None;
    assert_eq!(run_limit(&function), None);
}
