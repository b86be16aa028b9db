//! `/api/v1/workers`: who has connected to this instance, and what they are at work on.

use actix_web::HttpResponse;
use callboard_actors::workers::View;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::answer::OwnError;
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
    /// Which process it is, by its own account.
    #[schema(example = "worker-1")]
    instance: String,
    /// `connected` (not ready yet), `ready`, or `draining` (it takes no more).
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
}

/// The workers of the instance that answers.
#[derive(Serialize, ToSchema)]
pub(super) struct Workers {
    workers: Vec<Worker>,
}

/// List the workers that are connected to the instance that answers, in the order in which they connected.
#[utoipa::path(get, path = "/api/v1/workers", tag = "operations", responses((status = 200, body = Workers)))]
pub(super) async fn list(state: State) -> Result<HttpResponse, OwnError> {
    let views = state.options.gateway.workers().list();
    let workers = views.iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(Workers { workers }))
}

fn shown(view: &View) -> Worker {
    let worker = &view.worker;
    let apps = worker.groups.iter().map(|group| WorkerApp {
        name: group.app.to_string(),
        version: group.version.clone(),
        group: group.hash.clone(),
        functions: group.functions.len(),
    });
    Worker {
        connection: worker.connection.clone(),
        instance: worker.instance.to_string(),
        status: view.status.as_str(),
        apps: apps.collect(),
        in_flight: view.in_hand,
        capacity: worker.room,
        sdk: format!("{}:{}", worker.sdk_language, worker.sdk_version),
        platform: worker.platform.clone(),
        os: worker.machine.os.clone(),
        cpu_cores: worker.machine.cpu_cores,
        memory_bytes: worker.machine.memory,
        address: worker.address.clone(),
        connected_at: worker.connected_at.to_rfc3339(),
        heard_at: view.heard_at.to_rfc3339(),
    }
}
