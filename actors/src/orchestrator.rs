//! The orchestrator as the daemon sees it: [`build`] starts the process tree, [`Orchestrator`] is the handle for
//! everything that may be asked of it.
//!
//! Writes go to the actors, reads to the store. The handle works from any thread and is cheap to clone.

mod build;
mod endpoints;
mod gatherings;
mod invoking;
mod metadata;
mod operations;
mod reports;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

pub use build::{BuildError, Settings, World, build};
pub use endpoints::{Attendance, Begun};
pub use gatherings::FiredGathering;
pub use invoking::Invoked;
pub use metadata::MetadataOutcome;
pub use operations::{MOST_PER_SECOND, OperationWish};

use crate::breaker::Breakers;
use crate::catalog::{Catalog, SharedCatalog};
use crate::domain::{
    Cap, DeadLetter, Event, EventId, Failure, FunctionId, FunctionMode, Json, LetterId, LimitOverride, Node, NodeState,
    Registration, Resumption, RuleId, RunId, SyncOutcome, WaitKey, Written,
};
use crate::engine::{Input, RetryPolicy};
use crate::kernel::credit::Gauges;
use crate::kernel::{Credits, Snapshot};
use crate::link::{self, LinkError, names};
use crate::metrics::Metrics;
use crate::outside::{Outside, TRIES};
use crate::ports::{Clock, DeadLetterFilter, NodeView, Queue, Random, Store, StoreError};
use crate::registrar::{self, Registrar};
use crate::rerun::{FromStep, Rerun, RerunError, Reruns};
use crate::router::{AcceptEvents, Router};
use crate::run_ends::{RunEnds, Watch};
use crate::scheduler::ledger::{self, SlotFilter, SlotPage};
use crate::supervisor::{Drain, DrainReport, GetStatus, StopSignal, SupervisorHandle};
use crate::workers::Workers;

/// How long the supervisor may take to say how it is, before its last word counts.
const STATUS_WITHIN: Duration = Duration::from_millis(250);

/// Why something asked of the orchestrator was not done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Too much is under way; nothing was kept. Worth another try after a second.
    #[error("the server is overloaded")]
    Overloaded,
    /// The server is shutting down, or an actor is being restarted. Worth another try; whether it was done is not known.
    #[error("the server is not accepting work: {0}")]
    Unavailable(&'static str),
    /// The store can't.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No such function.
    #[error("could not find function with ID: {0}")]
    UnknownFunction(String),
    /// What was sent asks for something that can't be; all problems, each in a sentence.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
}

impl From<LinkError> for Refusal {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Down(name) | LinkError::Died(name) => Self::Unavailable(name),
            LinkError::Store(error) => Self::Store(error),
        }
    }
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

/// The process tree.
#[derive(Debug, Clone)]
pub struct Tree {
    /// As it was last seen.
    pub snapshot: Arc<Snapshot>,
    /// Whether that is now: whether the supervisor has answered.
    pub is_current: bool,
}

/// What came of a wish to retry many dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retried {
    /// Letters whose jobs were put back.
    pub count: usize,
    /// Whether there are more of the kind.
    pub has_more: bool,
}

/// The handle.
#[derive(Clone)]
pub struct Orchestrator {
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    catalog: SharedCatalog,
    supervisor: SupervisorHandle,
    metrics: Metrics,
    credits: Credits,
    breakers: Breakers,
    workers: Workers,
    node: Node,
    is_shared: bool,
    is_draining: Arc<AtomicBool>,
    /// How long events are kept.
    events_kept: Duration,
    /// Rung when there is an operation.
    operations_changed: Arc<Notify>,
    metadata_turns: Arc<metadata::Turns>,
    /// Who waits for the ends of runs.
    ends: RunEnds,
    /// How long failed attempts wait.
    retry: RetryPolicy,
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
    ///
    /// # Errors
    /// When the store can't, or the server is going down. Whether the events were kept is then not known; sending them
    /// again with the same ids does no harm.
    pub async fn accept(&self, events: Vec<Event>) -> Result<(), Refusal> {
        let mut events = events;
        for _ in 0..TRIES {
            // Bodies are shared, so keeping the events costs little. On one node, too, the store may know of functions that
            // the catalog does not show yet: while a registration is being carried out.
            let again = events.clone();
            let (reply, outcome) = oneshot::channel();
            link::tell::<Router, _>(&self.supervisor.book, names::ROUTER, AcceptEvents { events, reply })?;
            let written = outcome.await.map_err(|_| Refusal::Unavailable(names::ROUTER))??;
            let outdated = |written: &Written| matches!(written, Written::Outdated);
            if !written.iter().any(outdated) {
                return Ok(());
            }
            link::refresh_catalog(&self.supervisor.book).await?;
            let left = again.into_iter().zip(&written).filter(|(_, written)| outdated(written));
            events = left.map(|(event, _)| event).collect();
        }
        // Somebody registers functions faster than the catalog can be read.
        Err(Refusal::Overloaded)
    }

    /// This node as of now.
    #[must_use]
    pub fn node(&self) -> Node {
        Node {
            state: if self.is_draining() {
                NodeState::Draining
            } else {
                self.node.state
            },
            jobs_in_flight: u64::try_from(self.permits().in_use).unwrap_or(0),
            ..self.node.clone()
        }
    }

    /// All nodes of the installation with their last signs of life. Of this one, what is so now.
    ///
    /// # Errors
    /// When the store can't.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, StoreError> {
        let this = NodeView {
            node: self.node(),
            seen_at: self.clock.now(),
        };
        if !self.is_shared {
            return Ok(vec![this]);
        }
        let mut nodes = self.metrics.store_errors.watch(self.store.nodes().await)?;
        for seen in &mut nodes {
            if seen.node.id == this.node.id {
                seen.node = this.node.clone();
            }
        }
        Ok(nodes)
    }

    /// What has been counted since the process started.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Permits for jobs in flight.
    #[must_use]
    pub fn permits(&self) -> Gauges {
        self.credits.gauges()
    }

    /// Whether it takes no more work: a drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Takes a turn at what one node of the installation at a time should do; see [`Store::take_turn`].
    ///
    /// # Errors
    /// When the store can't.
    pub async fn take_turn(&self, turn: &str, lasting: Duration) -> Result<bool, StoreError> {
        if !self.is_shared {
            return Ok(true);
        }
        let now = self.clock.now();
        self.store.take_turn(turn, self.node.id, now, now.after(lasting)).await
    }

    /// Stores what an app says of itself; when this returns, events find its functions.
    ///
    /// # Errors
    /// When the store can't, or the server is going down.
    pub async fn register(&self, registration: Registration) -> Result<SyncOutcome, Refusal> {
        self.registrar(|reply| registrar::Change::Register(Box::new(registration), reply))
            .await
    }

    /// Forgets the app at this URL. Answers whether there was one.
    ///
    /// # Errors
    /// When the store can't, or the server is going down.
    pub async fn remove_app(&self, url: &str) -> Result<bool, Refusal> {
        self.registrar(|reply| registrar::Change::Remove(url.to_owned(), reply))
            .await
    }

    /// Says of an app whether its calls go through a circuit breaker, whatever the settings say; `None`: as they say.
    /// Answers whether there is such an app.
    ///
    /// # Errors
    /// When the store can't, or the server is going down.
    pub async fn set_breaker(&self, app: &str, breaker: Option<bool>) -> Result<bool, Refusal> {
        self.registrar(|reply| registrar::Change::SetBreaker(app.to_owned(), breaker, reply))
            .await
    }

    /// The circuit breakers of this instance.
    #[must_use]
    pub fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// The workers that are connected to this instance.
    #[must_use]
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Has a function do from now on what an operator lets it do: at once here, on other instances within the interval of
    /// their signs of life. Whatever the instance, no trigger starts a run that is accepted after this returns.
    /// Archived functions, whose runs go on, count too. Answers whether that is a change.
    ///
    /// # Errors
    /// When there is no such function, the store can't, or the server is going down.
    pub async fn set_function_mode(&self, id: FunctionId, mode: FunctionMode) -> Result<bool, Refusal> {
        if self.catalog().function(id).is_none() {
            return Err(Refusal::UnknownFunction(id.to_string()));
        }
        self.registrar(|reply| registrar::Change::SetMode(id, mode, reply))
            .await
    }

    /// Lets runs of a function grow to another number than the usual one (`None`), on this instance and until it ends: for
    /// tests that want to see what happens then. Answers whether there was another before.
    pub fn cap(&self, function: FunctionId, cap: Cap, number: Option<usize>) -> bool {
        self.catalog.cap(function, cap, number)
    }

    /// Gives a rule of a function other numbers until a time; when this returns, they count.
    ///
    /// # Errors
    /// When the store can't, or the server is going down.
    pub async fn override_limit(&self, numbers: LimitOverride) -> Result<(), Refusal> {
        self.registrar(|reply| registrar::Change::Override(numbers, reply))
            .await
    }

    /// Has the registered numbers count again, of one rule of a function or of all. Answers whether they did not.
    ///
    /// # Errors
    /// When the store can't, or the server is going down.
    pub async fn end_overrides(&self, function: FunctionId, rule: Option<RuleId>) -> Result<bool, Refusal> {
        self.registrar(|reply| registrar::Change::EndOverrides(function, rule, reply))
            .await
    }

    /// Notes why a sync that we asked an app for failed, or that it did not.
    pub fn note_sync(&self, url: &str, error: Option<String>) {
        let change = registrar::Change::NoteSync(url.to_owned(), error);
        if let Err(error) = link::tell::<Registrar, _>(&self.supervisor.book, names::REGISTRAR, change) {
            tracing::debug!(url, %error, "the outcome of a sync was not noted");
        }
    }

    async fn registrar<T>(
        &self,
        change: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> registrar::Change,
    ) -> Result<T, Refusal> {
        let (reply, outcome) = oneshot::channel();
        link::tell::<Registrar, _>(&self.supervisor.book, names::REGISTRAR, change(reply))?;
        Ok(outcome.await.map_err(|_| Refusal::Unavailable(names::REGISTRAR))??)
    }

    /// Delivers a signal to the run that waits for it; `None` if no run does.
    ///
    /// # Errors
    /// When the store can't, or the server is going down.
    pub async fn signal(&self, signal: &str, data: Json) -> Result<Option<RunId>, Refusal> {
        for _ in 0..TRIES {
            let wait = self.store.signal_wait(signal).await?;
            let now = self.clock.now();
            let Some(wait) = wait.filter(|wait| now < wait.expires_at) else {
                return Ok(None);
            };
            let WaitKey::Step(step) = wait.key else { return Ok(None) };
            let memo = json!({ "data": { "signal": signal, "data": data.to_tree() } });
            let memo = Json::from_value(&memo).map_err(|error| Refusal::Invalid(vec![error.to_string()]))?;
            let resumed = Input::Resumed(step, Resumption { memo, event: None });
            if self.outside().advance(wait.run, &resumed).await? == Some(true) {
                return Ok(Some(wait.run));
            }
        }
        Ok(None)
    }

    /// Cancels a run.
    ///
    /// # Errors
    /// When the store can't, or the server is going down.
    pub async fn cancel(&self, run: RunId) -> Result<Cancelled, Refusal> {
        self.outside().cancel(run, "cancelled through the API").await
    }

    /// Has a run done again, as a whole or from one of its steps on.
    ///
    /// # Errors
    /// When that can't be; see [`RerunError`].
    pub async fn rerun(&self, run: RunId, from: Option<&FromStep>) -> Result<Rerun, RerunError> {
        let id = EventId::new(self.clock.now(), self.random.bits());
        let reruns = Reruns {
            store: Arc::clone(&self.store),
            catalog: self.catalog.clone(),
            book: self.supervisor.book.clone(),
        };
        reruns.rerun(run, from, id).await
    }

    /// Puts the job of a dead letter back, to be tried now. Answers the letter as it was; `None` if there is none, or none
    /// any more.
    ///
    /// # Errors
    /// When the store can't, or the server is going down.
    pub async fn retry_dead_letter(&self, id: LetterId) -> Result<Option<DeadLetter>, Refusal> {
        self.outside().settle(id, &Input::Revived(id)).await
    }

    /// Fails the run that a dead letter holds, for the reason that the letter tells. Answers as
    /// [`Self::retry_dead_letter`] does.
    ///
    /// # Errors
    /// When the store can't, or the server is going down.
    pub async fn discard_dead_letter(&self, id: LetterId) -> Result<Option<DeadLetter>, Refusal> {
        self.outside().settle(id, &Input::Discarded(id)).await
    }

    /// Puts the jobs of the newest dead letters of this kind back, `filter.limit` of them at the most.
    ///
    /// # Errors
    /// When the store can't, or the server is going down; some may have been put back by then.
    pub async fn retry_dead_letters(&self, filter: &DeadLetterFilter) -> Result<Retried, Refusal> {
        let page = self.store.dead_letters(filter).await?;
        let mut retried = 0;
        for letter in &page.items {
            // One that somebody else has decided about meanwhile does not count.
            retried += usize::from(self.retry_dead_letter(letter.id).await?.is_some());
        }
        Ok(Retried {
            count: retried,
            has_more: page.has_more,
        })
    }

    /// What became of the slots of a function's crons, and which come next; `None` if there is no such function.
    ///
    /// # Errors
    /// When the store can't.
    pub async fn slots(&self, function: FunctionId, filter: SlotFilter) -> Result<Option<SlotPage>, StoreError> {
        let catalog = self.catalog();
        let Some(function) = catalog.function(function) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let page = ledger::read(&*self.store, function, filter, now, now.before(self.events_kept)).await;
        self.metrics.store_errors.watch(page).map(Some)
    }

    fn outside(&self) -> Outside {
        Outside {
            store: Arc::clone(&self.store),
            queue: Arc::clone(&self.queue),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            catalog: self.catalog.clone(),
            book: self.supervisor.book.clone(),
            metrics: self.metrics.clone(),
            retry: self.retry,
        }
    }

    /// Watches for the end of a run, as far as it is committed in this process.
    #[must_use]
    pub fn watch(&self, run: RunId) -> Watch {
        self.ends.watch(run)
    }

    /// Every app and function as of now.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.current()
    }

    /// The process tree as of its last change, as JSON. Asks nobody.
    #[must_use]
    pub fn status(&self) -> Value {
        as_json(&self.supervisor.board.read())
    }

    /// The process tree as of now or, from a supervisor that does not answer, as of its last change.
    pub async fn tree(&self) -> Tree {
        let asked = self.supervisor.address.send(GetStatus).timeout(STATUS_WITHIN).await;
        let is_current = asked.is_ok();
        Tree {
            snapshot: asked.unwrap_or_else(|_| self.supervisor.board.read()),
            is_current,
        }
    }

    /// The same as JSON.
    pub async fn status_now(&self) -> Value {
        as_json(&self.tree().await.snapshot)
    }

    /// Fires when the process has to stop because an actor it can't do without can't be kept running.
    #[must_use]
    pub fn stop_signal(&self) -> StopSignal {
        self.supervisor.stop.clone()
    }

    /// Stops everything in order: no new work is begun, what is under way gets `grace` to finish, the rest is handed back.
    pub async fn drain(&self, grace: Duration) -> DrainReport {
        self.is_draining.store(true, Ordering::Relaxed);
        let drained = self.supervisor.address.send(Drain { grace }).await;
        // A supervisor that is gone has nothing left to stop.
        drained.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// For reading.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Where the actors are.
    #[cfg(test)]
    pub(crate) fn book(&self) -> crate::kernel::AddressBook {
        self.supervisor.book.clone()
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

fn as_json(snapshot: &Snapshot) -> Value {
    serde_json::to_value(snapshot)
        .unwrap_or_else(|error| Failure::new("Error", format!("the status does not serialise: {error}")).to_value())
}
