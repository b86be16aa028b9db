//! Hangs: of one child, of its start, of its thread; and what does not count as one.

use std::{sync::mpsc, time::Duration};

use actix::Arbiter;
use tokio::time::Instant;

use super::{super::*, *};
use faulty::*;

fn beats(count: u32) -> Duration {
    Settings::default().heartbeat * count
}

#[test]
fn a_child_that_leaves_three_probes_unanswered_is_aborted_and_rebuilt() {
    virtually(async {
        let rig = Rig::new().await;
        let healthy = rig.start(rig.child("b")).await;
        let first = rig.start(rig.child("a")).await;
        let then = Instant::now();
        rig.address("a").do_send(Hang);
        let second = rig.until_newer("a", first).await;
        // The first beat asks, the next three find no answer.
        assert_eq!(then.elapsed(), beats(4) + Duration::from_millis(100));
        assert_eq!(rig.exits("a"), [Exit::Unresponsive { missed: 3 }]);
        assert_eq!(rig.address("a").send(Count).await, Ok(1));
        assert_eq!(rig.handle.book.find::<Faulty>("b").generation(), Some(healthy));
        tokio::time::sleep(beats(10)).await;
        assert_eq!(rig.handle.book.find::<Faulty>("a").generation(), Some(second));
        assert_eq!(rig.handle.stop.reason(), None, "the thread was never late");
    });
}

#[test]
fn a_missed_probe_shows_before_it_is_one_too_many() {
    virtually(async {
        let rig = Rig::new().await;
        rig.start(rig.child("a")).await;
        rig.address("a").do_send(Hang);
        let tree = rig
            .until(|tree| tree.child("a").is_some_and(|child| child.missed_probes == 2))
            .await;
        let status = tree.child("a").expect("is listed");
        assert_eq!(status.state, ChildState::Running);
        assert_eq!(status.heartbeat_age_ms, None, "it hung before it ever answered");
    });
}

#[test]
fn hanging_again_and_again_is_giving_up() {
    virtually(async {
        let rig = Rig::new().await;
        // Four beats a hang would never fill the default window.
        let spec = quarantine_after(1, Duration::from_secs(300))(rig.child("a"));
        let first = rig.start(spec).await;
        rig.address("a").do_send(Hang);
        rig.until_newer("a", first).await;
        rig.address("a").do_send(Hang);
        rig.until_state("a", is_quarantined).await;
    });
}

#[test]
fn a_start_that_hangs_is_aborted_after_its_grace_and_counts_as_a_failed_start() {
    virtually(async {
        let rig = Rig::new().await;
        rig.script.hang_in_started(1);
        let spec = rig.child("a").with_start_grace(Duration::from_secs(12));
        let refused = rig.ask(StartChild(spec)).await;
        assert!(matches!(refused, Err(Refusal::BackingOff { .. })), "{refused:?}");
        rig.until_state("a", is_running).await;
        let text = "not running after 12s".into();
        assert_eq!(rig.exits("a"), [Exit::StartFailed { text }]);
    });
}

#[test]
fn a_slow_start_within_its_grace_is_no_hang_and_has_no_address_yet() {
    virtually(async {
        let rig = Rig::new().await;
        let slow = beats(5);
        rig.script.start_slowly(slow);
        let then = Instant::now();
        let started = rig.handle.address.send(StartChild(rig.child("a")));
        rig.until_state("a", |state| *state == ChildState::Starting).await;
        assert!(rig.handle.book.find::<Faulty>("a").address().is_none());
        rig.within(started).await.expect("alive").expect("starts");
        assert_eq!(then.elapsed(), slow);
        assert_eq!(rig.exits("a"), []);
    });
}

/// Lets its thread run again when dropped.
struct Block(Arbiter, Option<mpsc::Sender<()>>);

impl Block {
    fn release(mut self) {
        self.1.take();
        self.0.stop();
        self.0.join().expect("the thread ends");
    }
}

/// Beats fast, for tests on real threads; no assertion depends on how fast.
fn hasty() -> Settings {
    Settings {
        heartbeat: Duration::from_millis(10),
        abort_patience: Duration::from_millis(50),
        last_call: Duration::from_millis(50),
        ..Settings::default()
    }
}

#[test]
fn a_blocked_thread_is_named_as_the_reason_to_stop_and_excuses_its_children() {
    really(async {
        let rig = Rig::with(hasty()).await;
        let thread = Arbiter::new();
        let busy = Placement::new("busy", thread.handle());
        let a = rig.start(rig.child_on("a", busy.clone())).await;
        let b = rig.start(rig.child_on("b", busy)).await;
        let elsewhere = rig.start(rig.child("c")).await;
        let (blocker, blocked) = mpsc::channel();
        rig.address("a").do_send(BlockThread(blocked));
        let reason = rig.within(rig.handle.stop.clone().fired()).await;
        let StopReason::ArbiterBlocked {
            arbiter,
            missed: 3,
            children,
        } = &reason
        else {
            panic!("{reason}");
        };
        assert_eq!(&**arbiter, "busy");
        assert_eq!(children.as_slice(), ["a".into(), "b".into()]);
        assert_eq!(
            reason.to_string(),
            "thread busy is blocked (missed 3 probes), with a and 1 more on it"
        );
        assert_eq!(rig.exits("a"), [], "who is to blame is not known");
        for (name, generation) in [("a", a), ("b", b), ("c", elsewhere)] {
            assert_eq!(rig.handle.book.find::<Faulty>(name).generation(), Some(generation));
        }
        assert_eq!(rig.address("c").send(Count).await, Ok(1));
        Block(thread, Some(blocker)).release();
    });
}

#[test]
fn a_drain_leaves_a_blocked_thread_behind() {
    really(async {
        let rig = Rig::with(hasty()).await;
        let thread = Arbiter::new();
        let busy = Placement::new("busy", thread.handle());
        let stuck = rig.start(rig.child_on("a", busy).with_order(1)).await;
        rig.start(rig.child("b")).await;
        let (blocker, blocked) = mpsc::channel();
        rig.address("a").do_send(BlockThread(blocked));
        let report = rig
            .ask(Drain {
                grace: Duration::from_millis(50),
            })
            .await
            .expect("drains");
        assert_eq!(report.stopped, ["b".into()]);
        assert_eq!(
            report.orphans,
            [Orphan {
                name: "a".into(),
                generation: stuck,
                in_flight: 0,
                stuck: true,
            }]
        );
        Block(thread, Some(blocker)).release();
    });
}
