//! Operations do what they say, to whom they say, once, and go on whatever happens in between.

use std::time::Duration;

use serde_json::json;

use crate::domain::{
    FunctionMode, Operation, OperationFilter, OperationId, OperationKind, OperationState, Precision, Progress, RunId,
    RunStatus,
};
use crate::metrics::Counter;
use crate::orchestrator::{OperationWish, Refusal, Settings};
use crate::ports::OperationBook as _;
use crate::testkit::{Answer, EPOCH, FakeApp, Rig, function, returned, steps, virtually};

fn wish(kind: OperationKind, filter: OperationFilter) -> OperationWish {
    OperationWish { kind, filter, rate: 50 }
}

fn about(condition: &str) -> OperationFilter {
    OperationFilter {
        condition: Some(condition.to_owned()),
        ..OperationFilter::default()
    }
}

async fn begin(rig: &Rig, wish: OperationWish) -> Operation {
    rig.within(rig.orchestrator.begin_operation(wish))
        .await
        .expect("it begins")
}

async fn read(rig: &Rig, id: OperationId) -> Operation {
    rig.store.operation(id).await.expect("reads").expect("is kept")
}

async fn ended(rig: &Rig, id: OperationId) -> Operation {
    for _ in 0..200_000 {
        let operation = read(rig, id).await;
        if operation.state != OperationState::Running {
            return operation;
        }
        rig.pass(Duration::from_millis(5)).await;
    }
    panic!("it goes on and on: {:?}", read(rig, id).await);
}

fn done(done: u64, skipped: u64) -> Progress {
    Progress {
        done,
        failed: 0,
        skipped,
    }
}

/// Sleeps for an hour and returns.
fn sleeper() -> FakeApp {
    FakeApp::new(|call| {
        Answer::Now(if call.stack.is_empty() {
            steps(&json!([{ "op": "Sleep", "id": "s", "name": "1h" }]))
        } else {
            returned(&json!("awake"))
        })
    })
}

/// Fails runs of events that say so, as long as they are not repetitions of a run.
fn app() -> FakeApp {
    let mut seen = std::collections::HashSet::new();
    FakeApp::new(move |call| {
        let event = call.events[0].to_tree();
        let is_first = seen.insert(event["id"].to_string());
        if event["data"]["fails"] == true && is_first {
            let failure = crate::domain::Failure::new("Error", "as the test wants it");
            return Answer::Now(crate::domain::Reply::Failed {
                failure,
                status: Some(500),
                no_retry: true,
                retry_after: None,
            });
        }
        Answer::Now(returned(&json!("done")))
    })
}

#[test]
fn open_runs_are_cancelled_by_filter() {
    virtually(async {
        let (one, two) = (function("one", "order/paid"), function("two", "order/paid"));
        let rig = Rig::new(vec![one.clone(), two.clone()], sleeper()).await;
        let mut runs = Vec::new();
        for n in 0..250 {
            let event = rig.send("order/paid", &json!({ "n": n })).await;
            runs.push([RunId::derive(event, one.id), RunId::derive(event, two.id)]);
        }
        rig.until("all sleep", |rig| {
            rig.store.runs().iter().all(|run| run.status == RunStatus::Running)
        })
        .await;
        let filter = OperationFilter {
            functions: Some(vec![one.id]),
            ..about("event.data.n < 220")
        };
        let wish = wish(OperationKind::Cancel, filter);
        let counted = rig
            .within(rig.orchestrator.preview_operation(wish.clone()))
            .await
            .expect("counts");
        assert_eq!((counted.count, counted.precision), (220, Precision::Exact));
        let operation = begin(&rig, wish).await;
        assert_eq!(operation.total, counted);
        // What comes after it was asked for is not its business.
        rig.pass(Duration::from_millis(1)).await;
        let late = rig.start(&one, "order/paid", &json!({ "n": 1 })).await;
        let ended = ended(&rig, operation.id).await;
        assert_eq!(
            (ended.state, ended.progress),
            (OperationState::Finished, done(220, 0)),
            "{ended:?}"
        );
        for (n, [first, second]) in runs.iter().enumerate() {
            let expected = if n < 220 {
                RunStatus::Cancelled
            } else {
                RunStatus::Running
            };
            assert_eq!(rig.store.status(*first), Some(expected), "{n}");
            assert_eq!(
                rig.store.status(*second),
                Some(RunStatus::Running),
                "of the other function"
            );
        }
        assert_ne!(rig.store.status(late), Some(RunStatus::Cancelled));
    });
}

#[test]
fn failed_runs_are_done_again_once_and_at_a_rate() {
    virtually(async {
        let function = function("one", "order/paid");
        let rig = Rig::new(vec![function.clone()], app()).await;
        let mut failed = Vec::new();
        for n in 0..60 {
            let run = rig
                .start(&function, "order/paid", &json!({ "n": n, "fails": n % 2 == 0 }))
                .await;
            if n % 2 == 0 {
                failed.push(run);
            }
        }
        rig.until("all have ended", |rig| {
            rig.store.runs().iter().all(|run| run.status.is_final())
        })
        .await;
        let slow = OperationWish {
            rate: 10,
            ..wish(OperationKind::RetryFailed, OperationFilter::default())
        };
        let counted = rig
            .within(rig.orchestrator.preview_operation(slow.clone()))
            .await
            .expect("counts");
        assert_eq!((counted.count, counted.precision), (30, Precision::Exact));
        let began = rig.now();
        let first = begin(&rig, slow.clone()).await;
        let first = ended(&rig, first.id).await;
        assert_eq!(first.progress, done(30, 0), "{first:?}");
        let took = rig.now().since(began);
        assert!(
            (Duration::from_secs(2)..Duration::from_secs(5)).contains(&took),
            "10 a second: {took:?}"
        );
        rig.until("all have ended", |rig| {
            rig.store.runs().iter().all(|run| run.status.is_final())
        })
        .await;
        let again: Vec<_> = rig
            .store
            .runs()
            .into_iter()
            .filter(|run| run.original.is_some())
            .collect();
        assert_eq!(again.len(), 30);
        assert!(again.iter().all(|run| run.status == RunStatus::Completed));
        assert!(
            again
                .iter()
                .all(|run| failed.contains(&run.original.expect("a repetition")))
        );
        // They have been done again since, and that did not fail.
        let second = begin(&rig, slow).await;
        assert_eq!(second.total.count, 0);
        assert_eq!(ended(&rig, second.id).await.progress, done(0, 30));
        // A replay is about runs whatever became of them since.
        let filter = OperationFilter {
            statuses: vec![RunStatus::Failed],
            ..OperationFilter::default()
        };
        let third = begin(&rig, wish(OperationKind::Replay, filter)).await;
        assert_eq!(ended(&rig, third.id).await.progress, done(30, 0));
        let metrics = rig.orchestrator.metrics();
        let counted = |kind| {
            let of = metrics.operations.of(kind);
            [&of.begun, &of.counted, &of.done, &of.failed, &of.skipped].map(Counter::value)
        };
        assert_eq!(counted(OperationKind::RetryFailed), [2, 30, 30, 0, 30]);
        assert_eq!(counted(OperationKind::Replay), [1, 30, 30, 0, 0]);
        assert_eq!(counted(OperationKind::Cancel), [0; 5]);
    });
}

#[test]
fn a_page_that_is_begun_again_does_nothing_twice() {
    virtually(async {
        let function = function("one", "order/paid");
        let rig = Rig::new(vec![function.clone()], app()).await;
        for n in 0..120 {
            rig.send("order/paid", &json!({ "n": n, "fails": true })).await;
        }
        rig.until("all have failed", |rig| {
            let runs = rig.store.runs();
            runs.len() == 120 && runs.iter().all(|run| run.status == RunStatus::Failed)
        })
        .await;
        let operation = begin(&rig, wish(OperationKind::RetryFailed, OperationFilter::default())).await;
        rig.until("it has begun", |rig| rig.store.runs().len() > 120).await;
        // How far it has come is not written down, and then the process is gone.
        rig.store.fail_operations(5);
        rig.pass(Duration::from_secs(2)).await;
        let rig = rig.restarted(Duration::from_secs(100), Settings::default()).await;
        let ended = ended(&rig, operation.id).await;
        assert_eq!(ended.progress, done(120, 0), "{ended:?}");
        assert_eq!(rig.store.runs().len(), 240, "each was done again once");
        let mut originals: Vec<_> = rig.store.runs().iter().filter_map(|run| run.original).collect();
        originals.sort();
        originals.dedup();
        assert_eq!(originals.len(), 120);
    });
}

#[test]
fn an_operation_is_stopped_and_what_may_not_be_done_is_skipped() {
    virtually(async {
        let function = function("one", "order/paid");
        let rig = Rig::new(vec![function.clone()], app()).await;
        for n in 0..40 {
            rig.send("order/paid", &json!({ "n": n })).await;
        }
        rig.until("all have ended", |rig| {
            let runs = rig.store.runs();
            runs.len() == 40 && runs.iter().all(|run| run.status.is_final())
        })
        .await;
        let slow = OperationWish {
            rate: 1,
            ..wish(OperationKind::Replay, OperationFilter::default())
        };
        let operation = begin(&rig, slow).await;
        rig.until("some are done", |rig| rig.store.runs().len() >= 43).await;
        let stopped = rig
            .within(rig.orchestrator.cancel_operation(operation.id))
            .await
            .expect("stops");
        assert_eq!(stopped.expect("is known").state, OperationState::Cancelled);
        rig.pass(Duration::from_secs(60)).await;
        let count = rig.store.runs().len();
        assert!(count < 50, "no further page: {count}");
        let again = rig
            .within(rig.orchestrator.cancel_operation(operation.id))
            .await
            .expect("is known");
        assert_eq!(again.map(|operation| operation.state), Some(OperationState::Cancelled));
        let unknown = OperationId::new(EPOCH, 1);
        assert_eq!(
            rig.within(rig.orchestrator.cancel_operation(unknown))
                .await
                .expect("asks"),
            None
        );

        let drained = FunctionMode::Draining { since: EPOCH };
        rig.within(rig.orchestrator.set_function_mode(function.id, drained))
            .await
            .expect("set");
        let operation = begin(&rig, wish(OperationKind::Replay, about("event.data.n == 7"))).await;
        let skipped = ended(&rig, operation.id).await;
        assert_eq!(skipped.progress.done, 0);
        assert!(skipped.progress.skipped >= 1, "{skipped:?}");
        let why = skipped.last_error.expect("it says why");
        assert!(why.contains("drained"), "{why}");
    });
}

#[test]
fn a_wish_that_makes_no_sense_is_refused() {
    virtually(async {
        let rig = Rig::new(vec![function("one", "order/paid")], app()).await;
        let senseless = OperationWish {
            kind: OperationKind::Cancel,
            filter: OperationFilter {
                statuses: vec![RunStatus::Failed],
                ..about("event.data.(")
            },
            rate: 0,
        };
        let refused = rig
            .within(rig.orchestrator.begin_operation(senseless))
            .await
            .expect_err("refused");
        let Refusal::Invalid(problems) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(problems.len(), 3, "all at once: {problems:?}");
    });
}
