//! Questions about gatherings. They come and go with commits.

use std::collections::HashMap;

use callboard_actors::domain::{
    ClaimId, DueBy, Event, FunctionId, Gathered, Gathering, GatheringId, Standing, Timestamp,
};
use callboard_actors::ports::{StoreError, within_due_bytes};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::cells::Id as _;
use super::readers::{Readers, Statement};
use super::rows::{event, get, get_id, get_named, get_number, get_text_or_null, get_time, get_time_or_null};
use crate::store::paging::sql_limit;

/// The columns of a gathering for [`gathering`].
macro_rules! columns {
    () => {
        "id, function_id, bucket, is_batch, version, key, opened_at, due, due_by, newest, count, bytes"
    };
}

pub(super) const DUE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM callboard.gatherings WHERE due <= $1 ORDER BY due, id LIMIT $2"
);
pub(super) const NEXT: &str = "SELECT due FROM callboard.gatherings ORDER BY due, id LIMIT $1";
/// As the bound is written, it is of use for the index of functions only.
pub(super) const OF_FUNCTION: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM callboard.gatherings WHERE function_id = $1 AND (function_id, id) > ($1, $2) ORDER BY function_id, id LIMIT $3"
);
pub(super) const ONE: &str = concat!("SELECT ", columns!(), " FROM callboard.gatherings WHERE id = $1");
/// An event is held by few.
pub(super) const OF_EVENT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM callboard.gatherings
    WHERE id = ANY (ARRAY(SELECT gathering_id FROM callboard.gathering_events WHERE event_id = $1)) ORDER BY id"
);
pub(super) const MEMBERS: &str =
    "SELECT events.id, external_id, has_own_id, name, ts, received_at, body, member.gathering_id
    FROM callboard.gathering_events AS member JOIN callboard.events ON events.id = member.event_id
    WHERE member.gathering_id = ANY ($1) ORDER BY member.gathering_id, member.place";
/// Ids that may join again.
pub(super) const DELETE_KEYS: &str = "DELETE FROM callboard.gathered_ids USING
    (SELECT function_id, key FROM callboard.gathered_ids WHERE until <= $1 ORDER BY until LIMIT 1000) AS old
    WHERE gathered_ids.function_id = old.function_id AND gathered_ids.key = old.key AND until <= $1";

pub(super) async fn due(readers: &Readers, until: Timestamp, limit: usize) -> Result<Vec<Gathered>, StoreError> {
    let query = sqlx::query(DUE).bind(until.as_millis()).bind(sql_limit(limit));
    with_events(readers, query).await
}

pub(super) async fn next(readers: &Readers) -> Result<Option<Timestamp>, StoreError> {
    let row = readers
        .single(|session| Box::pin(session.optional(sqlx::query(NEXT).bind(1_i64))))
        .await?;
    row.as_ref().map_or(Ok(None), |row| get_time_or_null(row, 0))
}

pub(super) async fn of_function(
    readers: &Readers,
    function: FunctionId,
    after: Option<GatheringId>,
    limit: usize,
) -> Result<Vec<Gathering>, StoreError> {
    let query = sqlx::query(OF_FUNCTION)
        .bind(function.cell())
        .bind(after.map_or(Uuid::nil(), GatheringId::cell))
        .bind(sql_limit(limit));
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter().map(gathering).collect()
}

pub(super) async fn one(readers: &Readers, id: GatheringId) -> Result<Option<Gathered>, StoreError> {
    let found = with_events(readers, sqlx::query(ONE).bind(id.cell())).await?;
    Ok(found.into_iter().next())
}

/// The gatherings that a query finds, as of one instant.
async fn with_events(readers: &Readers, query: Statement) -> Result<Vec<Gathered>, StoreError> {
    let found = readers.snapshot(move |session| {
        Box::pin(async move {
            let rows = session.all(query).await?;
            let mut found: Vec<Gathering> = rows.iter().map(gathering).collect::<Result<_, _>>()?;
            found.truncate(within_due_bytes(found.iter().map(|found| found.standing.bytes)));
            if found.is_empty() {
                return Ok((found, Vec::new()));
            }
            let ids: Vec<Uuid> = found.iter().map(|found| found.id.cell()).collect();
            let members = session.all(sqlx::query(MEMBERS).bind(ids)).await?;
            Ok((found, members))
        })
    });
    let (found, members) = found.await?;
    let mut events: HashMap<GatheringId, Vec<Event>> = HashMap::new();
    for row in &members {
        events.entry(get_id(row, 7)?).or_default().push(event(row)?);
    }
    let gathered = found.into_iter().map(|gathering| Gathered {
        events: events.remove(&gathering.id).unwrap_or_default(),
        gathering,
    });
    Ok(gathered.collect())
}

/// Deletes keys that may join again by then.
pub(super) async fn purge(readers: &Readers, before: Timestamp) -> Result<(), StoreError> {
    let delete = sqlx::query(DELETE_KEYS).bind(before.as_millis());
    let deleted = readers.write(|session| Box::pin(session.execute(delete)));
    deleted.await.map(drop)
}

/// From the columns of [`columns`].
pub(super) fn gathering(row: &PgRow) -> Result<Gathering, StoreError> {
    let bytes: i64 = get(row, 11)?;
    Ok(Gathering {
        id: get_id(row, 0)?,
        function: get_id(row, 1)?,
        bucket: ClaimId::from_uuid(get(row, 2)?),
        is_batch: get(row, 3)?,
        version: get_number(row, 4)?,
        key: get_text_or_null(row, 5)?,
        standing: Standing {
            opened_at: get_time(row, 6)?,
            due_at: get_time(row, 7)?,
            due_by: get_named(row, 8, DueBy::parse)?,
            newest: get_time(row, 9)?,
            count: get_number(row, 10)?,
            bytes: u64::try_from(bytes).unwrap_or(0),
        },
    })
}
