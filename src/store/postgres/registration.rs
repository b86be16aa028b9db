//! Storing what apps say of themselves.
//!
//! An app that was removed stays as a row without URL and checksum, for the sake of its archived functions: their runs
//! go on. Registering again revives it. Several instances may hear of the same app at once: one after another.

use callboard_actors::domain::{App, FunctionId, FunctionMode, Registration, SyncOutcome, Timestamp};
use callboard_actors::ports::StoreError;
use uuid::Uuid;

use super::cells::{Id as _, text};
use super::readers::{Readers, Session, Statement};
use super::rows::{get_id, get_number};

/// Who changes the catalog waits for whoever does.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('callboard.catalog', 0))";

const UNCHANGED: &str =
    "SELECT 1 FROM callboard.apps WHERE name = $1 AND checksum = $2 AND error IS NULL AND url <> ''";

const PUT_APP: &str = "INSERT INTO callboard.apps (name, url, sdk, framework, version, checksum, error, synced_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (name) DO UPDATE SET url = excluded.url, sdk = excluded.sdk, framework = excluded.framework,
        version = excluded.version, checksum = excluded.checksum, error = excluded.error,
        synced_at = excluded.synced_at";

const RAISE_VERSIONS: &str = "UPDATE callboard.functions SET version = version + 1 WHERE app = $1";

const ARCHIVE_ALL: &str = "UPDATE callboard.functions SET archived = true WHERE app = $1";

const PUT_FUNCTIONS: &str = "INSERT INTO callboard.functions (id, app, slug, version, archived, definition)
    SELECT id, $1, slug, 1, archived, definition
    FROM unnest($2::uuid[], $3::text[], $4::boolean[], $5::text[]) AS new (id, slug, archived, definition)
    ON CONFLICT (app, slug) DO UPDATE SET archived = excluded.archived, definition = excluded.definition";

const NOTE_ERROR: &str = "UPDATE callboard.apps SET error = $2 WHERE url = $1 AND url <> ''";

const ARCHIVE_AT: &str = "UPDATE callboard.functions SET archived = true
    WHERE app IN (SELECT name FROM callboard.apps WHERE url = $1 AND url <> '')";

pub(super) const RAISE_REVISION: &str = "UPDATE callboard.counters SET value = value + 1 WHERE name = 'catalog'";

const FORGET_AT: &str = "UPDATE callboard.apps SET url = '', checksum = '', error = NULL WHERE url = $1 AND url <> ''";

const SET_BREAKER: &str = "UPDATE callboard.apps SET breaker = $2 WHERE name = $1 AND url <> ''";

pub(super) const SET_MODE: &str =
    "UPDATE callboard.functions SET mode = $2, mode_since = $3 WHERE id = $1 AND mode <> $2";

pub(super) const OPEN_RUNS: &str = "SELECT function_id, count(*) FROM callboard.runs
    WHERE ended_at IS NULL AND (function_id = ANY ($1)) IS TRUE GROUP BY function_id";

/// See [`callboard_actors::ports::Store::set_function_mode`].
pub(super) async fn set_mode(readers: &Readers, id: FunctionId, mode: FunctionMode) -> Result<bool, StoreError> {
    let set = sqlx::query(SET_MODE).bind(id.cell()).bind(mode.as_str());
    change(readers, vec![set.bind(mode.since().map(Timestamp::as_millis))]).await
}

/// Carries out these statements, and raises the revision if the last one found a row. Answers whether it did.
pub(super) async fn change(readers: &Readers, statements: Vec<Statement>) -> Result<bool, StoreError> {
    let changed = readers.write(|session| {
        Box::pin(async move {
            session.all(sqlx::query(LOCK)).await?;
            let mut found = 0;
            for statement in statements {
                found = session.execute(statement).await?;
            }
            if found > 0 {
                session.execute(sqlx::query(RAISE_REVISION)).await?;
            }
            Ok(found > 0)
        })
    });
    changed.await
}

/// See [`callboard_actors::ports::Store::open_runs`].
pub(super) async fn open_runs(
    readers: &Readers,
    functions: &[FunctionId],
) -> Result<Vec<(FunctionId, u64)>, StoreError> {
    let cells: Vec<Uuid> = functions.iter().map(|function| function.cell()).collect();
    let query = sqlx::query(OPEN_RUNS).bind(cells);
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter()
        .map(|row| Ok((get_id(row, 0)?, get_number(row, 1)?)))
        .collect()
}

/// See [`callboard_actors::ports::Store::sync_app`].
pub(super) async fn sync(readers: &Readers, registration: &Registration) -> Result<SyncOutcome, StoreError> {
    let new = New::of(registration)?;
    readers
        .write(|session| {
            Box::pin(async move {
                session.all(sqlx::query(LOCK)).await?;
                new.put(session).await
            })
        })
        .await
}

/// A registration as columns.
struct New {
    app: App,
    keep_others: bool,
    ids: Vec<Uuid>,
    slugs: Vec<String>,
    archived: Vec<bool>,
    definitions: Vec<String>,
}

impl New {
    fn of(registration: &Registration) -> Result<Self, StoreError> {
        let mut new = Self {
            app: registration.app.clone(),
            keep_others: registration.keep_others,
            ids: Vec::new(),
            slugs: Vec::new(),
            archived: Vec::new(),
            definitions: Vec::new(),
        };
        for function in &registration.functions {
            let definition = serde_json::to_string(function)
                .map_err(|error| StoreError::Refused(format!("function {}: {error}", function.slug)))?;
            new.ids.push(function.id.cell());
            new.slugs.push(text(&function.slug).into_owned());
            new.archived.push(function.archived);
            new.definitions.push(definition);
        }
        Ok(new)
    }

    async fn put(self, session: &mut Session) -> Result<SyncOutcome, StoreError> {
        let Self { app, .. } = self;
        let name = text(&app.name).into_owned();
        let checksum = text(&app.checksum).into_owned();
        let unchanged = sqlx::query(UNCHANGED).bind(name.clone()).bind(checksum.clone());
        if session.optional(unchanged).await?.is_some() {
            return Ok(SyncOutcome { modified: false });
        }
        let put = sqlx::query(PUT_APP)
            .bind(name.clone())
            .bind(text(&app.url).into_owned())
            .bind(text(&app.sdk).into_owned())
            .bind(app.framework.as_deref().map(|framework| text(framework).into_owned()))
            .bind(app.version.as_deref().map(|version| text(version).into_owned()))
            .bind(checksum)
            .bind(app.error.as_deref().map(|error| text(error).into_owned()))
            .bind(app.synced_at.as_millis());
        session.execute(put).await?;
        session.execute(sqlx::query(RAISE_VERSIONS).bind(name.clone())).await?;
        if !self.keep_others {
            session.execute(sqlx::query(ARCHIVE_ALL).bind(name.clone())).await?;
        }
        let put = sqlx::query(PUT_FUNCTIONS).bind(name).bind(self.ids).bind(self.slugs);
        session.execute(put.bind(self.archived).bind(self.definitions)).await?;
        session.execute(sqlx::query(RAISE_REVISION)).await?;
        Ok(SyncOutcome { modified: true })
    }
}

/// See [`callboard_actors::ports::Store::note_sync_error`].
pub(super) async fn note_error(readers: &Readers, url: &str, error: Option<&str>) -> Result<(), StoreError> {
    let query = sqlx::query(NOTE_ERROR).bind(text(url).into_owned());
    let query = query.bind(error.map(|error| text(error).into_owned()));
    readers
        .single(|session| Box::pin(session.execute(query)))
        .await
        .map(drop)
}

/// See [`callboard_actors::ports::Store::set_breaker`].
pub(super) async fn set_breaker(readers: &Readers, app: &str, breaker: Option<bool>) -> Result<bool, StoreError> {
    let set = sqlx::query(SET_BREAKER).bind(text(app).into_owned()).bind(breaker);
    change(readers, vec![set]).await
}

/// See [`callboard_actors::ports::Store::remove_app`].
pub(super) async fn remove(readers: &Readers, url: &str) -> Result<bool, StoreError> {
    let url = text(url).into_owned();
    let archive = sqlx::query(ARCHIVE_AT).bind(url.clone());
    change(readers, vec![archive, sqlx::query(FORGET_AT).bind(url)]).await
}
