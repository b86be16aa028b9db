//! What the orchestrator counts of its own work, for whoever shows it.
//!
//! Plain numbers that the actors add to as they go and that anybody may read at any time: nothing is asked of an actor
//! for them, and they outlive the incarnations of actors. How they are named and printed is the daemon's business.
//!
//! Promises: recording takes no lock and no memory. The number of series is bounded: each function that is not archived
//! has its own up to [`FUNCTIONS`], and everything else is counted together as [`OTHERS`]; the series of a function that
//! is archived are dropped.

mod instrument;
mod operations;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::catalog::Catalog;
use crate::domain::{Change, DueBy, FunctionId, HistoryKind, Reply, ReportRefused, RunStatus, SkipReason};
use crate::ports::StoreError;
use crate::spans::Outlet;

pub use instrument::{Counter, Histogram, Reading};
pub use operations::{OfKind, OperationMetrics};

/// Functions with series of their own, at the most.
pub const FUNCTIONS: usize = 500;
/// What stands for the slug of all functions without series of their own. A slug has a dash, so none is like it.
pub const OTHERS: &str = "(other)";

/// Calls of apps: 1 ms to 2 h, in microseconds.
const CALL: &[u64] = &[
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    7_200_000_000,
];
/// From due to called: 1 ms (the resolution of due times) to 10 min, in microseconds.
const DELAY: &[u64] = &[
    1_000,
    2_000,
    3_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    60_000_000,
    600_000_000,
];
/// From a reply to the next call, and commits: 0.1 ms to 10 s, in microseconds.
const QUICK: &[u64] = &[
    100, 250, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    10_000_000,
];
/// Writes of one commit.
const BATCH: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// The handle. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Instruments>);

impl std::ops::Deref for Metrics {
    type Target = Instruments;

    fn deref(&self) -> &Instruments {
        &self.0
    }
}

/// All there is.
#[derive(Debug, Default)]
pub struct Instruments {
    functions: ArcSwap<HashMap<FunctionId, Arc<FunctionMetrics>>>,
    others: Arc<FunctionMetrics>,
    /// Events on their way in.
    pub events: EventMetrics,
    /// Calls of apps.
    pub calls: CallMetrics,
    /// The writer.
    pub commits: CommitMetrics,
    /// The scheduler.
    pub scheduler: SchedulerMetrics,
    /// Operations on many runs.
    pub operations: OperationMetrics,
    /// What the store could not do for the actors.
    pub store_errors: StoreErrors,
    /// Spans of what is done here, if anybody wants them.
    pub spans: Outlet,
}

/// What is counted for each function.
#[derive(Debug)]
pub struct FunctionMetrics {
    /// Its slug, or [`OTHERS`].
    pub slug: Arc<str>,
    /// Runs created by this node.
    pub runs_started: Counter,
    /// Runs that are ended here as completed.
    pub runs_completed: Counter,
    /// Runs that are ended here as failed.
    pub runs_failed: Counter,
    /// Runs that are ended here as cancelled.
    pub runs_cancelled: Counter,
    /// Steps whose result was recorded as a success.
    pub steps_completed: Counter,
    /// Steps that failed for good.
    pub steps_failed: Counter,
    /// Attempts that failed and are followed by another.
    pub retries: Counter,
    /// Jobs given up.
    pub dead_letters: Counter,
    /// How long the app took to answer; one entry for each call. Microseconds.
    pub call: Histogram,
    /// From when a call was due to when it was made. Microseconds, of clocks that count milliseconds.
    pub delay: Histogram,
}

impl FunctionMetrics {
    fn new(slug: Arc<str>) -> Self {
        Self {
            slug,
            runs_started: Counter::default(),
            runs_completed: Counter::default(),
            runs_failed: Counter::default(),
            runs_cancelled: Counter::default(),
            steps_completed: Counter::default(),
            steps_failed: Counter::default(),
            retries: Counter::default(),
            dead_letters: Counter::default(),
            call: Histogram::new(CALL),
            delay: Histogram::new(DELAY),
        }
    }

    /// Takes in what a committed decision has changed.
    fn count(&self, tally: Tally) {
        match tally.ended {
            Some(RunStatus::Completed) => self.runs_completed.increment(),
            Some(RunStatus::Failed) => self.runs_failed.increment(),
            Some(RunStatus::Cancelled) => self.runs_cancelled.increment(),
            Some(_) | None => {}
        }
        for (counter, count) in [
            (&self.steps_completed, tally.steps_completed),
            (&self.steps_failed, tally.steps_failed),
            (&self.retries, tally.retries),
            (&self.dead_letters, tally.dead_letters),
        ] {
            if count > 0 {
                counter.add(count);
            }
        }
    }
}

impl Default for FunctionMetrics {
    fn default() -> Self {
        Self::new(OTHERS.into())
    }
}

/// Events on their way in.
#[derive(Debug, Default)]
pub struct EventMetrics {
    /// Events from outside that were made durable.
    pub accepted: Counter,
    /// Events from outside that were known already, by the id that their sender's retry gave them.
    pub known: Counter,
    /// Runs not created although an event asked for them: one exists, or they were skipped.
    pub runs_left_out: Counter,
    /// Functions not started by an event whose name they listen to, by the recorded reason.
    pub skips: Skips,
    /// Times an event has joined a gathering of a function.
    pub gathered: Counter,
    /// Gatherings that have ended here.
    pub fired: Fired,
}

/// Gatherings that have ended, counted by what they were and by what made them due.
#[derive(Debug, Default)]
pub struct Fired {
    debounces: [Counter; DueBy::ALL.len()],
    batches: [Counter; DueBy::ALL.len()],
}

impl Fired {
    /// Counts one.
    pub fn count(&self, is_batch: bool, by: DueBy) {
        let counters = if is_batch { &self.batches } else { &self.debounces };
        counters[by as usize].increment();
    }

    /// How many of each: whether they are batches, what made them due. A debounce is never full, and a batch has no period.
    pub fn all(&self) -> impl Iterator<Item = (bool, DueBy, u64)> {
        let of = |is_batch, counters: &[Counter; DueBy::ALL.len()], never| {
            let counts = counters.each_ref().map(Counter::value);
            let all = DueBy::ALL.into_iter().zip(counts).filter(move |(by, _)| *by != never);
            all.map(move |(by, count)| (is_batch, by, count))
        };
        of(false, &self.debounces, DueBy::Full).chain(of(true, &self.batches, DueBy::Period))
    }
}

/// Recorded reasons why events started no runs, counted.
#[derive(Debug, Default)]
pub struct Skips([Counter; SkipReason::ALL.len()]);

impl Skips {
    /// Counts one.
    pub fn count(&self, reason: SkipReason) {
        self.0[reason as usize].increment();
    }

    /// How many of each.
    pub fn all(&self) -> impl Iterator<Item = (SkipReason, u64)> {
        SkipReason::ALL.into_iter().zip(self.0.iter().map(Counter::value))
    }
}

/// Calls of apps, all functions together.
#[derive(Debug)]
pub struct CallMetrics {
    /// From the reply to one call to the next call of the same run, where that was due at once. Microseconds.
    pub hand_off: Histogram,
    /// What became of reports of steps.
    pub reports: ReportMetrics,
    /// Answers by HTTP status; the first is for calls without an answer.
    statuses: Box<[Counter]>,
}

/// Reports of calls under way.
#[derive(Debug, Default)]
pub struct ReportMetrics {
    /// All of it is durable.
    pub recorded: Counter,
    /// The call does not count any more.
    pub stale: Counter,
    /// The results don't fit.
    pub too_large: Counter,
    /// It could not be decided upon.
    pub failed: Counter,
}

impl ReportMetrics {
    /// Passes on what became of a report, and counts it.
    pub(crate) fn watch<E>(
        &self,
        outcome: Result<Result<(), ReportRefused>, E>,
    ) -> Result<Result<(), ReportRefused>, E> {
        match &outcome {
            Ok(Ok(())) => &self.recorded,
            Ok(Err(ReportRefused::Stale)) => &self.stale,
            Ok(Err(ReportRefused::TooLarge)) => &self.too_large,
            Err(_) => &self.failed,
        }
        .increment();
        outcome
    }
}

/// HTTP has three digits for a status; what is beyond these is no status.
const STATUSES: usize = 600;

impl Default for CallMetrics {
    fn default() -> Self {
        Self {
            hand_off: Histogram::new(QUICK),
            reports: ReportMetrics::default(),
            statuses: (0..STATUSES).map(|_| Counter::default()).collect(),
        }
    }
}

impl CallMetrics {
    /// Counts the answer to a call.
    pub fn answered(&self, reply: &Reply) {
        let status = match reply {
            Reply::Returned(_) => 200,
            Reply::Steps { .. } => 206,
            Reply::Failed { status, .. } => status.map_or(0, usize::from),
            Reply::Unanswered(_) => 0,
        };
        self.statuses.get(status).unwrap_or(&self.statuses[0]).increment();
    }

    /// The statuses that were seen and how often, `None` standing for no answer.
    pub fn statuses(&self) -> impl Iterator<Item = (Option<u16>, u64)> {
        let all = self.statuses.iter().zip(0_u16..);
        all.map(|(counter, status)| ((status > 0).then_some(status), counter.value()))
            .filter(|(_, count)| *count > 0)
    }
}

/// The writer.
#[derive(Debug)]
pub struct CommitMetrics {
    /// Writes of each batch.
    pub batch: Histogram,
    /// How long the store took for each batch. Microseconds.
    pub took: Histogram,
    /// Batches that failed for a passing reason and were made again.
    pub retries: Counter,
    /// Commits that the database refused, and would again.
    pub refused: Counter,
    waiting: AtomicU64,
    setback: ArcSwapOption<StoreError>,
}

impl Default for CommitMetrics {
    fn default() -> Self {
        Self {
            batch: Histogram::new(BATCH),
            took: Histogram::new(QUICK),
            retries: Counter::default(),
            refused: Counter::default(),
            waiting: AtomicU64::new(0),
            setback: ArcSwapOption::empty(),
        }
    }
}

impl CommitMetrics {
    /// Writes that wait for their commit, as the writer last said.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// Why the database takes no writes at present, if it does not.
    #[must_use]
    pub fn setback(&self) -> Option<Arc<StoreError>> {
        self.setback.load_full()
    }

    pub(crate) fn set_waiting(&self, writes: usize) {
        self.waiting.store(u64::try_from(writes).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn set_setback(&self, error: Option<StoreError>) {
        // Almost always there was none and is none.
        if error.is_some() || self.setback.load().is_some() {
            self.setback.store(error.map(Arc::new));
        }
    }
}

/// The scheduler.
#[derive(Debug, Default)]
pub struct SchedulerMetrics {
    /// Times it looked for something to do.
    pub turns: Counter,
    /// Ticks of crons that are durable.
    pub cron_ticks: Counter,
    /// Jobs brought from the store to the queue.
    pub jobs_brought: Counter,
}

/// What the store could not do.
#[derive(Debug, Default)]
pub struct StoreErrors {
    unavailable: Counter,
    full: Counter,
    refused: Counter,
    corrupt: Counter,
}

impl StoreErrors {
    /// Passes an outcome on, and counts it if it is an error.
    pub(crate) fn watch<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        outcome.inspect_err(|error| self.count(error))
    }

    pub(crate) fn count(&self, error: &StoreError) {
        match error {
            StoreError::Unavailable(_) => &self.unavailable,
            StoreError::Full(_) => &self.full,
            StoreError::Refused(_) => &self.refused,
            StoreError::Corrupt(_) => &self.corrupt,
        }
        .increment();
    }

    /// How often which, by [`StoreError::kind`].
    #[must_use]
    pub fn by_kind(&self) -> [(&'static str, u64); 4] {
        [
            ("unavailable", self.unavailable.value()),
            ("full", self.full.value()),
            ("refused", self.refused.value()),
            ("corrupt", self.corrupt.value()),
        ]
    }
}

/// What a decision changes, in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    ended: Option<RunStatus>,
    steps_completed: u64,
    steps_failed: u64,
    retries: u64,
    dead_letters: u64,
}

impl Tally {
    pub(crate) fn of(changes: &[Change]) -> Self {
        let mut tally = Self::default();
        for change in changes {
            match change {
                Change::Ended { status, .. } => tally.ended = Some(*status),
                Change::Buried(_) => tally.dead_letters += 1,
                // Of a job whose attempts were all used up there is none.
                Change::JobPut(job) if job.attempt > 0 => tally.retries += 1,
                Change::Noted(entry) => match entry.kind {
                    HistoryKind::StepCompleted => tally.steps_completed += 1,
                    HistoryKind::StepFailed => tally.steps_failed += 1,
                    HistoryKind::RunScheduled
                    | HistoryKind::RunStarted
                    | HistoryKind::RunEnded
                    | HistoryKind::StepScheduled
                    | HistoryKind::AttemptFailed
                    | HistoryKind::JobBuried
                    | HistoryKind::MetadataWritten
                    | HistoryKind::JobRevived => {}
                },
                _ => {}
            }
        }
        tally
    }
}

impl Instruments {
    /// A function's own, or those of all others.
    #[must_use]
    pub fn function(&self, id: FunctionId) -> Arc<FunctionMetrics> {
        let functions = self.functions.load();
        Arc::clone(functions.get(&id).unwrap_or(&self.others))
    }

    /// Those of all functions that have their own, by slug, and then those of the others.
    #[must_use]
    pub fn functions(&self) -> Vec<Arc<FunctionMetrics>> {
        let mut functions: Vec<_> = self.functions.load().values().cloned().collect();
        functions.sort_by(|a, b| a.slug.cmp(&b.slug));
        functions.push(Arc::clone(&self.others));
        functions
    }

    /// A decision about a run of this function is durable.
    pub(crate) fn decided(&self, function: FunctionId, tally: Tally) {
        self.function(function).count(tally);
    }

    /// Gives the functions of this catalog numbers of their own, and drops those of functions that are gone from it.
    pub(crate) fn follow(&self, catalog: &Catalog) {
        let known = self.functions.load();
        let mut next = HashMap::new();
        let (old, new): (Vec<_>, Vec<_>) = catalog
            .live_functions()
            .partition(|function| known.contains_key(&function.id));
        // Those that have numbers keep them; who comes too late for the rest stays among the others.
        for function in old.into_iter().chain(new).take(FUNCTIONS) {
            let kept = known.get(&function.id).filter(|kept| kept.slug == function.slug);
            let of_function = kept.map_or_else(|| FunctionMetrics::new(Arc::clone(&function.slug)).into(), Arc::clone);
            next.insert(function.id, of_function);
        }
        self.functions.store(Arc::new(next));
    }
}

#[cfg(test)]
mod tests;
