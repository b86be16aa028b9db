//! A run's state: all that deciding its next move takes.
//!
//! The state changes only by [`RunState::apply`]. The store writes the same [`Change`]s as rows, and reading those rows
//! back gives the same state: memory and database can't tell different stories, and a copy that has gone stale is
//! found out by its [`RunState::version`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{
    CallRef, Change, ClaimId, DeadLetter, Deferral, EventId, FunctionId, Gates, GatheringId, JobKey, Json, Priority,
    RunId, Step, StepId, StepState, Timestamp,
};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// No call has gone out yet.
    Queued,
    /// The app has been called; sleeping and waiting included.
    Running,
    /// The function returned.
    Completed,
    /// It failed for good.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl RunStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Queued,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The stored name, in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// From the stored name, in any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str().eq_ignore_ascii_case(text))
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// The state of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunState {
    /// Which run; its time part is when it was created.
    pub id: RunId,
    /// Of which function.
    pub function: FunctionId,
    /// Counts the committed decisions; the next one has to name it.
    pub version: u64,
    /// Where it stands.
    pub status: RunStatus,
    /// Name of the event that started it.
    pub event_name: String,
    /// The events that started it.
    pub event_ids: Vec<EventId>,
    /// Their bodies.
    pub events: Arc<[Json]>,
    /// Version of the request protocol, -1 until the first reply tells.
    pub request_version: i32,
    /// Whether the SDK must not run a step that it finds, because siblings are under way.
    pub plan_only: bool,
    /// Steps of the current parallel group that have not completed.
    pub group: BTreeSet<StepId>,
    /// All steps reported so far, in that order.
    pub steps: IndexMap<StepId, Step>,
    /// Completed steps in the order of completion.
    pub stack: Vec<StepId>,
    /// What is going to happen: the run's jobs, each with the attempts made before.
    pub jobs: BTreeMap<JobKey, u32>,
    /// What it has put off until its end, in that order.
    pub deferrals: IndexMap<StepId, Deferral>,
    /// The call that was the last to report steps while it was under way, or to take the place of one that had.
    pub reporter: Option<CallRef>,
    /// What was given up and holds the run until somebody decides.
    pub held: BTreeMap<JobKey, DeadLetter>,
    /// Its head start over runs of the same age.
    pub priority: Priority,
    /// What its calls have to pass, worked out from its first event.
    pub gates: Gates,
    /// When its first call went out.
    pub started_at: Option<Timestamp>,
    /// The lock that it was created with; another run may have taken it since.
    pub lock: Option<ClaimId>,
    /// The gathering whose events it has, if they are a batch.
    pub batch: Option<GatheringId>,
    /// The first run of those of which it is a repetition.
    pub original: Option<RunId>,
    /// What an operator has changed in it.
    pub edited: Option<EditedStep>,
}

/// A step that an operator gives other arguments than the function does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditedStep {
    /// Which.
    pub step: StepId,
    /// The arguments: a JSON array.
    pub input: Json,
}

impl RunState {
    /// A run that is about to be created, without its first job.
    #[must_use]
    pub fn new(
        id: RunId,
        function: FunctionId,
        event_name: String,
        event_ids: Vec<EventId>,
        events: Arc<[Json]>,
    ) -> Self {
        Self {
            id,
            function,
            version: 0,
            status: RunStatus::Queued,
            event_name,
            event_ids,
            events,
            request_version: -1,
            plan_only: false,
            group: BTreeSet::new(),
            steps: IndexMap::new(),
            stack: Vec::new(),
            jobs: BTreeMap::new(),
            deferrals: IndexMap::new(),
            reporter: None,
            held: BTreeMap::new(),
            priority: Priority::NONE,
            gates: Gates::NONE,
            started_at: None,
            lock: None,
            batch: None,
            original: None,
            edited: None,
        }
    }

    /// When it was created.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.id.at()
    }

    /// Whether the run reports on other runs. It emits no lifecycle events then, or handlers of handlers would never end.
    #[must_use]
    pub fn is_observer(&self) -> bool {
        const REPORTS: [&str; 2] = ["inngest/function.failed", "inngest/function.finished"];
        let further = self.events.get(1..).unwrap_or_default().iter();
        // Most bodies need not be parsed for it.
        let mut suspects = further.filter(|body| REPORTS.iter().any(|name| body.as_str().contains(name)));
        REPORTS.contains(&self.event_name.as_str())
            || suspects.any(|body| {
                let body = body.to_tree();
                let name = body.get("name").and_then(serde_json::Value::as_str);
                name.is_some_and(|name| REPORTS.contains(&name))
            })
    }

    /// Attempts at a job that count against it, of this many: not those from before it last reported a step.
    #[must_use]
    pub fn counted_attempts(&self, job: &JobKey, attempt: u32) -> u32 {
        let reporter = self.reporter.as_ref().filter(|reporter| reporter.job == *job);
        attempt - reporter.map_or(0, |reporter| reporter.attempt.min(attempt))
    }

    /// Whether another call for the same attempt, made later than this one, has taken its place.
    #[must_use]
    pub fn has_superseded(&self, call: &CallRef) -> bool {
        let reporter = self.reporter.as_ref().filter(|reporter| reporter.is_beside(call));
        reporter.is_some_and(|reporter| reporter.request > call.request)
    }

    /// Whether something is going to bring it on, or somebody to decide (P4).
    #[must_use]
    pub fn is_owned(&self) -> bool {
        self.jobs.keys().chain(self.held.keys()).any(JobKey::is_owner)
    }

    /// What the app is told of a step that was edited and has not run: `{"input":[…]}`, in the place of its memo.
    #[must_use]
    pub fn edited_input(&self) -> Option<(StepId, Json)> {
        let edited = self.edited.as_ref()?;
        let is_done = self.steps.get(&edited.step).is_some_and(Step::is_done);
        (!is_done).then(|| (edited.step.clone(), edited.input.wrapped("input")))
    }

    /// Bytes of all memos.
    #[must_use]
    pub fn memo_bytes(&self) -> usize {
        self.steps.values().filter_map(Step::memo).map(Json::len).sum()
    }

    /// Bytes of what all functions that are put off are to be given.
    #[must_use]
    pub fn deferred_bytes(&self) -> usize {
        self.deferrals.values().map(Deferral::input_bytes).sum()
    }

    /// Roughly what the state costs in memory, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let events: usize = self.events.iter().map(Json::len).sum();
        let edited = self.edited.as_ref().map_or(0, |edited| edited.input.len());
        let deferred = self.deferred_bytes() + self.deferrals.len() * 256;
        512 + events + edited + deferred + self.memo_bytes() + self.steps.len() * 256
    }

    /// Makes one committed change true here as well.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Started { at } => {
                self.status = RunStatus::Running;
                self.started_at = Some(*at);
            }
            Change::RequestVersion(version) => self.request_version = *version,
            Change::PlanOnly(on) => self.plan_only = *on,
            Change::Group(group) => self.group.clone_from(group),
            // A recorded result never changes (P3).
            Change::StepPut(step) if self.steps.get(&step.id).is_some_and(Step::is_done) => {}
            Change::StepPut(step) => {
                if let StepState::Done { .. } = step.state {
                    self.stack.push(step.id.clone());
                }
                self.steps.insert(step.id.clone(), step.clone());
            }
            Change::JobPut(job) => {
                self.jobs.insert(job.id.key.clone(), job.attempt);
            }
            Change::JobDone(key) => {
                self.jobs.remove(key);
            }
            Change::Ended { status, .. } => {
                self.status = *status;
                self.jobs.clear();
                self.held.clear();
                self.group.clear();
            }
            Change::Buried(letter) => {
                self.jobs.remove(&letter.job.id.key);
                self.held.insert(letter.job.id.key.clone(), letter.clone());
            }
            Change::Unburied(key) => {
                self.held.remove(key);
            }
            Change::Deferred(deferral) => {
                self.deferrals.insert(deferral.id.clone(), deferral.clone());
            }
            Change::Reporter(call) => self.reporter = Some(call.clone()),
            Change::Released(_) | Change::WaitPut(_) | Change::WaitDone(_) | Change::Emit { .. } | Change::Noted(_) => {
            }
        }
    }
}
