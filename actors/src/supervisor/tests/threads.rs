//! Children on threads of their own: restarts there, the loss of a thread, many failures at once.

use std::time::Duration;

use actix::Arbiter;
use rstest::rstest;

use super::{super::*, *};
use faulty::*;

#[rstest]
#[case(true)]
#[case(false)]
fn a_lost_thread_stops_the_process(#[case] while_running: bool) {
    really(async {
        let rig = Rig::new().await;
        let thread = Arbiter::new();
        let placement = Placement::new("gone", thread.handle());
        let spec = quarantine_after(5, Duration::from_secs(300))(rig.child_on("a", placement));
        if while_running {
            rig.start(spec).await;
            thread.stop();
            thread.join().expect("the thread ends");
        } else {
            thread.stop();
            thread.join().expect("the thread ends");
            let refused = rig.ask(StartChild(spec)).await;
            assert_eq!(refused, Err(Refusal::Ended(Exit::ArbiterLost)));
        }
        let reason = rig.within(rig.handle.stop.clone().fired()).await;
        let (arbiter, child) = ("gone".into(), "a".into());
        assert_eq!(reason, StopReason::ArbiterLost { arbiter, child });
        rig.until_state("a", |state| *state == ChildState::Stopped).await;
        assert_eq!(rig.exits("a"), [Exit::ArbiterLost]);
    });
}

#[test]
fn children_on_other_threads_are_restarted_there() {
    really(async {
        let rig = Rig::new().await;
        let thread = Arbiter::new();
        let there = Placement::new("there", thread.handle());
        let first = rig.start(rig.child_on("a", there)).await;
        assert_eq!(rig.address("a").send(Count).await, Ok(1));
        rig.address("a").do_send(Panic);
        rig.until_newer("a", first).await;
        assert_eq!(rig.address("a").send(Count).await, Ok(1));
        let report = rig
            .ask(Drain {
                grace: Duration::from_secs(5),
            })
            .await
            .expect("drains");
        assert_eq!((report.stopped.len(), report.orphans.len()), (1, 0));
        thread.stop();
        thread.join().expect("the thread ends");
    });
}

#[test]
fn a_storm_of_panics_on_many_threads_leaves_one_of_each() {
    const ROUNDS: u64 = 20;
    really(async {
        let rig = Rig::new().await;
        let threads = [Arbiter::new(), Arbiter::new(), Arbiter::new()];
        let policy = RestartPolicy {
            base: Duration::from_micros(10),
            cap: Duration::from_micros(10),
            max_restarts: u32::MAX,
            ..RestartPolicy::default()
        };
        let names = (0..24).map(|at| format!("executor/{at}")).collect::<Vec<_>>();
        for (name, (at, thread)) in names.iter().zip(threads.iter().enumerate().cycle()) {
            let placement = Placement::new(format!("thread/{at}"), thread.handle());
            rig.start(rig.child_on(name, placement).with_policy(policy)).await;
        }
        for round in 1..=ROUNDS {
            for name in &names {
                let address = rig.address(name);
                address.do_send(Count);
                address.do_send(Panic);
            }
            rig.until(|tree| {
                tree.children
                    .iter()
                    .all(|child| is_running(&child.state) && child.restarts_total == round)
            })
            .await;
        }
        for name in &names {
            assert_eq!(rig.address(name).send(Count).await, Ok(1));
        }
        let grace = Duration::from_secs(5);
        let report = rig.ask(Drain { grace }).await.expect("drains");
        assert_eq!((report.stopped.len(), report.orphans.len()), (24, 0));
        assert_eq!(rig.script.violations(), Vec::<String>::new());
        assert_eq!(rig.script.alive(), 0);
        assert_eq!(
            rig.script.built().len(),
            24 * (usize::try_from(ROUNDS).expect("small") + 1)
        );
        for thread in threads {
            thread.stop();
            thread.join().expect("the thread ends");
        }
    });
}
