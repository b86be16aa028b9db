//! What decides whether a run starts, and its deadlines: rate limits, idempotency, singletons and timeouts, as the SDKs
//! ask for them.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::fake::{FakeApp, Reply};
use crate::support::sdk::Sdk::{self, Python, Ts3, Ts4};
use crate::support::server::text;
use crate::support::stage::Stage;
use crate::support::{DEADLINE, unique, wait_for};

/// Why an event did not start a function: the reason, and the particulars.
fn skipped(stage: &Stage, event: &str, function: &str) -> (String, String) {
    let skip = stage.server.wait_for_skip(event, &stage.app.slug(function));
    (text(&skip["reason"]), text(&skip["detail"]))
}

fn send(stage: &Stage, function: &str, data: &Value) -> String {
    stage
        .server
        .send(&json!({"name": format!("test/{function}"), "data": data}))
}

#[rstest]
fn a_rate_limit_lets_one_pass_and_says_when_the_next_one_may(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let (key, other) = (unique("key"), unique("key"));
    stage.complete("test/rate-limit", &json!({"key": key}));
    let event = send(&stage, "rate-limit", &json!({"key": key}));
    let (reason, detail) = skipped(&stage, &event, "rate-limit");
    assert_eq!(reason, "rate_limited");
    let told = format!("at most 2 in 60s for `event.data.key` = \"{key}\"; the next one passes at 2");
    assert!(detail.starts_with(&told), "{detail}");
    assert_eq!(stage.server.event(&event)["runs"], json!([]));
    stage.complete("test/rate-limit", &json!({"key": other}));
    let metrics = stage.server.get("/metrics").expect(200);
    let line = "callboard_skips_total{reason=\"rate_limited\"}";
    assert!(metrics.text().contains(line), "{}", metrics.text());
}

#[rstest]
fn an_idempotency_expression_starts_one_run_a_day(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let key = unique("key");
    stage.complete("test/idempotency", &json!({"key": key}));
    let events: Vec<String> = (0..3)
        .map(|_| send(&stage, "idempotency", &json!({"key": key})))
        .collect();
    for event in events {
        let (reason, detail) = skipped(&stage, &event, "idempotency");
        assert_eq!(reason, "idempotency", "{detail}");
        assert!(detail.contains(&key), "{detail}");
        assert_eq!(stage.server.event(&event)["runs"], json!([]));
    }
}

#[rstest]
fn a_singleton_skips_while_its_run_is_open(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let (key, gate) = (unique("key"), unique("gate"));
    let data = json!({"key": key, "gate": gate});
    let holder = stage.begin("test/singleton-skip", &data);
    stage.app.wait_for_log(&format!("run_id={holder}&step=work"), 1);
    let event = send(&stage, "singleton-skip", &data);
    let (reason, detail) = skipped(&stage, &event, "singleton-skip");
    assert_eq!(reason, "singleton");
    assert!(detail.ends_with(&format!("held by run {holder}")), "{detail}");
    stage.app.open(&gate);
    stage.server.wait_for_status(&holder, "completed");
    stage.complete("test/singleton-skip", &data);
}

#[rstest]
fn a_singleton_cancels_its_open_run_for_a_new_one(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let (key, gate) = (unique("key"), unique("gate"));
    let data = json!({"key": key, "gate": gate});
    let old = stage.begin("test/singleton-cancel", &data);
    stage.app.wait_for_log(&format!("run_id={old}&step=work"), 1);
    let new = stage.begin("test/singleton-cancel", &data);
    stage.server.wait_for_status(&old, "cancelled");
    let heard = wait_for("a function that listens to cancellations", DEADLINE, || {
        let heard = stage.app.log("fn=on-cancelled&step=got");
        heard.into_iter().find(|entry| entry["data"]["run_id"] == old)
    });
    let why = heard["data"]["error"].to_string();
    assert!(why.contains(&format!("run {new} takes its place")), "{why}");
    stage.app.open(&gate);
    stage.server.wait_for_status(&new, "completed");
}

#[rstest]
fn a_run_that_does_not_start_in_time_is_cancelled(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let ts = chrono::Utc::now().timestamp_millis() + 3_600_000;
    let event = stage
        .server
        .send(&json!({"name": "test/timeout-start", "ts": ts, "data": {}}));
    let run = stage.server.wait_for_start(&event);
    assert_eq!(stage.server.run(&run)["status"], "queued");
    let view = stage.server.wait_for_status(&run, "cancelled");
    assert_eq!(view["started_at"], Value::Null);
    assert_eq!(stage.app.calls(&format!("run_id={run}")), Vec::<Value>::new());
    // One that starts in time is left alone.
    stage.complete("test/timeout-start", &json!({}));
}

#[rstest]
fn a_run_that_takes_too_long_is_cancelled(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.begin("test/timeout-finish", &json!({}));
    stage.server.wait_until_pending(&run, "deadline");
    let view = stage.server.wait_for_status(&run, "cancelled");
    assert_eq!(view["waiting_for"], json!([]));
    assert!(view["started_at"].is_string());
}

#[test]
fn whoever_invokes_a_rate_limited_function_too_often_is_told() {
    let stage = Stage::of_its_own(Ts4);
    let app = FakeApp::start(|call| {
        let id = "3a1c2d8a9c7d1e6a0b5f4e3d2c1b0a9f8e7d6c5b";
        if call.function().ends_with("-target") {
            return Reply::done(&json!("invoked"));
        }
        if call.has_step(id) {
            return Reply::done(&call.json()["steps"][id]);
        }
        let target = call.function().replace("-caller", "-target");
        Reply::ops(
            &json!([{"op": "InvokeFunction", "id": id, "name": "i", "displayName": "i",
            "opts": {"function_id": target, "payload": {"data": {}}}}]),
        )
    });
    let caller = app.function("caller", &format!("{}/go", app.id()), 0);
    let mut target = app.function("target", &format!("{}/never", app.id()), 0);
    target["rateLimit"] = json!({"limit": 1, "period": "1h"});
    app.register(&stage.server, &[caller, target]);
    let first = stage.server.complete(&app.event());
    assert_eq!(first["output"]["data"], "invoked", "{first:#}");
    let second = stage.server.complete(&app.event());
    let error = &second["output"]["error"];
    assert_eq!(error["name"], "Error", "{second:#}");
    assert_eq!(error["message"], "invoked function is rate limited");
}
