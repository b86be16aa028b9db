//! Steps one after another, retries, and the ways a run ends.

use std::time::Duration;

use pretty::assert_json;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::domain::{Class, Priority};

mod pretty {
    use serde_json::Value;

    pub(super) fn assert_json(json: Option<&crate::domain::Json>, expected: &Value) {
        assert_eq!(json.map(crate::domain::Json::to_tree).as_ref(), Some(expected));
    }
}

#[test]
fn step_sleep_return() {
    let mut case = Case::new();
    case.ops("start", json!([{"op": "StepRun", "id": "a", "data": {"ok": true}}]));
    assert_eq!(case.keys(), keys(["discover:a"]));
    assert_eq!(case.memo("a").as_deref(), Some(r#"{"data":{"ok":true}}"#));
    assert_eq!(case.run.status, RunStatus::Running);

    case.ops("discover:a", json!([{"op": "Sleep", "id": "b", "name": "30s"}]));
    assert_eq!(case.keys(), keys(["wake:b"]));
    assert_eq!(
        case.jobs[&JobKey::Wake(StepId::from("b"))].due,
        NOW.after(Duration::from_secs(30))
    );

    case.now = NOW.after(Duration::from_secs(30));
    case.give(Input::Woke(StepId::from("b")));
    assert_eq!(
        case.memo("b").as_deref(),
        Some("null"),
        "a sleep's memo is null, present"
    );
    assert_eq!(case.keys(), keys(["discover:b"]));
    let Next::Call(call) = dispatched(&case, "discover:b") else {
        panic!("a call")
    };
    assert_eq!(
        (call.stack_current, call.stack.len(), call.attempt, call.max_attempts),
        (2, 2, 0, 5)
    );
    assert_eq!(call.request_version, 2);
    assert!(!call.plan_only);

    case.returns("discover:b", &json!({"done": 1}));
    assert_eq!(case.run.status, RunStatus::Completed);
    assert_json(case.output.as_ref(), &json!({"done": 1}));
    let [finished] = &case.events[..] else {
        panic!("one event")
    };
    let data = &finished.body.to_tree()["data"];
    assert_eq!(finished.name, "inngest/function.finished");
    assert_eq!(data["result"], json!({"done": 1}));
    assert_eq!(data["function_id"], "shop-charge");
    assert_eq!(data["event"]["data"], json!({"id": 7}));
    assert_eq!(data["_inngest"], json!({"status": "Completed"}));
}

#[test]
fn lifecycle_events_are_canonical() {
    for reason in ["", "a \"quoted\" reason ☂"] {
        let mut case = Case::new();
        case.give(Input::Cancelled(reason.to_owned()));
        for event in &case.events {
            assert_eq!(Json::parse(event.body.as_str()).expect("JSON"), event.body);
        }
    }
}

#[test]
fn a_failed_attempt_is_made_again_until_none_is_left() {
    let mut case = Case::with(function(2), &event(json!({})));
    for (attempt, seconds) in [(1, 15), (2, 30)] {
        case.fails("start", false);
        assert_eq!(case.attempt("start"), attempt);
        assert_eq!(case.jobs[&JobKey::Start].due, NOW.after(Duration::from_secs(seconds)));
        assert_eq!(case.run.status, RunStatus::Running);
    }
    case.fails("start", false);
    assert_eq!(case.run.status, RunStatus::Failed);
    assert_json(
        case.output.as_ref(),
        &json!({"error": "TypeError: boom", "message": "boom", "name": "TypeError"}),
    );
    let names: Vec<_> = case.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["inngest/function.finished", "inngest/function.failed"]);
    assert_eq!(
        case.events[1].external_id,
        case.run.id.to_string(),
        "handlers run once for a run"
    );
    assert_eq!(case.events[1].body.to_tree()["data"]["error"]["message"], "boom");
}

#[test]
fn no_retry_means_no_retry() {
    let mut case = Case::new();
    case.fails("start", true);
    assert_eq!(case.run.status, RunStatus::Failed);
}

#[test]
fn retry_after_replaces_the_table() {
    let mut case = Case::new();
    let failure = Failure::new("Error", "later");
    case.reply(
        "start",
        Reply::Failed {
            failure,
            status: Some(500),
            no_retry: false,
            retry_after: Some("3".to_owned()),
        },
    );
    assert_eq!(case.jobs[&JobKey::Start].due, NOW.after(Duration::from_secs(3)));
}

#[test]
fn each_step_has_its_own_attempts_and_a_failed_one_is_told() {
    let mut case = Case::with(function(1), &event(json!({})));
    let error = json!([{"op": "StepError", "id": "a", "error": {"name": "E", "message": "m", "data": null}}]);
    case.ops("start", error.clone());
    assert_eq!((case.keys(), case.attempt("start")), (keys(["start"]), 1));
    assert_eq!(case.memo("a"), None, "an attempt that failed is no result");
    case.ops("start", error);
    assert_eq!(
        case.memo("a").as_deref(),
        Some(r#"{"error":{"data":null,"message":"m","name":"E"}}"#)
    );
    assert_eq!((case.keys(), case.attempt("discover:a")), (keys(["discover:a"]), 0));
    case.returns("discover:a", &json!("caught"));
    assert_eq!(case.run.status, RunStatus::Completed);
}

#[test]
fn a_step_that_failed_for_good_is_not_tried_again() {
    let mut case = Case::new();
    case.ops(
        "start",
        json!([{"op": "StepFailed", "id": "a", "error": {"name": "E", "message": "m"}}]),
    );
    assert_eq!(
        case.memo("a").as_deref(),
        Some(r#"{"error":{"message":"m","name":"E"}}"#)
    );
    assert_eq!(case.keys(), keys(["discover:a"]));
}

#[test]
fn a_retry_of_a_targeted_call_stays_targeted() {
    let mut case = Case::new();
    case.ops("start", json!([{"op": "StepPlanned", "id": "a"}]));
    assert_eq!(case.keys(), keys(["step:a"]));
    case.ops(
        "step:a",
        json!([{"op": "StepError", "id": "a", "error": {"message": "m"}}]),
    );
    assert_eq!((case.keys(), case.attempt("step:a")), (keys(["step:a"]), 1));
    case.ops("step:a", json!([{"op": "StepRun", "id": "a", "data": 1}]));
    assert_eq!(case.keys(), keys(["discover:a"]));
}

#[test]
fn a_targeted_call_that_fails_for_good_fails_the_run() {
    let mut case = Case::with(function(0), &event(json!({})));
    case.ops("start", json!([{"op": "StepPlanned", "id": "a"}]));
    case.fails("step:a", false);
    assert_eq!(case.run.status, RunStatus::Failed);
}

#[test]
fn the_first_result_of_a_step_wins() {
    let mut case = Case::new();
    case.ops("start", json!([{"op": "StepRun", "id": "a", "data": 1}]));
    case.ops("discover:a", json!([{"op": "StepRun", "id": "a", "data": 2}]));
    assert_eq!(case.memo("a").as_deref(), Some(r#"{"data":1}"#));
    assert_eq!(case.keys(), keys(["discover:a"]), "and the run goes on");
}

#[rstest]
#[case(json!([]))]
#[case(json!([{"op": "None"}]))]
fn a_reply_without_news_is_asked_for_again_with_patience(#[case] ops: Value) {
    let mut case = Case::with(function(1), &event(json!({})));
    case.ops("start", ops.clone());
    assert_eq!((case.keys(), case.attempt("start")), (keys(["start"]), 1));
    case.ops("start", ops);
    assert_eq!(case.run.status, RunStatus::Failed);
}

#[test]
fn run_complete_ends_the_run_and_saves_what_came_with_it() {
    let mut case = Case::new();
    let ops =
        json!([{"op": "StepRun", "id": "a", "data": 1}, {"op": "RunComplete", "id": "complete", "data": {"x": 1}}]);
    case.ops("start", ops);
    assert_eq!(case.run.status, RunStatus::Completed);
    assert_eq!(case.memo("a").as_deref(), Some(r#"{"data":1}"#));
    assert_json(case.output.as_ref(), &json!({"x": 1}));
}

#[test]
fn nothing_happens_after_the_end() {
    let mut case = Case::new();
    let late = case.replied("start", Reply::Returned(Json::null()));
    case.returns("start", &json!(1));
    let events = case.events.len();
    assert!(case.give(Input::Replied(Box::new(late))).is_empty());
    assert!(case.give(Input::Cancelled(String::new())).is_empty());
    assert_eq!((case.events.len(), case.run.status), (events, RunStatus::Completed));
    assert!(matches!(dispatched(&case, "start"), Next::Stale));
}

#[test]
fn a_cancelled_run_says_so_and_has_no_output() {
    let mut case = Case::new();
    case.give(Input::Cancelled("by hand".to_owned()));
    assert_eq!(case.run.status, RunStatus::Cancelled);
    assert_json(case.output.as_ref(), &json!(null));
    let names: Vec<_> = case.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["inngest/function.finished", "inngest/function.cancelled"]);
}

#[test]
fn handlers_of_failures_end_silently() {
    let mut trigger = event(json!({"function_id": "shop-charge"}));
    trigger.name = "inngest/function.failed".to_owned();
    for no_retry in [true, false] {
        let mut case = Case::with(function(0), &trigger);
        if no_retry {
            case.fails("start", true);
        } else {
            case.returns("start", &json!(null));
        }
        assert!(case.run.status.is_final());
        assert!(
            case.events.is_empty(),
            "or a handler that fails would call itself for ever"
        );
    }
}

#[test]
fn too_many_steps_fail_the_run_at_once() {
    let mut case = Case::new();
    let mut key = "start".to_owned();
    for n in 0..crate::domain::limits::STEPS_PER_RUN {
        case.ops(&key, json!([{"op": "StepRun", "id": format!("s{n}"), "data": null}]));
        key = format!("discover:s{n}");
    }
    let Next::Decide(input @ Input::Overflowed) = dispatched(&case, &key) else {
        panic!("an overflow")
    };
    case.give(input);
    assert_eq!(case.run.status, RunStatus::Failed);
    let error = &case.output.expect("an output").to_tree()["error"];
    assert_eq!(error["name"], "InngestErrFunctionOverflowed");
    assert_eq!(
        error["message"],
        "The function run exceeded the step limit of 1000 steps."
    );
}

#[test]
fn too_much_state_fails_the_run_at_once() {
    let mut case = Case::new();
    let mut key = "start".to_owned();
    let big = "x".repeat(4 * 1024 * 1024 - 100);
    for n in 0..9 {
        if case.run.status.is_final() {
            break;
        }
        case.ops(&key, json!([{"op": "StepRun", "id": format!("s{n}"), "data": big}]));
        key = format!("discover:s{n}");
    }
    assert_eq!(case.run.status, RunStatus::Failed);
    assert_json(
        case.output.as_ref(),
        &json!({"error": {
            "error": "InngestErrStateOverflowed: The function run exceeded the state size limit of 33554432 bytes.",
            "message": "The function run exceeded the state size limit of 33554432 bytes.",
            "name": "InngestErrStateOverflowed",
        }}),
    );
}

#[test]
fn an_event_of_the_future_starts_its_run_then() {
    let later = NOW.after(Duration::from_secs(3600));
    let incoming = serde_json::from_value(json!({"name": "a", "ts": later.as_millis()})).expect("an event");
    let event = Event::accept(incoming, EventId::new(NOW, 7), NOW).expect("valid");
    assert_eq!(start(&function(0), &event, NOW).expect("starts").job.due, later);
}

#[test]
fn the_reply_of_an_attempt_that_somebody_else_has_done_changes_nothing() {
    let failed = || Reply::Failed {
        failure: Failure::new("TypeError", "boom"),
        status: Some(500),
        no_retry: true,
        retry_after: None,
    };
    let mut case = Case::new();
    let late = case.replied("start", failed());
    case.ops("start", json!([{"op": "StepRun", "id": "a", "data": 1}]));
    let before = case.run.clone();
    assert_eq!(case.give(Input::Replied(Box::new(late))), [], "the job is done");
    assert_eq!(case.run, before);

    let late = case.replied("discover:a", failed());
    case.fails("discover:a", false);
    let before = case.run.clone();
    assert_eq!(case.give(Input::Replied(Box::new(late))), [], "the next attempt is due");
    assert_eq!(case.run, before);
    case.returns("discover:a", &json!("done"));
    assert_eq!(case.run.status, RunStatus::Completed);
}

#[test]
fn a_job_of_an_earlier_attempt_is_stale() {
    let mut case = Case::new();
    let first = job_of(&case, "start");
    case.fails("start", false);
    let next = |job| dispatch(&case.run, &case.function, job, RequestId::first_at(case.now), 1);
    assert!(matches!(next(&first), Next::Stale));
    assert!(matches!(next(&job_of(&case, "start")), Next::Call(_)));
}

#[test]
fn a_run_has_the_head_start_its_function_asks_for() {
    let with = |source: &str| {
        let mut function = function(1);
        function.flow.priority = Some(source.to_owned());
        Case::with(function, &event(json!({"plan": "pro", "ahead": 7})))
            .run
            .priority
    };
    assert_eq!(
        with("event.data.plan == 'pro' ? 120 : 0"),
        Priority::new(Class::High, 120)
    );
    assert_eq!(with("event.data.ahead"), Priority::new(Class::High, 7));
    assert_eq!(with("event.data.plan"), Priority::new(Class::High, 0), "no number");
    assert_eq!(
        with("-100000000"),
        Priority::new(Class::High, i64::MIN),
        "within bounds"
    );
    let mut case = Case::new();
    case.run.priority = Priority::new(Class::Low, 5);
    case.ops("start", json!([{"op": "StepRun", "id": "a", "data": 1}]));
    assert_eq!(job_of(&case, "discover:a").priority, Priority::new(Class::Low, 5));
}

/// No SDK sends this; a wait that nothing ends would hold the run for ever.
#[test]
fn the_first_word_on_a_step_counts_if_a_reply_has_several() {
    let invoke = json!({"op": "InvokeFunction", "id": "a", "opts": {"function_id": "f", "payload": {}}});
    let run = json!({"op": "StepRun", "id": "a", "data": 1});
    let sleep = json!({"op": "Sleep", "id": "a", "name": "1h"});
    let wait = json!({"op": "WaitForEvent", "id": "a", "name": "paid", "opts": {"timeout": "1h"}});
    let mut case = Case::new();
    let waits = |changes: &[Change]| {
        changes
            .iter()
            .filter(|change| matches!(change, Change::WaitPut(_)))
            .count()
    };
    let changes = case.reply("start", steps(2, &json!([run, invoke, run])));
    assert_eq!((case.keys(), waits(&changes)), (keys(["discover:a"]), 0));
    let mut case = Case::new();
    let changes = case.reply("start", steps(2, &json!([wait, sleep, wait])));
    assert_eq!((case.keys(), waits(&changes)), (keys(["timeout:a"]), 1));
}
