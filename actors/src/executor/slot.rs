//! What an executor keeps of a run while it is at work on it.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::assignment::Assignment;
use crate::domain::RunState;
use crate::engine::Input;

/// A run an executor is at work on.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Its state, unless it is being loaded or a decision about it is being committed.
    pub(super) state: Option<Box<RunState>>,
    /// Whether it is being loaded, or a decision is being committed.
    pub(super) is_busy: bool,
    /// Calls in flight.
    pub(super) calls: usize,
    /// When the reply came that the next call follows from.
    pub(super) replied_at: Option<Instant>,
    /// What is to be decided upon, in order.
    pub(super) tasks: VecDeque<Task>,
}

/// A job that has come due, or come back from its call.
#[derive(Debug)]
pub(super) struct Task {
    /// The job.
    pub(super) assignment: Assignment,
    /// What it has come to, once that is known: what its call brought, or what a decision that lost was about.
    pub(super) input: Option<Input>,
    /// Decisions on it that lost against somebody faster.
    pub(super) tries: u32,
    /// Whether it looked as if the run had moved past it, and the run was loaded anew to be sure.
    pub(super) is_doubted: bool,
}

impl Task {
    /// A job that has come due.
    pub(super) fn new(assignment: Assignment) -> Self {
        Self {
            assignment,
            input: None,
            tries: 0,
            is_doubted: false,
        }
    }

    /// A job whose run is known to have begun, as of this moment.
    pub(super) fn begun(assignment: Assignment) -> Self {
        Self {
            is_doubted: true,
            ..Self::new(assignment)
        }
    }
}
