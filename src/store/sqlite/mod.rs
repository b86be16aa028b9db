//! The store in one SQLite database: the embedded default.
//!
//! Promises: what [`Store::commit`] has answered survives a kill and the loss of power (write-ahead log, fsync with every
//! commit); one process per data directory. One connection writes, two read and never wait for it. Never: no decision
//! about runs, which are the orchestrator's, and no clock.
//!
//! In reading order: [`open`] and `migrations` (schema in `migrations/sqlite/`), `writer` (the connection and how
//! statements get there), [`commit`], then a file per family of questions.

mod api_keys;
mod audit;
mod catalog;
mod commit;
mod connections;
mod crons;
mod deferrals;
mod error;
mod events;
mod gatherings;
mod inspect;
mod jobs;
mod jsonb;
mod letters;
mod metadata;
mod migrations;
mod nodes;
mod open;
mod operations;
mod overrides;
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

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

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
use sqlx::SqlitePool;

pub use self::inspect::SqliteInspector;
pub use self::open::OpenError;
use self::writer::Writer;

/// The store in a data directory.
pub struct SqliteStore {
    writer: Writer,
    readers: SqlitePool,
    /// Of the catalog; nobody else changes it.
    revision: AtomicU64,
    /// Held as long as the directory is in use.
    _lock: File,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the database in this directory; both are created if they do not exist.
    ///
    /// # Errors
    /// See [`OpenError`]. A database that is newer than this program is left as it is.
    pub async fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::open_with(directory, &[]).await
    }

    /// As [`Self::open`], with further pragmas for the connection that writes.
    async fn open_with(directory: &Path, pragmas: &[(&'static str, String)]) -> Result<Self, OpenError> {
        let opened = open::open(directory, pragmas).await?;
        let store = Self {
            writer: Writer::new(opened.options, opened.writer),
            readers: opened.readers,
            revision: AtomicU64::new(0),
            _lock: opened.lock,
        };
        let view = store.catalog().await.map_err(|error| OpenError::Database {
            path: directory.to_owned(),
            source: sqlx::Error::Protocol(error.to_string()),
        })?;
        store.revision.store(view.revision, Ordering::Release);
        Ok(store)
    }

    /// Closes the database and writes its log back into it, which makes the next start faster. Nothing is lost without.
    ///
    /// # Errors
    /// When SQLite can't; the connections are gone in any case.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.readers.close().await;
        self.writer.close().await
    }
}

#[async_trait]
impl Audit for SqliteStore {
    async fn audit(&self, scope: &AuditScope) -> Result<Vec<Finding>, StoreError> {
        audit::run(&self.readers, scope).await
    }
}

#[async_trait]
impl GatheringBook for SqliteStore {
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
impl SlotBook for SqliteStore {
    async fn cron_marks(&self, function: Option<FunctionId>) -> Result<Vec<CronMark>, StoreError> {
        crons::marks(&self.readers, function).await
    }

    async fn note_crons(&self, marks: &[CronMark], gaps: &[CronGap]) -> Result<(), StoreError> {
        crons::note(&self.writer, marks, gaps).await
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
impl Overrides for SqliteStore {
    async fn put_override(&self, numbers: &LimitOverride) -> Result<(), StoreError> {
        overrides::put(&self.writer, &self.revision, numbers).await
    }

    async fn end_overrides(&self, function: FunctionId, rule: Option<RuleId>) -> Result<bool, StoreError> {
        overrides::end(&self.writer, &self.revision, function, rule).await
    }

    async fn expire_overrides(&self, now: Timestamp) -> Result<bool, StoreError> {
        overrides::expire(&self.writer, &self.revision, now).await
    }
}

#[async_trait]
impl RunSlots for SqliteStore {
    async fn take_slots(&self, claims: &[SlotClaim]) -> Result<Vec<bool>, StoreError> {
        run_slots::take(&self.writer, claims).await
    }

    async fn admit(
        &self,
        buckets: Option<&[BucketId]>,
        limits: &SlotLimits,
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<Job>, StoreError> {
        run_slots::admit(&self.writer, buckets, limits, now, most).await
    }

    async fn run_slots(&self, function: FunctionId) -> Result<Vec<(RuleId, KeyFlow)>, StoreError> {
        run_slots::of_function(&self.readers, function).await
    }

    async fn slot_place(&self, run: RunId) -> Result<Option<SlotPlace>, StoreError> {
        run_slots::place(&self.readers, run).await
    }
}

#[async_trait]
impl MetadataBook for SqliteStore {
    async fn metadata(&self, run: RunId) -> Result<Option<MetadataLog>, StoreError> {
        metadata::find(&self.readers, run).await
    }

    async fn put_metadata(&self, run: RunId, record: &MetadataRecord) -> Result<bool, StoreError> {
        metadata::put(&self.writer, run, record).await
    }
}

#[async_trait]
impl ConnectionBook for SqliteStore {
    async fn put_connections(&self, connections: &[Connection]) -> Result<(), StoreError> {
        connections::put(&self.writer, connections).await
    }

    async fn connections(&self, limit: usize) -> Result<Vec<Connection>, StoreError> {
        connections::all(&self.readers, limit).await
    }

    async fn forget_connections(&self, before: Timestamp) -> Result<(), StoreError> {
        connections::forget(&self.writer, before).await
    }
}

#[async_trait]
impl KeyBook for SqliteStore {
    async fn put_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        api_keys::put(&self.writer, key).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        api_keys::all(&self.readers).await
    }

    async fn revoke_api_key(&self, id: ApiKeyId, at: Timestamp) -> Result<bool, StoreError> {
        api_keys::revoke(&self.writer, id, at).await
    }

    async fn note_api_key_use(&self, id: ApiKeyId, at: Timestamp) -> Result<(), StoreError> {
        api_keys::note_use(&self.writer, id, at).await
    }
}

#[async_trait]
impl SpanBook for SqliteStore {
    async fn add_spans(&self, run: RunId, spans: &[UserSpan]) -> Result<usize, StoreError> {
        user_spans::add(&self.writer, &self.readers, run, spans).await
    }

    async fn spans(&self, run: RunId) -> Result<Vec<UserSpan>, StoreError> {
        user_spans::of_run(&self.readers, run).await
    }
}

#[async_trait]
impl OperationBook for SqliteStore {
    async fn put_operation(&self, operation: &Operation) -> Result<(), StoreError> {
        operations::put(&self.writer, operation).await
    }

    async fn update_operation(&self, operation: &Operation, expected: u64) -> Result<bool, StoreError> {
        operations::update(&self.writer, operation, expected).await
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
impl Search for SqliteStore {
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
impl Store for SqliteStore {
    async fn commit(&self, batch: &[Write]) -> Result<Vec<Written>, StoreError> {
        commit::commit(&self.writer, self.revision.load(Ordering::Acquire), batch).await
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
        registration::sync(&self.writer, &self.revision, registration).await
    }

    async fn note_sync_error(&self, url: &str, error: Option<&str>) -> Result<(), StoreError> {
        registration::note_error(&self.writer, url, error).await
    }

    async fn set_breaker(&self, app: &str, breaker: Option<bool>) -> Result<bool, StoreError> {
        registration::set_breaker(&self.writer, &self.revision, app, breaker).await
    }

    async fn remove_app(&self, url: &str) -> Result<bool, StoreError> {
        registration::remove(&self.writer, &self.revision, url).await
    }

    async fn set_function_mode(&self, function: FunctionId, mode: FunctionMode) -> Result<bool, StoreError> {
        registration::set_mode(&self.writer, &self.revision, function, mode).await
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
        retention::purge(&self.writer, &self.readers, expiry, limit).await
    }

    async fn beat(&self, node: &Node, now: Timestamp) -> Result<u64, StoreError> {
        nodes::beat(&self.writer, node, now).await?;
        Ok(self.revision.load(Ordering::Acquire))
    }

    async fn nodes(&self) -> Result<Vec<NodeView>, StoreError> {
        nodes::all(&self.readers).await
    }

    async fn leave(&self, node: NodeId) -> Result<(), StoreError> {
        nodes::leave(&self.writer, node).await
    }

    async fn take_turn(
        &self,
        turn: &str,
        holder: NodeId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        nodes::take_turn(&self.writer, turn, holder, now, until).await
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
        sqlx::query("SELECT 1")
            .execute(&self.readers)
            .await
            .map_err(error::from_sqlx)?;
        Ok(())
    }
}
