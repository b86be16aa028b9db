//! The fake orchestrator's process tree.

use std::sync::Arc;

use callboard_actors::kernel::{ChildName, ChildState, ChildStatus, Observation, RestartKind, Snapshot};

use super::{NOW, World};

/// A process tree whose parts run, but for those that are ill.
pub(super) fn tree(world: &World) -> Snapshot {
    let mut snapshot = Snapshot::empty(NOW.as_millis());
    let names = [
        "consumer",
        "janitor",
        "registrar",
        "router",
        "scheduler",
        "state-writer",
        "steward",
    ];
    let well = names.map(|name| (name, ChildState::Running)).into_iter();
    let parts: std::collections::BTreeMap<_, _> = well.chain(world.ill.clone()).collect();
    snapshot.children = parts
        .into_iter()
        .map(|(name, state)| Arc::new(child(name, state)))
        .collect();
    snapshot
}

fn child(name: &str, state: ChildState) -> ChildStatus {
    ChildStatus {
        name: ChildName::new(name),
        role: if name.starts_with("executor/") {
            "executor"
        } else {
            "part"
        },
        placement: "work".into(),
        order: 1,
        restart: RestartKind::Permanent,
        state,
        generation: None,
        restarts_in_window: 0,
        restarts_total: 3,
        last_exit: None,
        uptime_ms: None,
        heartbeat_age_ms: None,
        missed_probes: 0,
        in_flight: 0,
        observation: Arc::new(Observation::default()),
    }
}
