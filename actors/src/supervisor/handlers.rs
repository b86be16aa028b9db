//! The supervisor's mailbox: one handler per message, each of them a short table of phases.

use actix::{Context, Handler, MessageResult, ResponseFuture};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Drain, GetStatus, Quarantine, Refusal, RestChild, RestartChild, Resume, StartChild, StartTree, Subscribe,
    Supervisor,
    messages::Notice,
    slot::{Next, Phase, Slot},
};
use crate::kernel::{ChildName, Generation};

impl Supervisor {
    fn refuse_when_draining(&self) -> Result<(), Refusal> {
        if self.draining.is_some() {
            return Err(Refusal::Draining);
        }
        Ok(())
    }

    /// Starts a child if it can be started. Gives the answer if it is known.
    fn start_on_demand(&mut self, StartChild(spec): StartChild) -> Option<Result<Generation, Refusal>> {
        if let Err(refusal) = self.refuse_when_draining() {
            return Some(Err(refusal));
        }
        let name = spec.name.clone();
        let Some(slot) = self.slots.get_mut(&name) else {
            self.slots.insert(name.clone(), Slot::new(spec));
            self.start(&name);
            return None;
        };
        match &slot.phase {
            Phase::Running { live } => Some(Ok(live.generation)),
            Phase::Pending => {
                self.start(&name);
                None
            }
            Phase::BackingOff { until } => Some(Err(Refusal::BackingOff {
                retry_after: until.saturating_duration_since(Instant::now()),
            })),
            Phase::Quarantined { reason, .. }
            | Phase::Stopping {
                next: Next::Quarantine { reason },
                ..
            } => Some(Err(Refusal::Quarantined { reason: reason.clone() })),
            Phase::Starting { .. }
            | Phase::Stopping {
                next: Next::Start | Next::Judge(_),
                ..
            } => None,
            Phase::Stopping { .. } => {
                slot.spec = spec;
                self.redirect(&name, Next::Start);
                None
            }
            Phase::Stopped => {
                slot.spec = spec;
                self.start(&name);
                None
            }
        }
    }

    fn rest(&mut self, name: &ChildName, generation: Option<Generation>) -> Result<(), Refusal> {
        let slot = self.slots.get(name).ok_or(Refusal::Unknown)?;
        let current = slot.live().map(|live| live.generation);
        if generation.is_some() && generation != current {
            return Err(Refusal::Stale);
        }
        match &slot.phase {
            Phase::Starting { .. } | Phase::Running { .. } => {
                let grace = slot.spec.stop_grace;
                self.begin_stop(name, Next::Forget, grace);
            }
            Phase::Stopping { next, .. } => {
                // A child's own wish to rest does not overrule what was decided about it since.
                if generation.is_none() && !matches!(next, Next::StayDown) {
                    self.redirect(name, Next::Forget);
                }
            }
            Phase::Pending | Phase::BackingOff { .. } | Phase::Quarantined { .. } | Phase::Stopped => {
                self.forget(name, Refusal::Stopped);
                self.boot_on();
                self.drain_on();
            }
        }
        Ok(())
    }

    fn restart(&mut self, name: &ChildName) -> Result<(), Refusal> {
        self.refuse_when_draining()?;
        let slot = self.slots.get(name).ok_or(Refusal::Unknown)?;
        match &slot.phase {
            Phase::Starting { .. } | Phase::Running { .. } => {
                let grace = slot.spec.stop_grace;
                self.begin_stop(name, Next::Start, grace);
            }
            Phase::BackingOff { .. } | Phase::Stopped => self.start(name),
            Phase::Quarantined { reason, .. }
            | Phase::Stopping {
                next: Next::Quarantine { reason },
                ..
            } => {
                return Err(Refusal::Quarantined { reason: reason.clone() });
            }
            Phase::Stopping {
                next: Next::Forget | Next::StayDown,
                ..
            } => return Err(Refusal::Stopped),
            Phase::Stopping { .. } | Phase::Pending => {}
        }
        Ok(())
    }

    fn hold(&mut self, name: &ChildName, reason: String) -> Result<(), Refusal> {
        self.refuse_when_draining()?;
        let slot = self.slots.get_mut(name).ok_or(Refusal::Unknown)?;
        slot.on_trial = false;
        match &slot.phase {
            Phase::Starting { .. } | Phase::Running { .. } => {
                let grace = slot.spec.stop_grace;
                self.begin_stop(name, Next::Quarantine { reason }, grace);
            }
            Phase::Stopping { next, .. } => {
                if matches!(next, Next::Forget | Next::StayDown) {
                    return Err(Refusal::Stopped);
                }
                self.redirect(name, Next::Quarantine { reason });
            }
            Phase::Pending | Phase::BackingOff { .. } | Phase::Quarantined { .. } | Phase::Stopped => {
                self.quarantine(name, reason, None);
            }
        }
        self.boot_on();
        Ok(())
    }

    fn resume(&mut self, name: &ChildName) -> Result<(), Refusal> {
        self.refuse_when_draining()?;
        let slot = self.slots.get_mut(name).ok_or(Refusal::Unknown)?;
        slot.ledger.forgive();
        slot.on_trial = false;
        match &slot.phase {
            Phase::Quarantined { .. } | Phase::BackingOff { .. } | Phase::Stopped => self.start(name),
            Phase::Stopping {
                next: Next::Quarantine { .. },
                ..
            } => self.redirect(name, Next::Start),
            Phase::Stopping { .. } | Phase::Pending | Phase::Starting { .. } | Phase::Running { .. } => {}
        }
        Ok(())
    }
}

/// A waiter is dropped unanswered only together with the supervisor; the reply outlives both.
async fn outcome_of<T>(outcome: oneshot::Receiver<Result<T, Refusal>>) -> Result<T, Refusal> {
    outcome.await.unwrap_or(Err(Refusal::Lost))
}

impl Handler<StartTree> for Supervisor {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, StartTree(specs): StartTree, _: &mut Context<Self>) -> Self::Result {
        if let Err(refusal) = self.refuse_when_draining() {
            return Box::pin(async move { Err(refusal) });
        }
        for spec in specs {
            self.slots.entry(spec.name.clone()).or_insert_with(|| {
                let mut slot = Slot::new(spec);
                slot.booting = true;
                slot
            });
        }
        let (waiter, outcome) = oneshot::channel();
        self.boot_waiters.push(waiter);
        self.boot_on();
        self.publish_all();
        Box::pin(outcome_of(outcome))
    }
}

impl Handler<StartChild> for Supervisor {
    type Result = ResponseFuture<Result<Generation, Refusal>>;

    fn handle(&mut self, message: StartChild, _: &mut Context<Self>) -> Self::Result {
        let name = message.0.name.clone();
        match self.start_on_demand(message) {
            Some(answer) => Box::pin(async move { answer }),
            None => Box::pin(outcome_of(self.wait_for(&name))),
        }
    }
}

impl Handler<RestChild> for Supervisor {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, message: RestChild, _: &mut Context<Self>) -> Self::Result {
        self.rest(&message.name, message.generation)
    }
}

impl Handler<RestartChild> for Supervisor {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, message: RestartChild, _: &mut Context<Self>) -> Self::Result {
        self.restart(&message.name)
    }
}

impl Handler<Quarantine> for Supervisor {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, message: Quarantine, _: &mut Context<Self>) -> Self::Result {
        self.hold(&message.name, message.reason)
    }
}

impl Handler<Resume> for Supervisor {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, message: Resume, _: &mut Context<Self>) -> Self::Result {
        self.resume(&message.name)
    }
}

impl Handler<Drain> for Supervisor {
    type Result = ResponseFuture<Result<super::DrainReport, Refusal>>;

    fn handle(&mut self, message: Drain, _: &mut Context<Self>) -> Self::Result {
        let outcome = self.drain(message.grace);
        Box::pin(async move { outcome.await.map_err(|_| Refusal::Lost) })
    }
}

impl Handler<GetStatus> for Supervisor {
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.publish_all())
    }
}

impl Handler<Subscribe> for Supervisor {
    type Result = ();

    fn handle(&mut self, Subscribe(subscriber): Subscribe, _: &mut Context<Self>) {
        self.subscribers.push(subscriber);
    }
}

impl Handler<Notice> for Supervisor {
    type Result = ();

    fn handle(&mut self, notice: Notice, _: &mut Context<Self>) {
        match notice {
            Notice::Running { name, generation } => self.came_up(&name, generation),
            Notice::Exited { name, generation, exit } => self.exited(&name, generation, exit),
            Notice::TimeUp { name, ticket } => self.time_up(&name, ticket),
        }
    }
}
