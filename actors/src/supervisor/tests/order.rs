//! The order of starts and stops, and the drain.

use std::time::Duration;

use tokio::time::Instant;

use super::{super::*, *};
use crate::kernel::Lookup;
use faulty::*;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

async fn drain(rig: &Rig, grace: Duration) -> DrainReport {
    rig.ask(Drain { grace }).await.expect("the supervisor lives")
}

fn names(names: &[&str]) -> Vec<crate::kernel::ChildName> {
    names.iter().copied().map(Into::into).collect()
}

#[test]
fn starts_go_up_the_order_and_stops_come_down_it() {
    virtually(async {
        let rig = Rig::new().await;
        let specs = [("d", 3), ("a", 1), ("c", 2), ("b", 1)];
        let specs = specs.map(|(name, order)| rig.child(name).with_order(order));
        rig.boot(specs.into()).await;
        assert_eq!(rig.script.log(), ["+a", "+b", "+c", "+d"]);
        let report = drain(&rig, seconds(60)).await;
        assert_eq!(report.stopped, names(&["d", "c", "a", "b"]));
        assert_eq!(report.orphans, []);
        assert_eq!(rig.script.log()[4..], ["-d", "-c", "-a", "-b"]);
        assert_eq!(rig.exits("a"), [Exit::Normal]);
        assert!(rig.handle.book.is_empty());
        let tree = rig.handle.board.read();
        assert!(tree.draining);
        assert!(tree.children.iter().all(|child| child.state == ChildState::Stopped));
    });
}

#[test]
fn a_higher_order_waits_until_the_lower_one_has_come_up() {
    virtually(async {
        let rig = Rig::new().await;
        rig.script.panic_in_factory(3);
        let then = Instant::now();
        let specs = vec![rig.child("b").with_order(2), rig.child("a").with_order(1)];
        rig.boot(specs).await;
        assert_eq!(then.elapsed(), Duration::from_millis(100 + 200 + 400));
        assert_eq!(rig.script.log(), ["+a", "+b"]);
        assert_eq!((rig.exits("a").len(), rig.exits("b").len()), (3, 0));
    });
}

#[test]
fn a_tree_comes_up_without_those_that_are_quarantined_but_not_without_the_others() {
    virtually(async {
        let rig = Rig::new().await;
        rig.script.panic_in_factory(2);
        let weak = quarantine_after(1, seconds(300))(rig.child("a")).with_order(1);
        rig.boot(vec![weak, rig.child("b").with_order(2)]).await;
        assert_eq!(rig.script.log(), ["+b"]);

        rig.script.panic_in_factory(100);
        let specs = vec![rig.child("c").with_order(3), rig.child("d").with_order(4)];
        let refused = rig.ask(StartTree(specs)).await;
        let text = "in the factory".into();
        assert_eq!(refused, Err(Refusal::Ended(Exit::StartFailed { text })));
        let tree = rig.handle.board.read();
        assert_eq!(
            tree.child("d").map(|child| child.state.clone()),
            Some(ChildState::Pending)
        );
        assert!(matches!(rig.handle.stop.reason(), Some(StopReason::GaveUp { .. })));
        // What never started is no obstacle.
        let report = drain(&rig, seconds(60)).await;
        assert_eq!(report.stopped, names(&["b"]));
    });
}

#[test]
fn work_in_flight_is_finished_within_the_grace() {
    virtually(async {
        let rig = Rig::new().await;
        rig.start(rig.child("a").with_stop_grace(seconds(30))).await;
        let address = rig.address("a");
        address.do_send(Work(seconds(20), None));
        address.do_send(Work(seconds(5), None));
        let then = Instant::now();
        let report = drain(&rig, seconds(60)).await;
        assert_eq!(then.elapsed(), seconds(20));
        assert_eq!(report.stopped, names(&["a"]));
        assert_eq!(report.orphans, []);
    });
}

#[test]
fn what_is_not_finished_by_then_is_aborted_and_reported() {
    virtually(async {
        let rig = Rig::new().await;
        let generation = rig.start(rig.child("a").with_stop_grace(seconds(30))).await;
        let address = rig.address("a");
        address.do_send(Work(seconds(100), None));
        address.do_send(Work(seconds(5), None));
        let then = Instant::now();
        let report = drain(&rig, seconds(60)).await;
        assert_eq!(then.elapsed(), seconds(30));
        assert_eq!(
            report.orphans,
            [Orphan {
                name: "a".into(),
                generation,
                in_flight: 1,
                stuck: false,
            }]
        );
        assert_eq!(report.stopped, []);
        assert_eq!(rig.exits("a"), [Exit::Aborted]);
        assert!(address.send(Count).await.is_err());
    });
}

#[test]
fn the_grace_of_the_drain_bounds_that_of_the_children_but_leaves_each_a_last_call() {
    virtually(async {
        let rig = Rig::new().await;
        let long = seconds(1_000);
        let half = Settings::default().last_call / 2;
        rig.start(rig.child("writer").with_order(1).with_stop_grace(long)).await;
        rig.start(rig.child("executor").with_order(2).with_stop_grace(long))
            .await;
        rig.address("executor").do_send(Work(long, None));
        rig.address("writer").do_send(Work(seconds(10) + half, None));
        let then = Instant::now();
        let drained = rig.handle.address.send(Drain { grace: seconds(10) });
        rig.until_state("writer", |state| *state == ChildState::Stopping).await;
        assert_eq!(then.elapsed(), seconds(10));
        let report = rig.within(drained).await.expect("alive").expect("drains");
        assert_eq!(report.orphans.len(), 1, "{report:?}");
        assert_eq!(report.stopped, names(&["writer"]), "done at the last moment");
        assert_eq!(then.elapsed(), seconds(10) + half);
    });
}

#[test]
fn what_an_orphan_had_in_flight_is_asked_when_it_is_told_to_stop() {
    virtually(async {
        let rig = Rig::new().await;
        // Shorter than a heartbeat, so no other probe comes before the abort.
        let spec = rig.child("a").with_stop_grace(Settings::default().heartbeat / 5);
        rig.start(spec).await;
        rig.address("a").do_send(Work(seconds(100), None));
        let report = drain(&rig, seconds(60)).await;
        assert_eq!(report.orphans.first().map(|orphan| orphan.in_flight), Some(1));
    });
}

#[test]
fn a_child_on_its_way_to_rest_has_no_longer_than_the_drain() {
    virtually(async {
        let rig = Rig::new().await;
        rig.start(rig.child("a").with_stop_grace(seconds(500))).await;
        rig.address("a").do_send(Work(seconds(400), None));
        let rest = RestChild {
            name: "a".into(),
            generation: None,
        };
        rig.ask(rest).await.expect("a child");
        let then = Instant::now();
        let report = drain(&rig, seconds(7)).await;
        assert_eq!((then.elapsed(), report.orphans.len()), (seconds(7), 1));
    });
}

#[test]
fn a_child_that_does_not_listen_is_aborted() {
    virtually(async {
        let rig = Rig::new().await;
        rig.script.be_deaf(1);
        rig.start(rig.child("a").with_stop_grace(seconds(3))).await;
        let then = Instant::now();
        let report = drain(&rig, seconds(60)).await;
        assert_eq!(then.elapsed(), seconds(3));
        assert_eq!(report.orphans.len(), 1);
    });
}

#[test]
fn what_has_yet_to_be_stopped_is_still_supervised() {
    virtually(async {
        let rig = Rig::new().await;
        let writer = rig.start(rig.child("writer").with_order(1)).await;
        rig.start(rig.child("executor").with_order(2).with_stop_grace(seconds(30)))
            .await;
        rig.address("executor").do_send(Work(seconds(20), None));
        let drained = rig.handle.address.send(Drain { grace: seconds(60) });
        rig.until_state("executor", |state| *state == ChildState::Stopping)
            .await;
        rig.address("writer").do_send(Panic);
        rig.until_newer("writer", writer).await;
        assert_eq!(rig.address("writer").send(Count).await, Ok(1));
        let report = rig.within(drained).await.expect("alive").expect("drains");
        assert_eq!(report.stopped, names(&["executor", "writer"]));
    });
}

#[test]
fn a_panic_while_winding_down_is_not_followed_by_a_restart() {
    virtually(async {
        let rig = Rig::new().await;
        rig.start(rig.child("a").with_stop_grace(seconds(30))).await;
        let address = rig.address("a");
        address.do_send(Work(seconds(20), None));
        let drained = rig.handle.address.send(Drain { grace: seconds(60) });
        rig.until_state("a", |state| *state == ChildState::Stopping).await;
        address.do_send(Panic);
        rig.within(drained).await.expect("alive").expect("drains");
        assert_eq!(rig.script.log(), ["+a"]);
        assert!(matches!(rig.exits("a").as_slice(), [Exit::Panicked { .. }]));
    });
}

#[test]
fn a_drain_ends_a_boot_and_a_backoff_and_starts_nothing_more() {
    virtually(async {
        let rig = Rig::new().await;
        rig.script.panic_in_factory(100);
        let specs = vec![rig.child("a").with_order(1), rig.child("b").with_order(2)];
        let booted = rig.handle.address.send(StartTree(specs));
        rig.until_state("a", |state| matches!(state, ChildState::BackingOff { .. }))
            .await;
        let (first, second) = tokio::join!(drain(&rig, seconds(60)), drain(&rig, seconds(60)));
        assert_eq!(first, second);
        assert_eq!(first, DrainReport::default());
        assert_eq!(rig.within(booted).await, Ok(Err(Refusal::Draining)));
        let refused = rig.ask(StartChild(rig.child("c"))).await;
        assert_eq!(refused, Err(Refusal::Draining));
        tokio::time::sleep(seconds(1_000)).await;
        assert_eq!(rig.exits("a").len(), 1, "the backoff's timer is out of date");
        assert!(matches!(rig.handle.book.find::<Faulty>("a"), Lookup::Absent));
        assert_eq!(drain(&rig, seconds(1)).await, first, "and the answer stays");
    });
}
