//! What this process tells the others about itself.

use std::net::SocketAddr;

use callboard_actors::domain::{Node, NodeId, NodeState};
use callboard_actors::ports::{Clock, Random};

use crate::ambient::{SystemClock, ThreadRandom};

/// This process, which listens on these addresses.
pub(super) fn this(addresses: &[SocketAddr]) -> Node {
    let now = SystemClock.now();
    Node {
        id: NodeId::new(now, ThreadRandom.bits()),
        name: host_name(),
        address: addresses.first().map(ToString::to_string).unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: now,
        state: NodeState::Serving,
        jobs_in_flight: 0,
    }
}

/// The name of the machine, where the system tells it.
fn host_name() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = told.ok().map(|name| name.trim().to_owned());
    name.filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}
