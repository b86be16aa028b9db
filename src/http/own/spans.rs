//! The spans that apps have sent of what goes on in their runs.

use actix_web::HttpResponse;
use actix_web::web::Path;
use callboard_actors::domain::{RunId, SpanOutcome, StepId, UserSpan};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::reading;
use crate::error::{Code, Problem};
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::state::State;

/// The spans of a run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Spans {
    /// In the order in which they began.
    spans: Vec<Span>,
}

/// A span that an app has sent.
#[derive(Debug, Serialize, ToSchema)]
struct Span {
    id: String,
    /// The span that it says it is part of.
    parent_id: Option<String>,
    /// The step that was run at the time, as the SDK computed its id.
    step_id: Option<String>,
    /// The attempt at it, from 0.
    attempt: Option<u32>,
    name: String,
    #[schema(example = "CLIENT")]
    kind: String,
    /// In nanoseconds since 1970.
    started_at_ns: i64,
    /// In nanoseconds since 1970.
    ended_at_ns: i64,
    /// `unset`, `ok` or `error`.
    outcome: SpanOutcomeName,
    /// Why, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    /// The library that made it.
    scope: String,
    scope_version: String,
    /// The process that made it.
    #[schema(value_type = Object)]
    resource: Map<String, Value>,
    #[schema(value_type = Object)]
    attributes: Map<String, Value>,
    #[schema(value_type = Vec<Object>)]
    events: Vec<Value>,
    #[schema(value_type = Vec<Object>)]
    links: Vec<Value>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum SpanOutcomeName {
    Unset,
    Ok,
    Error,
}

impl Span {
    fn of(span: UserSpan) -> Self {
        Self {
            id: span.id.to_string(),
            parent_id: span.parent.map(|id| id.to_string()),
            step_id: span.step.as_ref().map(StepId::to_string),
            attempt: span.attempt,
            name: span.name,
            kind: span.kind,
            started_at_ns: span.started_at,
            ended_at_ns: span.ended_at,
            outcome: match span.outcome {
                SpanOutcome::Unset => SpanOutcomeName::Unset,
                SpanOutcome::Ok => SpanOutcomeName::Ok,
                SpanOutcome::Error => SpanOutcomeName::Error,
            },
            message: span.message,
            scope: span.scope,
            scope_version: span.scope_version,
            resource: span.resource,
            attributes: span.attributes,
            events: span.events,
            links: span.links,
        }
    }
}

/// List the spans that the app has sent of a run, by `POST /v1/traces/userland`.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}/spans", tag = "runs", params(("id" = String, Path)),
    responses((status = 200, body = Spans), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn list(id: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    let id: RunId = reading::id("id", &id)?;
    let store = state.api()?.store();
    let spans = store.spans(id).await?;
    // Most runs that have none are there all the same.
    if spans.is_empty() && store.run_view(id).await?.is_none() {
        return Err(Problem::new(Code::UnknownRun, format!("there is no run {id}")).into());
    }
    let spans = spans.into_iter().map(Span::of).collect();
    Ok(HttpResponse::Ok().json(Spans { spans }))
}
