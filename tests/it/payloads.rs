//! Outputs of every kind and size, requests made on an app's behalf, streaming.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::fake::{FakeApp, Reply};
use crate::support::sdk::Sdk::{self, Python, Ts3, Ts4};
use crate::support::sdk::SdkApp;
use crate::support::server::{Server, text};
use crate::support::stage::Stage;

#[rstest]
fn outputs_of_every_kind_come_back_as_they_were(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/outputs", &json!({}));
    let output = &run["output"];
    let expected = json!({
        "null": null, "zero": 0, "false": false, "empty": "", "fraction": 1.5, "list": [1, [2, []], {}],
        "data": {"data": {"data": "nested"}},
        "error": {"error": {"name": "NotAnError", "message": "only data"}},
        "both": {"data": 1, "error": null, "extra": true},
        "unicode": {"ключ": "zażółć gęślą jaźń", "🙂": "👩‍👩‍👧‍👦", "quote": "\"\\\u{0}\u{2028}</script>"},
        "keys": {"b": 1, "a": 2, "€": 3, "\r": 4, "1": 5},
    });
    for (kind, value) in expected.as_object().expect("an object") {
        assert_eq!(&output[kind], value, "{kind}");
    }
    // Canonical JSON passes numbers through doubles.
    assert_eq!(output["big"].to_string(), "9007199254740992");
    let steps = run["steps"].as_array().expect("an array").len();
    assert_eq!(stage.steps_of(&run).len(), steps, "each once");
}

#[rstest]
fn a_state_that_does_not_fit_a_call_is_fetched(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/large-outputs", &json!({}));
    let size = 3 * 1024 * 1024;
    assert_eq!(run["output"], json!({"lengths": [size, size]}));
    assert_eq!(stage.steps_of(&run), ["large-0", "large-1"]);
    let fetched = stage.app.calls(&format!("run_id={}&use_api=true", text(&run["id"])));
    assert!(!fetched.is_empty(), "no call asked for the API");
}

#[rstest]
fn a_result_that_is_too_large_fails_the_run(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.fail("test/large-result", &json!({"bytes": 9 * 1024 * 1024}));
    assert_eq!(run["output"]["error"]["name"], "output_too_large");
    let fits = stage.complete("test/large-result", &json!({"bytes": 1024 * 1024}));
    assert_eq!(fits["output"].as_str().map(str::len), Some(1024 * 1024));
}

#[rstest]
fn a_request_made_for_a_function(#[values(Ts4, Ts3)] sdk: Sdk, #[values(200, 503)] status: u16) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/fetch", &json!({"status": status}));
    // Whatever the status: it is the function's to judge.
    assert_eq!(
        run["output"],
        json!({"status": status, "header": "yes", "body": {"plain": true, "method": "POST"}})
    );
}

#[rstest]
fn a_model_is_asked_and_asked_again_when_it_fails(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::of_its_own(sdk);
    stage.app.control(&json!({"once": {"openai": 1}}));
    let run = stage.complete("test/ai-infer", &json!({}));
    assert_eq!(run["output"], json!({"content": "forty-two"}));
    let asked = stage.app.log("fn=@openai");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1]["authorization"], "Bearer fake-key");
    assert_eq!(asked[1]["body"]["model"], "fake-model");
    assert_eq!(asked[1]["body"]["messages"][0]["content"], "what is the answer?");
    assert!(!run.to_string().contains("fake-key"), "the key is shown: {run:#}");
}

#[rstest]
fn streamed_answers(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let server = Server::builder()
        .switch("--no-poll")
        .flag("--retry-interval", "1")
        .start();
    let app = SdkApp::builder(sdk, &server.url()).env("STREAMING", "1").start();
    app.register();
    let run = server.complete(&json!({"name": "test/ten-steps"}));
    assert_eq!(run["output"], json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    let run = server.complete(&json!({"name": "test/parallel"}));
    assert_eq!(run["output"], json!({"joined": "slow+middle+fast"}));
    let run = server.complete(&json!({"name": "test/step-fails"}));
    assert_eq!(run["output"], json!({"got": "made it"}));
    let run = server.run_to(&json!({"name": "test/non-retriable"}), "failed");
    assert_eq!(run["output"]["message"], "do not try again");
    let statuses: Vec<_> = app
        .calls("method=POST")
        .iter()
        .map(|call| call["status"].clone())
        .collect();
    assert!(statuses.contains(&json!(201)), "nothing was streamed: {statuses:?}");
}

#[test]
fn large_events_are_fetched_too() {
    let server = Server::start();
    let app = FakeApp::with_function(&server, 0, |call| Reply::done(&call.json()["use_api"]));
    let small = server.complete(&app.event());
    assert_eq!(small["output"], false);
    let mut event = app.event();
    event["data"]["text"] = Value::from("x".repeat(2 * 1024 * 1024));
    let run = server.complete(&event);
    assert_eq!(run["status"], "completed");
}
