//! An app that dies under load and comes back: few attempts are lost with it, no run is, and nobody else notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::command::{callboard, stdout};
use crate::support::fake::{Call, FakeApp, Reply};
use crate::support::http::Request;
use crate::support::server::Server;
use crate::support::{DEADLINE, wait_for};

const RUNS: usize = 200;

/// Breakers that open for a second or two. Retries come after a second; the app's calls take turns of 20.
fn server() -> Server {
    Server::builder()
        .switch("--no-poll")
        .flag("--retry-interval", "1")
        .env("CALLBOARD__BREAKER__OPEN", "1s")
        .env("CALLBOARD__BREAKER__OPEN_CAP", "2s")
        .env("CALLBOARD__LIMITS__CALLS_PER_FUNCTION", "20")
        .start()
}

/// Two steps and an end.
fn work(call: &Call) -> Reply {
    let step = ["one", "two"].into_iter().find(|step| !call.has_step(step));
    match step {
        Some(step) => Reply::step(step, &json!(step)).after(Duration::from_millis(5)),
        None => Reply::done(&json!("done")),
    }
}

/// An app that works while it is there.
struct App {
    app: FakeApp,
    is_there: Arc<AtomicBool>,
    /// Calls that it did not answer.
    lost: Arc<AtomicUsize>,
}

impl App {
    fn start(server: &Server, dead: Reply) -> Self {
        let is_there = Arc::new(AtomicBool::new(true));
        let lost = Arc::new(AtomicUsize::new(0));
        let (alive, count) = (Arc::clone(&is_there), Arc::clone(&lost));
        let app = FakeApp::with_function(server, 4, move |call| {
            if alive.load(Ordering::SeqCst) {
                work(call)
            } else {
                count.fetch_add(1, Ordering::SeqCst);
                dead.clone()
            }
        });
        Self { app, is_there, lost }
    }

    fn set(&self, is_there: bool) {
        self.is_there.store(is_there, Ordering::SeqCst);
    }

    fn begin(&self, server: &Server) -> Vec<String> {
        server.send_all(&json!(vec![self.app.event(); RUNS]))
    }

    fn breaker(&self, server: &Server) -> Value {
        let apps = server.get("/api/v1/apps").expect(200).json();
        let all = apps["apps"].as_array().expect("an array");
        let own = all
            .iter()
            .find(|app| app["name"] == self.app.id())
            .expect("it has registered");
        own["breaker"].clone()
    }

    #[track_caller]
    fn wait_for_openings(&self, server: &Server, count: u64) -> Value {
        wait_for(&format!("{count} openings"), DEADLINE, || {
            let breaker = self.breaker(server);
            let is_enough = breaker["openings"].as_u64() >= Some(count) && breaker["state"] == "open";
            is_enough.then_some(breaker)
        })
    }
}

#[track_caller]
fn wait_for_all(server: &Server, events: &[String]) {
    for event in events {
        let run = server.wait_for_start(event);
        let run = server.wait_for_status_within(&run, "completed", DEADLINE * 2);
        assert_eq!(run["steps"].as_array().map(Vec::len), Some(2), "{run:#}");
    }
}

#[rstest]
#[case::resets(Reply::Reset)]
#[case::a_proxy_without_it(Reply::http(503, "no healthy upstream"))]
fn an_app_that_dies_under_load_costs_few_attempts_and_no_run(#[case] dead: Reply) {
    let server = server();
    let app = App::start(&server, dead);
    let other = FakeApp::with_function(&server, 0, work);
    let events = app.begin(&server);
    app.app.wait_for_calls(100);
    app.set(false);
    let good = app.app.calls().len() as u64;
    let opened = app.wait_for_openings(&server, 1);
    assert!(opened["failure_rate"].as_f64() >= Some(0.5), "{opened}");
    let shown = stdout(&callboard(&["status", "--url", &server.url()]));
    assert!(
        shown
            .lines()
            .any(|line| line.starts_with(app.app.id()) && line.contains("open")),
        "{shown}"
    );

    // Calls under way when it opened may still come in; from the next opening on there are none but probes.
    let opened = app.wait_for_openings(&server, 2);
    let (calls, openings) = (app.app.calls().len(), opened["openings"].as_u64().expect("a number"));
    let elsewhere = server.complete(&other.event());
    assert_eq!(elsewhere["output"], "done");
    let opened = app.wait_for_openings(&server, openings + 3);
    let probes = app.app.calls().len() - calls;
    let most = 2 * (opened["openings"].as_u64().expect("a number") - openings + 1);
    assert!(probes as u64 <= most, "{probes} calls, {most} probes at the most");

    app.set(true);
    wait_for_all(&server, &events);
    // Lost are as many calls as there had been good ones, those under way at the time, and probes.
    let lost = app.lost.load(Ordering::SeqCst) as u64;
    let openings = app.breaker(&server)["openings"].as_u64().expect("a number");
    assert!(
        lost <= good + 2 * 20 + 2 * (openings + 1),
        "{lost} calls lost, {openings} openings, {good} before"
    );
    assert_eq!(
        wait_for("it closes", DEADLINE, || {
            let breaker = app.breaker(&server);
            (breaker["state"] != "open").then_some(breaker)
        })["enabled"],
        true
    );
    let log = server.log();
    assert!(log.contains("CB-2101"), "{log}");
}

#[test]
fn a_server_that_is_killed_with_an_open_breaker_learns_anew_and_loses_nothing() {
    let mut server = server();
    let app = App::start(&server, Reply::Reset);
    let events = app.begin(&server);
    app.app.wait_for_calls(100);
    app.set(false);
    app.wait_for_openings(&server, 1);
    server.kill();
    server.restart();
    let breaker = app.wait_for_openings(&server, 1);
    assert_eq!(breaker["enabled"], true);
    app.set(true);
    wait_for_all(&server, &events);
}

#[test]
fn an_operator_switches_a_breaker_off_and_the_switch_survives() {
    let mut server = server();
    let app = App::start(&server, Reply::Reset);
    let path = format!("/api/v1/apps/{}/breaker", app.app.id());
    let switch = |server: &Server, body: &Value| Request::new("PUT", &path).json(body).send(server.address());
    assert_eq!(
        switch(&server, &json!({"enabled": false})).expect(200).json()["state"],
        "off"
    );
    server.kill();
    server.restart();
    assert_eq!(app.breaker(&server)["enabled"], false);
    app.set(false);
    let events = app.begin(&server);
    for event in &events[..20] {
        let run = server.wait_for_start(event);
        server.wait_for_status(&run, "failed");
    }
    assert_eq!(app.breaker(&server)["openings"], 0);
    switch(&server, &json!({"enabled": null})).expect(200);
    assert_eq!(app.breaker(&server)["set"], Value::Null);
}
