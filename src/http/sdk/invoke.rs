//! `POST /invoke/{slug}`: runs a function without an event of its own.

use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::EventId;
use serde_json::{Map, Value, json};

use crate::error::{Code, Problem};
use crate::http::answer::invoke_error;
use crate::http::body;
use crate::http::state::{AppState, State};

/// The members of the body that count; the event's name and id are the server's.
const KEPT: [&str; 4] = ["data", "user", "v", "meta"];

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/{slug:.*}").route(web::post().to(invoke)));
}

async fn invoke(req: HttpRequest, slug: web::Path<String>, payload: Payload, state: State) -> HttpResponse {
    match try_invoke(&req, &slug, payload, &state).await {
        Ok(id) => HttpResponse::Ok().json(json!({"id": id, "status": 200})),
        Err(problem) => {
            state.refusals.count(&problem);
            invoke_error(&problem)
        }
    }
}

async fn try_invoke(req: &HttpRequest, slug: &str, payload: Payload, state: &AppState) -> Result<EventId, Problem> {
    let api = state.api()?;
    let body = body::read(req, payload, state).await?;
    let mut payload: Map<String, Value> = body::parse(&body)?;
    payload.retain(|key, value| KEPT.contains(&key.as_str()) && !value.is_null());
    for key in ["data", "user"] {
        if payload.get(key).is_some_and(|value| !value.is_object()) {
            return Err(Problem::new(
                Code::InvalidEvent,
                format!("event {key} must be an object"),
            ));
        }
    }
    Ok(api.invoke(slug, payload).await?)
}
