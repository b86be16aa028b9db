//! Questions about events.

use std::collections::HashMap;
use std::time::Duration;

use callboard_actors::domain::{Event, EventId, RunId, Skip, SkipReason, Timestamp, limits};
use callboard_actors::ports::{EventFilter, EventView, Page, SENDER_SLACK, StoreError};
use uuid::Uuid;

use super::cells::{Id as _, text};
use super::gatherings;
use super::readers::Readers;
use super::rows::{event, get_id_or_null, get_named, get_text, summary};
use crate::store::paging::{page, sql_limit};

/// How far the time in an event's id, which may be its sender's, is trusted to lie from when it was received. Events of
/// clocks that are further off are missing from lists by time, and are purged that much later.
pub(super) const CLOCK_SLACK: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) const UNROUTED: &str = "SELECT id, external_id, has_own_id, name, ts, received_at, body
    FROM callboard.unrouted JOIN callboard.events ON events.id = unrouted.event_id ORDER BY unrouted.event_id LIMIT $1";

pub(super) const BY_ID: &str = "SELECT id, external_id, has_own_id, name, ts, received_at, body
    FROM callboard.events WHERE id = ANY ($1)";

/// The ids between bounds are a range of the primary key, or of the index that holds a name's events.
macro_rules! list {
    ($condition:literal) => {
        concat!(
            "SELECT id, external_id, has_own_id, name, ts, received_at, body FROM callboard.events
            WHERE id >= $1 AND id < $2 AND received_at >= $3 AND received_at < $4 AND ",
            $condition,
            " ORDER BY id DESC LIMIT $5"
        )
    };
}
pub(super) const LIST_ALL: &str = list!("($6 OR NOT starts_with(name, $7))");
pub(super) const LIST_NAMED: &str = list!("($6 OR NOT starts_with(name, $7)) AND name = $8");

/// The ids between bounds are a range of the index that holds a name's events.
pub(super) const NAMED: &str = "SELECT id, external_id, has_own_id, name, ts, received_at, body FROM callboard.events
    WHERE name = $1 AND id > $2 AND id < $3 AND received_at >= $4 AND received_at < $5 ORDER BY id LIMIT $6";

/// The runs an event started: those whose ids were derived from it carry its time, the others have a row.
pub(super) const RUNS: &str =
    "SELECT id, function_id, function_version, status, event_id, event_ids, event_name, started_at, ended_at,
        output, original_id, batch_id
    FROM callboard.runs WHERE id >= $1 AND id < $2 AND event_id = $3
    UNION
    SELECT id, function_id, function_version, status, runs.event_id, event_ids, event_name, started_at, ended_at,
        output, original_id, batch_id
    FROM callboard.run_events JOIN callboard.runs ON runs.id = run_events.run_id WHERE run_events.event_id = $3
    ORDER BY id";

pub(super) const SKIPS: &str =
    "SELECT function_id, reason, detail FROM callboard.skips WHERE event_id = $1 ORDER BY seq";

pub(super) async fn unrouted(readers: &Readers, limit: usize) -> Result<Vec<Event>, StoreError> {
    let query = sqlx::query(UNROUTED).bind(sql_limit(limit));
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter().map(event).collect()
}

pub(super) async fn by_id(readers: &Readers, ids: &[EventId]) -> Result<Vec<Event>, StoreError> {
    let cells: Vec<Uuid> = ids.iter().map(|id| id.cell()).collect();
    let query = sqlx::query(BY_ID).bind(cells);
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let event = event(row)?;
        found.insert(event.id, event);
    }
    Ok(ids.iter().filter_map(|id| found.get(id).cloned()).collect())
}

pub(super) async fn named(
    readers: &Readers,
    name: &str,
    (from, until): (Timestamp, Timestamp),
    after: Option<EventId>,
    limit: usize,
) -> Result<Vec<Event>, StoreError> {
    let after = after.unwrap_or_else(|| EventId::first_at(from.before(SENDER_SLACK)));
    let query = sqlx::query(NAMED)
        .bind(text(name).into_owned())
        .bind(after.cell())
        .bind(EventId::first_at(until.after(SENDER_SLACK)).cell())
        .bind(from.as_millis())
        .bind(until.as_millis())
        .bind(sql_limit(limit));
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter().map(event).collect()
}

pub(super) async fn list(readers: &Readers, filter: &EventFilter) -> Result<Page<Event>, StoreError> {
    let from = filter.from.unwrap_or(Timestamp::MIN);
    let until = filter.until.unwrap_or(Timestamp::MAX);
    let mut end = EventId::first_at(until.after(CLOCK_SLACK));
    if let Some(before) = filter.before {
        end = end.min(before);
    }
    let sql = if filter.name.is_some() { LIST_NAMED } else { LIST_ALL };
    let mut query = sqlx::query(sql)
        .bind(EventId::first_at(from.before(CLOCK_SLACK)).cell())
        .bind(end.cell())
        .bind(from.as_millis())
        .bind(until.as_millis())
        .bind(sql_limit(filter.limit.saturating_add(1)))
        .bind(filter.internal)
        .bind(limits::INTERNAL_PREFIX);
    if let Some(name) = &filter.name {
        query = query.bind(text(name).into_owned());
    }
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    page(&rows, filter.limit, event)
}

pub(super) async fn view(readers: &Readers, id: EventId) -> Result<Option<EventView>, StoreError> {
    let next = Timestamp::from_millis(id.at().as_millis() + 1);
    let found = readers.snapshot(move |session| {
        Box::pin(async move {
            let Some(row) = session.optional(sqlx::query(BY_ID).bind(vec![id.cell()])).await? else {
                return Ok(None);
            };
            let runs = sqlx::query(RUNS)
                .bind(RunId::first_at(id.at()).cell())
                .bind(RunId::first_at(next).cell())
                .bind(id.cell());
            let runs = session.all(runs).await?;
            let skips = session.all(sqlx::query(SKIPS).bind(id.cell())).await?;
            let held = session.all(sqlx::query(gatherings::OF_EVENT).bind(id.cell())).await?;
            Ok(Some((row, runs, skips, held)))
        })
    });
    let Some((row, runs, skips, held)) = found.await? else {
        return Ok(None);
    };
    let skip = |row| {
        Ok(Skip {
            event: id,
            function: get_id_or_null(row, 0)?,
            reason: get_named(row, 1, SkipReason::parse)?,
            detail: get_text(row, 2)?,
        })
    };
    Ok(Some(EventView {
        event: event(&row)?,
        runs: runs.iter().map(summary).collect::<Result<_, _>>()?,
        skips: skips.iter().map(skip).collect::<Result<_, _>>()?,
        gatherings: held.iter().map(gatherings::gathering).collect::<Result<_, _>>()?,
    }))
}
