//! Cancelling, by an event or by hand.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::http::Request;
use crate::support::sdk::Sdk::{self, Python, Ts3, Ts4};
use crate::support::server::text;
use crate::support::stage::Stage;
use crate::support::{DEADLINE, unique, wait_for};

#[rstest]
fn an_event_cancels_the_run_it_is_meant_for(
    #[values(Ts4, Ts3, Python)] sdk: Sdk,
    #[values("cancel-on", "cancel-match")] function: &str,
) {
    let stage = Stage::shared(sdk);
    let (mine, other) = (unique("id"), unique("id"));
    let cancelled = stage.begin(&format!("test/{function}"), &json!({"id": mine}));
    let left = stage.begin(&format!("test/{function}"), &json!({"id": other}));
    for run in [&cancelled, &left] {
        stage.server.wait_until_pending(run, "sleep");
    }
    stage
        .server
        .send(&json!({"name": format!("test/{function}.cancel"), "data": {"id": mine}}));
    let run = stage.server.wait_for_status(&cancelled, "cancelled");
    assert_eq!(run["waiting_for"], json!([]));
    assert_eq!(
        stage.app.log(&format!("run_id={cancelled}&step=after")),
        Vec::<Value>::new()
    );
    assert_eq!(stage.server.run(&left)["status"], "running");
    // Functions hear of it.
    let heard = wait_for("a function that listens to cancellations", DEADLINE, || {
        let heard = stage.app.log("fn=on-cancelled&step=got");
        heard.into_iter().find(|entry| entry["data"]["run_id"] == run["id"])
    });
    assert_eq!(heard["data"]["function_id"], stage.app.slug(function));
}

#[rstest]
fn an_event_cancels_a_run_whose_step_is_being_run(#[values(Ts4)] sdk: Sdk) {
    use crate::support::fake::{FakeApp, Reply};
    let stage = Stage::of_its_own(sdk);
    let app = FakeApp::start(|_| Reply::done(&json!("too late")).after(DEADLINE));
    let mut function = app.function("fn", &format!("{}/go", app.id()), 0);
    function["cancel"] = json!([{"event": "stop"}]);
    app.register(&stage.server, &[function]);
    let event = stage.server.send(&app.event());
    let run = stage.server.wait_for_start(&event);
    app.wait_for_calls(1);
    stage.server.send(&json!({"name": "stop"}));
    stage.server.wait_for_status(&run, "cancelled");
    // The call comes back to a run that is over.
    drop(app);
    let after = stage.complete("test/hello", &json!({}));
    assert_eq!(after["status"], "completed");
    assert_eq!(stage.server.run(&run)["status"], "cancelled");
}

#[rstest]
fn a_sleeping_run_is_cancelled_by_hand(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.begin("test/sleep", &json!({"sleep_ms": 3_600_000}));
    stage.server.wait_until_pending(&run, "sleep");
    let cancel = format!("/api/v1/runs/{run}/cancel");
    let answer = stage.server.post(&cancel, &json!({})).expect(200).json();
    assert_eq!(answer, json!({"id": run, "cancelled": true}));
    let view = stage.server.wait_for_status(&run, "cancelled");
    assert!(view["ended_at"].is_string());
    let again = stage.server.post(&cancel, &json!({})).expect(200).json();
    assert_eq!(again["cancelled"], false);
}

#[rstest]
fn a_queued_run_is_cancelled_by_hand_and_never_starts(#[values(Ts4)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let ts = chrono::Utc::now().timestamp_millis() + 3_600_000;
    let event = stage.server.send(&json!({"name": "test/hello", "ts": ts}));
    let run = stage.server.wait_for_start(&event);
    assert_eq!(stage.server.run(&run)["status"], "queued");
    stage.server.delete(&format!("/v1/runs/{run}")).expect(200);
    stage.server.wait_for_status(&run, "cancelled");
    assert_eq!(stage.app.calls(&format!("run_id={run}")), Vec::<Value>::new());
}

#[rstest]
fn a_run_in_the_middle_of_a_step_is_cancelled_and_its_result_dropped(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let gate = unique("gate");
    let run = stage.begin("test/gated", &json!({"gate": gate}));
    stage.app.wait_for_log(&format!("run_id={run}&step=held"), 1);
    stage
        .server
        .post(&format!("/api/v1/runs/{run}/cancel"), &json!({}))
        .expect(200);
    stage.server.wait_for_status(&run, "cancelled");
    stage.app.open(&gate);
    stage.app.wait_for_log(&format!("run_id={run}&step=released"), 1);
    stage.app.wait_for_calls(&format!("run_id={run}&complete=true"), 1);
    // Another run through the same executor ends after the late answer has been looked at.
    stage.complete("test/gated", &json!({"gate": gate}));
    let view = stage.server.run(&run);
    assert_eq!(view["status"], "cancelled");
    assert_eq!(stage.app.log(&format!("run_id={run}&step=after")), Vec::<Value>::new());
}

#[test]
fn cancelling_what_is_not_there() {
    let stage = Stage::shared(Ts4);
    let unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let problem = stage
        .server
        .post(&format!("/api/v1/runs/{unknown}/cancel"), &json!({}))
        .expect(404)
        .json();
    assert!(text(&problem["error"]["code"]).starts_with("CB-"));
    stage.server.delete(&format!("/v1/runs/{unknown}")).expect(404);
    Request::post("/api/v1/runs/nonsense/cancel", &json!({}))
        .send(stage.server.address())
        .expect(400);
}
