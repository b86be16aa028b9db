//! Time: brings jobs to the queue before they are due, and fires crons.
//!
//! The store knows when every job is due; memory knows only those due within the horizon, so a million sleeping runs cost
//! disk. New jobs that are due soon reach the queue without the scheduler; it is there for the rest: those that come into
//! the horizon, those for which there was no room, and, after a restart, all of them.
//!
//! A cron tick is an event whose id follows from function, schedule and slot: whoever accepts it first wins, and it fires
//! once however many instances try, or how often one is restarted. How far the slots have been dealt with is noted after
//! the ticks are durable; what was not noted is looked at again, and changes nothing.
//!
//! Gatherings of events are fired beside that, by rounds of their own, so that neither waits for the other.
//!
//! In reading order: [`catch_up`] (what becomes of slots that were missed), `cron` (the plan of ticks), [`ledger`] (what
//! became of each slot, for people), [`alarm`] and `gatherer` (gatherings that are due). `run_slots` is about slots of
//! another kind: those that runs hold. [`untaken`] is what the writer notes of jobs that the queue did not take in.

pub mod alarm;
pub mod catch_up;
mod cron;
mod gatherer;
pub mod ledger;
mod run_slots;
pub mod untaken;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::sync::Notify;

use crate::catalog::SharedCatalog;
use crate::domain::{FunctionId, JobId, JobKey, RunId, Timestamp, Write};
use crate::kernel::{AddressBook, Observation, Supervised};
use crate::link::{self, LinkError};
use crate::metrics::Metrics;
use crate::parked::Parked;
use crate::ports::{Clock, Except, Origin, PartitionStats, Queue, QueueStats, Store, StoreError};
use alarm::Alarm;
use catch_up::CatchUp;
use cron::Plan;
use gatherer::Gatherer;
pub(crate) use gatherer::fire;
use untaken::Untaken;

/// Jobs read at a time.
const PAGE: usize = 1_000;
/// Wait after something failed.
const RETRY: Duration = Duration::from_millis(500);
/// Functions that may be left out of one round because they have no room of their own.
const MOST_FULL: usize = 64;
/// With jobs left out for want of room: how often the store is asked again.
const SPILL_CHECK: Duration = Duration::from_millis(200);
/// The net below everything: how often all due jobs are brought to the queue again, which knows most of them.
const SWEEP: Duration = Duration::from_secs(60);

/// What the scheduler works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// Where jobs go.
    pub queue: Arc<dyn Queue>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whose crons there are.
    pub catalog: SharedCatalog,
    /// Rung when functions have changed.
    pub changed: Arc<Notify>,
    /// What the queue did not take in of what the writer brought; who notes something there rings `changed`.
    pub untaken: Untaken,
    /// Set by who joins a gathering.
    pub alarm: Alarm,
    /// Functions whose calls are not brought.
    pub parked: Parked,
    /// Where the writer is.
    pub book: AddressBook,
    /// What is counted.
    pub metrics: Metrics,
    /// How far ahead jobs are brought to the queue.
    pub horizon: Duration,
    /// What becomes of cron slots that were missed.
    pub catch_up: CatchUp,
}

/// The actor.
pub struct Scheduler {
    state: Option<(Time, Gatherer)>,
    fired: u64,
    gatherings: u64,
    brought: u64,
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler")
            .field("fired", &self.fired)
            .finish_non_exhaustive()
    }
}

impl Scheduler {
    /// A scheduler that begins by bringing everything that is due.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let gatherer = Gatherer::new(parts.clone());
        let time = Time {
            crons: Plan::new(parts.catch_up),
            slots: run_slots::Sweep::default(),
            parts,
            until: Timestamp::MIN,
            swept_at: Timestamp::MIN,
            shortage: None,
            is_unheard: false,
            ticks: Vec::new(),
            turn: Turn::default(),
        };
        Self {
            state: Some((time, gatherer)),
            fired: 0,
            gatherings: 0,
            brought: 0,
        }
    }

    fn turn(&mut self, time: Time, ctx: &mut Context<Self>) {
        let turn = time.turn().into_actor(self).map(|mut time, scheduler, ctx| {
            let Turn { fired, brought } = std::mem::take(&mut time.turn);
            scheduler.fired += fired;
            scheduler.brought += brought;
            let counted = &time.parts.metrics.scheduler;
            counted.turns.increment();
            counted.cron_ticks.add(fired);
            counted.jobs_brought.add(brought);
            scheduler.turn(time, ctx);
        });
        ctx.spawn(turn);
    }

    fn gather(&mut self, gatherer: Gatherer, ctx: &mut Context<Self>) {
        let round = gatherer.round().into_actor(self).map(|gatherer, scheduler, ctx| {
            scheduler.gatherings += gatherer.fired;
            scheduler.gather(gatherer, ctx);
        });
        ctx.spawn(round);
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if let Some((time, gatherer)) = self.state.take() {
            self.turn(time, ctx);
            self.gather(gatherer, ctx);
        }
    }
}

impl Supervised for Scheduler {
    fn observe(&self) -> Observation {
        Observation::of(0).with_detail(serde_json::json!({
            "cron_ticks": self.fired,
            "gatherings_fired": self.gatherings,
            "jobs_brought": self.brought,
        }))
    }
}

#[derive(Default)]
struct Turn {
    fired: u64,
    brought: u64,
}

/// The scheduler's working state, handed from turn to turn.
struct Time {
    parts: Parts,
    /// Jobs due before this have been brought to the queue.
    until: Timestamp,
    /// When everything that was due was last brought again.
    swept_at: Timestamp,
    /// Set when there was no room for some.
    shortage: Option<Shortage>,
    /// Whether the queue gave no answer for some: all that are due are brought again, until it does.
    is_unheard: bool,
    slots: run_slots::Sweep,
    crons: Plan,
    /// Ticks that have come and are not known to be durable. Accepting one twice changes nothing.
    ticks: Vec<Write>,
    turn: Turn,
}

impl Time {
    async fn turn(mut self) -> Self {
        let wait = match self.work().await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(%error, "scheduling failed, trying again");
                RETRY
            }
        };
        let changed = Arc::clone(&self.parts.changed);
        let queue = Arc::clone(&self.parts.queue);
        tokio::select! {
            () = changed.notified() => {}
            () = queue.forgotten() => {
                tracing::info!("the queue may lack jobs; it is filled again from the store");
                self.swept_at = Timestamp::MIN;
                self.shortage = None;
                self.slots.forget();
            }
            () = tokio::time::sleep(wait) => {}
        }
        self
    }

    /// Does what is to be done now; answers how long there is nothing to do.
    async fn work(&mut self) -> Result<Duration, LinkError> {
        let now = self.parts.clock.now();
        let catalog = self.parts.catalog.current();
        if self.parts.parked.take_resumed(&catalog) {
            self.swept_at = Timestamp::MIN;
        }
        self.bring(now, &self.parts.parked.held(&catalog)).await?;
        self.pass_slots_on(now).await?;
        if !self.crons.follows(&catalog) {
            let marks = self.parts.store.cron_marks(None).await;
            let marks = self.parts.metrics.store_errors.watch(marks)?;
            self.crons.follow(catalog, marks, now);
        }
        let ticks = self.crons.due(now).into_iter();
        self.ticks
            .extend(ticks.map(|tick| Write::Accept(tick.into_accept(now))));
        if !self.ticks.is_empty() {
            link::commit(&self.parts.book, self.ticks.clone(), false).await?;
            self.turn.fired += u64::try_from(self.ticks.len()).unwrap_or(0);
            self.ticks.clear();
        }
        let notes = self.crons.notes();
        if !notes.is_empty() {
            let noted = self.parts.store.note_crons(&notes.marks(), &notes.gaps).await;
            self.parts.metrics.store_errors.watch(noted)?;
            self.crons.noted();
        }
        let cron = self
            .crons
            .next()
            .map_or(Duration::MAX, |next| next.since(now).max(Duration::from_millis(1)));
        let bring = if self.is_unheard {
            RETRY
        } else if self.shortage.is_some() {
            SPILL_CHECK
        } else {
            self.parts.horizon / 2
        };
        Ok(cron.min(bring))
    }

    /// Brings the jobs that have come into the horizon; now and then, and after a lack of room, all that are due. Calls of
    /// the functions `held` stay where they are.
    async fn bring(&mut self, now: Timestamp, held: &[FunctionId]) -> Result<(), StoreError> {
        self.is_unheard |= self.parts.untaken.is_unheard();
        if self.shortage.is_none() && self.parts.untaken.is_spilled() {
            self.shortage = Some(Shortage::of(&self.parts.queue.stats().await));
        }
        let is_sweep = self.is_unheard || now.since(self.swept_at) >= SWEEP || now < self.swept_at;
        // Functions that have no room for more of their own: what they have must not hold the others back.
        let mut full = Vec::new();
        let mut from = if is_sweep { Timestamp::MIN } else { self.until };
        if let Some(shortage) = &self.shortage
            && !is_sweep
        {
            if self.has_room(shortage).await {
                from = Timestamp::MIN;
            } else if shortage.full.is_empty() || now.after(self.parts.horizon / 2) < self.until {
                return Ok(());
            } else {
                // It may last: jobs that wait at a gate make room as slowly as that lets them through. What comes into the
                // horizon of all other functions is brought meanwhile.
                full.clone_from(&shortage.full);
            }
        }
        let mut was_short = self.shortage.take_if(|_| !full.is_empty());
        let until = now.after(self.parts.horizon);
        if until <= from {
            // The clock was set back, or there is nothing new; what is due is in the queue.
            self.shortage = was_short.or(self.shortage.take());
            return Ok(());
        }
        let mut after: Option<(Timestamp, JobId)> = (from > Timestamp::MIN).then(|| cursor_before(from));
        self.shortage = None;
        // From here on what the queue does not take from the writer is brought by the next turn.
        self.parts.untaken.clear();
        held.iter().for_each(|function| self.parts.parked.add(*function));
        loop {
            let except = Except {
                functions: &full,
                calls_of: held,
            };
            let page = self.parts.store.jobs_due(until, after.take(), except, PAGE).await;
            let page = match self.parts.metrics.store_errors.watch(page) {
                Ok(page) => page,
                Err(error) => {
                    self.shortage = was_short;
                    return Err(error);
                }
            };
            let is_last = page.len() < PAGE;
            after = page.last().map(|job| (job.due, job.id.clone()));
            self.turn.brought += u64::try_from(page.len()).unwrap_or(0);
            let pushed = self.parts.queue.push(page, Origin::Sweep).await;
            if pushed.unheard > 0 {
                // That says nothing of its room. It is asked to take the same again.
                self.is_unheard = true;
                return Ok(());
            }
            if pushed.spilled > 0 {
                let stats = self.parts.queue.stats().await;
                self.shortage = Some(Shortage::of(&stats));
                match longest_but(&stats, &full) {
                    Some(function) if has_room(&stats) && full.len() < MOST_FULL => full.push(function),
                    _ => break,
                }
            }
            if is_last {
                break;
            }
        }
        self.is_unheard = false;
        self.until = until;
        if let Some(shortage) = self.shortage.as_mut().or(was_short.as_mut()) {
            shortage.full = full;
        }
        self.shortage = self.shortage.take().or(was_short);
        if is_sweep {
            self.swept_at = now;
        }
        Ok(())
    }

    /// Whether at least half of what was there when there was no room has been done.
    async fn has_room(&self, shortage: &Shortage) -> bool {
        shortage.is_over(&self.parts.queue.stats().await)
    }
}

/// The function that has most jobs waiting, other than these.
fn longest_but(stats: &QueueStats, others: &[FunctionId]) -> Option<FunctionId> {
    let candidates = stats.partitions.iter().filter(|of| !others.contains(&of.function));
    candidates.max_by_key(|of| load(of)).map(|of| of.function)
}

/// Whether the queue as a whole has room for more.
fn has_room(stats: &QueueStats) -> bool {
    let held = stats.ready + stats.delayed + stats.leased;
    stats.capacity.is_none_or(|capacity| held < capacity)
}

/// What the queue held when there was no room for more, in all and of the function that had most: either may be what
/// was short, and as long as neither has shrunk it is no use to ask the store for more.
#[derive(Debug, Clone)]
struct Shortage {
    total: usize,
    longest: Option<(FunctionId, usize)>,
    /// The functions that were found to have no room of their own.
    full: Vec<FunctionId>,
}

impl Shortage {
    fn of(stats: &QueueStats) -> Self {
        let loads = stats.partitions.iter().map(|of| (of.function, load(of)));
        Self {
            total: stats.ready + stats.delayed,
            longest: loads.max_by_key(|(_, load)| *load),
            // With room in all, it is one function that has too many.
            full: longest_but(stats, &[])
                .filter(|_| has_room(stats))
                .into_iter()
                .collect(),
        }
    }

    fn is_over(&self, stats: &QueueStats) -> bool {
        let has_halved = |(function, before): (FunctionId, usize)| {
            let now = stats.partitions.iter().find(|of| of.function == function);
            now.map_or(0, load) <= before / 2
        };
        stats.ready + stats.delayed <= self.total / 2 || self.longest.is_some_and(has_halved)
    }
}

fn load(of: &PartitionStats) -> usize {
    of.ready + of.delayed
}

/// The place before every job due at `from`.
fn cursor_before(from: Timestamp) -> (Timestamp, JobId) {
    let id = JobId {
        run: RunId::first_at(Timestamp::MIN),
        key: JobKey::Cancel,
    };
    (from, id)
}

#[cfg(test)]
mod tests;
