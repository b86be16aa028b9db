//! Connections of workers: a row each, with what people see of it as JSON.

use std::collections::BTreeMap;

use callboard_actors::domain::{Connection, Timestamp};
use callboard_actors::ports::StoreError;

use super::cells::text;
use super::error::unreadable;
use super::readers::Readers;
use super::rows::get_text;
use crate::store::paging::sql_limit;

const PUT: &str = "INSERT INTO callboard.worker_connections (id, seen_at, ended_at, body)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[])
    ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, ended_at = excluded.ended_at, body = excluded.body";

const ALL: &str = "SELECT body FROM callboard.worker_connections ORDER BY ended_at IS NOT NULL, id DESC LIMIT $1";

const FORGET: &str = "DELETE FROM callboard.worker_connections WHERE seen_at < $1";

pub(super) async fn put(readers: &Readers, connections: &[Connection]) -> Result<(), StoreError> {
    // One statement writes no row twice.
    let last: BTreeMap<&str, &Connection> = connections.iter().map(|one| (&*one.id, one)).collect();
    if last.is_empty() {
        return Ok(());
    }
    let (mut ids, mut seen, mut ended, mut bodies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (id, connection) in last {
        let body = serde_json::to_string(connection)
            .map_err(|error| StoreError::Refused(format!("connection {id}: {error}")))?;
        ids.push(text(id).into_owned());
        seen.push(connection.heard_at.as_millis());
        ended.push(connection.ended_at.map(Timestamp::as_millis));
        bodies.push(text(&body).into_owned());
    }
    let query = sqlx::query(PUT).bind(ids).bind(seen).bind(ended).bind(bodies);
    readers
        .single(|session| Box::pin(session.execute(query)))
        .await
        .map(drop)
}

pub(super) async fn all(readers: &Readers, limit: usize) -> Result<Vec<Connection>, StoreError> {
    let query = sqlx::query(ALL).bind(sql_limit(limit));
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    let bodies = rows.iter().map(|row| get_text(row, 0));
    bodies
        .map(|body| serde_json::from_str(&body?).map_err(|error| unreadable("a connection of a worker", error)))
        .collect()
}

pub(super) async fn forget(readers: &Readers, before: Timestamp) -> Result<(), StoreError> {
    let query = sqlx::query(FORGET).bind(before.as_millis());
    readers
        .single(|session| Box::pin(session.execute(query)))
        .await
        .map(drop)
}
