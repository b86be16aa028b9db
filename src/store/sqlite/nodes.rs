//! Nodes and their turns. One process has a SQLite database to itself, so there is one node; the tables are there for
//! those who look at the database, and the questions for the port's sake.

use std::time::Duration;

use callboard_actors::domain::{Node, NodeId, NodeState, Timestamp};
use callboard_actors::ports::{NodeView, StoreError};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use super::error::from_sqlx;
use super::jsonb::Rows;
use super::rows::{get, get_id, get_named, get_number, get_time};
use super::writer::{Script, Writer};

/// Nodes that have been silent for so long are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

const BEAT: &str = "INSERT INTO nodes (id, name, address, version, started_at, state, jobs_in_flight, seen_at)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7
    FROM jsonb_each(?) WHERE true
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, address = excluded.address, version = excluded.version,
        started_at = excluded.started_at, state = excluded.state, jobs_in_flight = excluded.jobs_in_flight,
        seen_at = excluded.seen_at";

const FORGET: &str = "DELETE FROM nodes WHERE seen_at < ?";

const LEAVE: &str = "DELETE FROM nodes WHERE id = ?";

const NODES: &str = "SELECT id, name, address, version, started_at, state, jobs_in_flight, seen_at
    FROM nodes ORDER BY name, id";

const END_TURN: &str = "DELETE FROM turns WHERE EXISTS (SELECT 1 FROM jsonb_each(?) AS new
    WHERE turns.name = new.value->>0 AND (turns.holder = new.value->>1 OR turns.until <= new.value->>2))";

const TAKE_TURN: &str = "INSERT INTO turns (name, holder, until)
    SELECT value->>0, value->>1, value->>3 FROM jsonb_each(?) WHERE true ON CONFLICT (name) DO NOTHING";

pub(super) async fn beat(writer: &Writer, node: &Node, now: Timestamp) -> Result<(), StoreError> {
    let mut rows = Rows::new();
    rows.row()
        .shown(node.id)
        .text(&node.name)
        .text(&node.address)
        .text(&node.version)
        .int(node.started_at.as_millis())
        .text(node.state.as_str())
        .int(i64::try_from(node.jobs_in_flight).unwrap_or(i64::MAX))
        .int(now.as_millis());
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    script.with_rows(BEAT, rows);
    script.with(FORGET, now.before(FORGOTTEN_AFTER).as_millis());
    script.add("COMMIT");
    writer.session().await?.run(script, true).await?;
    Ok(())
}

pub(super) async fn leave(writer: &Writer, node: NodeId) -> Result<(), StoreError> {
    let mut script = Script::default();
    script.with(LEAVE, node.to_string());
    writer.session().await?.run(script, true).await?;
    Ok(())
}

pub(super) async fn all(readers: &SqlitePool) -> Result<Vec<NodeView>, StoreError> {
    let rows = sqlx::query(NODES).fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter().map(node).collect()
}

pub(super) async fn take_turn(
    writer: &Writer,
    turn: &str,
    holder: NodeId,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let mut rows = Rows::new();
    rows.row()
        .text(turn)
        .shown(holder)
        .int(now.as_millis())
        .int(until.as_millis());
    let rows = rows.into_bytes();
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    script.with(END_TURN, rows.clone());
    let taken = script.with(TAKE_TURN, rows);
    script.add("COMMIT");
    let outcomes = writer.session().await?.run(script, true).await?;
    Ok(outcomes[taken].changes > 0)
}

fn node(row: &SqliteRow) -> Result<NodeView, StoreError> {
    Ok(NodeView {
        node: Node {
            id: get_id(row, 0)?,
            name: get(row, 1)?,
            address: get(row, 2)?,
            version: get(row, 3)?,
            started_at: get_time(row, 4)?,
            state: get_named(row, 5, NodeState::parse)?,
            jobs_in_flight: get_number(row, 6)?,
        },
        seen_at: get_time(row, 7)?,
    })
}
