//! What an executor promises: order within a run, no call twice, and nothing lost when things fail.

mod deadlines;
mod reports;
mod searches;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use crate::domain::{Advance, CancelRule, Change, Function, Job, Json, Reply, RunId, RunStatus, Target, Write};
use crate::engine::RetryPolicy;
use crate::orchestrator::Settings;
use crate::ports::{Origin, Queue, Store};
use crate::testkit::{Answer, FakeApp, Fault, Rig, function, ran, returned, steps, virtually};

/// The app's side of a call that the test answers when it likes.
type Held = Arc<Mutex<Vec<(Option<String>, oneshot::Sender<Reply>)>>>;

fn plan(steps_found: &[&str]) -> Reply {
    let ops: Vec<_> = steps_found
        .iter()
        .map(|id| json!({ "op": "StepPlanned", "id": id, "name": id }))
        .collect();
    steps(&json!(ops))
}

/// Runs `count` steps one after another and returns.
fn sequential(count: usize) -> FakeApp {
    FakeApp::new(move |call| {
        let done = call.stack.len();
        Answer::Now(if done == count {
            returned(&json!("done"))
        } else {
            ran(&format!("step-{done}"))
        })
    })
}

/// Plans parallel steps, whose calls the test answers; then returns.
fn parallel(found: &'static [&'static str]) -> (FakeApp, Held) {
    let held = Held::default();
    let kept = Arc::clone(&held);
    let app = FakeApp::new(move |call| match &call.target {
        Target::Discovery if call.stack.is_empty() => Answer::Now(plan(found)),
        Target::Discovery => Answer::Now(returned(&json!("done"))),
        Target::Step(step) => {
            let (sender, reply) = oneshot::channel();
            kept.lock().expect("no panic").push((Some(step.to_string()), sender));
            Answer::Held(reply)
        }
    });
    (app, held)
}

fn let_go(held: &Held, step: &str, reply: Reply) {
    let mut held = held.lock().expect("no panic");
    let place = held.iter().position(|(id, _)| id.as_deref() == Some(step));
    let (_, sender) = held.remove(place.unwrap_or_else(|| panic!("no call for {step}")));
    sender.send(reply).expect("somebody waits for the reply");
}

fn charge() -> Function {
    function("charge", "order/paid")
}

#[test]
fn the_state_is_kept_between_jobs_and_not_read_again() {
    virtually(async {
        let rig = Rig::new(vec![charge()], sequential(20)).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
        assert_eq!(rig.app.seen().len(), 21);
        assert_eq!(rig.store.loads(), 0, "it came with the event and stayed");
        rig.until("all leases are over", |rig| rig.queue.jobs().is_empty())
            .await;
        assert!(rig.store.jobs().is_empty());
    });
}

#[test]
fn calls_of_parallel_steps_go_side_by_side_and_their_replies_are_decided_in_order() {
    virtually(async {
        let (app, held) = parallel(&["a", "b", "c"]);
        let rig = Rig::new(vec![charge()], app).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.until("three calls", |rig| rig.app.in_flight() == 3).await;
        // The first decision hangs; the two others come in meanwhile, in another order than they were asked for.
        rig.store.fail(&[Fault::Hang]);
        for step in ["c", "a", "b"] {
            let_go(&held, step, ran(step));
            rig.pass(Duration::from_millis(5)).await;
        }
        assert!(
            rig.store.run(run).expect("a run").stack.is_empty(),
            "nothing is decided yet"
        );
        rig.store.thaw();
        assert_eq!(rig.ended(run).await, "completed");
        let state = rig.store.run(run).expect("a run");
        let order: Vec<_> = state.stack.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["c", "a", "b"], "as they came");
        assert_eq!(rig.app.seen().len(), 5, "each step once, and two discoveries");
    });
}

#[test]
fn a_decision_that_lost_is_made_again_without_another_call() {
    virtually(async {
        let (app, held) = parallel(&["a", "b"]);
        let rig = Rig::new(vec![charge()], app).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.until("two calls", |rig| rig.app.in_flight() == 2).await;
        rig.store.bump(run);
        let_go(&held, "a", ran("a"));
        rig.until("a is recorded", |rig| {
            rig.store.run(run).is_some_and(|run| run.stack.len() == 1)
        })
        .await;
        assert_eq!(rig.store.loads(), 1, "read again, once");
        let_go(&held, "b", ran("b"));
        assert_eq!(rig.ended(run).await, "completed");
        let calls = rig.app.seen().iter().filter(|seen| seen.step.is_some()).count();
        assert_eq!(calls, 2, "P3: neither was called again");
    });
}

#[test]
fn a_run_that_ended_meanwhile_is_let_go() {
    virtually(async {
        let (app, held) = parallel(&["a", "b"]);
        let rig = Rig::new(vec![charge()], app).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.until("two calls", |rig| rig.app.in_flight() == 2).await;
        let outcome = rig.within(rig.orchestrator.cancel(run)).await;
        assert_eq!(outcome.expect("cancelled"), crate::orchestrator::Cancelled::Now);
        let_go(&held, "a", ran("a"));
        let_go(&held, "b", ran("b"));
        rig.until("its jobs are acknowledged", |rig| rig.queue.jobs().is_empty())
            .await;
        rig.pass(Duration::from_secs(120)).await;
        assert_eq!(rig.store.status(run).map(RunStatus::as_str), Some("cancelled"));
        assert_eq!(rig.app.seen().len(), 3, "nothing was called after the end");
    });
}

#[test]
fn a_run_that_can_not_be_loaded_is_tried_again() {
    virtually(async {
        let rig = Rig::with(
            vec![charge()],
            sequential(2),
            Settings {
                cache_bytes: 0,
                ..Settings::default()
            },
        )
        .await;
        rig.store
            .fail_loads(&[Fault::Unavailable, Fault::Panic, Fault::Unavailable]);
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
        assert_eq!(rig.app.seen().len(), 3, "a failed load costs no call");
        assert!(rig.store.loads() > 0);
    });
}

#[test]
fn a_load_that_dies_leaves_nobody_waiting() {
    virtually(async {
        let rig = Rig::with(
            vec![charge()],
            sequential(0),
            Settings {
                cache_bytes: 0,
                ..Settings::default()
            },
        )
        .await;
        rig.store.fail_loads(&[Fault::Hang, Fault::Panic]);
        let first = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.pass(Duration::from_millis(10)).await;
        // More than one page of requests gather behind the one that hangs; the next page dies.
        let mut runs = vec![first];
        for _ in 0..100 {
            runs.push(rig.start(&charge(), "order/paid", &json!({})).await);
        }
        rig.store.thaw();
        let began = tokio::time::Instant::now();
        for run in runs {
            assert_eq!(rig.ended(run).await, "completed");
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    });
}

#[test]
fn a_commit_whose_outcome_is_not_known_is_looked_up_and_not_repeated() {
    virtually(async {
        let rig = Rig::new(vec![charge()], sequential(3)).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        // The writer dies after the commit of whatever comes next.
        rig.store.fail(&[Fault::PanicAfter]);
        assert_eq!(rig.ended(run).await, "completed");
        let state = rig.store.run(run).expect("a run");
        assert_eq!(state.stack.len(), 3);
        let seen = rig.app.seen();
        for place in 1..=3 {
            let replays = seen.iter().filter(|seen| seen.stack.len() == place).count();
            assert!(replays >= 1, "{seen:?}");
        }
        assert_eq!(seen.len(), 4, "P3: what was recorded is not called again: {seen:?}");
    });
}

#[test]
fn a_panic_in_a_call_costs_one_attempt() {
    virtually(async {
        let mut first = true;
        let app = FakeApp::new(move |_| {
            if std::mem::take(&mut first) {
                Answer::Panic
            } else {
                Answer::Now(returned(&json!(1)))
            }
        });
        let rig = Rig::new(vec![charge()], app).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
        let attempts: Vec<_> = rig.app.seen().iter().map(|seen| seen.attempt).collect();
        assert_eq!(attempts, [0, 1]);
    });
}

#[test]
fn an_event_that_comes_while_a_sibling_is_called_is_not_lost() {
    virtually(async {
        let held = Held::default();
        let kept = Arc::clone(&held);
        let app = FakeApp::new(move |call| match &call.target {
            Target::Discovery if call.stack.is_empty() => Answer::Now(steps(&json!([
                { "op": "StepPlanned", "id": "a", "name": "a" },
                { "op": "WaitForEvent", "id": "w", "name": "w", "opts": { "event": "order/shipped", "timeout": "1h" } },
            ]))),
            Target::Discovery => Answer::Now(returned(&json!("done"))),
            Target::Step(_) => {
                let (sender, reply) = oneshot::channel();
                kept.lock().expect("no panic").push((Some("a".to_owned()), sender));
                Answer::Held(reply)
            }
        });
        let rig = Rig::new(vec![charge()], app).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.until("a is called", |rig| rig.app.in_flight() == 1).await;
        rig.send("order/shipped", &json!({})).await;
        rig.until("the wait is over", |rig| rig.store.waits() == 0).await;
        let began = tokio::time::Instant::now();
        rig.until("the wait's memo is recorded", |rig| {
            rig.store.run(run).is_some_and(|run| run.stack.len() == 1)
        })
        .await;
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "only after {:?}",
            began.elapsed()
        );
        let_go(&held, "a", ran("a"));
        assert_eq!(rig.ended(run).await, "completed");
        assert!(rig.store.jobs().is_empty(), "no job is left over");
    });
}

#[test]
fn an_event_that_cancels_does_so_at_once_also_while_the_run_is_being_called() {
    virtually(async {
        let mut charge = charge();
        charge.flow.cancel.push(CancelRule {
            event: "order/withdrawn".to_owned(),
            condition: None,
            timeout: None,
        });
        let (app, _held) = parallel(&["a", "b"]);
        let rig = Rig::new(vec![charge.clone()], app).await;
        let run = rig.start(&charge, "order/paid", &json!({})).await;
        rig.until("two calls", |rig| rig.app.in_flight() == 2).await;
        rig.pass(Duration::from_millis(5)).await;
        rig.send("order/withdrawn", &json!({})).await;
        let began = tokio::time::Instant::now();
        assert_eq!(rig.ended(run).await, "cancelled");
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "only after {:?}",
            began.elapsed()
        );
    });
}

#[test]
fn an_event_that_cancels_does_so_at_once_also_between_two_attempts() {
    virtually(async {
        let mut charge = charge();
        charge.flow.cancel.push(CancelRule {
            event: "order/withdrawn".to_owned(),
            condition: None,
            timeout: None,
        });
        let app = FakeApp::new(|_| Answer::Panic);
        let settings = Settings {
            retry: RetryPolicy::Fixed(Duration::from_secs(3_600)),
            ..Settings::default()
        };
        let rig = Rig::with(vec![charge.clone()], app, settings).await;
        let run = rig.start(&charge, "order/paid", &json!({})).await;
        rig.until("the attempt failed", |rig| {
            rig.store.jobs().iter().any(|job| job.attempt == 1) && rig.queue.leased() == 0
        })
        .await;
        rig.send("order/withdrawn", &json!({})).await;
        let began = tokio::time::Instant::now();
        assert_eq!(rig.ended(run).await, "cancelled");
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "only after {:?}",
            began.elapsed()
        );
    });
}

#[test]
fn a_drain_lets_calls_finish_and_begins_none() {
    virtually(async {
        let (app, held) = parallel(&["a", "b"]);
        let rig = Rig::new(vec![charge()], app).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.until("two calls", |rig| rig.app.in_flight() == 2).await;
        let orchestrator = rig.orchestrator.clone();
        let drain = actix::spawn(async move { orchestrator.drain(Duration::from_secs(20)).await });
        rig.pass(Duration::from_secs(1)).await;
        let_go(&held, "a", ran("a"));
        rig.pass(Duration::from_secs(1)).await;
        let_go(&held, "b", ran("b"));
        let report = rig.within(drain).await.expect("drained");
        assert!(report.orphans.is_empty(), "{report:?}");
        let state = rig.store.run(run).expect("a run");
        assert_eq!(state.stack.len(), 2, "both replies are recorded");
        let keys: Vec<_> = rig.store.jobs().iter().map(|job| job.id.key.to_string()).collect();
        assert_eq!(keys, ["discover:b"], "what follows is left for the next start");
        assert_eq!(rig.app.seen().len(), 3);
    });
}

#[test]
fn a_drain_does_not_begin_what_was_only_being_prepared() {
    virtually(async {
        let settings = Settings {
            cache_bytes: 0,
            ..Settings::default()
        };
        let rig = Rig::with(vec![charge()], sequential(1), settings).await;
        rig.store.fail_loads(&[Fault::Hang]);
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.until("its job is handed out", |rig| rig.queue.leased() == 1).await;
        rig.pass(Duration::from_millis(10)).await;
        let orchestrator = rig.orchestrator.clone();
        let drain = actix::spawn(async move { orchestrator.drain(Duration::from_secs(20)).await });
        rig.pass(Duration::from_secs(1)).await;
        rig.store.thaw();
        let report = rig.within(drain).await.expect("drained");
        assert!(report.orphans.is_empty(), "{report:?}");
        assert!(rig.app.seen().is_empty(), "no call is begun in a drain");
        assert_eq!(rig.queue.leased(), 0, "its job is handed back");
        assert_eq!(
            rig.store
                .load_run(run)
                .await
                .expect("a store")
                .expect("open")
                .jobs
                .len(),
            1
        );
    });
}

#[test]
fn replies_are_decided_although_the_database_was_away() {
    virtually(async {
        let (app, held) = parallel(&["a", "b"]);
        let rig = Rig::new(vec![charge()], app).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.until("two calls", |rig| rig.app.in_flight() == 2).await;
        rig.store.fail(&[Fault::Unavailable; 6]);
        let_go(&held, "a", ran("a"));
        let_go(&held, "b", ran("b"));
        assert_eq!(rig.ended(run).await, "completed");
        assert_eq!(rig.app.seen().len(), 4, "no call is made again for it");
    });
}

#[test]
fn a_commit_that_was_made_and_reported_as_failed_is_not_made_twice() {
    virtually(async {
        let rig = Rig::new(vec![charge()], sequential(3)).await;
        rig.store.fail(&[
            Fault::None,
            Fault::Forgotten,
            Fault::Forgotten,
            Fault::None,
            Fault::Forgotten,
        ]);
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
        assert_eq!(rig.store.run(run).expect("a run").stack.len(), 3);
        assert_eq!(rig.app.seen().len(), 4, "P3: {:?}", rig.app.seen());
        rig.until("all leases are over", |rig| rig.queue.jobs().is_empty())
            .await;
        assert!(rig.store.jobs().is_empty(), "P4");
    });
}

/// Starts a run and lets its first attempt fail. Answers the job of the next one, due now.
async fn failed_once(rig: &Rig) -> Job {
    rig.start(&charge(), "order/paid", &json!({})).await;
    rig.until("the attempt failed", |rig| {
        rig.store.jobs().iter().any(|job| job.attempt == 1) && rig.queue.leased() == 0
    })
    .await;
    Job {
        due: rig.now(),
        ..rig.store.jobs().remove(0)
    }
}

/// What another process writes that has done the job.
async fn end_elsewhere(rig: &Rig, run: RunId) {
    let state = rig.store.run(run).expect("a run");
    let end = Change::Ended {
        status: RunStatus::Completed,
        output: Json::null(),
        at: rig.now(),
    };
    let elsewhere = Write::Advance(Advance {
        run,
        expected: state.version,
        changes: vec![end],
    });
    rig.store.commit(&[elsewhere]).await.expect("commits");
}

async fn failing_once(cache_bytes: usize) -> Rig {
    let settings = Settings {
        retry: RetryPolicy::Fixed(Duration::from_secs(3_600)),
        cache_bytes,
        ..Settings::default()
    };
    Rig::with(vec![charge()], FakeApp::new(|_| Answer::Panic), settings).await
}

#[test]
fn a_call_that_others_may_have_made_is_made_from_the_state_in_the_database() {
    virtually(async {
        let rig = failing_once(Settings::default().cache_bytes).await;
        rig.queue.share();
        let job = failed_once(&rig).await;
        end_elsewhere(&rig, job.id.run).await;
        // This process hears of the job only.
        rig.queue.push(vec![job], Origin::Sweep).await;
        rig.until("the job is done with", |rig| rig.queue.jobs().is_empty())
            .await;
        assert_eq!(rig.app.seen().len(), 1, "P3: {:?}", rig.app.seen());
    });
}

#[test]
fn a_process_that_stood_still_with_a_job_in_hand_looks_before_it_calls() {
    virtually(async {
        let rig = failing_once(Settings::default().cache_bytes).await;
        let job = failed_once(&rig).await;
        end_elsewhere(&rig, job.id.run).await;
        rig.queue.lag(Duration::from_secs(4));
        rig.queue.push(vec![job], Origin::Commit).await;
        rig.until("the job is done with", |rig| rig.queue.jobs().is_empty())
            .await;
        assert_eq!(rig.app.seen().len(), 1, "P3: {:?}", rig.app.seen());
    });
}

#[rstest::rstest]
fn a_process_that_stood_still_while_it_read_a_run_reads_it_again(#[values(500, 4_000)] millis: u64) {
    virtually(async move {
        let rig = failing_once(0).await;
        rig.queue.share();
        let job = failed_once(&rig).await;
        let run = job.id.run;
        // The second read, the one that is to make sure, answers with what was true a while ago.
        rig.store.fail_loads(&[Fault::None, Fault::Hang]);
        let before = rig.store.loads();
        rig.queue.push(vec![job], Origin::Sweep).await;
        rig.until("it reads", |rig| rig.store.loads() == before + 2).await;
        end_elsewhere(&rig, run).await;
        rig.pass(Duration::from_millis(millis)).await;
        rig.store.thaw();
        rig.until("the job is done with", |rig| rig.queue.jobs().is_empty())
            .await;
        assert_eq!(rig.app.seen().len(), 1, "P3: {:?}", rig.app.seen());
    });
}
