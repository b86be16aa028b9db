//! What is ready now, and who is at work on it.
//!
//! The queue is an accelerator: it may forget everything at any instant and is filled again from the store (P5). It is
//! told of jobs that are due within the scheduler's horizon, hands out those that are due as *leases*, and forgets a
//! job when its lease is acknowledged.
//!
//! It may be shared by several processes. A process that is cut off from it, or that stands still for longer than the
//! queue waits, loses its leases to the others; what it answers to them then is ignored.
//!
//! What the queue can't do it leaves undone: a push answers that the jobs were spilled, a lease that there are none.

use async_trait::async_trait;

use crate::domain::{FunctionId, Job, JobId, RunId, Timestamp};

/// Why the queue can't.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueueError {
    /// Worth another try.
    #[error("the queue is unavailable: {0}")]
    Unavailable(String),
}

/// How a push comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This process has just committed the write that made these jobs.
    Commit,
    /// They were read from the store: somebody else may have had them, and even be done with them.
    Sweep,
}

/// A job that was handed out.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The job, as it was pushed: a release delays it and does not change it.
    pub job: Job,
    /// Rises with every lease this queue gives, of whatever job, so that an answer to an older lease can be told and is
    /// ignored even when the job went and came back in between.
    pub epoch: u64,
    /// When it was handed out.
    pub since: Timestamp,
    /// Whether nobody else can have had the job: it came with a commit of this process, and this is its first lease. What
    /// this process remembers of the run is then no older than the job. Otherwise another process may have moved the run
    /// on, and only the store knows.
    pub is_first: bool,
}

/// What came of a push.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Jobs taken in, or known already.
    pub accepted: usize,
    /// Jobs there was no room for, and jobs known before that had to make room for these: they stay in the store, to be
    /// pushed again when there is.
    pub spilled: usize,
}

/// Numbers for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Jobs that wait and were due at the time of the last `lease`.
    pub ready: usize,
    /// Jobs that wait and were not due then.
    pub delayed: usize,
    /// Jobs handed out.
    pub leased: usize,
    /// Since when the longest lease has been held.
    pub oldest_lease: Option<Timestamp>,
    /// How many jobs fit in; `None` where only the machine's memory bounds them.
    pub capacity: Option<usize>,
    /// Jobs turned away or dropped for want of room, ever.
    pub spilled: u64,
    /// The functions that have jobs here, in no particular order.
    pub partitions: Vec<PartitionStats>,
}

/// The share of one function in [`QueueStats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionStats {
    /// Which.
    pub function: FunctionId,
    /// Its jobs that wait and are due.
    pub ready: usize,
    /// Its jobs that wait and are not due.
    pub delayed: usize,
    /// Its jobs handed out.
    pub leased: usize,
    /// When the ready job that was due first was due.
    pub oldest: Option<Timestamp>,
}

/// The queue.
#[async_trait]
pub trait Queue: std::fmt::Debug + Send + Sync {
    /// Takes jobs in. A job that is known already is replaced, unless it is leased: then its new version waits until
    /// the lease ends (and is dropped if it is the same). A job that waits and is pushed again unchanged stays as it
    /// is, with the delay a release gave it.
    ///
    /// Attempts only go up, so a version with fewer of them than the newest that is known comes late (it was read from the
    /// store before, or its push was held up) and changes nothing. Nobody would bring the newer one again soon.
    async fn push(&self, jobs: Vec<Job>, origin: Origin) -> Pushed;

    /// Hands out at most `max` jobs that are due at `now`, no function more than `per_function` at a time (leases that
    /// this process holds for it already count), and turns between functions so that none starves another. Of one
    /// function's jobs that are due, those of older runs go first, so that what was begun ends; a run's
    /// [priority](crate::domain::Priority) makes it count as older.
    async fn lease(&self, now: Timestamp, max: usize, per_function: usize) -> Vec<Lease>;

    /// The job is done with; the store knows its outcome. Older epochs are ignored.
    async fn acknowledge(&self, id: &JobId, epoch: u64);

    /// Gives a job back undone, to be handed out again not before `due`. Where a new version waits, that one goes on,
    /// not before both its own time and `due`. Older epochs are ignored.
    async fn release(&self, id: &JobId, epoch: u64, due: Timestamp);

    /// Forgets the jobs of a run that has ended. Leased ones are forgotten when the lease ends, in whichever way,
    /// unless they are pushed again before.
    async fn forget_run(&self, run: RunId);

    /// When the next job is due that is not leased: a time in the past if one is ready. `None` when there is none.
    ///
    /// Ready jobs of a function that `lease` found at its limit don't count until a lease of it ends: nobody could have
    /// them, and a caller that sleeps until this time must not spin.
    async fn next_due(&self) -> Option<Timestamp>;

    /// Resolves when jobs have come in that may be due earlier than was known, or room has come free. May wake in vain.
    ///
    /// What happened before the call counts too, if no earlier call has told it. One caller waits at a time.
    async fn changed(&self);

    /// The leases a run holds.
    async fn leases_of(&self, run: RunId) -> Vec<Lease>;

    /// Resolves when the queue is to be filled again from the store: it has lost what it held, or a process has died, maybe
    /// between a commit and the push that follows. Never, if neither can be.
    async fn forgotten(&self) {
        std::future::pending::<()>().await;
    }

    /// A cheap question to see whether the queue answers.
    ///
    /// # Errors
    /// When it does not.
    async fn ping(&self) -> Result<(), QueueError> {
        Ok(())
    }

    /// How often the queue could not do what this process wanted of it, ever.
    fn failures(&self) -> u64 {
        0
    }

    /// Gives back every lease this process holds, and takes no more part. To be called when nothing is under way any more.
    async fn close(&self) {}

    /// Numbers for people.
    async fn stats(&self) -> QueueStats;
}
