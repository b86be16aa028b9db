//! Jobs that are given up, and what becomes of the runs they hold.

use serde_json::json;

use super::*;

/// Gives a job of the run up; answers the letter.
fn bury(case: &mut Case, key: &str) -> LetterId {
    let job = job_of(case, key);
    case.give(Input::Poisoned(Box::new(job), "it panicked".to_owned()));
    case.run.held[&key.parse().expect("a job key")].id
}

fn history(changes: &[Change]) -> Vec<HistoryKind> {
    let noted = changes.iter().filter_map(|change| match change {
        Change::Noted(entry) => Some(entry.kind),
        _ => None,
    });
    noted.collect()
}

#[test]
fn a_job_that_is_given_up_holds_its_run() {
    let mut case = Case::new();
    case.fails("start", false);
    let job = job_of(&case, "start");
    let changes = case.give(Input::Poisoned(Box::new(job.clone()), "it panicked".to_owned()));
    assert_eq!(history(&changes), [HistoryKind::JobBuried]);
    let letter = &case.run.held[&JobKey::Start];
    assert_eq!((&letter.job, letter.reason.as_str()), (&job, "it panicked"));
    assert_eq!(letter.at(), case.now);
    assert_eq!(case.keys(), keys([]));
    assert!(!case.run.status.is_final() && case.events.is_empty());
    assert!(
        matches!(dispatched(&case, "start"), Next::Stale),
        "nobody does it any more"
    );
}

#[test]
fn a_job_that_somebody_has_done_is_not_given_up() {
    let mut case = Case::new();
    let job = job_of(&case, "start");
    case.ops("start", json!([{"op": "StepRun", "id": "a", "data": 1}]));
    assert_eq!(case.give(Input::Poisoned(Box::new(job), "late".to_owned())), []);
    let mut earlier = Case::new();
    let job = job_of(&earlier, "start");
    earlier.fails("start", false);
    assert_eq!(earlier.give(Input::Poisoned(Box::new(job), "late".to_owned())), []);
}

#[test]
fn the_other_jobs_of_a_held_run_go_on() {
    let mut case = Case::new();
    let plans = json!([{"op": "StepPlanned", "id": "a"}, {"op": "StepPlanned", "id": "b"}]);
    case.ops("start", plans);
    bury(&mut case, "step:a");
    case.ops("step:b", json!([{"op": "StepRun", "id": "b", "data": 2}]));
    assert_eq!(case.memo("b").as_deref(), Some(r#"{"data":2}"#));
    assert_eq!(case.keys(), keys([]), "its group waits for the held one");
    assert_eq!(case.run.held.len(), 1);
}

#[test]
fn a_revived_job_goes_on_where_it_was() {
    let mut case = Case::new();
    case.ops("start", json!([{"op": "StepRun", "id": "a", "data": 1}]));
    case.fails("discover:a", false);
    let letter = bury(&mut case, "discover:a");
    case.now = case.now.after(std::time::Duration::from_secs(3_600));
    let changes = case.give(Input::Revived(letter));
    assert_eq!(history(&changes), [HistoryKind::JobRevived]);
    assert!(case.run.held.is_empty());
    let job = job_of(&case, "discover:a");
    assert_eq!((job.attempt, job.due), (1, case.now), "due now, in the same attempt");
    let Next::Call(call) = dispatched(&case, "discover:a") else {
        panic!("a call")
    };
    assert_eq!(call.steps.len(), 1, "with the memos it had (P3)");
    assert_eq!(case.give(Input::Revived(letter)), [], "once");
    assert_eq!(case.give(Input::Discarded(letter)), [], "and not discarded after");
    case.returns("discover:a", &json!("done"));
    assert_eq!(case.run.status, RunStatus::Completed);
}

#[test]
fn a_revived_job_has_what_it_carried() {
    let mut case = Case::new();
    case.ops(
        "start",
        json!([{"op": "WaitForEvent", "id": "w", "name": "x", "opts": {"timeout": "1h"}}]),
    );
    let key = JobKey::Resume(StepId::from("w"));
    let resume = Job {
        id: JobId {
            run: case.run.id,
            key: key.clone(),
        },
        payload: Json::from_value(&json!({"name": "x"})).ok(),
        ..job_of(&case, "timeout:w")
    };
    // As the router does.
    case.run.jobs.insert(key.clone(), 0);
    case.jobs.insert(key, resume.clone());
    let letter = bury(&mut case, "resume:w");
    case.give(Input::TimedOut(StepId::from("w")));
    assert_eq!(case.memo("w"), None, "it has come: nobody says that it has not");
    assert_eq!(case.keys(), keys([]));
    case.give(Input::Revived(letter));
    assert_eq!(job_of(&case, "resume:w").payload, resume.payload);
    let Next::Decide(input) = dispatched(&case, "resume:w") else {
        panic!("a decision")
    };
    case.give(input);
    assert_eq!(case.memo("w").as_deref(), Some(r#"{"name":"x"}"#));
}

#[test]
fn discarding_fails_the_run_with_the_reason() {
    let mut case = Case::new();
    case.listens = true;
    case.ops(
        "start",
        json!([{"op": "Sleep", "id": "s", "name": "1h"}, {"op": "StepPlanned", "id": "a"}]),
    );
    let letter = bury(&mut case, "step:a");
    case.give(Input::Discarded(letter));
    assert_eq!(case.run.status, RunStatus::Failed);
    let output = case.output.as_ref().expect("an output").to_tree();
    assert_eq!(
        (&output["name"], &output["message"]),
        (&json!("PoisonousJob"), &json!("it panicked"))
    );
    let names: Vec<_> = case.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["inngest/function.finished", "inngest/function.failed"]);
    assert!(case.run.held.is_empty());
}

#[test]
fn what_ends_the_run_otherwise_ends_the_hold() {
    let mut case = Case::new();
    let letter = bury(&mut case, "start");
    case.give(Input::Cancelled("enough".to_owned()));
    assert_eq!(case.run.status, RunStatus::Cancelled);
    assert!(case.run.held.is_empty());
    assert_eq!(case.give(Input::Revived(letter)), []);
}

#[test]
fn a_step_that_is_done_after_all_holds_nothing() {
    let mut case = Case::new();
    let plans =
        json!([{"op": "StepPlanned", "id": "a"}, {"op": "StepPlanned", "id": "b", "opts": {"parallelMode": "race"}}]);
    case.ops("start", plans);
    bury(&mut case, "step:a");
    case.ops("step:b", json!([{"op": "StepRun", "id": "b", "data": 2}]));
    case.ops("discover:b", json!([{"op": "StepRun", "id": "a", "data": 1}]));
    assert!(case.run.held.is_empty());
    assert_eq!(case.memo("a").as_deref(), Some(r#"{"data":1}"#));
}

#[test]
fn a_job_that_is_given_up_again_has_another_letter() {
    let mut case = Case::new();
    let first = bury(&mut case, "start");
    case.give(Input::Revived(first));
    let second = bury(&mut case, "start");
    assert_ne!(first, second);
    assert_eq!(case.give(Input::Revived(first)), []);
}
