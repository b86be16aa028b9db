//! Questions about jobs that are due, and how much of everything there is.

use callboard_actors::domain::{FunctionId, Gates, Job, JobId, Timestamp};
use callboard_actors::ports::{Counts, Except, StoreError};
use sqlx::SqlitePool;

use super::error::from_sqlx;
use super::jsonb::Rows;
use super::rows::{gated, gates, get, get_number, job};
use crate::store::paging::sql_limit;

/// Gates are kept with the run; jobs that only tell time have none, and don't ask for it.
pub(super) const DUE: &str = "SELECT run_id, key, function_id, attempt, due, priority, payload,
        CASE WHEN substr(key, 1, 5) IN ('start', 'disco', 'step:') THEN (SELECT gates FROM runs WHERE id = jobs.run_id) END
    FROM jobs
    WHERE due < ?1 AND (due, run_id, key) > (?2, ?3, ?4)
    AND function_id NOT IN (SELECT value FROM jsonb_each(?5))
    AND NOT (function_id IN (SELECT value FROM jsonb_each(?7))
        AND (key = 'start' OR key GLOB 'discover:*' OR key GLOB 'step:*')) ORDER BY due, run_id, key LIMIT ?6";

pub(super) const NEXT_DUE: &str = "SELECT due FROM jobs WHERE due >= ?1 ORDER BY due LIMIT 1";

pub(super) async fn due(
    readers: &SqlitePool,
    until: Timestamp,
    after: Option<(Timestamp, JobId)>,
    except: Except<'_>,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    // Ids sort after the empty text, so this is before all jobs.
    let (due, run, key) = match after {
        Some((due, id)) => (due.as_millis(), id.run.to_string(), id.key.to_string()),
        None => (i64::MIN, String::new(), String::new()),
    };
    let query = sqlx::query(DUE).bind(until.as_millis()).bind(due).bind(run).bind(key);
    let rows = query
        .bind(Rows::of_texts(except.functions).into_bytes())
        .bind(sql_limit(limit))
        .bind(Rows::of_texts(except.calls_of).into_bytes())
        .fetch_all(readers)
        .await
        .map_err(from_sqlx)?;
    rows.iter().map(|row| gated(job(row)?, get(row, 7)?)).collect()
}

pub(super) async fn next_due(readers: &SqlitePool, from: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let query = sqlx::query_scalar(NEXT_DUE).bind(from.as_millis());
    let due: Option<i64> = query.fetch_optional(readers).await.map_err(from_sqlx)?;
    Ok(due.map(Timestamp::from_millis))
}

pub(super) const STARTS: &str = "SELECT gates, started_at FROM runs
    WHERE function_id = ?1 AND gates IS NOT NULL AND started_at IS NOT NULL ORDER BY id DESC LIMIT ?2";

pub(super) async fn starts_of(
    readers: &SqlitePool,
    function: FunctionId,
    limit: usize,
) -> Result<Vec<(Gates, Timestamp)>, StoreError> {
    let query = sqlx::query(STARTS).bind(function.to_string()).bind(sql_limit(limit));
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter()
        .map(|row| Ok((gates(get(row, 0)?)?, Timestamp::from_millis(get(row, 1)?))))
        .collect()
}

pub(super) async fn counts(readers: &SqlitePool) -> Result<Counts, StoreError> {
    const SQL: &str = "SELECT (SELECT count(*) FROM runs WHERE ended_at IS NULL), (SELECT count(*) FROM jobs),
        (SELECT count(*) FROM waits), (SELECT count(*) FROM dead_letters)";
    let row = sqlx::query(SQL).fetch_one(readers).await.map_err(from_sqlx)?;
    Ok(Counts {
        open_runs: get_number(&row, 0)?,
        jobs: get_number(&row, 1)?,
        waits: get_number(&row, 2)?,
        dead_letters: get_number(&row, 3)?,
    })
}
