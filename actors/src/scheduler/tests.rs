//! Jobs reach the queue in time, and crons fire once.

mod downtime;
mod run_slots;

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use serde_json::json;
use tokio::time::Instant;

use crate::domain::{Function, Trigger};
use crate::orchestrator::Settings;
use crate::testkit::{Answer, FakeApp, Fault, Rig, function, returned, steps, virtually};

/// Sleeps and returns.
fn sleeping(time: &'static str) -> FakeApp {
    FakeApp::new(move |call| {
        Answer::Now(if call.stack.is_empty() {
            steps(&json!([{ "op": "Sleep", "id": "s", "name": time }]))
        } else {
            returned(&json!("awake"))
        })
    })
}

fn cron(schedule: &str) -> Function {
    let mut function = function("nightly", "");
    function.triggers = vec![Trigger::Cron {
        cron: schedule.to_owned(),
        jitter: None,
    }];
    function
}

fn idle() -> FakeApp {
    FakeApp::new(|_| Answer::Now(returned(&json!("done"))))
}

#[test]
fn a_far_sleep_stays_in_the_store_and_ends_on_time() {
    virtually(async {
        let function = function("one", "order/paid");
        let rig = Rig::new(vec![function.clone()], sleeping("10m")).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        rig.until("it sleeps", |rig| {
            rig.store.jobs().iter().any(|job| job.id.key.to_string() == "wake:s")
        })
        .await;
        let began = Instant::now();
        rig.pass(Duration::from_secs(500)).await;
        assert!(rig.queue.jobs().is_empty(), "a far timer costs no memory");
        assert_eq!(rig.ended(run).await, "completed");
        let slept = began.elapsed();
        assert!(
            slept >= Duration::from_secs(599) && slept < Duration::from_secs(601),
            "{slept:?}"
        );
    });
}

#[test]
fn everything_that_is_due_is_brought_at_the_start() {
    virtually(async {
        let function = function("one", "order/paid");
        let rig = Rig::new(vec![function.clone()], sleeping("5s")).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        rig.until("it sleeps", |rig| {
            rig.store.jobs().iter().any(|job| job.id.key.to_string() == "wake:s")
        })
        .await;
        rig.within(rig.orchestrator.drain(Duration::from_secs(1))).await;
        let (store, app) = (Arc::clone(&rig.store), rig.app.clone());
        drop(rig);
        let next = Rig::on(store, app, Settings::default()).await;
        assert_eq!(next.ended(run).await, "completed", "P5");
        assert!(next.store.jobs().is_empty());
    });
}

#[test]
fn a_queue_that_forgot_everything_is_filled_again() {
    virtually(async {
        let function = function("one", "order/paid");
        let rig = Rig::new(vec![function.clone()], sleeping("5s")).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        rig.until("it sleeps", |rig| {
            rig.queue.jobs().iter().any(|job| job.id.key.to_string() == "wake:s")
        })
        .await;
        rig.pass(Duration::from_millis(10)).await;
        rig.queue.flush();
        assert_eq!(rig.ended(run).await, "completed", "P5");
    });
}

#[test]
fn jobs_there_was_no_room_for_follow_when_there_is() {
    virtually(async {
        let function = function("one", "order/paid");
        let rig = Rig::new(vec![function.clone()], idle()).await;
        rig.queue.bound(5);
        let began = Instant::now();
        let mut runs = Vec::new();
        let mut events = Vec::new();
        for n in 0..50 {
            let event = crate::testkit::event("order/paid", &json!({}), n, rig.now());
            runs.push(crate::domain::RunId::derive(event.id, function.id));
            events.push(event);
        }
        assert!(rig.within(rig.orchestrator.accept(events)).await.is_ok());
        for run in runs {
            assert_eq!(rig.ended(run).await, "completed");
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    });
}

#[test]
fn a_tick_fires_once() {
    virtually(async {
        let rig = Rig::new(vec![cron("*/5 * * * *")], idle()).await;
        rig.pass(Duration::from_secs(3_600)).await;
        assert_eq!(rig.store.runs().len(), 12, "every five minutes of an hour");
    });
}

#[test]
fn a_tick_fires_although_the_writer_was_away() {
    virtually(async {
        let rig = Rig::new(vec![cron("*/5 * * * *")], idle()).await;
        rig.store.fail(&[Fault::Panic]);
        rig.pass(Duration::from_secs(301)).await;
        rig.pass(Duration::from_secs(60)).await;
        assert_eq!(rig.store.runs().len(), 1);
    });
}

#[test]
fn a_tick_whose_commit_was_made_and_not_heard_of_fires_once() {
    virtually(async {
        let rig = Rig::new(vec![cron("*/5 * * * *")], idle()).await;
        rig.store.fail(&[Fault::PanicAfter]);
        rig.pass(Duration::from_secs(400)).await;
        assert_eq!(rig.store.runs().len(), 1);
        assert_eq!(
            rig.store
                .events()
                .iter()
                .filter(|event| event.name == "inngest/scheduled.timer")
                .count(),
            1
        );
    });
}

#[test]
fn an_idle_scheduler_asks_seldom() {
    virtually(async {
        let rig = Rig::new(Vec::new(), idle()).await;
        rig.pass(Duration::from_secs(10)).await;
        let before = rig.store.due_queries();
        rig.pass(Duration::from_secs(600)).await;
        let asked = rig.store.due_queries() - before;
        assert!(asked <= 130, "P7: {asked} queries in ten minutes");
    });
}

#[test]
fn a_function_with_a_long_backlog_is_not_read_over_and_over() {
    virtually(async {
        let function = function("one", "order/paid");
        let (open, is_open) = tokio::sync::watch::channel(false);
        let app = FakeApp::new(move |_| {
            let (sender, reply) = tokio::sync::oneshot::channel();
            let mut is_open = is_open.clone();
            actix::spawn(async move {
                let _ = is_open.wait_for(|is_open| *is_open).await;
                let _ = sender.send(returned(&json!("done")));
            });
            Answer::Held(reply)
        });
        let rig = Rig::with(
            vec![function.clone()],
            app,
            Settings {
                jobs_per_function: 2,
                ..Settings::default()
            },
        )
        .await;
        rig.queue.bound_each(10);
        let events = (0..50).map(|n| crate::testkit::event("order/paid", &json!({}), n, rig.now()));
        let accepted = rig.within(rig.orchestrator.accept(events.collect())).await;
        assert!(accepted.is_ok());
        rig.pass(Duration::from_secs(1)).await;
        let before = rig.store.due_queries();
        rig.pass(Duration::from_secs(300)).await;
        let asked = rig.store.due_queries() - before;
        assert!(
            asked <= 65,
            "P7: {asked} queries while nothing moved, as many as without a backlog"
        );
        open.send(true).expect("somebody waits");
        let began = Instant::now();
        rig.until("all have ended", |rig| {
            rig.store.runs().iter().all(|run| run.status.is_final())
        })
        .await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    });
}

#[test]
fn a_function_without_room_does_not_hold_up_the_others() {
    virtually(async {
        let (hot, quiet) = (function("hot", "order/paid"), function("quiet", "order/sent"));
        let hot_id = hot.id;
        let app = FakeApp::new(move |call| {
            if call.function == hot_id {
                // Never: whoever waits for it would wait for ever.
                let (sender, reply) = tokio::sync::oneshot::channel();
                std::mem::forget(sender);
                return Answer::Held(reply);
            }
            Answer::Now(if call.stack.is_empty() {
                steps(&json!([{ "op": "Sleep", "id": "s", "name": "30s" }]))
            } else {
                returned(&json!("awake"))
            })
        });
        let settings = Settings {
            jobs_per_function: 2,
            ..Settings::default()
        };
        let rig = Rig::with(vec![hot.clone(), quiet.clone()], app, settings).await;
        let events = (0..3_000).map(|n| crate::testkit::event("order/paid", &json!({}), n, rig.now()));
        assert!(rig.within(rig.orchestrator.accept(events.collect())).await.is_ok());
        let run = rig.start(&quiet, "order/sent", &json!({})).await;
        rig.until("it sleeps", |rig| {
            rig.store.jobs().iter().any(|job| job.id.key.to_string() == "wake:s")
        })
        .await;
        // As after a restart: everything is to be read from the store again, the long backlog first.
        rig.queue.bound_each(10);
        rig.queue.flush();
        rig.queue.say_forgotten();
        assert_eq!(rig.ended(run).await, "completed");
    });
}

#[test]
fn timers_end_on_time_beside_a_function_that_has_no_room_for_long() {
    virtually(async {
        let (hot, quiet) = (function("hot", "order/paid"), function("quiet", "order/sent"));
        let hot_id = hot.id;
        let app = FakeApp::new(move |call| {
            if call.function == hot_id {
                // Never: as jobs that wait at a gate for hours.
                let (sender, reply) = tokio::sync::oneshot::channel();
                std::mem::forget(sender);
                return Answer::Held(reply);
            }
            Answer::Now(if call.stack.is_empty() {
                steps(&json!([{ "op": "Sleep", "id": "s", "name": "90s" }]))
            } else {
                returned(&json!("awake"))
            })
        });
        let settings = Settings {
            jobs_per_function: 2,
            ..Settings::default()
        };
        let rig = Rig::with(vec![hot.clone(), quiet.clone()], app, settings).await;
        rig.queue.bound_each(10);
        let events = (0..100).map(|n| crate::testkit::event("order/paid", &json!({}), n, rig.now()));
        assert!(rig.within(rig.orchestrator.accept(events.collect())).await.is_ok());
        let began = Instant::now();
        let run = rig.start(&quiet, "order/sent", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
        let slept = began.elapsed();
        assert!(slept < Duration::from_secs(91), "{slept:?}");
    });
}

#[test]
fn a_queue_that_says_it_forgot_is_filled_at_once() {
    virtually(async {
        let function = function("one", "order/paid");
        let rig = Rig::new(vec![function.clone()], sleeping("5s")).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        rig.until("it sleeps", |rig| {
            rig.queue.jobs().iter().any(|job| job.id.key.to_string() == "wake:s")
        })
        .await;
        let began = Instant::now();
        rig.queue.flush();
        rig.queue.say_forgotten();
        assert_eq!(rig.ended(run).await, "completed", "P5");
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    });
}

/// What else is in the queue says nothing of whether it has room.
#[rstest]
#[case::that_it_was_told_of(false)]
#[case::that_it_forgot(true)]
fn a_queue_that_answers_again_gets_at_once_what_it_lacks(#[case] forgets: bool) {
    virtually(async {
        let (sleeper, quick) = (function("sleeper", "order/paid"), function("quick", "order/sent"));
        let sleeps = sleeper.id;
        let app = FakeApp::new(move |call| {
            Answer::Now(if call.function == sleeps && call.stack.is_empty() {
                steps(&json!([{ "op": "Sleep", "id": "s", "name": "50s" }]))
            } else {
                returned(&json!("awake"))
            })
        });
        let settings = Settings {
            horizon: Duration::from_secs(60),
            ..Settings::default()
        };
        let rig = Rig::with(vec![sleeper.clone(), quick.clone()], app, settings).await;
        rig.start(&sleeper, "order/paid", &json!({})).await;
        rig.until("its timer is in the queue", |rig| {
            rig.queue.jobs().iter().any(|job| job.id.key.to_string() == "wake:s")
        })
        .await;
        rig.queue.mute(true);
        let run = rig.start(&quick, "order/sent", &json!({})).await;
        if forgets {
            rig.queue.flush();
            rig.queue.say_forgotten();
        }
        rig.pass(Duration::from_secs(5)).await;
        rig.queue.mute(false);
        let began = Instant::now();
        assert_eq!(rig.ended(run).await, "completed", "P5");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    });
}

/// Seconds by which an operator, or whatever keeps the machine's time, sets the clock.
#[rstest]
#[case::ahead(7_200)]
#[case::back(-7_200)]
fn a_clock_that_is_set_loses_nothing_and_repeats_nothing(#[case] by: i64) {
    virtually(async {
        let function = function("one", "order/paid");
        let rig = Rig::new(vec![function.clone(), cron("0 * * * *")], sleeping("10m")).await;
        let before = rig.start(&function, "order/paid", &json!({})).await;
        rig.until("it sleeps", |rig| {
            rig.store.jobs().iter().any(|job| job.id.key.to_string() == "wake:s")
        })
        .await;
        rig.clock.set_ahead(by);
        let after = rig.start(&function, "order/paid", &json!({})).await;
        rig.pass(Duration::from_secs(4 * 3_600)).await;
        for run in [before, after] {
            assert_eq!(rig.ended(run).await, "completed");
            let calls = rig.app.seen().iter().filter(|call| call.run == run).count();
            assert_eq!(calls, 2, "one before the sleep, one after it");
        }
        // None has two runs, and those that passed before the clock was set back have none again.
        let mut slots: Vec<_> = rig
            .store
            .events()
            .iter()
            .filter(|event| event.name == "inngest/scheduled.timer")
            .map(|event| event.ts)
            .collect();
        let ticks = slots.len();
        slots.sort();
        slots.dedup();
        assert_eq!(slots.len(), ticks);
        assert!(ticks >= 2, "it goes on: {ticks} ticks");
    });
}
