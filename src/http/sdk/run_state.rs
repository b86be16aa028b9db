//! `/v0/runs/{id}`: state that was too large to send along with a call, fetched by the app.

use actix_web::HttpResponse;
use actix_web::web::{self, Path, ServiceConfig};
use callboard_actors::domain::{Json, RunId, RunState, StepId};
use callboard_actors::orchestrator::Cancelled;
use serde::Serializer as _;

use crate::error::{Code, Problem};
use crate::http::answer::{SdkError, parameter};
use crate::http::state::{AppState, State};

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/runs/{id}/batch").route(web::get().to(batch)))
        .service(web::resource("/runs/{id}/actions").route(web::get().to(actions)))
        .service(web::resource("/runs/{id}").route(web::delete().to(cancel)));
}

fn run_id(text: &str) -> Result<RunId, Problem> {
    parameter(text, || format!("Invalid run ID: {text}"))
}

async fn load(state: &AppState, id: &str) -> Result<RunState, Problem> {
    let id = run_id(id)?;
    let loaded = state.api()?.store().load_run(id).await?;
    loaded.ok_or_else(|| {
        let message = format!("runtime state is no longer available for runID: {id}");
        Problem::new(Code::RunEnded, message)
    })
}

/// The events that started the run: a bare array.
async fn batch(id: Path<String>, state: State) -> Result<HttpResponse, SdkError> {
    let run = load(&state, &id).await?;
    Ok(HttpResponse::Ok().json(&*run.events))
}

/// The memos of its completed steps: a bare object, in the order of completion; then the input of a step that was edited.
async fn actions(id: Path<String>, state: State) -> Result<HttpResponse, SdkError> {
    let run = load(&state, &id).await?;
    let memo = |step: &StepId| run.steps.get(step).and_then(|step| step.memo().cloned());
    let edited = run.edited_input();
    let memos = run.stack.iter().filter_map(|step| Some((step, memo(step)?)));
    let memos: Vec<(&StepId, Json)> = memos
        .chain(edited.iter().map(|(step, input)| (step, input.clone())))
        .collect();
    let mut body = Vec::new();
    serde_json::Serializer::new(&mut body)
        .collect_map(memos)
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    Ok(HttpResponse::Ok().content_type("application/json").body(body))
}

async fn cancel(id: Path<String>, state: State) -> Result<HttpResponse, SdkError> {
    let id = run_id(&id)?;
    match state.api()?.cancel(id).await? {
        Cancelled::Now | Cancelled::AlreadyEnded => Ok(HttpResponse::NoContent().finish()),
        Cancelled::Unknown => Err(Problem::new(Code::UnknownRun, format!("Run not found: {id}")).into()),
    }
}
