//! What this process knows: what it holds, who it is to Redis, when the next job is due. Pure, under the queue's lock.
//!
//! The driver asks for the next [`Step`] and brings back what came of it. What an exchange without an answer had in it goes
//! back into the [`outbox`](super::outbox) and is sent again.

use std::sync::Arc;

use callboard_actors::domain::{JobId, Rate, Timestamp};
use callboard_actors::ports::{Lease, LimitTable, QueueStats};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::exchange::{End, Ended, Next, Origin, Outcome, Request, flag};
use super::held::Held;
use super::options::Options;
use super::outbox::{Batch, Outbox, Read};
use super::session::Session;
use super::{Handed, Shared, codec};

/// By how much the end of another session is awaited in excess.
const MARGIN: Duration = Duration::from_millis(20);

/// What the driver does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Open the session.
    Open(Box<Request>),
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
    /// Redis has lost what it held, or some of it.
    pub(super) is_forgotten: bool,
    /// Another process has died, maybe between a commit and the push that follows.
    pub(super) found_dead: bool,
    /// Leases that were lost to others.
    pub(super) lost: usize,
    pub(super) reads: Vec<Read>,
}

/// The desk.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) outbox: Outbox,
    pub(super) held: Held,
    session: Session,
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
    table: Option<LimitTable>,
    /// Until then a Redis that knows nothing has not lost anything. Said once: whether it was heard may not be known.
    pub(super) new_until: Option<Instant>,
    /// Whether Redis is to be told the table.
    must_tell: bool,
    in_flight: bool,
    /// When another session expires, as far as is known.
    expiry: Option<Instant>,
    pub(super) last_stats: QueueStats,
}

impl Desk {
    pub(super) fn new(process: String, options: &Options) -> Self {
        Self {
            outbox: Outbox::default(),
            held: Held::default(),
            session: Session::new(process),
            capacity: options.capacity.total,
            limit: None,
            is_hungry: false,
            next: Next::Never,
            now: Timestamp::MIN,
            is_short: false,
            highest_epoch: 0,
            table: None,
            new_until: None,
            must_tell: false,
            in_flight: false,
            expiry: None,
            last_stats: QueueStats::default(),
        }
    }

    /// From now on these limits count, unless a later table does.
    pub(super) fn configure(&mut self, table: LimitTable) {
        if self.table.as_ref().is_none_or(|known| known.revision <= table.revision) {
            self.table = Some(table);
            self.must_tell = true;
        }
    }

    /// Ends a lease, if this process holds it; what it does not hold is somebody else's.
    pub(super) fn end(&mut self, id: &JobId, epoch: u64, outcome: Ended) -> bool {
        let field = codec::field(id);
        let is_held = self.held.remove(&field, epoch).is_some();
        if is_held {
            self.outbox.ends.push(End { field, epoch, outcome });
        }
        is_held
    }

    /// Gives back leases that nobody has taken.
    pub(super) fn give_back(&mut self, leases: Vec<Lease>) {
        for lease in leases {
            self.end(&lease.job.id, lease.epoch, Ended::ComesBack(lease.job.due));
        }
    }

    /// When everything said so far has been told: nothing to wait for if it has been.
    pub(super) fn barrier(&mut self) -> Option<oneshot::Receiver<()>> {
        let is_idle = !self.in_flight && self.outbox.is_empty();
        (!is_idle).then(|| {
            let (reply, told) = oneshot::channel();
            self.outbox.barriers.push(reply);
            told
        })
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        match self.next {
            Next::Never => None,
            Next::Ready(due) | Next::At(due) => Some(due),
        }
    }

    /// What is to be done now; `None` if there is nothing.
    pub(super) fn step(&mut self, options: &Options) -> Option<Step> {
        self.outbox.prune();
        if !self.session.is_open && self.held.len() == 0 {
            // No session to keep alive, nothing to give back.
            self.outbox.beat = false;
            answer(std::mem::take(&mut self.outbox.closing));
        }
        // Any exchange takes back what an expired session held; with nothing to say it is an empty one.
        let is_overdue = self.session.is_open && self.expiry.is_some_and(|expiry| expiry <= Instant::now());
        let outbox = &mut self.outbox;
        let must = !outbox.is_empty()
            || is_overdue
            || outbox.beat
            || !outbox.closing.is_empty()
            || self.session.reconcile
            || self.must_tell;
        let step = if must && !self.session.is_open {
            let mut request = self.request(options);
            request.flags.push(flag::OPEN);
            if self.new_until.take().is_some_and(|until| Instant::now() < until) {
                request.flags.push(flag::NEW);
            }
            self.add_holds(&mut request);
            Step::Open(Box::new(request))
        } else if must {
            Step::Exchange(Box::new(self.batch(options)))
        } else {
            answer(std::mem::take(&mut outbox.barriers));
            let reads = std::mem::take(&mut outbox.reads);
            if reads.is_empty() {
                return None;
            }
            Step::Reads(reads)
        };
        self.in_flight = true;
        Some(step)
    }

    /// When there is something to do without anybody asking for it: another process may have died.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.expiry.filter(|_| self.session.is_open)
    }

    fn request(&mut self, options: &Options) -> Request {
        Request {
            generation: Shared::random_name(),
            process: self.session.process.clone(),
            session: self.session.name(),
            number: self.session.next_number(),
            answered: self.session.answered,
            ttl_ms: options.ttl.as_millis(),
            limit: self.limit.unwrap_or(usize::MAX),
            capacity: options.capacity.total,
            share: options.capacity.per_function,
            revision: self.table.as_ref().map(|table| table.revision),
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
        let mut request = self.request(options);
        if let Some(table) = self.table.as_ref().filter(|_| self.must_tell) {
            request.flags.push(flag::CONFIGURE);
            let functions = table.functions.iter();
            request.limits = functions.map(|(id, limits)| (*id, codec::limits(limits))).collect();
        }
        let mut batch = self.outbox.take(request);
        let request = &mut batch.request;
        if let Some(ask) = &batch.ask {
            self.limit = Some(ask.limit);
            request.limit = ask.limit;
            let back = self.now.since(ask.now);
            if back > Rate::CLOCK_STEP {
                request.set_back = back.as_millis();
            }
            request.lease = Some((ask.now, ask.max));
            request.flags.push(flag::LEASE);
        }
        let limit = self.limit.unwrap_or(usize::MAX);
        request.rooms = self.held.rooms(limit, batch.ask.as_ref().map_or(0, |ask| ask.max));
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
        let flags = [
            (needs_help, flag::WAKE),
            (batch.beat, flag::BEAT),
            (self.is_hungry, flag::HUNGRY),
            (!batch.closing.is_empty(), flag::CLOSE),
        ];
        request
            .flags
            .extend(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag));
        if self.session.reconcile {
            self.add_holds(&mut batch.request);
        }
        batch
    }

    /// Nothing is on its way.
    pub(super) fn idle(&mut self) {
        self.in_flight = false;
    }

    /// The session is open.
    pub(super) fn opened(&mut self, outcome: &Outcome) -> Effects {
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
            // Whoever has given up waiting takes it for spilled.
            let _ = push.reply.send(answer);
        }
        if let Some((now, max)) = batch.request.lease {
            self.now = now;
            if max > 0 {
                self.is_hungry = leases.len() < max;
            }
        }
        if batch.request.flags.contains(flag::CONFIGURE) {
            // A later one may have come meanwhile.
            self.must_tell = self.table.as_ref().map(|table| table.revision) != batch.request.revision;
        }
        let is_reconciled = batch.request.flags.contains(flag::RECONCILE);
        let mut effects = self.note(&outcome, is_reconciled);
        if !batch.closing.is_empty() {
            self.held.clear();
            self.session.end();
        }
        if let Some(ask) = batch.ask {
            effects.news = false;
            let handed = Handed::new(leases, Arc::clone(shared));
            if let Err(handed) = ask.reply.send(handed) {
                // Nobody is there to take them. Dropping it would ask for the lock that is held here.
                self.give_back(handed.take());
            }
        }
        answer(batch.barriers);
        answer(batch.closing);
        effects.reads = batch.reads;
        effects
    }

    fn take_leases(&mut self, outcome: &mut Outcome) -> Vec<Lease> {
        let since = outcome.now.unwrap_or(self.now);
        let mut leases = Vec::with_capacity(outcome.leases.len());
        for leased in outcome.leases.drain(..) {
            self.highest_epoch = self.highest_epoch.max(leased.epoch);
            let Some(job) = codec::parse_job(&leased.field, &leased.version) else {
                // Written by another version of the program. The next heartbeat finds it leased to nobody.
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

    fn note(&mut self, outcome: &Outcome, is_reconciled: bool) -> Effects {
        self.session.is_answered();
        if is_reconciled {
            self.session.reconcile = false;
            self.session.remake = false;
        }
        self.session.reconcile |= outcome.differs;
        self.must_tell |= outcome.lacks_limits && self.table.is_some();
        if outcome.has_lost {
            self.session.has_lost();
        }
        let is_new = self.session.note(&outcome.generation);
        let lost = outcome.lost.iter();
        let lost = lost.filter(|field| self.held.discard(field).is_some()).count();
        if outcome.reaped > 0 {
            tracing::warn!(
                jobs = outcome.reaped,
                "took back the jobs of a process that was not heard of"
            );
        }
        // A moment later, so that it is over by the clock of Redis, too.
        self.expiry = outcome.patience.map(|patience| Instant::now() + patience + MARGIN);
        let is_nearer = self.nearness(outcome.next) < self.nearness(self.next);
        self.next = outcome.next;
        Effects {
            news: self.has_room(outcome.count) || is_nearer,
            is_forgotten: is_new || outcome.has_lost,
            found_dead: outcome.found_dead,
            lost,
            reads: Vec::new(),
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

    /// Redis does not know the session: nothing of the exchange happened, and a new session is opened. If no other process
    /// has taken back what it held, Redis has lost it.
    pub(super) fn unknown(&mut self, generation: &str, is_reaped: bool, step: Step, options: &Options) -> Effects {
        let is_new = self.session.note(generation);
        self.put_back(step);
        self.session.lose(options.ttl);
        if !is_reaped {
            self.session.has_lost();
        }
        Effects {
            is_forgotten: is_new || !is_reaped,
            ..Effects::default()
        }
    }

    /// Nobody knows whether a step has happened: its content is sent again, and what is held is compared.
    pub(super) fn put_back(&mut self, step: Step) {
        self.in_flight = false;
        self.session.reconcile |= self.session.is_open;
        match step {
            Step::Open(_) => {}
            Step::Reads(reads) => self.outbox.reads.splice(0..0, reads).for_each(drop),
            Step::Exchange(batch) => self.outbox.put_back(*batch),
        }
    }
}

/// Tells those who wait. Whoever does not any more need not be told.
fn answer(waiting: Vec<oneshot::Sender<()>>) {
    for reply in waiting {
        let _ = reply.send(());
    }
}
