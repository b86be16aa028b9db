//! A call of a durable endpoint: the request that began the run, once more.
//!
//! Method, path, query and body are those of the run's event; that it is the server who calls is told by headers, the
//! signature among them, which is there even if it is empty. The app fetches events and steps itself.

use actix_web::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use callboard_actors::domain::{Call, Endpoint, Json, Target};
use serde_json::Value;
use url::Url;

use super::{CallError, Request, generation, trace_context};
use crate::sdk::headers;
use crate::sdk::signing::SigningKey;

/// Builds the request. `now` is the time of the signature, in seconds since the epoch.
pub(super) fn build(call: &Call, endpoint: Endpoint, key: Option<&SigningKey>, now: u64) -> Result<Request, CallError> {
    let event = call.events.first().map_or(Value::Null, Json::to_tree);
    let text = |name: &str| event["data"][name].as_str().unwrap_or_default();
    let url = url_of(text("domain"), text("path"), text("query_params"))?;
    let method = text("method").to_ascii_uppercase();
    let method = Method::from_bytes(method.as_bytes()).map_err(|error| CallError::Request(error.to_string()))?;
    let body = if endpoint.has_encoded_bodies {
        let decoded = BASE64.decode(text("body"));
        decoded.map_err(|error| CallError::Request(format!("its body is no base64: {error}")))?
    } else {
        text("body").as_bytes().to_vec()
    };
    let mut headers = vec![
        (headers::RUN_ID, call.run.to_string()),
        (headers::REQUEST_VERSION, call.request_version.to_string()),
        (headers::REQUEST_ID, call.ticket.call.request.to_string()),
        (headers::GENERATION_ID, generation(call).to_string()),
        (
            headers::SIGNATURE,
            key.map_or_else(String::new, |key| key.sign(&body, now)),
        ),
    ];
    headers.extend(trace_context(call));
    let content_type = text("content_type");
    if !content_type.is_empty() {
        headers.push(("content-type", content_type.to_owned()));
    }
    if call.plan_only {
        headers.push((headers::FORCE_STEP_PLAN, "true".to_owned()));
    }
    if let Target::Step(step) = &call.target {
        headers.push((headers::STEP_ID, step.to_string()));
    }
    Ok(Request {
        method,
        url,
        headers,
        body: body.into(),
        offloaded: true,
    })
}

fn url_of(domain: &str, path: &str, query: &str) -> Result<Url, CallError> {
    let parsed = Url::parse(domain).and_then(|domain| domain.join(path));
    let mut url = parsed.map_err(|reason| CallError::Url {
        url: format!("{domain}{path}"),
        reason,
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(CallError::Scheme(url.scheme().to_owned()));
    }
    url.set_query(Some(query).filter(|query| !query.is_empty()));
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use callboard_actors::domain::{FunctionId, RunId, Timestamp};
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn call(data: &Value) -> Call {
        let event = json!({"name": "inngest/http.request", "data": data});
        Call {
            url: "http://shop:3000/order".to_owned(),
            endpoint: Some(Endpoint {
                has_encoded_bodies: false,
            }),
            run: RunId::new(Timestamp::from_millis(1_750_000_000_000), 7),
            function: FunctionId::derive("shop", "GET /order"),
            app: "http://shop:3000".into(),
            target: Target::Discovery,
            ticket: "7.2.01JZ0000000000000000000009.start".parse().expect("a ticket"),
            may_report: true,
            attempt: 2,
            max_attempts: 4,
            request_version: 2,
            plan_only: false,
            stack: Vec::new(),
            stack_current: 0,
            events: Arc::from([Json::from_value(&event).expect("JSON")]),
            defers: Vec::new(),
            steps: Vec::new(),
        }
    }

    fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
        let found = request.headers.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }

    #[test]
    fn the_request_is_made_once_more() {
        let data = json!({
            "domain": "http://shop:3000", "path": "/order", "method": "put", "query_params": "a=1&b=%20", "ip": "",
            "content_type": "text/plain", "body": "hello",
        });
        let mut call = call(&data);
        let request = super::super::build(&call, None, 0).expect("valid");
        assert_eq!(
            (request.method.as_str(), request.url.as_str()),
            ("PUT", "http://shop:3000/order?a=1&b=%20")
        );
        assert_eq!(&request.body[..], b"hello");
        assert_eq!(header(&request, "content-type"), Some("text/plain"));
        assert_eq!(header(&request, "x-run-id"), Some(&*call.run.to_string()));
        assert_eq!(header(&request, "x-inngest-signature"), Some(""), "there, and empty");
        assert_eq!(header(&request, "x-inngest-generation-id"), Some("3"));
        assert_eq!(header(&request, "x-inngest-step-id"), None);
        assert_eq!(header(&request, "x-inngest-force-step-plan"), None);
        call.target = Target::Step("aa".into());
        call.plan_only = true;
        call.endpoint = Some(Endpoint {
            has_encoded_bodies: true,
        });
        assert!(super::super::build(&call, None, 0).is_err(), "`hello` is no base64");
        let key = SigningKey::parse("signkey-test-12345678").expect("a key");
        call.endpoint = Some(Endpoint {
            has_encoded_bodies: false,
        });
        let request = super::super::build(&call, Some(&key), 5).expect("valid");
        assert_eq!(
            key.verify(header(&request, "x-inngest-signature").expect("signed"), b"hello", 5),
            Ok(())
        );
        assert_eq!(header(&request, "x-inngest-step-id"), Some("aa"));
        assert_eq!(header(&request, "x-inngest-force-step-plan"), Some("true"));
    }

    #[rstest]
    #[case(json!({}))]
    #[case(json!({"domain": "ftp://shop", "path": "/", "method": "GET"}))]
    #[case(json!({"domain": "http://shop", "path": "/", "method": "G T"}))]
    fn what_is_no_request_is_not_made(#[case] data: Value) {
        assert!(super::super::build(&call(&data), None, 0).is_err());
    }
}
