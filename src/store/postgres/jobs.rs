//! Questions about jobs that are due, and how much of everything there is.

use callboard_actors::domain::{FunctionId, Gates, Job, JobId, Timestamp};
use callboard_actors::ports::{Counts, Except, StoreError};
use uuid::Uuid;

use super::cells::{Id as _, text};
use super::readers::Readers;
use super::rows::{gated, gates, get_number, get_text, get_text_or_null, get_time, job};
use crate::store::paging::sql_limit;

/// Gates are kept with the run; jobs that only tell time have none, and don't ask for it.
pub(super) const DUE: &str = "SELECT run_id, key, function_id, attempt, due, priority, payload,
        CASE WHEN left(key, 5) IN ('start', 'disco', 'step:')
            THEN (SELECT gates FROM callboard.runs WHERE id = jobs.run_id) END
    FROM callboard.jobs
    WHERE due < $1 AND (due, run_id, key) > ($2, $3, $4) AND function_id <> ALL ($5)
        AND NOT (function_id = ANY ($7)
            AND (key = 'start' OR starts_with(key, 'discover:') OR starts_with(key, 'step:')))
    ORDER BY due, run_id, key LIMIT $6";

pub(super) const NEXT_DUE: &str = "SELECT due FROM callboard.jobs WHERE due >= $1 ORDER BY due LIMIT 1";

pub(super) async fn due(
    readers: &Readers,
    until: Timestamp,
    after: Option<(Timestamp, JobId)>,
    except: Except<'_>,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    // Keys sort after the empty text, so this is before all jobs.
    let (due, run, key) = match after {
        Some((due, id)) => (due.as_millis(), id.run.cell(), id.key.to_string()),
        None => (i64::MIN, Uuid::nil(), String::new()),
    };
    let query = sqlx::query(DUE).bind(until.as_millis()).bind(due).bind(run);
    let cells = |functions: &[FunctionId]| functions.iter().map(|function| function.cell()).collect::<Vec<Uuid>>();
    let query = query.bind(text(&key).into_owned()).bind(cells(except.functions));
    let query = query.bind(sql_limit(limit)).bind(cells(except.calls_of));
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter()
        .map(|row| gated(job(row)?, get_text_or_null(row, 7)?))
        .collect()
}

pub(super) async fn next_due(readers: &Readers, from: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let query = sqlx::query(NEXT_DUE).bind(from.as_millis());
    let row = readers.single(|session| Box::pin(session.optional(query))).await?;
    row.map(|row| get_time(&row, 0)).transpose()
}

/// As the bounds are written, they are of use for the index of functions only.
pub(super) const STARTS: &str = "SELECT gates, started_at FROM callboard.runs
    WHERE (function_id, id) >= ($1, '00000000-0000-0000-0000-000000000000')
        AND (function_id, id) <= ($1, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        AND gates IS NOT NULL AND started_at IS NOT NULL
    ORDER BY function_id DESC, id DESC LIMIT $2";

pub(super) async fn starts_of(
    readers: &Readers,
    function: FunctionId,
    limit: usize,
) -> Result<Vec<(Gates, Timestamp)>, StoreError> {
    let query = sqlx::query(STARTS).bind(function.cell()).bind(sql_limit(limit));
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter()
        .map(|row| Ok((gates(&get_text(row, 0)?)?, get_time(row, 1)?)))
        .collect()
}

pub(super) async fn counts(readers: &Readers) -> Result<Counts, StoreError> {
    const SQL: &str = "SELECT (SELECT count(*) FROM callboard.runs WHERE ended_at IS NULL),
        (SELECT count(*) FROM callboard.jobs), (SELECT count(*) FROM callboard.waits),
        (SELECT count(*) FROM callboard.dead_letters)";
    let rows = readers
        .single(|session| Box::pin(session.all(sqlx::query(SQL))))
        .await?;
    let [row] = &rows[..] else {
        return Err(StoreError::Corrupt("counts are no single row".to_owned()));
    };
    Ok(Counts {
        open_runs: get_number(row, 0)?,
        jobs: get_number(row, 1)?,
        waits: get_number(row, 2)?,
        dead_letters: get_number(row, 3)?,
    })
}
