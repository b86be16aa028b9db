//! A fake orchestrator: it remembers what it was asked, and answers what it was told to.

mod api_keys;
mod backends;
mod connections;
mod crons;
mod gatherings;
mod metadata;
mod operations;
mod overrides;
mod run_slots;
mod search;
mod server;
mod tree;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use callboard_actors::breaker::{self, Breakers};
use callboard_actors::catalog::Catalog;
use callboard_actors::domain::*;
use callboard_actors::kernel::ChildState;
use callboard_actors::kernel::credit::Gauges;
use callboard_actors::metrics::Metrics;
use callboard_actors::orchestrator::{
    Attendance, Begun, Cancelled, FiredGathering, Invoked, MetadataOutcome, OperationWish, Refusal, Retried, Tree,
};
use callboard_actors::ports::*;
use callboard_actors::rerun::{FromStep, Rerun, RerunError};
use callboard_actors::run_ends::{RunEnds, Watch};
use callboard_actors::scheduler::ledger::{SlotFilter, SlotPage};
use callboard_actors::workers::{self, Workers};
use serde_json::{Map, Value};

use crate::connect::Gateway;
use crate::http::{Api, Intake, Options, StartOptions, Syncer};
use crate::sdk::{ServerKind, SyncError};
use backends::{FakeQueue, FakeStore};
pub(crate) use server::{Answer, Server, listen};
use tree::tree;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_750_000_000_000);

/// What is asked and answered.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) accepted: Vec<Event>,
    /// Answers the next accept.
    pub(crate) refusal: Option<Refusal>,
    pub(crate) registered: Vec<Registration>,
    pub(crate) invoked: Vec<(String, Map<String, Value>)>,
    /// The last key of an invoke.
    pub(crate) keys: Vec<String>,
    pub(crate) signalled: Option<RunId>,
    pub(crate) cancelled: Option<Cancelled>,
    pub(crate) reports: Vec<(RunId, Option<FunctionId>, Ticket, Report)>,
    pub(crate) attendances: Vec<Attendance>,
    pub(crate) attended: Vec<(RunId, Vec<Opcode>)>,
    /// Refuses every report.
    pub(crate) report_refused: Option<ReportRefused>,
    pub(crate) reruns: Vec<(RunId, Option<FromStep>)>,
    pub(crate) wishes: Vec<OperationWish>,
    /// From new to old.
    pub(crate) api_keys: Vec<ApiKey>,
    /// Of workers, from new to old.
    pub(crate) connections: Vec<Connection>,
    /// How often all of them were asked for.
    pub(crate) key_loads: usize,
    pub(crate) operations: Vec<Operation>,
    pub(crate) metadata: HashMap<RunId, MetadataLog>,
    /// Spans that were added.
    pub(crate) spans: Vec<(RunId, UserSpan)>,
    pub(crate) noted: Vec<(RunId, Vec<(MetadataTarget, MetadataUpdate)>)>,
    /// What comes of the next update of metadata, if it is not simply written.
    pub(crate) metadata_outcome: Option<MetadataOutcome>,
    pub(crate) rerun_error: Option<RerunError>,
    pub(crate) has_app: bool,
    pub(crate) apps: Vec<AppView>,
    pub(crate) modes: Vec<(FunctionId, FunctionMode)>,
    pub(crate) notes: Vec<(String, Option<String>)>,
    pub(crate) runs: Vec<RunView>,
    pub(crate) states: HashMap<RunId, RunState>,
    pub(crate) events: Vec<EventView>,
    pub(crate) leases: Vec<Lease>,
    pub(crate) places: Vec<Place>,
    pub(crate) dead_letters: Vec<DeadLetter>,
    pub(crate) retried: Vec<LetterId>,
    pub(crate) letter_filters: Vec<DeadLetterFilter>,
    pub(crate) run_filters: Vec<RunFilter>,
    pub(crate) slots: SlotPage,
    pub(crate) gatherings: Vec<Gathered>,
    pub(crate) slot_filters: Vec<(FunctionId, SlotFilter)>,
    pub(crate) event_filters: Vec<EventFilter>,
    pub(crate) run_searches: Vec<RunSearch>,
    pub(crate) event_searches: Vec<EventSearch>,
    /// How often the runs of several events were asked for.
    pub(crate) batch_loads: usize,
    pub(crate) database: Fate,
    pub(crate) queue: Fate,
    pub(crate) queue_stats: QueueStats,
    pub(crate) flow: Flow,
    pub(crate) run_slots: Vec<(RuleId, KeyFlow)>,
    pub(crate) slot_place: Option<SlotPlace>,
    pub(crate) overrides: Vec<LimitOverride>,
    pub(crate) caps: HashMap<(FunctionId, Cap), usize>,
    pub(crate) counts: Counts,
    pub(crate) nodes: Vec<NodeView>,
    pub(crate) is_draining: bool,
    /// What the parts are doing that do not run, by name.
    pub(crate) ill: HashMap<&'static str, ChildState>,
    pub(crate) supervisor_is_stuck: bool,
    pub(crate) jobs_in_flight: usize,
}

/// What becomes of a question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    #[default]
    Answered,
    Refused,
    /// It is never answered.
    Lost,
}

impl Fate {
    async fn strike<E>(self, refusal: E) -> Result<(), E> {
        match self {
            Self::Answered => Ok(()),
            Self::Refused => Err(refusal),
            Self::Lost => std::future::pending().await,
        }
    }
}

#[derive(Clone, Default)]
pub(crate) struct Shared(pub(crate) Arc<Mutex<World>>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.0.lock().expect("no test panics with the lock"))
    }
}

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        NOW
    }
}

#[derive(Debug, Default)]
struct Counter(std::sync::atomic::AtomicU64);

impl Random for Counter {
    fn bits(&self) -> u128 {
        u128::from(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1)
    }
}

pub(crate) struct FakeApi {
    world: Shared,
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    metrics: Metrics,
    pub(crate) breakers: Breakers,
}

fn breakers() -> Breakers {
    Breakers::new(
        breaker::Settings::default(),
        Arc::new(FixedClock),
        Arc::new(Counter::default()),
    )
}

impl FakeApi {
    pub(crate) fn new(world: &Shared) -> Self {
        Self {
            world: world.clone(),
            store: Arc::new(FakeStore(world.clone())),
            queue: Arc::new(FakeQueue(world.clone())),
            clock: Arc::new(FixedClock),
            random: Arc::new(Counter::default()),
            metrics: Metrics::default(),
            breakers: breakers(),
        }
    }
}

impl FakeApi {
    fn take_letter(&self, id: LetterId) -> Option<DeadLetter> {
        self.world.with(|world| {
            let place = world.dead_letters.iter().position(|letter| letter.id == id)?;
            Some(world.dead_letters.remove(place))
        })
    }
}

#[async_trait(?Send)]
impl Api for FakeApi {
    async fn accept(&self, events: Vec<Event>) -> Result<(), Refusal> {
        self.world.with(|world| match world.refusal.take() {
            Some(refusal) => Err(refusal),
            None => {
                world.accepted.extend(events);
                Ok(())
            }
        })
    }
    async fn register(&self, registration: Registration) -> Result<SyncOutcome, Refusal> {
        self.world.with(|world| match world.refusal.take() {
            Some(refusal) => Err(refusal),
            None => {
                world.registered.push(registration);
                Ok(SyncOutcome { modified: true })
            }
        })
    }
    async fn remove_app(&self, _url: &str) -> Result<bool, Refusal> {
        Ok(self.world.with(|world| world.has_app))
    }
    async fn set_function_mode(&self, id: FunctionId, mode: FunctionMode) -> Result<bool, Refusal> {
        Ok(self.world.with(|world| {
            let mut functions = world.apps.iter_mut().flat_map(|view| &mut view.functions);
            let function = functions
                .find(|function| function.id == id)
                .expect("the handler looks first");
            function.mode = mode;
            world.modes.push((id, mode));
            true
        }))
    }
    fn cap(&self, function: FunctionId, cap: Cap, number: Option<usize>) -> bool {
        self.world
            .with(|world| match number {
                Some(number) => world.caps.insert((function, cap), number),
                None => world.caps.remove(&(function, cap)),
            })
            .is_some()
    }
    async fn invoke(&self, function: &str, payload: Map<String, Value>) -> Result<EventId, Refusal> {
        if function == "missing" {
            return Err(Refusal::UnknownFunction(function.to_owned()));
        }
        self.world
            .with(|world| world.invoked.push((function.to_owned(), payload)));
        Ok(EventId::new(NOW, 9))
    }
    async fn invoke_once(
        &self,
        function: &str,
        payload: Map<String, Value>,
        key: Option<String>,
    ) -> Result<Invoked, Refusal> {
        let event = self.invoke(function, payload).await?;
        Ok(self.world.with(|world| {
            let is_new = key.is_none_or(|key| !std::mem::replace(&mut world.keys, vec![key.clone()]).contains(&key));
            Invoked {
                event,
                run: RunId::new(NOW, 7),
                is_new,
            }
        }))
    }
    async fn signal(&self, _signal: &str, _data: Json) -> Result<Option<RunId>, Refusal> {
        Ok(self.world.with(|world| world.signalled))
    }
    async fn cancel(&self, _run: RunId) -> Result<Cancelled, Refusal> {
        Ok(self.world.with(|world| world.cancelled.unwrap_or(Cancelled::Unknown)))
    }
    async fn report(
        &self,
        run: RunId,
        function: Option<FunctionId>,
        ticket: Ticket,
        report: Report,
    ) -> Result<Result<(), ReportRefused>, Refusal> {
        Ok(self.world.with(|world| {
            world.reports.push((run, function, ticket, report));
            world.report_refused.map_or(Ok(()), Err)
        }))
    }
    async fn attend(&self, attendance: Attendance) -> Result<Begun, Refusal> {
        Ok(self.world.with(|world| {
            let is_taken = world.attendances.iter().any(|known| known.run == attendance.run);
            world.attendances.push(attendance);
            if is_taken { Begun::Taken } else { Begun::Yes }
        }))
    }
    async fn attended(
        &self,
        run: RunId,
        ops: Vec<Opcode>,
        _request_version: i32,
    ) -> Result<Result<(), ReportRefused>, Refusal> {
        Ok(self.world.with(|world| {
            world.attended.push((run, ops));
            world.report_refused.map_or(Ok(()), Err)
        }))
    }
    fn watch(&self, run: RunId) -> Watch {
        RunEnds::default().watch(run)
    }
    async fn rerun(&self, run: RunId, from: Option<FromStep>) -> Result<Rerun, RerunError> {
        self.world.with(|world| {
            world.reruns.push((run, from));
            world.rerun_error.take().map_or(
                Ok(Rerun {
                    run: RunId::new(NOW, 77),
                    original: run,
                }),
                Err,
            )
        })
    }
    async fn write_metadata(
        &self,
        run: RunId,
        updates: Vec<(MetadataTarget, MetadataUpdate)>,
    ) -> Result<MetadataOutcome, Refusal> {
        Ok(self.world.with(|world| {
            world.noted.push((run, updates));
            world.metadata_outcome.take().unwrap_or(MetadataOutcome::Written)
        }))
    }
    async fn retry_dead_letter(&self, id: LetterId) -> Result<Option<DeadLetter>, Refusal> {
        self.world.with(|world| world.retried.push(id));
        Ok(self.take_letter(id))
    }
    async fn discard_dead_letter(&self, id: LetterId) -> Result<Option<DeadLetter>, Refusal> {
        Ok(self.take_letter(id))
    }
    async fn retry_dead_letters(&self, filter: DeadLetterFilter) -> Result<Retried, Refusal> {
        Ok(self.world.with(|world| {
            let count = world.dead_letters.len().min(filter.limit);
            let has_more = world.dead_letters.len() > count;
            world.letter_filters.push(filter);
            Retried { count, has_more }
        }))
    }
    async fn preview_operation(&self, wish: OperationWish) -> Result<Estimate, Refusal> {
        self.world.with(|world| world.wishes.push(wish));
        Ok(Estimate {
            count: 7,
            precision: Precision::AtLeast,
        })
    }
    async fn begin_operation(&self, wish: OperationWish) -> Result<Operation, Refusal> {
        let total = self.preview_operation(wish.clone()).await?;
        let operation = operation(wish, total);
        self.world.with(|world| world.operations.insert(0, operation.clone()));
        Ok(operation)
    }
    async fn cancel_operation(&self, id: OperationId) -> Result<Option<Operation>, Refusal> {
        Ok(self.world.with(|world| {
            let operation = world.operations.iter_mut().find(|operation| operation.id == id)?;
            operation.state = OperationState::Cancelled;
            Some(operation.clone())
        }))
    }
    async fn fire_gathering(&self, id: GatheringId) -> Result<Option<FiredGathering>, Refusal> {
        Ok(self.world.with(|world| {
            let place = world.gatherings.iter().position(|held| held.gathering.id == id)?;
            let held = world.gatherings.remove(place);
            Some(FiredGathering {
                run: Some(RunId::of_gathering(id, NOW)),
                events: held.events.len(),
            })
        }))
    }
    async fn slots(&self, function: FunctionId, filter: SlotFilter) -> Result<Option<SlotPage>, StoreError> {
        Ok(self.world.with(|world| {
            world.slot_filters.push((function, filter));
            Some(world.slots.clone())
        }))
    }
    fn breakers(&self) -> &Breakers {
        &self.breakers
    }
    async fn set_breaker(&self, app: &str, breaker: Option<bool>) -> Result<bool, Refusal> {
        Ok(self.world.with(|world| {
            let found = world.apps.iter_mut().find(|view| &*view.app.name == app);
            found.map(|view| view.breaker = breaker).is_some()
        }))
    }
    async fn override_limit(&self, numbers: LimitOverride) -> Result<(), Refusal> {
        self.world.with(|world| world.overrides.push(numbers));
        Ok(())
    }
    async fn end_overrides(&self, function: FunctionId, rule: Option<RuleId>) -> Result<bool, Refusal> {
        let is_meant = |of: &LimitOverride| of.function == function && rule.is_none_or(|rule| rule == of.rule);
        Ok(self.world.with(|world| {
            let before = world.overrides.len();
            world.overrides.retain(|numbers| !is_meant(numbers));
            world.overrides.len() < before
        }))
    }
    fn note_sync(&self, url: &str, error: Option<String>) {
        self.world.with(|world| world.notes.push((url.to_owned(), error)));
    }
    fn catalog(&self) -> Arc<Catalog> {
        Arc::new(Catalog::new(CatalogView {
            revision: 0,
            apps: self.world.with(|world| world.apps.clone()),
            overrides: self.world.with(|world| world.overrides.clone()),
        }))
    }
    async fn status(&self) -> Value {
        serde_json::json!({"children": []})
    }
    async fn tree(&self) -> Tree {
        Tree {
            snapshot: Arc::new(self.world.with(|world| tree(world))),
            is_current: !self.world.with(|world| world.supervisor_is_stuck),
        }
    }
    async fn nodes(&self) -> Result<Vec<NodeView>, StoreError> {
        self.store.nodes().await
    }
    fn node(&self) -> Node {
        node(1, "here")
    }
    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
    fn permits(&self) -> Gauges {
        let in_use = self.world.with(|world| world.jobs_in_flight);
        Gauges {
            limit: 4,
            in_use,
            keys: 1,
            waiting: 0,
        }
    }
    fn is_draining(&self) -> bool {
        self.world.with(|world| world.is_draining)
    }
    fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
    fn queue(&self) -> &Arc<dyn Queue> {
        &self.queue
    }
    fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
    fn random(&self) -> &Arc<dyn Random> {
        &self.random
    }
}

fn operation(wish: OperationWish, total: Estimate) -> Operation {
    Operation {
        id: OperationId::new(NOW, 5),
        kind: wish.kind,
        filter: wish.filter,
        rate: wish.rate,
        total,
        state: OperationState::Running,
        progress: Progress {
            done: 3,
            failed: 2,
            skipped: 1,
        },
        cursor: Cursor::default(),
        page: Vec::new(),
        page_at: None,
        last_error: None,
        ended_at: None,
        version: 0,
    }
}

/// A node that started with the epoch of the tests.
pub(crate) fn node(n: u128, name: &str) -> Node {
    Node {
        id: NodeId::new(NOW, n),
        name: name.to_owned(),
        address: "127.0.0.1:8288".to_owned(),
        version: "1.2.3".to_owned(),
        started_at: NOW,
        state: NodeState::Serving,
        jobs_in_flight: 0,
    }
}

pub(crate) struct FakeSyncer;

#[async_trait(?Send)]
impl Syncer for FakeSyncer {
    async fn sync(&self, url: &str) -> Result<(), SyncError> {
        if url.contains("down") {
            return Err(SyncError::Unreachable("connection refused".to_owned()));
        }
        Ok(())
    }
}

fn workers() -> Workers {
    Workers::new(
        workers::Settings::default(),
        Arc::new(FixedClock),
        Arc::new(Counter::default()),
    )
}

pub(crate) fn options() -> Options {
    Options {
        kind: ServerKind::Dev,
        signing_keys: None,
        api_keys: Vec::new(),
        event_keys: Vec::new(),
        require_event_keys: false,
        request_bytes: 1024 * 1024,
        intake: Intake::new(10_000, 8 * 1024 * 1024),
        default_app_url: "http://localhost:3000/api/inngest".to_owned(),
        syncer: Box::new(FakeSyncer),
        graphql: true,
        testing: false,
        gateway: Gateway::new(workers(), None),
        gateway_port: None,
        gateway_url: None,
        realtime: crate::realtime::Broadcaster::default(),
        start: StartOptions::default(),
    }
}
