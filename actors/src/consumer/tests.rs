//! How jobs reach executors, and how they come back.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::{DeadLetter, Failure, Function, Reply, RunStatus};
use crate::kernel::RestartPolicy;
use crate::orchestrator::Settings;
use crate::ports::DeadLetterFilter;
use crate::testkit::{Answer, FakeApp, FakeRandom, Rig, function, returned, steps, virtually};

use super::executor_name;

fn charge() -> Function {
    function("charge", "order/paid")
}

fn state_of(rig: &Rig, function: &Function) -> Option<String> {
    let name = executor_name(function.id);
    let status = rig.orchestrator.status();
    let children = status["children"].as_array().cloned().unwrap_or_default();
    let child = children.iter().find(|child| child["name"] == name.as_str())?;
    Some(child["state"].to_string())
}

fn failed() -> Reply {
    Reply::Failed {
        failure: Failure::new("Error", "no"),
        status: Some(500),
        no_retry: false,
        retry_after: None,
    }
}

#[test]
fn permits_bound_what_is_in_flight_and_the_rest_follows_at_once() {
    virtually(async {
        let held: Arc<Mutex<Vec<oneshot::Sender<Reply>>>> = Arc::default();
        let kept = Arc::clone(&held);
        let app = FakeApp::new(move |_| {
            let (sender, reply) = oneshot::channel();
            kept.lock().expect("no panic").push(sender);
            Answer::Held(reply)
        });
        let settings = Settings {
            jobs_in_flight: 3,
            ..Settings::default()
        };
        let rig = Rig::with(vec![charge()], app, settings).await;
        for _ in 0..10 {
            rig.start(&charge(), "order/paid", &json!({})).await;
        }
        rig.until("as many calls as permits", |rig| rig.app.in_flight() == 3)
            .await;
        rig.pass(Duration::from_secs(10)).await;
        assert_eq!((rig.app.in_flight(), rig.queue.leased()), (3, 3), "P6");
        let began = Instant::now();
        for done in 0..10 {
            rig.until("a call", |rig| rig.app.seen().len() > done).await;
            let sender = held.lock().expect("no panic").remove(0);
            sender.send(returned(&json!(done))).expect("awaited");
        }
        rig.until("all have ended", |rig| {
            rig.store.runs().iter().all(|run| run.status.is_final())
        })
        .await;
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "room must wake: {:?}",
            began.elapsed()
        );
        assert_eq!(rig.app.peak(), 3, "P6");
    });
}

#[test]
fn one_function_has_no_more_than_its_share() {
    virtually(async {
        let (hot, quiet) = (charge(), function("greet", "user/came"));
        let slug = quiet.id;
        let app = FakeApp::new(move |call| {
            if call.function == slug {
                return Answer::Now(returned(&json!("hello")));
            }
            let (sender, reply) = oneshot::channel();
            std::mem::forget(sender);
            Answer::Held(reply)
        });
        let settings = Settings {
            jobs_in_flight: 4,
            jobs_per_function: 2,
            ..Settings::default()
        };
        let rig = Rig::with(vec![hot.clone(), quiet.clone()], app, settings).await;
        for _ in 0..20 {
            rig.start(&hot, "order/paid", &json!({})).await;
        }
        rig.until("the hot one is at its limit", |rig| rig.app.in_flight() == 2)
            .await;
        let run = rig.start(&quiet, "user/came", &json!({})).await;
        let began = Instant::now();
        assert_eq!(rig.ended(run).await, "completed");
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(rig.app.peak(), 3);
    });
}

#[test]
fn an_executor_is_started_on_demand_and_put_to_rest() {
    virtually(async {
        let app = FakeApp::new(|_| Answer::Now(returned(&json!(1))));
        let rig = Rig::new(vec![charge()], app).await;
        assert_eq!(state_of(&rig, &charge()), None, "nobody has asked for it");
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
        assert!(state_of(&rig, &charge()).is_some());
        rig.until("it rests", |rig| state_of(rig, &charge()).is_none()).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed", "and it comes back");
    });
}

/// An app that completes a first step, and over whose next `bad` replies the executor panics in the engine.
fn bad_after_a_step(bad: usize) -> (FakeApp, Arc<OnceLock<Arc<FakeRandom>>>) {
    let dice: Arc<OnceLock<Arc<FakeRandom>>> = Arc::default();
    let known = Arc::clone(&dice);
    let mut calls = 0;
    let app = FakeApp::new(move |_| {
        calls += 1;
        if calls == 1 {
            return Answer::Now(steps(&json!([{"op": "StepRun", "id": "a", "data": 1}])));
        }
        if calls <= bad + 1 {
            known.get().expect("the rig is up").poison();
            return Answer::Now(failed());
        }
        Answer::Now(returned(&json!("done")))
    });
    (app, dice)
}

async fn held(rig: &Rig) -> DeadLetter {
    rig.until("a job is given up", |rig| !rig.store.dead().is_empty()).await;
    rig.until("its lease is over", |rig| rig.queue.jobs().is_empty()).await;
    rig.store.dead().remove(0)
}

#[test]
fn a_job_over_which_the_executor_died_three_times_holds_its_run() {
    virtually(async {
        // Three panics, and two more after the retry: were they not forgotten, the fourth would be one too many.
        let (app, dice) = bad_after_a_step(5);
        let rig = Rig::new(vec![charge()], app).await;
        dice.set(Arc::clone(&rig.random)).expect("set once");
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        let letter = held(&rig).await;
        assert_eq!(
            rig.app.seen().len(),
            4,
            "three panics, and it is not tried a fourth time"
        );
        assert_eq!(
            (letter.job.id.run, letter.job.id.key.to_string().as_str()),
            (run, "discover:a")
        );
        assert!(letter.reason.contains("panicked"), "{}", letter.reason);

        // The janitor looks every minute, the scheduler more often.
        rig.pass(Duration::from_secs(300)).await;
        assert_eq!(
            rig.store.status(run),
            Some(RunStatus::Running),
            "held, and nobody's orphan"
        );
        assert_eq!((rig.store.jobs().len(), rig.app.seen().len()), (0, 4));

        let retried = rig.within(rig.orchestrator.retry_dead_letter(letter.id)).await;
        assert_eq!(retried.expect("put back"), Some(letter.clone()));
        assert_eq!(rig.ended(run).await, "completed");
        let calls = rig.app.seen();
        assert_eq!(calls.len(), 7);
        assert!(
            calls[1..].iter().all(|call| call.stack == ["a"]),
            "the first step stays done"
        );
        assert!(rig.store.dead().is_empty());
        for settled in [
            rig.within(rig.orchestrator.retry_dead_letter(letter.id)).await,
            rig.within(rig.orchestrator.discard_dead_letter(letter.id)).await,
        ] {
            assert_eq!(settled.expect("asked"), None, "the letter is gone");
        }
    });
}

#[test]
fn a_retried_job_is_given_up_again_after_three_more() {
    virtually(async {
        let (app, dice) = bad_after_a_step(usize::MAX - 1);
        let rig = Rig::new(vec![charge()], app).await;
        dice.set(Arc::clone(&rig.random)).expect("set once");
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        let first = held(&rig).await;
        let filter = DeadLetterFilter {
            limit: 10,
            ..DeadLetterFilter::default()
        };
        let retried = rig
            .within(rig.orchestrator.retry_dead_letters(&filter))
            .await
            .expect("put back");
        assert_eq!((retried.count, retried.has_more), (1, false));
        rig.until("it is given up again", |rig| {
            rig.store.dead().first().is_some_and(|letter| letter.id != first.id)
        })
        .await;
        assert_eq!(rig.app.seen().len(), 7);
        let second = held(&rig).await;
        let discarded = rig.within(rig.orchestrator.discard_dead_letter(second.id)).await;
        assert_eq!(discarded.expect("failed"), Some(second));
        assert_eq!(rig.ended(run).await, "failed");
        assert!(
            rig.store
                .output(run)
                .is_some_and(|output| output.contains("PoisonousJob"))
        );
        assert!(rig.store.dead().is_empty());
    });
}

#[test]
fn what_a_dying_executor_had_in_hand_is_handed_out_again() {
    virtually(async {
        let dice: Arc<OnceLock<Arc<FakeRandom>>> = Arc::default();
        let known = Arc::clone(&dice);
        let mut calls = 0;
        let app = FakeApp::new(move |_| {
            calls += 1;
            match calls {
                // Nine that are under way when the tenth brings the executor down.
                1..=9 => {
                    let (sender, reply) = oneshot::channel();
                    std::mem::forget(sender);
                    Answer::Held(reply)
                }
                10 => {
                    known.get().expect("the rig is up").poison();
                    Answer::Now(failed())
                }
                _ => Answer::Now(returned(&json!(1))),
            }
        });
        let rig = Rig::new(vec![charge()], app).await;
        dice.set(Arc::clone(&rig.random)).expect("set once");
        let began = Instant::now();
        for _ in 0..10 {
            rig.start(&charge(), "order/paid", &json!({})).await;
        }
        rig.until("all have ended", |rig| {
            rig.store.runs().iter().all(|run| run.status.as_str() == "completed")
        })
        .await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(
            rig.store.dead().is_empty(),
            "one panic buries nobody, least of all the neighbours"
        );
    });
}

#[test]
fn a_quarantined_function_waits_and_hinders_nobody() {
    virtually(async {
        let (bad, good) = (charge(), function("greet", "user/came"));
        let id = bad.id;
        let dice: Arc<OnceLock<Arc<FakeRandom>>> = Arc::default();
        let known = Arc::clone(&dice);
        let healed = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let well = Arc::clone(&healed);
        let app = FakeApp::new(move |call| {
            if call.function == id && !well.load(std::sync::atomic::Ordering::SeqCst) {
                known.get().expect("the rig is up").poison();
                return Answer::Now(failed());
            }
            Answer::Now(returned(&json!(1)))
        });
        let settings = Settings {
            restart: RestartPolicy {
                max_restarts: 1,
                ..RestartPolicy::default()
            },
            quarantine_probe: Duration::from_secs(300),
            ..Settings::default()
        };
        let rig = Rig::with(vec![bad.clone(), good.clone()], app, settings).await;
        dice.set(Arc::clone(&rig.random)).expect("set once");
        let sick = rig.start(&bad, "order/paid", &json!({})).await;
        rig.until("it is out of service", |rig| {
            state_of(rig, &bad).is_some_and(|state| state.contains("quarantined"))
        })
        .await;
        let calls = rig.app.seen().len();
        healed.store(true, std::sync::atomic::Ordering::SeqCst);
        rig.pass(Duration::from_secs(60)).await;
        assert_eq!(rig.app.seen().len(), calls, "nothing of it is tried");
        assert_eq!(rig.queue.jobs().len(), 1, "its job waits");
        let run = rig.start(&good, "user/came", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
        assert_eq!(rig.ended(sick).await, "completed", "the probe finds it well");
    });
}
