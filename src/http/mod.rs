//! The HTTP surface: one file per family of endpoints.
//!
//! ```text
//! mod.rs        what is mounted where
//! state.rs      what handlers share; the orchestrator behind a trait
//! edge.rs       around every request: the server's kind, CORS, JSON for 404 and 405
//! auth.rs       who may
//! body.rs       reading bodies, within limits
//! intake.rs     permits for what is on its way in
//! refusals.rs   what of it was refused, in numbers
//! answer.rs     the shapes of answers and of errors
//! home.rs       /
//! health.rs     /health, /health/ready
//! metrics.rs    /metrics
//! graphql/      /v0/gql
//! own/          /api/v1: our own API, and its OpenAPI document
//! sdk/          what SDKs call: /e, /invoke, /fn, /dev, /v0, /v1
//! ```
//!
//! Handlers run on one thread beside the actors: none blocks, none logs per request, and bodies worth more than a
//! moment of parsing are parsed elsewhere. Never: a decision about events or runs.

mod answer;
mod auth;
mod body;
mod connections;
mod edge;
mod graphql;
mod health;
mod home;
mod intake;
mod metrics;
mod own;
mod refusals;
mod sdk;
mod state;
#[cfg(test)]
mod tests;

use actix_web::HttpRequest;
use actix_web::web::{self, ServiceConfig};

use crate::error::{Code, Problem};

pub use intake::Intake;
pub use own::openapi_json;
pub use state::{Api, AppState, Options, StartOptions, Syncer};

/// Mounts every endpoint.
///
/// What else the process serves has to be mounted before: a last, nameless scope takes every path that is left, so that
/// unknown ones get the answers and headers of this server too.
pub fn configure(cfg: &mut ServiceConfig, state: web::Data<AppState>) {
    let root = web::scope("")
        // The hot path first: routes are tried in this order.
        .configure(sdk::events::routes)
        .configure(|cfg| sdk::routes(cfg, &state.options))
        .configure(own::routes)
        .configure(home::routes)
        .configure(health::routes)
        .service(web::resource("/ready").route(web::get().to(sdk::connect::ready)))
        .configure(metrics::routes)
        .wrap(actix_web::middleware::from_fn(edge::surround));
    let invalid = |error: &dyn std::fmt::Display, req: &HttpRequest| {
        edge::refuse(req, &Problem::new(Code::InvalidParameter, error.to_string()))
    };
    cfg.app_data(web::QueryConfig::default().error_handler(move |error, req| invalid(&error, req)))
        .app_data(web::PathConfig::default().error_handler(move |error, req| invalid(&error, req)))
        .app_data(state)
        .default_service(web::to(edge::not_found))
        .service(root);
}
