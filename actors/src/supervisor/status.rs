//! From the table to the snapshot.
//!
//! A change recomputes one child and shares the rest, so a thousand children cost a change no more than a
//! thousand reference counts. Reads clocks and pulses; decides nothing.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Supervisor,
    slot::{Phase, Slot},
};
use crate::kernel::{ChildName, ChildSpec, ChildState, ChildStatus, Observation, Snapshot};

impl Supervisor {
    /// Takes one child's status anew and publishes.
    pub(super) fn publish(&mut self, name: &ChildName) {
        self.refresh(Some(name));
        self.board.publish(self.snapshot());
    }

    /// Takes every child's status anew and publishes.
    pub(super) fn publish_all(&mut self) -> Arc<Snapshot> {
        self.refresh(None);
        let snapshot = self.snapshot();
        self.board.publish(Arc::clone(&snapshot));
        snapshot
    }

    fn refresh(&mut self, only: Option<&ChildName>) {
        let at = Moment {
            instant: Instant::now(),
            wall_ms: (self.sources.wall_ms)(),
            ledger: self.ledger_now(),
        };
        match only {
            Some(name) => {
                if let Some(slot) = self.slots.get_mut(name) {
                    slot.status = Arc::new(at.status_of(slot));
                }
            }
            None => {
                for slot in self.slots.values_mut() {
                    slot.status = Arc::new(at.status_of(slot));
                }
            }
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            taken_at_ms: (self.sources.wall_ms)(),
            draining: self.draining.is_some(),
            stop_reason: self.stop.borrow().as_ref().map(ToString::to_string),
            children: self.slots.values().map(|slot| Arc::clone(&slot.status)).collect(),
        })
    }
}

/// The status of a child of which nothing is known yet.
pub(super) fn unknown(spec: &ChildSpec) -> ChildStatus {
    ChildStatus {
        name: spec.name.clone(),
        role: spec.role,
        placement: Arc::clone(&spec.placement.name),
        order: spec.order,
        restart: spec.restart,
        state: ChildState::Pending,
        generation: None,
        restarts_in_window: 0,
        restarts_total: 0,
        last_exit: None,
        uptime_ms: None,
        heartbeat_age_ms: None,
        missed_probes: 0,
        in_flight: 0,
        observation: Arc::new(Observation::default()),
    }
}

/// One instant on the three scales a status needs.
struct Moment {
    instant: Instant,
    wall_ms: i64,
    ledger: Duration,
}

impl Moment {
    fn status_of(&self, slot: &Slot) -> ChildStatus {
        let live = slot.live();
        let (answered_at, observation) = live.map(|live| live.heart.pulse.last()).unwrap_or_default();
        ChildStatus {
            state: self.state_of(&slot.phase),
            generation: slot.generation,
            restarts_in_window: slot.ledger.in_window(&slot.spec.policy, self.ledger),
            restarts_total: slot.ledger.total(),
            last_exit: slot.last_exit.clone(),
            uptime_ms: live.and_then(|live| live.running_since).map(|since| self.age(since)),
            heartbeat_age_ms: answered_at.map(|at| self.age(at)),
            missed_probes: live.map_or(0, |live| live.heart.missed()),
            in_flight: observation.in_flight,
            observation,
            ..unknown(&slot.spec)
        }
    }

    fn state_of(&self, phase: &Phase) -> ChildState {
        match phase {
            Phase::Pending => ChildState::Pending,
            Phase::Starting { .. } => ChildState::Starting,
            Phase::Running { .. } => ChildState::Running,
            Phase::BackingOff { until } => ChildState::BackingOff {
                until_ms: self.wall_of(*until),
            },
            Phase::Quarantined {
                since_ms,
                probe_at,
                reason,
            } => ChildState::Quarantined {
                since_ms: *since_ms,
                probe_at_ms: probe_at.map(|at| self.wall_of(at)),
                reason: reason.clone(),
            },
            Phase::Stopping { .. } => ChildState::Stopping,
            Phase::Stopped => ChildState::Stopped,
        }
    }

    fn age(&self, since: Instant) -> u64 {
        millis(self.instant.saturating_duration_since(since))
    }

    fn wall_of(&self, at: Instant) -> i64 {
        let ahead = millis(at.saturating_duration_since(self.instant));
        self.wall_ms.saturating_add(i64::try_from(ahead).unwrap_or(i64::MAX))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
