//! Waiting for events and for signals.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::fake::{FakeApp, Reply};
use crate::support::sdk::Sdk::{self, Python, Ts3, Ts4};
use crate::support::server::Server;
use crate::support::stage::Stage;
use crate::support::unique;

#[rstest]
fn an_event_ends_a_wait(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::of_its_own(sdk);
    let run = stage.begin("test/wait-event", &json!({}));
    let waiting = stage.server.wait_until_pending(&run, "event");
    assert_eq!(waiting["waiting_for"][0]["name"], "test/wait-event.answer");
    stage
        .server
        .send(&json!({"name": "test/wait-event.other", "data": {"n": 1}}));
    stage
        .server
        .send(&json!({"name": "test/wait-event.answer", "data": {"n": 2}}));
    let run = stage.server.wait_for_status(&run, "completed");
    assert_eq!(
        run["output"],
        json!({"timed_out": false, "name": "test/wait-event.answer", "data": {"n": 2}})
    );
    assert_eq!(stage.steps_of(&run), ["before", "after"]);
}

#[rstest]
fn one_event_ends_every_wait_for_it(#[values(Ts4)] sdk: Sdk) {
    let stage = Stage::of_its_own(sdk);
    let runs: Vec<_> = (0..5).map(|_| stage.begin("test/wait-event", &json!({}))).collect();
    for run in &runs {
        stage.server.wait_until_pending(run, "event");
    }
    stage.server.send(&json!({"name": "test/wait-event.answer"}));
    for run in &runs {
        let run = stage.server.wait_for_status(run, "completed");
        assert_eq!(run["output"]["timed_out"], false);
    }
}

#[rstest]
fn a_wait_gives_up_in_time(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/wait-timeout", &json!({"timeout_ms": 1000}));
    assert_eq!(run["output"], json!({"timed_out": true}));
    assert_eq!(run["steps"][0]["output"], Value::Null);
}

#[rstest]
fn only_an_event_that_fulfils_the_condition_counts(
    #[values(Ts4, Ts3, Python)] sdk: Sdk,
    #[values("wait-if", "wait-match")] function: &str,
) {
    let stage = Stage::shared(sdk);
    let id = unique("it");
    let run = stage.begin(&format!("test/{function}"), &json!({"id": id}));
    stage.server.wait_until_pending(&run, "event");
    let answer = format!("test/{function}.answer");
    let events = json!([
        {"name": answer, "data": {"id": "other", "ok": true}},
        {"name": answer, "data": {"ok": true}},
        {"name": answer, "data": {"id": id, "ok": true, "this": "one"}},
    ]);
    stage.server.send_all(&events);
    let run = stage.server.wait_for_status(&run, "completed");
    assert_eq!(
        run["output"],
        json!({"timed_out": false, "name": answer, "data": {"id": id, "ok": true, "this": "one"}})
    );
}

#[rstest]
fn a_condition_that_is_no_expression_fails_the_run_at_once(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.fail("test/wait-bad-if", &json!({"id": 1}));
    let error = match &run["output"]["error"] {
        Value::Object(error) => Value::Object(error.clone()),
        _ => run["output"].clone(),
    };
    let message = "Wait for event If expression failed to compile";
    assert_eq!(error["error"], format!("InvalidExpression: {message}"), "{run:#}");
    assert_eq!(error["name"], "InvalidExpression");
    assert_eq!(error["message"], message);
    let stack = error["stack"].as_str().expect("a stack");
    assert!(
        stack.starts_with("error compiling expression: ERROR: <input>:1:"),
        "{stack}"
    );
    assert_eq!(stage.calls_of(&run), 1);
}

#[rstest]
fn an_event_sent_by_the_answer_that_waits_for_it_is_not_missed(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let id = unique("it");
    let run = stage.complete("test/wait-and-send", &json!({"id": id}));
    assert_eq!(run["output"]["timed_out"], false, "{run:#}");
    assert_eq!(run["output"]["data"], json!({"id": id}));
}

#[rstest]
fn a_signal_ends_a_wait(#[values(Ts4, Ts3)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let signal = unique("signal");
    let run = stage.begin("test/wait-signal", &json!({"signal": signal}));
    stage.server.wait_until_pending(&run, "signal");
    let sent = json!({"signal": signal, "data": {"n": 1}});
    let answer = stage.server.post("/v1/signals", &sent).expect(200).json();
    assert_eq!(answer["data"]["run_id"], run.as_str());
    let run = stage.server.wait_for_status(&run, "completed");
    assert_eq!(
        run["output"],
        json!({"timed_out": false, "signal": signal, "data": {"n": 1}})
    );
    stage.server.post("/v1/signals", &sent).expect(404);
}

#[rstest]
fn a_function_sends_a_signal_to_another(#[values(Ts4, Ts3)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let signal = unique("signal");
    let run = stage.begin("test/wait-signal", &json!({"signal": signal}));
    stage.server.wait_until_pending(&run, "signal");
    stage.complete(
        "test/send-signal",
        &json!({"signal": signal, "payload": {"from": "another"}}),
    );
    let run = stage.server.wait_for_status(&run, "completed");
    assert_eq!(
        run["output"],
        json!({"timed_out": false, "signal": signal, "data": {"from": "another"}})
    );
}

#[rstest]
fn a_wait_for_a_signal_gives_up_in_time(#[values(Ts4, Ts3)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete(
        "test/wait-signal",
        &json!({"signal": unique("signal"), "timeout_ms": 1000}),
    );
    assert_eq!(run["output"], json!({"timed_out": true}));
}

#[rstest]
fn a_second_wait_for_a_signal_fails_or_takes_over(#[values(Ts4, Ts3)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let signal = unique("signal");
    let first = stage.begin("test/wait-signal", &json!({"signal": signal}));
    stage.server.wait_until_pending(&first, "signal");

    let refused = stage.fail("test/wait-signal", &json!({"signal": signal}));
    assert!(
        refused["output"].to_string().contains("Signal conflict"),
        "{}",
        refused["output"]
    );

    let heir = stage.begin("test/wait-signal", &json!({"signal": signal, "on_conflict": "replace"}));
    stage.server.wait_until_pending(&heir, "signal");
    let answer = stage
        .server
        .post("/v1/signals", &json!({"signal": signal, "data": 1}))
        .expect(200)
        .json();
    assert_eq!(answer["data"]["run_id"], heir.as_str());
    stage.server.wait_for_status(&heir, "completed");
    assert_eq!(stage.server.run(&first)["status"], "running");
}

/// An app that waits for `<app>/ready` with its run's number once it is let go; then it returns what it got.
fn late(server: &Server) -> FakeApp {
    let id = "3a1c2d8a9c7d1e6a0b5f4e3d2c1b0a9f8e7d6c5b";
    FakeApp::with_function(server, 0, move |call| {
        if call.has_step(id) {
            return Reply::done(&call.json()["steps"][id]["data"]);
        }
        let name = call.function().replace("-fn", "/ready");
        let wait = json!([{"op": "WaitForEvent", "id": id, "name": name, "displayName": "ready",
            "opts": {"event": name, "timeout": "2s", "if": "event.data.n == async.data.n"}}]);
        Reply::ops(&wait).after(Duration::from_secs(1))
    })
}

#[rstest]
#[case::off("0s", Value::Null)]
#[case::on("1m", json!({"n": 2}))]
fn a_wait_finds_what_came_before_it_if_it_is_told_to(#[case] look_back: &str, #[case] expected: Value) {
    let server = Server::builder()
        .switch("--no-poll")
        .env("CALLBOARD__WAITS__LOOK_BACK", look_back)
        .start();
    let app = late(&server);
    let mut event = app.event();
    event["data"] = json!({"n": 2});
    let run = server.wait_for_start(&server.send(&event));
    app.wait_for_calls(1);
    let ready = format!("{}/ready", app.id());
    server.send_all(&json!([{"name": ready, "data": {"n": 1}}, {"name": ready, "data": {"n": 2}}]));
    let run = server.wait_for_status(&run, "completed");
    assert_eq!(run["output"], expected, "{run:#}");
}
