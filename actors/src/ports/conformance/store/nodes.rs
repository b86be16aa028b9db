//! Several nodes on one store.

use std::time::Duration;

use super::fixtures::*;
use crate::domain::{Node, NodeId, NodeState, Timestamp};
use crate::ports::NodeView;

fn node(number: u128, name: &str) -> Node {
    Node {
        id: NodeId::new(at(0), number),
        name: name.to_owned(),
        address: "127.0.0.1:8288".to_owned(),
        version: "0.1.0".to_owned(),
        started_at: at(0),
        state: NodeState::Serving,
        jobs_in_flight: 3,
    }
}

fn seen(node: &Node, seen_at: Timestamp) -> NodeView {
    NodeView {
        node: node.clone(),
        seen_at,
    }
}

/// A node is listed as of its last sign of life, until it leaves.
pub async fn nodes_come_and_go(store: Shared) {
    assert_eq!(store.nodes().await.expect("reads"), []);
    let (one, other) = (node(1, "b"), node(2, "a"));
    store.beat(&one, at(10)).await.expect("writes");
    store.beat(&other, at(20)).await.expect("writes");
    let drained = Node {
        state: NodeState::Draining,
        jobs_in_flight: 0,
        ..one.clone()
    };
    store.beat(&drained, at(30)).await.expect("writes");
    let found = store.nodes().await.expect("reads");
    assert_eq!(found, [seen(&other, at(20)), seen(&drained, at(30))]);
    store.leave(one.id).await.expect("writes");
    store.leave(one.id).await.expect("writes");
    assert_eq!(store.nodes().await.expect("reads"), [seen(&other, at(20))]);
}

/// A node that has been silent for a day is no longer listed.
pub async fn silent_nodes_are_forgotten(store: Shared) {
    let day = Duration::from_secs(24 * 60 * 60);
    store.beat(&node(1, "a"), at(0)).await.expect("writes");
    store.beat(&node(2, "b"), at(1).after(day)).await.expect("writes");
    let found = store.nodes().await.expect("reads");
    assert_eq!(found, [seen(&node(2, "b"), at(1).after(day))]);
}

/// A turn is one node's until its time has passed, however often it takes it.
pub async fn a_turn_is_one_nodes(store: Shared) {
    let (one, other) = (NodeId::new(at(0), 1), NodeId::new(at(0), 2));
    let take =
        async |turn: &str, node, now, until| store.take_turn(turn, node, at(now), at(until)).await.expect("writes");
    assert!(take("sweep", one, 0, 10).await);
    assert!(!take("sweep", other, 9, 20).await);
    assert!(take("else", other, 9, 20).await, "every turn has its own holder");
    assert!(take("sweep", one, 9, 20).await, "it may be put off");
    assert!(!take("sweep", other, 19, 30).await);
    assert!(take("sweep", other, 20, 30).await);
    assert!(!take("sweep", one, 20, 30).await);
}

/// A sign of life tells how new the catalog is.
pub async fn a_beat_brings_the_revision(store: Shared) {
    let before = store.catalog().await.expect("reads").revision;
    assert_eq!(store.beat(&node(1, "a"), at(0)).await.expect("writes"), before);
    super::catalog::register(&store).await;
    let after = store.catalog().await.expect("reads").revision;
    assert!(after > before);
    assert_eq!(store.beat(&node(1, "a"), at(1)).await.expect("writes"), after);
}
