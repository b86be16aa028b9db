//! Waits for events, signals and other runs; sleeps and their operands; requests made for the app.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::domain::{FetchFailure, FetchResponse, Resumption, Wait, WaitKind};

/// What the event `cause()` brings.
fn brought(memo: Json) -> Resumption {
    Resumption {
        memo,
        event: Some(cause()),
    }
}

fn cause() -> EventId {
    EventId::new(NOW, 5)
}

/// The particulars of the line of history of this kind.
fn detail_of(changes: &[Change], kind: HistoryKind) -> Value {
    let noted = changes.iter().find_map(|change| match change {
        Change::Noted(entry) if entry.kind == kind => entry.detail.clone(),
        _ => None,
    });
    noted.expect("is noted, with particulars").to_tree()
}

fn wait_of(changes: &[Change]) -> Wait {
    changes
        .iter()
        .find_map(|change| match change {
            Change::WaitPut(wait) => Some(wait.clone()),
            _ => None,
        })
        .expect("a wait")
}

#[test]
fn a_wait_is_bound_to_its_runs_event_and_indexed() {
    let mut case = Case::new();
    let op = json!([{"op": "WaitForEvent", "id": "w", "name": "shop/picked",
        "opts": {"timeout": "1h", "if": "event.data.id == async.data.id"}}]);
    let wait = wait_of(&case.ops("start", op));
    assert_eq!((wait.kind, wait.name.as_str()), (WaitKind::Event, "shop/picked"));
    assert_eq!(wait.expires_at, NOW.after(Duration::from_secs(3600)));
    let lookup = wait.lookup.expect("an index");
    assert_eq!(lookup.path, "data.id");
    assert_eq!(
        lookup.key,
        crate::expression::Equality::key_of(&json!({"data": {"id": 7.0}}), "data.id")
    );
    assert!(!wait.condition.expect("a condition").contains("event."));
    assert_eq!(case.keys(), keys(["timeout:w"]));
}

#[test]
fn the_event_itself_is_the_memo_and_the_timeout_goes() {
    let mut case = Case::new();
    case.ops(
        "start",
        json!([{"op": "WaitForEvent", "id": "w", "name": "x", "opts": {"timeout": "1h"}}]),
    );
    let memo = Json::parse(r#"{"name":"x","data":{},"id":"1","ts":1,"user":{}}"#).expect("JSON");
    let changes = case.give(Input::Resumed(StepId::from("w"), brought(memo.clone())));
    assert_eq!(case.memo("w"), Some(memo.to_string()));
    assert_eq!(
        detail_of(&changes, HistoryKind::StepCompleted)["event_id"],
        json!(cause())
    );
    assert_eq!(case.keys(), keys(["discover:w"]));
    assert!(
        case.give(Input::TimedOut(StepId::from("w"))).is_empty(),
        "the second to come finds nothing to do"
    );
}

#[test]
fn a_wait_that_times_out_is_null() {
    let mut case = Case::new();
    case.ops(
        "start",
        json!([{"op": "WaitForEvent", "id": "w", "name": "x", "opts": {"timeout": ""}}]),
    );
    assert_eq!(
        case.jobs[&JobKey::Timeout(StepId::from("w"))].due,
        NOW,
        "no text, no patience"
    );
    case.give(Input::TimedOut(StepId::from("w")));
    assert_eq!(case.memo("w").as_deref(), Some("null"));
    case.give(Input::Resumed(
        StepId::from("w"),
        brought(Json::parse("{}").expect("JSON")),
    ));
    assert_eq!(case.memo("w").as_deref(), Some("null"), "recorded once");
}

#[test]
fn a_condition_that_does_not_compile_fails_the_run() {
    let mut case = Case::new();
    case.ops(
        "start",
        json!([{"op": "WaitForEvent", "id": "w", "name": "x", "opts": {"timeout": "1h", "if": "event.data ==="}}]),
    );
    assert_eq!(case.run.status, RunStatus::Failed);
    let error = &case.output.expect("an output").to_tree()["error"];
    assert_eq!(
        error["error"],
        "InvalidExpression: Wait for event If expression failed to compile"
    );
    assert_eq!(error["name"], "InvalidExpression");
    assert!(
        error["stack"]
            .as_str()
            .is_some_and(|stack| stack.starts_with("error compiling expression: ERROR: <input>:1:"))
    );
}

#[rstest]
#[case("Sleep", json!({"duration": "400d"}))]
#[case("WaitForEvent", json!({"event": "x", "timeout": "400d"}))]
fn a_wait_of_more_than_a_year_fails_the_run(#[case] op: &str, #[case] opts: Value) {
    let mut case = Case::new();
    case.ops("start", json!([{"op": op, "id": "w", "opts": opts}]));
    assert_eq!(case.run.status, RunStatus::Failed);
    assert_eq!(
        case.output.expect("an output").to_tree()["error"]["name"],
        "InngestErrTimeoutTooLong"
    );
}

#[rstest]
#[case("", 0)]
#[case("1d2h", 26 * 3_600_000)]
#[case("500ms", 500)]
#[case("2025-06-15T15:06:50.000Z", 10_000)]
#[case("2020-01-01T00:00:00.000Z", 0)]
fn sleeps(#[case] operand: &str, #[case] millis: u64) {
    let mut case = Case::new();
    case.ops("start", json!([{"op": "Sleep", "id": "s", "name": operand}]));
    assert_eq!(
        case.jobs[&JobKey::Wake(StepId::from("s"))].due,
        NOW.after(Duration::from_millis(millis))
    );
}

#[test]
fn an_operand_that_makes_no_sense_is_a_failed_attempt_of_the_whole_reply() {
    let mut case = Case::new();
    case.ops(
        "start",
        json!([{"op": "StepRun", "id": "a", "data": 1}, {"op": "Sleep", "id": "s", "name": "a while"}]),
    );
    assert_eq!((case.keys(), case.attempt("start")), (keys(["start"]), 1));
    assert_eq!(case.memo("a"), None, "nothing of it has happened");
}

#[test]
fn an_invoke_emits_its_event_once_and_waits_for_the_answer() {
    let mut case = Case::new();
    let op = json!([{"op": "InvokeFunction", "id": "i", "displayName": "ask",
        "opts": {"function_id": "shop-other", "payload": {"data": {"q": 1}, "v": "2"}, "timeout": null}}]);
    let wait = wait_of(&case.ops("start", op));
    let [event] = &case.events[..] else { panic!("one event") };
    let body = event.body.to_tree();
    let correlation = format!("{}.i", case.run.id);
    assert_eq!(event.name, "inngest/function.invoked");
    assert_eq!((&body["data"]["q"], &body["v"]), (&json!(1), &json!("2")));
    assert_eq!(body["data"]["_inngest"]["fn_id"], "shop-other");
    assert_eq!(body["data"]["_inngest"]["correlation_id"], correlation.as_str());
    assert_eq!(wait.lookup, Some(invoke_key(&correlation)));
    assert_eq!(wait.expires_at, NOW.after(crate::domain::limits::DEFAULT_WAIT));
    let memo = Json::parse(r#"{"error":{"name":"E","message":"m"}}"#).expect("JSON");
    case.give(Input::Resumed(StepId::from("i"), brought(memo)));
    let StepState::Done { failed, .. } = case.run.steps[&StepId::from("i")].state else {
        panic!("done")
    };
    assert!(failed);
}

#[test]
fn an_invoke_that_times_out_is_an_error() {
    let mut case = Case::new();
    case.ops(
        "start",
        json!([{"op": "InvokeFunction", "id": "i", "opts": {"function_id": "f", "timeout": "1s"}}]),
    );
    case.give(Input::TimedOut(StepId::from("i")));
    let memo: Value = serde_json::from_str(&case.memo("i").expect("a memo")).expect("JSON");
    assert_eq!(memo["error"]["name"], "InngestInvokeTimeoutError");
    assert_eq!(
        memo["error"]["message"],
        "Timed out waiting for invoked function to complete"
    );
}

#[test]
fn an_invoked_run_answers_to_its_invoker() {
    let own = json!({"fn_id": "shop-charge", "correlation_id": "01ABC.step"});
    let id = EventId::new(NOW, 9);
    let event = invoked_event(&serde_json::Map::new(), own, id, NOW).expect("an event");
    let mut case = Case::with(function(0), &event);
    case.returns("start", &json!(5));
    assert_eq!(case.events[0].body.to_tree()["data"]["correlation_id"], "01ABC.step");
}

#[test]
fn a_signal_that_somebody_waits_for_is_a_conflict_unless_replaced() {
    let op = |conflict: &str| json!([{"op": "WaitForSignal", "id": "s", "opts": {"signal": "task/1", "conflict": conflict}}]);
    let with = |conflict: &str| {
        let mut case = Case::new();
        let mut replied = case.replied("start", steps(2, &op(conflict)));
        replied.signals_taken.insert("task/1".to_owned());
        case.give(Input::Replied(Box::new(replied)));
        case
    };
    let failed = with("fail");
    assert_eq!(failed.run.status, RunStatus::Failed);
    let message = &failed.output.expect("an output").to_tree()["error"]["message"];
    assert_eq!(message, "Signal conflict; signal wait already exists for another run");
    assert_eq!(with("replace").keys(), keys(["timeout:s"]));
}

#[rstest]
#[case("Gateway")]
#[case("AIGateway")]
fn a_request_is_recorded_or_tried_again(#[case] op: &str) {
    let ops = json!([{"op": op, "id": "g", "opts": {"url": "http://127.0.0.1/"}}]);
    let memo = Json::parse(r#"{"data":{"status_code":200}}"#).expect("JSON");
    let mut case = Case::with(function(1), &event(json!({})));
    let answer = |case: &mut Case, outcome| {
        let mut replied = case.replied("start", steps(2, &ops));
        replied.fetched.insert(StepId::from("g"), outcome);
        case.give(Input::Replied(Box::new(replied)))
    };
    let failure = Failure::new("GatewayError", "nobody there");
    answer(
        &mut case,
        Err(FetchFailure {
            failure: failure.clone(),
        }),
    );
    assert_eq!((case.keys(), case.attempt("start")), (keys(["start"]), 1));
    let mut other = Case {
        jobs: case.jobs.clone(),
        run: case.run.clone(),
        ..Case::with(function(1), &event(json!({})))
    };
    answer(
        &mut case,
        Ok(FetchResponse {
            memo: memo.clone(),
            at: NOW,
        }),
    );
    assert_eq!(case.memo("g"), Some(memo.to_string()));
    answer(&mut other, Err(FetchFailure { failure }));
    assert_eq!(
        other.memo("g").as_deref(),
        Some(r#"{"error":{"message":"nobody there","name":"GatewayError"}}"#)
    );
    assert_eq!(other.keys(), keys(["discover:g"]), "the function may catch it");
}

/// An event named `x` with this number, received so long after the run was created.
fn came(n: u64, after: Duration) -> Event {
    let incoming = serde_json::from_value(json!({"name": "x", "data": {"id": 7, "n": n}})).expect("an event");
    let at = NOW.after(after);
    Event::accept(incoming, EventId::new(at, u128::from(n)), at).expect("valid")
}

fn searched(case: &Case, key: &str) -> Search {
    match dispatched(case, key) {
        Next::Search(search) => *search,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wait_that_looks_back_looks_before_it_waits() {
    let mut case = Case::new();
    case.look_back = Some(Duration::from_secs(60));
    case.now = NOW.after(Duration::from_secs(90));
    let op = json!([{"op": "WaitForEvent", "id": "w", "name": "x",
        "opts": {"timeout": "1h", "if": "event.data.id == async.data.id && async.data.n > 1"}}]);
    let wait = wait_of(&case.ops("start", op));
    assert_eq!(case.jobs[&JobKey::Timeout(StepId::from("w"))].due, case.now);
    let search = searched(&case, "timeout:w");
    assert_eq!((search.name.as_str(), search.until), ("x", wait.expires_at));
    assert_eq!(search.from, NOW.after(Duration::from_secs(30)));
    let fits = |event: &Event| search.fits(event, case.now);
    assert!(!fits(&came(1, Duration::from_secs(80))), "the condition");
    assert!(fits(&came(2, Duration::from_secs(80))));
    let other = Event {
        id: case.run.event_ids[0],
        ..came(2, Duration::from_secs(80))
    };
    assert!(!fits(&other), "what started the run");

    // Nothing is there: the same job waits for the end of the wait's patience.
    case.give(Input::Looked(StepId::from("w"), None));
    assert_eq!(case.jobs[&JobKey::Timeout(StepId::from("w"))].due, wait.expires_at);
    assert!(matches!(
        dispatched(&case, "timeout:w"),
        Next::Decide(Input::TimedOut(_))
    ));
}

#[test]
fn what_is_found_ends_the_wait_unless_a_later_event_has() {
    let event = came(2, Duration::ZERO);
    let wait = || {
        let mut case = Case::new();
        case.look_back = Some(Duration::from_secs(60));
        case.ops(
            "start",
            json!([{"op": "WaitForEvent", "id": "w", "name": "x", "opts": {"timeout": "1h"}}]),
        );
        case
    };
    let found = || Input::Looked(StepId::from("w"), Some(Resumption::by(&event)));
    let mut case = wait();
    let changes = case.give(found());
    assert_eq!(case.memo("w"), Some(event.body.to_string()));
    assert!(changes.iter().any(|change| matches!(change, Change::WaitDone(_))));
    assert_eq!(case.keys(), keys(["discover:w"]));
    assert!(case.give(found()).is_empty(), "once");

    let mut case = wait();
    let resume = JobKey::Resume(StepId::from("w"));
    case.run.jobs.insert(resume.clone(), 0);
    case.give(found());
    assert!(case.memo("w").is_none(), "what the router has brought is on its way");
    assert!(case.run.jobs.contains_key(&resume));
}

#[test]
fn who_waits_for_one_event_after_another_gets_one_after_another() {
    let (first, second) = (came(1, Duration::ZERO), came(2, Duration::ZERO));
    let wait = |id: &str| json!({"op": "WaitForEvent", "id": id, "name": "x", "opts": {"timeout": "1h"}});
    let mut case = Case::new();
    case.look_back = Some(Duration::from_secs(60));
    case.ops("start", json!([wait("a"), wait("b")]));
    case.give(Input::Looked(StepId::from("a"), Some(Resumption::by(&first))));
    assert!(
        searched(&case, "timeout:b").fits(&first, NOW),
        "two at once get the same"
    );
    case.give(Input::Looked(StepId::from("b"), Some(Resumption::by(&first))));
    case.ops("discover:b", json!([wait("c")]));
    let search = searched(&case, "timeout:c");
    assert!(!search.fits(&first, NOW) && search.fits(&second, NOW));
}

#[test]
fn a_step_that_runs_although_it_was_waited_for_leaves_no_wait_behind() {
    let mut case = Case::new();
    let wait = json!({"op": "WaitForEvent", "id": "w", "name": "x", "opts": {"timeout": "1h"}});
    let nap = json!({"op": "Sleep", "id": "s", "name": "1h"});
    case.ops(
        "start",
        json!([wait, nap, {"op": "StepPlanned", "id": "a", "name": "a"}]),
    );
    let changes = case.ops(
        "step:a",
        json!([{"op": "StepRun", "id": "a", "data": 1}, {"op": "StepRun", "id": "w", "data": 2},
            {"op": "StepRun", "id": "s", "data": 3}]),
    );
    let is_over = |change: &&Change| matches!(change, Change::WaitDone(key) if key.to_string() == "step:w");
    assert_eq!(changes.iter().filter(is_over).count(), 1, "{changes:?}");
    assert_eq!(case.keys(), keys(["discover:s"]));
}
