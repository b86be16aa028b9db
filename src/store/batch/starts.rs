//! Which of the runs that a segment is to create get past their rate limits and locks.
//!
//! Claims on a bucket are decided in the order of the writes, as if each had been a batch of its own; what comes of them
//! is written once for each bucket. Locks that runs give up in the segment are free from its beginning: whoever wants
//! one was there at the same time.

use std::collections::{BTreeMap, HashMap, HashSet};

use callboard_actors::domain::{ClaimId, Event, GatheringId, Job, Level, NewRun, RateClaim, RunId, SkipReason, Write};
use callboard_actors::engine::{Lock, lock, rate_limit};

use super::{joins, new_runs};

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
    /// Joins that don't pass their rate limit.
    pub(in crate::store) refused_joins: HashMap<GatheringId, Refused>,
}

/// Whether a run claims anything that is decided here.
pub(in crate::store) fn has_claims(run: &NewRun) -> bool {
    run.rate.is_some() || run.lock.is_some()
}

impl Starts {
    /// Decides on the runs and joins of these writes, in order. Those runs in `known` are left out for other reasons, and
    /// claim nothing; nor do the joins of writes that have `lost`.
    pub(in crate::store) fn decide<'a>(
        writes: impl Iterator<Item = &'a Write>,
        known: &HashSet<RunId>,
        lost: &HashSet<GatheringId>,
        mut buckets: Buckets,
    ) -> Self {
        let mut starts = Self::default();
        for write in writes {
            let runs = new_runs(write).iter();
            for run in runs.filter(|run| has_claims(run) && !known.contains(&run.state.id)) {
                if let Err(refused) = starts.pass(run, &mut buckets) {
                    starts.refused.insert(run.state.id, refused);
                }
            }
            for join in joins(write).iter().filter(|join| !lost.contains(&join.id)) {
                if let Some(claim) = &join.rate
                    && let Err(refused) = starts.pass_rate(claim, &mut buckets)
                {
                    starts.refused_joins.insert(join.id, refused);
                }
            }
        }
        starts
    }

    fn pass_rate(&mut self, claim: &RateClaim, buckets: &mut Buckets) -> Result<(), Refused> {
        let level = buckets.levels.get(&claim.bucket).copied();
        let level = rate_limit::admit(level, claim.rate, claim.at).map_err(|opens| Refused {
            reason: claim.reason,
            detail: format!("{}{opens}", claim.rule),
            refusal: claim.refusal.clone(),
        })?;
        buckets.levels.insert(claim.bucket, level);
        self.levels.insert(claim.bucket, level);
        Ok(())
    }

    fn pass(&mut self, run: &NewRun, buckets: &mut Buckets) -> Result<(), Refused> {
        let id = run.state.id;
        if let Some(claim) = &run.rate {
            self.pass_rate(claim, buckets)?;
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
