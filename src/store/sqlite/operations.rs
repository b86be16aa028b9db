//! Operations on many runs: a row each, with what people see of it as JSON.

use std::time::Duration;

use callboard_actors::domain::{Operation, OperationId, RunId, Timestamp};
use callboard_actors::ports::{Page, RunFilter, StoreError};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqlitePool};

use super::error::{from_sqlx, unreadable};
use super::jsonb::Rows;
use super::rows::{get, get_id, get_number};
use super::writer::{Script, Writer};
use crate::store::paging::{Runs, page, sql_limit};

/// How long operations are kept that have ended.
const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Operations that are worked through at a time.
const AT_ONCE: usize = 100;

const PUT: &str = "INSERT INTO operations (id, version, ended_at, body)
    SELECT value->>0, value->>1, value->>2, value->>3 FROM jsonb_each(?) WHERE true ON CONFLICT (id) DO NOTHING";

const FORGET: &str = "DELETE FROM operations WHERE ended_at < ?";

const UPDATE: &str = "UPDATE operations SET version = new.value->>1, ended_at = new.value->>2, body = new.value->>3
    FROM jsonb_each(?) AS new WHERE operations.id = new.value->>0 AND operations.version = new.value->>4";

const BY_ID: &str = "SELECT body FROM operations WHERE id = ?1";

pub(super) const LIST: &str = "SELECT body FROM operations WHERE id < ?1 ORDER BY id DESC LIMIT ?2";

pub(super) const OPEN: &str = "SELECT body FROM operations WHERE ended_at IS NULL ORDER BY id LIMIT ?1";

/// The repetitions of a run sort by when they were made.
pub(super) const NEWEST: &str = "SELECT new.value, (SELECT max(id) FROM runs WHERE runs.original_id = new.value)
    FROM jsonb_each(?1) AS new";

/// Runs under a condition, counted up to a limit; the parameters are as for lists.
macro_rules! count {
    ($condition:literal) => {
        concat!(
            "SELECT count(*) FROM (SELECT 1 FROM runs WHERE id >= ?1 AND id < ?2 AND ",
            $condition,
            " AND status IN (SELECT value FROM jsonb_each(?3)) LIMIT ?4)"
        )
    };
}
pub(super) const COUNT_ALL: &str = count!("true");
pub(super) const COUNT_OPEN: &str = count!("ended_at IS NULL");
pub(super) const COUNT_FAILED: &str = count!("status IN ('failed', 'cancelled')");
pub(super) const COUNT_OF: &str = count!("function_id IN (SELECT value FROM jsonb_each(?5))");

fn rows(operation: &Operation, expected: u64) -> Result<Rows, StoreError> {
    let body = serde_json::to_string(operation)
        .map_err(|error| StoreError::Refused(format!("operation {}: {error}", operation.id)))?;
    let mut rows = Rows::new();
    rows.row()
        .shown(operation.id)
        .int(i64::try_from(operation.version).unwrap_or(i64::MAX))
        .int_or_null(operation.ended_at.map(Timestamp::as_millis))
        .text(&body)
        .int(i64::try_from(expected).unwrap_or(i64::MAX));
    Ok(rows)
}

pub(super) async fn put(writer: &Writer, operation: &Operation) -> Result<(), StoreError> {
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    script.with(FORGET, operation.id.at().before(KEPT).as_millis());
    script.with_rows(PUT, rows(operation, 0)?);
    script.add("COMMIT");
    writer.session().await?.run(script, true).await?;
    Ok(())
}

pub(super) async fn update(writer: &Writer, operation: &Operation, expected: u64) -> Result<bool, StoreError> {
    let mut script = Script::default();
    let updated = script.with_rows(UPDATE, rows(operation, expected)?);
    let outcomes = writer.session().await?.run(script, true).await?;
    Ok(updated.is_some_and(|updated| outcomes[updated].changes > 0))
}

pub(super) async fn find(readers: &SqlitePool, id: OperationId) -> Result<Option<Operation>, StoreError> {
    let query = sqlx::query(BY_ID).bind(id.to_string());
    let row = query.fetch_optional(readers).await.map_err(from_sqlx)?;
    row.as_ref().map(operation).transpose()
}

pub(super) async fn list(
    readers: &SqlitePool,
    before: Option<OperationId>,
    limit: usize,
) -> Result<Page<Operation>, StoreError> {
    // Ids are digits and capitals.
    let before = before.map_or_else(|| "a".to_owned(), |before| before.to_string());
    let query = sqlx::query(LIST).bind(before).bind(sql_limit(limit.saturating_add(1)));
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    page(&rows, limit, operation)
}

pub(super) async fn open(readers: &SqlitePool) -> Result<Vec<Operation>, StoreError> {
    let query = sqlx::query(OPEN).bind(sql_limit(AT_ONCE));
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter().map(operation).collect()
}

fn operation(row: &SqliteRow) -> Result<Operation, StoreError> {
    serde_json::from_str(get(row, 0)?).map_err(|error| unreadable("an operation", error))
}

pub(super) async fn count_up_to(readers: &SqlitePool, filter: &RunFilter) -> Result<u64, StoreError> {
    let runs = Runs::of(filter);
    let sql = match &filter.functions {
        Some(_) => COUNT_OF,
        None => runs.narrowest(COUNT_ALL, COUNT_OPEN, COUNT_FAILED),
    };
    let names = Rows::of_texts(runs.status_names()).into_bytes();
    let mut query = sqlx::query(AssertSqlSafe(sql))
        .bind(runs.from.to_string())
        .bind(runs.end.to_string());
    query = query.bind(names).bind(sql_limit(filter.limit));
    if let Some(functions) = &filter.functions {
        query = query.bind(Rows::of_texts(functions).into_bytes());
    }
    let row = query.fetch_one(readers).await.map_err(from_sqlx)?;
    get_number(&row, 0)
}

pub(super) async fn newest_repetitions(
    readers: &SqlitePool,
    originals: &[RunId],
) -> Result<Vec<(RunId, RunId)>, StoreError> {
    let query = sqlx::query(NEWEST).bind(Rows::of_texts(originals).into_bytes());
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    let mut newest = Vec::with_capacity(rows.len());
    for row in &rows {
        if get::<Option<&str>>(row, 1)?.is_some() {
            newest.push((get_id(row, 0)?, get_id(row, 1)?));
        }
    }
    Ok(newest)
}
