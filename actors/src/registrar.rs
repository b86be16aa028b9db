//! Registers apps, one at a time, and keeps the catalog that everybody reads.
//!
//! Promises: when a registration is answered it is durable, and every event accepted from then on sees it. Never: it does
//! not talk to apps (the daemon's sync client does) and does not validate (the parser has).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use tokio::sync::{Notify, oneshot};

use crate::breaker::Breakers;
use crate::catalog::{Catalog, SharedCatalog};
use crate::domain::{FunctionId, FunctionMode, Registration, SyncOutcome};
use crate::engine;
use crate::kernel::{Observation, Supervised};
use crate::metrics::Metrics;
use crate::ports::{LimitTable, Queue, Store, StoreError};

/// Something to be done about an app.
#[derive(Debug)]
pub enum Change {
    /// It says what it has.
    Register(Box<Registration>, oneshot::Sender<Result<SyncOutcome, StoreError>>),
    /// The app at this URL is to be forgotten.
    Remove(String, oneshot::Sender<Result<bool, StoreError>>),
    /// An operator has a function do this from now on.
    SetMode(FunctionId, FunctionMode, oneshot::Sender<Result<bool, StoreError>>),
    /// Another node has changed something: the catalog is to be read anew, unless it has been meanwhile.
    Refresh(Option<oneshot::Sender<Result<(), StoreError>>>),
    /// Whether the calls of the app of this name go through a circuit breaker, whatever the settings say.
    SetBreaker(String, Option<bool>, oneshot::Sender<Result<bool, StoreError>>),
    /// A sync that we asked for failed, or went well.
    NoteSync(String, Option<String>),
}

impl Message for Change {
    type Result = ();
}

/// What the registrar works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// Who is told the numbers of functions' gates.
    pub queue: Arc<dyn Queue>,
    /// What everybody reads.
    pub catalog: SharedCatalog,
    /// Rung when functions have changed.
    pub changed: Arc<Notify>,
    /// What is counted: each function for itself.
    pub metrics: Metrics,
    /// Told when an app registers: it is there.
    pub breakers: Breakers,
}

/// The actor.
pub struct Registrar {
    parts: Parts,
    syncs: u64,
    /// Whether the catalog may lag behind the store: a read of it has failed, or an incarnation has died in between.
    is_stale: Rc<Cell<bool>>,
}

impl std::fmt::Debug for Registrar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registrar")
            .field("syncs", &self.syncs)
            .finish_non_exhaustive()
    }
}

impl Registrar {
    /// A registrar.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            syncs: 0,
            is_stale: Rc::new(Cell::new(true)),
        }
    }
}

impl Actor for Registrar {
    type Context = Context<Self>;
}

impl Supervised for Registrar {
    fn observe(&self) -> Observation {
        let functions = self.parts.catalog.current().live_functions().count();
        Observation::of(0).with_detail(serde_json::json!({ "syncs": self.syncs, "functions": functions }))
    }
}

impl Handler<Change> for Registrar {
    type Result = ();

    fn handle(&mut self, change: Change, ctx: &mut Context<Self>) {
        let parts = self.parts.clone();
        let is_stale = Rc::clone(&self.is_stale);
        let work = async move { carry_out(&parts, &is_stale, change).await };
        // `wait`: the next registration begins when this one is done.
        ctx.wait(work.into_actor(self).map(|(), registrar, _| registrar.syncs += 1));
    }
}

async fn carry_out(parts: &Parts, is_stale: &Cell<bool>, change: Change) {
    match change {
        Change::Register(registration, reply) => {
            parts.breakers.heard(&registration.app.url);
            let outcome = parts.store.sync_app(&registration).await;
            let outcome = parts.metrics.store_errors.watch(outcome);
            if let Ok(SyncOutcome { modified: true }) = outcome {
                let app = &registration.app;
                tracing::info!(app = %app.name, url = app.url, functions = registration.functions.len(), "app registered");
            }
            let _ = reply.send(refreshed(parts, is_stale, outcome, |outcome| outcome.modified).await);
        }
        Change::Remove(url, reply) => {
            let outcome = parts.store.remove_app(&url).await;
            let _ = reply.send(refreshed(parts, is_stale, outcome, |removed| *removed).await);
        }
        Change::SetBreaker(app, breaker, reply) => {
            let outcome = parts.store.set_breaker(&app, breaker).await;
            let _ = reply.send(refreshed(parts, is_stale, outcome, |known| *known).await);
        }
        Change::SetMode(function, mode, reply) => {
            let outcome = parts.store.set_function_mode(function, mode).await;
            let outcome = parts.metrics.store_errors.watch(outcome);
            if let Ok(true) = outcome {
                tracing::info!(%function, mode = mode.as_str(), "an operator has set a function's mode");
            }
            let _ = reply.send(refreshed(parts, is_stale, outcome, |changed| *changed).await);
        }
        Change::Refresh(reply) => {
            is_stale.set(true);
            let outcome = refresh(parts).await;
            is_stale.set(outcome.is_err());
            match (reply, outcome) {
                (Some(reply), outcome) => drop(reply.send(outcome)),
                (None, Err(failed)) => tracing::warn!(%failed, "the catalog could not be read"),
                (None, Ok(())) => {}
            }
        }
        Change::NoteSync(url, error) => {
            if let Err(failed) = parts.store.note_sync_error(&url, error.as_deref()).await {
                tracing::warn!(url, %failed, "the outcome of a sync could not be noted");
            } else if let Err(failed) = refresh(parts).await {
                tracing::warn!(%failed, "the catalog could not be read");
            }
        }
    }
}

/// Passes an outcome on, after the catalog shows it.
async fn refreshed<T>(
    parts: &Parts,
    is_stale: &Cell<bool>,
    outcome: Result<T, StoreError>,
    changed: impl Fn(&T) -> bool,
) -> Result<T, StoreError> {
    let outcome = outcome?;
    if changed(&outcome) || is_stale.get() {
        is_stale.set(true);
        refresh(parts).await?;
        is_stale.set(false);
    }
    Ok(outcome)
}

/// Reads the catalog anew and tells who plans by it.
pub(crate) async fn refresh(parts: &Parts) -> Result<(), StoreError> {
    let view = parts.metrics.store_errors.watch(parts.store.catalog().await)?;
    let catalog = Catalog::new(view);
    parts.metrics.follow(&catalog);
    // Before anybody starts a run by it: a gate whose numbers the queue does not know is open.
    parts.queue.configure(limits(&catalog)).await;
    parts.catalog.replace(catalog);
    parts.changed.notify_waiters();
    parts.changed.notify_one();
    Ok(())
}

/// The numbers of all functions' gates; runs of functions that were left out go on under theirs.
fn limits(catalog: &Catalog) -> LimitTable {
    let functions = catalog.functions();
    let functions = functions.map(|function| (function.id, engine::limits(function)));
    LimitTable {
        revision: catalog.revision(),
        functions: functions.filter(|(_, limits)| !limits.is_empty()).collect(),
    }
}

#[cfg(test)]
mod tests;
