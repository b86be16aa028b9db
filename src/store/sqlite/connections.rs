//! Connections of workers: a row each, with what people see of it as JSON.

use callboard_actors::domain::{Connection, Timestamp};
use callboard_actors::ports::StoreError;
use sqlx::SqlitePool;

use super::error::{from_sqlx, unreadable};
use super::jsonb::Rows;
use super::rows::get;
use super::writer::{Script, Writer};
use crate::store::paging::sql_limit;

const PUT: &str = "INSERT INTO worker_connections (id, seen_at, ended_at, body)
    SELECT value->>0, value->>1, value->>2, value->>3 FROM jsonb_each(?) WHERE true
    ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, ended_at = excluded.ended_at, body = excluded.body";

const ALL: &str = "SELECT body FROM worker_connections ORDER BY ended_at IS NOT NULL, id DESC LIMIT ?1";

const FORGET: &str = "DELETE FROM worker_connections WHERE seen_at < ?";

pub(super) async fn put(writer: &Writer, connections: &[Connection]) -> Result<(), StoreError> {
    let mut rows = Rows::new();
    for connection in connections {
        let body = serde_json::to_string(connection)
            .map_err(|error| StoreError::Refused(format!("connection {}: {error}", connection.id)))?;
        rows.row()
            .text(&connection.id)
            .int(connection.heard_at.as_millis())
            .int_or_null(connection.ended_at.map(Timestamp::as_millis))
            .text(&body);
    }
    let mut script = Script::default();
    script.with_rows(PUT, rows);
    if script.is_empty() {
        return Ok(());
    }
    writer.session().await?.run(script, true).await?;
    Ok(())
}

pub(super) async fn all(readers: &SqlitePool, limit: usize) -> Result<Vec<Connection>, StoreError> {
    let query = sqlx::query(ALL).bind(sql_limit(limit));
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    let bodies = rows.iter().map(|row| get::<String>(row, 0));
    bodies
        .map(|body| serde_json::from_str(&body?).map_err(|error| unreadable("a connection of a worker", error)))
        .collect()
}

pub(super) async fn forget(writer: &Writer, before: Timestamp) -> Result<(), StoreError> {
    let mut script = Script::default();
    script.with(FORGET, before.as_millis());
    writer.session().await?.run(script, true).await?;
    Ok(())
}
