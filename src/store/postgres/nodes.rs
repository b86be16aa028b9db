//! Nodes and their turns.

use std::time::Duration;

use callboard_actors::domain::{Node, NodeId, NodeState, Timestamp};
use callboard_actors::ports::{NodeView, StoreError};
use sqlx::postgres::PgRow;

use super::cells::{Id as _, text};
use super::readers::Readers;
use super::rows::{get_id, get_named, get_number, get_text, get_time};

/// Nodes that have been silent for so long are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

const BEAT: &str = "WITH beat AS (
        INSERT INTO callboard.nodes (id, name, address, version, started_at, state, jobs_in_flight, seen_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (id) DO UPDATE SET name = excluded.name, address = excluded.address, version = excluded.version,
            started_at = excluded.started_at, state = excluded.state, jobs_in_flight = excluded.jobs_in_flight,
            seen_at = excluded.seen_at
    ), forgotten AS (DELETE FROM callboard.nodes WHERE seen_at < $9 AND id <> $1)
    SELECT value FROM callboard.counters WHERE name = 'catalog'";

const NODES: &str = "SELECT id, name, address, version, started_at, state, jobs_in_flight, seen_at
    FROM callboard.nodes ORDER BY name, id";

const LEAVE: &str = "DELETE FROM callboard.nodes WHERE id = $1";

const TAKE_TURN: &str = "INSERT INTO callboard.turns AS turn (name, holder, until) VALUES ($1, $2, $4)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE turn.holder = excluded.holder OR turn.until <= $3";

pub(super) async fn beat(readers: &Readers, node: &Node, now: Timestamp) -> Result<u64, StoreError> {
    let query = sqlx::query(BEAT)
        .bind(node.id.cell())
        .bind(text(&node.name).into_owned())
        .bind(text(&node.address).into_owned())
        .bind(text(&node.version).into_owned())
        .bind(node.started_at.as_millis())
        .bind(node.state.as_str())
        .bind(i64::try_from(node.jobs_in_flight).unwrap_or(i64::MAX))
        .bind(now.as_millis())
        .bind(now.before(FORGOTTEN_AFTER).as_millis());
    let revision = readers.single(|session| Box::pin(session.optional(query))).await?;
    let revision = revision.ok_or_else(|| StoreError::Corrupt("the catalog has no revision".to_owned()))?;
    get_number(&revision, 0)
}

pub(super) async fn all(readers: &Readers) -> Result<Vec<NodeView>, StoreError> {
    let rows = readers
        .single(|session| Box::pin(session.all(sqlx::query(NODES))))
        .await?;
    rows.iter().map(node).collect()
}

pub(super) async fn leave(readers: &Readers, node: NodeId) -> Result<(), StoreError> {
    let query = sqlx::query(LEAVE).bind(node.cell());
    readers
        .single(|session| Box::pin(session.execute(query)))
        .await
        .map(drop)
}

pub(super) async fn take_turn(
    readers: &Readers,
    turn: &str,
    holder: NodeId,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let query = sqlx::query(TAKE_TURN).bind(text(turn).into_owned()).bind(holder.cell());
    let query = query.bind(now.as_millis()).bind(until.as_millis());
    let taken = readers.single(|session| Box::pin(session.execute(query))).await?;
    Ok(taken > 0)
}

fn node(row: &PgRow) -> Result<NodeView, StoreError> {
    Ok(NodeView {
        node: Node {
            id: get_id(row, 0)?,
            name: get_text(row, 1)?,
            address: get_text(row, 2)?,
            version: get_text(row, 3)?,
            started_at: get_time(row, 4)?,
            state: get_named(row, 5, NodeState::parse)?,
            jobs_in_flight: get_number(row, 6)?,
        },
        seen_at: get_time(row, 7)?,
    })
}
