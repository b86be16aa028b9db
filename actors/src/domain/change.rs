//! What becomes true: the vocabulary between the engine, which decides, and the store, which makes it last.
//!
//! A [`Write`] is all or nothing. Each has a *claim* that can be lost to somebody faster (the event was known already,
//! the run has moved on); then none of it happens and [`Written`] says so. Many writes share one transaction.

use std::collections::BTreeSet;

use super::{
    CallRef, ClaimId, DeadLetter, Deferral, Event, EventId, Fire, FunctionId, Job, JobKey, Join, Joined, Json,
    LockClaim, RateClaim, RunId, RunState, RunStatus, Step, StepId, Timestamp, Wait, WaitKey,
};

/// One change of one run.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The first call went out.
    Started {
        /// When.
        at: Timestamp,
    },
    /// The request version is settled.
    RequestVersion(i32),
    /// The SDK must, or no longer must not, run steps that it finds.
    PlanOnly(bool),
    /// The parallel group's steps that have not completed.
    Group(BTreeSet<StepId>),
    /// A step is new or has moved on. One that is done takes the next place of the stack.
    StepPut(Step),
    /// A job is new, or is due again at another time with another attempt.
    JobPut(Job),
    /// A job is done.
    JobDone(JobKey),
    /// A wait is set. A signal's wait takes the signal over from any older one.
    WaitPut(Wait),
    /// A wait is over.
    WaitDone(WaitKey),
    /// The server emits an event.
    Emit {
        /// The event.
        event: Event,
        /// Whether some function listens to it; waits are looked up anyway.
        has_listeners: bool,
    },
    /// The run has ended; its jobs, waits and dead letters go with it.
    Ended {
        /// How.
        status: RunStatus,
        /// What it returned, or its error.
        output: Json,
        /// When.
        at: Timestamp,
    },
    /// Something worth remembering happened.
    Noted(HistoryEntry),
    /// A job is given up for an operator to decide upon: it moves from the run's jobs to the dead letters. A letter about
    /// the same job is replaced.
    Buried(DeadLetter),
    /// The dead letter about this job goes.
    Unburied(JobKey),
    /// A function is put off until the run's end, or something has become of one that was: it takes the place of the one with
    /// its id.
    Deferred(Deferral),
    /// From now on this call's reports count, and of the calls beside it none that was made before. Attempts before it
    /// are forgotten.
    Reporter(CallRef),
    /// The run gives this lock up, if it still holds it.
    Released(ClaimId),
}

/// A line of a run's history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub kind: HistoryKind,
    /// To which step.
    pub step: Option<StepId>,
    /// In which attempt, from 0.
    pub attempt: u32,
    /// Particulars, by kind; see [`HistoryKind`].
    pub detail: Option<Json>,
}

/// What a line of history says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryKind {
    /// The run was created.
    RunScheduled,
    /// Its first call went out.
    RunStarted,
    /// It ended; `{"status"}`.
    RunEnded,
    /// A step's result was recorded; `{"started_at","ended_at","name"}`, times of the attempt in ms, the `"event_id"`
    /// that ended a wait, and the step's `"type"`, if its SDK names one.
    StepCompleted,
    /// A step failed for good; the same particulars.
    StepFailed,
    /// A step waits to be called, for a time, an event (`"event","if"`), a signal (`"signal"`) or a run (`"function"`, and
    /// the `"event_id"` that starts it); `{"op","name","until"}`, and the step's `"type"`, if its SDK names one.
    StepScheduled,
    /// An attempt failed; `{"error","status","started_at","retry_at","name"}`.
    AttemptFailed,
    /// A job was given up, and holds the run; `{"job","letter","reason"}`.
    JobBuried,
    /// Metadata came with a step's result; `{"updates"}`, see [`crate::domain::NotedMetadata`].
    MetadataWritten,
    /// A job that was given up is put back; `{"job","letter"}`.
    JobRevived,
}

impl HistoryKind {
    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunScheduled => "run.scheduled",
            Self::RunStarted => "run.started",
            Self::RunEnded => "run.ended",
            Self::StepCompleted => "step.completed",
            Self::StepFailed => "step.failed",
            Self::StepScheduled => "step.scheduled",
            Self::AttemptFailed => "attempt.failed",
            Self::JobBuried => "job.buried",
            Self::MetadataWritten => "metadata.written",
            Self::JobRevived => "job.revived",
        }
    }

    /// From the stored name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::RunScheduled,
            Self::RunStarted,
            Self::RunEnded,
            Self::StepCompleted,
            Self::StepFailed,
            Self::StepScheduled,
            Self::AttemptFailed,
            Self::JobBuried,
            Self::MetadataWritten,
            Self::JobRevived,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
    }
}

/// A run to be created. Its claims, in this order: its id; with `idempotency`, that no run of the function has used that
/// key within the window; its rate limit; its lock. A run that loses one is left out (the rest of the write stands) and,
/// unless it was by its id, recorded as a [`Skip`]. What is not new spends no rate limit; what a rate limit lets pass has
/// spent it, also if the lock is held.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    /// Its state, in version 0 and with its first jobs in `jobs`.
    pub state: RunState,
    /// Its first job.
    pub job: Job,
    /// The job that cancels it if it does not start in time.
    pub deadline: Option<Job>,
    /// The waits of its cancel rules.
    pub waits: Vec<Wait>,
    /// The event id its sender chose.
    pub idempotency: Option<String>,
    /// The rate limit to pass.
    pub rate: Option<RateClaim>,
    /// The lock to hold; its bucket is the state's [`RunState::lock`].
    pub lock: Option<LockClaim>,
}

impl NewRun {
    /// The event for which it is recorded that the run was left out: of those of a debounce there is one.
    ///
    /// # Panics
    /// Never: a run is started by an event.
    #[must_use]
    pub fn cause(&self) -> EventId {
        *self.state.event_ids.first().expect("a run is started by an event")
    }
}

/// Why an event started no run of a function whose trigger names it.
#[derive(Debug, Clone, PartialEq)]
pub struct Skip {
    /// The event.
    pub event: EventId,
    /// The function; `None` for the target of an invoke that does not exist.
    pub function: Option<FunctionId>,
    /// Why.
    pub reason: SkipReason,
    /// Particulars for people.
    pub detail: String,
}

/// Why an event started no run of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// The trigger's expression is false.
    ExpressionFalse,
    /// The trigger's expression could not be evaluated.
    ExpressionError,
    /// An event with the same id started a run already.
    Duplicate,
    /// There is no such function.
    UnknownFunction,
    /// The function's rate limit let no further run pass.
    RateLimited,
    /// By the function's `idempotency`, an equal event started a run within the day.
    Idempotency,
    /// Another run of the singleton has not ended.
    Singleton,
    /// A later event has taken its place in a debounce.
    Debounced,
    /// The function was archived before the events that were gathered for it were due.
    Archived,
    /// The function is paused.
    Paused,
    /// The function is being drained.
    Draining,
}

impl SkipReason {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::ExpressionFalse,
        Self::ExpressionError,
        Self::Duplicate,
        Self::UnknownFunction,
        Self::RateLimited,
        Self::Idempotency,
        Self::Singleton,
        Self::Debounced,
        Self::Archived,
        Self::Paused,
        Self::Draining,
    ];

    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExpressionFalse => "expression_false",
            Self::ExpressionError => "expression_error",
            Self::Duplicate => "duplicate",
            Self::UnknownFunction => "unknown_function",
            Self::RateLimited => "rate_limited",
            Self::Idempotency => "idempotency",
            Self::Singleton => "singleton",
            Self::Debounced => "debounced",
            Self::Archived => "archived",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }

    /// From the stored name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// Something to be made true, all of it or nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// An event from outside (or a cron tick), with the runs it starts. Its claim is the event's id.
    Accept(Accept),
    /// An event of the server's own finds its functions and waits; likewise an accepted event that may have waits.
    /// Its claim is that nobody has done so yet.
    Route(Route),
    /// A run moves on. Its claim is the run's version.
    Advance(Advance),
    /// Events that were gathered start their run. Its claim is the gathering's version.
    Fire(Fire),
}

/// See [`Write::Accept`].
#[derive(Debug, Clone, PartialEq)]
pub struct Accept {
    /// The event.
    pub event: Event,
    /// The runs it starts.
    pub runs: Vec<NewRun>,
    /// The gatherings it joins.
    pub joins: Vec<Join>,
    /// The functions it does not start.
    pub skips: Vec<Skip>,
    /// The revision of the catalog that said so. The write is [`Written::Outdated`] if the store has a newer one; `None`
    /// where no catalog was asked.
    pub catalog: Option<u64>,
}

/// See [`Write::Route`].
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The event, which is stored and not yet routed.
    pub event: EventId,
    /// The runs it starts.
    pub runs: Vec<NewRun>,
    /// The gatherings it joins.
    pub joins: Vec<Join>,
    /// The functions it does not start.
    pub skips: Vec<Skip>,
    /// The waits it ends.
    pub takes: Vec<Take>,
    /// As for [`Accept::catalog`].
    pub catalog: Option<u64>,
}

/// A wait that is over. Its claim is that the wait is still open; one that is not is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Take {
    /// Whose wait.
    pub run: RunId,
    /// Which wait.
    pub key: WaitKey,
    /// The job that tells the run.
    pub job: Job,
}

/// See [`Write::Advance`].
#[derive(Debug, Clone, PartialEq)]
pub struct Advance {
    /// The run.
    pub run: RunId,
    /// The version the decision was made from; the run is then at `expected + 1`.
    pub expected: u64,
    /// What changes, in this order.
    pub changes: Vec<Change>,
}

/// A run that was not created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    /// Which.
    pub run: RunId,
    /// Why; `None` if it exists.
    pub reason: Option<SkipReason>,
}

/// What came of a [`Write`].
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// It is durable.
    Done {
        /// Runs that were left out.
        left_out: Vec<LeftOut>,
        /// Waits that were left out, because somebody else took them.
        missed: Vec<(RunId, WaitKey)>,
        /// Events of this write that have to be routed now: a function or a wait may be meant. The wait may be gone by
        /// then; an event that was stored before is not named again.
        unrouted: Vec<EventId>,
        /// Jobs that were put for runs that have lost their lock to one of this write's.
        evictions: Vec<Job>,
        /// What came of the gatherings that the write's event was to join.
        joined: Joined,
    },
    /// It was matched against a catalog that is no longer the newest, and nothing was written: read the catalog, and match
    /// again.
    Outdated,
    /// Its claim was lost, and nothing was written: the event is known, or is routed, or the run has moved on, or the
    /// gathering has fired or changed.
    Lost,
}

impl Written {
    /// Written, with nothing left out.
    #[must_use]
    pub fn done() -> Self {
        Self::Done {
            left_out: Vec::new(),
            missed: Vec::new(),
            unrouted: Vec::new(),
            evictions: Vec::new(),
            joined: Joined::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_survive_their_names_and_stand_in_their_places() {
        for (place, reason) in SkipReason::ALL.into_iter().enumerate() {
            assert_eq!(SkipReason::parse(reason.as_str()), Some(reason));
            assert_eq!(reason as usize, place, "counters are found by it");
        }
    }
}
