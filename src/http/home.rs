//! `/`: what this is, and where to go from here.

use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use serde_json::{Value, json};

use super::state::State;

pub(super) fn routes(cfg: &mut ServiceConfig) {
    let home = web::resource("/")
        .route(web::get().to(describe))
        .route(web::head().to(describe));
    cfg.service(home);
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
            "ready": "/health/ready",
            "metrics": "/metrics",
            "functions": "/api/v1/functions",
            "apps": "/api/v1/apps",
            "events": "/api/v1/events",
            "runs": "/api/v1/runs",
            "supervisor": "/api/v1/supervisor",
            "nodes": "/api/v1/nodes",
            "dead_letters": "/api/v1/dead-letters",
            "openapi": "/api/v1/openapi.json",
            "send_events": "/e/{key}",
            "register": "/fn/register",
        },
    }))
}
