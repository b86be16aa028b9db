//! The ordered shutdown: bottom-up, one order after the other, each child with its grace.
//!
//! What has yet to be stopped is still supervised: a writer that panics while executors wind down is built
//! anew, for they need it. A drain always ends, whatever children do: grace, then abort, then leaving a stuck
//! thread behind, each after a known time. What did not finish is reported as an orphan.

use std::time::Duration;

use serde::Serialize;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Refusal, Supervisor,
    slot::{Next, Phase},
};
use crate::kernel::{ChildName, Exit, Generation};

/// A child that had to be aborted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// Which.
    pub name: ChildName,
    /// Which incarnation: its leases are to be handed back.
    pub generation: Generation,
    /// Work it had in flight when it was last seen.
    pub in_flight: u64,
    /// Whether even the abort did not get through, so that its code may still be running.
    pub stuck: bool,
}

/// How a drain went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DrainReport {
    /// Who stopped in time, in the order they went.
    pub stopped: Vec<ChildName>,
    /// Who did not.
    pub orphans: Vec<Orphan>,
}

/// A drain under way, or done.
pub(super) struct Draining {
    deadline: Instant,
    /// The order that is being stopped; those above are gone, those below still supervised.
    turn: Option<u16>,
    report: DrainReport,
    done: bool,
    waiters: Vec<oneshot::Sender<DrainReport>>,
}

impl Supervisor {
    /// Begins a drain, or joins the one under way.
    pub(super) fn drain(&mut self, grace: Duration) -> oneshot::Receiver<DrainReport> {
        let (waiter, outcome) = oneshot::channel();
        match &mut self.draining {
            Some(draining) if draining.done => {
                let _ = waiter.send(draining.report.clone());
            }
            Some(draining) => draining.waiters.push(waiter),
            None => {
                tracing::info!(?grace, children = self.slots.len(), "draining");
                self.abandon_boot(&Refusal::Draining);
                self.draining = Some(Draining {
                    deadline: Instant::now() + grace,
                    turn: None,
                    report: DrainReport::default(),
                    done: false,
                    waiters: vec![waiter],
                });
                self.drain_on();
            }
        }
        outcome
    }

    /// Takes the drain as far as it goes without waiting.
    pub(super) fn drain_on(&mut self) {
        while let Some(draining) = self.draining.as_mut().filter(|draining| !draining.done) {
            let up = |slot: &&super::slot::Slot| !matches!(slot.phase, Phase::Stopped);
            let highest = self.slots.values().filter(up).map(|slot| slot.spec.order).max();
            match (highest, draining.turn) {
                (Some(order), Some(turn)) if order >= turn => return,
                (Some(order), _) => {
                    draining.turn = Some(order);
                    let left = draining.deadline.saturating_duration_since(Instant::now());
                    let due: Vec<ChildName> = self
                        .slots
                        .values()
                        .filter(up)
                        .filter(|slot| slot.spec.order == order)
                        .map(|slot| slot.spec.name.clone())
                        .collect();
                    for name in due {
                        self.retire(&name, left.max(self.settings.last_call));
                    }
                }
                (None, _) => {
                    draining.done = true;
                    tracing::info!(orphans = draining.report.orphans.len(), "drained");
                    for waiter in draining.waiters.drain(..) {
                        let _ = waiter.send(draining.report.clone());
                    }
                    self.publish_all();
                }
            }
        }
    }

    /// Stops one child for good.
    fn retire(&mut self, name: &ChildName, at_most: Duration) {
        let Some(slot) = self.slots.get(name) else {
            return;
        };
        let grace = slot.spec.stop_grace.min(at_most);
        match &slot.phase {
            Phase::Starting { .. } | Phase::Running { .. } => {
                self.begin_stop(name, Next::StayDown, grace);
            }
            // On its way down for another reason: it stays there, and has no longer than the others.
            Phase::Stopping { .. } => {
                self.redirect(name, Next::StayDown);
                self.set_timer(name, grace);
            }
            Phase::Pending | Phase::BackingOff { .. } | Phase::Quarantined { .. } => {
                self.park(name, Refusal::Draining);
            }
            Phase::Stopped => {}
        }
    }

    pub(super) fn note_stopped(&mut self, name: &ChildName, exit: &Exit) {
        if let Some(draining) = &mut self.draining
            && *exit != Exit::Aborted
        {
            draining.report.stopped.push(name.clone());
        }
    }

    pub(super) fn note_orphan(&mut self, name: &ChildName, generation: Generation, in_flight: u64) {
        if let Some(draining) = &mut self.draining {
            draining.report.orphans.push(Orphan {
                name: name.clone(),
                generation,
                in_flight,
                stuck: false,
            });
        }
    }

    pub(super) fn note_stuck(&mut self, name: &ChildName, generation: Generation, in_flight: u64) {
        let Some(draining) = &mut self.draining else {
            return;
        };
        let orphans = &mut draining.report.orphans;
        match orphans.iter_mut().find(|orphan| orphan.name == *name) {
            Some(orphan) => orphan.stuck = true,
            // Aborted before the drain began.
            None => orphans.push(Orphan {
                name: name.clone(),
                generation,
                in_flight,
                stuck: true,
            }),
        }
    }
}
