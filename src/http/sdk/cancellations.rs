//! `/v1/cancellations`: cancels many runs of a function. Each is an operation on many runs; see `/api/v1/operations`.

use actix_web::web::{self, Path, Payload, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::catalog::Catalog;
use callboard_actors::domain::{
    Function, FunctionId, Operation, OperationFilter, OperationId, OperationKind, OperationState, Timestamp,
};
use callboard_actors::orchestrator::OperationWish;
use serde::Deserialize;
use serde_json::{Value, json};

use super::stored_events::instant;
use super::{ACCOUNT, ENVIRONMENT};
use crate::error::{Code, Problem};
use crate::http::answer::{SdkError, enveloped, enveloped_as, parameter};
use crate::http::body;
use crate::http::state::{AppState, State};

/// Cancellations that a page has unless told otherwise, and at most.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 100;
/// Operations of other kinds that are passed over to fill a page, at most.
const PASSED_OVER: usize = 1_000;

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(
        web::resource("/cancellations")
            .route(web::post().to(create))
            .route(web::get().to(list)),
    )
    .service(web::resource("/cancellations/{id}").route(web::delete().to(delete)));
}

#[derive(Deserialize)]
struct Wish {
    #[serde(default)]
    app_id: String,
    #[serde(default)]
    function_id: String,
    started_after: Option<String>,
    started_before: Option<String>,
    #[serde(rename = "if")]
    condition: Option<String>,
}

impl Wish {
    /// The function that is meant: by its id within the app, with or without the app's name.
    fn function(&self, catalog: &Catalog) -> Result<FunctionId, Problem> {
        for (key, text) in [("app_id", &self.app_id), ("function_id", &self.function_id)] {
            if text.is_empty() {
                return Err(Problem::new(Code::InvalidParameter, format!("`{key}` is required")));
            }
        }
        let app = catalog.apps().iter().find(|view| *view.app.name == *self.app_id);
        let app = app.ok_or_else(|| Problem::new(Code::UnknownApp, format!("App not found: {}", self.app_id)))?;
        let full = format!("{}-{}", self.app_id, self.function_id);
        let is_meant = |function: &&Function| *function.slug == *self.function_id || *function.slug == *full;
        let found = app.functions.iter().find(is_meant).map(|function| function.id);
        found.ok_or_else(|| {
            let message = format!("Function not found: {}", self.function_id);
            Problem::new(Code::UnknownFunction, message)
        })
    }

    fn read(self, catalog: &Catalog) -> Result<OperationWish, Problem> {
        let time = |key: &str, text: Option<&String>| {
            let given = text.filter(|text| !text.is_empty());
            given.map(|text| instant(text, key)).transpose()
        };
        let from = time("started_after", self.started_after.as_ref())?;
        let until = time("started_before", self.started_before.as_ref())?;
        let until = until.ok_or_else(|| Problem::new(Code::InvalidParameter, "`started_before` is required"))?;
        if from.is_some_and(|from| from >= until) {
            let message = "`started_after` has to be before `started_before`";
            return Err(Problem::new(Code::InvalidParameter, message));
        }
        Ok(OperationWish {
            kind: OperationKind::Cancel,
            filter: OperationFilter {
                functions: Some(vec![self.function(catalog)?]),
                statuses: Vec::new(),
                from,
                until: Some(until),
                condition: self.condition.filter(|condition| !condition.trim().is_empty()),
            },
            rate: 1,
        })
    }
}

/// An operation as the original prints a cancellation.
fn document(catalog: &Catalog, operation: &Operation) -> Value {
    let functions = operation.filter.functions.as_deref().unwrap_or_default();
    let id = functions.first();
    let function = id.and_then(|id| catalog.function(*id));
    let mut document = json!({
        "id": operation.id,
        "created_at": operation.id.at().to_rfc3339(),
        "name": null,
        "account_id": ACCOUNT,
        "environment_id": ENVIRONMENT,
        "app_id": function.map(|function| &function.app),
        "function_internal_id": id,
        "function_id": function.map(|function| &function.slug),
        "started_after": operation.filter.from.map(Timestamp::to_rfc3339),
        "started_before": operation.filter.until.map(Timestamp::to_rfc3339),
        "kind": "bulk_run",
        "cause": "api",
        "queue_name": null,
    });
    if let Some(condition) = &operation.filter.condition {
        document["if"] = json!(condition);
    }
    document
}

async fn create(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, SdkError> {
    let api = state.api()?;
    let body = body::read(&req, payload, &state).await?;
    let catalog = api.catalog();
    let wish = body::parse::<Wish>(&body)?.read(&catalog)?;
    let operation = api.begin_operation(wish).await?;
    let document = document(&catalog, &operation);
    Ok(enveloped_as(
        actix_web::http::StatusCode::CREATED,
        &document,
        api.clock().now(),
    ))
}

#[derive(Deserialize)]
struct ListQuery {
    limit: Option<String>,
    cursor: Option<String>,
}

/// Of those that were asked for here: about one function, until a time.
fn is_cancellation(operation: &Operation) -> bool {
    operation.kind == OperationKind::Cancel && operation.filter.functions.as_ref().is_some_and(|some| some.len() == 1)
}

async fn list(query: Query<ListQuery>, state: State) -> Result<HttpResponse, SdkError> {
    let limit = query.limit.as_deref().filter(|text| !text.is_empty());
    let limit = limit.map(|text| parameter::<usize>(text, || format!("Invalid limit: {text}")));
    let limit = limit.transpose()?.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let cursor = query.cursor.as_deref().filter(|text| !text.is_empty());
    let cursor = cursor.map(|text| parameter::<OperationId>(text, || format!("Invalid cursor: {text}")));
    let api = state.api()?;
    let catalog = api.catalog();
    let found = find(&state, cursor.transpose()?, limit).await?;
    let documents: Vec<Value> = found.iter().map(|operation| document(&catalog, operation)).collect();
    Ok(enveloped(&documents, api.clock().now()))
}

async fn find(state: &AppState, cursor: Option<OperationId>, limit: usize) -> Result<Vec<Operation>, Problem> {
    let store = state.api()?.store();
    let (mut found, mut before) = (Vec::new(), cursor);
    for _ in 0..PASSED_OVER / MAX_LIMIT {
        let page = store.operations(before, MAX_LIMIT).await?;
        before = page.items.last().map(|operation| operation.id);
        found.extend(page.items.into_iter().filter(is_cancellation));
        if found.len() >= limit || !page.has_more {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// No further run is cancelled; those that are stay so.
async fn delete(id: Path<String>, state: State) -> Result<HttpResponse, SdkError> {
    let id: OperationId = parameter(&id, || format!("Invalid cancellation ID: {id}"))?;
    let api = state.api()?;
    let unknown = || Problem::new(Code::UnknownOperation, "Cancellation not found");
    let known = api
        .store()
        .operation(id)
        .await?
        .filter(is_cancellation)
        .ok_or_else(unknown)?;
    if known.state == OperationState::Running {
        api.cancel_operation(id).await?;
    }
    Ok(HttpResponse::NoContent().finish())
}
