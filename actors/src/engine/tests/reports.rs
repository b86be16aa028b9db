//! Reports of calls under way: what is recorded, what is refused, and how attempts count.

use super::*;
use crate::domain::ReportRefused;

fn call(case: &Case, key: &str, request: u128) -> CallRef {
    CallRef::new(&job_of(case, key), RequestId::new(case.now, request))
}

fn report(call: &CallRef, ids: &[&str]) -> Input {
    let ops: Vec<_> = ids
        .iter()
        .map(|id| json!({"op": "StepRun", "id": id, "data": id, "timing": {"a": 5_000_000, "b": 2_000_000}}))
        .collect();
    Input::Reported(Box::new(Report {
        call: call.clone(),
        ops: Opcode::parse_reply(json!(ops).to_string().as_bytes()).expect("valid opcodes"),
    }))
}

/// The reply of this call.
fn reply(case: &mut Case, call: &CallRef, reply: Reply) -> Vec<Change> {
    let mut replied = case.replied(&call.job.to_string(), reply);
    replied.job.attempt = call.attempt;
    replied.request = call.request;
    case.give(Input::Replied(Box::new(replied)))
}

fn failed(no_retry: bool) -> Reply {
    Reply::Failed {
        failure: Failure::new("E", "m"),
        status: Some(500),
        no_retry,
        retry_after: None,
    }
}

fn done(case: &Case) -> Vec<&str> {
    case.run.stack.iter().map(StepId::as_str).collect()
}

#[test]
fn a_report_records_steps_with_their_own_times_and_the_call_goes_on() {
    let mut case = Case::new();
    let first = call(&case, "start", 1);
    let changes = case.give(report(&first, &["a", "b"]));
    assert_eq!(done(&case), ["a", "b"]);
    assert_eq!(case.memo("a").as_deref(), Some(r#"{"data":"a"}"#));
    assert_eq!(case.keys(), keys(["start"]), "nobody is asked what comes next");
    assert_eq!(case.run.status, RunStatus::Running);
    let of_step = changes.iter().find_map(|change| match change {
        Change::Noted(entry) if entry.kind == HistoryKind::StepCompleted => entry.detail.clone(),
        _ => None,
    });
    let detail = of_step.expect("it is noted").to_tree();
    assert_eq!((&detail["started_at"], &detail["ended_at"]), (&json!(5), &json!(7)));
    assert_eq!(case.give(report(&first, &["b", "a"])), [], "known already");
    case.give(report(&first, &["a", "c"]));
    assert_eq!(done(&case), ["a", "b", "c"]);
    reply(
        &mut case,
        &first,
        steps(
            2,
            &json!([{"op": "StepRun", "id": "c"}, {"op": "RunComplete", "data": 5}]),
        ),
    );
    assert_eq!(case.output.map(|output| output.to_string()).as_deref(), Some("5"));
}

#[test]
fn a_reply_that_repeats_what_was_reported_leads_on() {
    let mut case = Case::new();
    let first = call(&case, "start", 1);
    case.give(report(&first, &["a"]));
    reply(&mut case, &first, steps(2, &json!([{"op": "StepRun", "id": "a"}])));
    assert_eq!(case.keys(), keys(["discover:a"]), "and is no failed attempt");
}

#[test]
fn attempts_count_from_the_last_report_on() {
    let mut case = Case::new();
    for round in 0..10 {
        let now = call(&case, "start", round);
        case.give(report(&now, &[&format!("s{round}")]));
        reply(&mut case, &now, failed(false));
        assert_eq!(
            case.run.status,
            RunStatus::Running,
            "after ten failures, each with progress before it"
        );
        assert_eq!(
            case.attempt("start"),
            u32::try_from(round).expect("few") + 1,
            "they only go up"
        );
        let Next::Call(next) = dispatched(&case, "start") else {
            panic!("a call")
        };
        assert_eq!(next.attempt, 1, "what the app is told");
    }
    // Five attempts without progress: the one that was reported in, and four more.
    for _ in 0..4 {
        assert_eq!(case.run.status, RunStatus::Running);
        let now = call(&case, "start", 99);
        reply(&mut case, &now, failed(false));
    }
    assert_eq!(case.run.status, RunStatus::Failed);
}

#[test]
fn only_the_current_attempt_reports() {
    let mut case = Case::new();
    let zombie = call(&case, "start", 1);
    case.give(report(&zombie, &["a"]));
    reply(&mut case, &zombie, failed(false));
    let Input::Reported(late) = report(&zombie, &["b"]) else {
        panic!()
    };
    assert_eq!(refusal(&case.run, &late), Some(ReportRefused::Stale));
    assert_eq!(case.give(Input::Reported(late)), []);
    let now = call(&case, "start", 2);
    case.give(report(&now, &["b"]));
    assert_eq!(done(&case), ["a", "b"]);
}

#[test]
fn a_second_call_of_an_attempt_takes_the_place_of_one_that_has_reported() {
    let mut case = Case::new();
    let (first, second) = (call(&case, "start", 1), call(&case, "start", 2));
    case.give(report(&first, &["a"]));
    // A job that is handed out again: the first call may have been lost, or not.
    let again = |case: &Case| dispatch(&case.run, &case.function, &job_of(case, "start"), second.request, 2);
    let Next::Decide(input) = again(&case) else {
        panic!("it is announced first")
    };
    assert_eq!(input, Input::Superseded(second.clone()));
    case.give(input);
    let Next::Call(made) = again(&case) else {
        panic!("a call")
    };
    assert_eq!((made.stack.len(), made.ticket.call.clone()), (1, second.clone()));
    assert_eq!(case.give(report(&first, &["b"])), [], "it counts no more");
    let rejected = steps(2, &json!([{"op": "StepRun", "id": "b"}]));
    assert_eq!(reply(&mut case, &first, rejected), [], "nor does its answer");
    assert_eq!(reply(&mut case, &first, failed(true)), []);
    case.give(report(&second, &["b"]));
    reply(&mut case, &second, Reply::Returned(Json::null()));
    assert_eq!((done(&case), case.run.status), (vec!["a", "b"], RunStatus::Completed));
}

#[test]
fn the_newer_of_two_calls_is_heard_even_if_the_older_was_first_to_report() {
    let mut case = Case::new();
    let (first, second) = (call(&case, "start", 1), call(&case, "start", 2));
    case.give(report(&first, &["a"]));
    case.give(report(&second, &["b"]));
    case.give(report(&first, &["c"]));
    assert_eq!(done(&case), ["a", "b"]);
}

#[test]
fn steps_that_come_together_are_followed_by_one_call() {
    for version in [1, 2] {
        let mut case = Case::new();
        let buffered = json!([{"op": "StepRun", "id": "a"}, {"op": "StepRun", "id": "b"}]);
        case.reply("start", steps(version, &buffered));
        assert_eq!(case.keys(), keys(["discover:b"]));
        assert_eq!(case.run.plan_only, version == 1);
    }
}

#[test]
fn a_step_that_failed_beside_others_is_tried_again_after_its_time_only() {
    let mut case = Case::new();
    let mixed = json!([{"op": "StepRun", "id": "a"}, {"op": "StepError", "id": "b", "error": {"message": "m"}}]);
    case.ops("start", mixed);
    assert_eq!(case.keys(), keys(["start"]));
    assert_eq!((case.attempt("start"), case.run.plan_only), (1, false));
    assert!(case.jobs[&JobKey::Start].due > case.now);
    assert_eq!(done(&case), ["a"]);
}

#[test]
fn a_run_ends_that_reports_more_steps_than_it_may_have() {
    let mut case = Case::new();
    let now = call(&case, "start", 1);
    let ids: Vec<String> = (0..crate::domain::limits::STEPS_PER_RUN)
        .map(|n| n.to_string())
        .collect();
    case.give(report(&now, &ids.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(case.run.status, RunStatus::Running);
    case.give(report(&now, &["one more"]));
    assert_eq!(case.run.status, RunStatus::Failed);
}

#[test]
fn what_does_not_fit_is_refused_whole() {
    let mut case = Case::new();
    let now = call(&case, "start", 1);
    let large = "x".repeat(4 * 1024 * 1024 - 100);
    let ops: Vec<_> = (0..9)
        .map(|n| json!({"op": "StepRun", "id": n.to_string(), "data": large}))
        .collect();
    let too_much = Report {
        call: now,
        ops: Opcode::parse_reply(json!(ops).to_string().as_bytes()).expect("valid opcodes"),
    };
    assert_eq!(refusal(&case.run, &too_much), Some(ReportRefused::TooLarge));
    assert_eq!(case.give(Input::Reported(Box::new(too_much))), []);
}

#[test]
fn a_call_with_another_result_than_is_recorded_does_not_go_on() {
    let mut case = Case::new();
    let (first, second) = (call(&case, "start", 1), call(&case, "start", 2));
    case.give(report(&first, &["a"]));
    let other = Report {
        call: second.clone(),
        ops: Opcode::parse_reply(br#"[{"op": "StepRun", "id": "a", "data": "other"}]"#).expect("valid opcodes"),
    };
    assert!(contradicts(&case.run, &other));
    case.give(Input::Reported(Box::new(other.clone())));
    assert_eq!(case.memo("a").as_deref(), Some(r#"{"data":"a"}"#), "P3");
    for late in [first, second] {
        let Input::Reported(late) = report(&late, &["b"]) else {
            panic!()
        };
        assert_eq!(refusal(&case.run, &late), Some(ReportRefused::Stale));
    }
    assert_eq!((case.attempt("start"), job_of(&case, "start").due), (1, case.now));
    let request = RequestId::new(case.now, 3);
    let next = dispatch(&case.run, &case.function, &job_of(&case, "start"), request, 3);
    let Next::Decide(input) = next else {
        panic!("it is announced")
    };
    case.give(input);
    let next = dispatch(&case.run, &case.function, &job_of(&case, "start"), request, 3);
    let Next::Call(again) = next else { panic!("a call") };
    assert_eq!((again.attempt, again.stack.len()), (0, 1));
}
