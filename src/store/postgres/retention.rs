//! Deleting what is old.
//!
//! The history of a run goes with its month (`drop_history_partitions`), so that the rows of which there are most are
//! never deleted one by one; until then nobody sees it, for its run is gone. Only the default partition, which holds
//! runs of odd times and what outlived its month, is cleaned row by row.

use callboard_actors::domain::{EventId, RunId, Timestamp};
use callboard_actors::ports::{Expiry, StoreError};
use uuid::Uuid;

use super::cells::Id as _;
use super::crons;
use super::events::CLOCK_SLACK;
use super::gatherings;
use super::readers::{Readers, Statement};
use super::rows::get;
use crate::store::paging::sql_limit;

/// A run that ended before then was created before then: that bounds the search.
pub(super) const OLD_RUNS: &str = "SELECT id FROM callboard.runs
    WHERE id < $1 AND ended_at < CASE status WHEN 'failed' THEN $2::bigint ELSE $3::bigint END ORDER BY id LIMIT $4";

/// Events without a run. Runs whose ids were derived from an event carry its time, which is the first 48 bits; the others
/// have a row.
pub(super) const OLD_EVENTS: &str = "SELECT id FROM callboard.events WHERE id < $1 AND received_at < $2
    AND NOT EXISTS (SELECT 1 FROM callboard.runs
        WHERE runs.id >= (left(events.id::text, 13) || '-0000-0000-000000000000')::uuid
            AND runs.id <= (left(events.id::text, 13) || '-ffff-ffff-ffffffffffff')::uuid AND runs.event_id = events.id)
    AND NOT EXISTS (SELECT 1 FROM callboard.run_events WHERE run_events.event_id = events.id)
    AND NOT EXISTS (SELECT 1 FROM callboard.unrouted WHERE unrouted.event_id = events.id)
    AND NOT EXISTS (SELECT 1 FROM callboard.gathering_events AS held WHERE held.event_id = events.id)
    ORDER BY id LIMIT $3";

/// Rate limits that have nothing left to remember.
pub(super) const OLD_RATES: &str = "SELECT id FROM callboard.rate_limits WHERE next < $1 ORDER BY next LIMIT $2";
/// One that was used since stays.
pub(super) const DELETE_RATES: &str = "DELETE FROM callboard.rate_limits WHERE id = ANY ($1) AND next < $2";

/// What is found stays true until it is deleted: an ended run does not open again, and only an unrouted or gathered event
/// gets runs.
pub(super) const DELETE_RUNS: [&str; 8] = [
    // Whoever is about to note something about one of them waits, and then finds that it has gone.
    "SELECT 1 FROM callboard.runs WHERE id = ANY ($1) FOR UPDATE",
    "DELETE FROM callboard.run_events USING (
        SELECT runs.id AS run_id, event.id AS event_id
        FROM callboard.runs CROSS JOIN LATERAL unnest(coalesce(event_ids, ARRAY[event_id])) AS event (id)
        WHERE runs.id = ANY ($1)) AS old
    WHERE run_events.event_id = old.event_id AND run_events.run_id = old.run_id",
    "DELETE FROM callboard.steps WHERE run_id = ANY ($1)",
    "DELETE FROM callboard.deferrals WHERE run_id = ANY ($1)",
    "DELETE FROM callboard.history_default WHERE run_id = ANY ($1)",
    "DELETE FROM callboard.metadata WHERE run_id = ANY ($1)",
    "DELETE FROM callboard.user_spans WHERE run_id = ANY ($1)",
    "DELETE FROM callboard.runs WHERE id = ANY ($1)",
];
pub(super) const DELETE_EVENTS: [&str; 2] = [
    "DELETE FROM callboard.skips WHERE event_id = ANY ($1)",
    "DELETE FROM callboard.events WHERE id = ANY ($1)",
];

/// Months to make partitions for, beside this one.
const MONTHS_AHEAD: i32 = 2;
/// Runs of a month that has expired whose history moves to the default partition, at most.
const SURVIVORS: i32 = 10_000;

/// See [`callboard_actors::ports::Store::purge`].
pub(super) async fn purge(readers: &Readers, expiry: &Expiry, limit: usize) -> Result<u64, StoreError> {
    let bound = RunId::first_at(expiry.finished_runs.max(expiry.failed_runs));
    let runs = sqlx::query(OLD_RUNS)
        .bind(bound.cell())
        .bind(expiry.failed_runs.as_millis())
        .bind(expiry.finished_runs.as_millis())
        .bind(sql_limit(limit));
    let mut gone = delete(readers, runs, &DELETE_RUNS).await?;
    let bound = EventId::first_at(expiry.events.after(CLOCK_SLACK));
    let events = sqlx::query(OLD_EVENTS)
        .bind(bound.cell())
        .bind(expiry.events.as_millis())
        .bind(sql_limit(limit));
    gone += delete(readers, events, &DELETE_EVENTS).await?;
    gone += delete_rates(readers, expiry.rates, limit).await?;
    crons::purge(readers, expiry.events).await?;
    gatherings::purge(readers, expiry.rates).await?;
    tend_history(readers, expiry).await;
    Ok(gone)
}

/// Makes the partitions to come and drops those that have had their time. A table that is locked just then, by a backup
/// perhaps, is for the next time.
async fn tend_history(readers: &Readers, expiry: &Expiry) {
    let make = sqlx::query("SELECT callboard.make_history_partitions($1)").bind(MONTHS_AHEAD);
    let bound = RunId::first_at(expiry.finished_runs).cell();
    let drop = sqlx::query("SELECT callboard.drop_history_partitions($1, $2)")
        .bind(bound)
        .bind(SURVIVORS);
    for statement in [make, drop] {
        if let Err(error) = readers.write(|session| Box::pin(session.all(statement))).await {
            tracing::warn!(%error, "the partitions of the history were left as they are");
        }
    }
}

async fn delete_rates(readers: &Readers, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
    let before = before.as_nanos();
    let find = sqlx::query(OLD_RATES).bind(before).bind(sql_limit(limit));
    let found = readers.single(|session| Box::pin(session.all(find))).await?;
    if found.is_empty() {
        return Ok(0);
    }
    let ids: Vec<Uuid> = found.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    let delete = sqlx::query(DELETE_RATES).bind(ids).bind(before);
    readers.write(|session| Box::pin(session.execute(delete))).await
}

/// Deletes what a statement finds. Answers how many rows the last statement deleted.
async fn delete(readers: &Readers, find: Statement, statements: &'static [&'static str]) -> Result<u64, StoreError> {
    let found = readers.single(|session| Box::pin(session.all(find))).await?;
    if found.is_empty() {
        return Ok(0);
    }
    let ids: Vec<Uuid> = found.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    let deleted = readers.write(move |session| {
        Box::pin(async move {
            let mut deleted = 0;
            for sql in statements {
                deleted = session.execute(sqlx::query(*sql).bind(ids.clone())).await?;
            }
            Ok(deleted)
        })
    });
    deleted.await
}
