//! A node shows itself, and finds out what others have registered.

use std::time::Duration;

use serde_json::json;

use crate::domain::NodeState;
use crate::testkit::{Answer, FakeApp, Rig, function, returned, virtually};

fn app() -> FakeApp {
    FakeApp::new(|_| Answer::Now(returned(&json!("done"))))
}

#[test]
fn a_node_shows_itself_and_leaves() {
    virtually(async {
        let rig = Rig::shared(Vec::new(), app()).await;
        rig.until("it shows itself", |rig| rig.store.seen_nodes().len() == 1)
            .await;
        assert_eq!(rig.store.seen_nodes()[0].node.state, NodeState::Serving);
        let first = rig.store.seen_nodes()[0].seen_at;
        rig.pass(Duration::from_secs(10)).await;
        assert!(rig.store.seen_nodes()[0].seen_at > first);
        rig.within(rig.orchestrator.drain(Duration::from_secs(1))).await;
        assert_eq!(rig.store.seen_nodes(), []);
    });
}

#[test]
fn a_silent_database_is_asked_again_at_the_next_beat() {
    virtually(async {
        let rig = Rig::shared(Vec::new(), app()).await;
        rig.until("it shows itself", |rig| rig.store.seen_nodes().len() == 1)
            .await;
        rig.store.forget_nodes();
        rig.until("it shows itself again", |rig| rig.store.seen_nodes().len() == 1)
            .await;
    });
}

#[test]
fn what_another_node_registered_is_found_by_the_next_event() {
    virtually(async {
        let rig = Rig::shared(Vec::new(), app()).await;
        let function = function("one", "order/paid");
        rig.store.register_elsewhere(function.clone());
        let run = rig.start(&function, "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
    });
}

#[test]
fn what_another_node_registered_is_known_after_a_beat() {
    virtually(async {
        let rig = Rig::shared(Vec::new(), app()).await;
        let function = function("one", "order/paid");
        rig.store.register_elsewhere(function.clone());
        rig.pass(super::BEAT * 2).await;
        assert!(rig.orchestrator.catalog().function(function.id).is_some());
    });
}
