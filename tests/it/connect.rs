//! Workers of real SDKs that connect: calls over their connections, and what becomes of them when either side goes away.

use std::net::TcpListener;

use rstest::rstest;
use serde_json::json;

use crate::support::http::Request;
use crate::support::proxy::Proxy;
use crate::support::sdk::Sdk::{self, Python, Ts4};
use crate::support::sdk::SdkApp;
use crate::support::server::{Builder, SIGNING_KEY, Server, text};
use crate::support::{DEADLINE, wait_for};

/// Workers whose server knows soon that they are gone.
fn server() -> Builder {
    Server::builder()
        .switch("--no-poll")
        .flag("--retry-interval", "1")
        .env("CALLBOARD__CONNECT__LEASE", "3s")
}

/// A worker that is connected, of an app that all workers of this SDK share.
fn worker(sdk: Sdk, server: &Server, instance: &str) -> SdkApp {
    SdkApp::builder(sdk, &server.url()).connected(instance).start()
}

/// The connections as the server sees them: instance and status, 1 for ready and 2 for draining.
fn connections(server: &Server) -> Vec<(String, u64)> {
    let shown = server.get("/v0/connect/envs/dev/conns").expect(200).json();
    let shown = shown["data"].as_array().expect("a list").clone();
    let each = shown
        .iter()
        .map(|one| (text(&one["instance_id"]), one["status"].as_u64().expect("a number")));
    let mut all: Vec<_> = each.collect();
    all.sort();
    all
}

fn wait_for_connections(server: &Server, expected: &[(&str, u64)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(instance, status)| ((*instance).to_owned(), *status))
        .collect();
    wait_for(&format!("connections {expected:?}"), DEADLINE, || {
        (connections(server) == expected).then_some(())
    });
}

fn gated(server: &Server) -> String {
    let event = server.send(&json!({"name": "test/gated", "data": {"gate": "gate"}}));
    server.wait_for_start(&event)
}

fn times(app: &SdkApp, run: &str, step: &str) -> usize {
    app.log(&format!("run_id={run}&step={step}")).len()
}

#[rstest]
fn steps_run_over_a_connection(#[values(Ts4, Python)] sdk: Sdk) {
    let server = server().start();
    let app = worker(sdk, &server, "one");
    wait_for_connections(&server, &[("one", 1)]);
    let run = server.complete(&json!({"name": "test/ten-steps", "data": {}}));
    assert_eq!(run["output"], json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    for step in 0..10 {
        assert_eq!(times(&app, &text(&run["id"]), &format!("step-{step}")), 1);
    }
    // Errors, retries and parallel steps go the same way.
    let run = server.complete(&json!({"name": "test/step-fails", "data": {}}));
    assert_eq!(run["output"], json!({"got": "made it"}));
    server.run_to(&json!({"name": "test/non-retriable", "data": {}}), "failed");
    server.complete(&json!({"name": "test/parallel", "data": {}}));
    assert!(app.calls("method=POST").is_empty(), "it was called at its URL");
    let shown = server.get("/v0/connect/envs/dev/conns").expect(200).json();
    let query = "{ workerConnections(orderBy: [], filter: {}) { edges { node { memBytes } } } }";
    let memory = &server.graphql(query, &json!({}))["workerConnections"]["edges"][0]["node"]["memBytes"];
    assert_eq!(*memory, shown["data"][0]["attributes"]["mem_bytes"], "beyond 2 GiB too");
}

#[rstest]
fn runs_wait_for_a_worker_and_keep_their_attempts(#[values(Ts4, Python)] sdk: Sdk) {
    let server = server().start();
    let mut app = worker(sdk, &server, "one");
    wait_for_connections(&server, &[("one", 1)]);
    app.kill();
    wait_for_connections(&server, &[]);
    let event = server.send(&json!({"name": "test/one-step", "data": {}}));
    let run = server.wait_for_start(&event);
    // Whoever waits for a worker is shown as such.
    server.wait_until_pending(&run, "call");
    let flow = server.run(&run);
    assert_eq!(flow["waiting_for"][0]["owner"], "worker", "{flow:#}");
    let app = worker(sdk, &server, "two");
    server.wait_for_status(&run, "completed");
    let log = app.log(&format!("run_id={run}&step=only"));
    assert_eq!((log.len(), log[0]["attempt"].clone()), (1, json!(0)));
}

#[rstest]
fn waiting_for_a_worker_costs_no_turn_at_a_throttle(#[values(Ts4, Python)] sdk: Sdk) {
    let server = server().start();
    let mut app = worker(sdk, &server, "one");
    wait_for_connections(&server, &[("one", 1)]);
    app.kill();
    wait_for_connections(&server, &[]);
    // One start an hour: a turn that is lost would be missed.
    let event = server.send(&json!({"name": "test/throttle-hourly", "data": {"key": "a"}}));
    let run = server.wait_for_start(&event);
    wait_for("the run to wait for a worker", DEADLINE, || {
        (server.run(&run)["waiting_for"][0]["owner"] == "worker").then_some(())
    });
    let _app = worker(sdk, &server, "two");
    server.wait_for_status(&run, "completed");
}

#[rstest]
fn a_worker_that_closes_ends_what_it_has_begun_and_gets_nothing_new(#[values(Ts4, Python)] sdk: Sdk) {
    let server = server().start();
    let one = worker(sdk, &server, "one");
    let run = gated(&server);
    one.wait_for_log("fn=gated&step=held", 1);
    one.ask(&Request::post("/connect/close", &json!({})));
    wait_for_connections(&server, &[("one", 2)]);
    let next = server.send(&json!({"name": "test/one-step", "data": {}}));
    let next = server.wait_for_start(&next);
    let two = worker(sdk, &server, "two");
    server.wait_for_status(&next, "completed");
    assert_eq!((times(&one, &next, "only"), times(&two, &next, "only")), (0, 1));
    one.open("gate");
    server.wait_for_status(&run, "completed");
    assert_eq!((times(&one, &run, "held"), times(&two, &run, "held")), (1, 0));
    assert_eq!((times(&one, &run, "after"), times(&two, &run, "after")), (0, 1));
    wait_for_connections(&server, &[("two", 1)]);
}

#[test]
fn a_worker_whose_connection_is_cut_while_it_closes_still_delivers() {
    let server = server().env("CALLBOARD__CONNECT__LEASE", "60s").start();
    let proxy = Proxy::to(server.address());
    let app = SdkApp::builder(Ts4, &server.url())
        .connected("one")
        .env(
            "INNGEST_CONNECT_GATEWAY_URL",
            &format!("ws://{}/v0/connect", proxy.address()),
        )
        .start();
    let run = gated(&server);
    app.wait_for_log("fn=gated&step=held", 1);
    app.ask(&Request::post("/connect/close", &json!({})));
    wait_for_connections(&server, &[("one", 2)]);
    proxy.cut();
    // It connects anew, and says that it takes nothing.
    wait_for_connections(&server, &[]);
    wait_for_connections(&server, &[("one", 2)]);
    app.open("gate");
    wait_for("the step to be recorded", DEADLINE, || {
        let view = server.run(&run);
        let steps = view["steps"].as_array().expect("a list").clone();
        let held = steps.iter().find(|step| step["name"] == "held")?;
        (held["status"] == "completed").then_some(())
    });
    assert_eq!(times(&app, &run, "held"), 1);
}

#[rstest]
fn a_worker_that_is_killed_costs_an_attempt_when_its_lease_is_over(#[values(Ts4, Python)] sdk: Sdk) {
    let server = server().start();
    let mut one = worker(sdk, &server, "one");
    let run = gated(&server);
    one.wait_for_log("fn=gated&step=held", 1);
    one.kill();
    let two = worker(sdk, &server, "two");
    let again = two.wait_for_log(&format!("run_id={run}&step=held"), 1);
    assert_eq!(again[0]["attempt"], json!(1));
    two.open("gate");
    server.wait_for_status(&run, "completed");
    assert_eq!(times(&two, &run, "before"), 0, "what was recorded is not done again");
}

#[rstest]
fn a_server_that_is_killed_loses_nothing_of_what_workers_do(#[values(Ts4, Python)] sdk: Sdk) {
    let mut server = server().env("CALLBOARD__CONNECT__LEASE", "60s").start();
    let app = worker(sdk, &server, "one");
    let run = gated(&server);
    app.wait_for_log("fn=gated&step=held", 1);
    server.kill();
    // The step ends while nobody can be told.
    app.open("gate");
    app.wait_for_log(&format!("run_id={run}&step=released"), 1);
    server.restart();
    let view = server.wait_for_status(&run, "completed");
    assert_eq!(view["output"], "passed");
    assert_eq!((times(&app, &run, "before"), times(&app, &run, "after")), (1, 1));
    let held = times(&app, &run, "held");
    assert!((1..=2).contains(&held), "{held} times");
}

#[test]
fn workers_are_given_as_much_as_they_can_take() {
    let server = server().start();
    let start = |instance: &str| {
        SdkApp::builder(Ts4, &server.url())
            .connected(instance)
            .env("INNGEST_CONNECT_MAX_WORKER_CONCURRENCY", "1")
            .start()
    };
    let (one, two) = (start("one"), start("two"));
    wait_for_connections(&server, &[("one", 1), ("two", 1)]);
    let runs: Vec<String> = (0..6).map(|_| gated(&server)).collect();
    one.wait_for_log("fn=gated&step=held", 1);
    two.wait_for_log("fn=gated&step=held", 1);
    // One of them does all the rest, one after the other.
    one.open("gate");
    one.wait_for_log("fn=gated&step=held", 5);
    two.open("gate");
    for run in &runs {
        server.wait_for_status(run, "completed");
    }
    for app in [&one, &two] {
        let log = app.log("fn=gated");
        let at_work = log.iter().filter_map(|entry| match entry["step"].as_str() {
            Some("held") => Some(1),
            Some("released") => Some(-1),
            _ => None,
        });
        let most = at_work.scan(0, |now, change| {
            *now += change;
            Some(*now)
        });
        assert_eq!(most.max(), Some(1), "{log:#?}");
    }
    // Waiting for room is no attempt.
    for entry in one.log("fn=gated&step=held") {
        assert_eq!(entry["attempt"], json!(0));
    }
}

#[test]
fn workers_of_a_server_with_keys_show_theirs_and_have_a_port_of_their_own() {
    let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    let port = free.expect("a port is free").port();
    let server = Server::builder()
        .production()
        .env("CALLBOARD__CONNECT__PORT", &port.to_string())
        .start();
    let refused = Request::new("POST", "/v0/connect/start").send(server.address());
    assert_eq!(refused.status, 401);
    let gateway = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(Request::get("/ready").send(gateway).status, 200);
    assert_eq!(Request::get("/api/v1/nodes").send(gateway).status, 404);
    let app = SdkApp::builder(Ts4, &server.url())
        .connected("one")
        .env("INNGEST_SIGNING_KEY", SIGNING_KEY)
        .env("INNGEST_EVENT_KEY", crate::support::server::EVENT_KEY)
        .start();
    let run = server.complete(&json!({"name": "test/one-step", "data": {}}));
    assert_eq!(times(&app, &text(&run["id"]), "only"), 1);
    let apps = server.get("/api/v1/apps").expect(200).json();
    assert!(text(&apps["apps"][0]["url"]).starts_with("ws:"), "{apps:#}");
}

/// What it has done, as app and function, and where.
fn done(server: &Server, event: &str) -> String {
    let run = server.complete(&json!({"name": event, "data": {}}));
    text(&run["id"])
}

#[rstest]
fn several_apps_share_a_connection_and_change_with_it(#[values(Ts4, Python)] sdk: Sdk) {
    let server = server().start();
    let start = |instance: &str, apps: &str| {
        let app = SdkApp::builder(sdk, &server.url()).connected(instance);
        app.env("MORE_APPS", apps).start()
    };
    let log = |app: &SdkApp, run: &str| -> Vec<String> {
        let entries = app.log(&format!("run_id={run}&step=only"));
        entries.iter().map(|entry| text(&entry["fn"])).collect()
    };
    let mut one = start("one", "till=open+close,stock=count");
    wait_for_connections(&server, &[("one", 1)]);
    for function in ["till/open", "till/close", "stock/count", "one-step"] {
        let run = done(&server, &format!("test/{}", function.replace('/', "-")));
        assert_eq!(log(&one, &run), [function]);
    }
    let apps_of = |worker: &serde_json::Value| -> Vec<(String, u64)> {
        let apps = worker["apps"].as_array().expect("a list").iter();
        let mut apps: Vec<_> = apps
            .map(|app| (text(&app["name"]), app["functions"].as_u64().expect("a number")))
            .filter(|(name, _)| name != sdk.name())
            .collect();
        apps.sort();
        apps
    };
    let workers = || server.get("/api/v1/workers?all=true").expect(200).json()["workers"].clone();
    assert_eq!(
        apps_of(&workers()[0]),
        [("stock".to_owned(), 1), ("till".to_owned(), 2)]
    );
    one.kill();
    wait_for_connections(&server, &[]);
    // One has other functions now, another is gone.
    let two = start("two", "till=open+lock");
    wait_for_connections(&server, &[("two", 1)]);
    for function in ["till/open", "till/lock"] {
        let run = done(&server, &format!("test/{}", function.replace('/', "-")));
        assert_eq!(log(&two, &run), [function]);
    }
    let names = || -> Vec<String> {
        let shown = server.get("/api/v1/functions?app=till").expect(200).json();
        let functions = shown["functions"].as_array().expect("a list").clone();
        let mut names: Vec<_> = functions.iter().map(|function| text(&function["slug"])).collect();
        names.retain(|name| name.starts_with("till-"));
        names.sort();
        names
    };
    assert_eq!(names(), ["till-lock", "till-open"]);
    // Nobody has it, so its run waits.
    let event = server.send(&json!({"name": "test/stock-count", "data": {}}));
    let run = server.wait_for_start(&event);
    wait_for("the run to wait for a worker", DEADLINE, || {
        (server.run(&run)["waiting_for"][0]["owner"] == "worker").then_some(())
    });
    let three = start("three", "stock=count");
    server.wait_for_status(&run, "completed");
    assert_eq!(log(&three, &run), ["stock/count"]);
    // Each call goes where its app is.
    for _ in 0..5 {
        let run = done(&server, "test/till-open");
        assert_eq!(
            (log(&two, &run), log(&three, &run)),
            (vec!["till/open".to_owned()], Vec::new())
        );
    }
    // All of them are shown, those that have ended with how.
    let query = "{ workerConnections(orderBy: [{field: CONNECTED_AT, direction: ASC}], filter: {}) {
        edges { node { instanceId appName status disconnectReason disconnectedAt lastHeartbeatAt } } totalCount } }";
    let data = server.graphql(query, &json!({}));
    let edges = data["workerConnections"]["edges"].as_array().expect("a list").iter();
    let mut shown: Vec<_> = edges
        .map(|edge| &edge["node"])
        .filter(|node| node["appName"] != sdk.name())
        .map(|node| {
            [
                &node["instanceId"],
                &node["appName"],
                &node["status"],
                &node["disconnectReason"],
            ]
            .map(Clone::clone)
        })
        .collect();
    shown.sort_by_key(|row| format!("{row:?}"));
    let row = |row: [&str; 3], reason: serde_json::Value| {
        let [instance, app, status] = row.map(serde_json::Value::from);
        [instance, app, status, reason]
    };
    let expected = [
        row(["one", "stock", "DISCONNECTED"], json!("UNEXPECTED")),
        row(["one", "till", "DISCONNECTED"], json!("UNEXPECTED")),
        row(["three", "stock", "READY"], json!(null)),
        row(["two", "till", "READY"], json!(null)),
    ];
    assert_eq!(shown, expected);
}
