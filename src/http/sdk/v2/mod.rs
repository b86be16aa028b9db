//! `/v2`, and the same at `/api/v2`: the newer REST API of the original.
//!
//! ```text
//! mod.rs       the endpoints
//! answer.rs    envelopes, errors, and what is left out
//! reading.rs   queries and bodies
//! account.rs   the account, the environment, keys
//! apps.rs      apps and functions
//! runs.rs      runs
//! trace.rs     a run's trace
//! actions.rs   invoke, send, cancel, rerun, score
//! absent.rs    what there is not
//! document.rs  the OpenAPI document, and the catalogue of operations
//! ```
//!
//! Promises: every answer, refusals included, has the envelope of this API. Never: a decision about events or runs.

mod absent;
mod account;
mod actions;
mod answer;
mod apps;
mod document;
mod reading;
mod runs;
#[cfg(test)]
mod tests;
mod trace;

use actix_web::web::{self, ServiceConfig};

pub(in crate::http) use answer::Refused;

/// An endpoint, for those who read about it.
struct Endpoint {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    /// In a few words.
    summary: &'static str,
    /// Parameters of the query.
    query: &'static [&'static str],
}

/// Mounts each path with its methods. The document and the catalogue are made of the same table.
macro_rules! endpoints {
    ($($path:literal => $($method:ident $handler:path, $id:literal, $summary:literal, [$($query:literal),*]),+;)*) => {
        fn mount(cfg: &mut ServiceConfig) {
            $(cfg.service(web::resource($path)$(.route(web::$method().to($handler)))+);)*
        }

        const ENDPOINTS: &[Endpoint] = &[$($(Endpoint {
            method: stringify!($method),
            path: $path,
            id: $id,
            summary: $summary,
            query: &[$($query),*],
        },)+)*];
    };
}

endpoints! {
    "/health" => get account::health, "Health", "Whether the API answers", [];
    "/account" => get account::account, "GetAccount", "The one account there is", [];
    "/envs" => get account::environments, "GetEnvs", "The one environment there is", ["cursor", "limit"],
        post absent::not_implemented, "CreateEnv", "Not implemented", [];
    "/keys/events" => get account::event_keys, "GetEventKeys", "Event keys, masked", ["cursor", "limit"];
    "/keys/signing" => get account::signing_keys, "GetSigningKeys", "The signing key, masked", ["cursor", "limit"];
    "/apps" => get apps::list, "GetApps", "Apps by name", ["cursor", "limit", "archived"];
    "/apps/{app}" => get apps::get, "GetApp", "An app", [];
    "/apps/{app}/functions" => get apps::functions, "GetFunctions", "Functions of an app", ["cursor", "limit"];
    "/apps/{app}/functions/{function}" => get apps::get_function, "GetFunction", "A function", [];
    "/apps/{app}/functions/{function}/invoke" => post actions::invoke, "InvokeFunction", "Run a function", [];
    "/apps/{app}/functions/{function}/runs" => get runs::list_of_function, "GetFunctionRuns", "Runs of a function",
        ["cursor", "limit", "from", "until", "timeField", "status", "isDeferred", "order", "includeOutput"];
    "/runs" => get runs::list, "GetRuns", "Runs",
        ["cursor", "limit", "from", "until", "timeField", "status", "appId", "functionId", "isDeferred", "order", "includeOutput"];
    "/runs/{run}" => get runs::get, "GetRun", "A run", ["includeOutput"];
    "/runs/{run}/trace" => get trace::get, "GetRunTrace", "The trace of a run", ["includeOutput"];
    "/runs/{run}/cancel" => post actions::cancel, "CancelRun", "Cancel a run", [];
    "/runs/{run}/rerun" => post actions::rerun, "RerunRun", "Do a run again, as a whole or from a step on", [];
    "/runs/{run}/scores" => post actions::score, "CreateScores", "Score a run or its steps", [];
    "/events" => post actions::send, "SendEvent", "Send an event", [];
    "/events/{event}/runs" => get runs::list_of_event, "GetEventRuns", "Runs that an event has started",
        ["cursor", "limit", "includeOutput"];
}

/// What there is not. Paths of several methods and of unknown depth.
fn mount_absent(cfg: &mut ServiceConfig) {
    cfg.service(
        web::resource("/partner/accounts")
            .route(web::get().to(absent::not_implemented))
            .route(web::post().to(absent::not_implemented)),
    )
    .service(web::resource("/envs/{env}").route(web::patch().to(absent::not_implemented)))
    .service(web::resource("/apps/{app}/syncs").route(web::post().to(absent::not_implemented)))
    .service(web::resource("/sandboxes{rest:.*}").to(absent::unknown_to_it))
    .service(
        web::resource("/{area:(webhooks|insights|experiments|sessions)}{rest:(/.*)?}").to(absent::not_implemented),
    );
}

/// To be mounted at `/v2` and at `/api/v2`.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    mount(cfg);
    mount_absent(cfg);
    cfg.service(web::resource("/openapi.json").route(web::get().to(document::openapi)))
        .service(web::resource("/operations").route(web::get().to(document::operations)));
}
