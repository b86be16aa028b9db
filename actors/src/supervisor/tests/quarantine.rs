//! Quarantine: who gets into it, the trial, and the operator's ways in and out.

use std::time::Duration;

use tokio::time::Instant;

use super::{super::*, *};
use crate::kernel::Lookup;
use faulty::*;

const PROBE_AFTER: Duration = Duration::from_secs(300);

/// A child in the quarantine that follows two restarts.
async fn given_up(rig: &Rig) -> Arc<Snapshot> {
    rig.script.panic_in_started(3);
    let spec = quarantine_after(2, PROBE_AFTER)(rig.child("a"));
    rig.ask(StartChild(spec)).await.expect_err("its start fails");
    rig.until_state("a", is_quarantined).await
}

#[test]
fn a_child_that_uses_up_its_restarts_is_quarantined_and_the_process_goes_on() {
    virtually(async {
        let rig = Rig::new().await;
        let tree = given_up(&rig).await;
        let probe_at_ms = Some(tree.taken_at_ms + 300_000);
        assert_eq!(
            tree.child("a").map(|child| child.state.clone()),
            Some(ChildState::Quarantined {
                since_ms: tree.taken_at_ms,
                probe_at_ms,
                reason: "given up after 2 restarts: failed to start: in started".into(),
            })
        );
        assert_eq!(rig.exits("a").len(), 3);
        assert_eq!(rig.handle.stop.reason(), None);
        let Lookup::Quarantined { probe_at } = rig.handle.book.find::<Faulty>("a") else {
            panic!("{}", rig.picture());
        };
        assert_eq!(probe_at, Some(Instant::now() + PROBE_AFTER));
        let refused = rig.ask(StartChild(rig.child("a"))).await;
        assert!(matches!(refused, Err(Refusal::Quarantined { .. })), "{refused:?}");
    });
}

#[test]
fn the_trial_is_one_attempt_and_a_failure_goes_back_at_once() {
    virtually(async {
        let rig = Rig::new().await;
        let first = given_up(&rig).await.child("a").and_then(|child| child.generation);
        for _ in 0..2 {
            rig.script.panic_in_started(1);
            let then = Instant::now();
            let exits = rig.exits("a").len();
            rig.until(|tree| {
                tree.child("a")
                    .is_some_and(|child| is_quarantined(&child.state) && rig.exits("a").len() > exits)
            })
            .await;
            assert_eq!(then.elapsed(), PROBE_AFTER);
            assert_eq!(rig.exits("a").len(), exits + 1, "one attempt");
        }
        // The next trial starts, but does not last.
        rig.until_newer("a", first.expect("it has been started")).await;
        tokio::time::sleep(Duration::from_secs(59)).await;
        rig.address("a").do_send(Panic);
        let tree = rig.until_state("a", is_quarantined).await;
        let Some(ChildState::Quarantined { reason, .. }) = tree.child("a").map(|child| child.state.clone()) else {
            panic!("{}", rig.picture());
        };
        assert_eq!(reason, "failed again on trial: panicked: in a handler");
    });
}

#[test]
fn a_trial_that_lasts_a_minute_is_passed() {
    virtually(async {
        let rig = Rig::new().await;
        let tree = given_up(&rig).await;
        let old = tree.child("a").and_then(|child| child.generation).expect("started");
        let on_trial = rig.until_newer("a", old).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let failed_at = Instant::now();
        rig.address("a").do_send(Panic);
        rig.until_newer("a", on_trial).await;
        assert_eq!(failed_at.elapsed(), Duration::from_millis(100), "an ordinary restart");
    });
}

#[test]
fn health_before_a_restart_on_command_does_not_pass_the_trial() {
    virtually(async {
        let rig = Rig::new().await;
        rig.script.panic_in_started(1);
        let spec = quarantine_after(0, PROBE_AFTER)(rig.child("a")).with_start_grace(Duration::from_secs(40));
        rig.ask(StartChild(spec)).await.expect_err("its start fails");
        rig.until_state("a", is_running).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        rig.script.hang_in_started(1);
        rig.ask(RestartChild { name: "a".into() }).await.expect("a child");
        let tree = rig.until_state("a", is_quarantined).await;
        let json = serde_json::to_value(tree.child("a")).expect("serialises");
        assert_eq!(
            json["reason"],
            "failed again on trial: failed to start: not running after 40s"
        );
    });
}

#[test]
fn an_operator_quarantines_without_a_trial_and_resumes_with_the_whole_budget() {
    virtually(async {
        let rig = Rig::new().await;
        let first = rig.start(quarantine_after(1, PROBE_AFTER)(rig.child("a"))).await;
        rig.address("a").do_send(Panic);
        let second = rig.until_newer("a", first).await;
        let reason = String::from("maintenance");
        let name = crate::kernel::ChildName::from("a");
        rig.ask(Quarantine {
            name: name.clone(),
            reason: reason.clone(),
        })
        .await
        .expect("a child");
        rig.until_state("a", is_quarantined).await;
        assert_eq!(rig.exits("a").last(), Some(&Exit::Normal));
        tokio::time::sleep(PROBE_AFTER * 10).await;
        assert!(matches!(
            rig.handle.book.find::<Faulty>("a"),
            Lookup::Quarantined { probe_at: None }
        ));
        let refused = rig.ask(RestartChild { name: name.clone() }).await;
        assert_eq!(refused, Err(Refusal::Quarantined { reason }));

        rig.ask(Resume { name }).await.expect("a child");
        let third = rig.until_newer("a", second).await;
        rig.address("a").do_send(Panic);
        rig.until_newer("a", third).await;
    });
}

#[test]
fn resuming_ends_a_quarantine_early_and_its_timer_does_nothing_later() {
    virtually(async {
        let rig = Rig::new().await;
        let tree = given_up(&rig).await;
        let old = tree.child("a").and_then(|child| child.generation).expect("started");
        rig.ask(Resume { name: "a".into() }).await.expect("a child");
        let resumed = rig.until_newer("a", old).await;
        tokio::time::sleep(PROBE_AFTER * 2).await;
        assert_eq!(rig.handle.book.find::<Faulty>("a").generation(), Some(resumed));
        let unknown = rig.ask(Resume { name: "b".into() }).await;
        assert_eq!(unknown, Err(Refusal::Unknown));
    });
}

#[test]
fn a_quarantined_child_can_be_forgotten() {
    virtually(async {
        let rig = Rig::new().await;
        given_up(&rig).await;
        let rest = RestChild {
            name: "a".into(),
            generation: None,
        };
        rig.ask(rest).await.expect("a child");
        assert!(rig.handle.board.read().child("a").is_none());
        assert!(rig.handle.book.is_empty());
        rig.start(rig.child("a")).await;
    });
}
