//! `/api/v1/events`.

use std::sync::Arc;

use actix_web::web::{Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::EventId;
use callboard_actors::ports::EventFilter;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{gatherings, reading, view};
use crate::error::{Code, Problem};
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::body;
use crate::http::sdk::events::read_events;
use crate::http::state::{AppState, State};

/// One event to send.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a body that is read elsewhere")]
pub(super) struct NewEvent {
    /// What happened. Names that begin with `inngest/` are reserved.
    #[schema(example = "user.signup")]
    name: String,
    /// An object.
    #[schema(value_type = Option<Object>, example = json!({"user_id": "123"}))]
    data: Option<serde_json::Value>,
    /// A key of the sender's own: events with the same id start a function once a day.
    id: Option<String>,
    /// When it happened, in milliseconds since 1970. The future delays the runs it starts.
    ts: Option<i64>,
    /// The sender's version label: text by custom, and kept whatever it is.
    v: Option<serde_json::Value>,
}

/// What is sent.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes a body that is read elsewhere")]
pub(super) enum NewEvents {
    One(NewEvent),
    /// Up to 5,000 of them.
    Many(Vec<NewEvent>),
}

/// The ids of the events sent, in that order.
#[derive(Serialize, ToSchema)]
pub(super) struct Sent {
    #[schema(value_type = Vec<String>)]
    ids: Vec<EventId>,
}

/// Send events.
///
/// All of them are accepted or none. When the answer comes they are durable, whether or not they start anything.
#[utoipa::path(
    post, path = "/api/v1/events", tag = "events",
    request_body(content = NewEvents, description = "An event, or an array of up to 5,000 of them"),
    responses(
        (status = 201, body = Sent),
        (status = 400, body = ErrorBody, description = "Nothing was accepted; `details.index` says which event is at fault"),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "Overloaded; try again after `Retry-After`"),
    )
)]
pub(super) async fn send(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, OwnError> {
    let ids = take_in(&req, payload, &state).await;
    let ids = ids.inspect_err(|problem| state.refusals.count(problem))?;
    Ok(HttpResponse::Created().json(Sent { ids }))
}

async fn take_in(req: &HttpRequest, payload: Payload, state: &AppState) -> Result<Vec<EventId>, Problem> {
    let api = state.api()?;
    let options = &state.options;
    let mut permit = options.intake.permit();
    let body = body::read_with(req, payload, options.request_bytes, &mut permit).await?;
    let read = read_events(&body, req, api.clock().now(), Arc::clone(api.random())).await?;
    if let Some((index, problem)) = read.failure {
        return Err(problem.with(json!({"index": index})));
    }
    if !permit.add_events(read.events.len()) {
        return Err(Problem::new(Code::Overloaded, "too many events are on their way in"));
    }
    let ids = read.events.iter().map(|event| event.id).collect();
    if !read.events.is_empty() {
        api.accept(read.events).await?;
    }
    Ok(ids)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Of this exact name.
    name: Option<String>,
    /// Received then or later: RFC 3339, or milliseconds since 1970.
    from: Option<String>,
    /// Received before.
    until: Option<String>,
    /// With the server's own events.
    internal: Option<bool>,
    /// Of the page before.
    cursor: Option<String>,
    /// 1 to 100.
    #[param(value_type = Option<u8>)]
    limit: Option<String>,
}

/// A page of events.
#[derive(Serialize, ToSchema)]
pub(super) struct Events {
    events: Vec<view::Event>,
    /// For the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// List events, from new to old.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", params(ListQuery),
    responses((status = 200, body = Events), (status = 400, body = ErrorBody))
)]
pub(super) async fn list(query: Query<ListQuery>, state: State) -> Result<HttpResponse, OwnError> {
    let filter = EventFilter {
        name: reading::given(query.name.as_ref()).map(str::to_owned),
        internal: query.internal.unwrap_or(false),
        from: reading::time("from", query.from.as_ref())?,
        until: reading::time("until", query.until.as_ref())?,
        before: reading::given(query.cursor.as_ref())
            .map(|text| reading::id("cursor", text))
            .transpose()?,
        limit: reading::limit(reading::given(query.limit.as_ref()))?,
    };
    let page = state.api()?.store().list_events(&filter).await?;
    let last = page.items.last().map(|event| event.id.to_string());
    Ok(HttpResponse::Ok().json(Events {
        events: page.items.iter().map(view::Event::of).collect(),
        cursor: last.filter(|_| page.has_more),
    }))
}

/// An event and what became of it.
#[derive(Serialize, ToSchema)]
pub(super) struct EventDetail {
    event: view::Event,
    /// The runs it started, oldest first.
    runs: Vec<view::Run>,
    /// The functions it could have started and did not.
    not_started: Vec<NotStarted>,
    /// The debounces and batches that hold it, whose runs have not started.
    gathered: Vec<Gathered>,
}

/// A debounce or batch that holds an event.
#[derive(Serialize, ToSchema)]
pub(super) struct Gathered {
    function: view::FunctionRef,
    #[serde(flatten)]
    gathering: gatherings::Gathering,
}

/// A function that an event did not start.
#[derive(Serialize, ToSchema)]
pub(super) struct NotStarted {
    /// Absent if there is no such function.
    function: Option<view::FunctionRef>,
    #[schema(example = "expression_false")]
    reason: &'static str,
    /// For people.
    detail: String,
}

/// Look at an event: the runs it started, and why other functions did not start.
#[utoipa::path(
    get, path = "/api/v1/events/{id}", tag = "events", params(("id" = String, Path)),
    responses((status = 200, body = EventDetail), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn get(id: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    let id: EventId = reading::id("id", &id)?;
    let api = state.api()?;
    let found = api.store().event_view(id).await?;
    let found = found.ok_or_else(|| Problem::new(Code::UnknownEvent, format!("there is no event {id}")))?;
    let catalog = api.catalog();
    let not_started = found.skips.iter().map(|skip| NotStarted {
        function: skip.function.map(|function| view::FunctionRef::of(&catalog, function)),
        reason: skip.reason.as_str(),
        detail: skip.detail.clone(),
    });
    let gathered = found.gatherings.iter().map(|gathering| Gathered {
        function: view::FunctionRef::of(&catalog, gathering.function),
        gathering: gatherings::Gathering::of(gathering),
    });
    Ok(HttpResponse::Ok().json(EventDetail {
        event: view::Event::of(&found.event),
        runs: found.runs.iter().map(|run| view::Run::of(&catalog, run)).collect(),
        not_started: not_started.collect(),
        gathered: gathered.collect(),
    }))
}
