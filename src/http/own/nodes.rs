//! `/api/v1/nodes`: who takes part, and whether they are enough.

use actix_web::HttpResponse;
use callboard_actors::domain::Timestamp;
use callboard_actors::ports::NodeView;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::answer::{ErrorBody, OwnError};
use crate::http::connections::SILENT_AFTER;
use crate::http::metrics::{backlog_age, saturation};
use crate::http::state::State;

/// One running process of the installation.
#[derive(Serialize, ToSchema)]
pub(super) struct Node {
    /// Another one after every start.
    id: String,
    /// Name of its machine.
    #[schema(example = "worker-1")]
    name: String,
    /// Where it listens.
    #[schema(example = "10.0.0.7:8288")]
    address: String,
    version: String,
    started_at: String,
    /// `serving` or `draining`.
    #[schema(example = "serving")]
    state: &'static str,
    /// Jobs it is at work on.
    jobs_in_flight: u64,
    /// Its last sign of life.
    seen_at: String,
    /// Whether that is longer ago than 10 s.
    silent: bool,
    /// Whether this is the node that answers.
    #[serde(rename = "self")]
    is_self: bool,
}

/// What waits for all nodes together or, on a server without others, for this one.
#[derive(Serialize, ToSchema)]
pub(super) struct Backlog {
    /// Jobs that are due.
    ready: usize,
    /// Jobs that are due soon.
    delayed: usize,
    /// For how long the longest waiting ready job has been due, in seconds.
    age_seconds: f64,
}

/// The nodes, and how busy they are.
#[derive(Serialize, ToSchema)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    /// Jobs in flight of those that may be, on the node that answers: 1 is full.
    saturation: f64,
    /// Missing as long as the queue does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog: Option<Backlog>,
}

/// List the processes that take part, by name.
#[utoipa::path(
    get, path = "/api/v1/nodes", tag = "operations",
    responses((status = 200, body = Nodes), (status = 503, body = ErrorBody))
)]
pub(super) async fn list(state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let now = api.clock().now();
    let this = api.node().id;
    let nodes = api.nodes().await?.into_iter();
    let nodes = nodes.map(|view| shown(&view, view.node.id == this, now)).collect();
    let queue = state.asked.queue(api).await;
    let backlog = queue.map(|queue| Backlog {
        ready: queue.ready,
        delayed: queue.delayed,
        age_seconds: backlog_age(&queue, now),
    });
    Ok(HttpResponse::Ok().json(Nodes {
        nodes,
        saturation: saturation(api.permits()),
        backlog,
    }))
}

fn shown(NodeView { node, seen_at }: &NodeView, is_self: bool, now: Timestamp) -> Node {
    Node {
        id: node.id.to_string(),
        name: node.name.clone(),
        address: node.address.clone(),
        version: node.version.clone(),
        started_at: node.started_at.to_rfc3339(),
        state: node.state.as_str(),
        jobs_in_flight: node.jobs_in_flight,
        seen_at: seen_at.to_rfc3339(),
        silent: now.since(*seen_at) > SILENT_AFTER,
        is_self,
    }
}
