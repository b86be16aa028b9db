//! `/` and `/health`.

use actix_web::HttpResponse;
use actix_web::http::header::RETRY_AFTER;
use actix_web::web::{self, ServiceConfig};
use serde_json::{Value, json};

use super::state::State;

pub(super) fn routes(cfg: &mut ServiceConfig) {
    let home = || {
        web::resource("/")
            .route(web::get().to(describe))
            .route(web::head().to(describe))
    };
    let health = || {
        web::resource("/health")
            .route(web::get().to(health))
            .route(web::head().to(health))
    };
    cfg.service(home()).service(health());
}

/// What this is, and where to go from here.
async fn describe(state: State) -> HttpResponse {
    let counts = state.api().map(|api| {
        let catalog = api.catalog();
        let functions = catalog.apps().iter().flat_map(|view| &view.functions);
        let functions = functions.filter(|function| !function.archived).count();
        json!({"apps": catalog.apps().len(), "functions": functions})
    });
    let counts: Option<Value> = counts.ok();
    HttpResponse::Ok().json(json!({
        "name": "callboard",
        "version": env!("CARGO_PKG_VERSION"),
        "kind": state.options.kind.as_str(),
        "ready": counts.is_some(),
        "counts": counts,
        "links": {
            "health": "/health",
            "functions": "/api/v1/functions",
            "apps": "/api/v1/apps",
            "events": "/api/v1/events",
            "runs": "/api/v1/runs",
            "supervisor": "/api/v1/supervisor",
            "dead_letters": "/api/v1/dead-letters",
            "openapi": "/api/v1/openapi.json",
            "send_events": "/e/{key}",
            "register": "/fn/register",
        },
    }))
}

/// Whether work would be accepted now: one cheap question to the database.
async fn health(state: State) -> HttpResponse {
    let database = match state.api() {
        Ok(api) => api.store().ping().await.map_err(|error| error.to_string()),
        Err(problem) => Err(problem.message),
    };
    match database {
        Ok(()) => HttpResponse::Ok().json(json!({
            "status": 200,
            "message": "OK",
            "checks": {"database": {"status": "ok"}},
        })),
        Err(error) => HttpResponse::ServiceUnavailable()
            .insert_header((RETRY_AFTER, "1"))
            .json(json!({
                "status": 503,
                "message": "Unavailable",
                "checks": {"database": {"status": "failing", "error": error}},
            })),
    }
}
