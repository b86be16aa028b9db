//! Connections of workers to all instances, for people: those to this one as they are now, the others as they were written down.

use std::collections::HashSet;
use std::time::Duration;

use callboard_actors::domain::{Connection, NodeId};
use callboard_actors::ports::NodeView;

use super::state::{Api, AppState};
use crate::error::Problem;

/// Connections that are looked at, those that last first.
const MOST: usize = 2_000;
/// A node that has given no sign of life for longer than this has probably ended. Signs come every 2 s.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(10);

/// Connections to all instances, those that have ended included, the oldest first.
///
/// # Errors
/// When the database does not answer.
pub(super) async fn all(state: &AppState, api: &dyn Api) -> Result<Vec<Connection>, Problem> {
    let known = api.store().connections(MOST).await?;
    let now = api.clock().now();
    let this: NodeId = api.node().id;
    let nodes = api.store().nodes().await?;
    let is_alive = |view: &&NodeView| view.node.id != this && now.since(view.seen_at) <= SILENT_AFTER;
    let alive: HashSet<String> = nodes
        .iter()
        .filter(is_alive)
        .map(|view| view.node.id.to_string())
        .collect();
    let mut all = state.options.gateway.workers().connections(&this.to_string());
    let own: HashSet<String> = all.iter().map(|connection| connection.id.clone()).collect();
    let others = known.into_iter().filter(|connection| !own.contains(&connection.id));
    all.extend(others.map(|connection| {
        if connection.ended_at.is_some() || alive.contains(&connection.node) {
            return connection;
        }
        // Whoever could have said how it ended has ended itself.
        let at = connection.heard_at;
        connection.ended(at, Connection::UNEXPECTED)
    }));
    all.sort_by(|a, b| (a.connected_at, &a.id).cmp(&(b.connected_at, &b.id)));
    Ok(all)
}
