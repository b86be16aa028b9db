//! Run slots.

use async_trait::async_trait;

use super::FakeStore;
use crate::domain::{BucketId, FunctionId, Job, JobKey, RuleId, RunId, Timestamp};
use crate::ports::{KeyFlow, PARKED, Place, RunSlots, SlotClaim, SlotLimits, SlotPlace, StoreError, Waiting};

/// A row: who claims, and whether he has it.
pub(super) type Row = (SlotClaim, bool);

impl super::Inner {
    fn is_open(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|run| !run.status.is_final())
    }

    /// Those of a bucket whose runs are open, held or waiting, from old to young.
    fn slots_in(&self, bucket: BucketId, held: bool) -> Vec<SlotClaim> {
        let rows = self.run_slots.values();
        let rows = rows.filter(|(of, is_held)| of.bucket == bucket && *is_held == held && self.is_open(of.run));
        let mut claims: Vec<_> = rows.map(|(claim, _)| claim.clone()).collect();
        claims.sort_by_key(|claim| (claim.rank, claim.run));
        claims
    }

    /// As if it were the only claim.
    fn take_slot(&mut self, claim: &SlotClaim) {
        if !self.is_open(claim.run) {
            self.run_slots.remove(&claim.run);
            return;
        }
        let others = self.slots_in(claim.bucket, true);
        let held = others.iter().filter(|of| of.run != claim.run).count();
        let first = self.slots_in(claim.bucket, false).into_iter().next();
        let is_first = first.is_none_or(|of| (of.rank, of.run) >= (claim.rank, claim.run));
        let has_room = is_first && held < usize::try_from(claim.limit).expect("small");
        let row = self.run_slots.entry(claim.run).or_insert((claim.clone(), false));
        row.1 |= has_room;
        if !row.1 {
            self.put_off(claim.run, PARKED);
        }
    }

    fn put_off(&mut self, run: RunId, due: Timestamp) -> Option<Job> {
        let jobs = self.jobs.values_mut();
        let mut start = jobs.filter(|job| job.id.run == run && job.id.key == JobKey::Start);
        start.next().map(|job| {
            job.due = due;
            job.clone()
        })
    }
}

#[async_trait]
impl RunSlots for FakeStore {
    async fn take_slots(&self, claims: &[SlotClaim]) -> Result<Vec<bool>, StoreError> {
        let mut inner = self.lock();
        let mut by_age: Vec<_> = claims.iter().collect();
        by_age.sort_by_key(|claim| (claim.rank, claim.run));
        for claim in by_age {
            inner.take_slot(claim);
        }
        let has_slot = |claim: &SlotClaim| inner.run_slots.get(&claim.run).is_none_or(|(_, is_held)| *is_held);
        Ok(claims.iter().map(has_slot).collect())
    }

    async fn admit(
        &self,
        chosen: Option<&[BucketId]>,
        limits: &SlotLimits,
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let mut inner = self.lock();
        let ended: Vec<_> = inner
            .run_slots
            .keys()
            .copied()
            .filter(|run| !inner.is_open(*run))
            .collect();
        for run in ended {
            inner.run_slots.remove(&run);
        }
        let mut buckets: Vec<_> = inner.run_slots.values().map(|(of, _)| of.bucket).collect();
        buckets.retain(|of| chosen.is_none_or(|chosen| chosen.contains(of)));
        buckets.sort_unstable();
        buckets.dedup();
        let mut jobs = Vec::new();
        for bucket in buckets {
            let claims = inner.slots_in(bucket, false);
            let waiting: Vec<_> = claims
                .iter()
                .map(|of| Waiting {
                    run: of.run,
                    function: of.function,
                    rule: of.rule,
                    is_open: true,
                })
                .collect();
            let held = inner.slots_in(bucket, true).len();
            for of in &claims[..limits.admitted(held, &waiting, most - jobs.len())] {
                inner.run_slots.insert(of.run, (of.clone(), true));
                let job = inner.put_off(of.run, now);
                jobs.extend(job.map(|job| Job {
                    gates: job.gates.without_throttle(),
                    ..job
                }));
            }
        }
        Ok(jobs)
    }

    async fn run_slots(&self, function: FunctionId) -> Result<Vec<(RuleId, KeyFlow)>, StoreError> {
        let inner = self.lock();
        let mut flows: Vec<(BucketId, RuleId, KeyFlow)> = Vec::new();
        for (claim, _) in inner.run_slots.values().filter(|(claim, _)| claim.function == function) {
            if flows.iter().any(|(bucket, ..)| *bucket == claim.bucket) || !inner.is_open(claim.run) {
                continue;
            }
            let waiting = inner.slots_in(claim.bucket, false);
            let mine: Vec<_> = waiting.iter().filter(|of| of.function == function).collect();
            let flow = KeyFlow {
                key: claim.key.clone(),
                in_use: inner.slots_in(claim.bucket, true).len(),
                waiting: mine.len(),
                oldest: mine.iter().map(|of| of.run.at()).min(),
                next: None,
            };
            flows.push((claim.bucket, claim.rule, flow));
        }
        Ok(flows.into_iter().map(|(_, rule, flow)| (rule, flow)).collect())
    }

    async fn slot_place(&self, run: RunId) -> Result<Option<SlotPlace>, StoreError> {
        let inner = self.lock();
        let Some((claim, false)) = inner.run_slots.get(&run) else {
            return Ok(None);
        };
        let waiting = inner.slots_in(claim.bucket, false);
        let ahead = waiting.iter().take_while(|of| of.run != run).count();
        Ok(inner.is_open(run).then(|| SlotPlace {
            key: claim.key.clone(),
            ahead: ahead.min(Place::MOST),
        }))
    }
}
