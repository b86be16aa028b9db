//! Workers that connect to one of several instances, and move to another.

use serde_json::json;

use super::Installation;
use crate::support::proxy::Proxy;
use crate::support::sdk::{Sdk, SdkApp};
use crate::support::server::{EVENT_KEY, SIGNING_KEY, Server};
use crate::support::{DEADLINE, wait_for};

/// A worker that connects to what answers at this URL.
fn worker(url: &str, instance: &str) -> SdkApp {
    SdkApp::builder(Sdk::Ts4, url)
        .connected(instance)
        .env("INNGEST_SIGNING_KEY", SIGNING_KEY)
        .env("INNGEST_EVENT_KEY", EVENT_KEY)
        .start()
}

/// Waits until a worker of this name is ready there, or none is.
fn wait_for_worker(server: &Server, instance: &str, is_there: bool) {
    wait_for(&format!("worker {instance} to be there: {is_there}"), DEADLINE, || {
        let shown = server.get("/api/v1/workers").expect(200).json();
        let mut workers = shown["workers"].as_array().expect("a list").iter();
        let found = workers.any(|worker| worker["instance"] == instance && worker["status"] == "ready");
        (found == is_there).then_some(())
    });
}

#[test]
fn a_worker_of_one_instance_does_the_work_of_all() {
    let installation = Installation::builder().start();
    let mut app = worker(&installation[0].url(), "one");
    wait_for_worker(&installation[0], "one", true);
    // Whoever leases them, one instance has the connection.
    let events = json!(vec![json!({"name": "test/ten-steps", "data": {}}); 20]);
    for event in installation[1].send_all(&events) {
        let run = installation[1].wait_for_start(&event);
        installation[1].wait_for_status(&run, "completed");
        for step in 0..10 {
            assert_eq!(app.log(&format!("run_id={run}&step=step-{step}")).len(), 1);
        }
    }
    app.kill();
    wait_for_worker(&installation[0], "one", false);
    let event = installation[0].send(&json!({"name": "test/one-step", "data": {}}));
    let run = installation[0].wait_for_start(&event);
    // Once all have spoken it is known that nobody has the function.
    wait_for("the run to wait for a worker", DEADLINE, || {
        let view = installation[1].run(&run);
        (view["waiting_for"][0]["owner"] == "worker").then_some(())
    });
    let app = worker(&installation[1].url(), "two");
    installation[0].wait_for_status(&run, "completed");
    let log = app.log(&format!("run_id={run}&step=only"));
    assert_eq!((log.len(), log[0]["attempt"].clone()), (1, json!(0)));
}

#[test]
fn a_worker_whose_instance_stops_moves_and_brings_its_work_along() {
    let mut installation = Installation::builder().env("CALLBOARD__SHUTDOWN__GRACE", "30s").start();
    let proxy = Proxy::to(installation[0].address());
    let app = worker(&format!("http://{}", proxy.address()), "one");
    let event = installation[0].send(&json!({"name": "test/gated", "data": {"gate": "gate"}}));
    let run = installation[0].wait_for_start(&event);
    app.wait_for_log("fn=gated&step=held", 1);
    proxy.redirect(installation[1].address());
    installation[0].process().signal("TERM");
    wait_for_worker(&installation[1], "one", true);
    app.open("gate");
    installation[1].wait_for_status(&run, "completed");
    assert!(installation[0].process().wait().success());
    for step in ["before", "held", "after"] {
        let times = app.log(&format!("run_id={run}&step={step}"));
        assert_eq!(times.len(), 1, "{step}: {times:#?}");
    }
}
