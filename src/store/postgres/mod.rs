//! The store in a PostgreSQL database, for one instance or several.
//!
//! Promises: what [`Store::commit`] has answered is as durable as the server makes its commits; any number of instances
//! share a database, and of those that claim the same thing one gets it. One connection writes, a few more ask. It keeps no
//! state in a session, so a transaction pooler may stand between ([`Options::pooler`]). Never: no decision about runs, which
//! are the orchestrator's, and no clock.
//!
//! In reading order: [`options`], [`open`] and `migrations` (schema in `migrations/postgres/`), `writer` and `readers` (the
//! connections), `cells` (what columns hold), [`commit`], then a file per family of questions.

mod api_keys;
mod audit;
mod catalog;
mod cells;
mod commit;
mod connections;
mod crons;
mod deferrals;
mod error;
mod events;
mod gatherings;
mod inspect;
mod jobs;
mod letters;
mod metadata;
mod migrations;
mod nodes;
mod open;
mod operations;
mod options;
mod overrides;
mod readers;
mod registration;
mod retention;
mod rows;
mod run_list;
mod run_slots;
mod runs;
mod search;
mod user_spans;
mod waits;
mod writer;

#[cfg(test)]
mod tests;

use std::time::Instant;

use async_trait::async_trait;
use callboard_actors::domain::{
    ApiKey, ApiKeyId, BucketId, Connection, DeadLetter, Event, EventId, FunctionId, FunctionMode, Gates, Gathered,
    Gathering, GatheringId, Job, JobId, LetterId, LimitOverride, Lookup, MetadataLog, MetadataRecord, Node, NodeId,
    Operation, OperationId, Registration, RuleId, RunId, RunState, SyncOutcome, Timestamp, UserSpan, Wait, Write,
    Written,
};
use callboard_actors::ports::{
    Audit, AuditScope, CatalogView, ConnectionBook, Counts, CronGap, CronMark, DeadLetterFilter, EventFilter,
    EventSearch, EventView, Except, Expiry, Finding, GatheringBook, KeyBook, KeyFlow, MetadataBook, NodeView,
    OperationBook, Orphans, Overrides, Page, RunFilter, RunSearch, RunSlots, RunSummary, RunView, Search, SlotBook,
    SlotClaim, SlotLimits, SlotPlace, SpanBook, Store, StoreError, TickView,
};

pub use self::inspect::PostgresInspector;
pub use self::open::OpenError;
use self::open::Target;
pub use self::options::Options;
use self::readers::Readers;
use self::writer::Writer;

/// The store in a database.
pub struct PostgresStore {
    writer: Writer,
    readers: Readers,
    routes_all: bool,
    new_since: Option<Instant>,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

/// Brings the schema up to date. Answers the version it had before and the one it has.
///
/// # Errors
/// See [`OpenError`]. A database that is newer than this program is left as it is.
pub async fn migrate(options: &Options) -> Result<(i64, i64), OpenError> {
    let before = open::prepare(options, &Target::of(options)?).await?;
    Ok((before, migrations::KNOWN))
}

impl PostgresStore {
    /// Checks the server, brings the schema up to date and starts the connections for questions. The one that writes is
    /// opened by the first commit.
    ///
    /// # Errors
    /// See [`OpenError`]. A database that is newer than this program is left as it is.
    pub async fn open(options: &Options) -> Result<Self, OpenError> {
        let target = Target::of(options)?;
        let begun = Instant::now();
        let before = open::prepare(options, &target).await?;
        Ok(Self {
            new_since: (before == 0).then_some(begun),
            readers: Readers::start(options, &target)?,
            writer: Writer::new(options, target),
            routes_all: options.routes_all,
        })
    }

    /// If the database was empty and this very call has made its schema, which of all instances one does: a time before
    /// that, at which nobody was at work here.
    #[must_use]
    pub fn new_since(&self) -> Option<Instant> {
        self.new_since
    }

    /// Closes all connections. Nothing is lost without.
    ///
    /// # Errors
    /// When the server has not heard of it; the connections are gone in any case.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.readers.close().await;
        self.writer.close().await
    }
}

#[async_trait]
impl Audit for PostgresStore {
    async fn audit(&self, scope: &AuditScope) -> Result<Vec<Finding>, StoreError> {
        audit::run(&self.readers, scope).await
    }
}

#[async_trait]
impl GatheringBook for PostgresStore {
    async fn due_gatherings(&self, until: Timestamp, limit: usize) -> Result<Vec<Gathered>, StoreError> {
        gatherings::due(&self.readers, until, limit).await
    }

    async fn next_gathering(&self) -> Result<Option<Timestamp>, StoreError> {
        gatherings::next(&self.readers).await
    }

    async fn gatherings(
        &self,
        function: FunctionId,
        after: Option<GatheringId>,
        limit: usize,
    ) -> Result<Vec<Gathering>, StoreError> {
        gatherings::of_function(&self.readers, function, after, limit).await
    }

    async fn gathering(&self, id: GatheringId) -> Result<Option<Gathered>, StoreError> {
        gatherings::one(&self.readers, id).await
    }
}

#[async_trait]
impl SlotBook for PostgresStore {
    async fn cron_marks(&self, function: Option<FunctionId>) -> Result<Vec<CronMark>, StoreError> {
        crons::marks(&self.readers, function).await
    }

    async fn note_crons(&self, marks: &[CronMark], gaps: &[CronGap]) -> Result<(), StoreError> {
        crons::note(&self.readers, marks, gaps).await
    }

    async fn cron_gaps(
        &self,
        function: FunctionId,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<CronGap>, StoreError> {
        crons::gaps(&self.readers, function, from, until).await
    }

    async fn ticks(&self, ids: &[(EventId, RunId)]) -> Result<Vec<TickView>, StoreError> {
        crons::ticks(&self.readers, ids).await
    }
}

#[async_trait]
impl Overrides for PostgresStore {
    async fn put_override(&self, numbers: &LimitOverride) -> Result<(), StoreError> {
        overrides::put(&self.readers, numbers).await
    }

    async fn end_overrides(&self, function: FunctionId, rule: Option<RuleId>) -> Result<bool, StoreError> {
        overrides::end(&self.readers, function, rule).await
    }

    async fn expire_overrides(&self, now: Timestamp) -> Result<bool, StoreError> {
        overrides::expire(&self.readers, now).await
    }
}

#[async_trait]
impl RunSlots for PostgresStore {
    async fn take_slots(&self, claims: &[SlotClaim]) -> Result<Vec<bool>, StoreError> {
        run_slots::take(&self.readers, claims).await
    }

    async fn admit(
        &self,
        buckets: Option<&[BucketId]>,
        limits: &SlotLimits,
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<Job>, StoreError> {
        run_slots::admit(&self.readers, buckets, limits, now, most).await
    }

    async fn run_slots(&self, function: FunctionId) -> Result<Vec<(RuleId, KeyFlow)>, StoreError> {
        run_slots::of_function(&self.readers, function).await
    }

    async fn slot_place(&self, run: RunId) -> Result<Option<SlotPlace>, StoreError> {
        run_slots::place(&self.readers, run).await
    }
}

#[async_trait]
impl MetadataBook for PostgresStore {
    async fn metadata(&self, run: RunId) -> Result<Option<MetadataLog>, StoreError> {
        metadata::find(&self.readers, run).await
    }

    async fn put_metadata(&self, run: RunId, record: &MetadataRecord) -> Result<bool, StoreError> {
        metadata::put(&self.readers, run, record).await
    }
}

#[async_trait]
impl ConnectionBook for PostgresStore {
    async fn put_connections(&self, connections: &[Connection]) -> Result<(), StoreError> {
        connections::put(&self.readers, connections).await
    }

    async fn connections(&self, limit: usize) -> Result<Vec<Connection>, StoreError> {
        connections::all(&self.readers, limit).await
    }

    async fn forget_connections(&self, before: Timestamp) -> Result<(), StoreError> {
        connections::forget(&self.readers, before).await
    }
}

#[async_trait]
impl KeyBook for PostgresStore {
    async fn put_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        api_keys::put(&self.readers, key).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        api_keys::all(&self.readers).await
    }

    async fn revoke_api_key(&self, id: ApiKeyId, at: Timestamp) -> Result<bool, StoreError> {
        api_keys::revoke(&self.readers, id, at).await
    }

    async fn note_api_key_use(&self, id: ApiKeyId, at: Timestamp) -> Result<(), StoreError> {
        api_keys::note_use(&self.readers, id, at).await
    }
}

#[async_trait]
impl SpanBook for PostgresStore {
    async fn add_spans(&self, run: RunId, spans: &[UserSpan]) -> Result<usize, StoreError> {
        user_spans::add(&self.readers, run, spans).await
    }

    async fn spans(&self, run: RunId) -> Result<Vec<UserSpan>, StoreError> {
        user_spans::of_run(&self.readers, run).await
    }
}

#[async_trait]
impl OperationBook for PostgresStore {
    async fn put_operation(&self, operation: &Operation) -> Result<(), StoreError> {
        operations::put(&self.readers, operation).await
    }

    async fn update_operation(&self, operation: &Operation, expected: u64) -> Result<bool, StoreError> {
        operations::update(&self.readers, operation, expected).await
    }

    async fn operation(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        operations::find(&self.readers, id).await
    }

    async fn operations(&self, before: Option<OperationId>, limit: usize) -> Result<Page<Operation>, StoreError> {
        operations::list(&self.readers, before, limit).await
    }

    async fn open_operations(&self) -> Result<Vec<Operation>, StoreError> {
        operations::open(&self.readers).await
    }

    async fn count_up_to(&self, filter: &RunFilter) -> Result<u64, StoreError> {
        operations::count_up_to(&self.readers, filter).await
    }

    async fn newest_repetitions(&self, originals: &[RunId]) -> Result<Vec<(RunId, RunId)>, StoreError> {
        operations::newest_repetitions(&self.readers, originals).await
    }
}

#[async_trait]
impl Search for PostgresStore {
    async fn find_runs(&self, search: &RunSearch) -> Result<Page<RunSummary>, StoreError> {
        search::find_runs(&self.readers, search).await
    }

    async fn count_runs(&self, search: &RunSearch) -> Result<u64, StoreError> {
        search::count_runs(&self.readers, search).await
    }

    async fn find_events(&self, search: &EventSearch) -> Result<Page<Event>, StoreError> {
        search::find_events(&self.readers, search).await
    }

    async fn count_events(&self, search: &EventSearch) -> Result<u64, StoreError> {
        search::count_events(&self.readers, search).await
    }

    async fn runs_of_events(&self, events: &[EventId]) -> Result<Vec<(EventId, RunSummary)>, StoreError> {
        search::runs_of_events(&self.readers, events).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn commit(&self, batch: &[Write]) -> Result<Vec<Written>, StoreError> {
        commit::commit(&self.writer, self.routes_all, batch).await
    }

    async fn load_runs(&self, ids: &[RunId]) -> Result<Vec<RunState>, StoreError> {
        runs::load(&self.readers, ids).await
    }

    async fn jobs_due(
        &self,
        until: Timestamp,
        after: Option<(Timestamp, JobId)>,
        except: Except<'_>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        jobs::due(&self.readers, until, after, except, limit).await
    }

    async fn starts_of(&self, function: FunctionId, limit: usize) -> Result<Vec<(Gates, Timestamp)>, StoreError> {
        jobs::starts_of(&self.readers, function, limit).await
    }

    async fn next_due(&self, from: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        jobs::next_due(&self.readers, from).await
    }

    async fn unrouted(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        events::unrouted(&self.readers, limit).await
    }

    async fn events_by_id(&self, ids: &[EventId]) -> Result<Vec<Event>, StoreError> {
        events::by_id(&self.readers, ids).await
    }

    async fn events_named(
        &self,
        name: &str,
        from: Timestamp,
        until: Timestamp,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        events::named(&self.readers, name, (from, until), after, limit).await
    }

    async fn wait_paths(&self, name: &str) -> Result<Vec<Option<String>>, StoreError> {
        waits::paths(&self.readers, name).await
    }

    async fn waits(
        &self,
        name: &str,
        lookups: &[Option<Lookup>],
        after: Option<(RunId, String)>,
        limit: usize,
    ) -> Result<Vec<Wait>, StoreError> {
        waits::find(&self.readers, name, lookups, after, limit).await
    }

    async fn catalog(&self) -> Result<CatalogView, StoreError> {
        catalog::all(&self.readers).await
    }

    async fn sync_app(&self, registration: &Registration) -> Result<SyncOutcome, StoreError> {
        registration::sync(&self.readers, registration).await
    }

    async fn note_sync_error(&self, url: &str, error: Option<&str>) -> Result<(), StoreError> {
        registration::note_error(&self.readers, url, error).await
    }

    async fn set_breaker(&self, app: &str, breaker: Option<bool>) -> Result<bool, StoreError> {
        registration::set_breaker(&self.readers, app, breaker).await
    }

    async fn remove_app(&self, url: &str) -> Result<bool, StoreError> {
        registration::remove(&self.readers, url).await
    }

    async fn set_function_mode(&self, function: FunctionId, mode: FunctionMode) -> Result<bool, StoreError> {
        registration::set_mode(&self.readers, function, mode).await
    }

    async fn open_runs(&self, functions: &[FunctionId]) -> Result<Vec<(FunctionId, u64)>, StoreError> {
        registration::open_runs(&self.readers, functions).await
    }

    async fn event_view(&self, id: EventId) -> Result<Option<EventView>, StoreError> {
        events::view(&self.readers, id).await
    }

    async fn list_events(&self, filter: &EventFilter) -> Result<Page<Event>, StoreError> {
        events::list(&self.readers, filter).await
    }

    async fn run_view(&self, id: RunId) -> Result<Option<RunView>, StoreError> {
        runs::view(&self.readers, id).await
    }

    async fn list_runs(&self, filter: &RunFilter) -> Result<Page<RunSummary>, StoreError> {
        run_list::list(&self.readers, filter).await
    }

    async fn orphans(&self, after: Option<RunId>, span: usize) -> Result<Orphans, StoreError> {
        runs::orphans(&self.readers, after, span).await
    }

    async fn purge(&self, expiry: &Expiry, limit: usize) -> Result<u64, StoreError> {
        retention::purge(&self.readers, expiry, limit).await
    }

    async fn beat(&self, node: &Node, now: Timestamp) -> Result<u64, StoreError> {
        nodes::beat(&self.readers, node, now).await
    }

    async fn nodes(&self) -> Result<Vec<NodeView>, StoreError> {
        nodes::all(&self.readers).await
    }

    async fn leave(&self, node: NodeId) -> Result<(), StoreError> {
        nodes::leave(&self.readers, node).await
    }

    async fn take_turn(
        &self,
        turn: &str,
        holder: NodeId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        nodes::take_turn(&self.readers, turn, holder, now, until).await
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Page<DeadLetter>, StoreError> {
        letters::list(&self.readers, filter).await
    }

    async fn dead_letter(&self, id: LetterId) -> Result<Option<DeadLetter>, StoreError> {
        letters::find(&self.readers, id).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        jobs::counts(&self.readers).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let answer = self
            .readers
            .single(|session| Box::pin(session.all(sqlx::query("SELECT 1"))));
        answer.await.map(drop)
    }
}
