//! The jobs of one function, in the order they are served, and the functions in the order of their turns.
//!
//! [`Turns`] is what makes leasing fair: a function that has ready work and room waits in a ring, is served one job and
//! goes to the end of it. A function at its limit is parked outside the ring, so that no call walks past it.

use std::collections::{BTreeMap, BTreeSet};

use callboard_actors::domain::{FunctionId, JobId, Priority, Timestamp};

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
}

/// The jobs of one function.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) function: FunctionId,
    /// Jobs that are due.
    pub(super) ready: BTreeMap<Rank, JobSlot>,
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
    /// Nowhere: it has nothing ready.
    Idle,
    /// In the ring, with this number.
    InRing(u64),
    /// At its limit, with this many leases.
    Parked(usize),
}

impl Partition {
    pub(super) fn new(function: FunctionId) -> Self {
        Self {
            function,
            ready: BTreeMap::new(),
            delayed: BTreeSet::new(),
            leased: 0,
            short: false,
            place: Place::Idle,
            length: 0,
        }
    }

    /// All jobs, waiting and leased.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.delayed.len() + self.leased
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
        let length = partition.ready.len();
        if partition.length != length {
            self.longest.remove(&(partition.length, slot));
            if length > 0 {
                self.longest.insert((length, slot));
            }
            partition.length = length;
        }

        let place = match partition.place {
            _ if length == 0 => Place::Idle,
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
        assert_eq!(partition.length, partition.ready.len());
        assert_eq!(
            self.longest.contains(&(partition.length, slot)),
            !partition.ready.is_empty()
        );
        match partition.place {
            Place::Idle => assert!(partition.ready.is_empty(), "{partition:?}"),
            Place::InRing(number) => {
                assert!(self.ring.contains(&(number, slot)));
                assert!(!partition.ready.is_empty());
            }
            Place::Parked(leased) => {
                assert!(self.parked.contains(&(leased, slot)));
                assert_eq!(leased, partition.leased);
                assert!(!partition.ready.is_empty());
            }
        }
    }

    /// # Panics
    /// When a partition is remembered that is none of these.
    pub(super) fn audit_len<'a>(&self, partitions: impl Iterator<Item = &'a Partition>) {
        let with_work = partitions.filter(|partition| !partition.ready.is_empty()).count();
        assert_eq!(self.ring.len() + self.parked.len(), with_work);
        assert_eq!(self.longest.len(), with_work);
    }
}
