//! What this process knows and what it has yet to tell: everything between two exchanges. Pure, under the queue's lock.
//!
//! Callers leave what they want; the driver takes it as a [`Batch`], which becomes one exchange, and brings back what came
//! of it. What an exchange without an answer had in it goes back and is sent again.

use std::collections::VecDeque;
use std::sync::Arc;

use callboard_actors::domain::{FunctionId, JobId, RunId, Timestamp};
use callboard_actors::ports::{Lease, QueueStats};
use tokio::sync::oneshot;

use super::codec;
use super::exchange::{End, Next, Origin, Outcome, Request, flag};
use super::held::Held;
use super::options::Options;
use super::session::Session;
use super::{Handed, Shared};

/// Ends of leases in one exchange, at the most.
const ENDS: usize = 1_000;
/// Runs forgotten in one exchange, at the most.
const FORGETS: usize = 500;
/// Jobs pushed in one exchange, at the most (one push may be more than what is left of it).
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
        self.jobs
            .iter()
            .map(|(field, version, _)| field.len() + version.len())
            .sum()
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
}

/// What goes into one exchange, and whom to answer.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) request: Request,
    pushes: Vec<Push>,
    ask: Option<Ask>,
    reads: Vec<Read>,
    barriers: Vec<oneshot::Sender<()>>,
    beat: bool,
    closing: Vec<oneshot::Sender<()>>,
}

/// What the driver does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Open the session.
    Open(Request),
    /// Exchange.
    Exchange(Box<Batch>),
    /// Only questions.
    Reads(Vec<Read>),
}

/// What came of an exchange beyond the answers to its callers.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Who waits for a change is told.
    pub(super) news: bool,
    /// Redis has lost what it held.
    pub(super) is_forgotten: bool,
    /// Leases that were lost to others.
    pub(super) lost: usize,
    pub(super) reads: Vec<Read>,
}

/// The desk.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) held: Held,
    pub(super) session: Session,
    capacity: usize,
    /// Of the last lease.
    limit: Option<usize>,
    /// Whether the last lease found less than it had room for.
    is_hungry: bool,
    next: Next,
    now: Timestamp,
    /// Whether a push found no room, and nobody has been told of room since.
    is_short: bool,
    highest_epoch: u64,
    pub(super) last_stats: QueueStats,
    ends: Vec<End>,
    forgets: VecDeque<RunId>,
    pushes: VecDeque<Push>,
    asks: VecDeque<Ask>,
    reads: Vec<Read>,
    barriers: Vec<oneshot::Sender<()>>,
    beat: bool,
    closing: Vec<oneshot::Sender<()>>,
    in_flight: bool,
}

impl Desk {
    pub(super) fn new(process: String, options: &Options) -> Self {
        Self {
            capacity: options.capacity.total,
            held: Held::default(),
            session: Session::new(process),
            limit: None,
            is_hungry: false,
            next: Next::Never,
            now: Timestamp::MIN,
            is_short: false,
            highest_epoch: 0,
            last_stats: QueueStats::default(),
            ends: Vec::new(),
            forgets: VecDeque::new(),
            pushes: VecDeque::new(),
            asks: VecDeque::new(),
            reads: Vec::new(),
            barriers: Vec::new(),
            beat: false,
            closing: Vec::new(),
            in_flight: false,
        }
    }

    pub(super) fn push(&mut self, push: Push) {
        self.pushes.push_back(push);
    }

    pub(super) fn ask(&mut self, ask: Ask) {
        self.asks.push_back(ask);
    }

    pub(super) fn read(&mut self, read: Read) {
        self.reads.push(read);
    }

    pub(super) fn forget(&mut self, run: RunId) {
        if self.forgets.len() >= FORGETS_KEPT {
            self.forgets.pop_front();
        }
        self.forgets.push_back(run);
    }

    pub(super) fn beat(&mut self) {
        self.beat = true;
    }

    pub(super) fn close(&mut self, reply: oneshot::Sender<()>) {
        self.closing.push(reply);
    }

    /// Ends a lease, if this process holds it; what it does not hold is somebody else's.
    pub(super) fn end(&mut self, id: &JobId, epoch: u64, due: Option<Timestamp>) -> bool {
        let field = codec::field(id);
        let is_held = self.held.remove(&field, epoch).is_some();
        if is_held {
            self.ends.push(End { field, epoch, due });
        }
        is_held
    }

    /// Nothing is on its way.
    pub(super) fn idle(&mut self) {
        self.in_flight = false;
    }

    /// When everything said so far has been told: nothing to wait for if it has been.
    pub(super) fn barrier(&mut self) -> Option<oneshot::Receiver<()>> {
        let is_idle = !self.in_flight && !self.has_news_for_redis();
        (!is_idle).then(|| {
            let (reply, told) = oneshot::channel();
            self.barriers.push(reply);
            told
        })
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        match self.next {
            Next::Never => None,
            Next::Ready(due) | Next::At(due) => Some(due),
        }
    }

    fn has_news_for_redis(&self) -> bool {
        !(self.ends.is_empty() && self.forgets.is_empty() && self.pushes.is_empty() && self.asks.is_empty())
    }

    /// What is to be done now; `None` if there is nothing.
    pub(super) fn step(&mut self, options: &Options) -> Option<Step> {
        // Who has given up waiting has been told that it did not happen.
        self.pushes.retain(|push| !push.reply.is_closed());
        self.asks.retain(|ask| !ask.reply.is_closed());
        if !self.session.is_open && self.held.len() == 0 {
            // Nothing to give back.
            self.closing
                .drain(..)
                .for_each(|reply| reply.send(()).unwrap_or_default());
            self.beat = false;
        }
        let must = self.has_news_for_redis() || self.beat || !self.closing.is_empty() || self.session.reconcile;
        let step = if must && !self.session.is_open {
            let mut request = self.request(options);
            request.flags.push(flag::OPEN);
            self.add_holds(&mut request);
            Step::Open(request)
        } else if must {
            Step::Exchange(Box::new(self.batch(options)))
        } else {
            self.barriers
                .drain(..)
                .for_each(|reply| reply.send(()).unwrap_or_default());
            let reads = std::mem::take(&mut self.reads);
            if reads.is_empty() {
                return None;
            }
            Step::Reads(reads)
        };
        self.in_flight = true;
        Some(step)
    }

    fn request(&mut self, options: &Options) -> Request {
        Request {
            process: self.session.process.clone(),
            session: self.session.name(),
            number: self.session.next_number(),
            ttl_ms: options.ttl.as_millis(),
            limit: self.limit.unwrap_or(usize::MAX),
            capacity: options.capacity.total,
            share: options.capacity.per_function,
            epoch_seen: self.highest_epoch.max(self.held.highest_epoch()),
            ..Request::default()
        }
    }

    fn add_holds(&self, request: &mut Request) {
        request.flags.push(flag::RECONCILE);
        if self.session.remake {
            request.flags.push(flag::REMAKE);
        }
        request.holds = self.held.to_args(self.session.remake);
    }

    fn batch(&mut self, options: &Options) -> Batch {
        let mut batch = Batch {
            request: self.request(options),
            beat: std::mem::take(&mut self.beat),
            closing: std::mem::take(&mut self.closing),
            ..Batch::default()
        };
        let request = &mut batch.request;
        request.ends = self.ends.drain(..self.ends.len().min(ENDS)).collect();
        request.forgets = (0..FORGETS)
            .map_while(|_| self.forgets.pop_front())
            .map(|run| run.to_string())
            .collect();
        let (mut jobs, mut bytes) = (0, 0);
        while jobs < PUSHES
            && bytes < PUSH_BYTES
            && let Some(push) = self.pushes.pop_front()
        {
            jobs += push.jobs.len();
            bytes += push.bytes();
            batch.pushes.push(push);
        }
        if batch.closing.is_empty()
            && let Some(ask) = self.asks.pop_front()
        {
            self.limit = Some(ask.limit);
            request.limit = ask.limit;
            request.lease = Some((ask.now, ask.max));
            request.flags.push(flag::LEASE);
            batch.ask = Some(ask);
        }
        let limit = self.limit.unwrap_or(usize::MAX);
        let wanted = request.lease.map_or(0, |(_, wanted)| wanted);
        request.rooms = self.held.rooms(limit, wanted);
        request.held = self.held.len();
        let is_doubtful = self.session.is_doubtful();
        let mut needs_help = false;
        for push in &batch.pushes {
            let origin = match push.origin {
                Origin::Fresh if is_doubtful => Origin::Stale,
                origin => origin,
            };
            for (field, version, function) in &push.jobs {
                request.pushes.push((field.clone(), version.clone(), origin));
                needs_help |= !self.is_hungry || self.held.count_of(*function) >= limit;
            }
        }
        if needs_help {
            request.flags.push(flag::WAKE);
        }
        if batch.beat {
            request.flags.push(flag::BEAT);
        }
        if self.is_hungry {
            request.flags.push(flag::HUNGRY);
        }
        if !batch.closing.is_empty() {
            request.flags.push(flag::CLOSE);
        }
        if self.session.reconcile {
            self.add_holds(&mut batch.request);
        }
        // Questions come after everything that was said before them.
        if !self.has_news_for_redis() {
            batch.reads = std::mem::take(&mut self.reads);
            batch.barriers = std::mem::take(&mut self.barriers);
        }
        batch
    }

    /// The session is open.
    pub(super) fn opened(&mut self, outcome: Outcome) -> Effects {
        self.in_flight = false;
        self.session.is_open = true;
        self.note(outcome, true)
    }

    /// An exchange has happened.
    pub(super) fn done(&mut self, batch: Batch, mut outcome: Outcome, shared: &Arc<Shared>) -> Effects {
        self.in_flight = false;
        let leases = self.take_leases(&mut outcome);
        let mut pushed = std::mem::take(&mut outcome.pushed).into_iter();
        for push in batch.pushes {
            let answer: Vec<bool> = pushed.by_ref().take(push.jobs.len()).collect();
            self.is_short |= answer.contains(&false);
            let _ = push.reply.send(answer);
        }
        if let Some((now, max)) = batch.request.lease {
            self.now = now;
            if max > 0 {
                self.is_hungry = leases.len() < max;
            }
        }
        let is_reconciled = batch.request.flags.contains(flag::RECONCILE);
        let mut effects = self.note(outcome, is_reconciled);
        if !batch.closing.is_empty() {
            self.held.clear();
            self.session.end();
        }
        if let Some(ask) = batch.ask {
            effects.news = false;
            let handed = Handed::new(leases, Arc::clone(shared));
            if let Err(handed) = ask.reply.send(handed) {
                // Nobody is there to take them; dropping gives them back, which needs the lock that is held here.
                self.give_back(handed.take());
            }
        }
        for reply in batch.barriers.into_iter().chain(batch.closing) {
            let _ = reply.send(());
        }
        effects.reads = batch.reads;
        effects
    }

    fn take_leases(&mut self, outcome: &mut Outcome) -> Vec<Lease> {
        let since = outcome.now.unwrap_or(self.now);
        let mut leases = Vec::with_capacity(outcome.leases.len());
        for leased in outcome.leases.drain(..) {
            self.highest_epoch = self.highest_epoch.max(leased.epoch);
            let Some(job) = codec::parse_job(&leased.field, &leased.version) else {
                // Not written by this version of the program: left to its lease's end.
                tracing::error!(job = %leased.field, "a job in Redis can't be read");
                continue;
            };
            let lease = Lease {
                job,
                epoch: leased.epoch,
                since,
                is_first: leased.is_first,
            };
            self.held.insert(leased.field, lease.clone());
            leases.push(lease);
        }
        leases
    }

    pub(super) fn give_back(&mut self, leases: Vec<Lease>) {
        for lease in leases {
            self.end(&lease.job.id, lease.epoch, Some(lease.job.due));
        }
    }

    fn note(&mut self, outcome: Outcome, is_reconciled: bool) -> Effects {
        if is_reconciled {
            self.session.reconcile = false;
            self.session.remake = false;
        }
        if outcome.differs {
            self.session.reconcile = true;
        }
        let mut effects = Effects {
            is_forgotten: self.session.note(&outcome.generation),
            ..Effects::default()
        };
        effects.lost = outcome
            .lost
            .iter()
            .filter(|field| self.held.discard(field).is_some())
            .count();
        if outcome.reaped > 0 {
            tracing::warn!(
                jobs = outcome.reaped,
                "took back the jobs of a process that was not heard of"
            );
        }
        effects.news = self.nearness(outcome.next) < self.nearness(self.next);
        self.next = outcome.next;
        Effects {
            news: effects.news || self.has_room(outcome.count),
            ..effects
        }
    }

    /// What is ready is all equally near.
    fn nearness(&self, next: Next) -> Timestamp {
        match next {
            Next::Never => Timestamp::from_millis(i64::MAX),
            Next::Ready(_) => self.now,
            Next::At(due) => due.max(self.now),
        }
    }

    /// Whether there is room again after a want of it.
    fn has_room(&mut self, count: usize) -> bool {
        let is_over = self.is_short && count <= self.capacity - self.capacity.div_ceil(4);
        if is_over {
            self.is_short = false;
        }
        is_over
    }

    /// Redis does not know the session: nothing of the exchange happened, and a new session is opened.
    pub(super) fn unknown(&mut self, generation: &str, step: Step, options: &Options) -> bool {
        let is_forgotten = self.session.note(generation);
        self.put_back(step);
        self.session.lose(options.ttl);
        is_forgotten
    }

    /// Nobody knows whether a step has happened: its content is sent again, and what is held is compared.
    pub(super) fn put_back(&mut self, step: Step) {
        self.in_flight = false;
        self.session.reconcile |= self.session.is_open;
        let mut batch = match step {
            Step::Open(_) => return,
            Step::Reads(reads) => return self.reads.splice(0..0, reads).for_each(drop),
            Step::Exchange(batch) => *batch,
        };
        self.ends.splice(0..0, batch.request.ends).for_each(drop);
        for run in batch.request.forgets.iter().rev().filter_map(|run| run.parse().ok()) {
            self.forgets.push_front(run);
        }
        for mut push in batch.pushes.drain(..).rev() {
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
