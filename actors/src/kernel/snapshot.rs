//! The status of the tree, as data.
//!
//! Immutable and complete: what is not in a snapshot was not known when it was taken. The board gives the
//! latest one to any thread without asking an actor, so it answers even when the supervisor is stuck; the
//! snapshot's own time then tells for how long.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::watch;

use super::{
    child::{ChildName, RestartKind},
    exit::Exit,
    generation::Generation,
    probe::Observation,
};

/// What a child is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ChildState {
    /// Waits for children of a lower order to run.
    Pending,
    /// Built, not yet running.
    Starting,
    /// At work.
    Running,
    /// Failed; comes back.
    BackingOff {
        /// When, Unix milliseconds.
        until_ms: i64,
    },
    /// Out of service.
    Quarantined {
        /// Since when, Unix milliseconds.
        since_ms: i64,
        /// When it is tried next, Unix milliseconds; none if only an operator can bring it back.
        probe_at_ms: Option<i64>,
        /// Why.
        reason: String,
    },
    /// Told to stop, or aborted, and not gone yet.
    Stopping,
    /// Down, and not coming back of itself.
    Stopped,
}

/// The exit before the present incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastExit {
    /// Which incarnation ended.
    pub generation: Generation,
    /// How.
    #[serde(flatten)]
    pub exit: Exit,
    /// When, Unix milliseconds.
    pub at_ms: i64,
}

/// One child.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChildStatus {
    /// Its name.
    pub name: ChildName,
    /// Its kind, for grouping.
    pub role: &'static str,
    /// The thread it lives on.
    pub placement: Arc<str>,
    /// Its place in the order of starts.
    pub order: u16,
    /// Whether it comes back.
    pub restart: RestartKind,
    /// What it is doing.
    #[serde(flatten)]
    pub state: ChildState,
    /// The latest incarnation, dead or alive.
    pub generation: Option<Generation>,
    /// Restarts after failures within the policy's window.
    pub restarts_in_window: u32,
    /// Restarts after failures since it was first started.
    pub restarts_total: u64,
    /// The latest exit.
    pub last_exit: Option<LastExit>,
    /// How long it has been running, in milliseconds.
    pub uptime_ms: Option<u64>,
    /// How long ago it last answered a probe, in milliseconds.
    pub heartbeat_age_ms: Option<u64>,
    /// Probes it has left unanswered.
    pub missed_probes: u32,
    /// Work begun and not ended, by its last answer.
    pub in_flight: u64,
    /// Its last answer.
    pub observation: Arc<Observation>,
}

/// The whole tree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// When it was taken, Unix milliseconds.
    pub taken_at_ms: i64,
    /// Whether a drain has begun.
    pub draining: bool,
    /// Why the process has been asked to stop, if it has.
    pub stop_reason: Option<String>,
    /// Every child, by name.
    pub children: Vec<Arc<ChildStatus>>,
}

impl Snapshot {
    /// A tree without children.
    #[must_use]
    pub fn empty(taken_at_ms: i64) -> Self {
        Self {
            taken_at_ms,
            draining: false,
            stop_reason: None,
            children: Vec::new(),
        }
    }

    /// One child's status.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&ChildStatus> {
        self.children
            .binary_search_by(|child| child.name.as_str().cmp(name))
            .ok()
            .map(|at| self.children[at].as_ref())
    }
}

/// Where the latest snapshot hangs. Clones are the same board.
#[derive(Debug, Clone)]
pub struct StatusBoard(Arc<Board>);

#[derive(Debug)]
struct Board {
    latest: ArcSwap<Snapshot>,
    changes: watch::Sender<u64>,
}

impl StatusBoard {
    pub(crate) fn new(first: Snapshot) -> Self {
        Self(Arc::new(Board {
            latest: ArcSwap::from_pointee(first),
            changes: watch::Sender::new(0),
        }))
    }

    /// The latest snapshot. Asks nobody and never waits.
    #[must_use]
    pub fn read(&self) -> Arc<Snapshot> {
        self.0.latest.load_full()
    }

    /// Waits for a snapshot of which `wanted` is true; the present one counts. Snapshots that follow each
    /// other at once may be skipped.
    pub async fn until(&self, mut wanted: impl FnMut(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut changes = self.0.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let snapshot = self.read();
            if wanted(&snapshot) {
                return snapshot;
            }
            changes
                .changed()
                .await
                .expect("the board, which is borrowed here, holds the sender");
        }
    }

    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>) {
        self.0.latest.store(snapshot);
        self.0.changes.send_modify(|count| *count += 1);
    }
}
