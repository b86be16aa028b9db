//! Limits on runs: a slot is held from a run's first call to its end, whatever it does in between.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard_backends::{postgres, redis::Redis};
use serde_json::{Value, json};

use crate::support::command::{callboard, stdout};
use crate::support::fake::{Call, FakeApp, Reply};
use crate::support::server::Server;
use crate::support::{DEADLINE, wait_for};

/// The runs of each key that have been called and not for the last time, as the app sees it, and how many there were at most.
#[derive(Debug, Default)]
struct Open {
    now: HashMap<String, HashSet<String>>,
    most: HashMap<String, usize>,
}

/// An app with a function `fn` that sleeps for `data.nap` between its two calls.
struct Stage {
    app: FakeApp,
    open: Arc<Mutex<Open>>,
}

impl Stage {
    fn new() -> Self {
        let open = Arc::new(Mutex::new(Open::default()));
        let counted = Arc::clone(&open);
        let app = FakeApp::start(move |call| answer(&mut counted.lock().expect("no panic under the lock"), call));
        Self { app, open }
    }

    fn register(&self, server: &Server, limit: u64) {
        let mut function = self.app.function("fn", &format!("{}/go", self.app.id()), 3);
        function["concurrency"] = json!({"fn": [{"limit": limit, "key": "event.data.key"}]});
        self.app.register(server, &[function]);
    }

    fn event(&self, key: &str, nap: &str) -> Value {
        json!({"name": format!("{}/go", self.app.id()), "data": {"key": key, "nap": nap}})
    }

    fn most(&self, key: &str) -> usize {
        let open = self.open.lock().expect("no panic under the lock");
        open.most.get(key).copied().unwrap_or(0)
    }

    /// Waits until so many runs hold a slot and so many wait for one; answers the rule.
    fn wait_for_flow(&self, server: &Server, in_use: u64, waiting: u64) -> Value {
        let path = format!("/api/v1/functions/{}-fn/flow", self.app.id());
        wait_for(&format!("{in_use} in use and {waiting} waiting"), DEADLINE, || {
            let rule = server.get(&path).expect(200).json()["rules"][0].clone();
            (rule["in_use"] == in_use && rule["waiting"] == waiting).then_some(rule)
        })
    }
}

fn answer(open: &mut Open, call: &Call) -> Reply {
    let body = call.json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (run, data) = (text(&body["ctx"]["run_id"]), &body["event"]["data"]);
    let key = text(&data["key"]);
    let of_key = open.now.entry(key.clone()).or_default();
    if call.has_step("nap") {
        of_key.remove(&run);
        return Reply::done(&json!("rested"));
    }
    of_key.insert(run);
    let count = of_key.len();
    let most = open.most.entry(key).or_default();
    *most = count.max(*most);
    Reply::ops(&json!([{"op": "Sleep", "id": "nap", "name": data["nap"], "displayName": "nap"}]))
}

#[test]
fn a_run_holds_its_slot_while_it_sleeps() {
    let server = Server::start();
    let stage = Stage::new();
    stage.register(&server, 2);
    let events = ["x", "x", "x", "y", "x"].map(|key| stage.event(key, "1500ms"));
    let ids = server.send_all(&json!(events));
    let rule = stage.wait_for_flow(&server, 3, 2);
    assert_eq!((&rule["kind"], &rule["limit"]), (&json!("run_concurrency"), &json!(2)));
    assert_eq!(rule["longest"][0]["key"], "x");
    for id in &ids {
        let run = server.wait_for_start(id);
        server.wait_for_status(&run, "completed");
    }
    assert_eq!((stage.most("x"), stage.most("y")), (2, 1));
    stage.wait_for_flow(&server, 0, 0);
}

#[test]
fn slots_come_free_by_a_sync_and_by_a_cancellation() {
    let server = Server::start();
    let stage = Stage::new();
    stage.register(&server, 1);
    let runs = [(); 3].map(|()| server.wait_for_start(&server.send(&stage.event("x", "1h"))));
    stage.wait_for_flow(&server, 1, 2);
    let waits = server.run(&runs[1]);
    assert_eq!(
        (&waits["status"], &waits["waiting_for"][0]["what"]),
        (&json!("queued"), &json!("slot"))
    );
    for (run, position) in [(&runs[1], "1"), (&runs[2], "2")] {
        let waits = &server.run(run)["waiting_for"][0];
        let line = ["limit", "key", "position"].map(|name| &waits[name]);
        assert_eq!(line, ["run_concurrency", "x", position], "{waits:#}");
    }
    stage.register(&server, 2);
    stage.wait_for_flow(&server, 2, 1);
    server.wait_until_pending(&runs[1], "sleep");
    server
        .post(&format!("/api/v1/runs/{}/cancel", runs[0]), &json!({}))
        .expect(200);
    server.wait_until_pending(&runs[2], "sleep");
    // One that waits may be cancelled as well, and leaves nothing.
    let last = server.wait_for_start(&server.send(&stage.event("x", "1h")));
    stage.wait_for_flow(&server, 2, 1);
    server
        .post(&format!("/api/v1/runs/{last}/cancel"), &json!({}))
        .expect(200);
    server.wait_for_status(&last, "cancelled");
    stage.wait_for_flow(&server, 2, 0);
}

#[test]
fn an_operator_s_number_counts_at_once_and_until_its_time() {
    let server = Server::start();
    let stage = Stage::new();
    stage.register(&server, 1);
    let runs = [(); 3].map(|()| server.wait_for_start(&server.send(&stage.event("x", "1h"))));
    stage.wait_for_flow(&server, 1, 2);
    let (function, url) = (format!("{}-fn", stage.app.id()), server.url());
    let limits = |args: &[&str]| {
        let mut all = vec!["limits", &function, "--url", &url];
        all.extend(args);
        stdout(&callboard(&all))
    };
    let said = limits(&["--rule", "run_concurrency", "--limit", "2", "--for", "1h"]);
    assert!(said.starts_with("run_concurrency is 2 until "), "{said}");
    let rule = stage.wait_for_flow(&server, 2, 1);
    assert_eq!(rule["limit"], 2);
    assert!(rule["overridden_until"].is_string(), "{rule:#}");
    server.wait_until_pending(&runs[1], "sleep");
    // A sync changes nothing about it.
    stage.register(&server, 1);
    assert_eq!(stage.wait_for_flow(&server, 2, 1)["limit"], 2);
    assert!(limits(&[]).contains("run_concurrency"));
    limits(&["--rule", "run_concurrency", "--limit", "3", "--for", "2s"]);
    server.wait_until_pending(&runs[2], "sleep");
    wait_for("the registered number to count again", DEADLINE, || {
        let rule = stage.wait_for_flow(&server, 3, 0);
        (rule["limit"] == 1 && rule["overridden_until"].is_null()).then_some(())
    });
    assert_eq!(limits(&["--end"]), "There was nothing to end.\n");
}

#[test]
fn instances_that_die_and_a_queue_that_is_lost_give_no_slot_away() {
    const RUNS: usize = 16;
    let database = postgres::Server::shared().create_database().expect("a database");
    let redis = Redis::start().expect("starts");
    let instance = || {
        Server::builder()
            .production()
            .flag("--retry-interval", "1")
            .flag("--database-url", &database)
            .flag("--redis-url", &redis.url())
            .env("CALLBOARD__REDIS__SESSION_TTL", "3s")
            .start()
    };
    let (mut dying, living) = (instance(), instance());
    let stage = Stage::new();
    stage.register(&living, 2);
    let event = |n: usize| stage.event(["x", "y"][n % 2], "700ms");
    let ids = living.send_all(&json!((0..RUNS).map(event).collect::<Vec<_>>()));
    stage.app.wait_for_calls(5);
    dying.kill();
    redis.flush().expect("flushes");
    for id in &ids {
        let run = living.wait_for_start(id);
        living.wait_for_status_within(&run, "completed", Duration::from_secs(90));
    }
    assert_eq!((stage.most("x"), stage.most("y")), (2, 2));
    stage.wait_for_flow(&living, 0, 0);
}
