//! What is ready now, and who is at work on it.
//!
//! The queue is an accelerator: it may forget everything at any instant and is filled again from the store (P5). It is
//! told of jobs that are due within the scheduler's horizon, hands out those that are due as *leases*, and forgets a
//! job when its lease is acknowledged.

use async_trait::async_trait;

use crate::domain::{FunctionId, Job, JobId, RunId, Timestamp};

/// A job that was handed out.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The job.
    pub job: Job,
    /// Counts how often this queue has handed the job out: an answer to an older lease is ignored.
    pub epoch: u64,
    /// When it was handed out.
    pub since: Timestamp,
}

/// What came of a push.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Jobs taken in, or known already.
    pub accepted: usize,
    /// Jobs there was no room for: they stay in the store, to be pushed again when there is.
    pub spilled: usize,
}

/// Numbers for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Jobs that are due and wait.
    pub ready: usize,
    /// Jobs that are not due yet.
    pub delayed: usize,
    /// Jobs handed out.
    pub leased: usize,
    /// Functions that have jobs here, with how many are ready and when the oldest was due.
    pub partitions: Vec<(FunctionId, usize, Option<Timestamp>)>,
}

/// The queue.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Takes jobs in. A job that is known already is replaced, unless it is leased: then its new version waits until the
    /// lease is acknowledged (and is dropped if it is the same).
    async fn push(&self, jobs: Vec<Job>) -> Pushed;

    /// Hands out at most `max` jobs that are due at `now`, no function more than `per_function` at a time (leases it holds
    /// already count), and turns between functions so that none starves another.
    async fn lease(&self, now: Timestamp, max: usize, per_function: usize) -> Vec<Lease>;

    /// The job is done with; the store knows its outcome. Older epochs are ignored.
    async fn acknowledge(&self, id: &JobId, epoch: u64);

    /// Gives a job back undone, to be handed out again not before `due`. Older epochs are ignored.
    async fn release(&self, id: &JobId, epoch: u64, due: Timestamp);

    /// Forgets the jobs of a run that has ended. Leased ones are forgotten when they are acknowledged.
    async fn forget_run(&self, run: RunId);

    /// When the next job is due that is not leased: a time in the past if one is ready. `None` when there is none.
    async fn next_due(&self) -> Option<Timestamp>;

    /// Resolves when jobs have come in that may be due earlier than was known, or room has come free. May wake in vain.
    async fn changed(&self);

    /// The leases a run holds.
    async fn leases_of(&self, run: RunId) -> Vec<Lease>;

    /// Numbers for people.
    async fn stats(&self) -> QueueStats;
}
