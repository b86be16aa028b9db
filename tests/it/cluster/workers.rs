//! Workers that connect to one of several instances, and move to another.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::Installation;
use crate::support::http::Request;
use crate::support::proxy::Proxy;
use crate::support::sdk::{Builder, Sdk, SdkApp};
use crate::support::server::{EVENT_KEY, SIGNING_KEY, Server, text};
use crate::support::{DEADLINE, wait_for};

/// A worker that connects to what answers at this URL.
fn worker(url: &str, instance: &str) -> SdkApp {
    builder(url, instance).start()
}

fn builder(url: &str, instance: &str) -> Builder {
    SdkApp::builder(Sdk::Ts4, url)
        .connected(instance)
        .env("INNGEST_SIGNING_KEY", SIGNING_KEY)
        .env("INNGEST_EVENT_KEY", EVENT_KEY)
}

/// A worker that takes one request at a time, whoever gives it.
fn small_worker(url: &str, instance: &str) -> SdkApp {
    builder(url, instance)
        .env("INNGEST_CONNECT_MAX_WORKER_CONCURRENCY", "1")
        .start()
}

/// The node that this server is.
fn node(server: &Server) -> String {
    let shown = server.get("/api/v1/nodes").expect(200).json();
    let mut nodes = shown["nodes"].as_array().expect("a list").iter();
    text(&nodes.find(|node| node["self"] == true).expect("the one that answers")["id"])
}

/// All connections of workers, as this server shows them.
fn workers(server: &Server) -> Vec<Value> {
    let shown = server.get("/api/v1/workers?all=true").expect(200).json();
    shown["workers"].as_array().expect("a list").clone()
}

/// Waits until a worker of this name is ready there, or none is.
fn wait_for_worker(server: &Server, instance: &str, is_there: bool) {
    let node = node(server);
    wait_for(&format!("worker {instance} to be there: {is_there}"), DEADLINE, || {
        let is_it =
            |worker: &Value| worker["instance"] == instance && worker["node"] == *node && worker["status"] == "ready";
        (workers(server).iter().any(is_it) == is_there).then_some(())
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

/// When each held step began and ended, in milliseconds, in order.
fn at_work(apps: &[SdkApp]) -> Vec<(u64, u64)> {
    let times = |app: &SdkApp, step: &str| -> Vec<u64> {
        let log = app.log(&format!("fn=gated&step={step}"));
        log.iter()
            .map(|entry| entry["at_ms"].as_u64().expect("a time"))
            .collect()
    };
    // One after the other in each app, so the first that is released is the first that was held.
    let of = |app| times(app, "held").into_iter().zip(times(app, "released"));
    let mut all: Vec<(u64, u64)> = apps.iter().flat_map(of).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_worker_with_connections_to_two_instances_gets_no_more_than_it_can_take() {
    let mut installation = Installation::builder().env("CALLBOARD__CONNECT__LEASE", "3s").start();
    // Two connections of what counts as one worker.
    let apps = [0, 1].map(|place| small_worker(&installation[place].url(), "one"));
    for place in [0, 1] {
        wait_for_worker(&installation[place], "one", true);
    }
    let start = |gate: &str, n: usize| -> Vec<String> {
        let event = json!({"name": "test/gated", "data": {"gate": gate}});
        let servers = (0..n).map(|n| &installation[n % 2]);
        servers
            .map(|server| server.wait_for_start(&server.send(&event)))
            .collect()
    };
    let is_busy = |app: &SdkApp| app.log("fn=gated&step=held").len() > app.log("fn=gated&step=released").len();
    let wait_for_busy = || wait_for("a worker to be at work", DEADLINE, || apps.iter().position(is_busy));
    let runs = start("first", 6);
    let busy = wait_for_busy();
    // Time for anybody who thinks that there is room.
    thread::sleep(Duration::from_secs(1));
    apps[busy].open("first");
    let is_over = |run: &String| installation[0].run(run)["status"] == "completed";
    wait_for("the rest to be done, or to be at the other", DEADLINE, || {
        let busy = apps.iter().position(is_busy);
        busy.inspect(|busy| apps[*busy].open("first"));
        runs.iter().all(is_over).then_some(())
    });
    let times = at_work(&apps);
    assert!(
        times.windows(2).all(|two| two[0].1 <= two[1].0),
        "two at a time: {times:?}"
    );
    // Whoever has a place takes it along when it is killed, for as long as the lease lasts and no longer.
    let runs = start("second", 3);
    let busy = wait_for_busy();
    installation[busy].kill();
    let other = 1 - busy;
    apps[other].open("second");
    for run in &runs {
        installation[other].wait_for_status(run, "completed");
    }
}

#[test]
fn every_instance_shows_all_workers_and_how_others_have_ended() {
    let mut installation = Installation::builder().start();
    let nodes = [0, 1].map(|place| node(&installation[place]));
    let mut apps = [0, 1].map(|place| worker(&installation[place].url(), &format!("worker-{place}")));
    let wait_until_shown = |by: &Server, expected: [(&str, Option<&str>); 2]| {
        wait_for(&format!("{expected:?} to be shown"), DEADLINE, || {
            let shown = workers(by);
            let of = |place: usize| {
                let name = format!("worker-{place}");
                let found = shown.iter().find(|worker| worker["instance"] == *name)?;
                let (status, reason) = expected[place];
                let is_so = found["node"] == *nodes[place]
                    && found["status"] == status
                    && found["disconnect_reason"] == json!(reason);
                is_so.then_some(())
            };
            of(0).and(of(1))
        });
    };
    let ready = ("ready", None);
    for place in [0, 1] {
        wait_until_shown(&installation[place], [ready, ready]);
    }
    apps[1].kill();
    let gone = ("disconnected", Some("UNEXPECTED"));
    for place in [0, 1] {
        wait_until_shown(&installation[place], [ready, gone]);
    }
    // Nobody has written down how this one ends.
    installation[0].kill();
    wait_until_shown(&installation[1], [gone, gone]);
    let shown = installation[1].get("/api/v1/workers").expect(200).json();
    assert_eq!(shown["workers"], json!([]), "they are connected no more");
}

/// A call whose answer does not arrive is made again when its lease is over, so a step may be run twice; it counts once.
#[test]
fn a_rolling_restart_of_workers_under_load_loses_nothing_and_records_each_step_once() {
    const ROUNDS: usize = 3;
    let installation = Installation::builder().env("CALLBOARD__CONNECT__LEASE", "3s").start();
    let url = |place: usize| installation[place % 2].url();
    let mut apps: Vec<SdkApp> = (0..2).map(|n| worker(&url(n), &format!("old-{n}"))).collect();
    for n in [0, 1] {
        wait_for_worker(&installation[n], &format!("old-{n}"), true);
    }
    let mut runs = Vec::new();
    let mut load = |n: usize| {
        let events = json!(vec![json!({"name": "test/ten-steps", "data": {}}); 10]);
        runs.extend(installation[n % 2].send_all(&events));
    };
    for round in 0..ROUNDS {
        for place in [0, 1] {
            load(place);
            let name = format!("new-{round}-{place}");
            let next = worker(&url(place), &name);
            wait_for_worker(&installation[place], &name, true);
            load(place + 1);
            // What it has begun it ends, and it stays to be asked what that was.
            let old = std::mem::replace(&mut apps[place], next);
            old.ask(&Request::post("/connect/close", &json!({})));
            apps.push(old);
        }
    }
    let runs: Vec<String> = runs.iter().map(|event| installation[0].wait_for_start(event)).collect();
    for run in &runs {
        installation[0].wait_for_status(run, "completed");
    }
    for run in &runs {
        for step in 0..10 {
            let query = format!("run_id={run}&step=step-{step}");
            let times: usize = apps.iter().map(|app| app.log(&query).len()).sum();
            assert!(times >= 1, "{query}");
        }
        let view = installation[1].run(run);
        assert_eq!(view["steps"].as_array().expect("a list").len(), 10);
        assert_eq!(view["output"], json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    }
    let busy = apps.iter().filter(|app| !app.log("fn=ten-steps").is_empty()).count();
    assert!(busy > 2, "the load went on while they changed");
}
