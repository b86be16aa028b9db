//! Requests on an app's behalf: `step.fetch` and `step.ai.infer`.
//!
//! Pure: from options to a request, from an answer to the memo in the shape that the SDKs decode. Plain text bodies go
//! out as they are: the original server sends them as a JSON string, which no receiver of a form or a text expects.
//!
//! Never prints options: they hold the user's credentials.

use actix_web::http::header::HeaderMap;
use awc::http::Method;
use bytes::Bytes;
use callboard_actors::domain::{Failure, FetchFailure, FetchRequest, GatewayOptions, Json};
use serde_json::{Map, Value, json};
use url::Url;

use super::USER_AGENT;
use super::transport::{Incoming, Outgoing, TransportError};

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anyone; any HTTP status is an answer.
    Web,
    /// A model provider; only success is.
    Model,
}

impl Kind {
    /// Who is asked by this request.
    #[must_use]
    pub fn of(request: &FetchRequest) -> Self {
        if request.ai { Self::Model } else { Self::Web }
    }

    fn error_name(self) -> &'static str {
        match self {
            Self::Web => "GatewayError",
            Self::Model => "AIGatewayError",
        }
    }

    fn failure(self, message: impl Into<String>) -> FetchFailure {
        let failure = Failure::new(self.error_name(), message);
        // The Go SDK decodes `data` of a model's error without looking whether it is there.
        let failure = match self {
            Self::Web => failure,
            Self::Model => failure.with("data", Value::Null),
        };
        FetchFailure { failure }
    }
}

/// The request to be sent.
///
/// # Errors
/// When URL or method make no sense.
pub fn build(request: &FetchRequest) -> Result<Outgoing, FetchFailure> {
    let kind = Kind::of(request);
    let options = &request.options;
    // The URL itself is not repeated: it may hold a credential.
    let mut url = Url::parse(&options.url).map_err(|error| kind.failure(format!("the URL is not valid: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(kind.failure(format!(
            "the URL has the scheme `{}`; only http and https work",
            url.scheme()
        )));
    }
    let mut headers = vec![("user-agent".to_owned(), USER_AGENT.to_owned())];
    let (method, body) = match kind {
        Kind::Web => web(options).map_err(|problem| kind.failure(problem))?,
        Kind::Model => {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
            headers.extend(credential(options, &mut url));
            (Method::POST, options.body.as_ref().map(Value::to_string))
        }
    };
    for (name, value) in &options.headers {
        // The body's length is ours to say, and who the connection is for.
        if matches!(
            name.to_ascii_lowercase().as_str(),
            "content-length" | "host" | "transfer-encoding"
        ) {
            continue;
        }
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        headers.push((name.clone(), value.clone()));
    }
    Ok(Outgoing {
        method,
        url,
        headers,
        body: body.map(Bytes::from),
    })
}

fn web(options: &GatewayOptions) -> Result<(Method, Option<String>), String> {
    let method = match options.method.as_deref().map(str::trim).unwrap_or_default() {
        "" => Method::POST,
        text => Method::from_bytes(text.to_ascii_uppercase().as_bytes())
            .map_err(|_| "the method is not valid".to_owned())?,
    };
    let body = match &options.body {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    };
    Ok((method, body))
}

/// Puts the credential where the provider looks for it: a header, or the URL.
fn credential(options: &GatewayOptions, url: &mut Url) -> Option<(String, String)> {
    let key = options.auth_key.as_deref().filter(|key| !key.is_empty())?;
    match options.format.as_deref().unwrap_or_default() {
        "anthropic" => Some(("x-api-key".to_owned(), key.to_owned())),
        // SDKs write it into the URL themselves.
        "gemini" if url.query_pairs().any(|(name, _)| name == "key") => None,
        "gemini" => {
            url.query_pairs_mut().append_pair("key", key);
            None
        }
        "bedrock" => Some(("authorization".to_owned(), key.to_owned())),
        _ => Some(("authorization".to_owned(), format!("Bearer {key}"))),
    }
}

/// The memo of an answer.
///
/// # Errors
/// When a model provider answers with anything but success, or with something that is no JSON.
pub fn memo(kind: Kind, answer: &Incoming) -> Result<Json, FetchFailure> {
    let text = String::from_utf8_lossy(&answer.body);
    match kind {
        Kind::Web => {
            let value = json!({
                "url": answer.url.as_str(),
                "headers": joined(&answer.headers),
                "body": text,
                "status_code": answer.status,
            });
            let memo = Json::from_value(&value).map_err(|error| kind.failure(error.to_string()))?;
            Ok(memo.wrapped("data"))
        }
        Kind::Model if (200..300).contains(&answer.status) => {
            let data = Json::parse(&text)
                .map_err(|error| kind.failure(format!("the provider's answer is not JSON: {error}")))?;
            Ok(data.wrapped("data"))
        }
        Kind::Model => {
            let data: Value = serde_json::from_str(&text).unwrap_or_default();
            let message = format!("the provider answered HTTP {}", answer.status);
            let FetchFailure { failure } = kind.failure(message);
            Err(FetchFailure {
                failure: failure.with("data", data).with("stack", text.as_ref()),
            })
        }
    }
}

/// The failure that nobody answered.
#[must_use]
pub fn transport_failure(kind: Kind, error: &TransportError) -> FetchFailure {
    kind.failure(error.to_string())
}

/// Headers by their customary names, repeated ones joined by a comma.
fn joined(headers: &HeaderMap) -> Map<String, Value> {
    let mut joined = Map::new();
    for (name, value) in headers {
        let text = String::from_utf8_lossy(value.as_bytes());
        let entry = joined
            .entry(customary(name.as_str()))
            .or_insert_with(|| Value::String(String::new()));
        if let Value::String(all) = entry {
            if !all.is_empty() {
                all.push(',');
            }
            all.push_str(&text);
        }
    }
    joined
}

/// `content-type` as `Content-Type`.
fn customary(name: &str) -> String {
    let mut start = true;
    name.chars()
        .map(|c| {
            let upper = if start {
                c.to_ascii_uppercase()
            } else {
                c.to_ascii_lowercase()
            };
            start = c == '-';
            upper
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;

    fn request(ai: bool, options: &Value) -> FetchRequest {
        FetchRequest {
            options: serde_json::from_value(options.clone()).expect("options"),
            ai,
            timeout: Duration::from_secs(1),
        }
    }

    fn header<'a>(request: &'a Outgoing, name: &str) -> Option<&'a str> {
        let (_, value) = request
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    #[rstest]
    #[case("openai-chat", "https://h/v1?a=1", "authorization", Some("Bearer secret"))]
    #[case("", "https://h/v1?a=1", "authorization", Some("Bearer secret"))]
    #[case("anthropic", "https://h/v1?a=1", "x-api-key", Some("secret"))]
    #[case("bedrock", "https://h/v1?a=1", "authorization", Some("secret"))]
    #[case("gemini", "https://h/v1?a=1&key=secret", "authorization", None)]
    fn providers_find_their_credential(
        #[case] format: &str,
        #[case] url: &str,
        #[case] name: &str,
        #[case] value: Option<&str>,
    ) {
        let options = json!({"url": "https://h/v1?a=1", "auth_key": "secret", "format": format,
            "headers": {"X-Extra": "1", "Content-Length": "7"}, "body": {"model": "m"}});
        let built = build(&request(true, &options)).expect("valid");
        assert_eq!((built.url.as_str(), header(&built, name)), (url, value));
        assert_eq!(header(&built, "x-extra"), Some("1"));
        assert_eq!(header(&built, "content-length"), None);
        assert_eq!(header(&built, "content-type"), Some("application/json"));
        assert_eq!(built.method, Method::POST);
        assert_eq!(built.body.as_deref(), Some(br#"{"model":"m"}"#.as_slice()));
    }

    #[test]
    fn a_credential_that_stands_in_the_url_is_not_repeated() {
        let options =
            json!({"url": "https://h/m:generateContent?key=a", "auth_key": "a", "format": "gemini", "body": {}});
        let built = build(&request(true, &options)).expect("valid");
        assert_eq!(built.url.as_str(), "https://h/m:generateContent?key=a");
    }

    #[rstest]
    #[case(json!({"url": "http://h/", "method": "get"}), Method::GET, None)]
    #[case(json!({"url": "http://h/", "body": "plain text"}), Method::POST, Some("plain text"))]
    #[case(json!({"url": "http://h/", "method": "PUT", "body": "{\"a\":1}", "headers": null}), Method::PUT, Some("{\"a\":1}"))]
    fn web_requests(#[case] options: Value, #[case] method: Method, #[case] body: Option<&str>) {
        let built = build(&request(false, &options)).expect("valid");
        assert_eq!((built.method, built.body.as_deref()), (method, body.map(str::as_bytes)));
    }

    #[rstest]
    #[case(json!({"url": "file:///etc/passwd"}))]
    #[case(json!({"url": "nonsense?key=secret"}))]
    #[case(json!({"url": "http://h/", "method": "GE T"}))]
    fn refused_without_repeating_the_url(#[case] options: Value) {
        let FetchFailure { failure } = build(&request(false, &options)).expect_err("refused");
        assert_eq!(failure.name(), "GatewayError");
        assert!(!failure.message().contains("secret"));
    }

    fn answer(status: u16, body: &'static str) -> Incoming {
        let mut headers = HeaderMap::new();
        for value in ["a", "b"] {
            headers.append(
                actix_web::http::header::HeaderName::from_static("x-twice"),
                actix_web::http::header::HeaderValue::from_static(value),
            );
        }
        Incoming {
            status,
            headers,
            url: Url::parse("http://h/x").expect("url"),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn any_status_is_an_answer_from_the_web() {
        let memo = memo(Kind::Web, &answer(500, "oh")).expect("memo").to_tree();
        let data = json!({"url": "http://h/x", "headers": {"X-Twice": "a,b"}, "body": "oh", "status_code": 500});
        assert_eq!(memo, json!({"data": data}));
    }

    #[test]
    fn a_model_answers_with_json_and_success() {
        let ok = memo(Kind::Model, &answer(200, r#"{"text":"hi"}"#)).expect("memo");
        assert_eq!(ok.as_str(), r#"{"data":{"text":"hi"}}"#);
        let refused = memo(Kind::Model, &answer(429, r#"{"error":"slow down"}"#)).expect_err("refused");
        let error = refused.failure.to_value();
        assert_eq!(error["name"], json!("AIGatewayError"));
        assert_eq!(error["data"], json!({"error": "slow down"}));
        assert_eq!(error["stack"], json!(r#"{"error":"slow down"}"#));
        let text = memo(Kind::Model, &answer(200, "<html>")).expect_err("refused");
        assert_eq!(text.failure.to_value()["data"], Value::Null);
    }
}
