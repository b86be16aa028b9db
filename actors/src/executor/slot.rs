//! What an executor keeps of a run while it is at work on it.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::report::Pending;
use crate::assignment::Assignment;
use crate::domain::{CallRef, RequestId, RunState};
use crate::engine::Input;

/// A run an executor is at work on.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Its state, unless it is being loaded or a decision about it is being committed.
    pub(super) state: Option<Box<RunState>>,
    /// As of when it is known: when it was last begun to be loaded, or a decision about it to be committed.
    pub(super) known_at: Option<Instant>,
    /// Whether it is being loaded, or a decision is being committed.
    pub(super) is_busy: bool,
    /// Calls in flight, and searches.
    pub(super) calls: usize,
    /// The calls in flight.
    pub(super) under_way: Vec<CallRef>,
    /// When the reply came that the next call follows from.
    pub(super) replied_at: Option<Instant>,
    /// What is to be decided upon, in order.
    pub(super) work: VecDeque<Work>,
}

/// Something to be decided upon.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are jobs")]
pub(super) enum Work {
    /// A job that has come due, or come back from its call.
    Job(Task),
    /// A report of a call.
    Report(Pending),
}

impl Slot {
    /// Next in line.
    pub(super) fn push_front(&mut self, task: Task) {
        self.work.push_front(Work::Job(task));
    }

    /// Last in line.
    pub(super) fn push_back(&mut self, task: Task) {
        self.work.push_back(Work::Job(task));
    }

    /// Has the run loaded anew before the job is looked at again.
    pub(super) fn doubt(&mut self, assignment: Assignment, tries: u32, doubts: u32) {
        self.state = None;
        self.push_front(Task {
            tries,
            doubts: doubts + 1,
            ..Task::new(assignment)
        });
    }
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
    /// How often it looked as if the run might have moved past it, and the run was loaded anew to be sure.
    pub(super) doubts: u32,
    /// Whether its run is known to hold the run slot that it needs.
    pub(super) has_slot: bool,
    /// The id of its call, if that has been announced.
    pub(super) request: Option<RequestId>,
}

impl Task {
    /// A job that has come due.
    pub(super) fn new(assignment: Assignment) -> Self {
        Self {
            assignment,
            input: None,
            tries: 0,
            doubts: 0,
            has_slot: false,
            request: None,
        }
    }

    /// A job whose run is known to have begun, as of this moment.
    pub(super) fn begun(assignment: Assignment) -> Self {
        Self {
            doubts: 1,
            has_slot: true,
            ..Self::new(assignment)
        }
    }
}
