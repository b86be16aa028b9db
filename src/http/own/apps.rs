//! `/api/v1/apps`.

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;
use utoipa::ToSchema;

use super::view::Breaker;
use super::{reading, view};
use crate::error::{Code, Problem};
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::body;
use crate::http::state::State;
use crate::sdk::registration::{loopback_folded, normalise};

/// Apps.
#[derive(Serialize, ToSchema)]
pub(super) struct Apps {
    apps: Vec<view::App>,
}

/// List apps.
#[utoipa::path(get, path = "/api/v1/apps", tag = "functions", responses((status = 200, body = Apps)))]
pub(super) async fn list(state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let catalog = api.catalog();
    let apps = Breaker::of_all(api.breakers(), &catalog);
    let apps = apps.map(|(app, breaker)| view::App::of(app, breaker)).collect();
    Ok(HttpResponse::Ok().json(Apps { apps }))
}

/// The app to sync.
#[derive(Deserialize, ToSchema)]
pub(super) struct Sync {
    /// Where it serves its functions.
    #[schema(example = "http://localhost:3000/api/inngest")]
    url: String,
}

/// What came of a sync.
#[derive(Serialize, ToSchema)]
pub(super) struct Synced {
    app: Option<view::App>,
}

/// Sync an app: ask it to register now, and wait until it has.
#[utoipa::path(
    post, path = "/api/v1/apps/sync", tag = "functions", request_body = Sync,
    responses(
        (status = 200, body = Synced),
        (status = 400, body = ErrorBody),
        (status = 502, body = ErrorBody, description = "The app did not register; the message has its answer"),
    )
)]
pub(super) async fn sync(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let body = body::read(&req, payload, &state).await?;
    let Sync { url } = body::parse(&body)?;
    let is_http = Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !is_http {
        return Err(reading::invalid("url", &url, "an http or https URL").into());
    }
    let synced = state.options.syncer.sync(&url).await;
    api.note_sync(&url, synced.as_ref().err().map(ToString::to_string));
    synced.map_err(|error| Problem::new(Code::SyncFailed, error.to_string()).with(json!({"reason": error.code()})))?;
    let catalog = api.catalog();
    // Functions registered by hand may share the place; the one that has just answered is meant.
    let here = catalog.apps().iter().filter(|view| is_same_place(&view.app.url, &url));
    let app = here.max_by_key(|view| (!view.app.sdk.is_empty(), view.app.synced_at));
    Ok(HttpResponse::Ok().json(Synced {
        app: app.map(|app| view::App::of(app, Breaker::of(api.breakers(), &catalog, app))),
    }))
}

/// What is wanted of an app's circuit breaker.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Switch {
    /// Whether the app's calls go through one; `null` to let the settings decide.
    enabled: Option<bool>,
}

/// Switch the circuit breaker of one app on or off, on all instances and whatever the settings say.
#[utoipa::path(
    put, path = "/api/v1/apps/{name}/breaker", tag = "operations", params(("name" = String, Path)), request_body = Switch,
    responses((status = 200, body = Breaker), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn switch_breaker(
    name: Path<String>,
    req: HttpRequest,
    payload: Payload,
    state: State,
) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let body = body::read(&req, payload, &state).await?;
    let Switch { enabled } = body::parse(&body)?;
    let unknown = || Problem::new(Code::UnknownApp, format!("there is no app `{name}`"));
    if !api.set_breaker(&name, enabled).await? {
        return Err(unknown().into());
    }
    let catalog = api.catalog();
    let app = catalog.apps().iter().find(|view| *view.app.name == **name);
    let app = app.ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(Breaker::of(api.breakers(), &catalog, app)))
}

/// Whether two URLs lead to the same app: apps write their own as they like.
fn is_same_place(a: &str, b: &str) -> bool {
    let folded = |text: &str| Url::parse(&normalise(text)).ok().map(loopback_folded);
    folded(a) == folded(b)
}
