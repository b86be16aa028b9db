//! What callers have left for Redis, in order, and the part of it that one exchange takes. Pure.

use std::collections::VecDeque;

use callboard_actors::domain::{FunctionId, RunId, Timestamp};
use callboard_actors::ports::{Flow, Lease, Place, QueueStats};
use tokio::sync::oneshot;

use super::Handed;
use super::exchange::{End, Origin, Request};

/// Ends of leases in one exchange, at the most.
const ENDS: usize = 1_000;
/// Runs forgotten in one exchange, at the most.
const FORGETS: usize = 500;
/// Jobs pushed in one exchange from which on nothing is added.
const PUSHES: usize = 512;
/// Bytes pushed in one exchange from which on nothing is added.
const PUSH_BYTES: usize = 4 * 1024 * 1024;
/// Ended runs remembered while Redis is away; what remains of the others does nothing when it is handed out.
const FORGETS_KEPT: usize = 10_000;

/// Jobs to take in.
#[derive(Debug)]
pub(super) struct Push {
    /// Field, version, function.
    pub(super) jobs: Vec<(String, String, FunctionId)>,
    pub(super) origin: Origin,
    pub(super) reply: oneshot::Sender<Vec<bool>>,
}

impl Push {
    fn bytes(&self) -> usize {
        let bytes = |(field, version, _): &(String, String, FunctionId)| field.len() + version.len();
        self.jobs.iter().map(bytes).sum()
    }
}

/// Somebody asks for leases.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) now: Timestamp,
    pub(super) max: usize,
    pub(super) limit: usize,
    pub(super) reply: oneshot::Sender<Handed>,
}

/// A question that changes nothing.
#[derive(Debug)]
pub(super) enum Read {
    LeasesOf(RunId, oneshot::Sender<Vec<Lease>>),
    Stats(oneshot::Sender<QueueStats>),
    Flow(FunctionId, oneshot::Sender<Flow>),
    Places(RunId, oneshot::Sender<Vec<Place>>),
}

/// What goes into one exchange, and whom to answer.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) request: Request,
    pub(super) pushes: Vec<Push>,
    pub(super) ask: Option<Ask>,
    pub(super) reads: Vec<Read>,
    pub(super) barriers: Vec<oneshot::Sender<()>>,
    pub(super) beat: bool,
    pub(super) closing: Vec<oneshot::Sender<()>>,
}

/// The outbox.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) ends: Vec<End>,
    forgets: VecDeque<RunId>,
    pub(super) pushes: VecDeque<Push>,
    pub(super) asks: VecDeque<Ask>,
    pub(super) reads: Vec<Read>,
    /// Who waits until everything has been told.
    pub(super) barriers: Vec<oneshot::Sender<()>>,
    /// A sign of life is due.
    pub(super) beat: bool,
    /// The session is to end.
    pub(super) closing: Vec<oneshot::Sender<()>>,
}

impl Outbox {
    /// Whether nobody has left anything that changes something.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.forgets.is_empty() && self.pushes.is_empty() && self.asks.is_empty()
    }

    pub(super) fn forget(&mut self, run: RunId) {
        if self.forgets.len() >= FORGETS_KEPT {
            self.forgets.pop_front();
        }
        self.forgets.push_back(run);
    }

    /// Drops the wishes of those who have given up waiting: they have been told that it did not happen.
    pub(super) fn prune(&mut self) {
        self.pushes.retain(|push| !push.reply.is_closed());
        self.asks.retain(|ask| !ask.reply.is_closed());
    }

    /// Takes what one exchange can carry into `request`.
    pub(super) fn take(&mut self, mut request: Request) -> Batch {
        request.ends = self.ends.drain(..self.ends.len().min(ENDS)).collect();
        let forgets = self.forgets.drain(..self.forgets.len().min(FORGETS));
        request.forgets = forgets.map(|run| run.to_string()).collect();
        let (mut pushes, mut jobs, mut bytes) = (Vec::new(), 0, 0);
        while jobs < PUSHES
            && bytes < PUSH_BYTES
            && let Some(push) = self.pushes.pop_front()
        {
            jobs += push.jobs.len();
            bytes += push.bytes();
            pushes.push(push);
        }
        let closing = std::mem::take(&mut self.closing);
        let ask = if closing.is_empty() {
            self.asks.pop_front()
        } else {
            None
        };
        // Questions come after everything that was said before them.
        let (reads, barriers) = if self.is_empty() {
            (std::mem::take(&mut self.reads), std::mem::take(&mut self.barriers))
        } else {
            Default::default()
        };
        Batch {
            request,
            pushes,
            ask,
            reads,
            barriers,
            beat: std::mem::take(&mut self.beat),
            closing,
        }
    }

    /// Puts back what may not have happened, before everything that was left since.
    pub(super) fn put_back(&mut self, mut batch: Batch) {
        self.ends.splice(0..0, batch.request.ends).for_each(drop);
        for run in batch.request.forgets.iter().rev().filter_map(|run| run.parse().ok()) {
            self.forgets.push_front(run);
        }
        for mut push in batch.pushes.into_iter().rev() {
            // It may have come in, and somebody may have had it.
            if push.origin == Origin::Fresh {
                push.origin = Origin::Stale;
            }
            self.pushes.push_front(push);
        }
        if let Some(ask) = batch.ask {
            self.asks.push_front(ask);
        }
        self.reads.splice(0..0, batch.reads).for_each(drop);
        self.barriers.append(&mut batch.barriers);
        self.closing.append(&mut batch.closing);
        self.beat |= batch.beat;
    }
}
