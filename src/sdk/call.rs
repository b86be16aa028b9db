//! A [`Call`] as an HTTP request: URL, headers and the bytes of the body.
//!
//! The body is canonical JSON without any payload being parsed again: events and memos are canonical texts already
//! and are glued between keys that are written in sorted order. What every SDK needs is always there, whatever its
//! value (both `use_api` flags, `stack`, `steps`, `defers`, integers without a fraction); what is missing is missing on purpose:
//!
//! * `ctx.fn_id`, where the app must not report steps before the call is over.
//!
//! `ctx.fn_id` and `ctx.qi_id` have the TypeScript SDK (4.x) report steps as they are done, in the name of the call's
//! [`Ticket`](callboard_actors::domain::Ticket), and go on in the same call; see `/v1/checkpoint`. The generation is for
//! people who read logs: 1 for the first attempt.
//!
//! Never touches the network, never reads a clock.

mod endpoint;

use actix_web::http::Method;
use bytes::Bytes;
use callboard_actors::domain::{Call, FunctionId, Json, StepId, Target, limits};
use url::Url;

use super::headers;
use super::signing::SigningKey;

/// What is sent to an app.
#[derive(Debug, Clone)]
pub struct Request {
    /// How; POST but for durable endpoints.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers; their names are lower case.
    pub headers: Vec<(&'static str, String)>,
    /// Canonical JSON.
    pub body: Bytes,
    /// Whether the app has to fetch steps and events itself, because they are too large to be sent along.
    pub offloaded: bool,
}

/// Why a call can't be made: its function's URL makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Not a URL.
    #[error("the function's URL `{url}` is not valid: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong.
        reason: url::ParseError,
    },
    /// The event of an endpoint's run does not hold the request.
    #[error("the run's event does not say what request it was: {0}")]
    Request(String),
    /// A URL of something else.
    #[error("the function's URL has the scheme `{0}`; only http and https can be called")]
    Scheme(String),
}

/// Builds the request. `now` is the time of the signature, in seconds since the epoch.
///
/// # Errors
/// When the function's URL is not one of http or https.
pub fn build(call: &Call, key: Option<&SigningKey>, now: u64) -> Result<Request, CallError> {
    if let Some(endpoint) = call.endpoint {
        return endpoint::build(call, endpoint, key, now);
    }
    let target = target(call);
    let url = url_for(&call.url, target)?;
    let (body, offloaded) = payload(call);
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        (headers::RUN_ID, call.run.to_string()),
        (headers::STEP_ID, target.to_owned()),
        (headers::REQUEST_VERSION, call.request_version.to_string()),
        (headers::REQUEST_ID, call.ticket.call.request.to_string()),
        (headers::GENERATION_ID, generation(call).to_string()),
    ];
    headers.extend(trace_context(call));
    // As `/v1/runs/{id}/jobs` names it. Ids of steps are any text, headers are not.
    let job = format!("{}/{}", call.run, call.ticket.call.job);
    if job.bytes().all(|byte| byte.is_ascii_graphic()) {
        headers.push((headers::JOB_ID, job));
    }
    if let Some(key) = key {
        headers.push((headers::SIGNATURE, key.sign(body.as_bytes(), now)));
    }
    Ok(Request {
        method: Method::POST,
        url,
        headers,
        body: body.into(),
        offloaded,
    })
}

/// What the app's own spans hang from, by the names of the headers: the call's span, and in the state what it is to give back with
/// each of them.
#[must_use]
pub fn trace_context(call: &Call) -> [(&'static str, String); 2] {
    let (trace, span) = call.span();
    let parent = format!("00-{trace}-{span}-01");
    // `{"tp":"…","ts":""}`, escaped: a comma would end the entry.
    let reference = format!("%7B%22tp%22%3A%22{parent}%22%2C%22ts%22%3A%22%22%7D");
    let app = FunctionId::app_uuid(&call.app);
    let state = format!(
        "inngest@app={app},inngest@fn={},inngest@traceref={reference}",
        call.function
    );
    [(headers::TRACE_PARENT, parent), (headers::TRACE_STATE, state)]
}

/// One more with every attempt at the job.
fn generation(call: &Call) -> u64 {
    u64::from(call.ticket.call.attempt) + 1
}

/// The step that is to run, or the word for none.
#[must_use]
pub fn target(call: &Call) -> &str {
    match &call.target {
        Target::Discovery => "step",
        Target::Step(id) => id.as_str(),
    }
}

/// The URL as registered, with `stepId` set and everything else kept.
fn url_for(registered: &str, step: &str) -> Result<Url, CallError> {
    let mut url = Url::parse(registered).map_err(|reason| CallError::Url {
        url: registered.to_owned(),
        reason,
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(CallError::Scheme(url.scheme().to_owned()));
    }
    let others: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| name != "stepId")
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.query_pairs_mut()
        .clear()
        .extend_pairs(others)
        .append_pair("stepId", step);
    Ok(url)
}

/// The body, and whether the app has to fetch the rest.
#[must_use]
pub fn payload(call: &Call) -> (String, bool) {
    let state: usize = call.steps.iter().map(|(_, memo)| memo.len()).sum();
    if state <= limits::EMBEDDED_STATE_BYTES {
        let body = write(call, Some(&call.steps), &call.events);
        if body.len() <= limits::CALL_BYTES {
            return (body, false);
        }
    }
    // Events that fit are sent all the same: SDKs that fetch them don't mind, and one that can't fetch has them.
    let body = write(call, None, &call.events);
    if body.len() <= limits::CALL_BYTES && state > limits::EMBEDDED_STATE_BYTES {
        return (body, true);
    }
    (write(call, None, &[]), true)
}

/// Writes the body: at every level the keys are in sorted order. `steps` is `None` when the app has to fetch them.
fn write(call: &Call, steps: Option<&[(StepId, Json)]>, events: &[Json]) -> String {
    let use_api = steps.is_none();
    let steps = steps.unwrap_or_default();
    let payload: usize = steps.iter().map(|(id, memo)| id.as_str().len() + memo.len() + 8).sum();
    let events_len: usize = events.iter().map(|event| event.len() + 1).sum();
    let first = call.events.first().map_or("{}", Json::as_str);
    let ids = 48 * call.stack.len() + 64 * call.defers.len();
    let mut out = String::with_capacity(512 + ids + payload + events_len + first.len());

    out.push_str(r#"{"ctx":{"attempt":"#);
    push_number(&mut out, call.attempt);
    out.push_str(r#","disable_immediate_execution":"#);
    out.push_str(if call.plan_only { "true" } else { "false" });
    out.push_str(r#","env":"","#);
    if call.may_report {
        out.push_str(r#""fn_id":""#);
        push_number(&mut out, call.function);
        out.push_str(r#"","#);
    }
    out.push_str(r#""generation_id":"#);
    push_number(&mut out, generation(call));
    out.push_str(r#","max_attempts":"#);
    push_number(&mut out, call.max_attempts);
    out.push_str(r#","qi_id":"#);
    push_text(&mut out, &call.ticket.to_string());
    out.push_str(r#","request_id":""#);
    push_number(&mut out, call.ticket.call.request);
    out.push('"');
    out.push_str(r#","run_id":"#);
    push_text(&mut out, &call.run.to_string());
    out.push_str(r#","stack":{"current":"#);
    push_number(&mut out, call.stack_current);
    out.push_str(r#","stack":["#);
    for (position, id) in call.stack.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        push_text(&mut out, id.as_str());
    }
    out.push_str(r#"]},"step_id":"step","use_api":"#);
    out.push_str(if use_api { "true" } else { "false" });
    out.push_str(r#"},"defers":{"#);
    push_members(&mut out, &call.defers, |out, abortable| {
        out.push_str(if *abortable {
            r#"{"abortable":true}"#
        } else {
            r#"{"abortable":false}"#
        });
    });
    out.push_str(r#"},"event":"#);
    out.push_str(first);
    out.push_str(r#","events":["#);
    for (position, event) in events.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        out.push_str(event.as_str());
    }
    out.push_str(r#"],"steps":{"#);
    push_members(&mut out, steps, |out, memo| out.push_str(memo.as_str()));
    out.push_str(r#"},"use_api":"#);
    out.push_str(if use_api { "true" } else { "false" });
    out.push_str(r#","version":"#);
    push_number(&mut out, call.request_version);
    out.push('}');
    out
}

/// The members of an object whose keys are ids.
fn push_members<T>(out: &mut String, members: &[(StepId, T)], push: impl Fn(&mut String, &T)) {
    let mut sorted: Vec<&(StepId, T)> = members.iter().collect();
    // Canonical order is that of UTF-16. For the hex digits of real ids it is the order they come in.
    let before = |a: &StepId, b: &StepId| a.as_str().encode_utf16().cmp(b.as_str().encode_utf16());
    if !sorted.is_sorted_by(|(a, _), (b, _)| before(a, b).is_le()) {
        sorted.sort_by(|(a, _), (b, _)| before(a, b));
    }
    for (position, (id, value)) in sorted.into_iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        push_text(out, id.as_str());
        out.push(':');
        push(out, value);
    }
}

fn push_number(out: &mut String, number: impl std::fmt::Display) {
    use std::fmt::Write as _;
    // Writing to a string can't fail.
    let _ = write!(out, "{number}");
}

/// A JSON string; serde_json escapes exactly what the canonical form asks for.
fn push_text(out: &mut String, text: &str) {
    if text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
    {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use callboard_actors::domain::{CallRef, FunctionId, JobKey, RequestId, RunId, Ticket, Timestamp};
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn call() -> Call {
        Call {
            url: "http://localhost:3000/api/inngest?fnId=shop-ship%20it&stepId=step&x=1".to_owned(),
            endpoint: None,
            run: RunId::new(Timestamp::from_millis(1_750_000_000_000), 7),
            function: FunctionId::derive("shop", "shop-ship"),
            app: "shop".into(),
            target: Target::Discovery,
            ticket: Ticket {
                call: CallRef {
                    job: JobKey::Start,
                    attempt: 2,
                    request: "01JZ0000000000000000000009".parse::<RequestId>().expect("an id"),
                },
                epoch: 7,
            },
            may_report: true,
            attempt: 0,
            max_attempts: 5,
            request_version: -1,
            plan_only: false,
            stack: Vec::new(),
            stack_current: 0,
            events: Arc::from([
                Json::parse(r#"{"name":"a/b","data":{"z":1,"a":[1.0]},"ts":1750000000000}"#).expect("json"),
            ]),
            defers: Vec::new(),
            steps: Vec::new(),
        }
    }

    fn sent(call: &Call) -> (Request, Value) {
        let request = build(call, None, 0).expect("valid call");
        let value = serde_json::from_slice(&request.body).expect("JSON");
        (request, value)
    }

    #[test]
    fn the_first_call_holds_what_every_sdk_needs() {
        let call = call();
        let (request, body) = sent(&call);
        let event = json!({"name": "a/b", "data": {"z": 1, "a": [1]}, "ts": 1_750_000_000_000_i64});
        let run = call.run.to_string();
        assert_eq!(
            body,
            json!({
                "ctx": {
                    "attempt": 0, "disable_immediate_execution": false, "env": "", "fn_id": call.function.to_string(),
                    "generation_id": 3, "max_attempts": 5, "qi_id": "7.2.01JZ0000000000000000000009.start",
                    "request_id": "01JZ0000000000000000000009", "run_id": run, "step_id": "step",
                    "stack": {"current": 0, "stack": []}, "use_api": false,
                },
                "defers": {}, "event": event, "events": [event], "steps": {}, "use_api": false, "version": -1,
            })
        );
        assert_eq!(
            request.url.as_str(),
            "http://localhost:3000/api/inngest?fnId=shop-ship+it&x=1&stepId=step"
        );
        assert!(!request.offloaded);
        let header = |name: &str| {
            request
                .headers
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(header("x-run-id"), Some(run.as_str()));
        assert_eq!(header("x-inngest-step-id"), Some("step"));
        assert_eq!(header("x-inngest-req-version"), Some("-1"));
        assert_eq!(header("x-inngest-generation-id"), Some("3"));
        assert_eq!(header("x-inngest-job-id"), Some(&*format!("{run}/start")));
        assert_eq!(header("x-inngest-signature"), None);
        let (trace, span) = call.span();
        let parent = format!("00-{trace}-{span}-01");
        assert_eq!(header("traceparent"), Some(&*parent));
        let app = FunctionId::app_uuid("shop");
        let state = format!(
            "inngest@app={app},inngest@fn={},inngest@traceref=%7B%22tp%22%3A%22{parent}%22%2C%22ts%22%3A%22%22%7D",
            call.function
        );
        assert_eq!(header("tracestate"), Some(&*state));
    }

    #[test]
    fn without_its_functions_id_an_app_does_not_report() {
        let (_, body) = sent(&Call {
            may_report: false,
            ..call()
        });
        assert_eq!(body["ctx"].get("fn_id"), None);
        assert!(body["ctx"]["qi_id"].is_string());
    }

    #[test]
    fn memos_go_out_as_they_are_and_null_stays() {
        let mut call = call();
        call.target = Target::Step("cc".into());
        call.stack = vec!["bb".into(), "aa".into()];
        call.stack_current = 2;
        call.steps = vec![
            ("aa".into(), Json::null()),
            ("bb".into(), Json::parse(r#"{"data":null}"#).expect("json")),
        ];
        let (request, body) = sent(&call);
        assert_eq!(body["steps"], json!({"aa": null, "bb": {"data": null}}));
        assert_eq!(body["ctx"]["stack"], json!({"current": 2, "stack": ["bb", "aa"]}));
        assert!(request.url.query().expect("query").ends_with("stepId=cc"));
        assert!(request.headers.contains(&("x-inngest-step-id", "cc".to_owned())));
    }

    /// The Go SDK registers URLs with another parameter; it must survive.
    #[test]
    fn other_parameters_of_the_url_are_kept() {
        let url = url_for("http://h:1/api?fnId=a-b&step=step", "xyz").expect("valid");
        assert_eq!(url.as_str(), "http://h:1/api?fnId=a-b&step=step&stepId=xyz");
    }

    #[rstest]
    #[case("nonsense")]
    #[case("")]
    #[case("ws://h/")]
    #[case("file:///etc/passwd")]
    fn other_urls_are_refused(#[case] url: &str) {
        assert!(url_for(url, "step").is_err());
    }

    #[test]
    fn signatures_cover_the_bytes_sent() {
        let key = SigningKey::parse("signkey-test-12345678").expect("key");
        let request = build(&call(), Some(&key), 1_750_000_000).expect("valid");
        let (_, signature) = request
            .headers
            .iter()
            .find(|(name, _)| *name == "x-inngest-signature")
            .expect("signed");
        assert_eq!(key.verify(signature, &request.body, 1_750_000_000), Ok(()));
    }

    fn text_of(bytes: usize) -> Json {
        Json::from_value(&"x".repeat(bytes - 2)).expect("text")
    }

    #[rstest]
    #[case::fits(limits::EMBEDDED_STATE_BYTES - 2048, 10, false, false)]
    #[case::state_too_large(limits::EMBEDDED_STATE_BYTES + 1, 10, true, true)]
    #[case::body_too_large(2 * 1024 * 1024, 2 * 1024 * 1024, true, false)]
    #[case::both(limits::EMBEDDED_STATE_BYTES + 1, 3 * 1024 * 1024, true, false)]
    fn what_is_too_large_is_fetched_by_the_app(
        #[case] state: usize,
        #[case] event: usize,
        #[case] offloaded: bool,
        #[case] with_events: bool,
    ) {
        let mut call = call();
        call.events = Arc::from([text_of(event)]);
        call.steps = vec![("aa".into(), text_of(state))];
        let (request, body) = sent(&call);
        assert!(request.body.len() <= limits::CALL_BYTES);
        assert_eq!(request.offloaded, offloaded);
        assert_eq!(body["use_api"], json!(offloaded));
        assert_eq!(body["ctx"]["use_api"], json!(offloaded));
        assert_eq!(
            body["steps"].as_object().map(serde_json::Map::is_empty),
            Some(offloaded)
        );
        assert_eq!(
            body["events"].as_array().map(Vec::is_empty),
            Some(offloaded && !with_events)
        );
        assert!(body["event"].is_string());
    }

    fn json_text() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
        .prop_map(|value| Json::from_value(&value).expect("finite numbers"))
    }

    proptest! {
        #[test]
        fn the_body_is_canonical(
            ids in prop::collection::btree_set(".{1,6}", 0..6),
            memos in prop::collection::vec(json_text(), 6),
            events in prop::collection::vec(json_text(), 1..3),
            job in ".{0,10}",
            attempt in any::<u32>(),
            request_version in any::<i32>(),
        ) {
            let mut call = call();
            call.stack = ids.iter().map(|id| StepId::from(id.as_str())).collect();
            call.steps = call.stack.iter().cloned().zip(memos).collect();
            call.events = events.into();
            call.ticket.call.job = JobKey::Discover(job.as_str().into());
            call.attempt = attempt;
            call.request_version = request_version;
            let (body, _) = payload(&call);
            let parsed: Value = serde_json::from_str(&body).expect("JSON");
            prop_assert_eq!(serde_json_canonicalizer::to_string(&parsed).expect("canonical"), body);
        }
    }
}
