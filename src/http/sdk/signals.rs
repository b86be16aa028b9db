//! `POST /v1/signals`: wakes the run that waits for a signal.

use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::Json;
use serde::Deserialize;
use serde_json::json;

use crate::error::{Code, Problem};
use crate::http::answer::{SdkError, enveloped};
use crate::http::body;
use crate::http::state::State;

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/signals").route(web::post().to(send)));
}

#[derive(Deserialize)]
struct Signal {
    #[serde(default)]
    signal: String,
    #[serde(default)]
    data: Option<Json>,
}

async fn send(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, SdkError> {
    let api = state.api()?;
    let body = body::read(&req, payload, &state).await?;
    let parsed: Result<Signal, Problem> = body::parse(&body);
    let signal = parsed.map_err(|problem| Problem {
        message: format!("Invalid signal data: {}", problem.message),
        ..problem
    })?;
    if signal.signal.is_empty() {
        return Err(Problem::new(Code::InvalidParameter, "Invalid signal data: `signal` is required").into());
    }
    let data = signal.data.unwrap_or_else(Json::null);
    match api.signal(&signal.signal, data).await? {
        Some(run) => Ok(enveloped(&json!({"run_id": run}), api.clock().now())),
        None => Err(Problem::new(Code::NoSignal, "No signal found").into()),
    }
}
