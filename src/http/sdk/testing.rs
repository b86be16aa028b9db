//! `/test`: what tests of SDKs use to empty a server and to look into its queue. Answers are plain text.
//!
//! Promises: mounted on a developer's server that was told so (`api.testing`), and nowhere else.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Query, ServiceConfig};
use callboard_actors::domain::{FunctionId, FunctionMode, OperationFilter, OperationKind, RunId, RunStatus};
use callboard_actors::orchestrator::OperationWish;
use callboard_actors::ports::RunFilter;
use serde::Deserialize;
use serde_json::json;

use crate::error::Problem;
use crate::http::answer::parameter;
use crate::http::state::{AppState, State};

/// Runs that are looked at in one go.
const PAGE: usize = 100;

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(web::resource(["", "/"]).route(web::get().to(|| async { "OK" })))
        .service(web::resource("/reset").route(web::post().to(reset)))
        .service(web::resource("/queue/function-queue-size").route(web::get().to(size)))
        .service(web::resource("/function/pause").route(web::post().to(pause)))
        .service(web::resource("/function/runs/cancel").route(web::post().to(cancel)));
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(default)]
    fn_id: String,
    #[serde(default)]
    run_id: String,
}

impl Asked {
    fn function(&self) -> Result<FunctionId, Problem> {
        parameter(&self.fn_id, || format!("invalid function ID: {}", self.fn_id))
    }

    fn run(&self) -> Result<RunId, Problem> {
        parameter(&self.run_id, || format!("invalid run ID: {}", self.run_id))
    }
}

fn plain(outcome: Result<&'static str, Problem>) -> HttpResponse {
    match outcome {
        Ok(text) => HttpResponse::Ok().body(text),
        Err(problem) => refused(&problem),
    }
}

fn refused(problem: &Problem) -> HttpResponse {
    let status = StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status).body(problem.message.clone())
}

/// Nothing goes on afterwards: every run that has not ended is cancelled. What is over stays.
async fn reset(state: State) -> HttpResponse {
    let done = async {
        let wish = OperationWish {
            kind: OperationKind::Cancel,
            filter: OperationFilter::default(),
            rate: 1,
        };
        state.api()?.begin_operation(wish).await?;
        Ok("ok")
    };
    plain(done.await)
}

/// How many jobs there are for a function, whenever they are due.
async fn size(asked: Query<Asked>, state: State) -> HttpResponse {
    let counted = match asked.function() {
        Ok(function) => count(&state, function).await,
        Err(problem) => Err(problem),
    };
    match counted {
        Ok(count) => HttpResponse::Ok().json(json!({ "count": count })),
        Err(problem) => refused(&problem),
    }
}

async fn count(state: &AppState, function: FunctionId) -> Result<usize, Problem> {
    let store = state.api()?.store();
    let mut filter = RunFilter {
        statuses: vec![RunStatus::Queued, RunStatus::Running],
        functions: Some(vec![function]),
        limit: PAGE,
        ..RunFilter::default()
    };
    let mut count = 0;
    loop {
        let page = store.list_runs(&filter).await?;
        for run in &page.items {
            count += store.run_view(run.id).await?.map_or(0, |view| view.jobs.len());
        }
        filter.before = page.items.last().map(|run| run.id);
        if !page.has_more {
            return Ok(count);
        }
    }
}

async fn pause_function(asked: &Asked, state: &AppState) -> Result<(), Problem> {
    let api = state.api()?;
    let since = api.clock().now();
    let paused = api.set_function_mode(asked.function()?, FunctionMode::Paused { since });
    paused.await?;
    Ok(())
}

async fn pause(asked: Query<Asked>, state: State) -> HttpResponse {
    plain(pause_function(&asked, &state).await.map(|()| "OK"))
}

/// Pauses the function too, so that nothing of the run begins meanwhile.
async fn cancel(asked: Query<Asked>, state: State) -> HttpResponse {
    let done = async {
        let run = asked.run()?;
        pause_function(&asked, &state).await?;
        state.api()?.cancel(run).await?;
        Ok("OK")
    };
    plain(done.await)
}
