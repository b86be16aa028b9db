//! Restarts: fresh state, new address, the backoff, the limit, and what each kind of failure counts as.

use std::time::Duration;

use actix::MailboxError;
use rstest::rstest;
use tokio::time::Instant;

use super::{super::*, *};
use crate::kernel::{Credits, Lookup, RestartKind, credit::Limits};
use faulty::*;

#[derive(Debug, Clone, Copy)]
enum Way {
    Handler,
    ActFuture,
    Spawned,
    Timer,
    Observe,
}

#[rstest]
#[case(Way::Handler, "in a handler")]
#[case(Way::ActFuture, "in an act-future")]
#[case(Way::Spawned, "in a spawned future")]
#[case(Way::Timer, "in a timer")]
#[case(Way::Observe, "in observe")]
fn a_panic_is_followed_by_a_fresh_actor_under_the_same_name(#[case] way: Way, #[case] text: &str) {
    virtually(async {
        let rig = Rig::new().await;
        let first = rig.start(rig.child("a")).await;
        let old = rig.address("a");
        assert_eq!(old.send(Count).await, Ok(1));
        assert_eq!(old.send(Count).await, Ok(2));
        match way {
            Way::Handler => old.do_send(Panic),
            Way::ActFuture => old.do_send(PanicInActFuture),
            Way::Spawned => old.do_send(PanicInSpawned),
            Way::Timer => old.do_send(PanicLater),
            Way::Observe => rig.script.panic_in_observe(1),
        }
        let second = rig.until_newer("a", first).await;

        let new = rig.address("a");
        assert_ne!(*old, *new);
        assert_eq!(new.send(Count).await, Ok(1), "a fresh state");
        assert_eq!(old.send(Count).await, Err(MailboxError::Closed));
        assert_eq!(rig.handle.book.find::<Faulty>("a").generation(), Some(second));
        assert_eq!(rig.exits("a"), [Exit::Panicked { text: text.into() }]);
        let tree = rig.handle.board.read();
        let status = tree.child("a").expect("is listed");
        assert_eq!((status.restarts_in_window, status.restarts_total), (1, 1));
        let last = status.last_exit.as_ref().expect("there was one");
        assert_eq!((last.generation, last.exit.text()), (first, Some(text)));
    });
}

#[test]
fn a_panic_in_a_detached_reply_fails_only_the_reply() {
    virtually(async {
        let rig = Rig::new().await;
        let generation = rig.start(rig.child("a")).await;
        let address = rig.address("a");
        assert_eq!(address.send(Count).await, Ok(1));
        assert!(address.send(PanicInReply).await.is_err());
        assert_eq!(address.send(Count).await, Ok(2));
        assert_eq!(rig.handle.book.find::<Faulty>("a").generation(), Some(generation));
        assert_eq!(rig.exits("a"), []);
    });
}

#[test]
fn delays_double_and_the_failure_after_the_limit_stops_the_process() {
    virtually(async {
        let rig = Rig::new().await;
        let mut generation = rig.start(rig.child("a")).await;
        for expected in [100, 200, 400, 800, 1_600] {
            let failed_at = Instant::now();
            rig.address("a").do_send(Panic);
            let tree = rig.until_state("a", |state| !is_running(state)).await;
            let until_ms = tree.taken_at_ms + i64::try_from(expected).expect("small");
            assert_eq!(
                tree.child("a").map(|child| child.state.clone()),
                Some(ChildState::BackingOff { until_ms })
            );
            assert!(matches!(
                rig.handle.book.find::<Faulty>("a"),
                Lookup::Restarting { until } if until == failed_at + Duration::from_millis(expected)
            ));
            generation = rig.until_newer("a", generation).await;
        }
        assert_eq!(rig.handle.stop.reason(), None);
        rig.address("a").do_send(Panic);
        let reason = rig.within(rig.handle.stop.clone().fired()).await;
        assert_eq!(
            reason,
            StopReason::GaveUp {
                child: "a".into(),
                restarts: 5,
                exit: Exit::Panicked {
                    text: "in a handler".into()
                },
            }
        );
        assert_eq!(
            reason.to_string(),
            "a cannot be kept running (5 restarts): panicked: in a handler"
        );
        let tree = rig.until_state("a", |state| *state == ChildState::Stopped).await;
        assert_eq!(tree.stop_reason, Some(reason.to_string()));
        assert!(matches!(rig.handle.book.find::<Faulty>("a"), Lookup::Absent));
    });
}

#[test]
fn a_minute_of_health_starts_the_delays_from_the_base() {
    virtually(async {
        let rig = Rig::new().await;
        let mut generation = rig.start(rig.child("a")).await;
        for (lives, delay) in [(0, 100), (0, 200), (61, 100)] {
            tokio::time::sleep(Duration::from_secs(lives)).await;
            let failed_at = Instant::now();
            rig.address("a").do_send(Panic);
            generation = rig.until_newer("a", generation).await;
            assert_eq!(failed_at.elapsed(), Duration::from_millis(delay));
        }
    });
}

#[rstest]
#[case(true, "in the factory")]
#[case(false, "in started")]
fn a_failed_start_is_retried_and_told_to_who_asked(#[case] factory: bool, #[case] text: &str) {
    virtually(async {
        let rig = Rig::new().await;
        if factory {
            rig.script.panic_in_factory(3);
        } else {
            rig.script.panic_in_started(3);
        }
        let retry_after = Duration::from_millis(100);
        let refused = rig.ask(StartChild(rig.child("a"))).await;
        assert_eq!(refused, Err(Refusal::BackingOff { retry_after }));
        rig.until_state("a", is_running).await;
        let failed = Exit::StartFailed { text: text.into() };
        assert_eq!(rig.exits("a"), vec![failed; 3]);
        assert_eq!(rig.address("a").send(Count).await, Ok(1));
    });
}

#[rstest]
#[case(RestartKind::Permanent, true, true)]
#[case(RestartKind::Permanent, false, true)]
#[case(RestartKind::Transient, true, false)]
#[case(RestartKind::Transient, false, true)]
#[case(RestartKind::Temporary, true, false)]
#[case(RestartKind::Temporary, false, false)]
fn the_restart_kind_decides(#[case] kind: RestartKind, #[case] normal: bool, #[case] returns: bool) {
    virtually(async {
        let rig = Rig::new().await;
        let first = rig.start(rig.child("a").with_restart(kind)).await;
        if normal {
            rig.address("a").do_send(Stop);
        } else {
            rig.address("a").do_send(Panic);
        }
        if returns {
            rig.until_newer("a", first).await;
            return;
        }
        let gone = |tree: &Snapshot| match kind {
            RestartKind::Temporary => tree.child("a").is_none(),
            _ => tree.child("a").is_some_and(|child| child.state == ChildState::Stopped),
        };
        rig.until(gone).await;
        assert!(matches!(rig.handle.book.find::<Faulty>("a"), Lookup::Absent));
        assert_eq!(rig.exits("a").len(), 1);
        // Whoever needs it again starts it again.
        assert!(rig.start(rig.child("a").with_restart(kind)).await > first);
    });
}

#[test]
fn what_a_stale_incarnation_reports_changes_nothing() {
    virtually(async {
        let rig = Rig::new().await;
        let first = rig.start(rig.child("a")).await;
        rig.address("a").do_send(Panic);
        let second = rig.until_newer("a", first).await;
        rig.ask(messages::Notice::Exited {
            name: "a".into(),
            generation: first,
            exit: Exit::Normal,
        })
        .await;
        rig.ask(messages::Notice::Running {
            name: "a".into(),
            generation: first,
        })
        .await;
        rig.ask(messages::Notice::TimeUp {
            name: "a".into(),
            ticket: 0,
        })
        .await;
        let refused = rig
            .ask(RestChild {
                name: "a".into(),
                generation: Some(first),
            })
            .await;
        assert_eq!(refused, Err(Refusal::Stale));
        assert_eq!(rig.handle.book.find::<Faulty>("a").generation(), Some(second));
        assert_eq!(rig.exits("a").len(), 1);
    });
}

#[test]
fn a_timer_that_was_overtaken_on_its_way_changes_nothing() {
    virtually(async {
        let rig = Rig::new().await;
        let spec = rig.child("a").with_policy(RestartPolicy {
            base: Duration::from_secs(20),
            ..RestartPolicy::default()
        });
        rig.start(spec).await;
        rig.address("a").do_send(Panic);
        rig.until_state("a", |state| matches!(state, ChildState::BackingOff { .. }))
            .await;
        rig.ask(messages::Notice::TimeUp {
            name: "a".into(),
            ticket: 0,
        })
        .await;
        let tree = rig.ask(GetStatus).await;
        let state = tree.child("a").map(|child| child.state.clone());
        assert!(matches!(state, Some(ChildState::BackingOff { .. })), "{state:?}");
    });
}

#[test]
fn siblings_do_not_notice() {
    virtually(async {
        let rig = Rig::new().await;
        let a = rig.start(rig.child("a")).await;
        let b = rig.start(rig.child("b")).await;
        assert_eq!(rig.address("b").send(Count).await, Ok(1));
        rig.address("a").do_send(Panic);
        rig.until_newer("a", a).await;
        assert_eq!(rig.address("b").send(Count).await, Ok(2));
        assert_eq!(rig.handle.book.find::<Faulty>("b").generation(), Some(b));
    });
}

#[test]
fn permits_in_the_mailbox_and_in_the_work_of_a_dead_actor_come_back() {
    virtually(async {
        let rig = Rig::new().await;
        let credits = Credits::new(Limits {
            total: 2,
            per_key: 2,
            waiting: 1,
        });
        let first = rig.start(rig.child("a")).await;
        let address = rig.address("a");
        let long = Duration::from_secs(100_000);
        let permit = || Some(credits.try_acquire("a").expect("room"));
        address.send(Work(long, permit())).await.expect("the actor lives");
        address.do_send(Panic);
        address.do_send(Work(long, permit()));
        assert_eq!(credits.available("a"), 0);
        rig.until_newer("a", first).await;
        assert_eq!(credits.available("a"), 2);
    });
}

#[test]
fn a_restart_on_command_counts_as_no_failure() {
    virtually(async {
        let rig = Rig::new().await;
        let first = rig.start(rig.child("a")).await;
        rig.ask(RestartChild { name: "a".into() }).await.expect("a child");
        rig.until_newer("a", first).await;
        assert_eq!(rig.exits("a"), [Exit::Normal]);
        let tree = rig.handle.board.read();
        assert_eq!(tree.child("a").map(|child| child.restarts_total), Some(0));
        let unknown = rig.ask(RestartChild { name: "b".into() }).await;
        assert_eq!(unknown, Err(Refusal::Unknown));
    });
}

#[test]
fn a_restart_on_command_cuts_a_backoff_short() {
    virtually(async {
        let rig = Rig::new().await;
        let spec = rig.child("a").with_policy(RestartPolicy {
            base: Duration::from_secs(20),
            ..RestartPolicy::default()
        });
        let first = rig.start(spec).await;
        rig.address("a").do_send(Panic);
        rig.until_state("a", |state| matches!(state, ChildState::BackingOff { .. }))
            .await;
        let then = Instant::now();
        rig.ask(RestartChild { name: "a".into() }).await.expect("a child");
        let second = rig.until_newer("a", first).await;
        assert_eq!(then.elapsed(), Duration::ZERO);
        // The timer of the backoff is out of date.
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(rig.handle.book.find::<Faulty>("a").generation(), Some(second));
    });
}
