//! The OpenAPI document of `/api/v1`, generated from the handlers.

use utoipa::OpenApi;

use super::{
    apps, events, flow, functions, gatherings, letters, limits, modes, nodes, operations, operator, runs, slots, spans,
    view, workers,
};
use crate::http::answer;

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
    tags(
        (name = "events", description = "What happened"),
        (name = "runs", description = "What it started"),
        (name = "functions", description = "What can be started"),
        (name = "operations", description = "How the server is doing")
    )
)]
struct Document;

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
