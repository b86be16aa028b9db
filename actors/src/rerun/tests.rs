//! A run is done again, wholly or in part, and once for each wish.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{FromStep, Rerun, RerunError, Reruns};
use crate::domain::{EventId, Function, FunctionMode, Json, RateLimit, RunId, Singleton, SingletonMode, SkipReason};
use crate::engine::rerun::FromStepError;
use crate::testkit::{Answer, EPOCH, FakeApp, Rig, function, returned, steps, virtually};

/// Runs `a`, `b` and `c` one after another; returns their results, of which `c` tells with what input it ran.
fn three_steps() -> FakeApp {
    FakeApp::new(|call| {
        let next = ["a", "b", "c"]
            .into_iter()
            .find(|step| !call.stack.contains(&(*step).into()));
        let memo = |step: &str| {
            call.steps
                .iter()
                .find(|(id, _)| id.as_str() == step)
                .map(|(_, memo)| memo.to_tree())
        };
        Answer::Now(match next {
            Some(step) => {
                let input = memo(step).unwrap_or_default();
                let data = json!({ "run": call.run, "input": input["input"] });
                steps(&json!([{ "op": "StepRun", "id": step, "displayName": format!("the {step}"), "data": data }]))
            }
            None => returned(&json!(["a", "b", "c"].map(memo))),
        })
    })
}

async fn output(rig: &Rig, run: RunId) -> Value {
    assert_eq!(rig.ended(run).await, "completed");
    serde_json::from_str(&rig.store.output(run).expect("it returned")).expect("JSON")
}

fn from(step: &str, input: Option<Value>) -> FromStep {
    FromStep {
        step: step.to_owned(),
        input: input.map(|input| Json::from_value(&input).expect("JSON")),
    }
}

async fn again(rig: &Rig, run: RunId, from: Option<&FromStep>) -> Result<Rerun, RerunError> {
    rig.within(rig.orchestrator.rerun(run, from)).await
}

#[test]
fn a_run_is_done_again_with_its_event_and_knows_the_first_one() {
    virtually(async {
        let function = function("one", "order/paid");
        let rig = Rig::new(vec![function.clone()], three_steps()).await;
        let first = rig.start(&function, "order/paid", &json!({ "n": 1 })).await;
        output(&rig, first).await;
        rig.pass(Duration::from_secs(3_600)).await;
        let second = again(&rig, first, None).await.expect("done again");
        assert_eq!(second.original, first);
        let told = output(&rig, second.run).await;
        assert!(
            told.as_array()
                .expect("three")
                .iter()
                .all(|memo| memo["data"]["run"] == json!(second.run))
        );
        let third = again(&rig, second.run, None).await.expect("done again");
        assert_eq!(third.original, first, "of the chain");
        output(&rig, third.run).await;
        let runs = [first, second.run, third.run].map(|run| rig.store.run(run).expect("a run"));
        assert!(
            runs.iter()
                .all(|run| run.event_ids == runs[0].event_ids && run.events == runs[0].events)
        );
        assert_eq!(runs.map(|run| run.original), [None, Some(first), Some(first)]);
        assert_eq!(second.run.at(), EPOCH.after(second.run.at().since(EPOCH)));
        assert!(
            second.run.at().since(first.at()) >= Duration::from_secs(3_600),
            "it is as old as the wish"
        );
    });
}

#[test]
fn from_a_step_on_what_came_before_keeps_its_results() {
    virtually(async {
        let function = function("one", "order/paid");
        let rig = Rig::new(vec![function.clone()], three_steps()).await;
        let first = rig.start(&function, "order/paid", &json!({})).await;
        output(&rig, first).await;
        let input = from("the b", Some(json!([7, { "x": 1 }])));
        let second = again(&rig, first, Some(&input)).await.expect("done again").run;
        let told = output(&rig, second).await;
        let ran = |place: usize| told[place]["data"]["run"].clone();
        assert_eq!([ran(0), ran(1), ran(2)], [json!(first), json!(second), json!(second)]);
        assert_eq!(
            told[1]["data"]["input"],
            json!([7, { "x": 1 }]),
            "in every call until it is done"
        );
        assert_eq!(told[2]["data"]["input"], Value::Null);
        let calls: Vec<_> = rig.app.seen().into_iter().filter(|call| call.run == second).collect();
        assert_eq!(calls[0].stack, ["a"], "the edited step is not in the stack");
        assert_eq!(calls.len(), 3);
        // By its id, and the first step: nothing is kept.
        let third = again(&rig, first, Some(&from("a", None)))
            .await
            .expect("done again")
            .run;
        let told = output(&rig, third).await;
        assert_eq!(told[0]["data"]["run"], json!(third));
    });
}

#[test]
fn a_step_that_can_t_be_begun_with_is_said_so() {
    virtually(async {
        let function = function("one", "order/paid");
        let app = FakeApp::new(|call| {
            let next = ["a", "b"]
                .into_iter()
                .find(|step| !call.stack.contains(&(*step).into()));
            Answer::Now(match next {
                Some(step) => steps(&json!([{ "op": "StepRun", "id": step, "displayName": "again", "data": 1 }])),
                None => returned(&json!("done")),
            })
        });
        let rig = Rig::new(vec![function.clone()], app).await;
        let first = rig.start(&function, "order/paid", &json!({})).await;
        output(&rig, first).await;
        let refused = async |from: FromStep| again(&rig, first, Some(&from)).await.expect_err("refused");
        let ambiguous = refused(from("again", None)).await;
        let expected = FromStepError::Ambiguous("again".to_owned(), "a, b".to_owned());
        assert!(
            matches!(&ambiguous, RerunError::FromStep(error) if *error == expected),
            "{ambiguous:?}"
        );
        let unknown = refused(from("nothing", None)).await;
        assert!(
            matches!(unknown, RerunError::FromStep(FromStepError::Unknown(_))),
            "{unknown:?}"
        );
        let no_array = refused(from("b", Some(json!({})))).await;
        assert!(
            matches!(no_array, RerunError::FromStep(FromStepError::NoArray)),
            "{no_array:?}"
        );
        let unknown = RunId::new(EPOCH, 9);
        let error = again(&rig, unknown, None).await.expect_err("unknown");
        assert!(
            matches!(error, RerunError::UnknownRun(run) if run == unknown),
            "{error:?}"
        );
        assert_eq!(rig.store.runs().len(), 1);
    });
}

#[test]
fn limits_on_what_comes_in_don_t_count_but_a_singleton_is_one() {
    virtually(async {
        let limited = Function {
            flow: crate::domain::FlowControl {
                rate_limit: Some(RateLimit {
                    limit: 1,
                    period: Duration::from_secs(3_600),
                    key: None,
                    idempotency: false,
                }),
                ..Default::default()
            },
            ..function("limited", "order/paid")
        };
        let single = Function {
            flow: crate::domain::FlowControl {
                singleton: Some(Singleton {
                    mode: SingletonMode::Skip,
                    key: None,
                }),
                ..Default::default()
            },
            ..function("single", "order/late")
        };
        let app = FakeApp::new(|call| {
            Answer::Now(if call.stack.is_empty() {
                steps(&json!([{ "op": "Sleep", "id": "s", "name": "10m" }]))
            } else {
                returned(&json!("awake"))
            })
        });
        let rig = Rig::new(vec![limited.clone(), single.clone()], app).await;
        let run = rig.start(&limited, "order/paid", &json!({})).await;
        let second = again(&rig, run, None).await.expect("past the rate limit").run;
        let held = rig.start(&single, "order/late", &json!({})).await;
        rig.until("it holds the lock", |rig| rig.store.run(held).is_some())
            .await;
        let refused = again(&rig, held, None).await.expect_err("it is held");
        assert!(
            matches!(refused, RerunError::Skipped(SkipReason::Singleton, _)),
            "{refused:?}"
        );
        assert_eq!(rig.ended(second).await, "completed");
        rig.ended(held).await;
        again(&rig, held, None).await.expect("it is free");
    });
}

#[test]
fn a_wish_is_fulfilled_once() {
    virtually(async {
        let function = function("one", "order/paid");
        let rig = Rig::new(vec![function.clone()], three_steps()).await;
        let first = rig.start(&function, "order/paid", &json!({})).await;
        output(&rig, first).await;
        let catalog = crate::catalog::SharedCatalog::default();
        // One of before the function was known: the database says so, and it is matched again.
        let store: Arc<dyn crate::ports::Store> = rig.store.clone();
        catalog.replace(crate::catalog::Catalog::new(store.catalog().await.expect("reads")));
        let reruns = Reruns {
            store,
            catalog,
            book: rig.orchestrator.book(),
        };
        let wish = EventId::derive(rig.now(), "the wish");
        let once = rig.within(reruns.rerun(first, None, wish)).await.expect("done again");
        let twice = rig.within(reruns.rerun(first, None, wish)).await.expect("it is known");
        assert_eq!(once, twice);
        output(&rig, once.run).await;
        assert_eq!(rig.store.runs().len(), 2);
    });
}

#[test]
fn a_paused_function_takes_reruns_and_a_drained_one_does_not() {
    virtually(async {
        let function = function("one", "order/paid");
        let rig = Rig::new(vec![function.clone()], three_steps()).await;
        let first = rig.start(&function, "order/paid", &json!({})).await;
        output(&rig, first).await;
        let set = |mode| rig.orchestrator.set_function_mode(function.id, mode);
        rig.within(set(FunctionMode::Paused { since: EPOCH }))
            .await
            .expect("set");
        let second = again(&rig, first, None).await.expect("it waits").run;
        rig.pass(Duration::from_secs(100)).await;
        assert_eq!(rig.app.seen().len(), 4);
        rig.within(set(FunctionMode::Draining { since: EPOCH }))
            .await
            .expect("set");
        output(&rig, second).await;
        let refused = again(&rig, first, None).await.expect_err("no new runs");
        assert!(
            matches!(refused, RerunError::Skipped(SkipReason::Draining, _)),
            "{refused:?}"
        );
    });
}
