//! The store's contract in memory, and every way in which it may fail.

mod api_keys;
mod connections;
mod crons;
mod gatherings;
mod metadata;
mod operations;
mod overrides;
mod rows;
mod run_slots;
mod search;
mod starts;
mod views;
mod writes;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Mutex;

use async_trait::async_trait;
use tokio::sync::Notify;

use self::gatherings::Held;
use super::EPOCH;
use crate::domain::{
    Accept, Advance, App, Change, ClaimId, DeadLetter, Event, EventId, Function, FunctionId, FunctionMode, Gates,
    GatheringId, Job, JobId, JobKey, Joined, Json, LetterId, Level, LimitOverride, Lookup, MetadataRecord, Node,
    NodeId, Operation, OperationId, Registration, Route, RunId, RunState, Skip, SyncOutcome, Timestamp, Wait, Write,
    Written,
};
use crate::ports::{
    AppView, Audit, AuditScope, CatalogView, Counts, CronGap, CronMark, DeadLetterFilter, EventFilter, EventView,
    Except, Expiry, Finding, NodeView, Orphans, Page, RunFilter, RunSummary, RunView, Store, StoreError,
};

/// What befalls a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It fails for a passing reason.
    Unavailable,
    /// No room is left.
    Full,
    /// It is made, and then the caller hears that it was not.
    Forgotten,
    /// It comes to nothing until [`FakeStore::thaw`].
    Hang,
    /// The caller dies before it.
    Panic,
    /// It is made, and the caller dies before it hears of it.
    PanicAfter,
}

#[derive(Debug, Default)]
struct Inner {
    events: BTreeMap<EventId, Event>,
    unrouted: BTreeSet<EventId>,
    runs: HashMap<RunId, RunState>,
    outputs: HashMap<RunId, Json>,
    jobs: BTreeMap<JobId, Job>,
    waits: BTreeMap<(RunId, String), Wait>,
    skips: Vec<Skip>,
    keys: HashMap<(FunctionId, String), RunId>,
    levels: HashMap<ClaimId, Level>,
    locks: HashMap<ClaimId, RunId>,
    letters: BTreeMap<(RunId, JobKey), DeadLetter>,
    apps: Vec<AppView>,
    revision: u64,
    nodes: BTreeMap<NodeId, NodeView>,
    turns: HashMap<String, (NodeId, Timestamp)>,
    faults: VecDeque<Fault>,
    load_faults: VecDeque<Fault>,
    catalog_faults: usize,
    refused: HashSet<String>,
    refused_events: HashSet<EventId>,
    batches: Vec<usize>,
    loads: usize,
    due_queries: usize,
    cron_marks: BTreeMap<(FunctionId, String), CronMark>,
    cron_gaps: Vec<CronGap>,
    cron_notes: usize,
    cron_faults: usize,
    gatherings: BTreeMap<GatheringId, Held>,
    gathered_keys: HashMap<(FunctionId, String), Timestamp>,
    run_slots: BTreeMap<RunId, run_slots::Row>,
    overrides: Vec<LimitOverride>,
    metadata: HashMap<RunId, MetadataRecord>,
    operations: BTreeMap<OperationId, Operation>,
    operation_faults: usize,
}

/// The store.
#[derive(Debug, Default)]
pub(crate) struct FakeStore {
    inner: Mutex<Inner>,
    thawed: Notify,
}

impl FakeStore {
    /// With these functions registered.
    pub(crate) fn with(functions: Vec<Function>) -> Self {
        let store = Self::default();
        let app = App {
            name: "shop".into(),
            url: "http://localhost:3000/api/inngest".to_owned(),
            sdk: "js:v4".to_owned(),
            framework: None,
            version: None,
            checksum: String::new(),
            error: None,
            synced_at: EPOCH,
        };
        store.lock().apps.push(AppView {
            app,
            functions,
            breaker: None,
        });
        store
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic under the lock")
    }

    /// What befalls the next commits, one each.
    pub(crate) fn fail(&self, faults: &[Fault]) {
        self.lock().faults.extend(faults);
    }

    /// What befalls the next reads of run states.
    pub(crate) fn fail_loads(&self, faults: &[Fault]) {
        self.lock().load_faults.extend(faults);
    }

    /// So many reads of the catalog fail.
    pub(crate) fn fail_catalog(&self, times: usize) {
        self.lock().catalog_faults = times;
    }

    /// Another node registers this function besides the others.
    pub(crate) fn register_elsewhere(&self, function: Function) {
        let mut inner = self.lock();
        inner.apps[0].functions.push(function);
        inner.revision += 1;
    }

    /// The nodes that have shown themselves.
    pub(crate) fn seen_nodes(&self) -> Vec<NodeView> {
        self.lock().nodes.values().cloned().collect()
    }

    /// Forgets that any node has shown itself.
    pub(crate) fn forget_nodes(&self) {
        self.lock().nodes.clear();
    }

    /// The database refuses every write that accepts or routes an event of this name.
    pub(crate) fn refuse(&self, event: &str) {
        self.lock().refused.insert(event.to_owned());
    }

    /// Another node registers this app's functions in place of the others.
    pub(crate) fn replace_functions(&self, functions: Vec<Function>) {
        let mut inner = self.lock();
        inner.apps[0].functions = functions;
        inner.revision += 1;
    }

    /// From now on the database refuses to route this event.
    pub(crate) fn refuse_event(&self, event: EventId) {
        let mut inner = self.lock();
        inner.unrouted.insert(event);
        inner.refused_events.insert(event);
    }

    /// Lets hanging commits go on.
    pub(crate) fn thaw(&self) {
        self.thawed.notify_one();
    }
}

fn error(fault: Fault) -> StoreError {
    match fault {
        Fault::Full => StoreError::Full("as the test wants it".to_owned()),
        _ => StoreError::Unavailable("as the test wants it".to_owned()),
    }
}

#[async_trait]
impl Audit for FakeStore {
    async fn audit(&self, _: &AuditScope) -> Result<Vec<Finding>, StoreError> {
        Err(StoreError::Refused("nobody audits here".to_owned()))
    }
}

#[async_trait]
impl Store for FakeStore {
    async fn commit(&self, batch: &[Write]) -> Result<Vec<Written>, StoreError> {
        let fault = {
            let mut inner = self.lock();
            inner.batches.push(batch.len());
            inner.faults.pop_front()
        };
        // An `await` between the call and the commit, as with any database.
        tokio::task::yield_now().await;
        match fault {
            Some(Fault::Hang) => self.thawed.notified().await,
            Some(Fault::Panic) => panic!("the store panics, as the test wants it"),
            Some(fault @ (Fault::Unavailable | Fault::Full)) => return Err(error(fault)),
            _ => {}
        }
        let written = {
            let mut inner = self.lock();
            if batch.iter().any(|write| inner.is_refused(write)) {
                return Err(StoreError::Refused("as the test wants it".to_owned()));
            }
            batch.iter().map(|write| inner.write(write)).collect()
        };
        match fault {
            Some(Fault::PanicAfter) => panic!("the store panics after a commit, as the test wants it"),
            Some(fault @ Fault::Forgotten) => Err(error(fault)),
            _ => Ok(written),
        }
    }

    async fn load_runs(&self, ids: &[RunId]) -> Result<Vec<RunState>, StoreError> {
        let (fault, states) = {
            let mut inner = self.lock();
            inner.loads += ids.len();
            let states = ids.iter().filter_map(|id| inner.load(*id)).collect();
            (inner.load_faults.pop_front(), states)
        };
        tokio::task::yield_now().await;
        match fault {
            None | Some(Fault::None) => {}
            Some(Fault::Hang) => self.thawed.notified().await,
            Some(Fault::Panic | Fault::PanicAfter) => panic!("the store panics, as the test wants it"),
            Some(fault) => return Err(error(fault)),
        }
        Ok(states)
    }

    async fn jobs_due(
        &self,
        until: Timestamp,
        after: Option<(Timestamp, JobId)>,
        except: Except<'_>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let mut inner = self.lock();
        inner.due_queries += 1;
        let place = |job: &Job| (job.due, job.id.run, job.id.key.to_string());
        let after = after.map(|(due, id)| (due, id.run, id.key.to_string()));
        let mut jobs: Vec<Job> = inner.jobs.values().filter(|job| job.due < until).cloned().collect();
        jobs.sort_by_key(place);
        let is_left_out = |job: &Job| {
            let is_held = job.id.key.is_call() && except.calls_of.contains(&job.function);
            is_held || except.functions.contains(&job.function)
        };
        jobs.retain(|job| after.as_ref().is_none_or(|after| place(job) > *after) && !is_left_out(job));
        jobs.truncate(limit);
        Ok(jobs)
    }

    async fn starts_of(&self, function: FunctionId, limit: usize) -> Result<Vec<(Gates, Timestamp)>, StoreError> {
        let inner = self.lock();
        let runs = inner
            .runs
            .values()
            .filter(|run| run.function == function && !run.gates.is_empty());
        let mut starts: Vec<_> = runs
            .filter_map(|run| Some((run.id, run.gates.clone(), run.started_at?)))
            .collect();
        starts.sort_by_key(|(id, ..)| std::cmp::Reverse(*id));
        Ok(starts
            .into_iter()
            .take(limit)
            .map(|(_, gates, at)| (gates, at))
            .collect())
    }

    async fn next_due(&self, from: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let inner = self.lock();
        Ok(inner.jobs.values().map(|job| job.due).filter(|due| *due >= from).min())
    }

    async fn unrouted(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        let inner = self.lock();
        let ids = inner.unrouted.iter().take(limit);
        Ok(ids.filter_map(|id| inner.events.get(id).cloned()).collect())
    }

    async fn events_by_id(&self, ids: &[EventId]) -> Result<Vec<Event>, StoreError> {
        let inner = self.lock();
        Ok(ids.iter().filter_map(|id| inner.events.get(id).cloned()).collect())
    }

    async fn events_named(
        &self,
        name: &str,
        from: Timestamp,
        until: Timestamp,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let inner = self.lock();
        let behind = |id: &EventId| after.is_none_or(|after| *id > after);
        let mut found: Vec<_> = inner
            .events
            .values()
            .filter(|event| event.name == name && behind(&event.id))
            .filter(|event| from <= event.received_at && event.received_at < until)
            .cloned()
            .collect();
        found.sort_by_key(|event| event.id);
        found.truncate(limit);
        Ok(found)
    }

    async fn wait_paths(&self, name: &str) -> Result<Vec<Option<String>>, StoreError> {
        let inner = self.lock();
        let waits = inner.waits.values().filter(|wait| wait.name == name);
        let paths: BTreeSet<_> = waits
            .map(|wait| wait.lookup.as_ref().map(|lookup| lookup.path.clone()))
            .collect();
        Ok(paths.into_iter().collect())
    }

    async fn waits(
        &self,
        name: &str,
        lookups: &[Option<Lookup>],
        after: Option<(RunId, String)>,
        limit: usize,
    ) -> Result<Vec<Wait>, StoreError> {
        let inner = self.lock();
        let behind = |key: &(RunId, String)| after.as_ref().is_none_or(|after| key > after);
        let waits = inner
            .waits
            .iter()
            .filter(|(key, wait)| wait.name == name && behind(key) && lookups.contains(&wait.lookup));
        Ok(waits.map(|(_, wait)| wait.clone()).take(limit).collect())
    }

    async fn catalog(&self) -> Result<CatalogView, StoreError> {
        let mut inner = self.lock();
        if inner.catalog_faults > 0 {
            inner.catalog_faults -= 1;
            return Err(error(Fault::Unavailable));
        }
        Ok(CatalogView {
            revision: inner.revision,
            apps: inner.apps.clone(),
            overrides: inner.overrides.clone(),
        })
    }

    async fn sync_app(&self, registration: &Registration) -> Result<SyncOutcome, StoreError> {
        let mut inner = self.lock();
        let (app, functions) = (&registration.app, &registration.functions);
        let known = inner.apps.iter().position(|known| known.app.name == app.name);
        if known.is_some_and(|known| inner.apps[known].app.checksum == app.checksum) {
            return Ok(SyncOutcome { modified: false });
        }
        let mut view = AppView {
            app: app.clone(),
            functions: functions.clone(),
            breaker: known.and_then(|known| inner.apps[known].breaker),
        };
        for function in &mut view.functions {
            let mut known = inner.apps.iter().flat_map(|view| &view.functions);
            let known = known.find(|known| known.id == function.id);
            function.mode = known.map_or(FunctionMode::Active, |known| known.mode);
        }
        match known {
            Some(known) => inner.apps[known] = view,
            None => inner.apps.push(view),
        }
        inner.revision += 1;
        Ok(SyncOutcome { modified: true })
    }

    async fn note_sync_error(&self, _: &str, _: Option<&str>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn set_breaker(&self, app: &str, breaker: Option<bool>) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let Some(view) = inner.apps.iter_mut().find(|view| &*view.app.name == app) else {
            return Ok(false);
        };
        view.breaker = breaker;
        inner.revision += 1;
        Ok(true)
    }

    async fn remove_app(&self, url: &str) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let before = inner.apps.len();
        inner.apps.retain(|view| view.app.url != url);
        Ok(inner.apps.len() < before)
    }

    async fn set_function_mode(&self, id: FunctionId, mode: FunctionMode) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let mut functions = inner.apps.iter_mut().flat_map(|view| &mut view.functions);
        let is_other = |function: &&mut Function| function.id == id && function.mode.as_str() != mode.as_str();
        let Some(function) = functions.find(is_other) else {
            return Ok(false);
        };
        function.mode = mode;
        inner.revision += 1;
        Ok(true)
    }

    async fn open_runs(&self, functions: &[FunctionId]) -> Result<Vec<(FunctionId, u64)>, StoreError> {
        let inner = self.lock();
        let open = |id: &FunctionId| {
            let of = inner
                .runs
                .values()
                .filter(|run| run.function == *id && !run.status.is_final());
            (*id, of.count().try_into().unwrap_or(0))
        };
        Ok(functions.iter().map(open).collect())
    }

    async fn event_view(&self, id: EventId) -> Result<Option<EventView>, StoreError> {
        let inner = self.lock();
        let skips = inner.skips.iter().filter(|skip| skip.event == id);
        Ok(inner.events.get(&id).map(|event| EventView {
            event: event.clone(),
            runs: Vec::new(),
            skips: skips.cloned().collect(),
            gatherings: inner.gatherings_of(id),
        }))
    }

    async fn list_events(&self, _: &EventFilter) -> Result<Page<Event>, StoreError> {
        Err(StoreError::Refused("nobody lists here".to_owned()))
    }

    async fn run_view(&self, id: RunId) -> Result<Option<RunView>, StoreError> {
        Ok(self.lock().view(id))
    }

    async fn list_runs(&self, filter: &RunFilter) -> Result<Page<RunSummary>, StoreError> {
        Ok(self.lock().list(filter))
    }

    async fn orphans(&self, after: Option<RunId>, span: usize) -> Result<Orphans, StoreError> {
        let inner = self.lock();
        let is_open = |run: &&RunState| !run.status.is_final() && after.is_none_or(|after| run.id > after);
        let mut open: Vec<_> = inner.runs.values().filter(is_open).map(|run| run.id).collect();
        open.sort_unstable();
        let next = (open.len() >= span).then(|| open[span - 1]);
        open.truncate(span);
        open.retain(|run| {
            let has_job = inner.jobs.keys().any(|job| job.run == *run && job.key.is_owner());
            !has_job && !inner.letters.keys().any(|(held, _)| held == run)
        });
        Ok(Orphans { runs: open, next })
    }

    async fn beat(&self, node: &Node, now: Timestamp) -> Result<u64, StoreError> {
        let mut inner = self.lock();
        let view = NodeView {
            node: node.clone(),
            seen_at: now,
        };
        inner.nodes.insert(node.id, view);
        Ok(inner.revision)
    }

    async fn nodes(&self) -> Result<Vec<NodeView>, StoreError> {
        Ok(self.seen_nodes())
    }

    async fn leave(&self, node: NodeId) -> Result<(), StoreError> {
        self.lock().nodes.remove(&node);
        Ok(())
    }

    async fn take_turn(
        &self,
        turn: &str,
        holder: NodeId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let free = inner
            .turns
            .get(turn)
            .is_none_or(|(by, end)| *by == holder || *end <= now);
        if free {
            inner.turns.insert(turn.to_owned(), (holder, until));
        }
        Ok(free)
    }

    async fn purge(&self, _: &Expiry, _: usize) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Page<DeadLetter>, StoreError> {
        let mut items = self.dead();
        items.retain(|letter| filter.before.is_none_or(|before| letter.id < before));
        items.sort_by_key(|letter| std::cmp::Reverse(letter.id));
        let has_more = items.len() > filter.limit;
        items.truncate(filter.limit);
        Ok(Page { items, has_more })
    }

    async fn dead_letter(&self, id: LetterId) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.dead().into_iter().find(|letter| letter.id == id))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        Ok(Counts::default())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
