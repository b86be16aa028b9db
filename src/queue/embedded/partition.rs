//! The jobs of one function, in the order they are served, and the functions in the order of their turns.
//!
//! [`Turns`] is what makes leasing fair: a function that has ready work and room waits in a ring, is served one job and
//! goes to the end of it. A function at its limit is parked outside the ring, so that no call walks past it.

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use callboard_actors::domain::{FunctionId, JobId, Limits, Priority, Timestamp};

use super::gatehouse::BucketSlot;
use super::slab::slab_key;

slab_key! {
    /// Where a job is.
    JobSlot
}

slab_key! {
    /// Where a partition is.
    PartitionSlot
}

/// The order in which the ready jobs of a function are served: older runs first, so that what was begun ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    counts_from: Timestamp,
    due: Timestamp,
    id: JobId,
}

impl Rank {
    pub(super) fn new(id: &JobId, priority: Priority, due: Timestamp) -> Self {
        Self {
            counts_from: priority.counts_from(id.run.at()),
            due,
            id: id.clone(),
        }
    }

    /// When the job was due.
    pub(super) fn due(&self) -> Timestamp {
        self.due
    }

    /// When its run was created.
    pub(super) fn created_at(&self) -> Timestamp {
        self.id.run.at()
    }
}

/// The jobs of one function.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) function: FunctionId,
    /// The numbers of its rules.
    pub(super) limits: Arc<Limits>,
    /// Jobs that are due and have no gates to pass.
    pub(super) ready: BTreeMap<Rank, JobSlot>,
    /// How many jobs are due and have gates to pass; they are in lines.
    pub(super) gated: usize,
    /// The stands at open gates, by their first job.
    pub(super) shown: BTreeMap<Rank, BucketSlot>,
    /// All that are counted in `gated`, while somebody looks for the last of them, and how many those were at first.
    pub(super) roll: Option<(BTreeMap<Rank, JobSlot>, usize)>,
    /// Jobs that are not due yet; [`super::state::State`] has them all in one such set, this one is for evictions.
    pub(super) delayed: BTreeSet<(Timestamp, JobSlot)>,
    /// How many jobs are handed out.
    pub(super) leased: usize,
    /// Whether jobs were turned away because this partition was full, and nobody has been told of room since.
    pub(super) short: bool,
    place: Place,
    /// As [`Turns::longest`] has it.
    length: usize,
}

/// Where [`Turns`] has a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nowhere: it has nothing ready, or only jobs at gates that are shut.
    Idle,
    /// In the ring, with this number.
    InRing(u64),
    /// At its limit, with this many leases.
    Parked(usize),
}

impl Partition {
    pub(super) fn new(function: FunctionId, limits: Arc<Limits>) -> Self {
        Self {
            function,
            limits,
            ready: BTreeMap::new(),
            gated: 0,
            shown: BTreeMap::new(),
            roll: None,
            delayed: BTreeSet::new(),
            leased: 0,
            short: false,
            place: Place::Idle,
            length: 0,
        }
    }

    /// All jobs, waiting and leased.
    pub(super) fn len(&self) -> usize {
        self.ready_len() + self.delayed.len() + self.leased
    }

    /// Jobs that are due, at gates or not.
    pub(super) fn ready_len(&self) -> usize {
        self.ready.len() + self.gated
    }

    /// The job that would be served last, of those that are due. Those with gates count if the roll is called.
    pub(super) fn last(&self) -> Option<(&Rank, JobSlot)> {
        let gated = self.roll.as_ref().and_then(|(roll, _)| roll.last_key_value());
        let last = self.ready.last_key_value().into_iter().chain(gated).max();
        last.map(|(rank, slot)| (rank, *slot))
    }

    /// Whether a job could be handed out, but for the limit.
    fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.shown.is_empty()
    }

    /// When the first job that could be handed out was due.
    pub(super) fn first_due(&self) -> Option<Timestamp> {
        let (ready, shown) = (self.ready.keys().next(), self.shown.keys().next());
        ready.into_iter().chain(shown).min().map(Rank::due)
    }
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    ring: BTreeSet<(u64, PartitionSlot)>,
    next_number: u64,
    /// Partitions with ready work and no room, by their number of leases: a higher limit finds those it frees.
    parked: BTreeSet<(usize, PartitionSlot)>,
    /// Partitions by their number of ready jobs.
    longest: BTreeSet<(usize, PartitionSlot)>,
}

impl Turns {
    /// The partition whose turn it is; it stays in the ring.
    pub(super) fn first(&self) -> Option<PartitionSlot> {
        self.ring.first().map(|(_, slot)| *slot)
    }

    /// Ends the turn of a partition that is in the ring: [`Self::settle`] appends it again if it still belongs there.
    pub(super) fn end_turn(&mut self, slot: PartitionSlot, partition: &mut Partition) {
        if let Place::InRing(number) = partition.place {
            self.ring.remove(&(number, slot));
            partition.place = Place::Idle;
        }
    }

    /// Brings the place of a partition in line with what it holds.
    pub(super) fn settle(&mut self, slot: PartitionSlot, partition: &mut Partition, limit: usize) {
        let length = partition.ready_len();
        if partition.length != length {
            self.longest.remove(&(partition.length, slot));
            if length > 0 {
                self.longest.insert((length, slot));
            }
            partition.length = length;
        }

        let place = match partition.place {
            _ if !partition.has_work() => Place::Idle,
            _ if partition.leased >= limit => Place::Parked(partition.leased),
            Place::InRing(number) => Place::InRing(number),
            Place::Idle | Place::Parked(_) => {
                self.next_number += 1;
                Place::InRing(self.next_number)
            }
        };
        if partition.place != place {
            match partition.place {
                Place::Idle => {}
                Place::InRing(number) => drop(self.ring.remove(&(number, slot))),
                Place::Parked(leased) => drop(self.parked.remove(&(leased, slot))),
            }
            match place {
                Place::Idle => {}
                Place::InRing(number) => drop(self.ring.insert((number, slot))),
                Place::Parked(leased) => drop(self.parked.insert((leased, slot))),
            }
            partition.place = place;
        }
    }

    /// A parked partition that has room under this limit.
    pub(super) fn freed_by(&self, limit: usize) -> Option<PartitionSlot> {
        let (leased, slot) = self.parked.first()?;
        (*leased < limit).then_some(*slot)
    }

    /// The partition with most ready jobs.
    pub(super) fn longest(&self) -> Option<PartitionSlot> {
        self.longest.last().map(|(_, slot)| *slot)
    }
}

#[cfg(test)]
impl Turns {
    /// # Panics
    /// When a partition is not where its jobs say.
    pub(super) fn audit(&self, slot: PartitionSlot, partition: &Partition) {
        assert_eq!(partition.length, partition.ready_len());
        assert_eq!(
            self.longest.contains(&(partition.length, slot)),
            partition.ready_len() > 0
        );
        match partition.place {
            Place::Idle => assert!(!partition.has_work(), "{partition:?}"),
            Place::InRing(number) => {
                assert!(self.ring.contains(&(number, slot)));
                assert!(partition.has_work());
            }
            Place::Parked(leased) => {
                assert!(self.parked.contains(&(leased, slot)));
                assert_eq!(leased, partition.leased);
                assert!(partition.has_work());
            }
        }
    }

    /// # Panics
    /// When a partition is remembered that is none of these.
    pub(super) fn audit_len<'a>(&self, partitions: impl Iterator<Item = &'a Partition>) {
        let (mut with_work, mut with_jobs) = (0, 0);
        for partition in partitions {
            with_work += usize::from(partition.has_work());
            with_jobs += usize::from(partition.ready_len() > 0);
        }
        assert_eq!(self.ring.len() + self.parked.len(), with_work);
        assert_eq!(self.longest.len(), with_jobs);
    }
}
