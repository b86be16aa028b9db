//! The OpenAPI document of `/api/v1`, generated from the handlers.

use actix_web::http::Method;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref};
use utoipa::{Modify, OpenApi, ToSchema as _};

use super::{
    apps, events, flow, functions, gatherings, keys, letters, limits, modes, nodes, operations, operator, runs, slots,
    spans, view, workers,
};
use crate::http::{answer, auth};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Callboard",
        description = "Send events, see what they start, and look after the runs. Errors carry a stable code; docs/errors.md lists them."
    ),
    paths(
        events::send,
        events::list,
        events::get,
        runs::list,
        runs::get,
        spans::list,
        runs::cancel,
        runs::rerun,
        functions::list,
        functions::register,
        modes::get,
        modes::pause,
        modes::drain,
        modes::resume,
        slots::list,
        gatherings::list,
        gatherings::fire,
        flow::get,
        limits::put,
        limits::end,
        apps::list,
        apps::sync,
        apps::switch_breaker,
        keys::list,
        keys::create,
        keys::revoke,
        operator::supervisor,
        nodes::list,
        workers::list,
        letters::list,
        letters::get,
        letters::retry,
        letters::discard,
        letters::retry_many,
        operations::list,
        operations::begin,
        operations::preview,
        operations::get,
        operations::cancel,
        operator::openapi
    ),
    components(schemas(
        answer::ErrorBody,
        answer::ErrorDetail,
        view::Event,
        view::Run,
        view::RunDetail,
        view::Step,
        view::Attempt,
        view::Pending,
        view::Function,
        view::FunctionRef,
        view::App,
        view::Breaker
    )),
    modifiers(&Scopes, &Refusals),
    tags(
        (name = "events", description = "What happened"),
        (name = "runs", description = "What it started"),
        (name = "functions", description = "What can be started"),
        (name = "operations", description = "How the server is doing")
    )
)]
struct Document;

/// What the requirement of a key is called.
const KEY: &str = "key";

/// Says of each operation which scope its key needs, where the server asks for keys.
struct Scopes;

impl Modify for Scopes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let description = "A key that `callboard keys create` has made, with the scope that the operation names or a higher one \
                           (read, write, admin); one of `keys.api`; or the signing key. Servers without keys ask for none.";
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(description))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(KEY, SecurityScheme::Http(scheme));
        for (path, item) in &mut document.paths.paths {
            let operations = [
                (Method::GET, &mut item.get),
                (Method::POST, &mut item.post),
                (Method::PUT, &mut item.put),
                (Method::DELETE, &mut item.delete),
            ];
            for (method, operation) in operations {
                if let Some(operation) = operation {
                    require_scope(operation, path, &method);
                }
            }
        }
    }
}

fn require_scope(operation: &mut Operation, path: &str, method: &Method) {
    let scope = auth::needed(path, method).as_str();
    operation.security = Some(vec![SecurityRequirement::new(KEY, [scope])]);
}

/// Says what any operation may answer: what is refused before an endpoint is asked, and by every endpoint.
struct Refusals;

/// Of every operation.
const OF_ALL: [(u16, &str); 3] = [
    (
        401,
        "The server asks for keys, and there is none, or one it does not know",
    ),
    (403, "The key's scope is too low"),
    (
        503,
        "Not now: starting, stopping, overloaded or without its database; try again after `Retry-After`",
    ),
];

/// Of operations with bodies.
const OF_BODIES: [(u16, &str); 4] = [
    (400, "The body was cut short, or is not what the schema says"),
    (408, "The body did not arrive in time"),
    (413, "The body is too large"),
    (415, "The body is compressed"),
];

impl Modify for Refusals {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for item in document.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                let of_bodies: &[_] = if operation.request_body.is_some() {
                    &OF_BODIES
                } else {
                    &[]
                };
                for (status, description) in OF_ALL.iter().chain(of_bodies) {
                    add_refusal(operation, *status, description);
                }
            }
        }
    }
}

/// Adds a refusal that the operation does not describe in words of its own.
fn add_refusal(operation: &mut Operation, status: u16, description: &str) {
    let responses = &mut operation.responses.responses;
    responses.entry(status.to_string()).or_insert_with(|| {
        let schema = Ref::from_schema_name(answer::ErrorBody::name());
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new().description(description);
        response.content("application/json", content).build().into()
    });
}

/// The document as JSON text.
///
/// # Panics
/// Never: a document that was built from derives has nothing that JSON can't say.
#[must_use]
pub fn openapi_json() -> String {
    Document::openapi()
        .to_pretty_json()
        .expect("a generated document serialises")
}
