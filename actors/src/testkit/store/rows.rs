//! What tests see of the store, and what they do to its rows behind everybody's back.

use super::FakeStore;
use crate::domain::{DeadLetter, Event, EventId, Job, RunId, RunState, RunStatus, SkipReason};

impl FakeStore {
    /// Sizes of the batches so far, failed ones included.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.lock().batches.clone()
    }

    /// Run states read so far.
    pub(crate) fn loads(&self) -> usize {
        self.lock().loads
    }

    /// How often jobs were asked for.
    pub(crate) fn due_queries(&self) -> usize {
        self.lock().due_queries
    }

    pub(crate) fn status(&self, run: RunId) -> Option<RunStatus> {
        self.lock().runs.get(&run).map(|run| run.status)
    }

    pub(crate) fn run(&self, run: RunId) -> Option<RunState> {
        self.lock().runs.get(&run).cloned()
    }

    pub(crate) fn runs(&self) -> Vec<RunState> {
        self.lock().runs.values().cloned().collect()
    }

    pub(crate) fn output(&self, run: RunId) -> Option<String> {
        self.lock().outputs.get(&run).map(ToString::to_string)
    }

    pub(crate) fn jobs(&self) -> Vec<Job> {
        self.lock().jobs.values().cloned().collect()
    }

    pub(crate) fn waits(&self) -> usize {
        self.lock().waits.len()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.lock().events.values().cloned().collect()
    }

    pub(crate) fn unrouted_count(&self) -> usize {
        self.lock().unrouted.len()
    }

    pub(crate) fn skips(&self) -> Vec<(EventId, SkipReason)> {
        self.lock().skips.iter().map(|skip| (skip.event, skip.reason)).collect()
    }

    pub(crate) fn dead(&self) -> Vec<DeadLetter> {
        self.lock().letters.values().cloned().collect()
    }

    /// Breaks P4 on purpose.
    pub(crate) fn lose_jobs(&self) {
        self.lock().jobs.clear();
    }

    /// Moves a run on behind everybody's back.
    pub(crate) fn bump(&self, run: RunId) {
        self.lock().runs.get_mut(&run).expect("a run").version += 1;
    }

    pub(crate) fn picture(&self) -> String {
        let inner = self.lock();
        format!(
            "runs {:#?}, jobs {:?}, waits {:?}, unrouted {:?}",
            inner.runs, inner.jobs, inner.waits, inner.unrouted
        )
    }
}
