//! The truth.
//!
//! All that has been committed is durable when [`Store::commit`] returns, and survives a kill of the process or the
//! loss of power. Everything else in the program may be lost and is found again here.

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use super::{
    Audit, ConnectionBook, GatheringBook, KeyBook, MetadataBook, OperationBook, Overrides, RunSlots, Search, SlotBook,
    SpanBook,
};

use crate::domain::{
    App, DeadLetter, Deferral, Event, EventId, Function, FunctionId, FunctionMode, Gates, Gathering, GatheringId,
    HistoryEntry, Job, Json, LetterId, LimitOverride, Lookup, Node, NodeId, Registration, RunId, RunState, RunStatus,
    Skip, Step, StepId, StepOp, StepState, SyncOutcome, Timestamp, Wait, WaitKey, WaitKind, Write, Written,
};

/// Why the store can't.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Worth another try: busy, a lost connection, a deadlock.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// No room is left. Worth another try when an operator has made some.
    #[error("the disk is full: {0}")]
    Full(String),
    /// The database refuses this very write, and would again.
    #[error("the database refuses the write: {0}")]
    Refused(String),
    /// What was read makes no sense.
    #[error("the database holds something unreadable: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// What kind, in a word, for metrics and for those who may not see more.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Full(_) => "full",
            Self::Refused(_) => "refused",
            Self::Corrupt(_) => "corrupt",
        }
    }
}

/// A page of a list that runs from new to old.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Whether there are older ones.
    pub has_more: bool,
}

/// Which runs to list. Everything set must hold.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// In one of these; all if empty.
    pub statuses: Vec<RunStatus>,
    /// Of these functions; all if `None`.
    pub functions: Option<Vec<FunctionId>>,
    /// Created then or later.
    pub from: Option<Timestamp>,
    /// Created before.
    pub until: Option<Timestamp>,
    /// Older than this run: the last one of the page before.
    pub before: Option<RunId>,
    /// At most so many.
    pub limit: usize,
}

/// Which events to list.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of this exact name.
    pub name: Option<String>,
    /// With the server's own events.
    pub internal: bool,
    /// Received then or later.
    pub from: Option<Timestamp>,
    /// Received before.
    pub until: Option<Timestamp>,
    /// Older than this event: the last one of the page before.
    pub before: Option<EventId>,
    /// At most so many.
    pub limit: usize,
}

/// Which dead letters to list. Everything set must hold.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// Of runs of these functions; all if `None`.
    pub functions: Option<Vec<FunctionId>>,
    /// Given up then or later.
    pub from: Option<Timestamp>,
    /// Given up before.
    pub until: Option<Timestamp>,
    /// Older than this letter: the last one of the page before.
    pub before: Option<LetterId>,
    /// At most so many.
    pub limit: usize,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    /// Which.
    pub id: RunId,
    /// Of which function.
    pub function: FunctionId,
    /// Version of the function when the run was created.
    pub function_version: u32,
    /// Where it stands.
    pub status: RunStatus,
    /// The events that started it, the first one first.
    pub event_ids: Vec<EventId>,
    /// The gathering that they were, if they are a batch.
    pub batch: Option<GatheringId>,
    /// Name of the first one.
    pub event_name: String,
    /// First call.
    pub started_at: Option<Timestamp>,
    /// End.
    pub ended_at: Option<Timestamp>,
    /// What it returned, or its error.
    pub output: Option<Json>,
    /// The first run of those of which it is a repetition.
    pub original: Option<RunId>,
}

/// A step for people.
#[derive(Debug, Clone, PartialEq)]
pub struct StepView {
    /// Its id.
    pub id: StepId,
    /// What kind.
    pub op: StepOp,
    /// Its name.
    pub label: String,
    /// `planned`, `parked`, `completed` or `failed`.
    pub status: &'static str,
    /// When it was first reported or began to run.
    pub started_at: Timestamp,
    /// When its result was recorded.
    pub ended_at: Option<Timestamp>,
    /// Until when it is parked.
    pub until: Option<Timestamp>,
    /// Its memo.
    pub memo: Option<Json>,
    /// Its place in the order of completion.
    pub position: Option<u32>,
}

/// A run with everything that is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    /// As in lists.
    pub summary: RunSummary,
    /// Its steps in the order in which they were reported.
    pub steps: Vec<StepView>,
    /// What happened, in order.
    pub history: Vec<HistoryEntry>,
    /// What is going to happen.
    pub jobs: Vec<JobView>,
    /// What it waits for.
    pub waits: Vec<WaitView>,
    /// What was given up and holds it, by job.
    pub held: Vec<DeadLetter>,
    /// What it has put off until its end, in order; without what the functions are to be given.
    pub deferrals: Vec<Deferral>,
}

/// A job for people.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// Its key.
    pub key: String,
    /// Attempts made before.
    pub attempt: u32,
    /// Not before.
    pub due: Timestamp,
}

/// A wait for people.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitView {
    /// `event`, `invoke`, `signal` or `cancel`.
    pub kind: &'static str,
    /// The step, if a step waits.
    pub step: Option<StepId>,
    /// Name of the event or signal.
    pub name: String,
    /// The condition over `async`.
    pub condition: Option<String>,
    /// Until when.
    pub expires_at: Timestamp,
}

/// An event with what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct EventView {
    /// The event.
    pub event: Event,
    /// The runs it started, oldest first.
    pub runs: Vec<RunSummary>,
    /// The functions it did not start, and why.
    pub skips: Vec<Skip>,
    /// The gatherings that hold it, oldest first.
    pub gatherings: Vec<Gathering>,
}

/// An app with its functions.
#[derive(Debug, Clone, PartialEq)]
pub struct AppView {
    /// The app.
    pub app: App,
    /// Its functions, archived ones included: their runs may go on.
    pub functions: Vec<Function>,
    /// Whether its calls go through a circuit breaker, if an operator has said so of this app.
    pub breaker: Option<bool>,
}

/// All apps and functions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CatalogView {
    /// Rises with every change of an app, a function or an override.
    pub revision: u64,
    /// The apps, by name.
    pub apps: Vec<AppView>,
    /// What operators have changed for a time, in no particular order. It ends when the store is told so.
    pub overrides: Vec<LimitOverride>,
}

/// A node and when it last gave a sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// The node.
    #[serde(flatten)]
    pub node: Node,
    /// When.
    pub seen_at: Timestamp,
}

/// Before when things have to have ended to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// End of runs that completed or were cancelled.
    pub finished_runs: Timestamp,
    /// End of runs that failed.
    pub failed_runs: Timestamp,
    /// Arrival of events.
    pub events: Timestamp,
    /// When a rate limit had nothing left to remember.
    pub rates: Timestamp,
}

/// Jobs that are left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Except<'a> {
    /// All of these functions.
    pub functions: &'a [FunctionId],
    /// Calls of these functions; see [`crate::domain::JobKey::is_call`].
    pub calls_of: &'a [FunctionId],
}

/// A look at some of the runs that have not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orphans {
    /// Those that nothing brings on, by id.
    pub runs: Vec<RunId>,
    /// Behind which run to go on; `None` if all that are left were looked at.
    pub next: Option<RunId>,
}

/// Sizes for people and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Runs that have not ended.
    pub open_runs: u64,
    /// Jobs.
    pub jobs: u64,
    /// Open waits.
    pub waits: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

impl From<Step> for StepView {
    fn from(step: Step) -> Self {
        let position = match step.state {
            StepState::Done { position, .. } => Some(position),
            StepState::Planned | StepState::Parked { .. } => None,
        };
        let (status, ended_at, until, memo) = match step.state {
            StepState::Planned => ("planned", None, None, None),
            StepState::Parked { until } => ("parked", None, Some(until), None),
            StepState::Done {
                memo,
                failed: false,
                at,
                ..
            } => ("completed", Some(at), None, Some(memo)),
            StepState::Done { memo, at, .. } => ("failed", Some(at), None, Some(memo)),
        };
        Self {
            id: step.id,
            op: step.op,
            label: step.label,
            status,
            started_at: step.started_at,
            ended_at,
            until,
            memo,
            position,
        }
    }
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        Self {
            key: job.id.key.to_string(),
            attempt: job.attempt,
            due: job.due,
        }
    }
}

impl From<Wait> for WaitView {
    fn from(wait: Wait) -> Self {
        Self {
            kind: wait.kind.as_str(),
            step: match wait.key {
                WaitKey::Step(step) => Some(step),
                WaitKey::Cancel(_) => None,
            },
            name: wait.name,
            condition: wait.condition,
            expires_at: wait.expires_at,
        }
    }
}

/// How far the time in an event's id, which may be its sender's, may lie from when it was received for
/// [`Store::events_named`] to find it: an index that holds a name's events by id serves it, and none by time.
pub const SENDER_SLACK: Duration = Duration::from_secs(5 * 60);

/// The store.
#[async_trait]
pub trait Store:
    Audit
    + ConnectionBook
    + GatheringBook
    + KeyBook
    + MetadataBook
    + OperationBook
    + SlotBook
    + SpanBook
    + RunSlots
    + Overrides
    + Search
    + Send
    + Sync
{
    /// Makes a batch of writes durable, in order, in one transaction. Answers one [`Written`] each.
    ///
    /// A batch whose future is dropped is written wholly or not at all.
    ///
    /// # Errors
    /// Nothing of the batch has happened then.
    async fn commit(&self, batch: &[Write]) -> Result<Vec<Written>, StoreError>;

    /// The states of runs that have not ended. Ended and unknown ones are left out.
    async fn load_runs(&self, ids: &[RunId]) -> Result<Vec<RunState>, StoreError>;

    /// The bodies of a run's events and the memos of its completed steps, for the app to fetch; `None` once it has ended.
    async fn load_run(&self, id: RunId) -> Result<Option<RunState>, StoreError> {
        Ok(self.load_runs(&[id]).await?.pop())
    }

    /// Of a function's runs that have gates and were started, the youngest: what they had to pass, and when their first call
    /// went out. From young to old, at most `limit`.
    async fn starts_of(&self, function: FunctionId, limit: usize) -> Result<Vec<(Gates, Timestamp)>, StoreError>;

    /// Jobs due before `until`, by due time (then by id), those behind `after` only and without what `except` says; at
    /// most `limit`.
    async fn jobs_due(
        &self,
        until: Timestamp,
        after: Option<(Timestamp, crate::domain::JobId)>,
        except: Except<'_>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError>;

    /// When the first job is due that is due at `from` or later.
    async fn next_due(&self, from: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// Stored events that have not been routed, oldest first.
    async fn unrouted(&self, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// Events by id, in the order asked; unknown ones are left out.
    async fn events_by_id(&self, ids: &[EventId]) -> Result<Vec<Event>, StoreError>;

    /// Events of this name that were received at `from` or later and before `until`, oldest first by id, those behind `after`
    /// only; at most `limit`. One whose sender's clock is off by more than [`SENDER_SLACK`] may be missing.
    async fn events_named(
        &self,
        name: &str,
        from: Timestamp,
        until: Timestamp,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError>;

    /// The paths by which open waits for events of this name are indexed; `None` stands for waits without an index.
    async fn wait_paths(&self, name: &str) -> Result<Vec<Option<String>>, StoreError>;

    /// Open waits for this name with one of these lookups (`None`: those without an index), at most `limit` behind `after`
    /// in the order of (run, key). Signals are waits of kind signal, by name.
    async fn waits(
        &self,
        name: &str,
        lookups: &[Option<Lookup>],
        after: Option<(RunId, String)>,
        limit: usize,
    ) -> Result<Vec<Wait>, StoreError>;

    /// The open wait for a signal, if there is one. Events may have the signal's name too, and any number of waits.
    async fn signal_wait(&self, signal: &str) -> Result<Option<Wait>, StoreError> {
        const PAGE: usize = 64;
        let mut after = None;
        loop {
            let page = self.waits(signal, &[None], after.take(), PAGE).await?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|wait| (wait.run, wait.key.to_string()));
            let found = page.into_iter().find(|wait| wait.kind == WaitKind::Signal);
            if found.is_some() || is_last {
                return Ok(found);
            }
        }
    }

    /// All apps and functions.
    async fn catalog(&self) -> Result<CatalogView, StoreError>;

    /// Stores a registration in one transaction: upserts the app by name, its functions by (app, slug), raises the versions
    /// of all its functions if anything changed, archives what is left out. An equal checksum of an app without error
    /// changes nothing.
    async fn sync_app(&self, registration: &Registration) -> Result<SyncOutcome, StoreError>;

    /// Notes why a sync that we asked the app at this URL for failed (`None`: it did not). Unknown URLs are ignored.
    async fn note_sync_error(&self, url: &str, error: Option<&str>) -> Result<(), StoreError>;

    /// Says of an app whether its calls go through a circuit breaker, whatever the settings say; `None`: as they say.
    /// Raises the revision of the catalog if that is new. Answers whether there is such an app.
    async fn set_breaker(&self, app: &str, breaker: Option<bool>) -> Result<bool, StoreError>;

    /// Archives all functions of the app at this URL and forgets the app. Answers whether there was one. For the sake of
    /// its functions, whose runs go on, the catalog keeps listing it, without URL and checksum, until it registers again.
    async fn remove_app(&self, url: &str) -> Result<bool, StoreError>;

    /// Has a function do from now on what an operator lets it do, and raises the catalog's revision. Answers whether that is
    /// a change: not if there is no such function, or if it is in this mode already, which goes on since when it began.
    async fn set_function_mode(&self, function: FunctionId, mode: FunctionMode) -> Result<bool, StoreError>;

    /// How many runs of each of these functions have not ended, in no particular order; those that have none may be left out.
    async fn open_runs(&self, functions: &[FunctionId]) -> Result<Vec<(FunctionId, u64)>, StoreError>;

    /// An event with what became of it.
    async fn event_view(&self, id: EventId) -> Result<Option<EventView>, StoreError>;

    /// Events from new to old.
    async fn list_events(&self, filter: &EventFilter) -> Result<Page<Event>, StoreError>;

    /// A run with everything that is known of it.
    async fn run_view(&self, id: RunId) -> Result<Option<RunView>, StoreError>;

    /// Runs from new to old.
    async fn list_runs(&self, filter: &RunFilter) -> Result<Page<RunSummary>, StoreError>;

    /// Which of the next `span` runs that have not ended, in the order of their ids from behind `after` on, have neither a job
    /// nor a dead letter that holds them (P4): there must be none. The work is that of `span` runs, however many there are.
    async fn orphans(&self, after: Option<RunId>, span: usize) -> Result<Orphans, StoreError>;

    /// Deletes runs that have expired with their steps, history and metadata, and expired events that no remaining run was started
    /// by and no gathering holds, what rate limits need no longer remember, and what was noted of slots older than expired
    /// events; at most `limit` of each. Answers how much of all that went, but for the notes.
    async fn purge(&self, expiry: &Expiry, limit: usize) -> Result<u64, StoreError>;

    /// Dead letters from new to old.
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Page<DeadLetter>, StoreError>;

    /// A dead letter; `None` if there is none, or none any more.
    async fn dead_letter(&self, id: LetterId) -> Result<Option<DeadLetter>, StoreError>;

    /// A sign of life of a node. Answers the revision of the catalog. Nodes that gave none for a day are forgotten.
    async fn beat(&self, node: &Node, now: Timestamp) -> Result<u64, StoreError>;

    /// The nodes that have given a sign of life and have not left, by name.
    async fn nodes(&self) -> Result<Vec<NodeView>, StoreError>;

    /// A node has ended in order.
    async fn leave(&self, node: NodeId) -> Result<(), StoreError>;

    /// Takes a turn at what one node at a time should do, until a time that may be put off by taking it again. Answers
    /// whether it is the holder's: whether nobody else has it, or has had it until a time that has passed. Turns save
    /// work; nothing rests on there being one holder only.
    async fn take_turn(&self, turn: &str, holder: NodeId, now: Timestamp, until: Timestamp)
    -> Result<bool, StoreError>;

    /// Sizes for people and metrics.
    async fn counts(&self) -> Result<Counts, StoreError>;

    /// A cheap question to see whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;
}
