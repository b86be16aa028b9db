//! `POST /fn/register` and `DELETE /fn/remove`: apps come and go.

use actix_web::http::header::HeaderName;
use actix_web::web::{self, Payload, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::FunctionId;
use callboard_actors::orchestrator::Refusal;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::error::{Code, Problem};
use crate::http::answer::{SdkError, sdk_error, sdk_error_as};
use crate::http::body;
use crate::http::state::{AppState, State};
use crate::sdk::registration::normalise;
use crate::sdk::{self, RegistrationError, headers};

static EXPECTED_KIND: HeaderName = HeaderName::from_static(headers::EXPECTED_SERVER_KIND);

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/register").route(web::post().to(register)))
        .service(web::resource("/remove").route(web::delete().to(remove)));
}

/// Why nothing was registered, with the code SDKs know for it.
struct Refused {
    problem: Problem,
    code: Option<&'static str>,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem, code: None }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Problem::from(refusal).into()
    }
}

impl From<RegistrationError> for Refused {
    fn from(error: RegistrationError) -> Self {
        Self {
            code: error.code(),
            problem: error.into(),
        }
    }
}

async fn register(req: HttpRequest, payload: Payload, state: State) -> HttpResponse {
    match try_register(&req, payload, &state).await {
        Ok(answer) => answer,
        Err(Refused { problem, code: None }) => sdk_error(&problem),
        Err(Refused {
            problem,
            code: Some(code),
        }) => sdk_error_as(&problem, code),
    }
}

async fn try_register(req: &HttpRequest, payload: Payload, state: &AppState) -> Result<HttpResponse, Refused> {
    let own_kind = state.options.kind.as_str();
    let expected = req.headers().get(&EXPECTED_KIND).and_then(|value| value.to_str().ok());
    if let Some(expected) = expected.filter(|expected| !expected.is_empty() && *expected != own_kind) {
        let message = format!("Expected server kind {own_kind}, got {expected}");
        return Err(Problem::new(Code::WrongServerKind, message).into());
    }
    let api = state.api()?;
    let body = body::read(req, payload, state).await?;
    let registration = sdk::parse(&body, api.clock().now())?;
    let app_id = FunctionId::app_uuid(&registration.app.name);
    let outcome = api.register(registration).await?;
    // SDKs pass `status` on as their own; `error` must be absent, not null.
    Ok(HttpResponse::Ok().json(json!({
        "ok": true,
        "modified": outcome.modified,
        "skipped": false,
        "status": 200,
        "app_id": app_id,
        "sync_id": Uuid::from_u128(api.random().bits()),
    })))
}

#[derive(Deserialize)]
struct Remove {
    #[serde(default)]
    url: String,
}

async fn remove(query: Query<Remove>, state: State) -> Result<HttpResponse, SdkError> {
    if query.url.is_empty() {
        return Err(Problem::new(Code::InvalidParameter, "`url` is required").into());
    }
    // Apps are known by the customary spelling of their URLs.
    if state.api()?.remove_app(&normalise(&query.url)).await? {
        Ok(HttpResponse::Ok().finish())
    } else {
        Err(Problem::new(Code::UnknownApp, format!("App not found: {}", query.url)).into())
    }
}
