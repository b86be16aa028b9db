//! The leases that this process holds, as it knows them. Pure.

use std::collections::HashMap;

use callboard_actors::domain::{FunctionId, RunId};
use callboard_actors::ports::Lease;

use super::codec;
use super::exchange::HeldArg;

/// Leases by the name of their job, and how many each function has.
#[derive(Debug, Default)]
pub(super) struct Held {
    leases: HashMap<String, Lease>,
    counts: HashMap<FunctionId, usize>,
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn insert(&mut self, field: String, lease: Lease) {
        *self.counts.entry(lease.job.function).or_default() += 1;
        if let Some(old) = self.leases.insert(field, lease) {
            self.uncount(old.job.function);
        }
    }

    /// Takes a lease out; `None` if it is not held, or under another epoch.
    pub(super) fn remove(&mut self, field: &str, epoch: u64) -> Option<Lease> {
        self.leases.get(field).filter(|lease| lease.epoch == epoch)?;
        self.discard(field)
    }

    /// Takes a lease out, whatever its epoch.
    pub(super) fn discard(&mut self, field: &str) -> Option<Lease> {
        let lease = self.leases.remove(field)?;
        self.uncount(lease.job.function);
        Some(lease)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn count_of(&self, function: FunctionId) -> usize {
        self.counts.get(&function).copied().unwrap_or(0)
    }

    pub(super) fn highest_epoch(&self) -> u64 {
        self.leases.values().map(|lease| lease.epoch).max().unwrap_or(0)
    }

    /// How many more leases a function may have, for the functions where that is less than `wanted`, or none at all.
    pub(super) fn rooms(&self, limit: usize, wanted: usize) -> Vec<(FunctionId, usize)> {
        self.counts
            .iter()
            .map(|(function, count)| (*function, limit.saturating_sub(*count)))
            .filter(|(_, room)| *room < wanted || *room == 0)
            .collect()
    }

    /// All of them, for comparing; with their jobs if they may have to be made again.
    pub(super) fn to_args(&self, with_jobs: bool) -> Vec<HeldArg> {
        self.leases
            .iter()
            .map(|(field, lease)| HeldArg {
                field: field.clone(),
                epoch: lease.epoch,
                since: lease.since,
                version: if with_jobs {
                    codec::version(&lease.job)
                } else {
                    String::new()
                },
            })
            .collect()
    }

    pub(super) fn of_run(&self, run: RunId) -> Vec<Lease> {
        self.leases
            .values()
            .filter(|lease| lease.job.id.run == run)
            .cloned()
            .collect()
    }

    fn uncount(&mut self, function: FunctionId) {
        if let Some(count) = self.counts.get_mut(&function) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&function);
            }
        }
    }
}
