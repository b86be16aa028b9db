//! An operation: what an operator has done to many runs, one after another.
//!
//! A plain record that survives restarts. How far it has come is written down before and after each page, so whoever goes
//! on with it does no run twice; see [`crate::steward`].

use serde::{Deserialize, Serialize};

use super::{FunctionId, LetterId, OperationId, RunId, RunStatus, Timestamp};

/// What is done to the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Runs that have not ended are cancelled.
    Cancel,
    /// Runs that have ended are done again.
    Replay,
    /// Runs that failed are done again, unless that has been done, and jobs that were given up are tried again.
    RetryFailed,
}

impl OperationKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Cancel, Self::Replay, Self::RetryFailed];

    /// Its name, as stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Replay => "replay",
            Self::RetryFailed => "retry_failed",
        }
    }

    /// From its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The statuses of runs that it can be about.
    #[must_use]
    pub const fn statuses(self) -> &'static [RunStatus] {
        match self {
            Self::Cancel => &[RunStatus::Queued, RunStatus::Running],
            Self::Replay => &[RunStatus::Completed, RunStatus::Failed, RunStatus::Cancelled],
            Self::RetryFailed => &[RunStatus::Failed],
        }
    }
}

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// There is more to do.
    Running,
    /// All is done.
    Finished,
    /// An operator has stopped it. What was done is done.
    Cancelled,
}

impl OperationState {
    /// Its name, as stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Which runs it is about. Everything set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationFilter {
    /// Of these functions; all if `None`.
    pub functions: Option<Vec<FunctionId>>,
    /// In one of these statuses, out of those that [the kind](OperationKind::statuses) can be about; all of them if empty.
    pub statuses: Vec<RunStatus>,
    /// Created then or later.
    pub from: Option<Timestamp>,
    /// Created before; never after the operation itself, so that it does not meet its own runs.
    pub until: Option<Timestamp>,
    /// An expression over `event`, the first that started the run.
    pub condition: Option<String>,
}

/// How sure a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// It was that when it was counted.
    Exact,
    /// From a sample.
    Estimate,
    /// Counting stopped there.
    AtLeast,
}

/// A number of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// How many.
    pub count: u64,
    /// How sure that is.
    pub precision: Precision,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Runs cancelled or done again, and jobs put back.
    pub done: u64,
    /// Runs with which that did not work.
    pub failed: u64,
    /// Runs that were left as they are: they had ended before, have been done again already, or may not be.
    pub skipped: u64,
}

/// A thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// To a run.
    Run(RunId),
    /// About a job that was given up.
    Letter(LetterId),
}

/// Where an operation is in its list, which runs from new to old: dead letters first, if it is about them, then runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The last dead letter that was looked at.
    pub letter: Option<LetterId>,
    /// Whether all of them were.
    pub letters_done: bool,
    /// The last run that was looked at.
    pub run: Option<RunId>,
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Which; its time part is when it was asked for.
    pub id: OperationId,
    /// What is done.
    pub kind: OperationKind,
    /// To which runs.
    pub filter: OperationFilter,
    /// Runs done again per second, at the most.
    pub rate: u32,
    /// How many it was thought to be about when it was asked for.
    pub total: Estimate,
    /// Where it stands.
    pub state: OperationState,
    /// What was done so far. After a crash in the middle of a page, jobs put back in it count as skipped.
    pub progress: Progress,
    /// Where it is in its list.
    pub cursor: Cursor,
    /// What is being done now, written down before it is begun.
    pub page: Vec<Item>,
    /// When that was. Runs that are done again are of that time, so that doing it twice makes one.
    pub page_at: Option<Timestamp>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it finished or was cancelled.
    pub ended_at: Option<Timestamp>,
    /// Counts its changes; the next one has to name it.
    pub version: u64,
}
