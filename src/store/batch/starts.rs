//! Which of the runs that a segment is to create get past their rate limits and locks.
//!
//! Claims on a bucket are decided in the order of the writes, as if each had been a batch of its own; what comes of them
//! is written once for each bucket. Locks that runs give up in the segment are free from its beginning: whoever wants
//! one was there at the same time.

use std::collections::{BTreeMap, HashMap, HashSet};

use callboard_actors::domain::{ClaimId, Event, Job, Level, NewRun, RunId, SkipReason};
use callboard_actors::engine::{Lock, lock, rate_limit};

/// What the database holds of the buckets that a segment is about.
#[derive(Debug, Default)]
pub(in crate::store) struct Buckets {
    pub(in crate::store) levels: HashMap<ClaimId, Level>,
    pub(in crate::store) holders: HashMap<ClaimId, RunId>,
}

/// A run that is not created.
#[derive(Debug)]
pub(in crate::store) struct Refused {
    pub(in crate::store) reason: SkipReason,
    pub(in crate::store) detail: String,
    /// The event that tells whoever invoked it.
    pub(in crate::store) refusal: Option<Box<Event>>,
}

/// What comes of a segment's claims.
#[derive(Debug, Default)]
pub(in crate::store) struct Starts {
    pub(in crate::store) refused: HashMap<RunId, Refused>,
    /// What rate limits remember now.
    pub(in crate::store) levels: BTreeMap<ClaimId, Level>,
    /// Who holds locks now.
    pub(in crate::store) holders: BTreeMap<ClaimId, RunId>,
    /// Jobs for those who held them, by the new run.
    pub(in crate::store) evictions: HashMap<RunId, Job>,
}

/// Whether a run claims anything that is decided here.
pub(in crate::store) fn has_claims(run: &NewRun) -> bool {
    run.rate.is_some() || run.lock.is_some()
}

impl Starts {
    /// Decides on these runs, in order. Those in `known` are left out for other reasons, and claim nothing.
    pub(in crate::store) fn decide<'a>(
        runs: impl Iterator<Item = &'a NewRun>,
        known: &HashSet<RunId>,
        mut buckets: Buckets,
    ) -> Self {
        let mut starts = Self::default();
        for run in runs.filter(|run| has_claims(run) && !known.contains(&run.state.id)) {
            if let Err(refused) = starts.pass(run, &mut buckets) {
                starts.refused.insert(run.state.id, refused);
            }
        }
        starts
    }

    fn pass(&mut self, run: &NewRun, buckets: &mut Buckets) -> Result<(), Refused> {
        let id = run.state.id;
        if let Some(claim) = &run.rate {
            let level = buckets.levels.get(&claim.bucket).copied();
            let level = rate_limit::admit(level, claim.rate, claim.at).map_err(|opens| Refused {
                reason: claim.reason,
                detail: format!("{}{opens}", claim.rule),
                refusal: claim.refusal.clone(),
            })?;
            buckets.levels.insert(claim.bucket, level);
            self.levels.insert(claim.bucket, level);
        }
        if let Some(claim) = &run.lock {
            match lock(buckets.holders.get(&claim.bucket).copied(), claim.mode) {
                Lock::Held => {}
                Lock::Taken(holder) => {
                    let job = claim.eviction(run.state.function, holder, id);
                    self.evictions.insert(id, job);
                }
                Lock::Refused(holder) => {
                    return Err(Refused {
                        reason: SkipReason::Singleton,
                        detail: format!("{}{holder}", claim.rule),
                        refusal: claim.refusal.clone(),
                    });
                }
            }
            buckets.holders.insert(claim.bucket, id);
            self.holders.insert(claim.bucket, id);
        }
        Ok(())
    }
}
