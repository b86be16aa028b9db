//! One child in the supervisor's table.
//!
//! Holds what outlives an incarnation (spec, ledger, last exit) and the incarnation itself, if there is one.
//! Every change of phase takes a new ticket, so a timer of an earlier phase finds itself out of date.

use std::{any::Any, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::Refusal;
use crate::kernel::{ChildSpec, ChildStatus, Command, Exit, Generation, LastExit, RestartLedger, probe::Heart};

/// What follows once a child that is stopping has gone.
#[derive(Debug)]
pub(super) enum Next {
    /// It is forgotten.
    Forget,
    /// It is built anew.
    Start,
    /// It is taken out of service by an operator.
    Quarantine { reason: String },
    /// It stays down: the tree is being drained.
    StayDown,
    /// It was aborted for this; its policy decides.
    Judge(Exit),
}

/// A live incarnation.
pub(super) struct Live {
    pub(super) generation: Generation,
    pub(super) address: Arc<dyn Any + Send + Sync>,
    pub(super) heart: Heart,
    pub(super) running_since: Option<Instant>,
    control: mpsc::UnboundedSender<Command>,
    abort: Option<oneshot::Sender<()>>,
}

impl Live {
    pub(super) fn new(
        generation: Generation,
        address: Arc<dyn Any + Send + Sync>,
        heart: Heart,
        control: mpsc::UnboundedSender<Command>,
        abort: oneshot::Sender<()>,
    ) -> Self {
        Self {
            generation,
            address,
            heart,
            running_since: None,
            control,
            abort: Some(abort),
        }
    }

    /// Sends a probe. One that cannot be sent was for an actor whose exit is on its way.
    pub(super) fn observe(&self, ticket: u64) {
        let _ = self.control.send(Command::Observe(ticket));
    }

    /// Tells the child to stop, and asks what it still has in flight.
    pub(super) fn wind_down(&mut self) {
        let _ = self.control.send(Command::WindDown);
        if let Some(ticket) = self.heart.ask_now() {
            self.observe(ticket);
        }
    }

    /// Aborts the child at its next yield. False if that was asked for before.
    pub(super) fn abort(&mut self) -> bool {
        match self.abort.take() {
            Some(abort) => {
                let _ = abort.send(());
                true
            }
            None => false,
        }
    }
}

/// What a child is doing.
pub(super) enum Phase {
    Pending,
    Starting {
        live: Live,
        since: Instant,
    },
    Running {
        live: Live,
    },
    BackingOff {
        until: Instant,
    },
    Quarantined {
        since_ms: i64,
        probe_at: Option<Instant>,
        reason: String,
    },
    Stopping {
        live: Live,
        next: Next,
    },
    Stopped,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// A child's line in the table.
pub(super) struct Slot {
    pub(super) spec: ChildSpec,
    pub(super) phase: Phase,
    pub(super) ledger: RestartLedger,
    pub(super) generation: Option<Generation>,
    pub(super) last_exit: Option<LastExit>,
    /// It is on trial after a quarantine: one more failure, and it goes back.
    pub(super) on_trial: bool,
    /// It belongs to a tree that is still coming up.
    pub(super) booting: bool,
    pub(super) ticket: u64,
    /// What calls when the present phase has lasted too long.
    pub(super) timer: Option<JoinHandle<()>>,
    pub(super) waiters: Vec<oneshot::Sender<Result<Generation, Refusal>>>,
    /// Its status as last computed.
    pub(super) status: Arc<ChildStatus>,
}

impl Slot {
    pub(super) fn new(spec: ChildSpec) -> Self {
        let status = Arc::new(super::status::unknown(&spec));
        Self {
            spec,
            phase: Phase::Pending,
            ledger: RestartLedger::default(),
            generation: None,
            last_exit: None,
            on_trial: false,
            booting: false,
            ticket: 0,
            timer: None,
            waiters: Vec::new(),
            status,
        }
    }

    pub(super) fn live(&self) -> Option<&Live> {
        match &self.phase {
            Phase::Starting { live, .. } | Phase::Running { live } | Phase::Stopping { live, .. } => Some(live),
            _ => None,
        }
    }

    /// Takes the incarnation out of a child that is starting or running, and leaves any other as it is.
    pub(super) fn take_live(&mut self) -> Option<Live> {
        if !matches!(self.phase, Phase::Starting { .. } | Phase::Running { .. }) {
            return None;
        }
        match self.enter(Phase::Stopped) {
            Phase::Starting { live, .. } | Phase::Running { live } => Some(live),
            _ => None,
        }
    }

    /// Changes the phase; timers set before are out of date from here on.
    pub(super) fn enter(&mut self, phase: Phase) -> Phase {
        self.disarm();
        std::mem::replace(&mut self.phase, phase)
    }

    /// Puts the phase's timer out of date.
    pub(super) fn disarm(&mut self) {
        self.ticket += 1;
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }

    /// Answers everybody who waits for the child to run.
    pub(super) fn answer(&mut self, outcome: &Result<Generation, Refusal>) {
        for waiter in self.waiters.drain(..) {
            // Who no longer waits needs no answer.
            let _ = waiter.send(outcome.clone());
        }
    }
}
