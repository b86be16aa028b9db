//! The snapshot: what it says, that it always serialises, and that it needs nobody to answer.

use std::{sync::mpsc, time::Duration};

use actix::Arbiter;
use serde_json::json;

use super::{super::*, *};
use faulty::*;

#[test]
fn a_snapshot_says_everything_about_a_running_child() {
    virtually(async {
        let rig = Rig::new().await;
        rig.start(rig.child("a").with_order(3)).await;
        let address = rig.address("a");
        address.do_send(Work(Duration::from_secs(100), None));
        address.send(Count).await.expect("lives");
        tokio::time::sleep(Duration::from_secs(12)).await;
        let tree = rig.ask(GetStatus).await;
        let json = serde_json::to_value(&*tree).expect("serialises");
        assert_eq!(
            json,
            json!({
                "taken_at_ms": EPOCH_MS + 12_000,
                "draining": false,
                "stop_reason": null,
                "children": [{
                    "name": "a",
                    "role": "faulty",
                    "placement": "here",
                    "order": 3,
                    "restart": "permanent",
                    "state": "running",
                    "generation": 1,
                    "restarts_in_window": 0,
                    "restarts_total": 0,
                    "last_exit": null,
                    "uptime_ms": 12_000,
                    "heartbeat_age_ms": 2_000,
                    "missed_probes": 0,
                    "in_flight": 1,
                    "observation": { "in_flight": 1, "detail": { "counted": 1 } },
                }],
            })
        );
    });
}

#[test]
fn every_state_serialises() {
    virtually(async {
        let rig = Rig::new().await;
        let slow = Duration::from_secs(20);
        rig.start(rig.child("running")).await;
        rig.start(rig.child("stopping").with_stop_grace(slow)).await;
        rig.address("stopping").do_send(Work(slow, None));
        rig.ask(RestChild {
            name: "stopping".into(),
            generation: None,
        })
        .await
        .expect("a child");
        rig.script.panic_in_factory(2);
        let spec = quarantine_after(0, Duration::from_secs(300))(rig.child("quarantined"));
        rig.ask(StartChild(spec)).await.expect_err("given up at once");
        let spec = rig.child("backing_off").with_policy(RestartPolicy {
            base: slow,
            ..RestartPolicy::default()
        });
        rig.ask(StartChild(spec)).await.expect_err("backs off");
        let spec = rig.child("stopped").with_restart(crate::kernel::RestartKind::Transient);
        rig.start(spec).await;
        rig.address("stopped").do_send(Stop);
        rig.until_state("stopped", |state| *state == ChildState::Stopped).await;
        rig.script.start_slowly(slow);
        let specs = vec![rig.child("starting"), rig.child("pending").with_order(1)];
        let _booting = rig.handle.address.send(StartTree(specs));
        let tree = rig
            .until_state("starting", |state| *state == ChildState::Starting)
            .await;

        let json = serde_json::to_value(&*tree).expect("serialises");
        let children = json["children"].as_array().expect("a list");
        assert_eq!(children.len(), 7);
        for child in children {
            assert_eq!(child["state"], child["name"], "each is named after its state");
        }
        let backing_off = children.iter().find(|child| child["name"] == "backing_off");
        let backing_off = backing_off.expect("is listed");
        assert_eq!(backing_off["until_ms"], json!(EPOCH_MS + 20_000));
        assert_eq!(backing_off["last_exit"]["kind"], "start_failed");
        assert_eq!(backing_off["last_exit"]["text"], "in the factory");
    });
}

#[test]
fn the_board_the_book_and_the_children_go_on_when_the_supervisor_is_stuck_and_when_it_is_lost() {
    really(async {
        let thread = Arbiter::new();
        let sources = Sources {
            dice: Box::new(|| 1.0),
            wall_ms: Box::new(|| EPOCH_MS),
        };
        let handle = Supervisor::start_on(&thread.handle(), Settings::default(), sources);
        let script = Script::default();
        let here = Placement::new("here", Arbiter::current());
        let spec = ChildSpec::new("a", "faulty", here, move |boot| Faulty::new(boot, script.clone()));
        handle
            .address
            .send(StartChild(spec))
            .await
            .expect("lives")
            .expect("starts");

        let (blocker, blocked) = mpsc::channel::<()>();
        let (has_blocked, is_blocked) = tokio::sync::oneshot::channel();
        thread.spawn_fn(move || {
            has_blocked.send(()).expect("the test waits");
            let _ = blocked.recv();
        });
        is_blocked.await.expect("the thread is blocked");
        let tree = handle.board.read();
        assert_eq!(
            tree.child("a").map(|child| child.state.clone()),
            Some(ChildState::Running)
        );
        let address = handle.book.find::<Faulty>("a").address().expect("is here");
        assert_eq!(address.send(Count).await, Ok(1));
        assert_eq!(handle.stop.reason(), None);

        drop(blocker);
        thread.stop();
        thread.join().expect("the thread ends");
        assert_eq!(handle.stop.clone().fired().await, StopReason::SupervisorLost);
        assert_eq!(handle.stop.reason(), Some(StopReason::SupervisorLost));
        assert_eq!(address.send(Count).await, Ok(2));
    });
}

#[test]
fn the_book_does_not_hand_out_an_address_of_another_type() {
    virtually(async {
        let rig = Rig::new().await;
        rig.start(rig.child("a")).await;
        assert!(rig.handle.book.find::<Scribe>("a").address().is_none());
        assert!(rig.handle.book.find::<Faulty>("a").address().is_some());
    });
}
