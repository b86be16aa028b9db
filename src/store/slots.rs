//! Claims of run slots that come together, as both stores decide them: what is asked of the database, and what is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use callboard_actors::domain::{BucketId, RunId};
use callboard_actors::ports::{SlotClaim, Standing};

/// The claims of one transaction, each run's once.
pub(super) struct Taking<'a>(BTreeMap<RunId, &'a SlotClaim>);

impl<'a> Taking<'a> {
    pub(super) fn of(claims: &'a [SlotClaim]) -> Self {
        Self(claims.iter().map(|claim| (claim.run, claim)).collect())
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = RunId> {
        self.0.keys().copied()
    }

    /// Each once; their places are what [`Taking::decide`] knows them by.
    pub(super) fn buckets(&self) -> impl Iterator<Item = BucketId> {
        let buckets: BTreeSet<_> = self.0.values().map(|claim| claim.bucket).collect();
        buckets.into_iter()
    }

    /// Whose claims are granted, by who is in the buckets (by their places), and which claimants have not ended and whether
    /// they hold a slot.
    pub(super) fn decide(&self, standings: &HashMap<usize, Standing>, claimants: &HashMap<RunId, bool>) -> Taken<'a> {
        let asks = |claim: &&SlotClaim| claimants.get(&claim.run).is_some_and(|is_held| !is_held);
        let mut fresh = Vec::new();
        for (place, bucket) in self.buckets().enumerate() {
            let claims = self.0.values().copied().filter(|claim| claim.bucket == bucket);
            let claims: Vec<_> = claims.filter(asks).collect();
            let standing = standings.get(&place).copied().unwrap_or_default();
            let granted = standing.grant(claims.iter().copied());
            fresh.extend(claims.into_iter().map(|claim| (claim, granted.contains(&claim.run))));
        }
        Taken { fresh }
    }
}

/// What has been decided.
pub(super) struct Taken<'a> {
    /// Claims of open runs that held no slot, and whether they do now.
    pub(super) fresh: Vec<(&'a SlotClaim, bool)>,
}

impl Taken<'_> {
    /// Runs whose starts are to be parked.
    pub(super) fn parked(&self) -> impl Iterator<Item = RunId> {
        self.fresh
            .iter()
            .filter(|(_, is_held)| !is_held)
            .map(|(claim, _)| claim.run)
    }

    /// The answers to the claims as they came.
    pub(super) fn answers(&self, claims: &[SlotClaim]) -> Vec<bool> {
        let parked: BTreeSet<_> = self.parked().collect();
        claims.iter().map(|claim| !parked.contains(&claim.run)).collect()
    }
}
