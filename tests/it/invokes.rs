//! One function calls another.

use rstest::rstest;
use serde_json::json;

use crate::support::sdk::Sdk::{self, Python, Ts3, Ts4};
use crate::support::stage::Stage;

#[rstest]
fn the_result_of_another_function(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/invoke", &json!({"n": 4}));
    assert_eq!(run["output"], json!({"got": {"doubled": 8}, "after": "after"}));
    assert_eq!(stage.steps_of(&run), ["after"]);
}

#[rstest]
fn the_error_of_another_function_can_be_caught(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/invoke-error", &json!({}));
    assert_eq!(run["output"]["caught"]["message"], "the callee gives up", "{run:#}");
    assert_eq!(run["output"]["after"], "after");
}

#[rstest]
fn the_error_of_another_function_fails_the_caller_without_a_retry(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.fail("test/invoke-error", &json!({"uncaught": true}));
    assert!(
        run["output"].to_string().contains("the callee gives up"),
        "{}",
        run["output"]
    );
    assert_eq!(run["failed_attempts"].as_array().map(Vec::len), Some(1));
}

#[rstest]
fn a_function_that_is_not_there(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/invoke-missing", &json!({}));
    let missing = stage.app.slug("does-not-exist");
    assert_eq!(
        run["output"]["caught"]["message"],
        format!("could not find function with ID: {missing}")
    );
}

#[rstest]
fn a_function_that_takes_too_long(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.begin("test/invoke-timeout", &json!({}));
    stage.server.wait_until_pending(&run, "invoke");
    let run = stage.server.wait_for_status(&run, "completed");
    let message = "Timed out waiting for invoked function to complete";
    assert_eq!(run["output"]["caught"]["message"], message, "{run:#}");
    // The callee goes on.
    let slow = stage.app.slug("invoke-slow");
    let runs = stage
        .server
        .get(&format!("/api/v1/runs?function={slow}"))
        .expect(200)
        .json();
    assert_eq!(runs["runs"][0]["status"], "running");
}
