//! Operations on many runs: a row each, with what people see of it as JSON.

use std::time::Duration;

use callboard_actors::domain::{Operation, OperationId, RunId, Timestamp};
use callboard_actors::ports::{Page, RunFilter, StoreError};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::cells::{Id as _, text};
use super::error::unreadable;
use super::readers::Readers;
use super::rows::{get_id, get_number, get_text};
use crate::store::paging::{Runs, page, sql_limit};

/// How long operations are kept that have ended.
const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Operations that are worked through at a time.
const AT_ONCE: usize = 100;

const PUT: &str = "WITH forgotten AS (DELETE FROM callboard.operations WHERE ended_at < $5)
    INSERT INTO callboard.operations (id, version, ended_at, body) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING";

const UPDATE: &str =
    "UPDATE callboard.operations SET version = $2, ended_at = $3, body = $4 WHERE id = $1 AND version = $5";

const BY_ID: &str = "SELECT body FROM callboard.operations WHERE id = $1";

pub(super) const LIST: &str = "SELECT body FROM callboard.operations WHERE id < $1 ORDER BY id DESC LIMIT $2";

pub(super) const OPEN: &str = "SELECT body FROM callboard.operations WHERE ended_at IS NULL ORDER BY id LIMIT $1";

/// The repetitions of a run sort by when they were made.
pub(super) const NEWEST: &str = "SELECT wanted.id, newest.id FROM unnest($1::uuid[]) AS wanted (id)
    CROSS JOIN LATERAL (SELECT runs.id FROM callboard.runs WHERE runs.original_id = wanted.id
        ORDER BY runs.original_id DESC, runs.id DESC LIMIT 1) AS newest";

/// Runs under a condition, counted up to a limit; the parameters are as for lists.
macro_rules! count {
    ($condition:literal) => {
        concat!(
            "SELECT count(*) FROM (SELECT 1 FROM callboard.runs WHERE status = ANY ($3) AND ",
            $condition,
            " LIMIT $4) AS counted"
        )
    };
}
pub(super) const COUNT_ALL: &str = count!("id >= $1 AND id < $2");
pub(super) const COUNT_OPEN: &str = count!("id >= $1 AND id < $2 AND ended_at IS NULL");
pub(super) const COUNT_UNSUCCESSFUL: &str = count!("id >= $1 AND id < $2 AND unsuccessful");
/// Those of some functions, one function after another. As the bounds are written, they are of use for the index of
/// functions only.
pub(super) const COUNT_OF: &str = "SELECT count(*) FROM (
    SELECT 1 FROM (SELECT DISTINCT * FROM unnest($5::uuid[])) AS wanted (function_id) CROSS JOIN LATERAL (
        SELECT 1 FROM callboard.runs WHERE status = ANY ($3) AND runs.function_id = wanted.function_id
            AND (runs.function_id, id) >= (wanted.function_id, $1) AND (runs.function_id, id) < (wanted.function_id, $2)
        LIMIT $4) AS found LIMIT $4) AS counted";

fn body(operation: &Operation) -> Result<String, StoreError> {
    let body = serde_json::to_string(operation)
        .map_err(|error| StoreError::Refused(format!("operation {}: {error}", operation.id)))?;
    Ok(text(&body).into_owned())
}

fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

pub(super) async fn put(readers: &Readers, operation: &Operation) -> Result<(), StoreError> {
    let query = sqlx::query(PUT)
        .bind(operation.id.cell())
        .bind(number(operation.version));
    let query = query
        .bind(operation.ended_at.map(Timestamp::as_millis))
        .bind(body(operation)?);
    let query = query.bind(operation.id.at().before(KEPT).as_millis());
    readers
        .single(|session| Box::pin(session.execute(query)))
        .await
        .map(drop)
}

pub(super) async fn update(readers: &Readers, operation: &Operation, expected: u64) -> Result<bool, StoreError> {
    let query = sqlx::query(UPDATE)
        .bind(operation.id.cell())
        .bind(number(operation.version));
    let query = query
        .bind(operation.ended_at.map(Timestamp::as_millis))
        .bind(body(operation)?);
    let query = query.bind(number(expected));
    let updated = readers.single(|session| Box::pin(session.execute(query))).await?;
    Ok(updated > 0)
}

pub(super) async fn find(readers: &Readers, id: OperationId) -> Result<Option<Operation>, StoreError> {
    let query = sqlx::query(BY_ID).bind(id.cell());
    let row = readers.single(|session| Box::pin(session.optional(query))).await?;
    row.as_ref().map(operation).transpose()
}

pub(super) async fn list(
    readers: &Readers,
    before: Option<OperationId>,
    limit: usize,
) -> Result<Page<Operation>, StoreError> {
    let before = before.map_or(Uuid::max(), OperationId::cell);
    let query = sqlx::query(LIST).bind(before).bind(sql_limit(limit.saturating_add(1)));
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    page(&rows, limit, operation)
}

pub(super) async fn open(readers: &Readers) -> Result<Vec<Operation>, StoreError> {
    let query = sqlx::query(OPEN).bind(sql_limit(AT_ONCE));
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter().map(operation).collect()
}

fn operation(row: &PgRow) -> Result<Operation, StoreError> {
    serde_json::from_str(&get_text(row, 0)?).map_err(|error| unreadable("an operation", error))
}

pub(super) async fn count_up_to(readers: &Readers, filter: &RunFilter) -> Result<u64, StoreError> {
    let runs = Runs::of(filter);
    let sql = match &filter.functions {
        Some(_) => COUNT_OF,
        None => runs.narrowest(COUNT_ALL, COUNT_OPEN, COUNT_UNSUCCESSFUL),
    };
    let names: Vec<&str> = runs.status_names().collect();
    let mut query = sqlx::query(sql)
        .bind(runs.from.cell())
        .bind(runs.end.cell())
        .bind(names);
    query = query.bind(sql_limit(filter.limit));
    if let Some(functions) = &filter.functions {
        let functions: Vec<Uuid> = functions.iter().map(|function| function.cell()).collect();
        query = query.bind(functions);
    }
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    match &rows[..] {
        [row] => get_number(row, 0),
        _ => Err(StoreError::Corrupt("a count is no single row".to_owned())),
    }
}

pub(super) async fn newest_repetitions(
    readers: &Readers,
    originals: &[RunId],
) -> Result<Vec<(RunId, RunId)>, StoreError> {
    let cells: Vec<Uuid> = originals.iter().map(|run| run.cell()).collect();
    let query = sqlx::query(NEWEST).bind(cells);
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter().map(|row| Ok((get_id(row, 0)?, get_id(row, 1)?))).collect()
}
