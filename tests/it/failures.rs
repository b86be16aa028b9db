//! Failing steps and bodies: retried, caught, final.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::sdk::Sdk::{self, Python, Ts3, Ts4};
use crate::support::server::text;
use crate::support::stage::Stage;
use crate::support::{DEADLINE, wait_for};

fn statuses(attempts: &Value) -> Vec<&str> {
    let attempts = attempts.as_array().expect("an array");
    attempts
        .iter()
        .map(|attempt| attempt["status"].as_str().expect("a status"))
        .collect()
}

#[rstest]
fn a_flaky_step_is_tried_again_by_itself(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/step-fails", &json!({}));
    assert_eq!(run["output"], json!({"got": "made it"}));
    assert_eq!(stage.steps_of(&run), ["flaky", "flaky", "flaky"]);
    let step = &run["steps"][0];
    assert_eq!(statuses(&step["attempts"]), ["failed", "failed", "completed"]);
    assert_eq!(
        step["attempts"][0]["error"]["message"],
        "step-fails/flaky fails on purpose"
    );
    let seen: Vec<_> = stage.app.log(&format!("run_id={}&step=flaky", text(&run["id"])));
    let attempts: Vec<_> = seen.iter().map(|entry| entry["attempt"].as_u64()).collect();
    assert_eq!(attempts, [Some(0), Some(1), Some(2)]);
}

#[rstest]
fn a_step_that_fails_for_good_can_be_caught(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/step-fails-caught", &json!({}));
    assert_eq!(run["output"]["caught"], "step-fails-caught/bad fails on purpose");
    assert_eq!(run["output"]["after"], "after");
    assert_eq!(stage.steps_of(&run), ["bad", "bad", "after"]);
    assert_eq!(run["steps"][0]["status"], "failed");
}

#[rstest]
fn a_step_that_nobody_catches_fails_the_run_and_the_failure_handler_runs_once(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.fail("test/step-fails-uncaught", &json!({}));
    let id = text(&run["id"]);
    assert_eq!(stage.steps_of(&run), ["bad", "bad"]);
    let message = "step-fails-uncaught/bad fails on purpose";
    assert!(run["output"].to_string().contains(message), "{}", run["output"]);

    let noted = stage.app.wait_for_log(&format!("failed_run_id={id}"), 1);
    assert_eq!(noted[0]["function_id"], stage.app.slug("step-fails-uncaught"));
    assert_eq!(noted[0]["error"]["message"], message);
    // Its own run has ended: had there been a second one, it would be known by now.
    let handler = text(&noted[0]["run_id"]);
    let handler = stage.server.wait_for_status(&handler, "completed");
    let event = text(&handler["event_ids"][0]);
    assert_eq!(handler["event_name"], "inngest/function.failed");
    let runs = stage.server.event(&event)["runs"].clone();
    let same = |run: &&Value| run["function"]["id"] == handler["function"]["id"];
    assert_eq!(
        runs.as_array().expect("an array").iter().filter(same).count(),
        1,
        "{runs:#}"
    );
    assert_eq!(stage.app.log(&format!("failed_run_id={id}")).len(), 1);
}

#[rstest]
fn a_body_that_fails_once_keeps_its_steps(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/body-fails", &json!({}));
    assert_eq!(run["output"], json!({"after": "after"}));
    assert_eq!(stage.steps_of(&run), ["before", "after"]);
    assert_eq!(statuses(&run["failed_attempts"]), ["failed"]);
}

#[rstest]
fn a_body_that_always_fails(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.fail("test/body-fails-always", &json!({}));
    let id = text(&run["id"]);
    assert_eq!(stage.app.log(&format!("run_id={id}")).len(), 2);
    assert_eq!(statuses(&run["failed_attempts"]), ["failed", "failed"]);
    assert_eq!(run["output"]["name"], "TypeError", "{}", run["output"]);
    assert_eq!(run["output"]["message"], "the body fails on purpose");
    // A function with a trigger and an expression on the failures of another.
    let ours = wait_for("the failure to be heard of", DEADLINE, || {
        let seen = stage.app.log("fn=on-failed&step=got");
        seen.into_iter().find(|entry| entry["data"]["run_id"] == run["id"])
    });
    let data = &ours["data"];
    assert_eq!(data["function_id"], stage.app.slug("body-fails-always"));
    assert_eq!(data["error"]["message"], "the body fails on purpose");
    assert_eq!(data["event"]["name"], "test/body-fails-always");
    // The output is what the SDK has sent; others are told what errors have in every SDK.
    assert_eq!(run["output"].get("error"), None);
    let said = data["error"]["error"].as_str().expect("is summed up");
    assert!(said.starts_with("invalid status code: "), "{said}");
    assert_eq!(data["error"].get("code"), None);
}

#[rstest]
fn an_error_that_asks_not_to_be_retried_is_final(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.fail("test/non-retriable", &json!({}));
    assert_eq!(stage.steps_of(&run), ["before"]);
    assert_eq!(statuses(&run["failed_attempts"]), ["failed"]);
    assert_eq!(run["output"]["message"], "do not try again", "{}", run["output"]);
}

#[rstest]
fn a_step_that_asks_not_to_be_retried_is_final(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.fail("test/non-retriable-step", &json!({}));
    assert_eq!(stage.steps_of(&run), ["bad"]);
    // The Python SDK lets such an error end the function without reporting the step.
    let attempts = match sdk {
        Python => &run["failed_attempts"],
        Ts4 | Ts3 => &run["steps"][0]["attempts"],
    };
    assert_eq!(statuses(attempts), ["failed"]);
    assert!(
        run["output"].to_string().contains("this step is hopeless"),
        "{}",
        run["output"]
    );
}

#[rstest]
fn an_error_may_say_when_to_try_again(
    #[values(Ts4, Ts3, Python)] sdk: Sdk,
    #[values("retry-after", "retry-after-step")] function: &str,
) {
    let stage = Stage::shared(sdk);
    let run = stage.begin(&format!("test/{function}"), &json!({"retry_after_ms": 3000}));
    let waiting = stage.server.wait_until_pending(&run, "retry");
    let attempts = [&waiting["failed_attempts"][0], &waiting["steps"][0]["attempts"][0]];
    let failed = attempts
        .into_iter()
        .find(|attempt| attempt.is_object())
        .expect("a failed attempt");
    let at = |key: &str| chrono::DateTime::parse_from_rfc3339(&text(&failed[key])).expect("RFC 3339");
    let delay = (at("retry_at") - at("ended_at")).num_milliseconds();
    // Without the error's wish it would be one second. The header counts in whole seconds, or from when it was written.
    assert!((1001..=4000).contains(&delay), "to be tried again after {delay} ms");
    let run = stage.server.wait_for_status(&run, "completed");
    assert_eq!(run["output"], "after the wait");
}

#[rstest]
#[case::bad_gateway(json!({"status": 502, "body": "<h1>Bad Gateway</h1>"}))]
#[case::html(json!({"status": 200, "body": "<h1>Maintenance</h1>"}))]
#[case::reset(json!({"reset": true}))]
fn an_app_behind_a_bad_proxy_is_tried_again(#[case] mut fault: Value) {
    let stage = Stage::of_its_own(Ts4);
    fault["times"] = json!(2);
    // Or the app's cron function takes one of them, when a minute begins.
    fault["fn"] = json!("ten-steps");
    stage.app.control(&json!({"http": fault}));
    let run = stage.complete("test/ten-steps", &json!({}));
    assert_eq!(statuses(&run["failed_attempts"]), ["failed", "failed"]);
    assert_eq!(stage.steps_of(&run).len(), 10);
}

#[test]
fn a_step_within_a_step_is_refused_by_the_sdk_that_can_tell() {
    let stage = Stage::shared(Python);
    let run = stage.fail("test/nested", &json!({}));
    let said = run["output"].to_string().to_lowercase();
    assert!(said.contains("nested"), "{said}");
}

#[rstest]
fn a_cancelled_run_is_no_failure(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    // Its first attempt fails; it is cancelled while it waits for the second.
    let run = stage.begin("test/step-fails-uncaught", &json!({}));
    stage.server.wait_until_pending(&run, "retry");
    let cancel = format!("/api/v1/runs/{run}/cancel");
    stage.server.post(&cancel, &json!({})).expect(200);
    stage.server.wait_for_status(&run, "cancelled");
    let heard = wait_for("the cancellation to be heard of", DEADLINE, || {
        let heard = stage.app.log("fn=on-cancelled&step=got");
        heard.into_iter().find(|entry| entry["data"]["run_id"] == run.as_str())
    });
    assert_eq!(heard["data"]["run_id"], run.as_str());
    assert_eq!(stage.app.log(&format!("failed_run_id={run}")), Vec::<Value>::new());
}
