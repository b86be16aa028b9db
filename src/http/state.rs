//! What handlers share.
//!
//! The server listens before the orchestrator is ready, so that a deployment sees it come up: until then every handler
//! that needs the orchestrator answers 503. The orchestrator stands behind [`Api`], so that handlers are tested without.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use actix_web::web;
use async_trait::async_trait;
use callboard_actors::breaker::Breakers;
use callboard_actors::catalog::Catalog;
use callboard_actors::domain::{
    Cap, DeadLetter, Estimate, Event, EventId, FunctionId, FunctionMode, GatheringId, Json, LetterId, LimitOverride,
    MetadataTarget, MetadataUpdate, Node, Opcode, Operation, OperationId, Registration, Report, ReportRefused, RuleId,
    RunId, SyncOutcome, Ticket,
};
use callboard_actors::kernel::credit::Gauges;
use callboard_actors::metrics::Metrics;
use callboard_actors::orchestrator::{
    Attendance, Begun, Cancelled, FiredGathering, Invoked, MetadataOutcome, OperationWish, Orchestrator, Refusal,
    Retried, Tree,
};
use callboard_actors::ports::{Clock, DeadLetterFilter, NodeView, Queue, Random, Store, StoreError};
use callboard_actors::rerun::{FromStep, Rerun, RerunError};
use callboard_actors::run_ends::Watch;
use callboard_actors::scheduler::ledger::{SlotFilter, SlotPage};
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::Intake;
use super::auth::KeyRing;
use super::metrics::Asked;
use super::refusals::Refusals;
use crate::connect::Gateway;
use crate::error::{Code, Problem};
use crate::realtime::Broadcaster;
use crate::sdk::signing::Keys;
use crate::sdk::{ServerKind, SyncError, Tokens};

/// The orchestrator as handlers see it. [`Orchestrator`] documents each.
#[expect(missing_docs, reason = "documented where they are delegated to")]
#[async_trait(?Send)]
pub trait Api: Send + Sync {
    async fn accept(&self, events: Vec<Event>) -> Result<(), Refusal>;
    async fn register(&self, registration: Registration) -> Result<SyncOutcome, Refusal>;
    async fn remove_app(&self, url: &str) -> Result<bool, Refusal>;
    async fn set_function_mode(&self, id: FunctionId, mode: FunctionMode) -> Result<bool, Refusal>;
    fn cap(&self, function: FunctionId, cap: Cap, number: Option<usize>) -> bool;
    async fn invoke(&self, function: &str, payload: Map<String, Value>) -> Result<EventId, Refusal>;
    async fn invoke_once(
        &self,
        function: &str,
        payload: Map<String, Value>,
        key: Option<String>,
    ) -> Result<Invoked, Refusal>;
    async fn signal(&self, signal: &str, data: Json) -> Result<Option<RunId>, Refusal>;
    async fn cancel(&self, run: RunId) -> Result<Cancelled, Refusal>;
    async fn report(
        &self,
        run: RunId,
        function: Option<FunctionId>,
        ticket: Ticket,
        report: Report,
    ) -> Result<Result<(), ReportRefused>, Refusal>;
    async fn attend(&self, attendance: Attendance) -> Result<Begun, Refusal>;
    async fn attended(
        &self,
        run: RunId,
        ops: Vec<Opcode>,
        request_version: i32,
    ) -> Result<Result<(), ReportRefused>, Refusal>;
    fn watch(&self, run: RunId) -> Watch;
    async fn rerun(&self, run: RunId, from: Option<FromStep>) -> Result<Rerun, RerunError>;
    async fn write_metadata(
        &self,
        run: RunId,
        updates: Vec<(MetadataTarget, MetadataUpdate)>,
    ) -> Result<MetadataOutcome, Refusal>;
    async fn retry_dead_letter(&self, id: LetterId) -> Result<Option<DeadLetter>, Refusal>;
    async fn discard_dead_letter(&self, id: LetterId) -> Result<Option<DeadLetter>, Refusal>;
    async fn retry_dead_letters(&self, filter: DeadLetterFilter) -> Result<Retried, Refusal>;
    async fn preview_operation(&self, wish: OperationWish) -> Result<Estimate, Refusal>;
    async fn begin_operation(&self, wish: OperationWish) -> Result<Operation, Refusal>;
    async fn cancel_operation(&self, id: OperationId) -> Result<Option<Operation>, Refusal>;
    async fn slots(&self, function: FunctionId, filter: SlotFilter) -> Result<Option<SlotPage>, StoreError>;
    async fn fire_gathering(&self, id: GatheringId) -> Result<Option<FiredGathering>, Refusal>;
    async fn override_limit(&self, numbers: LimitOverride) -> Result<(), Refusal>;
    async fn end_overrides(&self, function: FunctionId, rule: Option<RuleId>) -> Result<bool, Refusal>;
    fn note_sync(&self, url: &str, error: Option<String>);
    fn breakers(&self) -> &Breakers;
    async fn set_breaker(&self, app: &str, breaker: Option<bool>) -> Result<bool, Refusal>;
    fn catalog(&self) -> Arc<Catalog>;
    async fn status(&self) -> Value;
    async fn tree(&self) -> Tree;
    async fn nodes(&self) -> Result<Vec<NodeView>, StoreError>;
    fn node(&self) -> Node;
    fn metrics(&self) -> &Metrics;
    fn permits(&self) -> Gauges;
    fn is_draining(&self) -> bool;
    fn store(&self) -> &Arc<dyn Store>;
    fn queue(&self) -> &Arc<dyn Queue>;
    fn clock(&self) -> &Arc<dyn Clock>;
    fn random(&self) -> &Arc<dyn Random>;
}

#[async_trait(?Send)]
impl Api for Orchestrator {
    async fn accept(&self, events: Vec<Event>) -> Result<(), Refusal> {
        Self::accept(self, events).await
    }
    async fn register(&self, registration: Registration) -> Result<SyncOutcome, Refusal> {
        Self::register(self, registration).await
    }
    async fn remove_app(&self, url: &str) -> Result<bool, Refusal> {
        Self::remove_app(self, url).await
    }
    async fn set_function_mode(&self, id: FunctionId, mode: FunctionMode) -> Result<bool, Refusal> {
        Self::set_function_mode(self, id, mode).await
    }
    fn cap(&self, function: FunctionId, cap: Cap, number: Option<usize>) -> bool {
        Self::cap(self, function, cap, number)
    }
    async fn invoke(&self, function: &str, payload: Map<String, Value>) -> Result<EventId, Refusal> {
        Self::invoke(self, function, payload).await
    }
    async fn invoke_once(
        &self,
        function: &str,
        payload: Map<String, Value>,
        key: Option<String>,
    ) -> Result<Invoked, Refusal> {
        Self::invoke_once(self, function, payload, key.as_deref()).await
    }
    async fn signal(&self, signal: &str, data: Json) -> Result<Option<RunId>, Refusal> {
        Self::signal(self, signal, data).await
    }
    async fn cancel(&self, run: RunId) -> Result<Cancelled, Refusal> {
        Self::cancel(self, run).await
    }
    async fn report(
        &self,
        run: RunId,
        function: Option<FunctionId>,
        ticket: Ticket,
        report: Report,
    ) -> Result<Result<(), ReportRefused>, Refusal> {
        Self::report(self, run, function, &ticket, report).await
    }
    async fn attend(&self, attendance: Attendance) -> Result<Begun, Refusal> {
        Self::attend(self, attendance).await
    }
    async fn attended(
        &self,
        run: RunId,
        ops: Vec<Opcode>,
        request_version: i32,
    ) -> Result<Result<(), ReportRefused>, Refusal> {
        Self::attended(self, run, ops, request_version).await
    }
    fn watch(&self, run: RunId) -> Watch {
        Self::watch(self, run)
    }
    async fn rerun(&self, run: RunId, from: Option<FromStep>) -> Result<Rerun, RerunError> {
        Self::rerun(self, run, from.as_ref()).await
    }
    async fn write_metadata(
        &self,
        run: RunId,
        updates: Vec<(MetadataTarget, MetadataUpdate)>,
    ) -> Result<MetadataOutcome, Refusal> {
        Self::write_metadata(self, run, &updates).await
    }
    async fn retry_dead_letter(&self, id: LetterId) -> Result<Option<DeadLetter>, Refusal> {
        Self::retry_dead_letter(self, id).await
    }
    async fn discard_dead_letter(&self, id: LetterId) -> Result<Option<DeadLetter>, Refusal> {
        Self::discard_dead_letter(self, id).await
    }
    async fn retry_dead_letters(&self, filter: DeadLetterFilter) -> Result<Retried, Refusal> {
        Self::retry_dead_letters(self, &filter).await
    }
    async fn preview_operation(&self, wish: OperationWish) -> Result<Estimate, Refusal> {
        Self::preview_operation(self, wish).await
    }
    async fn begin_operation(&self, wish: OperationWish) -> Result<Operation, Refusal> {
        Self::begin_operation(self, wish).await
    }
    async fn cancel_operation(&self, id: OperationId) -> Result<Option<Operation>, Refusal> {
        Self::cancel_operation(self, id).await
    }
    async fn slots(&self, function: FunctionId, filter: SlotFilter) -> Result<Option<SlotPage>, StoreError> {
        Self::slots(self, function, filter).await
    }
    async fn fire_gathering(&self, id: GatheringId) -> Result<Option<FiredGathering>, Refusal> {
        Self::fire_gathering(self, id).await
    }
    async fn override_limit(&self, numbers: LimitOverride) -> Result<(), Refusal> {
        Self::override_limit(self, numbers).await
    }
    async fn end_overrides(&self, function: FunctionId, rule: Option<RuleId>) -> Result<bool, Refusal> {
        Self::end_overrides(self, function, rule).await
    }
    fn note_sync(&self, url: &str, error: Option<String>) {
        Self::note_sync(self, url, error);
    }
    fn breakers(&self) -> &Breakers {
        Self::breakers(self)
    }
    async fn set_breaker(&self, app: &str, breaker: Option<bool>) -> Result<bool, Refusal> {
        Self::set_breaker(self, app, breaker).await
    }
    fn catalog(&self) -> Arc<Catalog> {
        Self::catalog(self)
    }
    async fn status(&self) -> Value {
        Self::status_now(self).await
    }
    async fn tree(&self) -> Tree {
        Self::tree(self).await
    }
    async fn nodes(&self) -> Result<Vec<NodeView>, StoreError> {
        Self::nodes(self).await
    }
    fn node(&self) -> Node {
        Self::node(self)
    }
    fn metrics(&self) -> &Metrics {
        Self::metrics(self)
    }
    fn permits(&self) -> Gauges {
        Self::permits(self)
    }
    fn is_draining(&self) -> bool {
        Self::is_draining(self)
    }
    fn store(&self) -> &Arc<dyn Store> {
        Self::store(self)
    }
    fn queue(&self) -> &Arc<dyn Queue> {
        Self::queue(self)
    }
    fn clock(&self) -> &Arc<dyn Clock> {
        Self::clock(self)
    }
    fn random(&self) -> &Arc<dyn Random> {
        Self::random(self)
    }
}

/// Asks an app to register.
#[async_trait(?Send)]
pub trait Syncer: Send + Sync {
    /// Asks the app at this URL to register with this server now, and waits until it has done so.
    ///
    /// # Errors
    /// When the app does not answer, or does not register.
    async fn sync(&self, url: &str) -> Result<(), SyncError>;
}

/// What `GET /dev` tells of how the server was started.
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    /// App URLs given at the start.
    pub urls: Vec<String>,
    /// Whether apps are looked for.
    pub discovery: bool,
    /// Seconds between polls of apps; 0 for none.
    pub poll_interval: u64,
    /// Seconds between retries, where they were fixed; 0 otherwise.
    pub retry_interval: u64,
    /// Calls under way, at the most.
    pub calls: usize,
    /// Where the built-in database is; empty if another one is used.
    pub directory: String,
}

/// What [`AppState`] is made of.
pub struct Options {
    /// What to tell SDKs.
    pub kind: ServerKind,
    /// What bearers are checked against, with `api_keys`; without either everybody may.
    pub signing_keys: Option<Arc<Keys>>,
    /// What will do as a bearer too, for everything.
    pub api_keys: Vec<SecretString>,
    /// The event keys of the settings; none: every key will do, unless `require_event_keys`.
    pub event_keys: Vec<SecretString>,
    /// Whether to refuse events rather than to take them without a key configured.
    pub require_event_keys: bool,
    /// Bytes one request may have.
    pub request_bytes: usize,
    /// What may be on its way in.
    pub intake: Intake,
    /// Where functions live that are registered by hand without a URL.
    pub default_app_url: String,
    /// Asks apps to register.
    pub syncer: Box<dyn Syncer>,
    /// Whether GraphQL is served.
    pub graphql: bool,
    /// Whether there is what only tests need; on servers of developers.
    pub testing: bool,
    /// Workers that connect.
    pub gateway: Gateway,
    /// The port of their own that they have, if they have one.
    pub gateway_port: Option<u16>,
    /// Where they are told to connect; `None`: there.
    pub gateway_url: Option<String>,
    /// Who is subscribed to what is published.
    pub realtime: Broadcaster,
    /// For `GET /dev`.
    pub start: StartOptions,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What handlers share.
#[derive(Debug)]
pub struct AppState {
    api: OnceLock<Ready>,
    /// What the start waits for.
    waiting: Mutex<Option<Problem>>,
    pub(super) options: Options,
    /// What it gives out to be shown again.
    pub(super) tokens: Tokens,
    /// The keys that operators have made.
    pub(super) ring: KeyRing,
    /// Requests with events that were refused.
    pub(super) refusals: Refusals,
    /// What queue and database last said of their sizes.
    pub(super) asked: Asked,
    /// Whether something was down when that was last asked.
    pub(super) is_failing: AtomicBool,
}

struct Ready(Arc<dyn Api>);

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ready")
    }
}

impl AppState {
    /// State without an orchestrator as yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            api: OnceLock::new(),
            waiting: Mutex::default(),
            tokens: Tokens::new(options.signing_keys.as_deref()),
            options,
            ring: KeyRing::default(),
            refusals: Refusals::default(),
            asked: Asked::default(),
            is_failing: AtomicBool::new(false),
        }
    }

    /// The start waits for this to be over.
    pub fn waits_for(&self, problem: Problem) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
    }

    /// What the start waits for, if it has said so.
    #[must_use]
    pub fn waiting(&self) -> Option<Problem> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The orchestrator is ready. Only the first one counts.
    pub fn ready(&self, api: Arc<dyn Api>) {
        let _ = self.api.set(Ready(api));
    }

    /// The orchestrator.
    ///
    /// # Errors
    /// [`Code::Unavailable`] while it starts.
    pub fn api(&self) -> Result<&Arc<dyn Api>, Problem> {
        let ready = self.api.get();
        ready.map(|ready| &ready.0).ok_or_else(|| {
            let waiting = self.waiting();
            let message = waiting.map_or_else(
                || "the server is starting".to_owned(),
                |problem| format!("the server is starting, and waits: {}", problem.message),
            );
            Problem::new(Code::Unavailable, message)
        })
    }
}

/// The state as handlers ask for it.
pub(super) type State = web::Data<AppState>;
