//! Functions of which the queue lacks calls on purpose: they are paused, or were when their calls came up.
//!
//! The queue holds what may be done. What may not stays in the store: the consumer drops a paused function's calls from the
//! queue as they come up, each once, and the scheduler brings none; so they neither crowd out others nor cost anything.
//! Promises: when a function goes on, the scheduler is told to bring its calls, also if it goes on at the very moment at
//! which one is dropped. Outlives the actors that use it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::catalog::{Catalog, SharedCatalog};
use crate::domain::FunctionId;

/// Functions whose calls the queue lacks. Clones share it.
#[derive(Debug, Clone)]
pub struct Parked {
    functions: Arc<Mutex<HashSet<FunctionId>>>,
    catalog: SharedCatalog,
    /// Rung when some of them go on.
    changed: Arc<Notify>,
}

impl Parked {
    /// None as yet. `changed` is rung when the scheduler has calls to bring.
    #[must_use]
    pub fn new(catalog: SharedCatalog, changed: Arc<Notify>) -> Self {
        Self {
            functions: Arc::default(),
            catalog,
            changed,
        }
    }

    /// Functions as they are now.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.current()
    }

    /// The queue lacks calls of this function now.
    pub fn add(&self, function: FunctionId) {
        self.lock().insert(function);
        // Who resumes it replaces the catalog first and rings then: either that comes after this look, or it is seen here.
        if !self.catalog.current().is_paused(function) {
            self.changed.notify_one();
        }
    }

    /// Forgets those that this catalog lets go on; answers whether there were any. Their calls are to be brought.
    #[must_use]
    pub fn take_resumed(&self, catalog: &Catalog) -> bool {
        let mut functions = self.lock();
        let before = functions.len();
        functions.retain(|function| catalog.is_paused(*function));
        functions.len() < before
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<FunctionId>> {
        // A set of ids is whole between any two steps.
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
