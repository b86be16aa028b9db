//! The edges of the table: telling the book, the subscribers and the clock about a child.
//!
//! Small steps without judgement; [`super::lifecycle`] decides which to take.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use super::{
    Refusal, Supervisor,
    messages::Notice,
    slot::{Live, Next, Phase},
};
use crate::kernel::{ChildExited, ChildName, Exit, Generation, Launched, book::Entry, probe::Heart};

impl Supervisor {
    /// Builds the next incarnation of a child.
    pub(super) fn start(&mut self, name: &ChildName) {
        let now = self.ledger_now();
        let Some(own) = self.own.clone() else {
            return;
        };
        let Some(slot) = self.slots.get_mut(name) else {
            return;
        };
        slot.ledger.ended(&slot.spec.policy, now);
        let generation = self.generations.advance();
        let Launched {
            address,
            control,
            abort,
            pulse,
            running,
            exit,
        } = slot.spec.launch(generation);
        let since = Instant::now();
        slot.generation = Some(generation);
        let live = Live::new(generation, address, Heart::new(pulse), control, abort);
        slot.enter(Phase::Starting { live, since });
        self.book.write(name, Entry::Restarting { until: since });
        let name = name.clone();
        tokio::task::spawn_local({
            let name = name.clone();
            async move {
                if running.await.is_ok() {
                    own.do_send(Notice::Running {
                        name: name.clone(),
                        generation,
                    });
                }
                let exit = exit.await.unwrap_or(Exit::ArbiterLost);
                own.do_send(Notice::Exited { name, generation, exit });
            }
        });
        self.publish(&name);
    }

    /// Tells a live child to stop, and says what follows.
    pub(super) fn begin_stop(&mut self, name: &ChildName, next: Next, grace: Duration) {
        let Some(slot) = self.slots.get_mut(name) else {
            return;
        };
        let Some(mut live) = slot.take_live() else {
            return;
        };
        live.wind_down();
        slot.enter(Phase::Stopping { live, next });
        self.unlist_stopping(name);
        self.set_timer(name, grace);
        self.publish(name);
    }

    /// Changes what follows once a stopping child has gone.
    pub(super) fn redirect(&mut self, name: &ChildName, then: Next) {
        if let Some(slot) = self.slots.get_mut(name)
            && let Phase::Stopping { next, .. } = &mut slot.phase
        {
            *next = then;
        }
        self.unlist_stopping(name);
        self.publish(name);
    }

    /// Makes the book say of a stopping child what follows, and tells those who wait for it to run.
    fn unlist_stopping(&mut self, name: &ChildName) {
        let Some(slot) = self.slots.get_mut(name) else {
            return;
        };
        let Phase::Stopping { next, .. } = &slot.phase else {
            return;
        };
        let refusal = match next {
            Next::Forget | Next::StayDown => {
                self.book.erase(name);
                Refusal::Stopped
            }
            Next::Quarantine { reason } => {
                self.book.write(name, Entry::Quarantined { probe_at: None });
                Refusal::Quarantined { reason: reason.clone() }
            }
            Next::Start | Next::Judge(_) => {
                let until = Instant::now();
                self.book.write(name, Entry::Restarting { until });
                return;
            }
        };
        slot.answer(&Err(refusal));
    }

    /// Aborts a live child for a cause its policy will judge.
    pub(super) fn condemn(&mut self, name: &ChildName, cause: Exit) {
        let Some(slot) = self.slots.get_mut(name) else {
            return;
        };
        let Some(mut live) = slot.take_live() else {
            return;
        };
        tracing::warn!(child = %name, %cause, "aborting a child");
        live.abort();
        let next = Next::Judge(cause);
        slot.enter(Phase::Stopping { live, next });
        self.unlist_stopping(name);
        self.publish(name);
    }

    /// Takes a child that is not alive out of service.
    pub(super) fn quarantine(&mut self, name: &ChildName, reason: String, probe_after: Option<Duration>) {
        let since_ms = (self.sources.wall_ms)();
        let probe_at = probe_after.map(|after| Instant::now() + after);
        let Some(slot) = self.slots.get_mut(name) else {
            return;
        };
        tracing::warn!(child = %name, reason, ?probe_after, "quarantined");
        self.book.write(name, Entry::Quarantined { probe_at });
        slot.booting = false;
        slot.answer(&Err(Refusal::Quarantined { reason: reason.clone() }));
        slot.enter(Phase::Quarantined {
            since_ms,
            probe_at,
            reason,
        });
        if let Some(after) = probe_after {
            self.set_timer(name, after);
        }
        self.publish(name);
    }

    /// Leaves a child down.
    pub(super) fn park(&mut self, name: &ChildName, refusal: Refusal) {
        let Some(slot) = self.slots.get_mut(name) else {
            return;
        };
        self.book.erase(name);
        slot.booting = false;
        slot.answer(&Err(refusal));
        slot.enter(Phase::Stopped);
        self.publish(name);
    }

    /// Strikes a child out of the table.
    pub(super) fn forget(&mut self, name: &ChildName, refusal: Refusal) {
        self.book.erase(name);
        if let Some(mut slot) = self.slots.remove(name) {
            slot.answer(&Err(refusal));
        }
        self.publish(name);
    }

    /// Sees to it that the present phase of a child is looked at after `after`.
    pub(super) fn set_timer(&mut self, name: &ChildName, after: Duration) {
        let Some(own) = self.own.clone() else {
            return;
        };
        let Some(slot) = self.slots.get_mut(name) else {
            return;
        };
        slot.disarm();
        let ticket = slot.ticket;
        let name = name.clone();
        slot.timer = Some(tokio::task::spawn_local(async move {
            tokio::time::sleep(after).await;
            own.do_send(Notice::TimeUp { name, ticket });
        }));
    }

    /// Tells everybody who asked that an incarnation has ended.
    pub(super) fn tell(&mut self, name: &ChildName, generation: Generation, exit: Exit) {
        let report = ChildExited {
            name: name.clone(),
            generation,
            exit,
            at_ms: (self.sources.wall_ms)(),
        };
        self.subscribers.retain(actix::Recipient::connected);
        for subscriber in &self.subscribers {
            subscriber.do_send(report.clone());
        }
    }

    /// Registers somebody who waits for a child to run.
    pub(super) fn wait_for(&mut self, name: &ChildName) -> oneshot::Receiver<Result<Generation, Refusal>> {
        let (waiter, outcome) = oneshot::channel();
        if let Some(slot) = self.slots.get_mut(name) {
            slot.waiters.push(waiter);
        }
        outcome
    }
}
