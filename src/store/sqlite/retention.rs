//! Deleting what is old.
//!
//! What to delete is looked up by a reader, so that the writer is held only as long as deleting takes.

use callboard_actors::domain::{EventId, RunId, Timestamp};
use callboard_actors::ports::{Expiry, StoreError};
use sqlx::SqlitePool;

use super::crons;
use super::error::from_sqlx;
use super::events::CLOCK_SLACK;
use super::gatherings;
use super::jsonb::Rows;
use super::rows::get;
use super::writer::{Script, Writer};
use crate::store::paging::sql_limit;

/// A run that ended before then was created before then: that bounds the search.
pub(super) const OLD_RUNS: &str = "SELECT id FROM runs
    WHERE id < ?1 AND ended_at < CASE status WHEN 'failed' THEN ?2 ELSE ?3 END ORDER BY id LIMIT ?4";

/// Events without a run. Runs whose ids were derived from an event carry its time, so those of the events between two ids
/// are between the same two; the others have a row.
pub(super) const OLD_EVENTS: &str = "SELECT id FROM events WHERE id < ?1 AND received_at < ?2
    AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.id >= substr(events.id, 1, 10)
        AND runs.id < substr(events.id, 1, 10) || '~' AND runs.event_id = events.id)
    AND NOT EXISTS (SELECT 1 FROM run_events WHERE run_events.event_id = events.id)
    AND NOT EXISTS (SELECT 1 FROM unrouted WHERE unrouted.event_id = events.id)
    AND NOT EXISTS (SELECT 1 FROM gathering_events AS held WHERE held.event_id = events.id)
    ORDER BY id LIMIT ?3";

/// Rate limits that have nothing left to remember, with what they remember.
pub(super) const OLD_RATES: &str = "SELECT id, next FROM rate_limits WHERE next < ?1 ORDER BY next LIMIT ?2";
/// One that was used since stays.
const DELETE_RATES: &str =
    "DELETE FROM rate_limits WHERE (id, next) IN (SELECT value->>0, value->>1 FROM jsonb_each(?))";

/// What is found stays true until it is deleted: an ended run does not open again, and only an unrouted or gathered event
/// gets runs.
const DELETE_RUNS: [&str; 7] = [
    "DELETE FROM run_events WHERE (event_id, run_id) IN (SELECT ids.value, runs.id
        FROM jsonb_each(?) AS old CROSS JOIN runs ON runs.id = old.value
        CROSS JOIN json_each(coalesce(runs.event_ids, json_array(runs.event_id))) AS ids)",
    "DELETE FROM steps WHERE run_id IN (SELECT value FROM jsonb_each(?))",
    "DELETE FROM deferrals WHERE run_id IN (SELECT value FROM jsonb_each(?))",
    "DELETE FROM history WHERE run_id IN (SELECT value FROM jsonb_each(?))",
    "DELETE FROM metadata WHERE run_id IN (SELECT value FROM jsonb_each(?))",
    "DELETE FROM user_spans WHERE run_id IN (SELECT value FROM jsonb_each(?))",
    "DELETE FROM runs WHERE id IN (SELECT value FROM jsonb_each(?))",
];
const DELETE_EVENTS: [&str; 2] = [
    "DELETE FROM skips WHERE event_id IN (SELECT value FROM jsonb_each(?))",
    "DELETE FROM events WHERE id IN (SELECT value FROM jsonb_each(?))",
];

/// See [`callboard_actors::ports::Store::purge`].
pub(super) async fn purge(
    writer: &Writer,
    readers: &SqlitePool,
    expiry: &Expiry,
    limit: usize,
) -> Result<u64, StoreError> {
    let bound = RunId::first_at(expiry.finished_runs.max(expiry.failed_runs)).to_string();
    let runs = find(
        readers,
        OLD_RUNS,
        bound,
        &[expiry.failed_runs, expiry.finished_runs],
        limit,
    )
    .await?;
    let mut gone = delete(writer, &DELETE_RUNS, runs).await?;
    let bound = EventId::first_at(expiry.events.after(CLOCK_SLACK)).to_string();
    let events = find(readers, OLD_EVENTS, bound, &[expiry.events], limit).await?;
    gone += delete(writer, &DELETE_EVENTS, events).await?;
    gone += delete_rates(writer, readers, expiry.rates, limit).await?;
    crons::purge(writer, expiry.events).await?;
    gatherings::purge(writer, expiry.rates).await?;
    Ok(gone)
}

async fn delete_rates(
    writer: &Writer,
    readers: &SqlitePool,
    before: Timestamp,
    limit: usize,
) -> Result<u64, StoreError> {
    let query = sqlx::query(OLD_RATES).bind(before.as_nanos()).bind(sql_limit(limit));
    let mut rows = Rows::new();
    for row in query.fetch_all(readers).await.map_err(from_sqlx)? {
        rows.row().text(get(&row, 0)?).int(get::<i64>(&row, 1)?);
    }
    let mut script = Script::default();
    let Some(place) = script.with_rows(DELETE_RATES, rows) else {
        return Ok(0);
    };
    let outcomes = writer.session().await?.run(script, true).await?;
    Ok(outcomes[place].changes)
}

async fn find(
    readers: &SqlitePool,
    sql: &'static str,
    bound: String,
    before: &[Timestamp],
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    let query = before
        .iter()
        .fold(sqlx::query(sql).bind(bound), |query, time| query.bind(time.as_millis()));
    let rows = query
        .bind(sql_limit(limit))
        .fetch_all(readers)
        .await
        .map_err(from_sqlx)?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// Answers how many rows the last statement deleted.
async fn delete(writer: &Writer, statements: &[&'static str], ids: Vec<String>) -> Result<u64, StoreError> {
    if ids.is_empty() {
        return Ok(0);
    }
    let ids = Rows::of_texts(ids).into_bytes();
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    let mut last = 0;
    for sql in statements {
        last = script.with(sql, ids.clone());
    }
    script.add("COMMIT");
    let outcomes = writer.session().await?.run(script, true).await?;
    Ok(outcomes[last].changes)
}
