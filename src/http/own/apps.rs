//! `/api/v1/apps`.

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;
use utoipa::ToSchema;

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
    let catalog = state.api()?.catalog();
    let apps = catalog.apps().iter().map(view::App::of).collect();
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
        app: app.map(view::App::of),
    }))
}

/// Whether two URLs lead to the same app: apps write their own as they like.
fn is_same_place(a: &str, b: &str) -> bool {
    let folded = |text: &str| Url::parse(&normalise(text)).ok().map(loopback_folded);
    folded(a) == folded(b)
}
