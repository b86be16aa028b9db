//! What the executors of a thread share, and what none of it can leave the thread with.
//!
//! What many runs ask the store for at once is asked in batches: ten thousand sleepers that wake in one second would
//! otherwise be ten thousand queries.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::Parts;
use crate::batched::Batched;
use crate::domain::{BucketId, RunId, RunState};
use crate::ports::{Invoker, SlotClaim};
use crate::run_slots::PassOn;

/// States read, slots taken and slots passed on at a time.
const PAGE: usize = 64;

/// Calls apps, and asks the store.
#[derive(Debug, Clone)]
pub struct Local {
    /// Calls apps.
    pub(super) invoker: Rc<dyn Invoker>,
    /// Reads a run's state; `None` when it has ended.
    pub(super) states: Rc<Batched<RunId, Option<RunState>>>,
    /// Takes a run slot; `false` if the start is parked.
    pub(super) slots: Rc<Batched<SlotClaim, bool>>,
    /// Lets in who waits for the slot of a run that has ended.
    pub(super) ends: Rc<Batched<BucketId, ()>>,
}

impl Local {
    /// For the executors of one thread.
    #[must_use]
    pub fn new(parts: &Parts, invoker: Rc<dyn Invoker>) -> Self {
        Self {
            invoker,
            states: states(parts.clone()),
            slots: slots(parts.clone()),
            ends: ends(parts.clone()),
        }
    }
}

fn states(parts: Parts) -> Rc<Batched<RunId, Option<RunState>>> {
    Batched::new(PAGE, move |runs: Vec<RunId>| {
        let (store, metrics) = (Arc::clone(&parts.store), parts.metrics.clone());
        async move {
            let states = metrics.store_errors.watch(store.load_runs(&runs).await)?;
            let states: HashMap<_, _> = states.into_iter().map(|state| (state.id, state)).collect();
            // The same run may be asked for twice.
            Ok(runs.iter().map(|run| states.get(run).cloned()).collect())
        }
    })
}

fn slots(parts: Parts) -> Rc<Batched<SlotClaim, bool>> {
    Batched::new(PAGE, move |claims: Vec<SlotClaim>| {
        let (store, metrics) = (Arc::clone(&parts.store), parts.metrics.clone());
        async move { metrics.store_errors.watch(store.take_slots(&claims).await) }
    })
}

fn ends(parts: Parts) -> Rc<Batched<BucketId, ()>> {
    Batched::new(PAGE, move |buckets: Vec<BucketId>| {
        let passing = PassOn {
            store: Arc::clone(&parts.store),
            queue: Arc::clone(&parts.queue),
            catalog: parts.catalog.current(),
            metrics: parts.metrics.clone(),
        };
        let now = parts.clock.now();
        async move {
            passing.pass(&buckets, now).await;
            Ok(vec![(); buckets.len()])
        }
    })
}
