//! Storing what apps say of themselves.
//!
//! An app that was removed stays as a row without URL and checksum, for the sake of its archived functions: their runs
//! go on. Registering again revives it.

use std::sync::atomic::{AtomicU64, Ordering};

use callboard_actors::domain::{App, FunctionId, FunctionMode, Registration, SyncOutcome, Timestamp};
use callboard_actors::ports::StoreError;
use sqlx::SqlitePool;

use super::error::from_sqlx;
use super::jsonb::Rows;
use super::rows::{get_id, get_number};
use super::writer::{Script, Writer};

const UNCHANGED: &str = "SELECT 1 FROM jsonb_each(?) AS new JOIN apps ON apps.name = new.value->>0
    WHERE apps.checksum = new.value->>5 AND apps.error IS NULL AND apps.url <> ''";

const PUT_APP: &str = "INSERT INTO apps (name, url, sdk, framework, version, checksum, error, synced_at)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7
    FROM jsonb_each(?) WHERE true
    ON CONFLICT (name) DO UPDATE SET url = excluded.url, sdk = excluded.sdk, framework = excluded.framework,
        version = excluded.version, checksum = excluded.checksum, error = excluded.error,
        synced_at = excluded.synced_at";

const RAISE_VERSIONS: &str = "UPDATE functions SET version = version + 1 WHERE app = ?";

const ARCHIVE_ALL: &str = "UPDATE functions SET archived = 1 WHERE app = ?";

const PUT_FUNCTIONS: &str = "INSERT INTO functions (id, app, slug, version, archived, definition)
    SELECT value->>0, value->>1, value->>2, 1, value->>3, value->>4 FROM jsonb_each(?) WHERE true
    ON CONFLICT (app, slug) DO UPDATE SET archived = excluded.archived, definition = excluded.definition";

const NOTE_ERROR: &str = "UPDATE apps SET error = new.value->>1 FROM jsonb_each(?) AS new
    WHERE apps.url = new.value->>0 AND apps.url <> ''";

const ARCHIVE_AT: &str = "UPDATE functions SET archived = 1
    WHERE app IN (SELECT name FROM apps WHERE url = ? AND url <> '')";

pub(super) const RAISE_REVISION: &str = "UPDATE counters SET value = value + 1 WHERE name = 'catalog'";

const FORGET_AT: &str = "UPDATE apps SET url = '', checksum = '', error = NULL WHERE url = ? AND url <> ''";

const SET_BREAKER: &str = "UPDATE apps SET breaker = new.value->>1 FROM jsonb_each(?) AS new
    WHERE apps.name = new.value->>0 AND apps.url <> ''";

pub(super) const SET_MODE: &str = "UPDATE functions SET mode = new.value->>1, mode_since = new.value->>2
    FROM jsonb_each(?) AS new WHERE functions.id = new.value->>0 AND functions.mode <> new.value->>1";

pub(super) const OPEN_RUNS: &str = "SELECT function_id, count(*) FROM runs
    WHERE ended_at IS NULL AND +function_id IN (SELECT value FROM jsonb_each(?1)) GROUP BY function_id";

/// See [`callboard_actors::ports::Store::set_function_mode`].
pub(super) async fn set_mode(
    writer: &Writer,
    revision: &AtomicU64,
    id: FunctionId,
    mode: FunctionMode,
) -> Result<bool, StoreError> {
    let mut rows = Rows::new();
    let row = rows.row().shown(id).text(mode.as_str());
    row.int_or_null(mode.since().map(Timestamp::as_millis));
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    let set = script.with(SET_MODE, rows.into_bytes());
    change(writer, revision, script, set).await
}

/// See [`callboard_actors::ports::Store::open_runs`].
pub(super) async fn open_runs(
    readers: &SqlitePool,
    functions: &[FunctionId],
) -> Result<Vec<(FunctionId, u64)>, StoreError> {
    let query = sqlx::query(OPEN_RUNS).bind(Rows::of_texts(functions).into_bytes());
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter()
        .map(|row| Ok((get_id(row, 0)?, get_number(row, 1)?)))
        .collect()
}

/// See [`callboard_actors::ports::Store::sync_app`].
pub(super) async fn sync(
    writer: &Writer,
    revision: &AtomicU64,
    registration: &Registration,
) -> Result<SyncOutcome, StoreError> {
    let app = &registration.app;
    let name = app.name.to_string();
    let mut session = writer.session().await?;
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    let unchanged = script.with(UNCHANGED, app_row(app).into_bytes());
    if !session.run(script, false).await?[unchanged].rows.is_empty() {
        session.rollback().await;
        return Ok(SyncOutcome { modified: false });
    }

    let mut functions = Rows::new();
    for function in &registration.functions {
        let definition = serde_json::to_string(function)
            .map_err(|error| StoreError::Refused(format!("function {}: {error}", function.slug)))?;
        let row = functions.row().shown(function.id).text(&name).text(&function.slug);
        row.int(function.archived).text(&definition);
    }
    let mut script = Script::default();
    script.with(PUT_APP, app_row(app).into_bytes());
    script.with(RAISE_VERSIONS, name.clone());
    if !registration.keep_others {
        script.with(ARCHIVE_ALL, name);
    }
    script.with_rows(PUT_FUNCTIONS, functions);
    script.add(RAISE_REVISION);
    script.add("COMMIT");
    session.run(script, true).await?;
    revision.fetch_add(1, Ordering::AcqRel);
    Ok(SyncOutcome { modified: true })
}

/// See [`callboard_actors::ports::Store::note_sync_error`].
pub(super) async fn note_error(writer: &Writer, url: &str, error: Option<&str>) -> Result<(), StoreError> {
    let mut rows = Rows::new();
    rows.row().text(url).text_or_null(error);
    let mut script = Script::default();
    script.with_rows(NOTE_ERROR, rows);
    writer.session().await?.run(script, true).await?;
    Ok(())
}

/// See [`callboard_actors::ports::Store::set_breaker`].
pub(super) async fn set_breaker(
    writer: &Writer,
    revision: &AtomicU64,
    app: &str,
    breaker: Option<bool>,
) -> Result<bool, StoreError> {
    let mut rows = Rows::new();
    rows.row().text(app).int_or_null(breaker.map(i64::from));
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    let set = script.with(SET_BREAKER, rows.into_bytes());
    change(writer, revision, script, set).await
}

/// Carries out a script that has begun a transaction, and raises the revision if its statement `decisive` found a row.
/// Answers whether it did.
pub(super) async fn change(
    writer: &Writer,
    revision: &AtomicU64,
    script: Script,
    decisive: usize,
) -> Result<bool, StoreError> {
    let mut session = writer.session().await?;
    let is_known = session.run(script, false).await?[decisive].changes > 0;
    let mut script = Script::default();
    if is_known {
        script.add(RAISE_REVISION);
    }
    script.add("COMMIT");
    session.run(script, true).await?;
    revision.fetch_add(u64::from(is_known), Ordering::AcqRel);
    Ok(is_known)
}

/// See [`callboard_actors::ports::Store::remove_app`].
pub(super) async fn remove(writer: &Writer, revision: &AtomicU64, url: &str) -> Result<bool, StoreError> {
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    script.with(ARCHIVE_AT, url.to_owned());
    let forget = script.with(FORGET_AT, url.to_owned());
    change(writer, revision, script, forget).await
}

fn app_row(app: &App) -> Rows {
    let mut rows = Rows::new();
    rows.row()
        .text(&app.name)
        .text(&app.url)
        .text(&app.sdk)
        .text_or_null(app.framework.as_deref())
        .text_or_null(app.version.as_deref())
        .text(&app.checksum)
        .text_or_null(app.error.as_deref())
        .int(app.synced_at.as_millis());
    rows
}
