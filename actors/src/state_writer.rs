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
use tokio::sync::{Notify, oneshot};

use crate::domain::{Change, Job, Json, RunId, Write, Written};
use crate::kernel::{Observation, Supervised};
use crate::ports::{Clock, Queue, Store, StoreError};
use crate::run_cache::RunCache;

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
    /// Rung when there are events to route.
    pub unrouted: Arc<Notify>,
    /// Jobs due within this time are pushed; the scheduler finds the later ones.
    pub horizon: Duration,
}

/// The actor.
pub struct StateWriter {
    parts: Parts,
    waiting: Vec<Commit>,
    waiting_writes: usize,
    is_committing: bool,
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
        Self {
            parts,
            waiting: Vec::new(),
            waiting_writes: 0,
            is_committing: false,
            is_stopping: false,
            statistics: Statistics::default(),
        }
    }

    fn commit_waiting(&mut self, ctx: &mut Context<Self>) {
        if self.is_committing {
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
        self.waiting_writes -= writes;
        self.is_committing = true;
        self.statistics.commits += 1;
        self.statistics.writes += u64::try_from(writes).unwrap_or(0);
        self.statistics.largest_batch = self.statistics.largest_batch.max(writes);
        let work = Batch::new(self.parts.clone(), batch);
        let done = work.run().into_actor(self).map(|report, writer, ctx| {
            writer.is_committing = false;
            writer.statistics.retries += report.retries;
            writer.statistics.refused += report.refused;
            writer.statistics.last_error = report.last_error.or(writer.statistics.last_error.take());
            writer.commit_waiting(ctx);
        });
        ctx.spawn(done);
    }
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
        self.waiting_writes += commit.writes.len();
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
    }
}

fn weight_of_change(change: &Change) -> usize {
    match change {
        Change::StepPut(step) => step.memo().map_or(0, Json::len),
        Change::Emit { event, .. } => event.body.len(),
        Change::Ended { output, .. } => output.len(),
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

#[derive(Default)]
struct Report {
    retries: u64,
    refused: u64,
    last_error: Option<String>,
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
        let mut wait = RETRY_MIN;
        while !self.senders.is_empty() {
            let error = match self.parts.store.commit(&self.writes).await {
                Ok(written) => {
                    settle(&self.parts, &self.writes, &written).await;
                    self.answer(written);
                    break;
                }
                Err(error) => error,
            };
            self.report.last_error = Some(error.to_string());
            match error {
                StoreError::Unavailable(_) | StoreError::Full(_) => {
                    tracing::warn!(%error, writes = self.writes.len(), "commit failed, trying again");
                    self.report.retries += 1;
                    self.fail_the_impatient(&error);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
                StoreError::Refused(_) | StoreError::Corrupt(_) => self.one_by_one().await,
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

    /// The senders with their writes.
    fn split(&mut self) -> Vec<(Sender, Vec<Write>)> {
        let mut writes = std::mem::take(&mut self.writes).into_iter();
        self.senders
            .drain(..)
            .map(|sender| {
                let own = writes.by_ref().take(sender.count).collect();
                (sender, own)
            })
            .collect()
    }

    fn fail_the_impatient(&mut self, error: &StoreError) {
        for (sender, writes) in self.split() {
            if sender.fail_fast {
                let _ = sender.reply.send(Err(error.clone()));
            } else {
                self.senders.push(sender);
                self.writes.extend(writes);
            }
        }
    }

    /// Commits each sender's writes alone, so that only the one at fault is refused.
    async fn one_by_one(&mut self) {
        for (sender, writes) in self.split() {
            let outcome = self.parts.store.commit(&writes).await;
            match &outcome {
                Ok(written) => settle(&self.parts, &writes, written).await,
                Err(error) => {
                    tracing::error!(%error, "the database refuses a write");
                    self.report.refused += 1;
                }
            }
            let _ = sender.reply.send(outcome);
        }
    }
}

/// Tells the rest of the orchestrator what is true now. All of it is a hint: what gets lost here is found in the store.
async fn settle(parts: &Parts, writes: &[Write], written: &[Written]) {
    let soon = parts.clock.now().after(parts.horizon);
    let mut jobs: Vec<Job> = Vec::new();
    let mut ended: Vec<RunId> = Vec::new();
    let mut has_unrouted = false;
    for (write, written) in writes.iter().zip(written) {
        let Written::Done {
            left_out,
            missed,
            unrouted,
        } = written
        else {
            continue;
        };
        has_unrouted |= !unrouted.is_empty();
        let (runs, takes) = match write {
            Write::Accept(accept) => (&accept.runs[..], &[][..]),
            Write::Route(route) => (&route.runs[..], &route.takes[..]),
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
        for run in runs
            .iter()
            .filter(|run| run.job.due <= soon && !left_out.contains(&run.state.id))
        {
            parts.cache.put(run.state.clone());
            jobs.push(run.job.clone());
        }
        let taken = takes
            .iter()
            .filter(|take| !missed.iter().any(|(run, key)| *run == take.run && *key == take.key));
        jobs.extend(taken.map(|take| take.job.clone()));
    }
    for run in ended {
        parts.queue.forget_run(run).await;
    }
    if !jobs.is_empty() {
        // What does not fit stays in the store, where the scheduler finds it when there is room.
        parts.queue.push(jobs).await;
    }
    if has_unrouted {
        parts.unrouted.notify_one();
    }
}
