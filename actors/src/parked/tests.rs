//! A paused function's app is not called, nobody spins over its jobs, and everything goes on when it does.

use std::time::Duration;

use serde_json::json;

use crate::domain::{ConcurrencyLimit, Function, FunctionMode, JobKey, RunStatus, Scope, SkipReason};
use crate::orchestrator::{Cancelled, Settings};
use crate::testkit::{Answer, EPOCH, FakeApp, FakeStore, Rig, function, ran, returned, steps, virtually};

const PAUSED: FunctionMode = FunctionMode::Paused { since: EPOCH };

/// Runs one step and returns.
fn one_step() -> FakeApp {
    FakeApp::new(|call| {
        Answer::Now(if call.stack.is_empty() {
            ran("a")
        } else {
            returned(&json!("done"))
        })
    })
}

async fn set(rig: &Rig, function: &Function, mode: FunctionMode) {
    let set = rig.orchestrator.set_function_mode(function.id, mode);
    assert!(rig.within(set).await.expect("set"), "{mode:?}");
}

#[test]
fn a_paused_function_starts_nothing_and_says_so() {
    virtually(async {
        let (one, other) = (function("one", "order/paid"), function("other", "order/paid"));
        let rig = Rig::new(vec![one.clone(), other.clone()], one_step()).await;
        set(&rig, &one, PAUSED).await;
        let run = rig.start(&other, "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed", "the other one goes on");
        assert_eq!(rig.store.runs().len(), 1);
        let skipped = |rig: &Rig| {
            rig.store
                .skips()
                .into_iter()
                .map(|(_, reason)| reason)
                .collect::<Vec<_>>()
        };
        assert_eq!(skipped(&rig), [SkipReason::Paused]);
        set(&rig, &one, FunctionMode::Draining { since: EPOCH }).await;
        rig.send("order/paid", &json!({})).await;
        assert_eq!(skipped(&rig), [SkipReason::Paused, SkipReason::Draining]);
        set(&rig, &one, FunctionMode::Active).await;
        let run = rig.start(&one, "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
    });
}

#[test]
fn runs_of_a_paused_function_wait_and_go_on_where_they_were() {
    virtually(async {
        let function = function("one", "order/paid");
        let (release, held) = tokio::sync::oneshot::channel();
        let mut held = Some(held);
        let app = FakeApp::new(move |call| match (call.stack.len(), held.take()) {
            (0, Some(held)) => Answer::Held(held),
            (0, None) => Answer::Now(ran("a")),
            _ => Answer::Now(returned(&json!("done"))),
        });
        let rig = Rig::new(vec![function.clone()], app).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        rig.until("it is called", |rig| rig.app.in_flight() == 1).await;
        set(&rig, &function, PAUSED).await;
        // The call under way finishes, and counts.
        release.send(ran("a")).expect("somebody waits");
        rig.until("the step is recorded", |rig| {
            rig.store.run(run).is_some_and(|run| run.stack.len() == 1)
        })
        .await;
        rig.pass(Duration::from_secs(600)).await;
        assert_eq!(rig.app.seen().len(), 1, "the app is left alone");
        assert_eq!(rig.queue.jobs(), [], "what may not be done is not in the queue");
        let due: Vec<_> = rig
            .store
            .jobs()
            .into_iter()
            .map(|job| (job.id.key, job.attempt))
            .collect();
        assert_eq!(due, [(JobKey::Discover("a".into()), 0)], "no attempt is spent");

        set(&rig, &function, FunctionMode::Active).await;
        let asked = rig.now();
        assert_eq!(rig.ended(run).await, "completed");
        assert!(rig.now().since(asked) < Duration::from_secs(1), "at once");
        let attempts: Vec<_> = rig.app.seen().into_iter().map(|call| call.attempt).collect();
        assert_eq!(attempts, [0, 0]);
    });
}

/// What has gates stays in the queue behind them: it is not handed out to be dropped, which would cost it its turn at a throttle.
#[test]
fn what_has_gates_waits_behind_them() {
    virtually(async {
        let mut function = function("one", "order/paid");
        function.flow.concurrency = vec![ConcurrencyLimit {
            limit: 1,
            key: None,
            scope: Scope::Fn,
        }];
        let (release, held) = tokio::sync::oneshot::channel();
        let mut held = Some(held);
        let app = FakeApp::new(move |call| match (call.stack.len(), held.take()) {
            (0, Some(held)) => Answer::Held(held),
            _ => Answer::Now(returned(&json!("done"))),
        });
        let rig = Rig::new(vec![function.clone()], app).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        rig.until("it is called", |rig| rig.app.in_flight() == 1).await;
        set(&rig, &function, PAUSED).await;
        assert!(rig.queue.limits().functions.iter().all(|(_, limits)| limits.is_shut()));
        release.send(ran("a")).expect("somebody waits");
        rig.until("the step is recorded", |rig| {
            rig.store.run(run).is_some_and(|run| run.stack.len() == 1)
        })
        .await;
        rig.pass(Duration::from_secs(600)).await;
        assert_eq!(rig.app.seen().len(), 1, "the app is left alone");
        let waiting: Vec<_> = rig.queue.jobs().into_iter().map(|job| job.id.key).collect();
        assert_eq!((waiting, rig.queue.leased()), (vec![JobKey::Discover("a".into())], 0));
        set(&rig, &function, FunctionMode::Active).await;
        assert_eq!(rig.ended(run).await, "completed");
        assert_eq!(rig.app.seen().len(), 2);
    });
}

#[test]
fn a_pause_outlasts_a_restart() {
    virtually(async {
        let function = function("one", "order/paid");
        let store = std::sync::Arc::new(FakeStore::with(vec![function.clone()]));
        let app = FakeApp::new(|_| Answer::Panic);
        let rig = Rig::on(store, app, Settings::default()).await;
        // Due in the future, so that it is paused before its first call.
        let mut event = crate::testkit::event("order/paid", &json!({}), 1, rig.now());
        event.ts = rig.now().after(Duration::from_secs(5));
        let run = crate::domain::RunId::derive(event.id, function.id);
        rig.within(rig.orchestrator.accept(vec![event]))
            .await
            .expect("accepted");
        set(&rig, &function, PAUSED).await;
        let rig = rig.restarted(Duration::from_secs(60), Settings::default()).await;
        rig.pass(Duration::from_secs(600)).await;
        assert_eq!(
            (rig.app.seen().len(), rig.store.status(run)),
            (0, Some(RunStatus::Queued))
        );
        let queries = rig.store.due_queries();
        rig.pass(Duration::from_secs(60)).await;
        assert!(rig.store.due_queries() - queries < 20, "nobody spins");
        assert_eq!(
            rig.within(rig.orchestrator.cancel(run)).await.expect("cancels"),
            Cancelled::Now
        );
        assert_eq!(rig.store.jobs(), []);
    });
}

#[test]
fn what_calls_nobody_goes_on_during_a_pause() {
    virtually(async {
        let function = function("one", "order/paid");
        let app = FakeApp::new(|call| {
            Answer::Now(if call.stack.is_empty() {
                steps(&json!([{ "op": "Sleep", "id": "s", "name": "10s" }]))
            } else {
                returned(&json!("awake"))
            })
        });
        let rig = Rig::new(vec![function.clone()], app).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        rig.until("it sleeps", |rig| {
            rig.store.jobs().iter().any(|job| matches!(job.id.key, JobKey::Wake(_)))
        })
        .await;
        set(&rig, &function, PAUSED).await;
        rig.until("the sleep is over", |rig| {
            rig.store
                .jobs()
                .iter()
                .any(|job| matches!(job.id.key, JobKey::Discover(_)))
        })
        .await;
        rig.pass(Duration::from_secs(100)).await;
        assert_eq!(rig.app.seen().len(), 1);
        set(&rig, &function, FunctionMode::Active).await;
        assert_eq!(rig.ended(run).await, "completed");
    });
}

#[test]
fn a_backlog_that_is_paused_does_not_hold_up_others() {
    const BACKLOG: usize = 300;
    virtually(async {
        let (busy, quiet) = (function("busy", "order/paid"), function("quiet", "order/late"));
        let settings = Settings {
            jobs_per_function: 1,
            ..Settings::default()
        };
        let (release, held) = tokio::sync::oneshot::channel();
        let mut held = Some(held);
        let of = busy.id;
        let app = FakeApp::new(move |call| match held.take_if(|_| call.function == of) {
            Some(held) => Answer::Held(held),
            None => Answer::Now(returned(&json!("done"))),
        });
        let rig = Rig::with(vec![busy.clone(), quiet.clone()], app, settings).await;
        let mut runs = Vec::new();
        for _ in 0..BACKLOG {
            runs.push(rig.start(&busy, "order/paid", &json!({})).await);
        }
        rig.until("one is called", |rig| rig.app.in_flight() == 1).await;
        set(&rig, &busy, PAUSED).await;
        release.send(returned(&json!("done"))).expect("somebody waits");
        let run = rig.start(&quiet, "order/late", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
        rig.until("the queue is empty", |rig| rig.queue.jobs().is_empty()).await;
        assert_eq!(rig.app.seen().len(), 2);
        // Pausing and resuming in no time loses nothing either.
        for _ in 0..5 {
            set(&rig, &busy, FunctionMode::Active).await;
            set(&rig, &busy, PAUSED).await;
        }
        set(&rig, &busy, FunctionMode::Active).await;
        for run in runs {
            assert_eq!(rig.ended(run).await, "completed");
        }
    });
}

#[test]
fn a_drained_function_brings_its_runs_to_their_ends() {
    virtually(async {
        let function = function("one", "order/paid");
        let app = FakeApp::new(|call| {
            Answer::Now(if call.stack.is_empty() {
                steps(&json!([{ "op": "Sleep", "id": "s", "name": "10s" }]))
            } else {
                returned(&json!("awake"))
            })
        });
        let rig = Rig::new(vec![function.clone()], app).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        set(&rig, &function, FunctionMode::Draining { since: EPOCH }).await;
        rig.send("order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
        assert_eq!(rig.store.runs().len(), 1);
    });
}

#[test]
fn an_invoke_of_a_paused_function_fails_at_once() {
    virtually(async {
        let (caller, target) = (function("caller", "order/paid"), function("target", ""));
        let (of, slug) = (caller.id, target.slug.to_string());
        let app = FakeApp::new(move |call| {
            assert_eq!(call.function, of, "the target is paused");
            Answer::Now(match call.steps.first() {
                None => steps(&json!([{
                    "op": "InvokeFunction", "id": "i", "opts": { "function_id": slug, "payload": {} },
                }])),
                Some((_, memo)) => returned(&memo.to_tree()),
            })
        });
        let rig = Rig::new(vec![caller.clone(), target.clone()], app).await;
        set(&rig, &target, PAUSED).await;
        let run = rig.start(&caller, "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
        let told = rig.store.output(run).expect("it returned the step's memo");
        assert!(told.contains("the function is paused since"), "{told}");
    });
}
