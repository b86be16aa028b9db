//! `/api/v1/workers`: who has connected, to whichever instance, and what they are at work on.

use actix_web::HttpResponse;
use actix_web::web::Query;
use callboard_actors::domain::Connection;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::answer::{ErrorBody, OwnError};
use crate::http::connections;
use crate::http::state::State;

/// An app of a worker.
#[derive(Serialize, ToSchema)]
pub(super) struct WorkerApp {
    name: String,
    /// Its own version label.
    version: Option<String>,
    /// The same for all workers with the same functions in the same version.
    group: String,
    /// How many functions it has.
    functions: usize,
}

/// A worker's connection.
#[derive(Serialize, ToSchema)]
pub(super) struct Worker {
    /// Another one for each connection.
    #[schema(example = "01JZ0000000000000000000009")]
    connection: String,
    /// The node that it is to, as `/api/v1/nodes` calls it.
    #[schema(example = "01JZ0000000000000000000001")]
    node: String,
    /// Which process it is, by its own account.
    #[schema(example = "worker-1")]
    instance: String,
    /// `connected` (not ready yet), `ready`, or `draining` (it takes no more); `disconnected` if it has ended.
    #[schema(example = "ready")]
    status: &'static str,
    apps: Vec<WorkerApp>,
    /// Requests that it is at work on.
    in_flight: usize,
    /// How many it takes at one time, over all connections of its instance; missing for any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<usize>,
    /// Such as `typescript:v4.24.0`.
    sdk: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    os: String,
    cpu_cores: i32,
    memory_bytes: i64,
    /// Where it connects from.
    address: String,
    connected_at: String,
    /// Its last sign of life.
    heard_at: String,
    /// When the connection ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnected_at: Option<String>,
    /// Why it ended: `WORKER_SHUTDOWN`, `GATEWAY_DRAINING` (the node stopped), `CONSECUTIVE_HEARTBEATS_MISSED`,
    /// `MESSAGE_TOO_LARGE` or `UNEXPECTED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "WORKER_SHUTDOWN")]
    disconnect_reason: Option<String>,
}

/// Which connections are asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Those that have ended, too.
    #[serde(default)]
    all: bool,
}

/// Workers.
#[derive(Serialize, ToSchema)]
pub(super) struct Workers {
    workers: Vec<Worker>,
}

/// List the workers that are connected to any node, in the order in which they connected. With `all` those, too, that have been
/// within a week. What other nodes say is up to a heartbeat old.
#[utoipa::path(
    get, path = "/api/v1/workers", tag = "operations", params(Wanted),
    responses((status = 200, body = Workers), (status = 400, body = ErrorBody), (status = 503, body = ErrorBody))
)]
pub(super) async fn list(wanted: Query<Wanted>, state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let all = connections::all(&state, &**api).await?;
    let wanted = all
        .into_iter()
        .filter(|connection| wanted.all || connection.ended_at.is_none());
    let workers = wanted.map(shown).collect();
    Ok(HttpResponse::Ok().json(Workers { workers }))
}

fn shown(connection: Connection) -> Worker {
    let apps = connection.apps.into_iter().map(|app| WorkerApp {
        name: app.name,
        version: app.version,
        group: app.group,
        functions: app.functions,
    });
    Worker {
        connection: connection.id,
        node: connection.node,
        instance: connection.instance,
        status: connection.status.as_str(),
        apps: apps.collect(),
        in_flight: connection.in_hand,
        capacity: connection.room,
        sdk: format!("{}:{}", connection.sdk_language, connection.sdk_version),
        platform: connection.platform,
        os: connection.os,
        cpu_cores: connection.cpu_cores,
        memory_bytes: connection.memory,
        address: connection.address,
        connected_at: connection.connected_at.to_rfc3339(),
        heard_at: connection.heard_at.to_rfc3339(),
        disconnected_at: connection.ended_at.map(callboard_actors::domain::Timestamp::to_rfc3339),
        disconnect_reason: connection.end_reason,
    }
}
