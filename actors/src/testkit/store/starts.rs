//! Runs that are to be created: which of them are.

use super::Inner;
use crate::domain::{ClaimId, EventId, Job, Joined, LeftOut, NewRun, RunId, Skip, SkipReason, WaitKey, Written};
use crate::engine::{Lock, lock, rate_limit};

/// What came of runs to be created.
#[derive(Default)]
pub(super) struct Created {
    left_out: Vec<LeftOut>,
    evictions: Vec<Job>,
    pub(super) joined: Joined,
    /// Refusals that have to be routed.
    pub(super) unrouted: Vec<EventId>,
}

impl Created {
    pub(super) fn into_written(self, missed: Vec<(RunId, WaitKey)>) -> Written {
        Written::Done {
            left_out: self.left_out,
            missed,
            unrouted: self.unrouted,
            evictions: self.evictions,
            joined: self.joined,
        }
    }
}

impl Inner {
    pub(super) fn create(&mut self, runs: &[NewRun]) -> Created {
        let mut created = Created::default();
        for run in runs {
            let id = run.state.id;
            match self.claim(run, &mut created) {
                Ok(()) => {
                    if let Some(key) = run.idempotency.clone() {
                        self.keys.insert((run.state.function, key), id);
                    }
                    self.runs.insert(id, run.state.clone());
                    for job in [Some(&run.job), run.deadline.as_ref()].into_iter().flatten() {
                        self.jobs.insert(job.id.clone(), job.clone());
                    }
                    for wait in &run.waits {
                        self.waits.insert((id, wait.key.to_string()), wait.clone());
                    }
                }
                Err(reason) => {
                    created.left_out.push(LeftOut { run: id, reason });
                    self.skips.extend(reason.map(|reason| Skip {
                        event: run.cause(),
                        function: Some(run.state.function),
                        reason,
                        detail: String::new(),
                    }));
                }
            }
        }
        created
    }

    /// A run gives a lock up, if it still holds it.
    pub(super) fn release(&mut self, lock: ClaimId, run: RunId) {
        if self.locks.get(&lock) == Some(&run) {
            self.locks.remove(&lock);
        }
    }

    /// Whether a run gets all it claims; if not, why.
    fn claim(&mut self, run: &NewRun, created: &mut Created) -> Result<(), Option<SkipReason>> {
        let id = run.state.id;
        if self.runs.contains_key(&id) {
            return Err(None);
        }
        let key = run.idempotency.clone().map(|key| (run.state.function, key));
        if key.is_some_and(|key| self.keys.contains_key(&key)) {
            return Err(Some(SkipReason::Duplicate));
        }
        if let Some(rate) = &run.rate {
            let level = self.levels.get(&rate.bucket).copied();
            let Ok(level) = rate_limit::admit(level, rate.rate, rate.at) else {
                let refusal = rate.refusal.iter();
                created
                    .unrouted
                    .extend(refusal.flat_map(|event| self.put_event(event, true)));
                return Err(Some(rate.reason));
            };
            self.levels.insert(rate.bucket, level);
        }
        if let Some(claim) = &run.lock {
            match lock(self.locks.get(&claim.bucket).copied(), claim.mode) {
                Lock::Held => {}
                Lock::Taken(holder) => {
                    let job = claim.eviction(run.state.function, holder, id);
                    self.jobs.insert(job.id.clone(), job.clone());
                    created.evictions.push(job);
                }
                Lock::Refused(_) => {
                    let refusal = claim.refusal.iter();
                    created
                        .unrouted
                        .extend(refusal.flat_map(|event| self.put_event(event, true)));
                    return Err(Some(SkipReason::Singleton));
                }
            }
            self.locks.insert(claim.bucket, id);
        }
        Ok(())
    }
}
