//! Durable endpoints: runs that apps begin by themselves, what they report of them, and the answers of those that the
//! server has gone on with.
//!
//! The answer to a request is fetched with a token that was given to the app for this one run; it needs no key.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::{self, Path, Payload, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::{
    App, Caps, Endpoint, FlowControl, Function, FunctionId, FunctionMode, Json, Opcode, OpcodeError, ReportRefused,
    RunId, RunStatus, Timestamp, limits,
};
use callboard_actors::orchestrator::{Attendance, Begun};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use url::Url;

use crate::error::{Code, Problem};
use crate::http::answer::{SdkError, enveloped, parameter};
use crate::http::body;
use crate::http::sdk::ENVIRONMENT;
use crate::http::sdk::realtime::stream_token;
use crate::http::state::{AppState, State};
use crate::sdk::headers;

/// Bytes of a request that begins a run.
const BEGIN_BYTES: usize = 4 * 1024 * 1024;
/// For how long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How often the store is asked whether the run has ended on another instance.
const LOOK: Duration = Duration::from_secs(1);
/// What the token of a run is for, and for how long it is good, in seconds.
const CLAIM: (&str, u64) = ("run-claim", 60 * 60);
/// For how long the token to follow a run's stream with is good, in seconds.
const STREAM_SECONDS: u64 = 16 * 60;
/// How far the time of a run's id may be from now: clocks differ, by less than that.
const CLOCKS_DIFFER: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn routes(cfg: &mut ServiceConfig, prefix: &str) {
    cfg.service(web::resource(prefix).route(web::post().to(begin)))
        .service(web::resource(format!("{prefix}/{{run}}/steps")).route(web::post().to(steps)))
        .service(web::resource(format!("{prefix}/{{run}}/output")).route(web::route().to(output)));
}

#[derive(Deserialize)]
struct Beginning<'a> {
    run_id: RunId,
    #[serde(borrow)]
    event: Event<'a>,
    #[serde(default, borrow)]
    steps: Option<&'a RawValue>,
    #[serde(default)]
    request_version: Option<i32>,
    #[serde(default)]
    retries: Option<i64>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What of a request names its endpoint.
#[derive(Deserialize)]
struct Asked {
    domain: String,
    method: String,
    path: String,
    #[serde(default, rename = "fn")]
    function: Option<String>,
}

#[derive(Deserialize)]
struct Steps<'a> {
    #[serde(borrow)]
    steps: &'a RawValue,
}

fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidReport, message)
}

fn opcodes(steps: Option<&RawValue>) -> Result<Vec<Opcode>, Problem> {
    let text = steps.map_or("[]", RawValue::get);
    let text = if text == "null" { "[]" } else { text };
    Opcode::parse_reply(text.as_bytes()).map_err(|error| match error {
        OpcodeError::TooLarge(_) => Problem::new(Code::StateTooLarge, error.to_string()),
        error => invalid(error.to_string()),
    })
}

/// An app has begun to serve a request: its run, and steps that it has done already.
async fn begin(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, SdkError> {
    let api = state.api()?;
    let now = api.clock().now();
    let mut permit = state.options.intake.permit();
    let limit = BEGIN_BYTES.max(state.options.request_bytes);
    let body = body::read_with(&req, payload, limit, &mut permit).await?;
    let beginning: Beginning<'_> = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    let run = beginning.run_id;
    if run.at().since(now).max(now.since(run.at())) > CLOCKS_DIFFER {
        return Err(invalid(format!("the time of run {run} is not now: look at the app's clock")).into());
    }
    let ops = opcodes(beginning.steps)?;
    let asked: Asked =
        serde_json::from_str(beginning.event.data.get()).map_err(|error| invalid(format!("event.data: {error}")))?;
    let request = Json::parse(beginning.event.data.get()).map_err(|error| invalid(error.to_string()))?;
    let sdk = req.headers().get(headers::SDK).and_then(|value| value.to_str().ok());
    let sdk = sdk.unwrap_or_default().trim_start_matches("inngest-");
    let (app, function) = endpoint(&asked, sdk, beginning.retries, now)?;
    let (app_id, function_id) = (FunctionId::app_uuid(&app.name), function.id);
    let attendance = Attendance {
        run,
        function,
        app,
        request,
    };
    if api.attend(attendance).await? == Begun::Taken {
        return Err(Problem::new(Code::RunExists, format!("Run already exists: {run}")).into());
    }
    refused(api.attended(run, ops, beginning.request_version.unwrap_or(-1)).await?)?;
    let answer = json!({
        "app_id": app_id,
        "fn_id": function_id,
        "realtime_token": stream_token(&state, &**api, run, now, STREAM_SECONDS),
        "run_id": run,
        "token": claim(&state, run, now),
    });
    Ok(enveloped(&answer, now))
}

/// The endpoint, and the app that stands for all endpoints of its domain.
fn endpoint(asked: &Asked, sdk: &str, retries: Option<i64>, now: Timestamp) -> Result<(App, Function), Problem> {
    let method = asked.method.to_ascii_uppercase();
    let url = Url::parse(&asked.domain).and_then(|domain| domain.join(&asked.path));
    let url = url.map_err(|error| invalid(format!("{}{}: {error}", asked.domain, asked.path)))?;
    if !matches!(url.scheme(), "http" | "https") || method.is_empty() {
        return Err(invalid("an endpoint is called by HTTP"));
    }
    let named = asked.function.clone().filter(|name| !name.trim().is_empty());
    let slug = named.unwrap_or_else(|| format!("{method} {}", asked.path));
    let id = FunctionId::derive(&asked.domain, &slug);
    let retries = retries.and_then(|retries| u32::try_from(retries).ok());
    let retries = retries.unwrap_or(limits::DEFAULT_RETRIES).min(limits::MAX_RETRIES);
    let config = json!({
        "id": id, "name": slug, "slug": slug, "triggers": [],
        "steps": [{"id": "step", "name": "step", "uri": url.as_str(), "retries": {"attempts": retries}}],
        "driver": {"type": "sync", "method": method},
    });
    let name: Arc<str> = asked.domain.as_str().into();
    let function = Function {
        id,
        slug: slug.as_str().into(),
        app: Arc::clone(&name),
        name: slug.clone(),
        version: 0,
        url: url.into(),
        triggers: Vec::new(),
        retries,
        flow: FlowControl::default(),
        config: Json::from_value(&config).unwrap_or_else(|_| Json::null()),
        endpoint: Some(Endpoint {
            // The TypeScript SDK sends them as they are, others as their languages print bytes.
            has_encoded_bodies: !sdk.starts_with("js:"),
        }),
        archived: false,
        mode: FunctionMode::Active,
        caps: Caps::default(),
    };
    let app = App {
        name,
        url: asked.domain.clone(),
        sdk: sdk.to_owned(),
        framework: None,
        version: None,
        checksum: format!("{slug} {retries} {sdk} {}", function.url),
        error: None,
        synced_at: now,
    };
    Ok((app, function))
}

/// Steps of a run that its app is at work on.
async fn steps(run: Path<String>, req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, SdkError> {
    let run: RunId = parameter(&run, || format!("Invalid run ID: {run}"))?;
    let api = state.api()?;
    let mut permit = state.options.intake.permit();
    let limit = limits::REPLY_BYTES.max(state.options.request_bytes);
    let body = body::read_with(&req, payload, limit, &mut permit).await?;
    let wire: Steps<'_> = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    let ops = opcodes(Some(wire.steps))?;
    refused(api.attended(run, ops, -1).await?)?;
    Ok(HttpResponse::Ok().finish())
}

fn refused(taken: Result<(), ReportRefused>) -> Result<(), Problem> {
    taken.map_err(|why| match why {
        ReportRefused::Stale => Problem::new(Code::StaleCall, why.to_string()),
        ReportRefused::TooLarge => Problem::new(Code::StateTooLarge, why.to_string()),
    })
}

fn seconds(now: Timestamp) -> u64 {
    u64::try_from(now.as_millis() / 1_000).unwrap_or(0)
}

/// What the answer of a run is fetched with.
fn claim(state: &AppState, run: RunId, now: Timestamp) -> String {
    let mut claims = Map::new();
    claims.insert("iss".to_owned(), json!("api.inngest.com"));
    claims.insert("Env".to_owned(), json!(ENVIRONMENT));
    claims.insert("RunID".to_owned(), json!(run));
    let (subject, lasting) = CLAIM;
    let now = seconds(now);
    state.tokens.issue(subject, claims, now, now + lasting)
}

#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    token: String,
}

/// The answer to the request that began a run, once there is one.
async fn output(run: Path<String>, shown: Query<Shown>, state: State) -> Result<HttpResponse, SdkError> {
    let run: RunId = parameter(&run, || format!("Invalid run ID: {run}"))?;
    let api = state.api()?;
    let claims = state.tokens.verify(&shown.token, CLAIM.0, seconds(api.clock().now()));
    let is_for_it = claims.is_some_and(|claims| claims.get("RunID") == Some(&json!(run)));
    if !is_for_it {
        return Err(Problem::from(Code::Unauthorized).into());
    }
    let mut watch = api.watch(run);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let view = api.store().run_view(run).await?;
        let view = view.ok_or_else(|| Problem::new(Code::UnknownRun, format!("Unable to load function run: {run}")))?;
        if view.summary.status.is_final() {
            return Ok(answer(view.summary.status, view.summary.output.as_ref()));
        }
        let now = tokio::time::Instant::now();
        if now >= deadline {
            let message = "the run has not ended within five minutes; ask again";
            return Ok(HttpResponse::Ok().json(json!({"status": "running", "message": message})));
        }
        // An end is told here if it is committed here.
        let _ = tokio::time::timeout(LOOK.min(deadline - now), watch.ended()).await;
    }
}

/// What a run has put out: the answer that it is, or its output as JSON.
fn answer(status: RunStatus, output: Option<&Json>) -> HttpResponse {
    let tree = output.map_or(Value::Null, Json::to_tree);
    let found = tree.get("status").and_then(Value::as_u64);
    let found = found.and_then(|status| u16::try_from(status).ok());
    let found = found.and_then(|status| StatusCode::from_u16(status).ok());
    let Some(code) = found.filter(|_| status == RunStatus::Completed) else {
        let body = output.map_or("null", Json::as_str).to_owned();
        return HttpResponse::Ok().content_type("application/json").body(body);
    };
    let mut answer = HttpResponse::build(code);
    for (name, value) in tree.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let name = HeaderName::try_from(name.as_str()).ok();
        let value = value.as_str().and_then(|value| HeaderValue::try_from(value).ok());
        // How the body is framed is for this answer to say.
        let is_ours =
            |name: &HeaderName| !matches!(name.as_str(), "content-length" | "transfer-encoding" | "connection");
        if let (Some(name), Some(value)) = (name.filter(is_ours), value) {
            answer.insert_header((name, value));
        }
    }
    match tree.get("body") {
        None | Some(Value::Null) => answer.finish(),
        Some(Value::String(text)) => answer.body(text.clone()),
        Some(other) => answer.body(other.to_string()),
    }
}
