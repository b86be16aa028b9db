//! Random histories: whatever an app answers, in whatever order, the promises hold ([`Case::check`] after each decision)
//! and the run can always be brought to its end.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[derive(Debug, Clone)]
enum Move {
    /// The n-th job of the run is done, and its call (if it makes one) brings this.
    Job(usize, Answer),
    /// The call of the n-th job reports steps: the newest call for it, or one made before.
    Report(usize, Vec<u8>, bool),
    /// An answer that is not waited for any more.
    Stray(usize),
    Cancel,
    /// The n-th job of the run is given up.
    Bury(usize),
    /// Somebody decides about the n-th dead letter.
    Settle {
        letter: usize,
        is_worth_it: bool,
    },
}

#[derive(Debug, Clone)]
enum Answer {
    Ops(Vec<(u8, u8, bool)>, i32),
    Return,
    Fail { no_retry: bool },
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![
        8 => (prop::collection::vec((0u8..12, 0u8..8, any::<bool>()), 0..5), 0..3).prop_map(|(ops, version)| Answer::Ops(ops, version)),
        1 => Just(Answer::Return),
        2 => any::<bool>().prop_map(|no_retry| Answer::Fail { no_retry }),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        20 => (any::<usize>(), answers()).prop_map(|(job, answer)| Move::Job(job, answer)),
        4 => (any::<usize>(), prop::collection::vec(0u8..8, 1..4), any::<bool>())
            .prop_map(|(job, steps, is_newest)| Move::Report(job, steps, is_newest)),
        3 => (0usize..8).prop_map(Move::Stray),
        1 => Just(Move::Cancel),
        2 => any::<usize>().prop_map(Move::Bury),
        2 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(letter, is_worth_it)| Move::Settle { letter, is_worth_it }),
    ]
}

fn opcode((kind, id, race): (u8, u8, bool)) -> Value {
    let id = format!("s{id}");
    let opts = if race {
        json!({"parallelMode": "race", "timeout": "1h"})
    } else {
        json!({"timeout": "1h"})
    };
    match kind {
        0 | 1 => json!({"op": "StepRun", "id": id, "data": {"n": kind}, "opts": opts}),
        2 => json!({"op": "StepError", "id": id, "error": {"message": "m"}}),
        3 => json!({"op": "StepFailed", "id": id, "error": {"message": "m"}}),
        4 | 5 => json!({"op": "StepPlanned", "id": id, "opts": opts}),
        6 => json!({"op": "Sleep", "id": id, "name": "1s", "opts": opts}),
        7 => json!({"op": "WaitForEvent", "id": id, "name": "x", "opts": opts}),
        8 => json!({"op": "InvokeFunction", "id": id, "opts": {"function_id": "f"}}),
        9 => json!({"op": "DeferAdd", "id": id, "opts": {"fn_slug": "f", "input": {}}}),
        10 => json!({"op": "DeferAbort", "id": "x", "opts": {"target_hashed_id": id}}),
        _ => json!({"op": "None"}),
    }
}

/// A run, of a function with deadlines that do not come and with waits that look back, or of one without.
fn case(timed: bool) -> Case {
    let mut function = function(4);
    if timed {
        let year = Some(std::time::Duration::from_secs(365 * 24 * 60 * 60));
        function.flow.timeouts = crate::domain::Timeouts {
            start: year,
            finish: year,
        };
    }
    Case {
        look_back: timed.then_some(std::time::Duration::from_secs(60)),
        ..Case::with(function, &event(json!({"id": 7})))
    }
}

/// What a job leads to, once its call has been announced if it has to be.
fn next_of(case: &mut Case, key: &str) -> Next {
    match dispatched(case, key) {
        Next::Decide(Input::Superseded(call)) => {
            case.give(Input::Superseded(call.clone()));
            dispatch(&case.run, &case.function, &job_of(case, key), call.request, 2)
        }
        next => next,
    }
}

fn apply(case: &mut Case, step: Move) {
    match step {
        Move::Cancel => drop(case.give(Input::Cancelled("test".to_owned()))),
        Move::Bury(n) => {
            let key = case.run.jobs.keys().nth(n % case.run.jobs.len().max(1)).cloned();
            if let Some(key) = key {
                let job = job_of(case, &key.to_string());
                case.give(Input::Poisoned(Box::new(job), "it panicked".to_owned()));
            }
        }
        Move::Settle { letter, is_worth_it } => {
            let held = &case.run.held;
            if let Some(letter) = held.values().nth(letter % held.len().max(1)).map(|letter| letter.id) {
                case.give(if is_worth_it {
                    Input::Revived(letter)
                } else {
                    Input::Discarded(letter)
                });
            }
        }
        Move::Report(n, ids, is_newest) => {
            let key = case.run.jobs.keys().nth(n % case.run.jobs.len().max(1)).cloned();
            let Some(key) = key.filter(JobKey::is_call) else { return };
            let request = RequestId::new(case.now, u128::from(is_newest));
            let ids = ids.iter().map(|id| json!({"op": "StepRun", "id": format!("s{id}")}));
            let ops = Value::Array(ids.collect()).to_string();
            case.give(Input::Reported(Box::new(Report {
                call: CallRef::new(&job_of(case, &key.to_string()), request),
                ops: Opcode::parse_reply(ops.as_bytes()).expect("valid opcodes"),
            })));
        }
        Move::Stray(n) => {
            let step = StepId::from(format!("s{n}").as_str());
            for input in [
                Input::Woke(step.clone()),
                Input::TimedOut(step.clone()),
                Input::Resumed(step, Resumption::of(&Json::null())),
            ] {
                // Only what could come: a job that is gone is never dispatched, an event may come twice.
                if matches!(input, Input::Resumed(..)) {
                    case.give(input);
                }
            }
        }
        Move::Job(n, answer) => {
            let all: Vec<_> = case.run.jobs.keys().cloned().collect();
            let Some(key) = all.get(n % all.len().max(1)) else {
                return;
            };
            let reply = match answer {
                Answer::Ops(ops, version) => steps(version, &Value::Array(ops.into_iter().map(opcode).collect())),
                Answer::Return => Reply::Returned(Json::null()),
                Answer::Fail { no_retry } => Reply::Failed {
                    failure: Failure::new("E", "m"),
                    status: None,
                    no_retry,
                    retry_after: None,
                },
            };
            match next_of(case, &key.to_string()) {
                Next::Call(_) => drop(case.reply(&key.to_string(), reply)),
                Next::Search(search) => {
                    let found = n
                        .is_multiple_of(2)
                        .then(|| Resumption::of(&Json::parse("{}").expect("JSON")));
                    case.give(Input::Looked(search.step, found));
                }
                Next::Decide(input) => drop(case.give(input)),
                Next::Stale => panic!("a job of the run is stale: {key}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_promises_hold_whatever_happens(history in prop::collection::vec(moves(), 0..40), timed: bool) {
        let mut case = case(timed);
        for step in history {
            apply(&mut case, step);
        }
    }

    #[test]
    fn every_run_can_be_brought_to_its_end(history in prop::collection::vec(moves(), 0..30), timed: bool) {
        let mut case = case(timed);
        for step in history {
            apply(&mut case, step);
        }
        // An app that has had enough: it finishes every planned step, and returns when it is asked what comes next.
        for _ in 0..100 {
            // An operator who has found the reason.
            while let Some(letter) = case.run.held.values().next().map(|letter| letter.id) {
                case.give(Input::Revived(letter));
            }
            let Some(key) = case.run.jobs.keys().next().cloned() else { break };
            match next_of(&mut case, &key.to_string()) {
                Next::Call(call) => match call.target {
                    crate::domain::Target::Step(step) => {
                        case.ops(&key.to_string(), json!([{"op": "StepRun", "id": step.as_str(), "data": null}]));
                    }
                    crate::domain::Target::Discovery => drop(case.returns(&key.to_string(), &json!(null))),
                },
                Next::Search(search) => drop(case.give(Input::Looked(search.step, None))),
                Next::Decide(input) => drop(case.give(input)),
                Next::Stale => panic!("a job of the run is stale: {key}"),
            }
        }
        prop_assert!(case.run.status.is_final(), "still open with {:?}", case.keys());
    }
}
