//! What this process tells the others about itself.

use std::net::SocketAddr;

use callboard_actors::domain::{Node, NodeId, NodeState};
use callboard_actors::ports::{Clock, Random};

use crate::ambient::{SystemClock, ThreadRandom};

/// This process, called `name`, which listens on these addresses.
pub(super) fn this(name: &str, addresses: &[SocketAddr]) -> Node {
    let now = SystemClock.now();
    Node {
        id: NodeId::new(now, ThreadRandom.bits()),
        name: name.to_owned(),
        address: addresses.first().map(ToString::to_string).unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: now,
        state: NodeState::Serving,
        jobs_in_flight: 0,
    }
}
