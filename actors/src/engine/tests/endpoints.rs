//! Runs that apps begin by themselves.

use super::*;
use crate::domain::Endpoint;

fn case() -> Case {
    let mut function = function(3);
    function.endpoint = Some(Endpoint {
        has_encoded_bodies: false,
    });
    let mut case = Case::with(function, &event(json!({"method": "GET"})));
    let new = endpoint::begin(
        &case.function,
        &event(json!({"method": "GET"})),
        RunId::new(NOW, 9),
        NOW,
    );
    case.jobs = HashMap::from([(JobKey::Start, new.job)]);
    case.run = new.state;
    case
}

fn told(case: &mut Case, ops: Value) -> Vec<Change> {
    let replied = Replied {
        job: endpoint::job(&case.run, case.now),
        request: endpoint::session(case.run.id).request,
        reply: steps(2, &ops),
        called_at: case.now,
        fetched: HashMap::new(),
        signals_taken: HashSet::new(),
    };
    case.give(Input::Attended(Box::new(replied)))
}

#[test]
fn a_run_that_its_app_is_at_work_on_waits_for_it_and_is_taken_over_in_the_end() {
    let mut case = case();
    assert_eq!(case.jobs[&JobKey::Start].due, NOW.after(endpoint::SILENCE));
    told(&mut case, json!([]));
    assert_eq!(case.run.status, RunStatus::Running);
    case.now = NOW.after(std::time::Duration::from_secs(600));
    told(&mut case, json!([{"op": "StepRun", "id": "a", "data": 1}]));
    assert_eq!(case.keys(), keys(["start"]));
    assert_eq!(case.jobs[&JobKey::Start].due, case.now.after(endpoint::SILENCE), "anew");
    // The app is silent: whoever calls it says so first.
    let Next::Decide(input) = dispatched(&case, "start") else {
        panic!("it is announced")
    };
    let Input::Superseded(call) = input.clone() else {
        panic!("{input:?}")
    };
    case.give(input);
    assert!(!endpoint::is_attended(&case.run));
    assert_eq!(
        told(&mut case, json!([{"op": "StepRun", "id": "b", "data": 2}])),
        [],
        "too late"
    );
    let next = dispatch(&case.run, &case.function, &job_of(&case, "start"), call.request, 1);
    let Next::Call(made) = next else { panic!("a call") };
    assert_eq!(made.stack.len(), 1);
}

#[test]
fn an_answer_ends_it_and_one_of_the_servers_failure_fails_it() {
    for (status, end) in [
        (200, RunStatus::Completed),
        (404, RunStatus::Completed),
        (500, RunStatus::Failed),
    ] {
        let mut case = case();
        let data = json!({"status": status, "headers": {}, "body": "x"});
        told(
            &mut case,
            json!([{"op": "StepRun", "id": "a", "data": 1}, {"op": "RunComplete", "data": data}]),
        );
        assert_eq!((case.run.status, case.run.stack.len()), (end, 1));
    }
}

#[test]
fn what_has_to_wait_is_the_servers_and_the_apps_own_attempt_counts() {
    let mut case = case();
    told(&mut case, json!([{"op": "Sleep", "id": "nap", "name": "1s"}]));
    assert_eq!(case.keys(), keys(["wake:nap"]));
    let mut case = self::case();
    told(&mut case, json!([{"op": "StepRun", "id": "a", "data": 1}]));
    let error = json!([{"op": "StepError", "id": "b", "error": {"message": "m"}}]);
    told(&mut case, error.clone());
    for attempt in 1..=3 {
        assert_eq!(case.attempt("start"), attempt);
        let Next::Call(call) = dispatched(&case, "start") else {
            panic!("a call")
        };
        assert_eq!((call.attempt, call.max_attempts), (attempt, 4));
        case.ops("start", error.clone());
    }
    assert_eq!(
        case.keys(),
        keys(["discover:b"]),
        "it has failed for good, and the function may catch it"
    );
}
