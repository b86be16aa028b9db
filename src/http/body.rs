//! Reading bodies, within limits, and saying clearly what is wrong with one.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue};
use actix_web::web::{self, Bytes, BytesMut, Payload};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;

use super::intake::Permit;
use super::state::AppState;
use crate::error::{Code, Problem};

/// Above so many bytes, a body is parsed on a thread for such work rather than beside the actors. (At roughly 100 MB/s
/// this is half a millisecond.)
const PARSED_HERE: usize = 64 * 1024;
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// The body of a request.
///
/// # Errors
/// When it is larger than allowed, compressed, cut short, too slow, or there is no room for it now.
pub(super) async fn read(req: &HttpRequest, payload: Payload, state: &AppState) -> Result<Bytes, Problem> {
    let mut permit = state.options.intake.permit();
    read_with(req, payload, state.options.request_bytes, &mut permit).await
}

/// The same, on a permit that outlives the reading.
pub(super) async fn read_with(
    req: &HttpRequest,
    payload: Payload,
    limit: usize,
    permit: &mut Permit,
) -> Result<Bytes, Problem> {
    refuse_encoded(req)?;
    read_as_it_is(req, payload, limit, permit).await
}

/// The same, however it is encoded.
pub(super) async fn read_as_it_is(
    req: &HttpRequest,
    payload: Payload,
    limit: usize,
    permit: &mut Permit,
) -> Result<Bytes, Problem> {
    let announced = req.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let announced = announced.and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
    if announced > limit {
        return Err(too_large(limit));
    }
    let collected = tokio::time::timeout(PATIENCE, collect(payload, limit, permit)).await;
    collected.unwrap_or_else(|_| {
        let message = format!("the body did not arrive within {} s", PATIENCE.as_secs());
        Err(Problem::new(Code::BodyTooSlow, message))
    })
}

/// Has a body understood where that holds nothing up: here, or on a thread for such work. It comes to no more than `most` bytes when it is no longer
/// compressed.
///
/// # Errors
/// Those of `work`, and [`Code::Unavailable`] when the process is about to end.
pub(super) async fn understand<T: Send + 'static>(
    body: Bytes,
    most: usize,
    work: impl FnOnce(Bytes) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    if most <= PARSED_HERE {
        return work(body);
    }
    let understood = web::block(move || work(body)).await;
    understood.map_err(|_| Problem::new(Code::Unavailable, "the server is shutting down"))?
}

/// Refuses a body that would have to be decoded.
///
/// # Errors
/// [`Code::EncodedBody`].
pub(super) fn refuse_encoded(req: &HttpRequest) -> Result<(), Problem> {
    let encoding = req.headers().get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != HeaderValue::from_static("identity")) {
        return Err(Code::EncodedBody.into());
    }
    Ok(())
}

pub(super) fn too_large(limit: usize) -> Problem {
    let message = format!("the request's body is larger than {limit} bytes");
    Problem::new(Code::TooLarge, message)
}

/// Takes room for bytes when they are here, not when they are announced: a sender that stalls must not hold room that
/// others could use.
async fn collect(mut payload: Payload, limit: usize, permit: &mut Permit) -> Result<Bytes, Problem> {
    let mut first: Option<Bytes> = None;
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk =
            chunk.map_err(|error| Problem::new(Code::BodyCutShort, format!("the body was cut short: {error}")))?;
        let length = first.as_ref().map_or(0, Bytes::len) + body.len() + chunk.len();
        if length > limit {
            return Err(too_large(limit));
        }
        if !permit.add_bytes(chunk.len()) {
            return Err(Problem::new(Code::Overloaded, "too many bytes are on their way in"));
        }
        // Most bodies come in one piece, which is then used as it is.
        match first.take() {
            None if body.is_empty() => first = Some(chunk),
            None => body.extend_from_slice(&chunk),
            Some(head) => {
                body.reserve(length);
                body.extend_from_slice(&head);
                body.extend_from_slice(&chunk);
            }
        }
    }
    Ok(first.unwrap_or_else(|| body.freeze()))
}

/// Reads and drops a body that nobody asked for, so that the connection stays usable.
pub(super) async fn discard(mut payload: Payload, limit: usize) {
    let mut seen = 0;
    while let Some(Ok(chunk)) = payload.next().await {
        seen += chunk.len();
        if seen > limit {
            return;
        }
    }
}

/// What a body says.
///
/// # Errors
/// When it is not JSON of that shape.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| malformed(body, &error))
}

/// What is wrong with a body that does not parse.
pub(super) fn malformed(body: &[u8], error: &serde_json::Error) -> Problem {
    let message = error.to_string();
    let code = if message.contains("recursion limit") {
        Code::TooDeep
    } else if std::str::from_utf8(body).is_err() {
        Code::NotUtf8
    } else {
        Code::MalformedJson
    };
    let what = match code {
        Code::TooDeep => "the body is nested too deeply",
        Code::NotUtf8 => "the body is not UTF-8",
        _ if body.is_empty() => return Problem::new(code, "the body is empty"),
        _ => "the body is not valid JSON",
    };
    Problem::new(code, format!("{what}: {message}"))
}
