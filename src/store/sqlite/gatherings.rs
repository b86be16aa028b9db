//! Questions about gatherings. They come and go with commits.

use std::collections::HashMap;

use callboard_actors::domain::{Event, FunctionId, Gathered, Gathering, GatheringId, Timestamp};
use callboard_actors::ports::{StoreError, within_due_bytes};
use sqlx::SqlitePool;

use super::commit::gatherings::{columns, gathering};
use super::error::from_sqlx;
use super::jsonb::Rows;
use super::rows::{event, get_id, get_time_or_null};
use super::writer::Script;
use super::writer::Writer;
use crate::store::paging::sql_limit;

pub(super) const DUE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM gatherings WHERE due <= ?1 ORDER BY due, id LIMIT ?2"
);
pub(super) const NEXT: &str = "SELECT min(due) FROM gatherings";
pub(super) const OF_FUNCTION: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM gatherings WHERE function_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
);
pub(super) const ONE: &str = concat!("SELECT ", columns!(), " FROM gatherings WHERE id = ?1");
/// An event is held by few.
pub(super) const OF_EVENT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM gatherings WHERE id IN (SELECT gathering_id FROM gathering_events WHERE event_id = ?1) ORDER BY id"
);
pub(super) const MEMBERS: &str =
    "SELECT events.id, external_id, has_own_id, name, ts, received_at, body, member.gathering_id
    FROM jsonb_each(?1) AS wanted CROSS JOIN gathering_events AS member ON member.gathering_id = wanted.value
    CROSS JOIN events ON events.id = member.event_id ORDER BY member.gathering_id, member.place";
/// Ids that may join again.
pub(super) const DELETE_KEYS: &str = "DELETE FROM gathered_ids WHERE (function_id, key) IN
    (SELECT function_id, key FROM gathered_ids WHERE until <= ? ORDER BY until LIMIT 1000)";

pub(super) async fn due(readers: &SqlitePool, until: Timestamp, limit: usize) -> Result<Vec<Gathered>, StoreError> {
    let query = sqlx::query(DUE).bind(until.as_millis()).bind(sql_limit(limit));
    with_events(readers, query).await
}

pub(super) async fn next(readers: &SqlitePool) -> Result<Option<Timestamp>, StoreError> {
    let row = sqlx::query(NEXT).fetch_one(readers).await.map_err(from_sqlx)?;
    get_time_or_null(&row, 0)
}

pub(super) async fn of_function(
    readers: &SqlitePool,
    function: FunctionId,
    after: Option<GatheringId>,
    limit: usize,
) -> Result<Vec<Gathering>, StoreError> {
    let query = sqlx::query(OF_FUNCTION)
        .bind(function.to_string())
        .bind(after.map_or_else(String::new, |id| id.to_string()))
        .bind(sql_limit(limit));
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter().map(gathering).collect()
}

pub(super) async fn one(readers: &SqlitePool, id: GatheringId) -> Result<Option<Gathered>, StoreError> {
    let found = with_events(readers, sqlx::query(ONE).bind(id.to_string())).await?;
    Ok(found.into_iter().next())
}

type Query = sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// The gatherings that a query finds, as of one instant.
async fn with_events(readers: &SqlitePool, query: Query) -> Result<Vec<Gathered>, StoreError> {
    let mut tx = readers.begin().await.map_err(from_sqlx)?;
    let rows = query.fetch_all(&mut *tx).await.map_err(from_sqlx)?;
    let mut found: Vec<Gathering> = rows.iter().map(gathering).collect::<Result<_, _>>()?;
    found.truncate(within_due_bytes(found.iter().map(|found| found.standing.bytes)));
    let mut events: HashMap<GatheringId, Vec<Event>> = HashMap::new();
    if !found.is_empty() {
        let ids = Rows::of_texts(found.iter().map(|found| found.id)).into_bytes();
        let rows = sqlx::query(MEMBERS).bind(ids).fetch_all(&mut *tx).await;
        for row in &rows.map_err(from_sqlx)? {
            events.entry(get_id(row, 7)?).or_default().push(event(row)?);
        }
    }
    tx.commit().await.map_err(from_sqlx)?;
    let gathered = found.into_iter().map(|gathering| Gathered {
        events: events.remove(&gathering.id).unwrap_or_default(),
        gathering,
    });
    Ok(gathered.collect())
}

/// Deletes keys that may join again by then.
pub(super) async fn purge(writer: &Writer, before: Timestamp) -> Result<(), StoreError> {
    let mut script = Script::default();
    script.with(DELETE_KEYS, before.as_millis());
    writer.session().await?.run(script, true).await?;
    Ok(())
}
