//! The queue and the store of the world: they answer from its fields.

use async_trait::async_trait;
use callboard_actors::domain::*;
use callboard_actors::ports::*;

use super::Shared;

#[derive(Debug)]
pub(super) struct FakeQueue(pub(super) Shared);

#[async_trait]
impl Queue for FakeQueue {
    async fn push(&self, _jobs: Vec<Job>, _origin: callboard_actors::ports::Origin) -> Pushed {
        Pushed::default()
    }
    async fn lease(&self, _now: Timestamp, _max: usize, _per_function: usize) -> Vec<Lease> {
        Vec::new()
    }
    async fn configure(&self, _table: LimitTable) {}
    async fn acknowledge(&self, _id: &JobId, _epoch: u64) {}
    async fn take_back(&self, _id: &JobId, _epoch: u64) {}
    async fn release(&self, _id: &JobId, _epoch: u64, _due: Timestamp) {}
    async fn forget_run(&self, _run: RunId) {}
    async fn next_due(&self) -> Option<Timestamp> {
        None
    }
    async fn changed(&self) {}
    async fn leases_of(&self, run: RunId) -> Vec<Lease> {
        let mine = |lease: &&Lease| lease.job.id.run == run;
        self.0.with(|world| world.leases.iter().filter(mine).cloned().collect())
    }
    async fn stats(&self) -> QueueStats {
        let fate = self.0.with(|world| world.queue);
        let _ = fate.strike(()).await;
        self.0.with(|world| world.queue_stats.clone())
    }
    async fn flow(&self, _function: FunctionId) -> Flow {
        self.0.with(|world| world.flow.clone())
    }
    async fn places_of(&self, run: RunId) -> Vec<Place> {
        let mine = |place: &&Place| place.job.run == run;
        self.0.with(|world| world.places.iter().filter(mine).cloned().collect())
    }
    async fn ping(&self) -> Result<(), QueueError> {
        let fate = self.0.with(|world| world.queue);
        fate.strike(QueueError::Unavailable("secret-host: gone".to_owned()))
            .await
    }
}

#[derive(Debug)]
pub(super) struct FakeStore(pub(super) Shared);

pub(super) type Read<T> = Result<T, StoreError>;

#[async_trait]
impl Audit for FakeStore {
    async fn audit(&self, _scope: &AuditScope) -> Read<Vec<Finding>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Store for FakeStore {
    async fn commit(&self, _batch: &[Write]) -> Read<Vec<Written>> {
        Err(StoreError::Refused("the API never writes".to_owned()))
    }
    async fn load_runs(&self, ids: &[RunId]) -> Read<Vec<RunState>> {
        let load = |id: &RunId| self.0.with(|world| world.states.get(id).cloned());
        Ok(ids.iter().filter_map(load).collect())
    }
    async fn jobs_due(&self, _: Timestamp, _: Option<(Timestamp, JobId)>, _: Except<'_>, _: usize) -> Read<Vec<Job>> {
        Ok(Vec::new())
    }
    async fn starts_of(&self, _function: FunctionId, _limit: usize) -> Read<Vec<(Gates, Timestamp)>> {
        Ok(Vec::new())
    }
    async fn next_due(&self, _from: Timestamp) -> Read<Option<Timestamp>> {
        Ok(None)
    }
    async fn unrouted(&self, _limit: usize) -> Read<Vec<Event>> {
        Ok(Vec::new())
    }
    async fn events_by_id(&self, ids: &[EventId]) -> Read<Vec<Event>> {
        Ok(self.0.with(|world| {
            let find = |id: &EventId| world.events.iter().find(|view| view.event.id == *id);
            ids.iter().filter_map(find).map(|view| view.event.clone()).collect()
        }))
    }
    async fn events_named(
        &self,
        _: &str,
        _: Timestamp,
        _: Timestamp,
        _: Option<EventId>,
        _: usize,
    ) -> Read<Vec<Event>> {
        Ok(Vec::new())
    }
    async fn wait_paths(&self, _name: &str) -> Read<Vec<Option<String>>> {
        Ok(Vec::new())
    }
    async fn waits(&self, _: &str, _: &[Option<Lookup>], _: Option<(RunId, String)>, _: usize) -> Read<Vec<Wait>> {
        Ok(Vec::new())
    }
    async fn catalog(&self) -> Read<CatalogView> {
        Ok(CatalogView::default())
    }
    async fn beat(&self, _node: &Node, _now: Timestamp) -> Read<u64> {
        Ok(0)
    }
    async fn nodes(&self) -> Read<Vec<NodeView>> {
        Ok(self.0.with(|world| world.nodes.clone()))
    }
    async fn leave(&self, _node: NodeId) -> Read<()> {
        Ok(())
    }
    async fn take_turn(&self, _: &str, _: NodeId, _: Timestamp, _: Timestamp) -> Read<bool> {
        Ok(true)
    }
    async fn sync_app(&self, _registration: &Registration) -> Read<SyncOutcome> {
        Err(StoreError::Refused("the API never writes".to_owned()))
    }
    async fn note_sync_error(&self, _url: &str, _error: Option<&str>) -> Read<()> {
        Ok(())
    }
    async fn set_breaker(&self, _app: &str, _breaker: Option<bool>) -> Read<bool> {
        Err(StoreError::Refused("the API never writes".to_owned()))
    }
    async fn remove_app(&self, _url: &str) -> Read<bool> {
        Ok(false)
    }
    async fn set_function_mode(&self, _: FunctionId, _: FunctionMode) -> Read<bool> {
        Err(StoreError::Refused("the API never writes".to_owned()))
    }
    async fn open_runs(&self, functions: &[FunctionId]) -> Read<Vec<(FunctionId, u64)>> {
        Ok(functions.iter().map(|function| (*function, 3)).collect())
    }
    async fn event_view(&self, id: EventId) -> Read<Option<EventView>> {
        let found = |view: &&EventView| view.event.id == id;
        Ok(self.0.with(|world| world.events.iter().find(found).cloned()))
    }
    async fn list_events(&self, filter: &EventFilter) -> Read<Page<Event>> {
        Ok(self.0.with(|world| {
            world.event_filters.push(filter.clone());
            Page {
                items: world
                    .events
                    .iter()
                    .map(|view| view.event.clone())
                    .take(filter.limit)
                    .collect(),
                has_more: world.events.len() > filter.limit,
            }
        }))
    }
    async fn run_view(&self, id: RunId) -> Read<Option<RunView>> {
        let found = |view: &&RunView| view.summary.id == id;
        Ok(self.0.with(|world| world.runs.iter().find(found).cloned()))
    }
    async fn list_runs(&self, filter: &RunFilter) -> Read<Page<RunSummary>> {
        Ok(self.0.with(|world| {
            world.run_filters.push(filter.clone());
            Page {
                items: world
                    .runs
                    .iter()
                    .map(|view| view.summary.clone())
                    .take(filter.limit)
                    .collect(),
                has_more: world.runs.len() > filter.limit,
            }
        }))
    }
    async fn orphans(&self, _after: Option<RunId>, _span: usize) -> Read<Orphans> {
        Ok(Orphans::default())
    }
    async fn purge(&self, _: &Expiry, _: usize) -> Read<u64> {
        Ok(0)
    }
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Read<Page<DeadLetter>> {
        Ok(self.0.with(|world| {
            world.letter_filters.push(filter.clone());
            Page {
                items: world.dead_letters.iter().take(filter.limit).cloned().collect(),
                has_more: world.dead_letters.len() > filter.limit,
            }
        }))
    }
    async fn dead_letter(&self, id: LetterId) -> Read<Option<DeadLetter>> {
        let found = |letter: &&DeadLetter| letter.id == id;
        Ok(self.0.with(|world| world.dead_letters.iter().find(found).cloned()))
    }
    async fn counts(&self) -> Read<Counts> {
        self.ping().await?;
        Ok(self.0.with(|world| world.counts.clone()))
    }
    async fn ping(&self) -> Read<()> {
        let fate = self.0.with(|world| world.database);
        fate.strike(StoreError::Unavailable("secret-host: gone".to_owned()))
            .await
    }
}
