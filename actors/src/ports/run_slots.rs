//! Run slots: how many runs may be between their first call and their end.
//!
//! A run's slot is the store's, not the queue's, because it is held over everything that a run does: sleeps, waits,
//! restarts, the loss of the queue. A slot is a row that names its run, and counts as long as the run has not ended, so no
//! path on which a run ends can forget to give it back, and nothing has to be put right after a crash: what counts is
//! what is true. Nobody pays for it but the runs of functions that have such a limit: a share in one more transaction
//! before the first call, and in one after the end. A slot held in the queue would have to be told of each end, found again after each
//! loss, and compared with the store for ends that nobody told.
//!
//! A start that finds no slot is *parked*: its job is put off to [`PARKED`] in the same transaction, so that nobody looks at
//! it, and it is due again in the transaction that gives it a slot. Whoever ends a run asks for that
//! ([`RunSlots::admit`]); should he die before, the scheduler does on its next sweep, as it does when limits have changed.

use async_trait::async_trait;

use super::{KeyFlow, StoreError};
use crate::domain::{BucketId, FunctionId, Job, RuleId, RunId, Timestamp};

/// When the job of a parked start is due: never, as far as anybody is concerned (the end of the year 9999).
pub const PARKED: Timestamp = Timestamp::from_millis(253_402_300_799_999);

/// A run that is about to begin asks for its slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotClaim {
    /// Which run.
    pub run: RunId,
    /// Of which function.
    pub function: FunctionId,
    /// Under which of its rules.
    pub rule: RuleId,
    /// With whom it counts.
    pub bucket: BucketId,
    /// The value of the rule's key, for people.
    pub key: String,
    /// How many may hold one.
    pub limit: u32,
    /// From when its age counts: of those that wait in a bucket, the oldest goes first, and nobody overtakes it.
    pub rank: Timestamp,
}

/// The numbers that count for the slots of several functions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotLimits {
    /// By function and rule. What is not here is not limited any more.
    pub limits: Vec<(FunctionId, RuleId, u32)>,
}

/// A run that waits for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub run: RunId,
    /// Of which function.
    pub function: FunctionId,
    /// Under which of its rules.
    pub rule: RuleId,
    /// Whether it has not ended.
    pub is_open: bool,
}

impl SlotLimits {
    /// The number that counts for this rule of a function.
    #[must_use]
    pub fn of(&self, function: FunctionId, rule: RuleId) -> Option<u32> {
        let mut limits = self.limits.iter();
        limits.find_map(|(of, known, limit)| (*of == function && *known == rule).then_some(*limit))
    }

    /// Of those who wait in a bucket, from old to young, how many go: as many as there is room for with `held` slots in use,
    /// and those who have ended. Nobody overtakes the first that does not.
    #[must_use]
    pub fn admitted(&self, mut held: usize, waiting: &[Waiting], most: usize) -> usize {
        let mut given = 0;
        let mut goes = |of: &Waiting| {
            if !of.is_open {
                return true;
            }
            let limit = self.of(of.function, of.rule);
            let has_room = limit.is_none_or(|limit| held < usize::try_from(limit).unwrap_or(usize::MAX));
            let goes = has_room && given < most;
            if goes {
                held += 1;
                given += 1;
            }
            goes
        };
        waiting.iter().take_while(|of| goes(of)).count()
    }
}

/// Who is in a bucket when slots of it are claimed, but for the claimants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Open runs that hold a slot.
    pub held: usize,
    /// The rank and run of the oldest open one that waits.
    pub first: Option<(Timestamp, RunId)>,
}

impl Standing {
    /// Whose claims are granted, of runs that hold no slot of this bucket yet: the oldest first, and nobody overtakes one who
    /// has to wait.
    pub fn grant<'a>(mut self, claims: impl IntoIterator<Item = &'a SlotClaim>) -> Vec<RunId> {
        let mut claims: Vec<_> = claims.into_iter().collect();
        claims.sort_unstable_by_key(|claim| (claim.rank, claim.run));
        let mut goes = |claim: &SlotClaim| {
            let is_first = self.first.is_none_or(|first| (claim.rank, claim.run) <= first);
            let has_room = self.held < usize::try_from(claim.limit).unwrap_or(usize::MAX);
            self.held += 1;
            is_first && has_room
        };
        let granted = claims.into_iter().take_while(|claim| goes(claim));
        granted.map(|claim| claim.run).collect()
    }
}

/// Where a run stands that waits for its slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotPlace {
    /// The value of the rule's key, for people.
    pub key: String,
    /// How many runs go before it; at most [`Place::MOST`](super::Place::MOST), which stands for more, too.
    pub ahead: usize,
}

/// The part of a store that is about run slots.
#[async_trait]
pub trait RunSlots {
    /// Whether each of the runs has a slot now: it had one, or there was one ([`Standing::grant`]). Otherwise its start is
    /// parked. A run that has ended needs none and gets the answer `true`. All in one transaction.
    async fn take_slots(&self, claims: &[SlotClaim]) -> Result<Vec<bool>, StoreError>;

    /// Gives slots to runs that wait, the oldest of a bucket first, as far as the limits allow: in these buckets, or in all.
    /// Answers their jobs, due at `now`: of at most `most` runs. Slots of runs that have ended go.
    async fn admit(
        &self,
        buckets: Option<&[BucketId]>,
        limits: &SlotLimits,
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<Job>, StoreError>;

    /// What is going on at the run slots of a function, by rule and key; keys in no particular order.
    async fn run_slots(&self, function: FunctionId) -> Result<Vec<(RuleId, KeyFlow)>, StoreError>;

    /// Where a run stands that waits for its slot; `None` if it does not.
    async fn slot_place(&self, run: RunId) -> Result<Option<SlotPlace>, StoreError>;
}
