//! What must hold between any two calls; tests check it after every step of a random history.

use super::{Entry, State};

// Tens of thousands of delayed jobs are normal.
const _: () = assert!(size_of::<Option<Entry>>() <= 112);

impl State {
    /// # Panics
    /// When the structure contradicts itself.
    pub(in crate::queue::embedded) fn audit(&self) {
        assert!(self.entries.len() <= self.capacity.total, "bounded in total");
        assert_eq!(self.entries.len(), self.by_id.len());
        assert_eq!(self.partitions.len(), self.by_function.len());

        for (slot, entry) in self.entries.iter() {
            assert_eq!(self.by_id.get(&entry.id), Some(&slot));
            let partition = &self.partitions[entry.partition];
            let line = entry.line.map(|line| &self.gates.lines[line]);
            let mut ready = partition.ready.values().filter(|found| **found == slot).count();
            ready += line.map_or(0, |line| line.jobs.iter().filter(|(_, found)| *found == slot).count());
            let delayed = usize::from(partition.delayed.contains(&(entry.not_before, slot)));
            assert_eq!(delayed, usize::from(self.delayed.contains(&(entry.not_before, slot))));
            let leased = usize::from(entry.held.is_some());
            assert_eq!(ready + delayed + leased, 1, "in one place: {entry:?}");
            if leased == 0 {
                assert_eq!(ready == 1, entry.not_before <= self.now, "in the right line: {entry:?}");
            }
        }

        for (place, partition) in self.partitions.iter() {
            assert_eq!(self.by_function.get(&partition.function), Some(&place));
            assert!(partition.len() > 0, "empty partitions are dropped");
            assert!(partition.len() <= self.capacity.per_function, "bounded per function");
            let of = |entry: &&Entry| entry.partition == place;
            let entries = || self.entries.iter().map(|(_, entry)| entry).filter(of);
            assert_eq!(entries().count(), partition.len());
            assert_eq!(entries().filter(|entry| entry.held.is_some()).count(), partition.leased);
            if partition.short {
                assert!(partition.len() > super::room::enough(self.capacity.per_function));
            }
            self.turns.audit(place, partition);
        }
        if self.short {
            assert!(self.entries.len() > super::room::enough(self.capacity.total));
        }
        self.turns
            .audit_len(self.partitions.iter().map(|(_, partition)| partition));

        self.audit_gates();

        let sum = |count: fn(&super::Partition) -> usize| self.partitions.iter().map(|(_, p)| count(p)).sum::<usize>();
        assert_eq!(self.ready, sum(super::Partition::ready_len));
        assert_eq!(self.delayed.len(), sum(|partition| partition.delayed.len()));
        assert_eq!(self.leased, sum(|partition| partition.leased));
    }
}
