//! States of runs between two of their jobs, so that they need not be read from the database for every call.
//!
//! Only a copy: a state that has gone stale is found out when its decision can't be committed. Bounded by weight; when
//! there is no room a state is simply not kept, and what nobody asked for in a minute makes room.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{RunId, RunState};

/// States that nobody asked for in this time are dropped when room is needed.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// The cache. Clones are the same one.
#[derive(Debug, Clone)]
pub struct RunCache(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    capacity: usize,
    weight: usize,
    states: HashMap<RunId, Entry>,
    /// In the order of insertion; entries of states that were taken out since are skipped.
    order: VecDeque<(RunId, Instant)>,
}

/// A state that is kept.
#[derive(Debug)]
struct Entry {
    state: Box<RunState>,
    since: Instant,
    replied_at: Option<Instant>,
}

/// A state that was kept.
#[derive(Debug, PartialEq)]
pub struct Kept {
    /// The state.
    pub state: RunState,
    /// When the reply came that the run goes on from, as far as it was said.
    pub replied_at: Option<Instant>,
}

impl RunCache {
    /// A cache of states that together weigh at most `capacity` bytes, roughly.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let inner = Inner {
            capacity,
            weight: 0,
            states: HashMap::new(),
            order: VecDeque::new(),
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Keeps a state, if there is room, and when the reply came that its run goes on from.
    pub fn put(&self, state: RunState, replied_at: Option<Instant>) {
        self.lock().put(state, replied_at, Instant::now());
    }

    /// Takes a state out.
    #[must_use]
    pub fn take(&self, id: RunId) -> Option<Kept> {
        self.lock().take(id)
    }

    /// How many states it holds, and their weight in bytes.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.states.len(), inner.weight)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, state: RunState, replied_at: Option<Instant>, now: Instant) {
        self.take(state.id);
        let weight = state.weight();
        if self.weight + weight > self.capacity {
            self.make_room(now);
            if self.weight + weight > self.capacity {
                return;
            }
        }
        self.weight += weight;
        self.order.push_back((state.id, now));
        let entry = Entry {
            since: now,
            replied_at,
            state: Box::new(state),
        };
        self.states.insert(entry.state.id, entry);
        self.tidy();
    }

    fn take(&mut self, id: RunId) -> Option<Kept> {
        let Entry { state, replied_at, .. } = self.states.remove(&id)?;
        self.weight = self.weight.saturating_sub(state.weight());
        Some(Kept {
            state: *state,
            replied_at,
        })
    }

    fn make_room(&mut self, now: Instant) {
        while let Some(&(id, since)) = self.order.front() {
            let is_current = self.states.get(&id).is_some_and(|kept| kept.since == since);
            if is_current && now.duration_since(since) < STALE_AFTER {
                return;
            }
            self.order.pop_front();
            if is_current {
                self.take(id);
            }
        }
    }

    /// Keeps the order from growing with entries of states that are long gone.
    fn tidy(&mut self) {
        if self.order.len() > 64 && self.order.len() > self.states.len() * 4 {
            let states = &self.states;
            self.order
                .retain(|(id, since)| states.get(id).is_some_and(|kept| kept.since == *since));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{FunctionId, Json, Timestamp};

    fn state(n: u128, bytes: usize) -> RunState {
        let body = Json::from_canonical(format!("\"{}\"", "x".repeat(bytes)));
        let id = RunId::new(Timestamp::from_millis(1), n);
        RunState::new(
            id,
            FunctionId::derive("app", "fn"),
            "e".to_owned(),
            Vec::new(),
            Arc::new([body]),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn holds_no_more_than_its_capacity() {
        let cache = RunCache::new(10_000);
        for n in 0..100 {
            cache.put(state(n, 1_000), None);
        }
        let (count, weight) = cache.size();
        assert!(weight <= 10_000 && count == 6, "{count} states of {weight} bytes");
        assert_eq!(
            cache.take(state(0, 1_000).id).map(|kept| kept.state),
            Some(state(0, 1_000)),
            "the oldest stay: they are next to be used"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_asks_for_makes_room_in_the_end() {
        let cache = RunCache::new(2_000);
        cache.put(state(1, 1_000), None);
        tokio::time::advance(STALE_AFTER).await;
        cache.put(state(2, 1_000), None);
        assert_eq!(cache.take(state(1, 1_000).id), None);
        assert!(cache.take(state(2, 1_000).id).is_some());
        assert_eq!(cache.size(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_order_does_not_outgrow_the_states() {
        let cache = RunCache::new(100_000);
        for n in 0..10_000 {
            cache.put(state(n, 10), None);
            assert!(cache.take(state(n, 10).id).is_some());
        }
        assert!(cache.lock().order.len() <= 65);
    }
}
