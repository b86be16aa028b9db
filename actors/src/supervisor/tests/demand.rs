//! Children on demand: started when needed, put to rest when idle, a thousand of them.

use std::time::Duration;

use tokio::time::Instant;

use super::{super::*, *};
use crate::kernel::Lookup;
use faulty::*;

fn rest(generation: Option<Generation>) -> RestChild {
    RestChild {
        name: "a".into(),
        generation,
    }
}

#[test]
fn starting_twice_is_starting_once() {
    virtually(async {
        let rig = Rig::new().await;
        let (first, second) = tokio::join!(rig.start(rig.child("a")), rig.start(rig.child("a")));
        assert_eq!(first, second);
        assert_eq!(rig.start(rig.child("a")).await, first);
        assert_eq!(rig.script.log(), ["+a"]);
    });
}

#[test]
fn an_idle_child_rests_is_forgotten_and_comes_back_on_demand() {
    virtually(async {
        let rig = Rig::new().await;
        let first = rig.start(rig.child("a")).await;
        rig.ask(rest(Some(first))).await.expect("a child");
        assert!(matches!(rig.handle.book.find::<Faulty>("a"), Lookup::Absent), "at once");
        rig.until(|tree| tree.children.is_empty()).await;
        assert_eq!(rig.exits("a"), [Exit::Normal]);
        let second = rig.start(rig.child("a")).await;
        assert!(second > first);
        // The same wish, late: it is not about this incarnation.
        assert_eq!(rig.ask(rest(Some(first))).await, Err(Refusal::Stale));
        assert_eq!(rig.handle.book.find::<Faulty>("a").generation(), Some(second));
        let tree = rig.handle.board.read();
        assert_eq!(tree.child("a").map(|child| child.restarts_total), Some(0));
    });
}

#[test]
fn a_child_that_is_needed_again_on_its_way_to_rest_is_built_anew_after_it_has_gone() {
    virtually(async {
        let rig = Rig::new().await;
        let spec = || rig.child("a").with_stop_grace(Duration::from_secs(30));
        let first = rig.start(spec()).await;
        rig.address("a").do_send(Work(Duration::from_secs(7), None));
        rig.ask(rest(Some(first))).await.expect("a child");
        let then = Instant::now();
        let started = rig.handle.address.send(StartChild(spec()));
        // The child says again that it wants to rest; it has been decided otherwise.
        rig.ask(rest(Some(first)))
            .await
            .expect("the incarnation is still there");
        let second = rig.within(started).await.expect("alive").expect("starts");
        assert!(second > first);
        assert_eq!(then.elapsed(), Duration::from_secs(7));
        assert_eq!(rig.script.log(), ["+a", "-a", "+a"]);
        assert_eq!(rig.ask(rest(Some(first))).await, Err(Refusal::Stale));
    });
}

#[test]
fn what_was_in_the_mailbox_before_the_rest_is_handled() {
    virtually(async {
        let rig = Rig::new().await;
        rig.start(rig.child("a")).await;
        let address = rig.address("a");
        let counted = (0..100).map(|_| address.send(Count)).collect::<Vec<_>>();
        rig.ask(rest(None)).await.expect("a child");
        let counted = rig.within(futures_util::future::join_all(counted)).await;
        assert_eq!(counted.last(), Some(&Ok(100)));
        rig.until(|tree| tree.children.is_empty()).await;
        assert!(address.send(Count).await.is_err());
    });
}

#[test]
fn a_thousand_children_start_fail_recover_and_stop() {
    virtually(async {
        let rig = Rig::new().await;
        let name = |at: usize| format!("executor/{at}");
        let starts = (0..1_000).map(|at| rig.start(rig.child(&name(at))));
        let generations = futures_util::future::join_all(starts).await;
        assert_eq!(rig.handle.book.len(), 1_000);
        for at in (0..1_000).step_by(3) {
            rig.address(&name(at)).do_send(Panic);
        }
        let all_recovered = |tree: &Snapshot| {
            tree.children.iter().all(|child| is_running(&child.state))
                && (0..1_000)
                    .step_by(3)
                    .all(|at| tree.child(&name(at)).is_some_and(|child| child.restarts_total == 1))
        };
        rig.until(all_recovered).await;
        for (at, generation) in generations.into_iter().enumerate() {
            let now = rig.handle.book.find::<Faulty>(&name(at)).generation();
            assert_eq!(now == Some(generation), at % 3 != 0, "{at}");
        }
        let report = rig
            .ask(Drain {
                grace: Duration::from_secs(10),
            })
            .await
            .expect("drains");
        assert_eq!((report.stopped.len(), report.orphans.len()), (1_000, 0));
    });
}

#[test]
fn a_flood_is_handled_and_the_child_stays_responsive() {
    virtually(async {
        let rig = Rig::new().await;
        let generation = rig.start(rig.child("a")).await;
        let address = rig.address("a");
        for _ in 0..100_000 {
            address.do_send(Count);
        }
        assert_eq!(address.send(Count).await, Ok(100_001));
        tokio::time::sleep(Settings::default().heartbeat * 5).await;
        assert_eq!(rig.handle.book.find::<Faulty>("a").generation(), Some(generation));
    });
}
