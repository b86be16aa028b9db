//! What the resolvers of one request share: the orchestrator, one snapshot of the catalog, and what was loaded already.
//!
//! Loads are remembered for the request, so that a document may ask for the same run or event in many places. Lists load
//! for all their items at once before the items are resolved.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use actix_web::web::Data;
use async_graphql::{Context, Error, ErrorExtensions as _, Result};
use callboard_actors::catalog::Catalog;
use callboard_actors::domain::{Event, EventId, Function, FunctionId, RunId, Timestamp};
use callboard_actors::ports::{Lease, RunSummary, RunView, Store, StoreError};
use tokio::sync::Mutex;

use crate::error::{Code, Problem};
use crate::http::state::{Api, AppState};

/// A run with everything that is known of it, and who is at work on it.
#[derive(Debug)]
pub(in crate::http) struct Viewed {
    pub(in crate::http) view: RunView,
    pub(super) leases: Vec<Lease>,
    /// The runs that its invokes have started, by the event of the invoke.
    pub(super) invoked: HashMap<EventId, RunId>,
}

impl Viewed {
    /// # Errors
    /// When the store can't. `None` if there is no such run.
    pub(in crate::http) async fn load(api: &Arc<dyn Api>, id: RunId) -> Result<Option<Self>, StoreError> {
        let Some(view) = api.store().run_view(id).await? else {
            return Ok(None);
        };
        let leases = if view.summary.status.is_final() {
            Vec::new()
        } else {
            api.queue().leases_of(id).await
        };
        let causes = super::trace::invokes(&view);
        let invoked = if causes.is_empty() {
            HashMap::new()
        } else {
            let runs = api.store().runs_of_events(&causes).await?;
            runs.into_iter().map(|(event, run)| (event, run.id)).collect()
        };
        Ok(Some(Self { view, leases, invoked }))
    }
}

/// One request.
pub(super) struct Asked {
    pub(super) state: Data<AppState>,
    pub(super) api: Arc<dyn Api>,
    pub(super) catalog: Arc<Catalog>,
    views: Mutex<HashMap<RunId, Arc<Viewed>>>,
    runs: Mutex<HashMap<EventId, Vec<RunSummary>>>,
    events: Mutex<HashMap<EventId, Event>>,
}

/// The request that a resolver works for.
pub(super) fn asked<'a>(ctx: &Context<'a>) -> &'a Asked {
    ctx.data_unchecked::<Asked>()
}

/// A problem as GraphQL tells it: its text, and our code among the extensions.
pub(super) fn failed(problem: impl Into<Problem>) -> Error {
    let problem = problem.into();
    Error::new(problem.message).extend_with(|_, extensions| extensions.set("code", problem.code.as_str()))
}

/// An argument that won't do.
pub(super) fn invalid(message: impl Into<String>) -> Error {
    failed(Problem::new(Code::InvalidParameter, message.into()))
}

/// An id among the arguments.
pub(super) fn id<T: FromStr>(what: &str, text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| invalid(format!("`{text}` is not the id of {what}")))
}

impl Asked {
    /// # Errors
    /// While the orchestrator starts.
    pub(super) fn new(state: Data<AppState>) -> Result<Self, Problem> {
        let api = Arc::clone(state.api()?);
        let catalog = api.catalog();
        Ok(Self {
            state,
            api,
            catalog,
            views: Mutex::default(),
            runs: Mutex::default(),
            events: Mutex::default(),
        })
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        self.api.store()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.api.clock().now()
    }

    /// Does what has to stay on this thread, to its end even if the client has gone.
    pub(super) async fn here<T, F, W>(&self, work: W) -> Result<T>
    where
        T: 'static + Send,
        F: Future<Output = Result<T, Problem>> + 'static,
        W: FnOnce(Arc<dyn Api>, Data<AppState>) -> F,
    {
        let task = actix_rt::spawn(work(Arc::clone(&self.api), self.state.clone()));
        let outcome = task.await.map_err(|error| Error::new(error.to_string()))?;
        outcome.map_err(failed)
    }

    /// A function, also when it is archived.
    pub(super) fn function(&self, id: FunctionId) -> Result<Arc<Function>> {
        let function = self.catalog.function(id).cloned();
        function.ok_or_else(|| {
            failed(Problem::new(
                Code::UnknownFunction,
                format!("there is no function {id}"),
            ))
        })
    }

    /// Everything that is known of a run.
    ///
    /// # Errors
    /// When there is no such run.
    pub(super) async fn run(&self, id: RunId) -> Result<Arc<Viewed>> {
        let unknown = || failed(Problem::new(Code::UnknownRun, format!("there is no run {id}")));
        self.find_run(id).await?.ok_or_else(unknown)
    }

    /// The same; `None` if there is no such run.
    pub(super) async fn find_run(&self, id: RunId) -> Result<Option<Arc<Viewed>>> {
        let mut views = self.views.lock().await;
        if let Some(viewed) = views.get(&id) {
            return Ok(Some(Arc::clone(viewed)));
        }
        let viewed = Viewed::load(&self.api, id).await.map_err(failed)?.map(Arc::new);
        if let Some(viewed) = &viewed {
            views.insert(id, Arc::clone(viewed));
        }
        Ok(viewed)
    }

    /// Forgets what was loaded of a run, which has changed.
    pub(super) async fn forget(&self, id: RunId) {
        self.views.lock().await.remove(&id);
        self.runs.lock().await.clear();
    }

    /// Loads the runs of all these events at once.
    pub(super) async fn load_runs_of(&self, events: &[EventId]) -> Result<()> {
        let mut known = self.runs.lock().await;
        let missing: Vec<EventId> = events.iter().filter(|id| !known.contains_key(id)).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        known.extend(missing.iter().map(|id| (*id, Vec::new())));
        for (event, run) in self.store().runs_of_events(&missing).await.map_err(failed)? {
            known.entry(event).or_default().push(run);
        }
        Ok(())
    }

    /// The runs of an event, oldest first.
    pub(super) async fn runs_of(&self, event: EventId) -> Result<Vec<RunSummary>> {
        self.load_runs_of(&[event]).await?;
        Ok(self.runs.lock().await.get(&event).cloned().unwrap_or_default())
    }

    /// Loads all these events at once.
    pub(super) async fn load_events(&self, ids: &[EventId]) -> Result<()> {
        let mut known = self.events.lock().await;
        let missing: Vec<EventId> = ids.iter().filter(|id| !known.contains_key(id)).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let events = self.store().events_by_id(&missing).await.map_err(failed)?;
        known.extend(events.into_iter().map(|event| (event.id, event)));
        Ok(())
    }

    /// These events, in this order; what is kept no longer is left out.
    pub(super) async fn events(&self, ids: &[EventId]) -> Result<Vec<Event>> {
        self.load_events(ids).await?;
        let known = self.events.lock().await;
        Ok(ids.iter().filter_map(|id| known.get(id).cloned()).collect())
    }

    /// An event.
    ///
    /// # Errors
    /// When there is no such event.
    pub(super) async fn event(&self, id: EventId) -> Result<Event> {
        let found = self.events(&[id]).await?.pop();
        found.ok_or_else(|| failed(Problem::new(Code::UnknownEvent, format!("there is no event {id}"))))
    }

    /// Whether the app is being called for this run at this moment.
    pub(super) async fn is_called(&self, id: RunId) -> bool {
        let leases = self.api.queue().leases_of(id).await;
        leases.iter().any(|lease| lease.job.id.key.is_call())
    }
}
