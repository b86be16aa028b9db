//! `/api/v1/runs`.

use actix_web::web::{Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::catalog::Catalog;
use callboard_actors::domain::{Json, RunId, RunStatus};
use callboard_actors::orchestrator::Cancelled;
use callboard_actors::ports::{PARKED, RunFilter};
use callboard_actors::rerun::FromStep;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{reading, view};
use crate::error::{Code, Problem};
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::body;
use crate::http::state::State;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// `queued`, `running`, `completed`, `failed`, `cancelled`; several with commas.
    #[param(example = "running,queued")]
    status: Option<String>,
    /// A function's slug or UUID.
    function: Option<String>,
    /// An app's name.
    app: Option<String>,
    /// Created then or later: RFC 3339, or milliseconds since 1970.
    from: Option<String>,
    /// Created before.
    until: Option<String>,
    /// Of the page before.
    cursor: Option<String>,
    /// 1 to 100.
    #[param(value_type = Option<u8>)]
    limit: Option<String>,
}

impl ListQuery {
    fn filter(&self, catalog: &Catalog) -> Result<RunFilter, Problem> {
        Ok(RunFilter {
            statuses: statuses(reading::given(self.status.as_ref()))?,
            functions: reading::functions(
                catalog,
                reading::given(self.function.as_ref()),
                reading::given(self.app.as_ref()),
            )?,
            from: reading::time("from", self.from.as_ref())?,
            until: reading::time("until", self.until.as_ref())?,
            before: reading::given(self.cursor.as_ref())
                .map(|text| reading::id("cursor", text))
                .transpose()?,
            limit: reading::limit(reading::given(self.limit.as_ref()))?,
        })
    }
}

pub(super) fn statuses(text: Option<&str>) -> Result<Vec<RunStatus>, Problem> {
    let names = text.into_iter().flat_map(|text| text.split(','));
    let parse = |name: &str| {
        let expected = "queued, running, completed, failed or cancelled";
        RunStatus::parse(name.trim()).ok_or_else(|| reading::invalid("status", name, expected))
    };
    names.map(parse).collect()
}

/// A page of runs.
#[derive(Serialize, ToSchema)]
pub(super) struct Runs {
    runs: Vec<view::Run>,
    /// For the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// List runs, from new to old.
#[utoipa::path(
    get, path = "/api/v1/runs", tag = "runs", params(ListQuery),
    responses((status = 200, body = Runs), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn list(query: Query<ListQuery>, state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let catalog = api.catalog();
    let page = api.store().list_runs(&query.filter(&catalog)?).await?;
    let last = page.items.last().map(|run| run.id.to_string());
    Ok(HttpResponse::Ok().json(Runs {
        runs: page.items.iter().map(|run| view::Run::of(&catalog, run)).collect(),
        cursor: last.filter(|_| page.has_more),
    }))
}

/// Look at a run: its steps with their attempts and times, and what it is waiting for.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}", tag = "runs", params(("id" = String, Path)),
    responses((status = 200, body = view::RunDetail), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn get(id: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    let id: RunId = reading::id("id", &id)?;
    let api = state.api()?;
    let found = api.store().run_view(id).await?.ok_or_else(|| unknown(id))?;
    let mut queued = view::Queued::default();
    if !found.summary.status.is_final() {
        queued.leases = api.queue().leases_of(id).await;
        queued.places = api.queue().places_of(id).await;
        if found.jobs.iter().any(|job| job.due == PARKED) {
            queued.slot = api.store().slot_place(id).await?;
        }
    }
    let workers = state.options.gateway.workers();
    let detail = view::RunDetail::of(&api.catalog(), workers, &found, &queued, api.clock().now());
    Ok(HttpResponse::Ok().json(detail))
}

fn unknown(id: RunId) -> Problem {
    Problem::new(Code::UnknownRun, format!("there is no run {id}"))
}

/// What came of a wish to cancel.
#[derive(Serialize, ToSchema)]
pub(super) struct CancelOutcome {
    #[schema(value_type = String)]
    id: RunId,
    /// False if the run had ended before.
    cancelled: bool,
}

/// Cancel a run. Asking again changes nothing.
#[utoipa::path(
    post, path = "/api/v1/runs/{id}/cancel", tag = "runs", params(("id" = String, Path)),
    responses((status = 200, body = CancelOutcome), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn cancel(id: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    let id: RunId = reading::id("id", &id)?;
    let cancelled = match state.api()?.cancel(id).await? {
        Cancelled::Now => true,
        Cancelled::AlreadyEnded => false,
        Cancelled::Unknown => return Err(unknown(id).into()),
    };
    Ok(HttpResponse::Ok().json(CancelOutcome { id, cancelled }))
}

/// How a run is to be done again.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RerunWish {
    /// The step to begin with; the whole run if left out.
    from_step: Option<FirstStep>,
}

/// The step to begin with. What had completed before it keeps its results; it and what follows is run again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FirstStep {
    /// Its id, or its name if no other step of the run has it.
    #[schema(example = "charge card")]
    step: String,
    /// What the step is given in place of its arguments. For apps with the TypeScript SDK.
    #[schema(value_type = Option<Vec<Value>>)]
    input: Option<Value>,
}

/// The new run.
#[derive(Serialize, ToSchema)]
pub(super) struct RerunOutcome {
    /// The new run's id.
    #[schema(value_type = String)]
    id: RunId,
    /// The first run of the chain of repetitions.
    #[schema(value_type = String)]
    original_id: RunId,
}

/// Do a run again, as a whole or from one of its steps on: a new run of the same events. Rate limits and idempotency don't
/// count for it.
#[utoipa::path(
    post, path = "/api/v1/runs/{id}/rerun", tag = "runs", params(("id" = String, Path)), request_body = Option<RerunWish>,
    responses(
        (status = 201, body = RerunOutcome), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody)
    )
)]
pub(super) async fn rerun(
    id: Path<String>,
    req: HttpRequest,
    payload: Payload,
    state: State,
) -> Result<HttpResponse, OwnError> {
    let id: RunId = reading::id("id", &id)?;
    let api = state.api()?;
    let body = body::read(&req, payload, &state).await?;
    let wish: RerunWish = if body.is_empty() {
        RerunWish::default()
    } else {
        body::parse(&body)?
    };
    let first = wish.from_step.map(|first| {
        let input = first.input.map(|input| Json::from_value(&input)).transpose();
        let input = input.map_err(|error| Problem::new(Code::InvalidStepInput, error.to_string()))?;
        Ok::<_, Problem>(FromStep {
            step: first.step,
            input,
        })
    });
    let again = api.rerun(id, first.transpose()?).await.map_err(Problem::from)?;
    Ok(HttpResponse::Created().json(RerunOutcome {
        id: again.run,
        original_id: again.original,
    }))
}
