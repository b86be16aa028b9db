//! Reads run states from the store, as many at a time as are asked for meanwhile.
//!
//! Ten thousand sleepers that wake in one second would otherwise be ten thousand queries.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::domain::{RunId, RunState};
use crate::metrics::Metrics;
use crate::ports::{Store, StoreError};

/// States read in one query.
const PAGE: usize = 64;

type Answer = Result<Option<RunState>, StoreError>;

/// The loader of a thread.
pub struct Loader {
    store: Arc<dyn Store>,
    metrics: Metrics,
    waiting: RefCell<Vec<(RunId, oneshot::Sender<Answer>)>>,
    is_reading: Cell<bool>,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("waiting", &self.waiting.borrow().len())
            .finish_non_exhaustive()
    }
}

impl Loader {
    /// A loader that reads from `store`, and counts what the store can't.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, metrics: Metrics) -> Self {
        Self {
            store,
            metrics,
            waiting: RefCell::default(),
            is_reading: Cell::new(false),
        }
    }

    /// Reads a run's state; `None` when it has ended.
    ///
    /// # Errors
    /// When the store can't.
    pub async fn load(self: Rc<Self>, run: RunId) -> Answer {
        let (sender, answer) = oneshot::channel();
        self.waiting.borrow_mut().push((run, sender));
        if !self.is_reading.replace(true) {
            actix::spawn(Rc::clone(&self).read());
        }
        answer
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("the reader is gone".to_owned())))
    }

    async fn read(self: Rc<Self>) {
        let _reading = Reading(&self);
        loop {
            let page: Vec<_> = {
                let mut waiting = self.waiting.borrow_mut();
                let count = waiting.len().min(PAGE);
                waiting.drain(..count).collect()
            };
            if page.is_empty() {
                return;
            }
            let ids: Vec<_> = page.iter().map(|(run, _)| *run).collect();
            let loaded = self.metrics.store_errors.watch(self.store.load_runs(&ids).await);
            let loaded = loaded.map(|states| {
                states
                    .into_iter()
                    .map(|state| (state.id, state))
                    .collect::<HashMap<_, _>>()
            });
            match loaded {
                // The same run may be asked for twice.
                Ok(states) => page
                    .into_iter()
                    .for_each(|(run, sender)| drop(sender.send(Ok(states.get(&run).cloned())))),
                Err(error) => page
                    .into_iter()
                    .for_each(|(_, sender)| drop(sender.send(Err(error.clone())))),
            }
        }
    }
}

/// Lets the next request read, whatever becomes of this one: a read that dies takes nobody's answer along but by telling
/// him so.
struct Reading<'a>(&'a Loader);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.is_reading.set(false);
        // Empty unless the read has died.
        self.0.waiting.take();
    }
}
