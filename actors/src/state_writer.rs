//! The only way to the database for everything that becomes true: group commit.
//!
//! Writes are batched without waiting: when the writer is idle a write is committed at once, and what arrives meanwhile
//! is the next batch. After a commit, the jobs that are due soon go to the queue, and the router hears of events that
//! have somebody to find.
//!
//! Promises: an answer comes after the commit, never before. A batch that fails for a passing reason is tried again until
//! it succeeds; senders who can't wait ([`Commit::fail_fast`]) are told at once. A write that the database refuses does
//! not take its neighbours along.
//!
//! Never: it does not look into what it writes.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use futures_util::FutureExt as _;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::domain::{Change, Job, Json, NewRun, RunId, SkipReason, Write, Written};
use crate::kernel::{Observation, Supervised};
use crate::metrics::Metrics;
use crate::ports::{Clock, Origin, Queue, Store, StoreError};
use crate::run_cache::RunCache;
use crate::run_ends::RunEnds;
use crate::scheduler::alarm::Alarm;
use crate::scheduler::untaken::Untaken;

/// Writes of one transaction, at the most.
const BATCH: usize = 512;
/// Bytes of one transaction from which on no further write is added: SQLite takes up to 1 GB for a parameter, and the others
/// need not wait for a large one.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// First wait after a commit that failed for a passing reason.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// Longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// What came of the writes of a [`Commit`], one each.
pub type CommitResult = Result<Vec<Written>, StoreError>;

/// Make these writes durable, together.
#[derive(Debug)]
pub struct Commit {
    /// The writes.
    pub writes: Vec<Write>,
    /// Whether to fail at once when the database can't, instead of trying until it can.
    pub fail_fast: bool,
    /// Where the outcome goes. A dropped receiver does not undo anything.
    pub reply: oneshot::Sender<CommitResult>,
}

impl Message for Commit {
    type Result = ();
}

/// What the writer works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// Where ready jobs go.
    pub queue: Arc<dyn Queue>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the states of new runs go.
    pub cache: RunCache,
    /// Who waits for the ends of runs.
    pub ends: RunEnds,
    /// Rung when there are events to route.
    pub unrouted: Arc<Notify>,
    /// Where it is noted what the queue did not take in.
    pub untaken: Untaken,
    /// Rung then.
    pub untaken_changed: Arc<Notify>,
    /// Set when an event has joined a gathering.
    pub alarm: Alarm,
    /// What is counted.
    pub metrics: Metrics,
    /// Jobs due within this time are pushed; the scheduler finds the later ones.
    pub horizon: Duration,
}

/// The actor.
pub struct StateWriter {
    parts: Parts,
    waiting: Vec<Commit>,
    waiting_writes: usize,
    is_committing: bool,
    /// The database can't at present: when it is to be asked again, and what it says.
    setback: Option<Setback>,
    is_stopping: bool,
    statistics: Statistics,
}

impl std::fmt::Debug for StateWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateWriter")
            .field("waiting", &self.waiting_writes)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Clone, serde::Serialize)]
struct Statistics {
    commits: u64,
    writes: u64,
    largest_batch: usize,
    retries: u64,
    refused: u64,
    last_error: Option<String>,
}

impl StateWriter {
    /// A writer with nothing to do.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        // Whatever held the last incarnation up, this one has yet to see.
        parts.metrics.commits.set_setback(None);
        parts.metrics.commits.set_waiting(0);
        Self {
            parts,
            waiting: Vec::new(),
            waiting_writes: 0,
            is_committing: false,
            setback: None,
            is_stopping: false,
            statistics: Statistics::default(),
        }
    }

    fn commit_waiting(&mut self, ctx: &mut Context<Self>) {
        if self.is_committing || self.setback.as_ref().is_some_and(|setback| setback.is_waiting) {
            return;
        }
        if self.waiting.is_empty() {
            if self.is_stopping {
                ctx.stop();
            }
            return;
        }
        let (mut count, mut bytes) = (0, 0);
        let whole = self.waiting.iter().take_while(|commit| {
            let is_first = count == 0;
            count += commit.writes.len();
            bytes += commit.writes.iter().map(weight).sum::<usize>();
            is_first || (count <= BATCH && bytes <= BATCH_BYTES)
        });
        let rest = self.waiting.split_off(whole.count());
        let batch = std::mem::replace(&mut self.waiting, rest);
        let writes: usize = batch.iter().map(|commit| commit.writes.len()).sum();
        self.set_waiting(self.waiting_writes - writes);
        self.is_committing = true;
        self.statistics.commits += 1;
        self.statistics.writes += u64::try_from(writes).unwrap_or(0);
        self.statistics.largest_batch = self.statistics.largest_batch.max(writes);
        let work = Batch::new(self.parts.clone(), batch);
        let done = work.run().into_actor(self).map(|report, writer, ctx| {
            writer.is_committing = false;
            writer.note(report, ctx);
            writer.commit_waiting(ctx);
        });
        ctx.spawn(done);
    }

    fn set_waiting(&mut self, writes: usize) {
        self.waiting_writes = writes;
        self.parts.metrics.commits.set_waiting(writes);
    }

    /// What a batch has come to. Writes that are to be tried again go back to the head of the line, and those in a hurry
    /// behind them are told.
    fn note(&mut self, report: Report, ctx: &mut Context<Self>) {
        self.statistics.refused += report.refused;
        if let Some(error) = &report.last_error {
            self.statistics.last_error = Some(error.to_string());
        }
        let commits = &self.parts.metrics.commits;
        commits.refused.add(report.refused);
        let error = report.last_error.filter(|_| !report.left.is_empty());
        commits.set_setback(error.clone());
        let Some(error) = error else {
            self.setback = None;
            return;
        };
        self.statistics.retries += 1;
        commits.retries.increment();
        let wait = self
            .setback
            .take()
            .map_or(RETRY_MIN, |before| (before.wait * 2).min(RETRY_MAX));
        tracing::warn!(%error, writes = report.left.len(), ?wait, "commit failed, trying again");
        let newcomers = std::mem::take(&mut self.waiting);
        let (hurried, patient): (Vec<_>, Vec<_>) = newcomers.into_iter().partition(|commit| commit.fail_fast);
        for commit in hurried {
            let _ = commit.reply.send(Err(error.clone()));
        }
        self.waiting = report.left;
        self.waiting.extend(patient);
        self.set_waiting(self.waiting.iter().map(|commit| commit.writes.len()).sum());
        self.setback = Some(Setback {
            error,
            wait,
            is_waiting: true,
        });
        ctx.run_later(wait, |writer, ctx| {
            if let Some(setback) = &mut writer.setback {
                setback.is_waiting = false;
            }
            writer.commit_waiting(ctx);
        });
    }
}

/// The database can't at present.
struct Setback {
    error: StoreError,
    /// From the last attempt to the next.
    wait: Duration,
    /// Whether that time is not over yet.
    is_waiting: bool,
}

impl Actor for StateWriter {
    type Context = Context<Self>;
}

impl Supervised for StateWriter {
    fn observe(&self) -> Observation {
        let detail = serde_json::to_value(&self.statistics).unwrap_or_default();
        let in_flight = self.waiting_writes + usize::from(self.is_committing);
        Observation::of(u64::try_from(in_flight).unwrap_or(0)).with_detail(detail)
    }

    fn wind_down(&mut self, ctx: &mut Context<Self>) {
        self.is_stopping = true;
        self.commit_waiting(ctx);
    }
}

impl Handler<Commit> for StateWriter {
    type Result = ();

    fn handle(&mut self, commit: Commit, ctx: &mut Context<Self>) {
        if commit.fail_fast
            && let Some(setback) = &self.setback
        {
            // It failed a moment ago, and somebody patient is about to try again.
            let _ = commit.reply.send(Err(setback.error.clone()));
            return;
        }
        self.set_waiting(self.waiting_writes + commit.writes.len());
        self.waiting.push(commit);
        self.commit_waiting(ctx);
    }
}

/// Roughly how many bytes a write brings to the database, beyond its ids.
fn weight(write: &Write) -> usize {
    match write {
        Write::Accept(accept) => accept.event.body.len(),
        Write::Route(route) => route
            .takes
            .iter()
            .filter_map(|take| take.job.payload.as_ref())
            .map(Json::len)
            .sum(),
        Write::Advance(advance) => advance.changes.iter().map(weight_of_change).sum(),
        Write::Fire(fire) => fire.answers.iter().map(|event| event.body.len()).sum(),
    }
}

fn weight_of_change(change: &Change) -> usize {
    match change {
        Change::StepPut(step) => step.memo().map_or(0, Json::len),
        Change::Emit { event, .. } => event.body.len(),
        Change::Ended { output, .. } => output.len(),
        Change::Buried(letter) => letter.job.payload.as_ref().map_or(0, Json::len) + letter.reason.len(),
        Change::Noted(entry) => entry.detail.as_ref().map_or(0, Json::len),
        _ => 0,
    }
}

/// A batch on its way: the writes of several senders, one after another.
struct Batch {
    parts: Parts,
    writes: Vec<Write>,
    senders: Vec<Sender>,
    report: Report,
}

/// Whose the next `count` writes are.
struct Sender {
    count: usize,
    fail_fast: bool,
    reply: oneshot::Sender<CommitResult>,
}

/// What a batch has come to.
#[derive(Default)]
struct Report {
    refused: u64,
    last_error: Option<StoreError>,
    /// What is to be tried again.
    left: Vec<Commit>,
}

impl Batch {
    fn new(parts: Parts, commits: Vec<Commit>) -> Self {
        let mut batch = Self {
            parts,
            writes: Vec::new(),
            senders: Vec::new(),
            report: Report::default(),
        };
        for commit in commits {
            let Commit {
                writes,
                fail_fast,
                reply,
            } = commit;
            batch.senders.push(Sender {
                count: writes.len(),
                fail_fast,
                reply,
            });
            batch.writes.extend(writes);
        }
        batch
    }

    async fn run(mut self) -> Report {
        match commit(&self.parts, &self.writes).await {
            Ok(written) => {
                settle(&self.parts, &self.writes, &written);
                self.answer(written);
            }
            Err(error) if is_passing(&error) => {
                for commit in self.split() {
                    self.put_back(commit, &error);
                }
            }
            Err(error) => {
                self.report.last_error = Some(error);
                self.one_by_one().await;
            }
        }
        self.report
    }

    fn answer(&mut self, written: Vec<Written>) {
        let mut written = written.into_iter();
        for sender in self.senders.drain(..) {
            // Nobody listening is fine: what is written is written.
            let _ = sender.reply.send(Ok(written.by_ref().take(sender.count).collect()));
        }
    }

    /// The commits that came in.
    fn split(&mut self) -> Vec<Commit> {
        let mut writes = std::mem::take(&mut self.writes).into_iter();
        self.senders
            .drain(..)
            .map(|sender| Commit {
                writes: writes.by_ref().take(sender.count).collect(),
                fail_fast: sender.fail_fast,
                reply: sender.reply,
            })
            .collect()
    }

    /// A commit that failed for a passing reason: its sender waits for the next attempt, or is told.
    fn put_back(&mut self, commit: Commit, error: &StoreError) {
        self.report.last_error = Some(error.clone());
        if commit.fail_fast {
            let _ = commit.reply.send(Err(error.clone()));
        } else {
            self.report.left.push(commit);
        }
    }

    /// Commits each sender's writes alone, so that only the one at fault is refused.
    async fn one_by_one(&mut self) {
        for commit in self.split() {
            match self::commit(&self.parts, &commit.writes).await {
                Ok(written) => {
                    settle(&self.parts, &commit.writes, &written);
                    let _ = commit.reply.send(Ok(written));
                }
                Err(error) if is_passing(&error) => self.put_back(commit, &error),
                Err(error) => {
                    tracing::error!(%error, "the database refuses a write");
                    self.report.refused += 1;
                    self.report.last_error = Some(error.clone());
                    let _ = commit.reply.send(Err(error));
                }
            }
        }
    }
}

/// One transaction.
async fn commit(parts: &Parts, writes: &[Write]) -> CommitResult {
    let (metrics, begun) = (&parts.metrics, Instant::now());
    let written = parts.store.commit(writes).await;
    metrics.commits.took.record_micros(begun.elapsed());
    metrics
        .commits
        .batch
        .record(u64::try_from(writes.len()).unwrap_or(u64::MAX));
    metrics.store_errors.watch(written)
}

/// Whether another attempt may do better.
fn is_passing(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_) | StoreError::Full(_))
}

/// Counts events and the runs they start. What becomes of runs is counted where it is decided.
fn count(metrics: &Metrics, write: &Write, written: &Written) {
    let (event, runs, joins, skips) = match write {
        Write::Accept(accept) => (Some(&accept.event), &accept.runs, &accept.joins[..], &accept.skips),
        Write::Route(route) => (None, &route.runs, &route.joins[..], &route.skips),
        Write::Fire(fire) => (None, &fire.runs, &[][..], &fire.skips),
        Write::Advance(_) => return,
    };
    let is_from_outside = event.is_some_and(|event| !event.is_internal());
    let events = &metrics.events;
    match written {
        Written::Done { left_out, joined, .. } => {
            if is_from_outside {
                events.accepted.increment();
            }
            for run in runs {
                match left_out.iter().find(|left| left.run == run.state.id) {
                    Some(left) => {
                        events.runs_left_out.increment();
                        left.reason.iter().for_each(|reason| events.skips.count(*reason));
                    }
                    None => metrics.function(run.state.function).runs_started.increment(),
                }
            }
            skips.iter().for_each(|skip| events.skips.count(skip.reason));
            let left_out = &joined.left_out;
            left_out.iter().for_each(|(_, reason)| events.skips.count(*reason));
            joined
                .replaced
                .iter()
                .for_each(|_| events.skips.count(SkipReason::Debounced));
            let gathered = joins.len().saturating_sub(left_out.len());
            events.gathered.add(u64::try_from(gathered).unwrap_or(0));
            if let Write::Fire(fire) = write {
                events.fired.count(fire.is_batch, fire.due_by);
            }
        }
        Written::Lost if is_from_outside => metrics.events.known.increment(),
        Written::Lost | Written::Outdated => {}
    }
}

/// Tells the rest of the orchestrator what is true now. All of it is a hint: what gets lost here is found in the store.
fn settle(parts: &Parts, writes: &[Write], written: &[Written]) {
    let soon = parts.clock.now().after(parts.horizon);
    let mut jobs: Vec<Job> = Vec::new();
    let mut ended: Vec<RunId> = Vec::new();
    let mut has_unrouted = false;
    for (write, written) in writes.iter().zip(written) {
        count(&parts.metrics, write, written);
        let Written::Done {
            left_out,
            missed,
            unrouted,
            evictions,
            joined,
        } = written
        else {
            continue;
        };
        has_unrouted |= !unrouted.is_empty();
        if let Some(due) = joined.due {
            parts.alarm.set(due);
        }
        let (runs, takes) = match write {
            Write::Accept(accept) => (&accept.runs[..], &[][..]),
            Write::Route(route) => (&route.runs[..], &route.takes[..]),
            Write::Fire(fire) => (&fire.runs[..], &[][..]),
            Write::Advance(advance) => {
                for change in &advance.changes {
                    match change {
                        Change::JobPut(job) if job.due <= soon => jobs.push(job.clone()),
                        Change::Ended { .. } => ended.push(advance.run),
                        _ => {}
                    }
                }
                continue;
            }
        };
        let is_left_out = |run: &NewRun| left_out.iter().any(|left| left.run == run.state.id);
        for run in runs.iter().filter(|run| !is_left_out(run)) {
            if run.job.due <= soon {
                parts.cache.put(run.state.clone(), None);
                jobs.push(run.job.clone());
            }
            jobs.extend(run.deadline.iter().filter(|job| job.due <= soon).cloned());
        }
        let taken = takes
            .iter()
            .filter(|take| !missed.iter().any(|(run, key)| *run == take.run && *key == take.key));
        jobs.extend(taken.map(|take| take.job.clone()));
        jobs.extend(evictions.iter().cloned());
    }
    if has_unrouted {
        parts.unrouted.notify_one();
    }
    if ended.is_empty() && jobs.is_empty() {
        return;
    }
    parts.ends.tell(&ended);
    // A queue in this process has it all when this returns. One that is elsewhere is told in the same order, and nobody
    // waits for it: what is written is written.
    let mut telling = Box::pin(tell(parts.clone(), ended, jobs));
    if telling.as_mut().now_or_never().is_none() {
        actix::spawn(telling);
    }
}

/// Tells the queue of runs that have ended and of jobs that are due soon.
async fn tell(parts: Parts, ended: Vec<RunId>, jobs: Vec<Job>) {
    for run in ended {
        parts.queue.forget_run(run).await;
    }
    if jobs.is_empty() {
        return;
    }
    // What does not fit stays in the store, where the scheduler finds it when there is room.
    if parts.untaken.note(parts.queue.push(jobs, Origin::Commit).await) {
        parts.untaken_changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
