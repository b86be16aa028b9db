//! `/api/v1/supervisor`, `/api/v1/dead-letters` and the OpenAPI document: for those who look after the server.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::web::Query;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{document, reading, view};
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::state::State;

/// The process tree: each part's state, restarts, last exit and heartbeat. Answers even when the supervisor is stuck.
#[utoipa::path(
    get, path = "/api/v1/supervisor", tag = "operations",
    responses((status = 200, body = Object), (status = 503, body = ErrorBody))
)]
pub(super) async fn supervisor(state: State) -> Result<HttpResponse, OwnError> {
    Ok(HttpResponse::Ok().json(state.api()?.status().await))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// 1 to 100.
    #[param(value_type = Option<u8>)]
    limit: Option<String>,
}

/// A job that was given up.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetter {
    run: String,
    /// Which job of the run.
    #[schema(example = "start")]
    job: String,
    function: view::FunctionRef,
    /// Why it was given up, such as the text of a panic.
    reason: String,
    at: String,
}

/// Dead letters.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
}

/// List the jobs that were given up, from new to old.
#[utoipa::path(
    get, path = "/api/v1/dead-letters", tag = "operations", params(ListQuery),
    responses((status = 200, body = DeadLetters), (status = 400, body = ErrorBody))
)]
pub(super) async fn dead_letters(query: Query<ListQuery>, state: State) -> Result<HttpResponse, OwnError> {
    let limit = reading::limit(reading::given(query.limit.as_ref()))?;
    let api = state.api()?;
    let catalog = api.catalog();
    let letters = api.store().dead_letters(limit).await?;
    let dead_letters = letters.into_iter().map(|letter| DeadLetter {
        run: letter.run.to_string(),
        job: letter.job,
        function: view::FunctionRef::of(&catalog, letter.function),
        reason: letter.reason,
        at: letter.at.to_rfc3339(),
    });
    Ok(HttpResponse::Ok().json(DeadLetters {
        dead_letters: dead_letters.collect(),
    }))
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "operations", responses((status = 200, body = Object)))]
pub(super) async fn openapi() -> HttpResponse {
    static DOCUMENT: LazyLock<String> = LazyLock::new(document::openapi_json);
    HttpResponse::Ok()
        .content_type("application/json")
        .body(DOCUMENT.as_str())
}
