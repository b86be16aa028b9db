//! Deadlines: when a run is cancelled for them, and when it is not.

use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::domain::Timeouts;

fn timed(start: Option<u64>, finish: Option<u64>) -> Case {
    let mut function = function(4);
    function.flow.timeouts = timeouts(start, finish);
    Case::with(function, &event(json!({"id": 7})))
}

fn timeouts(start: Option<u64>, finish: Option<u64>) -> Timeouts {
    Timeouts {
        start: start.map(Duration::from_millis),
        finish: finish.map(Duration::from_millis),
    }
}

/// Time passes, and whatever job is due by then is done; calls are not answered.
fn pass(case: &mut Case, until: u64) {
    let until = NOW.after(Duration::from_millis(until));
    loop {
        let due = case
            .jobs
            .values()
            .filter(|job| !job.id.key.is_call() && job.due <= until);
        let Some(job) = due.min_by_key(|job| job.due).cloned() else {
            break;
        };
        case.now = case.now.max(job.due);
        match dispatch(&case.run, &case.function, &job, RequestId::first_at(case.now), 1) {
            Next::Decide(input) => drop(case.give(input)),
            other => panic!("{other:?}"),
        }
    }
    case.now = case.now.max(until);
}

/// The first call goes out.
fn begin(case: &mut Case) {
    if let Next::Decide(input) = dispatched(case, "start") {
        assert_eq!(input, Input::Begun);
        case.give(input);
    }
    assert!(matches!(dispatched(case, "start"), Next::Call(_)), "and then it does");
}

#[test]
fn each_deadline_has_its_job_in_its_time() {
    let mut case = timed(Some(5_000), Some(9_000));
    assert_eq!(case.keys(), keys(["start", "deadline:start"]));
    assert_eq!(job_of(&case, "deadline:start").due, NOW.after(Duration::from_secs(5)));
    pass(&mut case, 4_999);
    begin(&mut case);
    assert_eq!(case.keys(), keys(["start", "deadline:finish"]));
    let due = NOW.after(Duration::from_millis(13_999));
    assert_eq!(job_of(&case, "deadline:finish").due, due);
    case.returns("start", &json!(1));
    assert_eq!(case.run.status, RunStatus::Completed);
}

#[test]
fn who_misses_a_deadline_is_told_which() {
    let mut case = timed(Some(5_000), None);
    case.listens = true;
    pass(&mut case, 5_000);
    assert_eq!(case.run.status, RunStatus::Cancelled);
    let told = case
        .events
        .iter()
        .find(|event| event.name == "inngest/function.cancelled");
    let body = told.expect("others hear of it").body.to_string();
    assert!(
        body.contains("the run has not started within 5s (timeouts.start)"),
        "{body}"
    );

    let mut case = timed(None, Some(2_500));
    begin(&mut case);
    pass(&mut case, 2_500);
    assert_eq!(case.run.status, RunStatus::Cancelled);
    let body = case.events[0].body.to_string();
    assert!(
        body.contains("has not ended within 2.5s of its start (timeouts.finish)"),
        "{body}"
    );
}

/// What the function says when the deadline comes is what counts.
#[rstest]
#[case::gone(None, 7_000, None)]
#[case::later(Some(6_000), 7_000, Some(6_000))]
#[case::not_yet(Some(8_000), 7_000, None)]
#[case::sooner(Some(1_000), 7_000, Some(5_000))]
fn a_deadline_that_has_moved(#[case] new: Option<u64>, #[case] until: u64, #[case] cancelled_at: Option<u64>) {
    let mut case = timed(Some(5_000), None);
    case.function.flow.timeouts = timeouts(new, None);
    pass(&mut case, until);
    let expected = if cancelled_at.is_some() {
        RunStatus::Cancelled
    } else {
        RunStatus::Queued
    };
    assert_eq!(case.run.status, expected);
    let left = case.jobs.contains_key(&JobKey::Deadline(Deadline::Start));
    assert_eq!(left, new.is_some_and(|new| new > until));
}

#[test]
fn a_deadline_alone_keeps_no_run_going() {
    let mut case = timed(None, Some(60_000));
    begin(&mut case);
    // A reply that leads nowhere: the start's job is done, and only the deadline would be left.
    case.give(Input::Idle(JobKey::Start));
    assert_eq!(case.keys(), keys(["start", "deadline:finish"]), "it is asked again");
    let deadline = job_of(&case, "deadline:finish");
    case.give(Input::Poisoned(Box::new(deadline), "it panicked".to_owned()));
    case.give(Input::Idle(JobKey::Start));
    assert_eq!(case.keys(), keys(["start"]), "nor does one that is held");
}

proptest! {
    /// A run of one call against a model that knows only the four times.
    #[test]
    fn a_run_is_cancelled_at_its_first_missed_deadline(
        start in prop::option::of(1_u64..50), finish in prop::option::of(1_u64..50),
        called in 0_u64..100, took in 0_u64..100,
    ) {
        let mut case = timed(start, finish);
        pass(&mut case, called);
        if !case.run.status.is_final() {
            begin(&mut case);
            pass(&mut case, called + took);
            if !case.run.status.is_final() {
                case.returns("start", &json!(null));
            }
        }
        let late_start = start.is_some_and(|start| called >= start);
        let late_end = finish.is_some_and(|finish| took >= finish);
        let expected = if late_start || late_end { RunStatus::Cancelled } else { RunStatus::Completed };
        prop_assert_eq!(case.run.status, expected);
        prop_assert!(case.run.jobs.is_empty());
    }
}
