//! Health, metrics and nodes of a running server.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::fake::{Call, FakeApp, Reply};
use crate::support::server::Server;
use crate::support::{DEADLINE, wait_for};
use exposition::Exposition;

#[path = "../../src/http/tests/exposition.rs"]
#[allow(dead_code, reason = "shared with the tests of the handlers")]
mod exposition;

/// Two steps and the end; or a failed attempt and the end; or a failure for good.
fn answer(call: &Call) -> Reply {
    match (call.json()["event"]["data"]["kind"].as_str(), call.attempt()) {
        (Some("steps"), _) if !call.has_step("one") => Reply::step("one", &json!(1)),
        (Some("steps"), _) if !call.has_step("two") => Reply::step("two", &json!(2)),
        (Some("flaky"), 0) => Reply::error("once", false),
        (Some("broken"), _) => Reply::error("for good", true),
        _ => Reply::done(&json!("done")),
    }
}

fn scrape(server: &Server) -> Exposition {
    Exposition::parse(&server.get("/metrics").expect(200).text())
}

#[test]
fn metrics_after_a_known_workload_are_exactly_what_happened() {
    let server = Server::builder()
        .switch("--no-poll")
        .flag("--retry-interval", "1")
        .start();
    let app = FakeApp::with_function(&server, 1, answer);
    let event = |kind: &str| {
        let mut event = app.event();
        event["data"]["kind"] = json!(kind);
        event
    };
    server.run_to(&event("steps"), "completed");
    server.run_to(&event("flaky"), "completed");
    server.run_to(&event("broken"), "failed");
    let mut once = event("plain");
    once["id"] = json!("the same for both");
    server.run_to(&once, "completed");
    server.send(&once);
    server.send(&json!({"name": "nobody/listens"}));
    server.post("/e/key", &json!([{"name": ""}])).expect(400);

    let found = scrape(&server);
    let slug = format!("{}-fn", app.id());
    let of = |name: &str, more: &str| found.value(&format!("{name}{{function=\"{slug}\"{more}}}"));
    let outcome = |name: &str, outcome: &str| of(name, &format!(",outcome=\"{outcome}\""));
    assert_eq!(found.value("callboard_events_accepted_total"), 6.0);
    assert_eq!(found.value("callboard_runs_left_out_total"), 1.0);
    assert_eq!(found.value("callboard_intake_refusals_total{reason=\"invalid\"}"), 1.0);
    assert_eq!(of("callboard_runs_started_total", ""), 4.0);
    assert_eq!(outcome("callboard_runs_ended_total", "completed"), 3.0);
    assert_eq!(outcome("callboard_runs_ended_total", "failed"), 1.0);
    assert_eq!(outcome("callboard_runs_ended_total", "cancelled"), 0.0);
    assert_eq!(outcome("callboard_steps_ended_total", "completed"), 2.0);
    assert_eq!(of("callboard_retries_total", ""), 1.0);
    assert_eq!(of("callboard_dead_letters_total", ""), 0.0);
    // Three calls, two, one, one.
    assert_eq!(of("callboard_call_duration_seconds_count", ""), 7.0);
    assert_eq!(of("callboard_call_delay_seconds_count", ""), 7.0);
    assert_eq!(found.value("callboard_hand_off_seconds_count"), 2.0);
    let status = |status: &str| found.value(&format!("callboard_call_responses_total{{status=\"{status}\"}}"));
    assert_eq!(
        (status("200"), status("206"), status("500"), status("none")),
        (3.0, 2.0, 2.0, 0.0)
    );
    assert!(found.value("callboard_commit_writes_sum") >= found.value("callboard_commit_writes_count"));
    assert!(found.value("callboard_commit_writes_count") > 0.0);
    assert_eq!(found.value("callboard_store_errors_total{kind=\"refused\"}"), 0.0);
    assert_eq!(found.value("callboard_catalog_functions"), 1.0);
    assert_eq!(found.samples.get("callboard_store_open_runs"), Some(&0.0));
    assert_eq!(
        found.value(&format!("callboard_child_up{{child=\"executor/{slug}\"}}")),
        1.0
    );

    app.register(&server, &[]);
    let left = scrape(&server);
    assert!(
        !left
            .samples
            .keys()
            .any(|sample| sample.contains("runs_started_total") && sample.contains(&slug))
    );
}

#[test]
fn a_draining_server_says_so_while_it_finishes() {
    let mut server = Server::start();
    let app = FakeApp::with_function(&server, 0, |_| Reply::done(&json!(1)).after(DEADLINE));
    let ready = server.get("/health/ready").expect(200).json();
    assert_eq!((&ready["status"], &ready["failing"]), (&json!("ok"), &json!([])));
    let this = server.get("/api/v1/nodes").expect(200).json();
    assert_eq!(
        (&this["nodes"][0]["state"], &this["nodes"][0]["self"]),
        (&json!("serving"), &json!(true))
    );

    let event = server.send(&app.event());
    app.wait_for_calls(1);
    let busy = server.get("/api/v1/nodes").expect(200).json();
    assert_eq!(busy["nodes"][0]["jobs_in_flight"], 1);
    server.process().signal("TERM");
    let told = wait_for("the drain to be told", Duration::from_secs(8), || {
        let answer = server.get("/health/ready");
        (answer.status == 503).then(|| answer.json())
    });
    assert_eq!(told["status"], "draining");
    assert_eq!(server.get("/health").expect(200).json()["status"], 200);
    let draining: Value = server.get("/api/v1/nodes").expect(200).json();
    assert_eq!(draining["nodes"][0]["state"], "draining");
    // What it was at work on may end now; it is in the database, whichever came first.
    drop(app);
    assert!(server.process().wait().success());
    server.restart();
    let run = server.wait_for_start(&event);
    server.wait_for_status(&run, "completed");
}
