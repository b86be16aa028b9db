//! `/api/v1`: our own API, and its description.
//!
//! Answers are the thing itself; lists are `{"<things>":[…],"cursor"?}` and are walked from new to old. Errors are
//! `{"error":{…}}`. Times are RFC 3339 in UTC.

mod apps;
mod document;
mod events;
mod flow;
mod functions;
mod gatherings;
mod keys;
mod letters;
mod limits;
mod modes;
mod nodes;
mod operations;
mod operator;
mod reading;
mod runs;
mod slots;
mod spans;
#[cfg(test)]
mod tests;
mod view;
mod workers;

use actix_web::web::{self, ServiceConfig};

pub use document::openapi_json;
pub(super) use view::Breaker;

/// Mounts each path with its methods. The same table is what a test compares the OpenAPI document with.
macro_rules! endpoints {
    ($($path:literal => $($method:ident $handler:path),+;)*) => {
        fn mount(cfg: &mut ServiceConfig) {
            $(cfg.service(web::resource($path)$(.route(web::$method().to($handler)))+);)*
        }

        #[cfg(test)]
        const MOUNTED: &[(&str, &str)] = &[$($((stringify!($method), concat!("/api/v1", $path)),)+)*];
    };
}

endpoints! {
    "/events" => post events::send, get events::list;
    "/events/{id}" => get events::get;
    "/runs" => get runs::list;
    "/runs/{id}" => get runs::get;
    "/runs/{id}/spans" => get spans::list;
    "/runs/{id}/cancel" => post runs::cancel;
    "/runs/{id}/rerun" => post runs::rerun;
    "/functions" => get functions::list, post functions::register;
    "/functions/{id}" => get modes::get;
    "/functions/{id}/pause" => post modes::pause;
    "/functions/{id}/drain" => post modes::drain;
    "/functions/{id}/resume" => post modes::resume;
    "/functions/{id}/slots" => get slots::list;
    "/functions/{id}/gatherings" => get gatherings::list;
    "/functions/{id}/gatherings/{gathering}/fire" => post gatherings::fire;
    "/functions/{id}/flow" => get flow::get;
    "/functions/{id}/limits" => put limits::put, delete limits::end;
    "/apps" => get apps::list;
    "/apps/sync" => post apps::sync;
    "/apps/{name}/breaker" => put apps::switch_breaker;
    "/keys" => get keys::list, post keys::create;
    "/keys/{id}" => delete keys::revoke;
    "/supervisor" => get operator::supervisor;
    "/nodes" => get nodes::list;
    "/workers" => get workers::list;
    "/dead-letters" => get letters::list;
    "/dead-letters/retry" => post letters::retry_many;
    "/dead-letters/{id}" => get letters::get, delete letters::discard;
    "/dead-letters/{id}/retry" => post letters::retry;
    "/operations" => get operations::list, post operations::begin;
    "/operations/preview" => post operations::preview;
    "/operations/{id}" => get operations::get;
    "/operations/{id}/cancel" => post operations::cancel;
    "/openapi.json" => get operator::openapi;
}

/// The scope of our own API.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(web::scope("/api/v1").configure(mount));
}
