//! What happens to a child: it comes up, it ends, it is judged.
//!
//! Every path from an exit to a restart, a quarantine or a stop of the process goes through here, and each
//! checks the generation first: what a stale incarnation reports changes nothing.

use tokio::time::Instant;

use super::{
    Refusal, StopReason, Supervisor,
    slot::{Next, Phase},
};
use crate::kernel::{ChildName, Exit, Generation, GiveUp, LastExit, RestartKind, Verdict, book::Entry};

impl Supervisor {
    /// An incarnation has finished starting.
    pub(super) fn came_up(&mut self, name: &ChildName, generation: Generation) {
        let now = self.ledger_now();
        let Some(slot) = self.slots.get_mut(name) else {
            return;
        };
        let current = matches!(&slot.phase, Phase::Starting { live, .. } if live.generation == generation);
        if !current {
            // Stale; or told to stop, or aborted, while it was starting.
            return;
        }
        let Phase::Starting { mut live, .. } = slot.enter(Phase::Stopped) else {
            return;
        };
        live.running_since = Some(Instant::now());
        let address = live.address.clone();
        slot.phase = Phase::Running { live };
        slot.booting = false;
        slot.ledger.running(now);
        self.book.write(name, Entry::Here { address, generation });
        slot.answer(&Ok(generation));
        tracing::debug!(child = %name, %generation, "running");
        self.publish(name);
        self.boot_on();
    }

    /// An incarnation has ended.
    pub(super) fn exited(&mut self, name: &ChildName, generation: Generation, exit: Exit) {
        let at_ms = (self.sources.wall_ms)();
        let Some(slot) = self
            .slots
            .get_mut(name)
            .filter(|slot| slot.live().is_some_and(|live| live.generation == generation))
        else {
            tracing::debug!(child = %name, %generation, %exit, "a stale exit");
            return;
        };
        let next = match slot.enter(Phase::Stopped) {
            Phase::Stopping { next, .. } => next,
            _ => Next::Judge(exit.clone()),
        };
        // The guard sees an abort; why it was ordered is known here.
        let exit = match (&next, exit) {
            (Next::Judge(cause), Exit::Aborted) => cause.clone(),
            (_, exit) => exit,
        };
        slot.last_exit = Some(LastExit {
            generation,
            exit: exit.clone(),
            at_ms,
        });
        match next {
            Next::Judge(_) => self.judge(name, exit.clone()),
            Next::Forget => self.forget(name, Refusal::Stopped),
            Next::Start => self.start(name),
            Next::Quarantine { reason } => self.quarantine(name, reason, None),
            Next::StayDown => {
                self.park(name, Refusal::Draining);
                self.note_stopped(name, &exit);
            }
        }
        self.tell(name, generation, exit);
        self.boot_on();
        self.drain_on();
    }

    /// A child's phase has lasted as long as it may.
    pub(super) fn time_up(&mut self, name: &ChildName, ticket: u64) {
        let Some(slot) = self.slots.get_mut(name).filter(|slot| slot.ticket == ticket) else {
            return;
        };
        match &slot.phase {
            Phase::BackingOff { .. } => self.start(name),
            Phase::Quarantined { .. } => {
                slot.on_trial = true;
                self.start(name);
            }
            Phase::Stopping { .. } => self.overdue(name),
            Phase::Pending | Phase::Starting { .. } | Phase::Running { .. } | Phase::Stopped => {}
        }
    }

    /// Decides what becomes of a child that ended without being told to.
    fn judge(&mut self, name: &ChildName, exit: Exit) {
        let Some(slot) = self.slots.get(name) else {
            return;
        };
        let (restart, arbiter) = (slot.spec.restart, slot.spec.placement.name.clone());
        if exit == Exit::ArbiterLost {
            self.stop_process(&StopReason::ArbiterLost {
                arbiter,
                child: name.clone(),
            });
            self.park(name, Refusal::Ended(exit.clone()));
            self.abandon_boot(&Refusal::Ended(exit));
            return;
        }
        match restart {
            RestartKind::Temporary => self.forget(name, Refusal::Ended(exit)),
            RestartKind::Transient if exit.is_normal() => self.park(name, Refusal::Ended(exit)),
            RestartKind::Transient | RestartKind::Permanent => self.fail(name, exit),
        }
    }

    fn fail(&mut self, name: &ChildName, exit: Exit) {
        let now = self.ledger_now();
        let unit = (self.sources.dice)();
        let Some(slot) = self.slots.get_mut(name) else {
            return;
        };
        let policy = slot.spec.policy;
        let healthy = slot
            .ledger
            .health(now)
            .is_some_and(|health| health >= policy.forget_after);
        let relapsed = std::mem::take(&mut slot.on_trial) && !healthy;
        let verdict = slot.ledger.failed(&policy, now, unit);
        match (verdict, slot.spec.give_up) {
            (_, GiveUp::Quarantine { probe_after }) if relapsed => {
                self.quarantine(name, format!("failed again on trial: {exit}"), Some(probe_after));
            }
            (Verdict::Restart { after }, _) => {
                let until = Instant::now() + after;
                slot.enter(Phase::BackingOff { until });
                slot.answer(&Err(Refusal::BackingOff { retry_after: after }));
                self.book.write(name, Entry::Restarting { until });
                tracing::warn!(child = %name, %exit, ?after, "restarting");
                self.set_timer(name, after);
                self.publish(name);
            }
            (Verdict::GiveUp { restarts }, GiveUp::Quarantine { probe_after }) => {
                let reason = format!("given up after {restarts} restarts: {exit}");
                self.quarantine(name, reason, Some(probe_after));
            }
            (Verdict::GiveUp { restarts }, GiveUp::StopProcess) => {
                self.stop_process(&StopReason::GaveUp {
                    child: name.clone(),
                    restarts,
                    exit: exit.clone(),
                });
                self.park(name, Refusal::Ended(exit.clone()));
                self.abandon_boot(&Refusal::Ended(exit));
            }
        }
    }

    /// A stopping child has used up its grace.
    fn overdue(&mut self, name: &ChildName) {
        let patience = self.settings.abort_patience;
        let Some(slot) = self.slots.get_mut(name) else {
            return;
        };
        let Phase::Stopping { live, next } = &mut slot.phase else {
            return;
        };
        let drained = matches!(next, Next::StayDown);
        let (generation, in_flight) = (live.generation, live.heart.pulse.last().1.in_flight);
        if live.abort() {
            tracing::warn!(child = %name, in_flight, "aborting a child that did not stop in time");
            if drained {
                self.note_orphan(name, generation, in_flight);
            }
            self.set_timer(name, patience);
        } else if drained {
            // Not even the abort got through: the thread is stuck. The drain goes on without it.
            self.note_stuck(name, generation, in_flight);
            self.park(name, Refusal::Draining);
            self.drain_on();
        } else {
            tracing::error!(child = %name, "an aborted child is still there: its thread is stuck");
        }
    }

    /// Starts the next order of a tree that is coming up, or says that it is up.
    pub(super) fn boot_on(&mut self) {
        if self.boot_waiters.is_empty() || self.draining.is_some() {
            return;
        }
        let Some(turn) = self
            .slots
            .values()
            .filter(|slot| slot.booting)
            .map(|slot| slot.spec.order)
            .min()
        else {
            for waiter in self.boot_waiters.drain(..) {
                let _ = waiter.send(Ok(()));
            }
            return;
        };
        let due: Vec<ChildName> = self
            .slots
            .values()
            .filter(|slot| slot.booting && slot.spec.order == turn)
            .filter(|slot| matches!(slot.phase, Phase::Pending))
            .map(|slot| slot.spec.name.clone())
            .collect();
        for name in due {
            self.start(&name);
        }
    }

    /// Starts nothing more of a tree that was coming up.
    pub(super) fn abandon_boot(&mut self, refusal: &Refusal) {
        for slot in self.slots.values_mut() {
            slot.booting = false;
        }
        for waiter in self.boot_waiters.drain(..) {
            let _ = waiter.send(Err(refusal.clone()));
        }
    }
}
