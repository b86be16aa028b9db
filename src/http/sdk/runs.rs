//! `/v1/runs`: what became of a run.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::{self, Path, ServiceConfig};
use callboard_actors::domain::{Event, JobKey, RunId, RunStatus, Timestamp};
use callboard_actors::orchestrator::Cancelled;
use callboard_actors::ports::{RunSummary, RunView};
use serde_json::{Value, json};

use super::ENVIRONMENT;
use crate::error::{Code, Problem};
use crate::http::answer::{SdkError, enveloped, parameter};
use crate::http::state::{Api, AppState, State};

/// Jobs that one answer lists.
const JOBS: usize = 10;

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(
        web::resource("/runs/{id}")
            .route(web::get().to(get))
            .route(web::delete().to(cancel)),
    )
    .service(web::resource("/runs/{id}/jobs").route(web::get().to(jobs)));
}

/// Whether a run that is queued in the store is being called at this moment: the first call is only recorded with its
/// outcome.
pub(in crate::http) async fn is_called(api: &Arc<dyn Api>, run: &RunSummary) -> bool {
    if run.status != RunStatus::Queued {
        return false;
    }
    let leases = api.queue().leases_of(run.id).await;
    leases.iter().any(|lease| lease.job.id.key.is_call())
}

/// A run as the original prints it. `cron` is the schedule that started it.
pub(super) fn document(run: &RunSummary, is_called: bool, cron: Option<String>) -> Value {
    let status = match run.status {
        RunStatus::Queued if is_called => "Running",
        RunStatus::Queued => "Scheduled",
        RunStatus::Running => "Running",
        RunStatus::Completed => "Completed",
        RunStatus::Failed => "Failed",
        RunStatus::Cancelled => "Cancelled",
    };
    let mut document = json!({
        "run_id": run.id,
        "run_started_at": run.started_at.unwrap_or_else(|| run.id.at()).to_rfc3339(),
        "function_id": run.function,
        "function_version": run.function_version,
        "environment_id": ENVIRONMENT,
        "event_id": run.event_ids.first(),
        "status": status,
        "ended_at": run.ended_at.map(Timestamp::to_rfc3339),
    });
    if let Some(cron) = cron {
        document["cron"] = Value::String(cron);
    }
    if let Some(original) = run.original {
        document["original_run_id"] = json!(original);
    }
    if let Some(batch) = run.batch {
        document["batch_id"] = json!(batch);
    }
    if let Some(output) = &run.output {
        document["output"] = output.to_tree();
    }
    document
}

fn run_id(text: &str) -> Result<RunId, Problem> {
    parameter(text, || format!("Invalid run ID: {text}"))
}

async fn view(state: &AppState, id: &str) -> Result<RunView, Problem> {
    let view = state.api()?.store().run_view(run_id(id)?).await?;
    view.ok_or_else(|| Problem::new(Code::UnknownRun, format!("Unable to load function run: {id}")))
}

async fn get(id: Path<String>, state: State) -> Result<HttpResponse, SdkError> {
    let run = view(&state, &id).await?.summary;
    let api = state.api()?;
    let is_called = is_called(api, &run).await;
    let cron = if run.event_name == Event::SCHEDULED {
        let events = api.store().events_by_id(&run.event_ids).await?;
        events.first().and_then(Event::cron)
    } else {
        None
    };
    Ok(enveloped(&document(&run, is_called, cron), api.clock().now()))
}

async fn cancel(id: Path<String>, state: State) -> Result<HttpResponse, SdkError> {
    let id = run_id(&id)?;
    match state.api()?.cancel(id).await? {
        Cancelled::Now | Cancelled::AlreadyEnded => Ok(HttpResponse::Ok().finish()),
        Cancelled::Unknown => Err(Problem::new(Code::UnknownRun, format!("Unable to load function run: {id}")).into()),
    }
}

async fn jobs(id: Path<String>, state: State) -> Result<HttpResponse, SdkError> {
    let run = view(&state, &id).await?;
    let jobs = run.jobs.iter().take(JOBS).enumerate().map(|(position, job)| {
        let kind = match job.key.parse::<JobKey>() {
            Ok(JobKey::Start) => "start",
            Ok(JobKey::Wake(_)) => "sleep",
            Ok(JobKey::Timeout(_)) => "pause",
            Ok(JobKey::Cancel | JobKey::Deadline(_)) => "cancel",
            Ok(JobKey::Discover(_) | JobKey::Step(_) | JobKey::Resume(_)) | Err(_) => "edge",
        };
        json!({
            "JobID": format!("{}/{}", run.summary.id, job.key),
            "at": job.due.to_rfc3339(),
            "position": position,
            "kind": kind,
            "attempt": job.attempt,
            "Raw": null,
        })
    });
    let jobs: Vec<Value> = jobs.collect();
    Ok(enveloped(&jobs, state.api()?.clock().now()))
}
