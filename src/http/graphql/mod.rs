//! `/v0/gql`: the GraphQL endpoint that the SDKs' tests and the original's dashboard read.
//!
//! ```text
//! mod.rs           the endpoint and its limits
//! asked.rs         what the resolvers of one request share
//! scalars.rs       the JSON forms of ids, times and texts
//! paging.rs        cursors
//! search.rs        searching by expressions
//! event.rs         an event
//! events.rs        event, events, eventV2, eventsV2, stream
//! run.rs           a run
//! deferral.rs      what it has put off, and which run has put it off
//! runs.rs          run, runs
//! function_run.rs  functionRun: runs in the older form
//! trigger.rs       runTrigger
//! trace/           trace, runTrace, runTraceSpanOutputByID
//! functions.rs     functions, functionBySlug
//! apps.rs          apps, app
//! workers.rs       workerConnections
//! mutations.rs     what changes something
//! ```
//!
//! Promises: an answer is what was committed when it was asked; whatever goes wrong with a document or a field is told
//! with status 200, as clients expect; one document costs a bounded number of statements, also for lists. Never: a decision
//! about events or runs.

mod apps;
mod asked;
mod deferral;
mod event;
mod events;
mod function_run;
mod functions;
mod mutations;
mod paging;
mod run;
mod runs;
mod scalars;
mod search;
#[cfg(test)]
mod tests;
mod trace;
mod trigger;
mod workers;

use std::sync::LazyLock;

use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use async_graphql::parser::types::OperationType;
use async_graphql::{EmptySubscription, MergedObject, Request, Response, Schema, ServerError};
use callboard_actors::domain::KeyScope;
use serde::Deserialize;

use super::answer::SdkError;
use super::state::State;
use super::{auth, body};
use asked::Asked;
pub(super) use asked::Viewed;
pub(super) use functions::FunctionConfiguration;
use mutations::Mutation;
pub(super) use paging::{run_cursor, run_place};
pub(super) use trace::Span;

/// How deep fields may be nested: a trace of several levels within a list, and introspection.
const DEPTH: usize = 24;
/// How much a document may ask for: roughly the number of fields in its answer, and hundreds for each statement.
const COMPLEXITY: usize = 60_000;

#[derive(Debug, Default, MergedObject)]
struct Query(
    events::Query,
    runs::Query,
    function_run::Query,
    trigger::Query,
    trace::Query,
    functions::Query,
    apps::Query,
    workers::Query,
);

static SCHEMA: LazyLock<Schema<Query, Mutation, EmptySubscription>> = LazyLock::new(|| {
    Schema::build(Query::default(), Mutation, EmptySubscription)
        .limit_depth(DEPTH)
        .limit_complexity(COMPLEXITY)
        .finish()
});

/// To be mounted at `/v0`.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(
        web::resource("/gql")
            .route(web::post().to(post))
            .route(web::get().to(get)),
    );
}

async fn post(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, SdkError> {
    let body = body::read(&req, payload, &state).await?;
    let mut request: Request = body::parse(&body)?;
    if changes(&mut request) {
        auth::demand(&req, KeyScope::Write)?;
    }
    execute(request, state).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asking {
    query: String,
    variables: Option<String>,
    operation_name: Option<String>,
}

/// For reading only: a link must not change anything.
async fn get(asking: web::Query<Asking>, state: State) -> Result<HttpResponse, SdkError> {
    let Asking {
        query,
        variables,
        operation_name,
    } = asking.into_inner();
    let mut request = Request::new(query);
    request.operation_name = operation_name;
    if let Some(variables) = variables.filter(|variables| !variables.is_empty()) {
        request.variables = body::parse(variables.as_bytes())?;
    }
    if changes(&mut request) {
        let error = ServerError::new("mutations have to be sent by POST", None);
        return Ok(HttpResponse::Ok().json(Response::from_errors(vec![error])));
    }
    execute(request, state).await
}

/// Whether there is a mutation in it. What does not parse is told by the execution.
fn changes(request: &mut Request) -> bool {
    request.parsed_query().is_ok_and(|document| {
        let mut operations = document.operations.iter();
        operations.any(|(_, operation)| operation.node.ty == OperationType::Mutation)
    })
}

async fn execute(request: Request, state: State) -> Result<HttpResponse, SdkError> {
    let asked = Asked::new(state)?;
    let response = SCHEMA.execute(request.data(asked)).await;
    Ok(HttpResponse::Ok().json(response))
}
