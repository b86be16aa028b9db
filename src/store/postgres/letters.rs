//! Questions about dead letters.
//!
//! Lists run over the index of their ids, which say when a job was given up; there are few enough to check the rest row by
//! row.

use callboard_actors::domain::{DeadLetter, FunctionId, LetterId, Timestamp};
use callboard_actors::ports::{DeadLetterFilter, Page, StoreError};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::cells::Id as _;
use super::readers::{Readers, Session};
use super::rows::{get_id, get_text, job};
use crate::store::paging::{page, sql_limit};

pub(super) const LIST: &str = "SELECT run_id, key, function_id, attempt, due, priority, payload, id, reason
    FROM callboard.dead_letters WHERE id >= $1 AND id < $2 AND ($3::uuid[] IS NULL OR function_id = ANY ($3))
    ORDER BY id DESC LIMIT $4";

pub(super) const BY_ID: &str = "SELECT run_id, key, function_id, attempt, due, priority, payload, id, reason
    FROM callboard.dead_letters WHERE id = $1";

pub(super) const OF_RUNS: &str = "SELECT run_id, key, function_id, attempt, due, priority, payload, id, reason
    FROM callboard.dead_letters WHERE run_id = ANY ($1)";

pub(super) async fn list(readers: &Readers, filter: &DeadLetterFilter) -> Result<Page<DeadLetter>, StoreError> {
    let from = LetterId::first_at(filter.from.unwrap_or(Timestamp::MIN));
    let mut end = LetterId::first_at(filter.until.unwrap_or(Timestamp::MAX));
    if let Some(before) = filter.before {
        end = end.min(before);
    }
    let functions = filter.functions.as_ref();
    let functions: Option<Vec<Uuid>> = functions.map(|ids| ids.iter().copied().map(FunctionId::cell).collect());
    let query = sqlx::query(LIST)
        .bind(from.cell())
        .bind(end.cell())
        .bind(functions)
        .bind(sql_limit(filter.limit.saturating_add(1)));
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    page(&rows, filter.limit, letter)
}

pub(super) async fn find(readers: &Readers, id: LetterId) -> Result<Option<DeadLetter>, StoreError> {
    let query = sqlx::query(BY_ID).bind(id.cell());
    let row = readers.single(|session| Box::pin(session.optional(query))).await?;
    row.as_ref().map(letter).transpose()
}

/// The letters that hold these runs.
pub(super) async fn of_runs(session: &mut Session, runs: Vec<Uuid>) -> Result<Vec<DeadLetter>, StoreError> {
    let rows = session.all(sqlx::query(OF_RUNS).bind(runs)).await?;
    rows.iter().map(letter).collect()
}

/// From a job's columns, id, reason.
fn letter(row: &PgRow) -> Result<DeadLetter, StoreError> {
    Ok(DeadLetter {
        job: job(row)?,
        id: get_id(row, 7)?,
        reason: get_text(row, 8)?,
    })
}
