//! Values with small, stable keys: a vector that reuses the places of what was removed.
//!
//! Indices elsewhere hold a 4-byte key instead of a 48-byte job id. A key is valid from the insertion that returned it
//! until the removal; who holds one owes that, and a stale key panics or finds a stranger. The memory of removed
//! values is kept for the next ones, so it stays at the high-water mark.

use std::marker::PhantomData;

/// A newtype over an index, so that keys of different slabs can't be mixed up.
pub(super) trait Key: Copy {
    /// From an index.
    fn from_index(index: u32) -> Self;
    /// The index.
    fn index(self) -> usize;
}

/// Declares a [`Key`].
macro_rules! slab_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(super) struct $name(std::num::NonZeroU32);

        impl $crate::queue::embedded::slab::Key for $name {
            fn from_index(index: u32) -> Self {
                // One more than the index, so that an optional key takes no more room.
                Self(std::num::NonZeroU32::MIN.saturating_add(index))
            }

            fn index(self) -> usize {
                (self.0.get() - 1) as usize
            }
        }
    };
}
pub(super) use slab_key;

/// The values.
#[derive(Debug)]
pub(super) struct Slab<K, T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    key: PhantomData<K>,
}

impl<K: Key, T> Slab<K, T> {
    /// Most values one slab can hold.
    pub(super) const MAX_LEN: usize = u32::MAX as usize - 1;

    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            key: PhantomData,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> K {
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = Some(value);
            return K::from_index(index);
        }
        let index = u32::try_from(self.slots.len()).expect("the owner holds at most MAX_LEN values");
        self.slots.push(Some(value));
        K::from_index(index)
    }

    pub(super) fn remove(&mut self, key: K) -> T {
        let value = self.slots[key.index()].take().expect("keys are of values inside");
        self.free
            .push(u32::try_from(key.index()).expect("keys are made from u32"));
        value
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        (0..)
            .zip(&self.slots)
            .filter_map(|(index, slot)| Some((K::from_index(index), slot.as_ref()?)))
    }
}

impl<K: Key, T> std::ops::Index<K> for Slab<K, T> {
    type Output = T;

    fn index(&self, key: K) -> &T {
        self.slots[key.index()].as_ref().expect("keys are of values inside")
    }
}

impl<K: Key, T> std::ops::IndexMut<K> for Slab<K, T> {
    fn index_mut(&mut self, key: K) -> &mut T {
        self.slots[key.index()].as_mut().expect("keys are of values inside")
    }
}
