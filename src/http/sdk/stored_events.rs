//! `/v1/events`: what came in, and the runs it started.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{self, Path, Query, ServiceConfig};
use callboard_actors::domain::{Event, EventId, Timestamp};
use callboard_actors::ports::{EventFilter, EventView};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ACCOUNT, ENVIRONMENT, runs};
use crate::error::{Code, Problem};
use crate::http::answer::{SdkError, enveloped, parameter};
use crate::http::state::{AppState, State};

/// How far back a list goes that names no beginning.
const WINDOW: Duration = Duration::from_secs(60 * 60);

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/events").route(web::get().to(list)))
        .service(web::resource("/events/{id}").route(web::get().to(get)))
        .service(web::resource("/events/{id}/runs").route(web::get().to(runs_of)));
}

#[derive(Deserialize)]
struct ListQuery {
    limit: Option<String>,
    cursor: Option<String>,
    name: Option<String>,
    received_after: Option<String>,
    received_before: Option<String>,
}

async fn list(query: Query<ListQuery>, state: State) -> Result<HttpResponse, SdkError> {
    let api = state.api()?;
    let now = api.clock().now();
    let ListQuery {
        limit,
        cursor,
        name,
        received_after,
        received_before,
    } = query.into_inner();
    let date = |text: Option<String>, key: &str| {
        let parsed = text.filter(|text| !text.is_empty()).map(|text| instant(&text, key));
        parsed.transpose()
    };
    let cursor = cursor.filter(|cursor| !cursor.is_empty());
    let before = cursor.map(|text| parameter::<EventId>(&text, || format!("Invalid cursor: {text}")));
    let limit = limit.map(|text| parameter::<usize>(&text, || format!("Invalid limit: {text}")));
    let filter = EventFilter {
        name: name.filter(|name| !name.is_empty()),
        internal: false,
        from: Some(date(received_after, "received_after")?.unwrap_or_else(|| now.before(WINDOW))),
        until: date(received_before, "received_before")?,
        before: before.transpose()?,
        limit: limit.transpose()?.unwrap_or(20).clamp(1, 51),
    };
    let page = api.store().list_events(&filter).await?;
    let events: Vec<Value> = page.items.iter().map(document).collect();
    Ok(enveloped(&events, now))
}

/// A time given as RFC 3339, or in milliseconds.
pub(in crate::http) fn instant(text: &str, key: &str) -> Result<Timestamp, Problem> {
    let written = chrono::DateTime::parse_from_rfc3339(text).map(|at| Timestamp::from_datetime(at.to_utc()));
    let at = written.ok().or_else(|| text.parse().ok().map(Timestamp::from_millis));
    // A `+` that was not escaped arrives as a space.
    let unescaped = || chrono::DateTime::parse_from_rfc3339(&text.replace(' ', "+")).ok();
    let at = at.or_else(|| unescaped().map(|at| Timestamp::from_datetime(at.to_utc())));
    at.ok_or_else(|| {
        let message = format!("Invalid {key}: {text} is neither an RFC 3339 time nor milliseconds since 1970");
        Problem::new(Code::InvalidParameter, message)
    })
}

async fn view(state: &AppState, id: &str) -> Result<EventView, Problem> {
    let id: EventId = parameter(id, || format!("Invalid event ID: {id}"))?;
    let view = state.api()?.store().event_view(id).await?;
    view.ok_or_else(|| Problem::new(Code::UnknownEvent, "Event not found"))
}

async fn get(id: Path<String>, state: State) -> Result<HttpResponse, SdkError> {
    let view = view(&state, &id).await?;
    Ok(enveloped(&document(&view.event), state.api()?.clock().now()))
}

async fn runs_of(id: Path<String>, state: State) -> Result<HttpResponse, SdkError> {
    let view = view(&state, &id).await?;
    let api = state.api()?;
    let mut documents = Vec::with_capacity(view.runs.len());
    for run in &view.runs {
        let is_called = runs::is_called(api, run).await;
        documents.push(runs::document(run, is_called, view.event.cron()));
    }
    Ok(enveloped(&documents, api.clock().now()))
}

/// An event as the original prints it: `id` is the sender's, `internal_id` the server's.
fn document(event: &Event) -> Value {
    let mut document: Map<String, Value> = event.body.to().unwrap_or_default();
    let server = json!({
        "internal_id": event.id,
        "account_id": ACCOUNT,
        "environment_id": ENVIRONMENT,
        "source": "app",
        "source_id": null,
        "received_at": event.received_at.to_rfc3339(),
    });
    if let Value::Object(server) = server {
        document.extend(server);
    }
    Value::Object(document)
}
