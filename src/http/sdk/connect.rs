//! `/v0/connect`: workers that connect, and what they send beside their connection. See [`crate::connect`].
//!
//! The WebSocket needs no key: a worker shows the token that it got at the start, where one is asked for.

use actix_web::http::header::{AUTHORIZATION, HOST, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use actix_web::web::{self, Path, Payload, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use async_trait::async_trait;
use callboard_actors::domain::{FunctionId, Registration, RunId};
use callboard_actors::workers::{Status, View};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

use super::{ACCOUNT, ENVIRONMENT};
use crate::connect::{self, MESSAGE_BYTES, Malformed, PROTOCOL};
use crate::error::{Code, Problem};
use crate::http::answer::SdkError;
use crate::http::body;
use crate::http::state::{Api, AppState, State};
use crate::sdk::{ServerKind, signing};
use crate::websocket;

/// The path of the WebSocket.
pub(in crate::http) const PATH: &str = "/v0/connect";

pub(super) fn routes(cfg: &mut ServiceConfig, kind: ServerKind) {
    cfg.service(web::resource("/connect").route(web::get().to(upgrade)))
        .service(web::resource("/connect/start").route(web::post().to(start)))
        .service(web::resource("/connect/flush").route(web::post().to(flush)));
    if kind == ServerKind::Dev {
        cfg.service(web::resource("/connect/envs/{environment}/conns").route(web::get().to(connections)))
            .service(web::resource("/connect/envs/{environment}/groups/{hash}").route(web::get().to(group)));
    }
}

/// `GET /ready`, at the workers' own port.
pub(in crate::http) async fn ready(state: State) -> HttpResponse {
    if state.api().is_err() || state.options.gateway.workers().is_closing() {
        HttpResponse::ServiceUnavailable().finish()
    } else {
        HttpResponse::Ok().finish()
    }
}

fn malformed(error: &Malformed) -> Problem {
    Problem::new(Code::InvalidData, error.to_string())
}

async fn start(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, SdkError> {
    let api = state.api()?;
    let body = body::read(&req, payload, &state).await?;
    let now = api.clock().now();
    let connection = RunId::new(now, api.random().bits()).to_string();
    let authorization = req.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = signing::bearer(authorization.unwrap_or_default());
    let endpoint = endpoint(&req, &state);
    let answer = state.options.gateway.start(&body, endpoint, connection, bearer, now);
    let answer = answer.map_err(|error| malformed(&error))?;
    Ok(HttpResponse::Ok().content_type("application/octet-stream").body(answer))
}

/// Where a worker is to connect that has reached us so.
fn endpoint(req: &HttpRequest, state: &AppState) -> String {
    if let Some(url) = &state.options.gateway_url {
        return url.clone();
    }
    let host = req.headers().get(HOST).and_then(|value| value.to_str().ok());
    let host = host.filter(|host| !host.is_empty()).unwrap_or("localhost");
    match state.options.gateway_port {
        Some(port) => format!("ws://{}:{port}{PATH}", without_port(host)),
        // The way it came, whatever stands between.
        None if req.connection_info().scheme() == "https" => format!("wss://{host}{PATH}"),
        None => format!("ws://{host}{PATH}"),
    }
}

/// A host without its port; an IPv6 address stays in its brackets.
fn without_port(host: &str) -> &str {
    let digits = host.trim_end_matches(|c: char| c.is_ascii_digit());
    match digits.strip_suffix(':') {
        Some(bare) if !bare.contains(':') || bare.ends_with(']') => bare,
        _ => host,
    }
}

async fn flush(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, SdkError> {
    state.api()?;
    let body = body::read(&req, payload, &state).await?;
    let acknowledged = state.options.gateway.flush(&body).map_err(|error| malformed(&error))?;
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .body(acknowledged))
}

async fn upgrade(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, actix_web::Error> {
    let api = Arc::clone(state.api().map_err(SdkError::from)?);
    let payload = websocket::watched(&req, payload, MESSAGE_BYTES)?;
    let (mut answer, session, frames) = actix_ws::handle(&req, payload)?;
    let offered = req.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    let mut offered = offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    if offered.any(|protocol| protocol.trim() == PROTOCOL) {
        let chosen = HeaderValue::from_static(PROTOCOL);
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    let frames = frames.max_frame_size(MESSAGE_BYTES).aggregate_continuations();
    let connection = connect::Opened {
        session,
        frames: frames.max_continuation_size(MESSAGE_BYTES),
        address: req
            .connection_info()
            .realip_remote_addr()
            .unwrap_or_default()
            .to_owned(),
    };
    let (gateway, clock) = (state.options.gateway.clone(), Arc::clone(api.clock()));
    actix_web::rt::spawn(connect::serve(gateway, Registry(api), clock, connection));
    Ok(answer)
}

/// Registers through the orchestrator.
struct Registry(Arc<dyn Api>);

#[async_trait(?Send)]
impl connect::Registrar for Registry {
    async fn register(&self, registration: Registration) -> Result<(), String> {
        let registered = self.0.register(registration).await;
        registered.map(drop).map_err(|refusal| refusal.to_string())
    }
}

#[derive(Deserialize)]
struct OfApp {
    app_id: Option<String>,
}

async fn connections(query: Query<OfApp>, state: State) -> HttpResponse {
    let views = state.options.gateway.workers().list();
    let is_meant = |view: &&View| {
        query.app_id.as_deref().is_none_or(|wanted| {
            let mut apps = view.worker.groups.iter().map(|group| FunctionId::app_uuid(&group.app));
            apps.any(|app| app.to_string() == wanted)
        })
    };
    let shown: Vec<Value> = views.iter().filter(is_meant).map(|view| shown(view, &state)).collect();
    HttpResponse::Ok().json(json!({ "data": shown }))
}

fn shown(view: &View, state: &AppState) -> Value {
    let worker = &view.worker;
    let groups: Map<String, Value> = worker
        .groups
        .iter()
        .map(|group| {
            (
                FunctionId::app_uuid(&group.app).to_string(),
                Value::from(group.hash.as_str()),
            )
        })
        .collect();
    json!({
        "id": worker.connection,
        "gateway_id": gateway_id(state),
        "instance_id": &*worker.instance,
        "all_worker_groups": groups,
        "synced_worker_groups": groups,
        "status": match view.status {
            Status::Connected => 0,
            Status::Ready => 1,
            Status::Draining => 2,
        },
        "last_heartbeat_at": view.heard_at.to_rfc3339(),
        "sdk_language": worker.sdk_language,
        "sdk_version": worker.sdk_version,
        "attributes": {
            "cpu_cores": worker.machine.cpu_cores,
            "mem_bytes": worker.machine.memory,
            "os": worker.machine.os,
        },
    })
}

fn gateway_id(state: &AppState) -> Option<String> {
    state.api().ok().map(|api| api.node().id.to_string())
}

async fn group(path: Path<(String, String)>, state: State) -> Result<HttpResponse, SdkError> {
    let (_, hash) = path.into_inner();
    let views = state.options.gateway.workers().list();
    let of = |view: &View| view.worker.groups.iter().find(|group| group.hash == hash).cloned();
    let Some(group) = views.iter().find_map(of) else {
        return Err(Problem::new(Code::UnknownRoute, format!("there is no group {hash}")).into());
    };
    let members = views.iter().filter(|view| of(view).is_some());
    let members: Vec<&str> = members.map(|view| view.worker.connection.as_str()).collect();
    Ok(HttpResponse::Ok().json(json!({
        "data": {
            "account_id": ACCOUNT,
            "env_id": ENVIRONMENT,
            "app_id": FunctionId::app_uuid(&group.app),
            "app_name": &*group.app,
            "app_version": group.version,
            "hash": group.hash,
            "function_slugs": group.functions,
            "synced": true,
            "conns": members,
        }
    })))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::without_port;

    #[rstest]
    #[case("localhost:8288", "localhost")]
    #[case("localhost", "localhost")]
    #[case("10.0.0.7:80", "10.0.0.7")]
    #[case("10.0.0.7", "10.0.0.7")]
    #[case("[::1]:8288", "[::1]")]
    #[case("[::1]", "[::1]")]
    #[case("host.example.com", "host.example.com")]
    fn a_host_without_its_port(#[case] host: &str, #[case] bare: &str) {
        assert_eq!(without_port(host), bare);
    }
}
