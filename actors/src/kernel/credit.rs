//! Credits: how much work may be in flight, in all and per key.
//!
//! The backpressure of the process. Promises: never more permits out than the limits in force when they were
//! granted; a permit comes back exactly once, when dropped, on any thread, panic or not; whoever waits is
//! served in order of arrival, except that one whose key is exhausted does not hold up the others. Waiting
//! lines are bounded. Never blocks: the lock is held for a few steps and never across an await.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use thiserror::Error;
use tokio::sync::oneshot;

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoCredit {
    /// Everything is in flight that may be.
    #[error("all permits are taken")]
    Exhausted,
    /// This key has everything in flight that it may have.
    #[error("all permits of this key are taken")]
    KeyExhausted,
    /// Too many wait already.
    #[error("too many are waiting for a permit")]
    Crowded,
    /// No more permits are given out.
    #[error("no more permits are given out")]
    Closed,
}

/// Limits of a set of credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Permits in all.
    pub total: usize,
    /// Permits of one key, unless it has a limit of its own.
    pub per_key: usize,
    /// How many may wait at a time.
    pub waiting: usize,
}

/// What is in use, for status and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gauges {
    /// The limit in all.
    pub limit: usize,
    /// Permits out.
    pub in_use: usize,
    /// Keys with a permit out.
    pub keys: usize,
    /// How many wait.
    pub waiting: usize,
}

struct Waiter {
    key: Arc<str>,
    grant: oneshot::Sender<Permit>,
}

struct State {
    limits: Limits,
    in_use: usize,
    by_key: HashMap<Arc<str>, usize>,
    own_limits: HashMap<Arc<str>, usize>,
    waiters: VecDeque<Waiter>,
    closed: bool,
}

impl State {
    fn room_for(&self, key: &str) -> Result<(), NoCredit> {
        if self.closed {
            return Err(NoCredit::Closed);
        }
        if self.in_use >= self.limits.total {
            return Err(NoCredit::Exhausted);
        }
        if self.room_of_key(key) == 0 {
            return Err(NoCredit::KeyExhausted);
        }
        Ok(())
    }

    fn room_of_key(&self, key: &str) -> usize {
        let limit = self.own_limits.get(key).copied().unwrap_or(self.limits.per_key);
        limit.saturating_sub(self.by_key.get(key).copied().unwrap_or(0))
    }

    fn take(&mut self, key: &Arc<str>) {
        self.in_use += 1;
        *self.by_key.entry(Arc::clone(key)).or_default() += 1;
    }

    fn give_back(&mut self, key: &str) {
        self.in_use = self.in_use.saturating_sub(1);
        if let Some(used) = self.by_key.get_mut(key) {
            *used = used.saturating_sub(1);
            if *used == 0 {
                self.by_key.remove(key);
            }
        }
    }
}

/// A set of permits. Clones share it.
#[derive(Clone)]
pub struct Credits(Arc<Mutex<State>>);

impl Credits {
    /// Credits with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(State {
            limits,
            in_use: 0,
            by_key: HashMap::new(),
            own_limits: HashMap::new(),
            waiters: VecDeque::new(),
            closed: false,
        })))
    }

    /// A permit now, or the reason why not. Cannot overtake a waiter: one that could be served has been.
    pub fn try_acquire(&self, key: &str) -> Result<Permit, NoCredit> {
        let mut state = self.lock();
        state.room_for(key)?;
        let key: Arc<str> = Arc::from(key);
        state.take(&key);
        Ok(self.permit(key))
    }

    /// A permit as soon as there is one. Dropping the future gives up the place in the line.
    pub async fn acquire(&self, key: &str) -> Result<Permit, NoCredit> {
        let turn = {
            let mut state = self.lock();
            match state.room_for(key) {
                Ok(()) => {
                    let key: Arc<str> = Arc::from(key);
                    state.take(&key);
                    return Ok(self.permit(key));
                }
                Err(NoCredit::Closed) => return Err(NoCredit::Closed),
                Err(_) => {}
            }
            if state.waiters.len() >= state.limits.waiting {
                state.waiters.retain(|waiter| !waiter.grant.is_closed());
                if state.waiters.len() >= state.limits.waiting {
                    return Err(NoCredit::Crowded);
                }
            }
            let (grant, turn) = oneshot::channel();
            state.waiters.push_back(Waiter {
                key: Arc::from(key),
                grant,
            });
            turn
        };
        turn.await.map_err(|_| NoCredit::Closed)
    }

    /// How many permits `key` could take at this moment.
    #[must_use]
    pub fn available(&self, key: &str) -> usize {
        let state = self.lock();
        if state.closed {
            return 0;
        }
        let room = state.limits.total.saturating_sub(state.in_use);
        room.min(state.room_of_key(key))
    }

    /// How many permits are left in all, whatever the key.
    #[must_use]
    pub fn available_in_all(&self) -> usize {
        let state = self.lock();
        if state.closed {
            return 0;
        }
        state.limits.total.saturating_sub(state.in_use)
    }

    /// How many permits of `key` are out.
    #[must_use]
    pub fn in_use_by(&self, key: &str) -> usize {
        self.lock().by_key.get(key).copied().unwrap_or(0)
    }

    /// What is in use.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let state = self.lock();
        Gauges {
            limit: state.limits.total,
            in_use: state.in_use,
            keys: state.by_key.len(),
            waiting: state.waiters.len(),
        }
    }

    /// Changes the limit in all. Permits that are out stay out; zero withdraws the credit until it is raised.
    pub fn set_total(&self, total: usize) {
        self.lock().limits.total = total;
        self.serve();
    }

    /// Gives `key` a limit of its own, or none again.
    pub fn set_limit_of(&self, key: &str, limit: Option<usize>) {
        {
            let mut state = self.lock();
            match limit {
                Some(limit) => state.own_limits.insert(Arc::from(key), limit),
                None => state.own_limits.remove(key),
            };
        }
        self.serve();
    }

    /// Gives out no more permits; those who wait are told so. Permits that are out stay valid.
    pub fn close(&self) {
        let waiters = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.waiters)
        };
        drop(waiters);
    }

    fn give_back(&self, key: &str) {
        self.lock().give_back(key);
        self.serve();
    }

    /// Serves those who wait, as far as there is room.
    fn serve(&self) {
        let grants = {
            let mut state = self.lock();
            if state.waiters.is_empty() {
                return;
            }
            let mut grants = Vec::new();
            let mut still_waiting = VecDeque::new();
            while state.in_use < state.limits.total {
                let Some(waiter) = state.waiters.pop_front() else {
                    break;
                };
                if waiter.grant.is_closed() {
                    continue;
                }
                if state.room_for(&waiter.key).is_ok() {
                    state.take(&waiter.key);
                    grants.push((waiter.grant, self.permit(waiter.key)));
                } else {
                    still_waiting.push_back(waiter);
                }
            }
            still_waiting.append(&mut state.waiters);
            state.waiters = still_waiting;
            grants
        };
        for (grant, permit) in grants {
            // Who gave up meanwhile hands the permit back by dropping it: outside the lock, as it takes it.
            drop(grant.send(permit));
        }
    }

    fn permit(&self, key: Arc<str>) -> Permit {
        Permit {
            credits: self.clone(),
            key,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No step under the lock leaves the counts half changed, so a panic elsewhere spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credits").field(&self.gauges()).finish()
    }
}

/// The right to have one piece of work in flight. Travels with the work; comes back when dropped.
pub struct Permit {
    credits: Credits,
    key: Arc<str>,
}

impl Permit {
    /// The key it counts for.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.credits.give_back(&self.key);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.key).finish()
    }
}

#[cfg(test)]
mod tests;
