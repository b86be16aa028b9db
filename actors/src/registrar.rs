//! Registers apps, one at a time, and keeps the catalog that everybody reads.
//!
//! Promises: when a registration is answered it is durable, and every event accepted from then on sees it. Never: it does
//! not talk to apps (the daemon's sync client does) and does not validate (the parser has).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use tokio::sync::{Notify, oneshot};

use crate::breaker::Breakers;
use crate::catalog::{Catalog, SharedCatalog};
use crate::domain::{FunctionId, FunctionMode, LimitOverride, Registration, RuleId, SyncOutcome};
use crate::engine;
use crate::kernel::{Observation, Supervised};
use crate::metrics::Metrics;
use crate::ports::{Clock, LimitTable, Queue, Store, StoreError};

/// How long an override outlives its time if it can't be ended, until that is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often the clock is looked at while an override lasts: it may be set.
const LOOK: Duration = Duration::from_secs(60);

/// Something to be done about an app, or about a function's limits.
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
    /// An operator gives a rule other numbers.
    Override(LimitOverride, oneshot::Sender<Result<(), StoreError>>),
    /// The registered numbers are to count again: of one rule of a function, or of all.
    EndOverrides(FunctionId, Option<RuleId>, oneshot::Sender<Result<bool, StoreError>>),
    /// The time of an operator's numbers may be over.
    Expire,
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
    /// The time.
    pub clock: Arc<dyn Clock>,
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
    /// Set for when the next override ends.
    timer: Option<SpawnHandle>,
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
            timer: None,
        }
    }

    /// Has itself told when the next override ends.
    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let catalog = self.parts.catalog.current();
        let Some(until) = catalog.overrides().iter().map(|numbers| numbers.until).min() else {
            return;
        };
        // What is over and still there could not be ended just now.
        let left = until.since(self.parts.clock.now());
        let wait = if left.is_zero() { RETRY } else { left.min(LOOK) };
        self.timer = Some(ctx.notify_later(Change::Expire, wait));
    }
}

impl Actor for Registrar {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.notify(Change::Expire);
    }
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
        ctx.wait(work.into_actor(self).map(|(), registrar, ctx| {
            registrar.syncs += 1;
            registrar.set_timer(ctx);
        }));
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
        Change::Override(numbers, reply) => {
            let outcome = parts.store.put_override(&numbers).await;
            let outcome = parts.metrics.store_errors.watch(outcome);
            if outcome.is_ok() {
                tracing::info!(function = %numbers.function, limit = numbers.limit, until = %numbers.until.to_rfc3339(), "limit overridden");
            }
            let _ = reply.send(refreshed(parts, is_stale, outcome, |()| true).await);
        }
        Change::EndOverrides(function, rule, reply) => {
            let outcome = parts.store.end_overrides(function, rule).await;
            let outcome = parts.metrics.store_errors.watch(outcome);
            let _ = reply.send(refreshed(parts, is_stale, outcome, |ended| *ended).await);
        }
        Change::Expire => {
            let now = parts.clock.now();
            if !parts
                .catalog
                .current()
                .overrides()
                .iter()
                .any(|numbers| numbers.until <= now)
            {
                return;
            }
            let outcome = parts.store.expire_overrides(now).await;
            let outcome = parts.metrics.store_errors.watch(outcome);
            // Another node may have been first.
            if let Err(error) = refreshed(parts, is_stale, outcome, |_| true).await {
                tracing::warn!(%error, "an override whose time is over counts still");
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
