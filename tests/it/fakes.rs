//! Answers that no SDK gives, or gives only on bad days. Each is either understood, or one failed attempt with its reason
//! on record; none disturbs other runs.

use std::io::Write as _;
use std::sync::{Arc, Barrier};

use flate2::Compression;
use flate2::write::GzEncoder;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::fake::{Call, FakeApp, Reply};
use crate::support::server::{Server, text};

fn server() -> Server {
    Server::builder()
        .switch("--no-poll")
        .flag("--retry-interval", "1")
        .start()
}

/// A run of a function that is not retried and always gets this answer.
fn failed_by(reply: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Value {
    let server = server();
    let app = FakeApp::with_function(&server, 0, reply);
    let run = server.run_to(&app.event(), "failed");
    assert_eq!(run["failed_attempts"].as_array().map(Vec::len), Some(1), "{run:#}");
    run
}

#[rstest]
#[case::html(Reply::http(200, "<html>hello</html>").header("content-type", "text/html"), "not_sdk")]
#[case::plain_206(Reply::http(206, "[]"), "not_sdk")]
#[case::empty(Reply::http(200, ""), "not_sdk")]
#[case::gateway_timeout(
    Reply::http(504, "upstream timed out"),
    "Your server returned HTTP 504 before the SDK responded."
)]
#[case::not_found(Reply::http(404, "nothing here"), "404")]
#[case::garbage_206(Reply::sdk(206, &Value::Null), "")]
#[case::half_json(Reply::http(206, "[{\"op\":").header("x-inngest-sdk", "fake:v1.0.0"), "")]
#[case::no_array(Reply::ops(&json!({"op": 1})), "")]
#[case::odd_status(Reply::sdk(418, &json!({"name": "Teapot", "message": "short and stout"})), "short and stout")]
fn an_answer_that_is_none(#[case] reply: Reply, #[case] reason: &str) {
    let run = failed_by(move |_| reply.clone());
    assert!(
        run["output"].to_string().contains(reason),
        "no {reason} in {}",
        run["output"]
    );
}

#[rstest]
#[case::reset(Reply::Reset)]
#[case::cut_short(Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\nx-inngest-sdk: fake:v1\r\n\r\n{".to_vec()))]
#[case::no_http(Reply::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()))]
fn a_connection_that_breaks_is_tried_again(#[case] reply: Reply) {
    let server = server();
    let app = FakeApp::with_function(&server, 1, move |call| match call.attempt() {
        0 => reply.clone(),
        _ => Reply::done(&json!("second try")),
    });
    let run = server.complete(&app.event());
    assert_eq!(run["output"], "second try");
    assert_eq!(run["failed_attempts"].as_array().map(Vec::len), Some(1), "{run:#}");
}

#[test]
fn an_app_that_is_not_there_is_tried_again() {
    let server = server();
    let gone = FakeApp::start(|_| Reply::done(&json!(1)));
    gone.register(&server, &[gone.function("fn", "gone/go", 1)]);
    drop(gone);
    let run = server.run_to(&json!({"name": "gone/go"}), "failed");
    assert_eq!(run["failed_attempts"].as_array().map(Vec::len), Some(2), "{run:#}");
}

#[rstest]
#[case(307)]
#[case(308)]
fn a_redirect_is_followed_with_the_body(#[case] status: u16) {
    let server = server();
    let app = FakeApp::with_function(&server, 0, move |call| {
        if call.path.starts_with("/moved") {
            return Reply::done(&call.json()["ctx"]["run_id"]);
        }
        let query = call.path.split_once('?').map_or("", |(_, query)| query);
        Reply::http(status, "").header("location", &format!("/moved?{query}"))
    });
    let run = server.complete(&app.event());
    assert_eq!(run["output"], run["id"], "{run:#}");
    assert_eq!(app.calls().len(), 2);
}

#[test]
fn redirects_in_a_circle_end() {
    failed_by(|call| Reply::http(307, "").header("location", &call.path));
}

#[test]
fn a_compressed_answer_is_unpacked() {
    let server = server();
    let app = FakeApp::with_function(&server, 0, |_| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(br#"{"packed":true}"#).expect("memory takes it");
        Reply::http(200, encoder.finish().expect("memory takes it"))
            .header("x-inngest-sdk", "fake:v1.0.0")
            .header("content-encoding", "gzip")
    });
    assert_eq!(server.complete(&app.event())["output"], json!({"packed": true}));
}

#[test]
fn a_body_without_end_is_not_read_to_its_end() {
    let run = failed_by(|_| Reply::sdk(200, &Value::from("x".repeat(9 * 1024 * 1024))));
    assert!(
        run["output"].to_string().contains("output_too_large"),
        "{}",
        run["output"]
    );
}

#[test]
fn a_slow_answer_is_waited_for_and_holds_nobody_up() {
    let server = server();
    let gate = Arc::new(Barrier::new(2));
    let at_gate = Arc::clone(&gate);
    let app = FakeApp::start(move |call| {
        if call.function().ends_with("-quick") {
            return Reply::done(&json!("quick"));
        }
        at_gate.wait();
        Reply::done(&json!("slow"))
    });
    app.register(
        &server,
        &[app.function("slow", "slow", 0), app.function("quick", "quick", 0)],
    );
    let event = server.send(&json!({"name": "slow"}));
    let slow = server.wait_for_start(&event);
    app.wait_for_calls(1);
    for _ in 0..20 {
        server.complete(&json!({"name": "quick"}));
    }
    assert_eq!(server.run(&slow)["status"], "running");
    gate.wait();
    let run = server.wait_for_status(&slow, "completed");
    assert_eq!(run["output"], "slow");
}

#[test]
fn an_unknown_operation_is_a_failed_attempt() {
    let run = failed_by(|_| Reply::ops(&json!([{"op": "Teleport", "id": "a", "name": "a"}])));
    assert!(run["output"].to_string().contains("Teleport"), "{}", run["output"]);
}

#[test]
fn a_step_that_is_reported_twice_keeps_its_first_result() {
    let server = server();
    let step = |id: &str, data: &str| json!({"op": "StepRun", "id": id, "name": id, "displayName": id, "data": data});
    let app = FakeApp::with_function(&server, 0, move |call| {
        match (call.has_step("one"), call.has_step("two")) {
            (false, _) => Reply::ops(&json!([step("one", "first")])),
            (true, false) => Reply::ops(&json!([step("one", "second"), step("two", "first")])),
            (true, true) => Reply::done(&call.json()["steps"]),
        }
    });
    let run = server.complete(&app.event());
    assert_eq!(
        run["output"],
        json!({"one": {"data": "first"}, "two": {"data": "first"}}),
        "{run:#}"
    );
}

#[test]
fn an_app_that_only_repeats_itself_is_stopped() {
    let run = failed_by(|_| Reply::step("one", &json!(1)));
    assert!(
        run["output"].to_string().contains("found no step to run"),
        "{}",
        run["output"]
    );
}

#[test]
fn an_error_that_says_not_to_retry_is_final_whatever_retries_are_left() {
    let server = server();
    let app = FakeApp::with_function(&server, 5, |_| Reply::error("never again", true));
    let run = server.run_to(&app.event(), "failed");
    assert_eq!(app.calls().len(), 1);
    assert_eq!(run["output"]["message"], "never again");
}

#[test]
fn every_retry_is_made_and_then_no_more() {
    let server = server();
    let app = FakeApp::with_function(&server, 2, |_| Reply::error("again", false));
    let run = server.run_to(&app.event(), "failed");
    let attempts: Vec<_> = app.calls().iter().map(Call::attempt).collect();
    assert_eq!(attempts, [0, 1, 2]);
    assert_eq!(run["failed_attempts"].as_array().map(Vec::len), Some(3));
}

#[test]
fn what_a_call_looks_like() {
    let server = server();
    let app = FakeApp::with_function(&server, 3, |call| match call.has_step("one") {
        true => Reply::done(&json!(1)),
        false => Reply::step("one", &json!("x")),
    });
    let mut event = app.event();
    event["data"] = json!({"b": 1, "a": 2});
    let run = server.complete(&event);
    let calls = app.calls();
    let (first, second) = (calls[0].json(), calls[1].json());
    assert_eq!(calls[0].method, "POST");
    assert_eq!(calls[0].parameter("stepId"), Some("step"));
    assert_eq!(first["ctx"]["run_id"], run["id"]);
    assert_eq!(first["ctx"]["attempt"], 0);
    assert_eq!(first["ctx"]["max_attempts"], 4);
    assert_eq!(first["event"]["data"], json!({"a": 2, "b": 1}));
    assert_eq!(first["events"], json!([first["event"]]));
    assert_eq!((&first["steps"], &first["use_api"]), (&json!({}), &json!(false)));
    assert_eq!(second["steps"], json!({"one": {"data": "x"}}));
    assert_eq!(second["ctx"]["stack"], json!({"stack": ["one"], "current": 1}));
    // Canonical: members in order, no blanks.
    let body = String::from_utf8_lossy(&calls[0].body).into_owned();
    assert!(body.contains(r#""data":{"a":2,"b":1}"#), "{body}");
}

#[test]
fn a_broken_app_does_not_disturb_another() {
    let server = server();
    let bad = FakeApp::with_function(&server, 20, |_| Reply::Reset);
    let good = FakeApp::with_function(&server, 0, |_| Reply::done(&json!("fine")));
    let events: Vec<_> = (0..20).map(|_| bad.event()).collect();
    let ids = server.send_all(&json!(events));
    bad.wait_for_calls(20);
    assert_eq!(server.complete(&good.event())["output"], "fine");
    let run = server.wait_for_start(&ids[0]);
    let pending = server.wait_until_pending(&run, "retry");
    assert!(!text(&pending["waiting_for"][0]["until"]).is_empty());
}
