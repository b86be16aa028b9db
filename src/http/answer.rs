//! The shapes of answers and of errors.
//!
//! Our own API: the thing itself, or `{"error":{"code","message","remedy","details"?}}`. SDK routes: the envelopes that
//! SDKs know, with our code beside the text.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use callboard_actors::domain::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::error::{Code, Problem};

const JSON: (actix_web::http::header::HeaderName, &str) = (CONTENT_TYPE, "application/json");

/// Our own API's body of an error.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorDetail {
    /// A stable code, listed in docs/errors.md.
    #[schema(example = "CB-1102")]
    code: &'static str,
    /// This very case.
    message: String,
    /// What to do about it.
    remedy: &'static str,
    /// Particulars for programs, by code.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Value>,
}

fn builder(problem: &Problem) -> HttpResponseBuilder {
    let code = problem.code;
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(%code, problem.message, "request failed");
    }
    let mut builder = HttpResponse::build(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        builder.insert_header((RETRY_AFTER, "1"));
    }
    builder.insert_header(JSON);
    builder
}

/// An error of our own API.
pub(super) fn own_error(problem: &Problem) -> HttpResponse {
    let error = ErrorDetail {
        code: problem.code.as_str(),
        message: problem.message.clone(),
        remedy: problem.code.remedy(),
        details: problem.details.clone(),
    };
    builder(problem).json(ErrorBody { error })
}

/// An error of a route that SDKs use.
pub(super) fn sdk_error(problem: &Problem) -> HttpResponse {
    sdk_error_as(problem, problem.code.as_str())
}

/// The same, where SDKs know a code of their own.
pub(super) fn sdk_error_as(problem: &Problem, code: &str) -> HttpResponse {
    builder(problem).json(json!({
        "code": code,
        "error": problem.message,
        "data": problem.details,
        "status": problem.code.status(),
    }))
}

/// An error of `/e` and `/invoke`: with the ids of the events that were accepted before it.
pub(super) fn events_error(problem: &Problem, ids: &[String]) -> HttpResponse {
    builder(problem).json(json!({
        "ids": ids,
        "status": problem.code.status(),
        "error": problem.message,
        "code": problem.code.as_str(),
    }))
}

/// A success of `/v1`.
pub(super) fn enveloped(data: &impl Serialize, now: Timestamp) -> HttpResponse {
    enveloped_as(StatusCode::OK, data, now)
}

/// The same with another status.
pub(super) fn enveloped_as(status: StatusCode, data: &impl Serialize, now: Timestamp) -> HttpResponse {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        data: &'a T,
        metadata: Value,
    }
    let metadata = json!({"fetched_at": now.to_rfc3339(), "cached_until": null});
    HttpResponse::build(status).json(Envelope { data, metadata })
}

/// A problem on its way out of a handler of our own API.
#[derive(Debug)]
pub(super) struct OwnError(pub(super) Problem);

/// A problem on its way out of a handler of an SDK route.
#[derive(Debug)]
pub(super) struct SdkError(pub(super) Problem);

macro_rules! outgoing {
    ($name:ident, $print:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl ResponseError for $name {
            fn error_response(&self) -> HttpResponse {
                $print(&self.0)
            }
        }

        impl<T: Into<Problem>> From<T> for $name {
            fn from(problem: T) -> Self {
                Self(problem.into())
            }
        }
    };
}

outgoing!(OwnError, own_error);
outgoing!(SdkError, sdk_error);

/// A parameter of the path or query, parsed.
///
/// # Errors
/// [`Code::InvalidParameter`] with `message`.
pub(super) fn parameter<T: std::str::FromStr>(text: &str, message: impl FnOnce() -> String) -> Result<T, Problem> {
    text.parse()
        .map_err(|_| Problem::new(Code::InvalidParameter, message()))
}

/// An error of `/invoke`. The protocol has one status for a slug and for a body that won't do.
pub(super) fn invoke_error(problem: &Problem) -> HttpResponse {
    let status = match problem.code {
        Code::UnknownFunction => StatusCode::BAD_REQUEST,
        code => StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    };
    builder(problem).status(status).json(json!({
        "status": status.as_u16(),
        "error": problem.message,
        "code": problem.code.as_str(),
    }))
}
