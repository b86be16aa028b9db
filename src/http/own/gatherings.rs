//! `/api/v1/functions/{id}/gatherings`: debounces and batches that hold events and have not started their run.

use actix_web::HttpResponse;
use actix_web::web::{Path, Query};
use callboard_actors::domain::{Gathering as StoredGathering, GatheringId};
use serde::Serialize;
use utoipa::ToSchema;

use super::reading::{self, PageQuery};
use crate::error::{Code, Problem};
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::state::State;

/// Events that one run will stand for.
#[derive(Serialize, ToSchema)]
pub(super) struct Gathering {
    id: String,
    /// `debounce` or `batch`.
    #[schema(example = "batch")]
    kind: &'static str,
    /// The key's value as JSON, shortened; absent without a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Events that have joined it; of a debounce the last one counts.
    events: u32,
    /// Bytes of the events that it holds.
    bytes: u64,
    opened_at: String,
    /// When its run starts, unless a further event puts that off or fills it.
    due_at: String,
    /// `period`, `timeout` or `full`.
    #[schema(example = "timeout")]
    due_by: &'static str,
}

impl Gathering {
    pub(super) fn of(gathering: &StoredGathering) -> Self {
        let standing = gathering.standing;
        Self {
            id: gathering.id.to_string(),
            kind: if gathering.is_batch { "batch" } else { "debounce" },
            key: gathering.key.clone(),
            events: standing.count,
            bytes: standing.bytes,
            opened_at: standing.opened_at.to_rfc3339(),
            due_at: standing.due_at.to_rfc3339(),
            due_by: standing.due_by.as_str(),
        }
    }
}

/// A page of a function's gatherings.
#[derive(Serialize, ToSchema)]
pub(super) struct Gatherings {
    /// The first opened first.
    gatherings: Vec<Gathering>,
    /// For the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// List the debounces and batches of a function that have not started their run.
#[utoipa::path(
    get, path = "/api/v1/functions/{id}/gatherings", tag = "functions",
    params(("id" = String, Path, description = "A function's slug or UUID."), PageQuery),
    responses((status = 200, body = Gatherings), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn list(id: Path<String>, query: Query<PageQuery>, state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let function = reading::function(&api.catalog(), &id)?;
    let (after, limit) = query.read()?;
    let mut found = api.store().gatherings(function, after, limit + 1).await?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().map(|gathering| gathering.id.to_string());
    Ok(HttpResponse::Ok().json(Gatherings {
        gatherings: found.iter().map(Gathering::of).collect(),
        cursor: last.filter(|_| has_more),
    }))
}

/// What came of firing one.
#[derive(Serialize, ToSchema)]
pub(super) struct Fired {
    id: String,
    /// Events that it held.
    events: usize,
    /// Absent if it started none; its events say why.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
}

/// Start the run of a debounce or batch now, with what it holds.
#[utoipa::path(
    post, path = "/api/v1/functions/{id}/gatherings/{gathering}/fire", tag = "functions",
    params(("id" = String, Path, description = "A function's slug or UUID."), ("gathering" = String, Path)),
    responses((status = 200, body = Fired), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn fire(path: Path<(String, String)>, state: State) -> Result<HttpResponse, OwnError> {
    let (function_id, id) = path.into_inner();
    let api = state.api()?;
    let function = reading::function(&api.catalog(), &function_id)?;
    let id: GatheringId = reading::id("gathering", &id)?;
    let unknown = || Problem::new(Code::UnknownGathering, format!("there is no debounce or batch {id}"));
    let found = api.store().gathering(id).await?;
    let is_its = found.is_some_and(|found| found.gathering.function == function);
    if !is_its {
        return Err(unknown().into());
    }
    let fired = api.fire_gathering(id).await?.ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(Fired {
        id: id.to_string(),
        events: fired.events,
        run_id: fired.run.map(|run| run.to_string()),
    }))
}
