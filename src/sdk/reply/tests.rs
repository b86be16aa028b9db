//! Tables of what the SDKs and strangers answer.

use callboard_actors::domain::OpcodeKind;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;

const JS: &str = "inngest-js:v4.18.1";

fn head(status: u16) -> Head {
    Head {
        status,
        sdk: Some(JS.to_owned()),
        request_version: Some("2".to_owned()),
        ..Head::default()
    }
}

fn foreign(status: u16) -> Head {
    Head {
        status,
        ..Head::default()
    }
}

fn failure(reply: Reply) -> (Failure, bool) {
    match reply {
        Reply::Failed { failure, no_retry, .. } => (failure, no_retry),
        other => panic!("not a failure: {other:?}"),
    }
}

#[rstest]
#[case("", "null")]
#[case(" \n", "null")]
#[case("null", "null")]
#[case(r#"{"b":1.0,"a":2}"#, r#"{"a":2,"b":1}"#)]
#[case("just text", r#""just text""#)]
#[case("{truncated", r#""{truncated""#)]
#[case(r#""a text""#, r#""a text""#)]
#[case(r#""{\"a\":1}""#, r#"{"a":1}"#)]
#[case(r#""[1]""#, r#""[1]""#)]
#[case("[1,2]", "[1,2]")]
#[case("1e400", r#""1e400""#)]
fn outputs(#[case] body: &str, #[case] output: &str) {
    match read(head(200), body.as_bytes()) {
        Reply::Returned(json) => assert_eq!(json.as_str(), output),
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case(r#"[{"op":"StepRun","id":"a","data":1}]"#)]
#[case(r#"{"op":"StepRun","id":"a","data":1}"#)]
#[case(r#""[{\"op\":\"StepRun\",\"id\":\"a\",\"data\":1}]""#)]
fn steps_in_every_wrapping(#[case] body: &str) {
    let mut head = head(206);
    head.no_retry = Some("true".to_owned());
    head.retry_after = Some("30".to_owned());
    match read(head, body.as_bytes()) {
        Reply::Steps {
            ops,
            request_version: 2,
            no_retry: true,
            retry_after: Some(after),
        } => {
            assert_eq!(after, "30");
            assert!(matches!(ops[0].kind, OpcodeKind::StepRun { .. }));
        }
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case(None, 0)]
#[case(Some("1"), 1)]
#[case(Some("-1"), -1)]
#[case(Some("two"), 0)]
fn a_missing_version_is_zero(#[case] header: Option<&str>, #[case] expected: i32) {
    let mut head = head(206);
    head.request_version = header.map(str::to_owned);
    match read(head, b"[]") {
        Reply::Steps { request_version, .. } => assert_eq!(request_version, expected),
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case("")]
#[case("not json")]
#[case(r#"[{"op":"Teleport","id":"a"}]"#)]
#[case("[null]")]
fn steps_that_make_no_sense_fail_the_attempt(#[case] body: &str) {
    let mut head = head(206);
    head.no_retry = Some("true".to_owned());
    let (failure, no_retry) = failure(read(head, body.as_bytes()));
    assert!(failure.message().contains("could not be understood"), "{failure:?}");
    assert!(!no_retry, "what the server does not understand is retried");
}

/// One row for each SDK's way of reporting that a function threw.
#[rstest]
#[case::typescript(
    400,
    Some("true"),
    r#"{"name":"NonRetriableError","message":"no","stack":"s","__serialized":true}"#,
    "NonRetriableError",
    "no",
    true
)]
#[case::typescript_old(
    500,
    Some("false"),
    r#""{\"name\":\"E\",\"message\":\"twice\"}""#,
    "E",
    "twice",
    false
)]
#[case::python(
    500,
    None,
    r#"{"code":"unknown","message":"m","name":"ValueError","stack":null}"#,
    "ValueError",
    "m",
    false
)]
#[case::go(500, Some("true"), r#"{"message":"go says no"}"#, "Error", "go says no", true)]
#[case::text(500, None, "boom", "Error", "boom", false)]
#[case::nothing(500, None, "", "Error", "invalid status code: 500", false)]
#[case::malformed_request(400, None, r#"{"message":"bad"}"#, "Error", "bad", false)]
#[case::a_success_that_is_none(200, Some("true"), r#"{"name":"E","message":"m"}"#, "E", "m", true)]
fn functions_that_threw(
    #[case] status: u16,
    #[case] header: Option<&str>,
    #[case] body: &str,
    #[case] name: &str,
    #[case] message: &str,
    #[case] forbidden: bool,
) {
    let mut head = head(status);
    head.no_retry = header.map(str::to_owned);
    let (failure, no_retry) = failure(read(head, body.as_bytes()));
    assert_eq!(
        (failure.name(), failure.message(), no_retry),
        (name, message, forbidden)
    );
    assert_eq!(
        failure.to_report().to_tree()["error"],
        json!(format!("invalid status code: {status}"))
    );
}

#[test]
fn retry_after_is_passed_on_as_sent() {
    let mut head = head(500);
    head.retry_after = Some("2026-11-21T08:00:00.000Z".to_owned());
    match read(head, b"{}") {
        Reply::Failed { retry_after, .. } => assert_eq!(retry_after.as_deref(), Some("2026-11-21T08:00:00.000Z")),
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case(200, "<html>hi</html>", "not_sdk", "HTTP 200")]
#[case(206, "[]", "not_sdk", "HTTP 206")]
#[case(
    504,
    "gateway timeout",
    "Server returned a fatal error",
    "Your server returned HTTP 504 before the SDK responded."
)]
#[case(
    401,
    r#"{"message":"Unauthorized"}"#,
    "Server returned a fatal error",
    "INNGEST_DEV=1"
)]
#[case(201, "created", "not_sdk", "HTTP 201")]
fn strangers(#[case] status: u16, #[case] body: &str, #[case] name: &str, #[case] message: &str) {
    let mut head = foreign(status);
    head.no_retry = Some("true".to_owned());
    let (failure, no_retry) = failure(read(head, body.as_bytes()));
    assert_eq!(failure.name(), name);
    assert!(failure.message().contains(message), "{}", failure.message());
    assert_eq!(failure.to_value()["stack"], json!(body));
    assert!(!no_retry, "a stranger forbids nothing");
}

#[test]
fn only_the_beginning_of_a_strangers_body_is_kept() {
    let (failure, _) = failure(read(foreign(502), &vec![b'x'; 20_000]));
    assert_eq!(
        failure.to_value()["stack"].as_str().map(str::len),
        Some(limits::FOREIGN_BODY_BYTES)
    );
}

#[test]
fn more_steps_than_a_run_may_have_are_not_asked_for_again() {
    let step = json!({"op": "StepPlanned", "id": "a", "name": "a"});
    let body = Value::from(vec![step; limits::OPCODES_PER_REPLY + 1]).to_string();
    let (failure, no_retry) = failure(read(head(206), body.as_bytes()));
    assert_eq!((failure.name(), no_retry), ("InngestErrFunctionOverflowed", true));
}

#[test]
fn a_body_beyond_the_limit_is_an_error_of_its_own() {
    let (failure, _) = failure(read(head(200), &vec![b' '; limits::REPLY_BYTES + 1]));
    assert_eq!(
        failure.to_output().to_tree(),
        json!({
            "name": "output_too_large", "message": "Your function's response body exceeds the maximum size limit",
            "error": "output_too_large: Your function's response body exceeds the maximum size limit",
        })
    );
}

#[rstest]
#[case::typescript(
    r#"   {"status":200,"headers":{"X-Inngest-SDK":"inngest-js:v4"},"body":"{\"a\":1}"}"#,
    r#"{"a":1}"#
)]
#[case::go(
    r#" {"status":200,"headers":{"x-inngest-sdk":"go:v0"},"body":{"a":1}}"#,
    r#"{"a":1}"#
)]
#[case::plain_text(r#"{"status":200,"headers":{"X-Inngest-SDK":"x"},"body":"text"}"#, r#""text""#)]
#[case::nothing(r#"{"status":200,"headers":{"X-Inngest-SDK":"x"},"body":null}"#, "null")]
fn streamed_answers(#[case] body: &str, #[case] output: &str) {
    match read(foreign(201), body.as_bytes()) {
        Reply::Returned(json) => assert_eq!(json.as_str(), output),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_wrappers_headers_win() {
    let body = json!({"status": 206, "headers": {"x-inngest-req-version": "1", "Retry-After": "9"},
        "body": "[{\"op\":\"StepPlanned\",\"id\":\"a\"}]"});
    match read(head(201), body.to_string().as_bytes()) {
        Reply::Steps {
            request_version,
            retry_after,
            ops,
            ..
        } => {
            assert_eq!((request_version, retry_after.as_deref(), ops.len()), (1, Some("9"), 1));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_go_sdk_says_beside_the_headers_counts() {
    let body = json!({"status": 500, "headers": {}, "body": {"message": "m"}, "noRetry": true, "retryAt": "x"});
    match read(head(201), body.to_string().as_bytes()) {
        Reply::Failed {
            failure,
            status,
            no_retry,
            retry_after,
        } => {
            assert_eq!((failure.message(), status, no_retry), ("m", Some(500), true));
            assert_eq!(retry_after.as_deref(), Some("x"));
        }
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case(r#"{"status":200,"body":"","error":"ran out of memory"}"#, "ran out of memory")]
#[case("   ", "not the object")]
#[case(r#"{"body":"x"}"#, "not the object")]
#[case(r#"{"status":99999999,"body":"x"}"#, "not the object")]
fn streams_that_fail(#[case] body: &str, #[case] message: &str) {
    let (failure, _) = failure(read(head(201), body.as_bytes()));
    assert!(failure.message().contains(message), "{failure:?}");
}

proptest! {
    #[test]
    fn no_body_panics(status in 100_u16..600, sdk in any::<bool>(), body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(if sdk { head(status) } else { foreign(status) }, &body);
    }

    #[test]
    fn no_stream_panics(status in any::<i64>(), text in ".{0,30}", no_retry in any::<bool>()) {
        let body = json!({"status": status, "headers": {"x-inngest-sdk": text}, "body": text, "noRetry": no_retry});
        let _ = read(head(201), body.to_string().as_bytes());
    }

    /// Nothing a stranger says ends a run or forbids another attempt.
    #[test]
    fn strangers_decide_nothing(status in 100_u16..600, body in ".{0,100}") {
        prop_assume!(status != 201);
        let failed = matches!(read(foreign(status), body.as_bytes()), Reply::Failed { no_retry: false, .. });
        prop_assert!(failed);
    }
}

/// What the real SDKs answered, read as they sent it.
fn captured(sdk: &str, name: &str) -> Reply {
    let fixture = crate::sdk::testing::fixture(sdk, &format!("reply-{name}"));
    let status = u16::try_from(fixture["status"].as_u64().expect("a status")).expect("a status");
    let head = Head::new(status, |name| fixture["headers"][name].as_str());
    read(head, fixture["body"].as_str().expect("a body").as_bytes())
}

#[rstest]
fn real_results(#[values("ts4", "ts3", "python")] sdk: &str, #[values("result", "streaming-result")] name: &str) {
    assert_eq!(
        captured(sdk, name),
        Reply::Returned(Json::parse(r#"{"hello":"world"}"#).expect("json"))
    );
}

#[rstest]
fn real_steps(
    #[values("ts4", "ts3", "python")] sdk: &str,
    #[values(
        ("step-run", "StepRun", 1),
        ("signed-step-run", "StepRun", 1),
        ("streaming-step-run", "StepRun", 1),
        ("targeted-step-run", "StepRun", 1),
        ("step-error", "StepError", 1),
        ("step-failed", "StepFailed", 1),
        ("planned-parallel", "StepPlanned", 2),
        ("streaming-planned-parallel", "StepPlanned", 2),
        ("sleep", "Sleep", 1),
        ("sleep-until", "Sleep", 1),
        ("wait-for-event", "WaitForEvent", 1),
        ("wait-for-event-if", "WaitForEvent", 1),
        ("invoke", "InvokeFunction", 1),
        ("ai-infer", "AiGateway", 1)
    )]
    expected: (&str, &str, usize),
) {
    let (name, kind, count) = expected;
    match captured(sdk, name) {
        Reply::Steps {
            ops, request_version, ..
        } => {
            assert!(ops.len() >= count, "{ops:?}");
            assert!(format!("{:?}", ops[0].kind).starts_with(kind), "{ops:?}");
            assert_eq!(request_version, if sdk == "ts3" { 1 } else { 2 });
        }
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::a_body("error-body", false)]
#[case::a_body_that_is_hopeless("error-non-retriable", true)]
#[case::streamed("streaming-error-non-retriable", true)]
#[case::an_uncaught_step("error-uncaught-step", true)]
#[case::no_such_function("unknown-function", false)]
#[case::no_such_step("unknown-step", false)]
fn real_errors(#[values("ts4", "ts3", "python")] sdk: &str, #[case] name: &str, #[case] forbidden: bool) {
    let (failure, no_retry) = failure(captured(sdk, name));
    assert_eq!(no_retry, forbidden);
    assert!(failure.message().len() > 5, "{failure:?}");
    assert_ne!(
        failure.message(),
        "Function execution error",
        "the app's own words were not found"
    );
}

#[rstest]
fn real_refusals_of_a_signature_are_explained(#[values("ts4", "ts3", "python")] sdk: &str) {
    let (failure, no_retry) = failure(captured(sdk, "unauthorized"));
    assert!(failure.message().contains("INNGEST_SIGNING_KEY"), "{failure:?}");
    assert!(!no_retry);
}

#[rstest]
#[case("ts4", "error-retry-after")]
#[case("ts3", "error-retry-after")]
#[case("python", "error-retry-after")]
#[case("python", "step-retry-after")]
fn real_delays(#[case] sdk: &str, #[case] name: &str) {
    match captured(sdk, name) {
        Reply::Failed { retry_after, .. } => assert!(retry_after.is_some()),
        other => panic!("{other:?}"),
    }
}
