//! What an app's answer means: from status, headers and bytes to a [`Reply`].
//!
//! An answer without the SDK's header never completes anything, whatever its status: proxies and wrong paths like
//! to answer 200. Text that is no JSON is kept as a JSON string, JSON that was encoded twice is decoded, an answer
//! that was streamed is unwrapped first. `Retry-After` stays text, for the engine to interpret.
//!
//! Promises: any bytes give a [`Reply`], never a panic. Never looks at the clock or the network.

use callboard_actors::domain::{Failure, Json, Opcode, OpcodeError, Reply, limits};
use serde_json::Value;

use super::headers;

/// The headers of an answer that matter, empty ones left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// HTTP status.
    pub status: u16,
    /// Which SDK answers.
    pub sdk: Option<String>,
    /// Version of the request protocol that it speaks.
    pub request_version: Option<String>,
    /// `true` if another attempt is forbidden.
    pub no_retry: Option<String>,
    /// When to try again.
    pub retry_after: Option<String>,
}

impl Head {
    /// Picks the headers that matter.
    pub fn new<'a>(status: u16, lookup: impl Fn(&str) -> Option<&'a str>) -> Self {
        let text = |name| {
            lookup(name)
                .map(str::trim)
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        Self {
            status,
            sdk: text(headers::SDK),
            request_version: text(headers::REQUEST_VERSION),
            no_retry: text(headers::NO_RETRY),
            retry_after: text(headers::RETRY_AFTER),
        }
    }

    /// Only this exact word forbids: SDKs send `false` as well.
    fn forbids_retry(&self) -> bool {
        self.no_retry.as_deref() == Some("true")
    }

    /// A header that is missing, or no number, stands for version 0.
    fn version(&self) -> i32 {
        self.request_version
            .as_deref()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    fn failed(self, failure: Failure) -> Reply {
        Reply::Failed {
            failure,
            status: Some(self.status),
            no_retry: self.forbids_retry(),
            retry_after: self.retry_after,
        }
    }

    /// A failure that is the server's finding, not the app's: whatever the headers say, it is worth another attempt.
    fn misunderstood(self, failure: Failure) -> Reply {
        Reply::Failed {
            failure,
            status: Some(self.status),
            no_retry: false,
            retry_after: self.retry_after,
        }
    }
}

/// Understands an answer.
#[must_use]
pub fn read(head: Head, body: &[u8]) -> Reply {
    if body.len() > limits::REPLY_BYTES {
        return too_large(head);
    }
    if head.status == 201 {
        return match unwrap_stream(&head, body) {
            Ok((head, body)) => read_plain(head, &body),
            Err(failure) => head.misunderstood(*failure),
        };
    }
    read_plain(head, body)
}

/// The reply that stands for an answer whose body exceeds the limit.
#[must_use]
pub fn too_large(head: Head) -> Reply {
    head.misunderstood(Failure::new(
        "output_too_large",
        "Your function's response body exceeds the maximum size limit",
    ))
}

fn read_plain(head: Head, body: &[u8]) -> Reply {
    if head.sdk.is_none() {
        return read_foreign(head, body);
    }
    match head.status {
        206 => read_steps(head, body),
        200..=299 if head.forbids_retry() => {
            let failure = function_failure(head.status, body);
            head.failed(failure)
        }
        200..=299 => Reply::Returned(output(body)),
        status => {
            let failure = function_failure(status, body);
            head.failed(failure)
        }
    }
}

fn read_steps(head: Head, body: &[u8]) -> Reply {
    let inner = encoded_twice(body);
    match Opcode::parse_reply(inner.as_deref().unwrap_or(body)) {
        Ok(ops) => Reply::Steps {
            ops,
            request_version: head.version(),
            no_retry: head.forbids_retry(),
            retry_after: head.retry_after,
        },
        // Another attempt would plan as many.
        Err(OpcodeError::TooMany(_)) => Reply::Failed {
            failure: Failure::of_step_limit(limits::OPCODES_PER_REPLY),
            status: Some(head.status),
            no_retry: true,
            retry_after: None,
        },
        Err(error) => {
            let failure = Failure::new("Error", format!("the app's answer could not be understood: {error}"));
            head.misunderstood(failure)
        }
    }
}

/// The bytes within a JSON string that holds an array or an object.
fn encoded_twice(body: &[u8]) -> Option<Vec<u8>> {
    if !body.trim_ascii_start().starts_with(b"\"") {
        return None;
    }
    let text: String = serde_json::from_slice(body).ok()?;
    text.trim_start().starts_with(['[', '{']).then(|| text.into_bytes())
}

/// What a function returned: nothing is `null`, text is a string, an object within a string is the object.
fn output(body: &[u8]) -> Json {
    if body.trim_ascii().is_empty() {
        return Json::null();
    }
    if let Some(inner) = encoded_twice(body)
        && inner.trim_ascii_start().starts_with(b"{")
        && let Ok(json) = Json::parse_bytes(&inner)
    {
        return json;
    }
    Json::parse_bytes(body).unwrap_or_else(|_| text(body))
}

fn text(body: &[u8]) -> Json {
    Json::from_value(&String::from_utf8_lossy(body)).expect("a string is representable")
}

/// The error of a function that threw. Its summary repeats the status, where the app has nothing to say there: error
/// handlers written against the original server look at it.
fn function_failure(status: u16, body: &[u8]) -> Failure {
    let summary = format!("invalid status code: {status}");
    if body.trim_ascii().is_empty() {
        return Failure::new("Error", summary.as_str()).with("error", summary);
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => {
            let failure = Failure::from_reply(&value);
            if value.is_object() {
                failure.summed_up(summary)
            } else {
                failure.with("error", summary)
            }
        }
        Err(_) => Failure::new("Error", excerpt(body)).with("error", summary),
    }
}

/// An answer that no SDK gave.
fn read_foreign(head: Head, body: &[u8]) -> Reply {
    let status = head.status;
    let failure = match status {
        200..=299 => Failure::new(
            "not_sdk",
            format!(
                "The app's URL answered HTTP {status}, but not through an SDK: the header X-Inngest-SDK is missing. \
                 Check that the URL is the one that the SDK serves, and what stands between"
            ),
        ),
        // The TypeScript SDK leaves its header out when it refuses a signature.
        401 => Failure::new(
            "Server returned a fatal error",
            "Your server returned HTTP 401 before the SDK responded. If an SDK answered, it refused our signature: \
             give the app the same INNGEST_SIGNING_KEY as this server, or set INNGEST_DEV=1 in the app if this \
             server runs without keys",
        ),
        _ => Failure::new(
            "Server returned a fatal error",
            format!("Your server returned HTTP {status} before the SDK responded."),
        ),
    };
    let failure = match excerpt(body) {
        excerpt if excerpt.is_empty() => failure,
        excerpt => failure.with("stack", excerpt),
    };
    head.misunderstood(failure)
}

/// The beginning of a body, for people.
fn excerpt(body: &[u8]) -> String {
    let end = body.len().min(limits::FOREIGN_BODY_BYTES);
    String::from_utf8_lossy(&body[..end]).trim().to_owned()
}

/// Unwraps a streamed answer: `{"status":…,"headers":{…},"body":…}` after blanks that kept the connection alive.
fn unwrap_stream(head: &Head, body: &[u8]) -> Result<(Head, Vec<u8>), Box<Failure>> {
    let wrapper: Option<serde_json::Map<String, Value>> = serde_json::from_slice(body).ok();
    let status = wrapper.as_ref().and_then(|wrapper| wrapper.get("status"));
    let status = status
        .and_then(Value::as_u64)
        .and_then(|status| u16::try_from(status).ok());
    let (Some(mut wrapper), Some(status)) = (wrapper, status) else {
        let failure = if head.sdk.is_some() {
            Failure::new(
                "Error",
                "the app's streamed answer (HTTP 201) is not the object it should be",
            )
        } else {
            Failure::new("not_sdk", "The app's URL answered HTTP 201, but not through an SDK")
        };
        return Err(Box::new(failure.with("stack", excerpt(body))));
    };
    match wrapper.get("error") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => return Err(Box::new(Failure::new("Error", text.as_str()))),
        Some(other) => return Err(Box::new(Failure::from_reply(other))),
    }
    let own = |name: &str| {
        let headers = wrapper.get("headers")?.as_object()?;
        let (_, value) = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        value.as_str()
    };
    let mut inner = Head::new(status, own);
    // The Go SDK says it beside the headers.
    if wrapper.get("noRetry").and_then(Value::as_bool) == Some(true) {
        inner.no_retry.get_or_insert_with(|| "true".to_owned());
    }
    let retry_at = wrapper.get("retryAt").and_then(Value::as_str).map(str::to_owned);
    inner.sdk = inner.sdk.or_else(|| head.sdk.clone());
    inner.request_version = inner.request_version.or_else(|| head.request_version.clone());
    inner.no_retry = inner.no_retry.or_else(|| head.no_retry.clone());
    inner.retry_after = inner.retry_after.or(retry_at).or_else(|| head.retry_after.clone());
    let body = match wrapper.remove("body") {
        None | Some(Value::Null) => Vec::new(),
        // The TypeScript and Python SDKs send the body's text, the Go SDK the body itself.
        Some(Value::String(text)) => text.into_bytes(),
        Some(other) => other.to_string().into_bytes(),
    };
    Ok((inner, body))
}

#[cfg(test)]
mod tests;
