//! What is ready now, and who is at work on it.
//!
//! The queue is an accelerator: it may forget everything at any instant and is filled again from the store (P5). It is
//! told of jobs that are due within the scheduler's horizon, hands out those that are due as *leases*, and forgets a
//! job when its lease is acknowledged.
//!
//! It may be shared by several processes. A process that is cut off from it, or that stands still for longer than the
//! queue waits, loses its leases to the others; what it answers to them then is ignored.
//!
//! A job may have [`Gates`](crate::domain::Gates) to pass. Gates hold in all processes together and at every instant: the
//! leases that live never hold more slots of a bucket than the rule of any of them allows when it is given, and starts
//! never go faster than their throttle. A job whose gate is shut waits *at the gate*: it is ready, but counts as not
//! there for everything that hands out or wakes, so jobs with other keys and other functions go on. When the gate opens,
//! the oldest run that waits goes first. All gates of a function may be [shut](crate::domain::Limits::shut), whatever its
//! numbers. Until the queue has been told the numbers of all functions once, all gates
//! are shut; and after it has lost what it held, until nobody can be at work any more whom it does not know.
//!
//! What the queue can't do it leaves undone: a push answers that the jobs were spilled, or that nobody answered for
//! them; a lease that there are none.

use async_trait::async_trait;

use crate::domain::{BucketId, FunctionId, Gate, GateKind, Job, JobId, Limits, RuleId, RunId, Timestamp};

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
    /// Jobs for which the queue gave no answer in time: in or not, to be pushed again until it answers.
    pub unheard: usize,
}

/// Numbers for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Jobs that wait and were due at the time of the last `lease`, those at gates included.
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

/// The numbers of the gates of all functions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitTable {
    /// Later tables have higher revisions.
    pub revision: u64,
    /// The functions that have rules, and those whose gates are shut.
    pub functions: Vec<(FunctionId, Limits)>,
}

/// What is going on at the gates of a function, in the order of the rules' ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    /// The rules that jobs of the function, waiting and ready or leased, have to pass.
    pub rules: Vec<RuleFlow>,
}

/// What is going on at one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFlow {
    /// Which.
    pub rule: RuleId,
    /// What kind of rule it is.
    pub kind: GateKind,
    /// The buckets that jobs of this function are in: values of the key.
    pub keys: usize,
    /// Slots that are held in them, by this function or another that shares them. 0 for a throttle.
    pub in_use: usize,
    /// Jobs of this function in them that are ready and not handed out.
    pub waiting: usize,
    /// Of those, the creation of the oldest run.
    pub oldest: Option<Timestamp>,
    /// The keys most in use, at most [`TOP_KEYS`](RuleFlow::TOP_KEYS).
    pub busiest: Vec<KeyFlow>,
    /// The keys with most jobs waiting, as many at most.
    pub longest: Vec<KeyFlow>,
}

impl RuleFlow {
    /// Keys named, at most.
    pub const TOP_KEYS: usize = 10;

    /// Of these keys.
    #[must_use]
    pub fn of_keys(rule: RuleId, kind: GateKind, mut keys: Vec<KeyFlow>) -> Self {
        let mut top = |by: fn(&KeyFlow) -> usize| {
            keys.sort_by(|a, b| by(b).cmp(&by(a)).then_with(|| a.key.cmp(&b.key)));
            let some = keys.iter().filter(|key| by(key) > 0);
            some.take(Self::TOP_KEYS).cloned().collect()
        };
        Self {
            rule,
            kind,
            busiest: top(|key| key.in_use),
            longest: top(|key| key.waiting),
            in_use: keys.iter().map(|key| key.in_use).sum(),
            waiting: keys.iter().map(|key| key.waiting).sum(),
            oldest: keys.iter().filter_map(|key| key.oldest).min(),
            keys: keys.len(),
        }
    }
}

/// What is going on at one value of a rule's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFlow {
    /// The value, shortened; empty for a rule without a key.
    pub key: String,
    /// Slots held.
    pub in_use: usize,
    /// Jobs of the function that are ready and not handed out.
    pub waiting: usize,
    /// Of those, the creation of the oldest run.
    pub oldest: Option<Timestamp>,
    /// When a throttle opens next, if it is shut and jobs wait at it.
    pub next: Option<Timestamp>,
}

/// Where a job stands that is due and is not handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which job.
    pub job: JobId,
    /// What holds it up: the first of its gates that is shut. `None` if it has none that is: then it waits for its turn only.
    pub gate: Option<Gate>,
    /// When that gate lets the next start through, if it is a throttle.
    pub opens: Option<Timestamp>,
    /// How many go before it of the jobs of its function that have to pass that gate with the same value of its key; if no gate
    /// holds it up, of those with the same gates. At most [`MOST`](Self::MOST), which stands for more, too. `None` if nobody
    /// can tell: functions that share slots have no line in common.
    pub ahead: Option<usize>,
}

impl Place {
    /// Jobs counted, at most.
    pub const MOST: usize = 1_000;
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

    /// From now on these numbers count, for jobs that are known as well: a higher limit lets more through at once; under a
    /// lower one whoever has a lease keeps it, and nobody gets one until there are fewer. A rule that its function has no
    /// more lets everything through. An older table than the one that counts is ignored.
    ///
    /// The queue keeps the table over a loss of everything else.
    async fn configure(&self, table: LimitTable);

    /// Starts that were made before this queue lived, in order: throttles go on from there. Only told where they are
    /// [forgotten](Self::forgets_starts).
    async fn recall(&self, _starts: Vec<(FunctionId, BucketId, Timestamp)>) {}

    /// Whether it lives no longer than its process, and throttles with it.
    fn forgets_starts(&self) -> bool {
        false
    }

    /// The job is done with; the store knows its outcome. Older epochs are ignored.
    async fn acknowledge(&self, id: &JobId, epoch: u64);

    /// Gives a job back undone, to be handed out again not before `due`. Where a new version waits, that one goes on,
    /// not before both its own time and `due`. Older epochs are ignored.
    async fn release(&self, id: &JobId, epoch: u64, due: Timestamp);

    /// Forgets a job that was handed out in vain: nobody has begun with it, and it is pushed again when somebody may. Like
    /// [`acknowledge`](Self::acknowledge), but a start that has taken its turn at a throttle, with this lease or an earlier one,
    /// [gives it back](crate::domain::Rate::after_return), unless a newer version has come or its run was forgotten since.
    async fn take_back(&self, id: &JobId, epoch: u64);

    /// Forgets the jobs of a run that has ended. Leased ones are forgotten when the lease ends, in whichever way,
    /// unless they are pushed again before.
    async fn forget_run(&self, run: RunId);

    /// When the next job is due that is not leased: a time in the past if one is ready. `None` when there is none.
    ///
    /// Ready jobs of a function that `lease` found at its limit don't count until a lease of it ends, nor do those that wait
    /// at a gate until it opens: nobody could have them, and a caller that sleeps until this time must not spin. The
    /// time at which a throttle opens for a job that waits there counts as when that is due.
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

    /// What is going on at the gates of a function, for people.
    async fn flow(&self, function: FunctionId) -> Flow;

    /// Where the jobs of a run stand that were due at the time of the last `lease` and wait, for people.
    async fn places_of(&self, run: RunId) -> Vec<Place>;
}
