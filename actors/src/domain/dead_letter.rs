//! A job that was given up, held for an operator to decide upon.
//!
//! It is what owns its run meanwhile (P4): the run stays open until the job is put back, until it is failed with the
//! letter's reason, or until it ends some other way, which takes the letter along.

use super::{Job, LetterId, Timestamp};

/// A job that was given up. A run has at most one for each of its jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its id: a job that is given up again gets another letter.
    pub id: LetterId,
    /// The whole job, as it was when it was given up.
    pub job: Job,
    /// Why it was given up, such as how often it brought its executor down.
    pub reason: String,
}

impl DeadLetter {
    /// A job that is given up now. `version` is the run's, which tells this letter from others of the same job.
    #[must_use]
    pub fn new(job: Job, reason: String, version: u64, now: Timestamp) -> Self {
        Self {
            id: LetterId::derive(now, &job.id, version),
            job,
            reason,
        }
    }

    /// When it was given up.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.id.at()
    }
}
