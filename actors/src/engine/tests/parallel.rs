//! Parallel steps in all request versions.

use rstest::rstest;
use serde_json::json;

use super::*;

fn plan_two() -> Value {
    json!([{"op": "StepPlanned", "id": "a"}, {"op": "StepPlanned", "id": "b"}])
}

fn ran(id: &str) -> Value {
    json!([{"op": "StepRun", "id": id, "data": id}])
}

#[test]
fn from_version_two_on_the_last_of_a_group_asks_what_comes_next() {
    let mut case = Case::new();
    case.ops("start", plan_two());
    assert_eq!(case.keys(), keys(["step:a", "step:b"]));
    assert!(
        case.run.plan_only,
        "a step that is under way must not be run by a discovery"
    );
    case.ops("step:b", ran("b"));
    assert_eq!(case.keys(), keys(["step:a"]));
    case.ops("step:a", ran("a"));
    assert_eq!(case.keys(), keys(["discover:a"]));
    assert!(!case.run.plan_only, "the group is done");
    assert_eq!(
        case.run.stack,
        [StepId::from("b"), StepId::from("a")],
        "in the order of completion"
    );
}

#[rstest]
#[case(0)]
#[case(1)]
fn before_version_two_every_step_asks(#[case] version: i32) {
    let mut case = Case::new();
    case.reply("start", steps(version, &plan_two()));
    case.ops("step:b", ran("b"));
    assert_eq!(case.keys(), keys(["discover:b", "step:a"]));
    // The discovery reports the sibling again, which is under way.
    case.ops("discover:b", json!([{"op": "StepPlanned", "id": "a"}]));
    assert_eq!(case.keys(), keys(["step:a"]));
    case.ops("step:a", ran("a"));
    assert_eq!(case.keys(), keys(["discover:a"]));
    assert!(case.run.plan_only, "for the rest of the run");
    assert_eq!(case.run.request_version, version, "settled by the first reply");
}

#[test]
fn in_a_race_every_step_asks_at_once() {
    let race = json!({"parallelMode": "race"});
    let mut case = Case::new();
    case.ops(
        "start",
        json!([{"op": "StepPlanned", "id": "a", "opts": race}, {"op": "StepPlanned", "id": "b", "opts": race}]),
    );
    case.ops("step:b", ran("b"));
    assert_eq!(case.keys(), keys(["discover:b", "step:a"]));
    case.returns("discover:b", &json!("b won"));
    assert_eq!(case.run.status, RunStatus::Completed);
}

#[test]
fn sleeps_waits_and_failures_complete_a_group_too() {
    let mut case = Case::new();
    case.ops(
        "start",
        json!([
            {"op": "Sleep", "id": "nap", "name": "1s"},
            {"op": "WaitForEvent", "id": "wait", "name": "x", "opts": {"timeout": "1h"}},
            {"op": "StepPlanned", "id": "step"},
        ]),
    );
    assert_eq!(case.keys(), keys(["step:step", "timeout:wait", "wake:nap"]));
    case.give(Input::Woke(StepId::from("nap")));
    case.ops(
        "step:step",
        json!([{"op": "StepFailed", "id": "step", "error": {"message": "m"}}]),
    );
    assert_eq!(case.keys(), keys(["timeout:wait"]));
    case.give(Input::TimedOut(StepId::from("wait")));
    assert_eq!(case.keys(), keys(["discover:wait"]));
}

#[test]
fn what_is_under_way_is_not_begun_again() {
    let mut case = Case::new();
    let all = json!([
        {"op": "Sleep", "id": "nap", "name": "1s"},
        {"op": "StepPlanned", "id": "step"},
        {"op": "InvokeFunction", "id": "call", "opts": {"function_id": "other", "payload": null}},
    ]);
    case.reply("start", steps(1, &all));
    let jobs = case.jobs.clone();
    assert_eq!(case.events.len(), 1);
    case.give(Input::Woke(StepId::from("nap")));
    case.now = NOW.after(std::time::Duration::from_secs(60));
    case.reply("discover:nap", steps(1, &all));
    for key in ["step:step", "timeout:call"] {
        let key: JobKey = key.parse().expect("a job key");
        assert_eq!(case.jobs[&key], jobs[&key]);
    }
    assert_eq!(case.events.len(), 1, "one step, one invoke");
}

#[test]
fn a_mixed_reply_saves_what_ran_and_waits_for_the_rest() {
    let mut case = Case::new();
    case.ops(
        "start",
        json!([{"op": "StepRun", "id": "a", "data": 1}, {"op": "StepPlanned", "id": "b"}]),
    );
    assert_eq!(case.keys(), keys(["step:b"]));
    case.ops("step:b", ran("b"));
    assert_eq!(case.keys(), keys(["discover:b"]));
}

#[test]
fn waits_are_set_before_siblings_act() {
    let mut case = Case::new();
    let changes = case.ops(
        "start",
        json!([
            {"op": "InvokeFunction", "id": "call", "opts": {"function_id": "other"}},
            {"op": "WaitForEvent", "id": "wait", "name": "x", "opts": {"timeout": "1h"}},
        ]),
    );
    let kinds: Vec<_> = changes
        .iter()
        .filter_map(|change| match change {
            Change::WaitPut(wait) => Some(wait.kind.as_str()),
            Change::Emit { .. } => Some("emit"),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, ["event", "invoke", "emit"]);
}

#[test]
fn deferred_functions_drive_nothing() {
    let mut case = Case::new();
    case.ops(
        "start",
        json!([{"op": "StepRun", "id": "a", "data": 1}, {"op": "DeferAdd", "id": "d", "opts": {}}]),
    );
    assert!(!case.run.plan_only);
    assert_eq!(case.keys(), keys(["discover:a"]));
}

#[test]
fn the_order_of_completion_is_what_the_app_sees() {
    let mut case = Case::new();
    case.ops("start", plan_two());
    case.ops("step:b", ran("b"));
    case.ops("step:a", ran("a"));
    let Next::Call(call) = dispatched(&case, "discover:a") else {
        panic!("a call")
    };
    assert_eq!(call.stack, [StepId::from("b"), StepId::from("a")]);
    assert_eq!(call.stack_current, 2);
    let ids: Vec<_> = call.steps.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["a", "b"], "members in canonical order");
}
