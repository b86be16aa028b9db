//! A decision in the making: the changes so far, and the state with them applied.
//!
//! Every handler of the engine writes here, and here alone, so the state that the next handler sees and the rows that
//! will be written can't differ. The changes of one decision are a set as far as jobs and waits go: a job that is done
//! and put again is only put, and what a run leaves behind when it ends is left out.

use super::Context;
use crate::domain::{
    Change, Function, HistoryEntry, HistoryKind, Job, JobId, JobKey, Json, RunState, Step, StepId, Timestamp, WaitKey,
};

pub(super) struct Decision<'a> {
    pub(super) run: RunState,
    pub(super) function: &'a Function,
    pub(super) context: &'a Context<'a>,
    changes: Vec<Change>,
}

impl<'a> Decision<'a> {
    pub(super) fn new(run: RunState, function: &'a Function, context: &'a Context<'a>) -> Self {
        Self {
            run,
            function,
            context,
            changes: Vec::with_capacity(8),
        }
    }

    /// Adds a change and applies it.
    pub(super) fn push(&mut self, change: Change) {
        if self.run.status.is_final() && !matches!(change, Change::Emit { .. } | Change::Noted(_)) {
            return;
        }
        if let Change::Ended { .. } = change {
            // The store drops all jobs, waits and dead letters of a run that ends; those of this decision never come into
            // being.
            self.changes.retain(|change| {
                !matches!(
                    change,
                    Change::JobPut(_)
                        | Change::JobDone(_)
                        | Change::WaitPut(_)
                        | Change::WaitDone(_)
                        | Change::Buried(_)
                        | Change::Unburied(_)
                )
            });
        }
        self.run.apply(&change);
        self.changes.push(change);
    }

    /// A job is to be done, now or later. Putting one that exists already changes its time and attempt.
    pub(super) fn job_put(&mut self, key: JobKey, attempt: u32, due: Timestamp, payload: Option<Json>) {
        self.changes
            .retain(|change| !matches!(change, Change::JobDone(done) if *done == key));
        let gates = self.run.gates.of_job(&key, attempt);
        let id = JobId { run: self.run.id, key };
        self.push(Change::JobPut(Job {
            id,
            function: self.run.function,
            attempt,
            due,
            priority: self.run.priority,
            payload,
            gates,
        }));
    }

    /// A job is no longer to be done, nor to be decided upon if it was given up; nothing happens if it does not exist.
    pub(super) fn job_done(&mut self, key: &JobKey) {
        if self.run.held.contains_key(key) {
            self.push(Change::Unburied(key.clone()));
        }
        if self.run.jobs.contains_key(key) {
            self.changes
                .retain(|change| !matches!(change, Change::JobPut(job) if job.id.key == *key));
            self.push(Change::JobDone(key.clone()));
        }
    }

    /// A step is new or has moved on. What is done stays as it is (P3).
    pub(super) fn step_put(&mut self, step: Step) {
        if !self.run.steps.get(&step.id).is_some_and(Step::is_done) {
            self.push(Change::StepPut(step));
        }
    }

    pub(super) fn wait_done(&mut self, step: &StepId) {
        self.push(Change::WaitDone(WaitKey::Step(step.clone())));
    }

    pub(super) fn note(&mut self, kind: HistoryKind, step: Option<StepId>, attempt: u32, detail: Option<Json>) {
        self.push(Change::Noted(HistoryEntry {
            at: self.context.now,
            kind,
            step,
            attempt,
            detail,
        }));
    }

    /// The next state, one version on, and what leads there.
    pub(super) fn finish(mut self) -> (RunState, Vec<Change>) {
        if !self.changes.is_empty() {
            self.run.version += 1;
        }
        (self.run, self.changes)
    }
}
