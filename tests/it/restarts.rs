//! The server ends, politely or not, and goes on where it was.

use rstest::rstest;
use serde_json::json;

use crate::support::sdk::Sdk::{self, Python, Ts3, Ts4};
use crate::support::sdk::SdkApp;
use crate::support::server::Server;

fn gated(sdk: Sdk) -> (Server, SdkApp, String) {
    let server = Server::builder()
        .switch("--no-poll")
        .flag("--retry-interval", "1")
        .start();
    let app = SdkApp::builder(sdk, &server.url()).start();
    app.register();
    let event = server.send(&json!({"name": "test/gated", "data": {"gate": "gate"}}));
    let run = server.wait_for_start(&event);
    app.wait_for_log("fn=gated&step=held", 1);
    (server, app, run)
}

#[rstest]
fn a_killed_server_goes_on_from_the_last_step_that_was_recorded(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let (mut server, app, run) = gated(sdk);
    let asleep = server.send(&json!({"name": "test/sleep", "data": {"sleep_ms": 2000}}));
    let asleep = server.wait_for_start(&asleep);
    server.wait_until_pending(&asleep, "sleep");
    server.kill();
    server.restart();
    app.open("gate");
    let view = server.wait_for_status(&run, "completed");
    assert_eq!(view["output"], "passed");
    // What was recorded is not run again; what was under way is.
    assert_eq!(app.log(&format!("run_id={run}&step=before")).len(), 1);
    assert_eq!(app.log(&format!("run_id={run}&step=held")).len(), 2);
    assert_eq!(app.log(&format!("run_id={run}&step=after")).len(), 1);
    let view = server.wait_for_status(&asleep, "completed");
    assert_eq!(view["output"], "slept");
    assert_eq!(app.log(&format!("run_id={asleep}&step=before")).len(), 1);
}

#[rstest]
fn a_server_that_is_told_to_stop_lets_the_calls_under_way_end(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let (mut server, app, run) = gated(sdk);
    server.process().signal("TERM");
    app.open("gate");
    let status = server.process().wait();
    assert!(status.success(), "{status}");
    server.restart();
    server.wait_for_status(&run, "completed");
    for step in ["before", "held", "after"] {
        assert_eq!(app.log(&format!("run_id={run}&step={step}")).len(), 1, "{step}");
    }
}

#[test]
fn what_is_known_survives_a_restart() {
    let mut server = Server::start();
    let app = SdkApp::ts4(&server.url());
    app.register();
    let event = server.send(&json!({"name": "test/hello", "id": "once", "data": {"name": "Ada"}}));
    let run = server.wait_for_start(&event);
    let before = server.wait_for_status(&run, "completed");
    let functions = server.get("/api/v1/functions").expect(200).json();
    assert!(server.terminate().success());
    server.restart();
    assert_eq!(server.run(&run), before);
    assert_eq!(server.get("/api/v1/functions").expect(200).json(), functions);
    // An id counts for a day, restarts included.
    let again = server.send(&json!({"name": "test/hello", "id": "once", "data": {"name": "Ada"}}));
    let skip = server.wait_for_skip(&again, "ts4-hello");
    assert_eq!(skip["reason"], "duplicate");
}
