//! Functions of which the queue lacks calls on purpose: they are held, or were when their calls came up. A function is held
//! while it is paused and, if it is called over connections of workers, while no worker that has it is connected.
//!
//! The queue holds what may be done. What may not stays in the store: the consumer drops a held function's calls from the
//! queue as they come up, each once, and the scheduler brings none; so they neither crowd out others nor cost anything.
//! Promises: when a function goes on, the scheduler is told to bring its calls, also if it goes on at the very moment at
//! which one is dropped. Outlives the actors that use it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::catalog::{Catalog, SharedCatalog};
use crate::domain::FunctionId;
use crate::workers::Workers;

/// Functions whose calls the queue lacks. Clones share it.
#[derive(Debug, Clone)]
pub struct Parked {
    functions: Arc<Mutex<HashSet<FunctionId>>>,
    catalog: SharedCatalog,
    workers: Workers,
    /// Rung when some of them go on.
    changed: Arc<Notify>,
}

impl Parked {
    /// None as yet. `changed` is rung when the scheduler has calls to bring.
    #[must_use]
    pub fn new(catalog: SharedCatalog, workers: Workers, changed: Arc<Notify>) -> Self {
        Self {
            functions: Arc::default(),
            catalog,
            workers,
            changed,
        }
    }

    /// Functions as they are now.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.current()
    }

    /// Whether any function could be held, so that each has to be looked at.
    #[must_use]
    pub fn may_hold(&self, catalog: &Catalog) -> bool {
        !catalog.paused().is_empty() || !catalog.connected().is_empty()
    }

    /// Whether this function's app can't be called now, and nobody is to try.
    #[must_use]
    pub fn holds(&self, catalog: &Catalog, id: FunctionId) -> bool {
        let Some(function) = catalog.function(id) else {
            return false;
        };
        function.mode.is_paused() || (function.is_connected() && !self.workers.may_be_served(&function.slug))
    }

    /// All functions that are held, archived ones included.
    #[must_use]
    pub fn held(&self, catalog: &Catalog) -> Vec<FunctionId> {
        let unserved = catalog
            .connected()
            .iter()
            .filter(|id| !catalog.is_paused(**id) && self.holds(catalog, **id));
        catalog.paused().iter().chain(unserved).copied().collect()
    }

    /// The queue lacks calls of this function now.
    pub fn add(&self, function: FunctionId) {
        self.lock().insert(function);
        // Who resumes it replaces the catalog first (or has its worker served), and rings then: either that comes after this
        // look, or it is seen here.
        if !self.holds(&self.catalog.current(), function) {
            self.changed.notify_one();
        }
    }

    /// Forgets those that go on by this catalog; answers whether there were any. Their calls are to be brought.
    #[must_use]
    pub fn take_resumed(&self, catalog: &Catalog) -> bool {
        let mut functions = self.lock();
        let before = functions.len();
        functions.retain(|function| self.holds(catalog, *function));
        functions.len() < before
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<FunctionId>> {
        // A set of ids is whole between any two steps.
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
