//! `/api/v1/functions/{id}` and what an operator lets a function do: pause, drain, resume.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::Path;
use callboard_actors::domain::{FunctionId, FunctionMode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{reading, view};
use crate::error::Problem;
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::state::{Api, State};

/// How many runs of these functions have not ended.
pub(super) async fn open_runs(
    api: &Arc<dyn Api>,
    functions: &[FunctionId],
) -> Result<HashMap<FunctionId, u64>, Problem> {
    if functions.is_empty() {
        return Ok(HashMap::new());
    }
    let counted = api.store().open_runs(functions).await?;
    let mut open: HashMap<FunctionId, u64> = functions.iter().map(|function| (*function, 0)).collect();
    open.extend(counted);
    Ok(open)
}

/// Look at a function.
#[utoipa::path(
    get, path = "/api/v1/functions/{id}", tag = "functions",
    params(("id" = String, Path, description = "A slug or UUID")),
    responses((status = 200, body = view::Function), (status = 404, body = ErrorBody))
)]
pub(super) async fn get(id: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let id = reading::function(&api.catalog(), &id)?;
    Ok(HttpResponse::Ok().json(shown(api, id).await?))
}

async fn shown(api: &Arc<dyn Api>, id: FunctionId) -> Result<view::Function, Problem> {
    let open = open_runs(api, &[id]).await?;
    let catalog = api.catalog();
    let function = catalog.function(id).ok_or_else(|| reading::unknown_function(id))?;
    Ok(view::Function::of(function).with_open_runs(open.get(&id).copied()))
}

/// What came of a wish.
#[derive(Serialize, ToSchema)]
pub(super) struct ModeOutcome {
    /// False if the function did that already.
    changed: bool,
    /// As it is now.
    function: view::Function,
}

async fn set(id: Path<String>, state: State, mode: FunctionMode) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let id = reading::function(&api.catalog(), &id)?;
    let changed = api.set_function_mode(id, mode).await?;
    Ok(HttpResponse::Ok().json(ModeOutcome {
        changed,
        function: shown(api, id).await?,
    }))
}

/// Pause a function: triggers start no runs (events and slots are recorded as skipped), and its app is not called. Calls
/// under way finish; sleeps, waits, deadlines and cancellations of its runs go on. An invoke by another run fails.
#[utoipa::path(
    post, path = "/api/v1/functions/{id}/pause", tag = "functions",
    params(("id" = String, Path, description = "A slug or UUID")),
    responses((status = 200, body = ModeOutcome), (status = 404, body = ErrorBody))
)]
pub(super) async fn pause(id: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    let since = state.api()?.clock().now();
    set(id, state, FunctionMode::Paused { since }).await
}

/// Drain a function: triggers start no runs, those there are go on to their ends; `open_runs` says how many are left.
#[utoipa::path(
    post, path = "/api/v1/functions/{id}/drain", tag = "functions",
    params(("id" = String, Path, description = "A slug or UUID")),
    responses((status = 200, body = ModeOutcome), (status = 404, body = ErrorBody))
)]
pub(super) async fn drain(id: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    let since = state.api()?.clock().now();
    set(id, state, FunctionMode::Draining { since }).await
}

/// Let a function go on that is paused or drained. What its runs had to do meanwhile is done now.
#[utoipa::path(
    post, path = "/api/v1/functions/{id}/resume", tag = "functions",
    params(("id" = String, Path, description = "A slug or UUID")),
    responses((status = 200, body = ModeOutcome), (status = 404, body = ErrorBody))
)]
pub(super) async fn resume(id: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    set(id, state, FunctionMode::Active).await
}
