//! The orchestrator as the daemon sees it: one cheap handle for everything that may be asked of it.
//!
//! Writes go to the actors, reads to the store. The handle works from any thread.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::catalog::Catalog;
use crate::domain::{Event, EventId, Json, Registration, RunId, SyncOutcome};
use crate::ports::{Clock, Queue, Random, Store, StoreError};

/// Why something asked of the orchestrator was not done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Too much is under way; nothing was kept. Worth another try after a second.
    #[error("the server is overloaded")]
    Overloaded,
    /// The server is shutting down, or an actor is being restarted; nothing was kept.
    #[error("the server is not accepting work: {0}")]
    Unavailable(&'static str),
    /// The store can't.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registration asks for something that can't be; all problems, each in a sentence.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// No such function.
    #[error("could not find function with ID: {0}")]
    UnknownFunction(String),
}

/// What came of a wish to cancel a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It is cancelled, durably.
    Now,
    /// It had ended before.
    AlreadyEnded,
    /// There is no such run.
    Unknown,
}

/// The handle.
#[derive(Clone)]
pub struct Orchestrator {
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl std::fmt::Debug for Orchestrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Orchestrator").finish_non_exhaustive()
    }
}

impl Orchestrator {
    /// Accepts events: when this returns they are durable, with the runs they start.
    ///
    /// Events that are known already (the same id) are accepted silently.
    pub async fn accept(&self, events: Vec<Event>) -> Result<(), Refusal> {
        todo!("{events:?}")
    }

    /// Stores what an app says of itself; when this returns, events find its functions.
    pub async fn register(&self, registration: Registration) -> Result<SyncOutcome, Refusal> {
        todo!("{registration:?}")
    }

    /// Forgets the app at this URL. Answers whether there was one.
    pub async fn remove_app(&self, url: &str) -> Result<bool, Refusal> {
        todo!("{url}")
    }

    /// Runs a function by slug or UUID; `payload` holds `data` and perhaps `user`, `v`, `meta`.
    pub async fn invoke(&self, function: &str, payload: Map<String, Value>) -> Result<EventId, Refusal> {
        todo!("{function}{payload:?}")
    }

    /// Delivers a signal to the run that waits for it; `None` if no run does.
    pub async fn signal(&self, signal: &str, data: Json) -> Result<Option<RunId>, Refusal> {
        todo!("{signal}{data}")
    }

    /// Cancels a run.
    pub async fn cancel(&self, run: RunId) -> Result<Cancelled, Refusal> {
        todo!("{run}")
    }

    /// Every app and function as of now.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        todo!()
    }

    /// The process tree as of its last change, as JSON for operators. Answers even when the supervisor is stuck.
    #[must_use]
    pub fn status(&self) -> Value {
        todo!()
    }

    /// For reading.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// For looking at who is at work on what.
    #[must_use]
    pub fn queue(&self) -> &Arc<dyn Queue> {
        &self.queue
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Randomness, for ids.
    #[must_use]
    pub fn random(&self) -> &Arc<dyn Random> {
        &self.random
    }
}
