//! `/v1/realtime`: tokens, subscribing by WebSocket or server-sent events, publishing. See [`crate::realtime`].
//!
//! Whoever subscribes shows a token, even where no key is asked for: it says what to. Whoever publishes shows a key, or a
//! token that allows it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap,
};
use actix_web::web::{self, Bytes, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::{RunId, Timestamp};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;
use ulid::Ulid;
use url::form_urlencoded;

use crate::error::{Code, Problem};
use crate::http::answer::{SdkError, parameter};
use crate::http::body;
use crate::http::state::{Api, AppState, State};
use crate::realtime::{
    self, About, Connection, Datastream, Frame, Grant, MESSAGE_BYTES, Pace, Refused, SAID_BYTES, STREAM, STREAM_BYTES,
    Topic,
};
use crate::sdk::signing;
use crate::websocket;

/// For how long a token to subscribe with is good, in seconds.
const TOKEN_SECONDS: u64 = 60;
/// Bytes of a wish for a token.
const WISH_BYTES: usize = 64 * 1024;
/// How long a stream that is published may be silent: as long as one that is read lasts.
const SILENCE: Duration = Duration::from_secs(15 * 60);
/// A body of this type is told piece by piece.
const STREAM_TYPE: &str = "text/stream";
/// Where to publish.
const PUBLISH: [&str; 2] = ["/v1/realtime/publish", "/v1/realtime/publish/tee"];

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/realtime/token").route(web::post().to(token)))
        .service(web::resource("/realtime/connect").route(web::get().to(connect)))
        .service(web::resource("/realtime/sse").route(web::get().to(sse)))
        .service(web::resource("/realtime/publish").route(web::post().to(publish)))
        .service(web::resource("/realtime/publish/tee").route(web::post().to(tee)));
}

/// Whether a request with this `Authorization` is one to publish, with a token that allows it.
pub(in crate::http) fn may_publish(path: &str, header: &str, state: &AppState) -> bool {
    let Ok(api) = state.api() else { return false };
    let grant = || Grant::read(&state.tokens, signing::bearer(header), api.clock().now());
    PUBLISH.contains(&path.trim_end_matches('/')) && grant().is_some_and(|grant| grant.publishes)
}

/// A token to follow the stream of a run with, for so many seconds.
pub(super) fn stream_token(state: &AppState, api: &dyn Api, run: RunId, now: Timestamp, seconds: u64) -> String {
    let grant = Grant::to_read(vec![Topic::new(&run.to_string(), STREAM)]);
    grant.issue(&state.tokens, id(api, now), now, seconds)
}

/// An id unlike any other.
fn id(api: &dyn Api, now: Timestamp) -> Ulid {
    let bytes = RunId::new(now, api.random().bits()).to_bytes();
    Ulid::from_bytes(bytes)
}

fn bearer(headers: &HeaderMap) -> &str {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    signing::bearer(header.unwrap_or_default())
}

/// The first parameter of this name in the query.
fn asked(req: &HttpRequest, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(req.query_string().as_bytes());
    let (_, value) = pairs.find(|(known, _)| known == name)?;
    Some(value.into_owned())
}

async fn token(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, SdkError> {
    let api = state.api()?;
    let mut permit = state.options.intake.permit();
    let body = body::read_with(&req, payload, WISH_BYTES, &mut permit).await?;
    let wish: Vec<Value> = body::parse(&body)?;
    let topics = realtime::read_topics(wish.into());
    let topics = topics.ok_or_else(|| {
        let message = "each topic is an object with the texts `channel` and `name`";
        Problem::new(Code::InvalidParameter, message)
    })?;
    if topics.len() > realtime::OF_SUBSCRIBER {
        return Err(refused(Refused::TooManyTopics).into());
    }
    let now = api.clock().now();
    let token = Grant::to_read(topics).issue(&state.tokens, id(&**api, now), now, TOKEN_SECONDS);
    Ok(HttpResponse::Created().json(json!({ "jwt": token })))
}

/// What a subscriber's token allows.
fn shown(req: &HttpRequest, state: &AppState) -> Result<Grant, Problem> {
    let now = state.api()?.clock().now();
    let token = asked(req, "token").unwrap_or_else(|| bearer(req.headers()).to_owned());
    Grant::read(&state.tokens, &token, now).ok_or_else(|| Code::RealtimeToken.into())
}

fn refused(why: Refused) -> Problem {
    let code = match why {
        Refused::Full | Refused::TooManyStreams => Code::Overloaded,
        Refused::TooManyTopics => Code::InvalidParameter,
        Refused::Closing => Code::Unavailable,
    };
    Problem::new(code, why.to_string())
}

async fn connect(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, actix_web::Error> {
    let clock = Arc::clone(state.api().map_err(SdkError::from)?.clock());
    let grant = shown(&req, &state).map_err(SdkError::from)?;
    let payload = websocket::watched(&req, payload, SAID_BYTES)?;
    let (answer, session, frames) = actix_ws::handle(&req, payload)?;
    let subscribed = state.options.realtime.subscribe(grant.topics).await;
    let frames = frames.max_frame_size(SAID_BYTES).aggregate_continuations();
    let connection = Connection {
        session,
        frames: frames.max_continuation_size(SAID_BYTES),
        subscription: subscribed.map_err(|why| SdkError::from(refused(why)))?,
    };
    let now = Arc::clone(&clock);
    let read = move |token: &str| Grant::read(&state.tokens, token, now.now());
    actix_web::rt::spawn(realtime::serve(connection, read, clock));
    Ok(answer)
}

async fn sse(req: HttpRequest, state: State) -> Result<HttpResponse, SdkError> {
    let grant = shown(&req, &state)?;
    let subscribed = state.options.realtime.subscribe(grant.topics).await;
    let subscription = subscribed.map_err(refused)?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .insert_header((ACCESS_CONTROL_EXPOSE_HEADERS, "Content-Type"))
        // Balancers that collect answers before they pass them on leave this one alone.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(realtime::events(subscription, Pace::default())))
}

/// The channel a publisher names, if it may publish at all.
fn channel(req: &HttpRequest, state: &AppState) -> Result<String, Problem> {
    let now = state.api()?.clock().now();
    // A token to read with is none to publish with, even where nobody is asked for anything.
    let grant = Grant::read(&state.tokens, bearer(req.headers()), now);
    if grant.is_some_and(|grant| !grant.publishes) {
        return Err(Problem::new(Code::Unauthorized, "this token does not allow to publish"));
    }
    named(req, "channel")
}

fn named(req: &HttpRequest, name: &str) -> Result<String, Problem> {
    let value = asked(req, name).filter(|value| !value.is_empty());
    value.ok_or_else(|| Problem::new(Code::InvalidParameter, format!("`{name}` is missing")))
}

fn about(req: &HttpRequest, state: &AppState) -> Result<About, Problem> {
    let topic = Topic::new(&channel(req, state)?, &named(req, "topic")?);
    let run = asked(req, "run_id").filter(|run| !run.is_empty());
    let run = run.map(|run| parameter(&run, || format!("Invalid run ID: {run}")));
    let metadata = asked(req, "metadata").filter(|metadata| !metadata.is_empty());
    let metadata = metadata.map(|metadata| {
        let parsed = realtime::one_line(&metadata);
        parsed.ok_or_else(|| Problem::new(Code::InvalidParameter, "`metadata` is not JSON"))
    });
    Ok(About {
        topic,
        run: run.transpose()?,
        metadata: metadata.transpose()?,
    })
}

async fn publish(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, SdkError> {
    let api = state.api()?;
    let about = about(&req, &state)?;
    let broadcaster = &state.options.realtime;
    let now = api.clock().now();
    let content_type = req.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    if content_type.trim().eq_ignore_ascii_case(STREAM_TYPE) {
        body::refuse_encoded(&req)?;
        let _room = broadcaster.stream().map_err(refused)?;
        let mut stream = Datastream::begin(broadcaster.clone(), Arc::clone(api.clock()), about, id(&**api, now));
        let pushed = forward(payload, |bytes| stream.push(&bytes).is_ok()).await;
        // Its end is told before the answer.
        drop(stream);
        pushed?;
    } else {
        let mut permit = state.options.intake.permit();
        let body = body::read_with(&req, payload, MESSAGE_BYTES, &mut permit).await?;
        broadcaster.publish(&about.topic, &realtime::data(&about, &body, now));
    }
    Ok(HttpResponse::Ok().finish())
}

/// Passes a run's own stream on.
async fn tee(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, SdkError> {
    let topic = Topic::new(&channel(&req, &state)?, STREAM);
    body::refuse_encoded(&req)?;
    let _room = state.options.realtime.stream().map_err(refused)?;
    let mut room = STREAM_BYTES;
    let pass_on = |mut bytes: Bytes| {
        let is_all = bytes.len() <= room;
        bytes.truncate(room);
        room -= bytes.len();
        if !bytes.is_empty() {
            state.options.realtime.publish(&topic, &Frame::Raw(bytes));
        }
        is_all
    };
    forward(payload, pass_on).await?;
    Ok(HttpResponse::Ok().finish())
}

/// Passes each part of a body on when it is here, until one is not taken. It may take as long as whoever sends it takes to
/// make it, if that is not silent for too long: the TypeScript SDK never ends the streams of some steps.
async fn forward(mut payload: Payload, mut take: impl FnMut(Bytes) -> bool) -> Result<(), Problem> {
    let too_slow = |_| Problem::new(Code::BodyTooSlow, format!("nothing came for {} s", SILENCE.as_secs()));
    while let Some(part) = timeout(SILENCE, payload.next()).await.map_err(too_slow)? {
        let part =
            part.map_err(|error| Problem::new(Code::BodyCutShort, format!("the body was cut short: {error}")))?;
        if !take(part) {
            let message = format!("a stream has at most {STREAM_BYTES} bytes; the rest was not published");
            return Err(Problem::new(Code::TooLarge, message));
        }
    }
    Ok(())
}
