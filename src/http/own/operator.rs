//! `/api/v1/supervisor` and the OpenAPI document: for those who look after the server.

use std::sync::LazyLock;

use actix_web::HttpResponse;

use super::document;
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

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "operations", responses((status = 200, body = Object)))]
pub(super) async fn openapi() -> HttpResponse {
    static DOCUMENT: LazyLock<String> = LazyLock::new(document::openapi_json);
    HttpResponse::Ok()
        .content_type("application/json")
        .body(DOCUMENT.as_str())
}
