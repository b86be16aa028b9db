//! `/api/v1/operations`: what is done to many runs, one after another: cancelled, done again, tried again.
//!
//! An operation is counted before it is begun, goes on by itself on whichever instance, and says how far it has come.

use actix_web::web::{Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::catalog::Catalog;
use callboard_actors::domain::{
    Estimate, FunctionId, Operation as StoredOperation, OperationFilter, OperationId, OperationKind, Precision,
    RunStatus, Timestamp,
};
use callboard_actors::orchestrator::OperationWish;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::reading::{self, PageQuery};
use super::{runs, view};
use crate::error::{Code, Problem};
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::body;
use crate::http::state::State;

/// Runs done again per second, unless told otherwise.
const DEFAULT_RATE: u32 = 50;

/// What to do to many runs.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// `cancel`: cancel runs that have not ended. `replay`: do runs again that have ended. `retry_failed`: do runs again that
    /// have failed, unless that has been done since, and try jobs again that were given up.
    #[schema(example = "retry_failed")]
    kind: String,
    /// Of this function: its slug or UUID.
    function: Option<String>,
    /// Of this app.
    app: Option<String>,
    /// In these statuses, with commas, of those that the kind can be about.
    #[schema(example = "failed,cancelled")]
    status: Option<String>,
    /// Created then or later: RFC 3339, or milliseconds since 1970.
    from: Option<String>,
    /// Created before; never after now.
    until: Option<String>,
    /// An expression over `event`, the first that started the run.
    #[serde(rename = "if")]
    #[schema(example = "event.data.plan == 'pro'")]
    condition: Option<String>,
    /// Runs done again per second, 1 to 1000; 50 unless given. Cancelling has no rate.
    rate: Option<u32>,
}

impl Wish {
    fn read(self, catalog: &Catalog) -> Result<OperationWish, Problem> {
        let kind = OperationKind::parse(&self.kind)
            .ok_or_else(|| reading::invalid("kind", &self.kind, "cancel, replay or retry_failed"))?;
        Ok(OperationWish {
            kind,
            filter: OperationFilter {
                functions: reading::functions(
                    catalog,
                    reading::given(self.function.as_ref()),
                    reading::given(self.app.as_ref()),
                )?,
                statuses: runs::statuses(reading::given(self.status.as_ref()))?,
                from: reading::time("from", self.from.as_ref())?,
                until: reading::time("until", self.until.as_ref())?,
                condition: reading::given(self.condition.as_ref()).map(str::to_owned),
            },
            rate: self.rate.unwrap_or(DEFAULT_RATE),
        })
    }
}

async fn wish(req: &HttpRequest, payload: Payload, state: &State) -> Result<OperationWish, Problem> {
    let body = body::read(req, payload, state).await?;
    body::parse::<Wish>(&body)?.read(&state.api()?.catalog())
}

/// A number of runs.
#[derive(Serialize, ToSchema)]
pub(super) struct Count {
    count: u64,
    /// `exact`; `estimate` (from the newest thousand); `at_least` (counting stopped there).
    #[schema(example = "exact")]
    precision: &'static str,
}

impl Count {
    fn of(estimate: Estimate) -> Self {
        Self {
            count: estimate.count,
            precision: match estimate.precision {
                Precision::Exact => "exact",
                Precision::Estimate => "estimate",
                Precision::AtLeast => "at_least",
            },
        }
    }
}

/// Count the runs that an operation would be about now, without doing anything.
#[utoipa::path(
    post, path = "/api/v1/operations/preview", tag = "operations", request_body = Wish,
    responses((status = 200, body = Count), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn preview(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, OwnError> {
    let wish = wish(&req, payload, &state).await?;
    let counted = state.api()?.preview_operation(wish).await?;
    Ok(HttpResponse::Ok().json(Count::of(counted)))
}

/// Which runs an operation is about.
#[derive(Serialize, ToSchema)]
pub(super) struct Filter {
    /// Absent if it is about those of all functions.
    #[serde(skip_serializing_if = "Option::is_none")]
    functions: Option<Vec<view::FunctionRef>>,
    #[schema(example = json!(["failed"]))]
    statuses: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(rename = "if", skip_serializing_if = "Option::is_none")]
    condition: Option<String>,
}

/// An operation.
#[derive(Serialize, ToSchema)]
pub(super) struct Operation {
    id: String,
    #[schema(example = "retry_failed")]
    kind: &'static str,
    filter: Filter,
    /// Runs done again per second, at the most.
    rate: u32,
    /// `running`, `finished` or `cancelled`.
    #[schema(example = "running")]
    state: &'static str,
    /// How many runs it was thought to be about when it was asked for.
    total: Count,
    /// Runs that were cancelled or done again, and jobs that were put back.
    done: u64,
    /// Runs with which that did not work.
    failed: u64,
    /// Runs that were left as they are: they had ended, have been done again since, or may not be.
    skipped: u64,
    /// What went wrong last, or why a run was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
}

impl Operation {
    fn of(catalog: &Catalog, operation: &StoredOperation) -> Self {
        let filter = &operation.filter;
        let functions = filter.functions.as_ref();
        let name = |ids: &Vec<FunctionId>| ids.iter().map(|id| view::FunctionRef::of(catalog, *id)).collect();
        let statuses = match &filter.statuses[..] {
            [] => operation.kind.statuses(),
            some => some,
        };
        Self {
            id: operation.id.to_string(),
            kind: operation.kind.as_str(),
            filter: Filter {
                functions: functions.map(name),
                statuses: statuses.iter().copied().map(RunStatus::as_str).collect(),
                from: filter.from.map(Timestamp::to_rfc3339),
                until: filter.until.map(Timestamp::to_rfc3339),
                condition: filter.condition.clone(),
            },
            rate: operation.rate,
            state: operation.state.as_str(),
            total: Count::of(operation.total),
            done: operation.progress.done,
            failed: operation.progress.failed,
            skipped: operation.progress.skipped,
            last_error: operation.last_error.clone(),
            created_at: operation.id.at().to_rfc3339(),
            ended_at: operation.ended_at.map(Timestamp::to_rfc3339),
        }
    }
}

/// Begin an operation on many runs. It goes on by itself, also after a restart.
#[utoipa::path(
    post, path = "/api/v1/operations", tag = "operations", request_body = Wish,
    responses((status = 201, body = Operation), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn begin(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, OwnError> {
    let wish = wish(&req, payload, &state).await?;
    let api = state.api()?;
    let operation = api.begin_operation(wish).await?;
    Ok(HttpResponse::Created().json(Operation::of(&api.catalog(), &operation)))
}

/// A page of operations.
#[derive(Serialize, ToSchema)]
pub(super) struct Operations {
    operations: Vec<Operation>,
    /// For the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// List operations, from new to old. Those that have ended are kept for 90 days.
#[utoipa::path(
    get, path = "/api/v1/operations", tag = "operations", params(PageQuery),
    responses((status = 200, body = Operations), (status = 400, body = ErrorBody))
)]
pub(super) async fn list(query: Query<PageQuery>, state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let (before, limit) = query.read()?;
    let page = api.store().operations(before, limit).await?;
    let last = page.items.last().map(|operation| operation.id.to_string());
    let catalog = api.catalog();
    Ok(HttpResponse::Ok().json(Operations {
        operations: page
            .items
            .iter()
            .map(|operation| Operation::of(&catalog, operation))
            .collect(),
        cursor: last.filter(|_| page.has_more),
    }))
}

fn unknown(id: OperationId) -> Problem {
    Problem::new(Code::UnknownOperation, format!("there is no operation {id}"))
}

/// Look at an operation: how far it has come.
#[utoipa::path(
    get, path = "/api/v1/operations/{id}", tag = "operations", params(("id" = String, Path)),
    responses((status = 200, body = Operation), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn get(id: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    let id = reading::id("id", &id)?;
    let api = state.api()?;
    let operation = api.store().operation(id).await?.ok_or_else(|| unknown(id))?;
    Ok(HttpResponse::Ok().json(Operation::of(&api.catalog(), &operation)))
}

/// Stop an operation. What it has done is done; what it is doing at this moment still happens.
#[utoipa::path(
    post, path = "/api/v1/operations/{id}/cancel", tag = "operations", params(("id" = String, Path)),
    responses((status = 200, body = Operation), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn cancel(id: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    let id = reading::id("id", &id)?;
    let api = state.api()?;
    let operation = api.cancel_operation(id).await?.ok_or_else(|| unknown(id))?;
    Ok(HttpResponse::Ok().json(Operation::of(&api.catalog(), &operation)))
}
