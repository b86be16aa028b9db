//! Operators pause, drain and resume functions, by the command line and the API.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::command::{callboard, stdout};
use crate::support::fake::{FakeApp, Reply};
use crate::support::sdk::Sdk::{self, Python, Ts4};
use crate::support::server::{Server, text};
use crate::support::stage::Stage;
use crate::support::{DEADLINE, unique, wait_for};

fn functions(server: &Server, wish: &str, slug: &str) -> String {
    stdout(&callboard(&["functions", wish, slug, "--url", &server.url()]))
}

/// Waits until a run waits for nothing but that its function goes on.
fn wait_until_held(server: &Server, run: &str) -> Value {
    wait_for("the run to be held", DEADLINE, || {
        let view = server.run(run);
        let pending = view["waiting_for"].as_array()?;
        (!pending.is_empty() && pending.iter().all(|one| one["owner"] == "pause")).then_some(view)
    })
}

#[rstest]
fn a_paused_function_leaves_its_app_alone_across_restarts(#[values(Ts4, Python)] sdk: Sdk) {
    let mut stage = Stage::of_its_own(sdk);
    let slug = stage.app.slug("gated");
    let gate = unique("gate");
    let run = stage.begin("test/gated", &json!({"gate": gate}));
    stage.app.wait_for_log(&format!("run_id={run}&step=held"), 1);
    let told = functions(&stage.server, "pause", &slug);
    assert_eq!(told, format!("{slug} is paused; 1 of its runs has not ended.\n"));
    assert!(functions(&stage.server, "pause", &slug).contains("is paused already"));
    // A step under way finishes, and counts.
    stage.app.open(&gate);
    let held = wait_for("the step is recorded", DEADLINE, || {
        let view = wait_until_held(&stage.server, &run);
        let steps = view["steps"].as_array()?;
        steps
            .iter()
            .any(|step| step["name"] == "held" && step["status"] == "completed")
            .then_some(view)
    });
    assert_eq!(held["status"], "running");

    // New triggers start nothing, and say why.
    let event = stage
        .server
        .send(&json!({"name": "test/gated", "data": {"gate": gate}}));
    let skip = stage.server.wait_for_skip(&event, &slug);
    assert_eq!(skip["reason"], "paused");

    stage.server.kill();
    stage.server.restart();
    stage.app.register();
    wait_until_held(&stage.server, &run);
    let listed = stdout(&callboard(&["functions", "list", "--url", &stage.server.url()]));
    let line = listed.lines().find(|line| line.contains(&slug)).expect("it is listed");
    assert!(
        line.contains("paused") && line.split_whitespace().nth(3) == Some("1"),
        "{line}"
    );
    let status = stdout(&callboard(&["status", "--url", &stage.server.url()]));
    assert!(
        status
            .lines()
            .any(|line| line.starts_with(&slug) && line.contains("paused")),
        "{status}"
    );
    assert_eq!(stage.app.log(&format!("run_id={run}&step=after")), Vec::<Value>::new());

    functions(&stage.server, "resume", &slug);
    let view = stage.server.wait_for_status(&run, "completed");
    assert_eq!(stage.steps_of(&view), ["before", "held", "released", "after"]);
    stage.complete("test/gated", &json!({"gate": gate}));
}

#[test]
fn a_held_run_can_be_cancelled_and_leaves_nothing() {
    let server = Server::start();
    let app = FakeApp::with_function(&server, 0, |_| Reply::done(&json!("made it")));
    let mut event = app.event();
    event["ts"] = json!(chrono::Utc::now().timestamp_millis() + 1_000);
    let run = server.wait_for_start(&server.send(&event));
    let function = text(&server.run(&run)["function"]["id"]);
    let path = |wish: &str| format!("/api/v1/functions/{function}/{wish}");
    let outcome = server.post(&path("pause"), &json!({})).expect(200).json();
    assert_eq!(
        (&outcome["changed"], &outcome["function"]["mode"]),
        (&json!(true), &json!("paused"))
    );
    let before = app.calls().len();
    wait_until_held(&server, &run);
    server
        .post(&format!("/api/v1/runs/{run}/cancel"), &json!({}))
        .expect(200);
    server.wait_for_status(&run, "cancelled");
    let outcome = server.post(&path("resume"), &json!({})).expect(200).json();
    assert_eq!(outcome["function"]["open_runs"], 0);
    server.complete(&app.event());
    assert_eq!(app.calls().len(), before + 1, "the cancelled run was never called");
    let unknown = server
        .post("/api/v1/functions/nobody/pause", &json!({}))
        .expect(404)
        .json();
    assert_eq!(unknown["error"]["code"], "CB-1202");
}

#[rstest]
fn a_drained_function_ends_what_it_has(#[values(Ts4)] sdk: Sdk) {
    let stage = Stage::of_its_own(sdk);
    let slug = stage.app.slug("gated");
    let gate = unique("gate");
    let run = stage.begin("test/gated", &json!({"gate": gate}));
    stage.app.wait_for_log(&format!("run_id={run}&step=held"), 1);
    assert!(functions(&stage.server, "drain", &slug).contains("1 of its runs has not ended"));
    let event = stage
        .server
        .send(&json!({"name": "test/gated", "data": {"gate": gate}}));
    assert_eq!(stage.server.wait_for_skip(&event, &slug)["reason"], "draining");
    stage.app.open(&gate);
    stage.server.wait_for_status(&run, "completed");
    let shown = stage
        .server
        .get(&format!("/api/v1/functions/{slug}"))
        .expect(200)
        .json();
    assert_eq!((&shown["mode"], &shown["open_runs"]), (&json!("draining"), &json!(0)));
}
