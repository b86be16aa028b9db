//! Questions about events.

use std::collections::HashMap;
use std::time::Duration;

use callboard_actors::domain::{Event, EventId, FunctionId, RunId, Skip, SkipReason, Timestamp, limits};
use callboard_actors::ports::{EventFilter, EventView, Page, SENDER_SLACK, StoreError};
use sqlx::SqlitePool;

use super::commit::gatherings::gathering;
use super::error::from_sqlx;
use super::gatherings;
use super::jsonb::Rows;
use super::rows::{event, get, get_id, get_named, summary};
use crate::store::paging::{page, sql_limit};

/// How far the time in an event's id, which may be its sender's, is trusted to lie from when it was received. Events of
/// clocks that are further off are missing from lists by time, and are purged that much later.
pub(super) const CLOCK_SLACK: Duration = Duration::from_secs(24 * 60 * 60);

const UNROUTED: &str = "SELECT id, external_id, has_own_id, name, ts, received_at, body
    FROM unrouted CROSS JOIN events ON events.id = unrouted.event_id ORDER BY unrouted.event_id LIMIT ?1";

const BY_ID: &str = "SELECT id, external_id, has_own_id, name, ts, received_at, body
    FROM events WHERE id IN (SELECT value FROM jsonb_each(?1))";

/// The ids between bounds are a range of the primary key, or of the index that holds a name's events.
macro_rules! list {
    ($condition:literal) => {
        concat!(
            "SELECT id, external_id, has_own_id, name, ts, received_at, body FROM events
            WHERE id >= ?1 AND id < ?2 AND received_at >= ?3 AND received_at < ?4 AND ",
            $condition,
            " ORDER BY id DESC LIMIT ?5"
        )
    };
}
pub(super) const LIST_ALL: &str = list!("(?6 OR substr(name, 1, length(?7)) <> ?7)");
pub(super) const LIST_NAMED: &str = list!("(?6 OR substr(name, 1, length(?7)) <> ?7) AND name = ?8");

/// The ids between bounds are a range of the index that holds a name's events.
pub(super) const NAMED: &str = "SELECT id, external_id, has_own_id, name, ts, received_at, body FROM events
    WHERE name = ?1 AND id > ?2 AND id < ?3 AND received_at >= ?4 AND received_at < ?5 ORDER BY id LIMIT ?6";

/// The runs an event started: those whose ids were derived from it carry its time, the others have a row.
const RUNS: &str =
    "SELECT id, function_id, function_version, status, event_id, event_ids, event_name, started_at, ended_at,
        output, original_id, batch_id
    FROM runs WHERE id >= ?1 AND id < ?2 AND event_id = ?3
    UNION
    SELECT id, function_id, function_version, status, runs.event_id, event_ids, event_name, started_at, ended_at,
        output, original_id, batch_id
    FROM run_events CROSS JOIN runs ON runs.id = run_events.run_id WHERE run_events.event_id = ?3
    ORDER BY id";

const SKIPS: &str = "SELECT function_id, reason, detail FROM skips WHERE event_id = ?1 ORDER BY seq";

pub(super) async fn unrouted(readers: &SqlitePool, limit: usize) -> Result<Vec<Event>, StoreError> {
    let query = sqlx::query(UNROUTED).bind(sql_limit(limit));
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter().map(event).collect()
}

pub(super) async fn by_id(readers: &SqlitePool, ids: &[EventId]) -> Result<Vec<Event>, StoreError> {
    let query = sqlx::query(BY_ID).bind(Rows::of_texts(ids).into_bytes());
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let event = event(row)?;
        found.insert(event.id, event);
    }
    Ok(ids.iter().filter_map(|id| found.get(id).cloned()).collect())
}

pub(super) async fn list(readers: &SqlitePool, filter: &EventFilter) -> Result<Page<Event>, StoreError> {
    let from = filter.from.unwrap_or(Timestamp::MIN);
    let until = filter.until.unwrap_or(Timestamp::MAX);
    let mut end = EventId::first_at(until.after(CLOCK_SLACK));
    if let Some(before) = filter.before {
        end = end.min(before);
    }
    let sql = if filter.name.is_some() { LIST_NAMED } else { LIST_ALL };
    let mut query = sqlx::query(sql)
        .bind(EventId::first_at(from.before(CLOCK_SLACK)).to_string())
        .bind(end.to_string())
        .bind(from.as_millis())
        .bind(until.as_millis())
        .bind(sql_limit(filter.limit.saturating_add(1)))
        .bind(filter.internal)
        .bind(limits::INTERNAL_PREFIX);
    if let Some(name) = &filter.name {
        query = query.bind(name.as_str());
    }
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    page(&rows, filter.limit, event)
}

pub(super) async fn named(
    readers: &SqlitePool,
    name: &str,
    (from, until): (Timestamp, Timestamp),
    after: Option<EventId>,
    limit: usize,
) -> Result<Vec<Event>, StoreError> {
    let after = after.unwrap_or_else(|| EventId::first_at(from.before(SENDER_SLACK)));
    let query = sqlx::query(NAMED)
        .bind(name)
        .bind(after.to_string())
        .bind(EventId::first_at(until.after(SENDER_SLACK)).to_string())
        .bind(from.as_millis())
        .bind(until.as_millis())
        .bind(sql_limit(limit));
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter().map(event).collect()
}

pub(super) async fn view(readers: &SqlitePool, id: EventId) -> Result<Option<EventView>, StoreError> {
    let mut tx = readers.begin().await.map_err(from_sqlx)?;
    let query = sqlx::query(BY_ID).bind(Rows::of_texts([id]).into_bytes());
    let Some(row) = query.fetch_optional(&mut *tx).await.map_err(from_sqlx)? else {
        return Ok(None);
    };
    let next = Timestamp::from_millis(id.at().as_millis() + 1);
    let runs = sqlx::query(RUNS)
        .bind(RunId::first_at(id.at()).to_string())
        .bind(RunId::first_at(next).to_string())
        .bind(id.to_string());
    let runs = runs.fetch_all(&mut *tx).await.map_err(from_sqlx)?;
    let skips = sqlx::query(SKIPS).bind(id.to_string());
    let skips = skips.fetch_all(&mut *tx).await.map_err(from_sqlx)?;
    let held = sqlx::query(gatherings::OF_EVENT).bind(id.to_string());
    let held = held.fetch_all(&mut *tx).await.map_err(from_sqlx)?;
    tx.commit().await.map_err(from_sqlx)?;

    let skip = |row| {
        let function: Option<&str> = get(row, 0)?;
        Ok(Skip {
            event: id,
            function: function.map(|_| get_id::<FunctionId>(row, 0)).transpose()?,
            reason: get_named(row, 1, SkipReason::parse)?,
            detail: get(row, 2)?,
        })
    };
    Ok(Some(EventView {
        event: event(&row)?,
        runs: runs.iter().map(summary).collect::<Result<_, _>>()?,
        skips: skips.iter().map(skip).collect::<Result<_, _>>()?,
        gatherings: held.iter().map(gathering).collect::<Result<_, _>>()?,
    }))
}
