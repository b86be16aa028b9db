//! A sorted map that keeps its first entry at hand: lines and stands mostly hold one, and then nothing is allocated.

use std::collections::BTreeMap;

use super::partition::Rank;

/// The map.
#[derive(Debug)]
pub(super) struct Ranked<V> {
    /// Before all of `rest`; `None` only if that is empty.
    first: Option<(Rank, V)>,
    rest: BTreeMap<Rank, V>,
}

impl<V> Default for Ranked<V> {
    fn default() -> Self {
        Self {
            first: None,
            rest: BTreeMap::new(),
        }
    }
}

impl<V: Copy> Ranked<V> {
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn first(&self) -> Option<(&Rank, V)> {
        self.first.as_ref().map(|(rank, value)| (rank, *value))
    }

    pub(super) fn insert(&mut self, rank: Rank, value: V) {
        match &self.first {
            None => self.first = Some((rank, value)),
            Some((first, _)) if rank < *first => {
                if let Some((second, value)) = self.first.replace((rank, value)) {
                    self.rest.insert(second, value);
                }
            }
            Some(_) => drop(self.rest.insert(rank, value)),
        }
    }

    pub(super) fn remove(&mut self, rank: &Rank) {
        if self.first.as_ref().is_some_and(|(first, _)| first == rank) {
            self.first = self.rest.pop_first();
        } else {
            self.rest.remove(rank);
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<(Rank, V)> {
        let first = self.first.take();
        self.first = self.rest.pop_first();
        first
    }

    /// Those before a rank, in order.
    pub(super) fn before(&self, rank: &Rank) -> impl Iterator<Item = (&Rank, V)> {
        let first = self.first.iter().filter(move |(first, _)| first < rank);
        let rest = self.rest.range(..rank.clone());
        first
            .map(|(rank, value)| (rank, *value))
            .chain(rest.map(|(rank, value)| (rank, *value)))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Rank, V)> {
        let first = self.first.iter().map(|(rank, value)| (rank, *value));
        first.chain(self.rest.iter().map(|(rank, value)| (rank, *value)))
    }
}
