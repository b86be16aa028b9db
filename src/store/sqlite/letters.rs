//! Questions about dead letters.
//!
//! Lists run over the index of their ids, which say when a job was given up; there are few enough to check the rest row by
//! row.

use callboard_actors::domain::{DeadLetter, LetterId, RunId, Timestamp};
use callboard_actors::ports::{DeadLetterFilter, Page, StoreError};
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqlitePool};

use super::error::from_sqlx;
use super::jsonb::Rows;
use super::rows::{get, get_id, job};
use crate::store::paging::{page, sql_limit};

pub(super) const LIST: &str =
    "SELECT run_id, key, function_id, attempt, due, priority, payload, id, reason FROM dead_letters
    WHERE id >= ?1 AND id < ?2 AND (?3 IS NULL OR function_id IN (SELECT value FROM jsonb_each(?3)))
    ORDER BY id DESC LIMIT ?4";

pub(super) const BY_ID: &str =
    "SELECT run_id, key, function_id, attempt, due, priority, payload, id, reason FROM dead_letters WHERE id = ?1";

pub(super) const OF_RUNS: &str =
    "SELECT run_id, key, function_id, attempt, due, priority, payload, id, reason FROM dead_letters
    WHERE run_id IN (SELECT value FROM jsonb_each(?1))";

pub(super) async fn list(readers: &SqlitePool, filter: &DeadLetterFilter) -> Result<Page<DeadLetter>, StoreError> {
    let from = LetterId::first_at(filter.from.unwrap_or(Timestamp::MIN));
    let mut end = LetterId::first_at(filter.until.unwrap_or(Timestamp::MAX));
    if let Some(before) = filter.before {
        end = end.min(before);
    }
    let functions = filter.functions.as_ref();
    let query = sqlx::query(LIST)
        .bind(from.to_string())
        .bind(end.to_string())
        .bind(functions.map(|functions| Rows::of_texts(functions).into_bytes()))
        .bind(sql_limit(filter.limit.saturating_add(1)));
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    page(&rows, filter.limit, letter)
}

pub(super) async fn find(readers: &SqlitePool, id: LetterId) -> Result<Option<DeadLetter>, StoreError> {
    let query = sqlx::query(BY_ID).bind(id.to_string());
    let row = query.fetch_optional(readers).await.map_err(from_sqlx)?;
    row.as_ref().map(letter).transpose()
}

/// The letters that hold these runs.
pub(super) async fn of_runs(conn: &mut SqliteConnection, ids: &[RunId]) -> Result<Vec<DeadLetter>, StoreError> {
    let query = sqlx::query(OF_RUNS).bind(Rows::of_texts(ids).into_bytes());
    let rows = query.fetch_all(conn).await.map_err(from_sqlx)?;
    rows.iter().map(letter).collect()
}

/// From a job's columns, id, reason.
fn letter(row: &SqliteRow) -> Result<DeadLetter, StoreError> {
    Ok(DeadLetter {
        job: job(row)?,
        id: get_id(row, 7)?,
        reason: get(row, 8)?,
    })
}
