//! The queue inside the process: what a daemon uses that shares its work with nobody.
//!
//! [`EmbeddedQueue`] is a thin shell around [`state::State`], a plain synchronous structure that does everything and
//! can be reasoned about alone. Every call takes one lock for a short time that grows with the logarithm of the jobs
//! held, times the jobs the call is about; only [`Queue::stats`] looks at all of them.
//!
//! Promises: what it holds is bounded, in total and per function, and it says what it turned away. Never: it does not
//! read a clock, does not touch the store, and does not hold its lock across an await.

mod gatehouse;
mod partition;
mod ranked;
mod room;
mod slab;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use callboard_actors::domain::{BucketId, FunctionId, Job, JobId, RunId, Timestamp};
use callboard_actors::ports::{Flow, Lease, LimitTable, Origin, Place, Pushed, Queue, QueueStats};
use tokio::sync::Notify;

use state::State;

/// How many jobs an [`EmbeddedQueue`] holds; a waiting job takes about 350 bytes plus its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Jobs in total, waiting and leased; at least 1.
    pub total: usize,
    /// Jobs of one function; at least 1.
    pub per_function: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            total: 50_000,
            per_function: 10_000,
        }
    }
}

/// The queue.
///
/// # Overflow
/// When a new job finds no room, the one that is needed last gives way, be it the new one or one known before: first
/// the delayed job that is due last, then, for a job that is ready, the end of the longest line of ready jobs. What
/// gave way is counted as [`Pushed::spilled`]. Once a quarter of the capacity is free again, [`Queue::changed`] says
/// so, and the caller loads what was spilled from the store.
#[derive(Debug)]
pub struct EmbeddedQueue {
    state: Mutex<State>,
    changed: Notify,
}

impl EmbeddedQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        Self {
            state: Mutex::new(State::new(capacity)),
            changed: Notify::new(),
        }
    }

    /// Runs `operation` under the lock, and tells who waits if that was news.
    fn with<T>(&self, operation: impl FnOnce(&mut State) -> T) -> T {
        let (answer, news) = {
            let mut state = self.lock();
            let answer = operation(&mut state);
            (answer, state.take_news())
        };
        if news {
            self.changed.notify_one();
        }
        answer
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            // A panic under the lock is a defect of `State`, and nobody knows what it left. A queue may forget
            // everything at any instant; refusing to go on would stop every function instead.
            let mut state = poisoned.into_inner();
            state.reset();
            self.state.clear_poison();
            state
        })
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn push(&self, jobs: Vec<Job>, _: Origin) -> Pushed {
        self.with(|state| state.push(jobs))
    }

    async fn lease(&self, now: Timestamp, max: usize, per_function: usize) -> Vec<Lease> {
        self.with(|state| state.lease(now, max, per_function))
    }

    async fn configure(&self, table: LimitTable) {
        self.with(|state| state.configure(table));
    }

    async fn recall(&self, starts: Vec<(FunctionId, BucketId, Timestamp)>) {
        self.with(|state| state.recall(starts));
    }

    fn forgets_starts(&self) -> bool {
        true
    }

    async fn acknowledge(&self, id: &JobId, epoch: u64) {
        self.with(|state| state.acknowledge(id, epoch));
    }

    async fn release(&self, id: &JobId, epoch: u64, due: Timestamp) {
        self.with(|state| state.release(id, epoch, due));
    }

    async fn take_back(&self, id: &JobId, epoch: u64) {
        self.with(|state| state.take_back(id, epoch));
    }

    async fn forget_run(&self, run: RunId) {
        self.with(|state| state.forget_run(run));
    }

    async fn next_due(&self) -> Option<Timestamp> {
        self.lock().next_due()
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn leases_of(&self, run: RunId) -> Vec<Lease> {
        self.lock().leases_of(run)
    }

    async fn stats(&self) -> QueueStats {
        self.lock().stats()
    }

    async fn flow(&self, function: FunctionId) -> Flow {
        self.lock().flow(function)
    }

    async fn places_of(&self, run: RunId) -> Vec<Place> {
        self.lock().places_of(run)
    }
}
