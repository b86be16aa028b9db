//! Nothing is amiss, and instances share everything.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Pair, fake_app};
use crate::support::fake::{FakeApp, Reply};
use crate::support::installation::Installation;
use crate::support::server::{Server, text};
use crate::support::{DEADLINE, unique, wait_for};

/// Longer than a cron takes to tick.
const TICK: Duration = Duration::from_secs(75);

#[test]
fn what_is_registered_at_one_runs_for_events_of_the_other() {
    let pair = Pair::shared();
    for (name, output) in [
        ("test/hello", json!({"hello": "world"})),
        ("test/ten-steps", json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])),
        ("test/parallel", json!({"joined": "slow+middle+fast"})),
        ("test/sleep", json!("slept")),
    ] {
        let run = pair.other().complete(&json!({"name": name, "data": {}}));
        assert_eq!(run["output"], output, "{run:#}");
        // Every step ran once, whoever called.
        let steps = pair.app.log(&format!("run_id={}", text(&run["id"])));
        let mut steps: Vec<_> = steps.iter().filter_map(|entry| entry["step"].as_str()).collect();
        let count = steps.len();
        steps.sort_unstable();
        steps.dedup();
        assert_eq!(steps.len(), count, "{name}: {steps:?}");
        assert_eq!(pair.one().run(&text(&run["id"])), run);
    }
}

#[test]
fn a_registration_is_seen_by_the_very_next_event_at_the_other() {
    let pair = Pair::shared();
    // Time and again, for it is a race.
    for _ in 0..10 {
        let app = fake_app(pair.one(), |_| Reply::done(&json!("heard")));
        let event = pair.other().send(&app.event());
        let view = pair.other().event(&event);
        assert_eq!(view["runs"].as_array().map(Vec::len), Some(1), "{view:#}");
        let run = pair.other().wait_for_start(&event);
        assert_eq!(pair.one().wait_for_status(&run, "completed")["output"], "heard");
    }
}

#[test]
fn waits_are_ended_by_what_comes_to_the_other() {
    let pair = Pair::shared();
    let id = unique("wait");
    let event = pair.one().send(&json!({"name": "test/wait-match", "data": {"id": id}}));
    let run = pair.one().wait_for_start(&event);
    pair.one().wait_until_pending(&run, "event");
    pair.other()
        .send(&json!({"name": "test/wait-match.answer", "data": {"id": id}}));
    let run = pair.one().wait_for_status(&run, "completed");
    assert_eq!(run["output"]["data"], json!({"id": id}));

    let signal = unique("signal");
    let event = pair
        .one()
        .send(&json!({"name": "test/wait-signal", "data": {"signal": signal}}));
    let run = pair.one().wait_for_start(&event);
    pair.other().wait_until_pending(&run, "signal");
    pair.other()
        .post("/v1/signals", &json!({"signal": signal, "data": {"n": 1}}))
        .expect(200);
    let run = pair.one().wait_for_status(&run, "completed");
    assert_eq!(
        run["output"],
        json!({"timed_out": false, "signal": signal, "data": {"n": 1}})
    );
}

#[test]
fn an_invoke_comes_back() {
    let pair = Pair::shared();
    let run = pair.other().complete(&json!({"name": "test/invoke", "data": {"n": 4}}));
    assert_eq!(run["output"]["got"], json!({"doubled": 8}), "{run:#}");
}

#[test]
fn a_run_is_cancelled_through_the_other() {
    let pair = Pair::shared();
    let sleep = json!({"name": "test/sleep", "data": {"sleep_ms": 3_600_000}});
    let event = pair.one().send(&sleep);
    let run = pair.one().wait_for_start(&event);
    pair.one().wait_until_pending(&run, "sleep");
    let cancelled = pair
        .other()
        .post(&format!("/api/v1/runs/{run}/cancel"), &json!({}))
        .expect(200)
        .json();
    assert_eq!(cancelled["cancelled"], true);
    pair.one().wait_for_status(&run, "cancelled");

    let id = unique("cancel");
    let event = pair.one().send(&json!({"name": "test/cancel-on", "data": {"id": id}}));
    let run = pair.one().wait_for_start(&event);
    pair.one().wait_until_pending(&run, "sleep");
    pair.other()
        .send(&json!({"name": "test/cancel-on.cancel", "data": {"id": id}}));
    pair.one().wait_for_status(&run, "cancelled");
}

#[test]
fn the_same_event_sent_to_both_is_one() {
    let pair = Pair::shared();
    for _ in 0..10 {
        let event = json!({"name": "test/hello", "id": unique("same"), "data": {}});
        std::thread::scope(|scope| {
            scope.spawn(|| pair.one().send(&event));
            scope.spawn(|| pair.other().send(&event));
        });
        let id = event["id"].as_str().expect("an id");
        let sql = format!(
            "SELECT count(*) FROM callboard.runs JOIN callboard.events ON events.id = event_id WHERE external_id = '{id}'"
        );
        assert_eq!(pair.installation.sql(&sql), "1");
    }
}

#[test]
fn instances_share_the_work() {
    // Each may have two calls under way, so four take both of them.
    let installation = Installation::builder().env("CALLBOARD__LIMITS__CALLS", "2").start();
    let app = super::sdk_app(&installation[0]);
    let gated: Vec<_> = (0..6)
        .map(|_| json!({"name": "test/gated", "data": {"gate": "gate"}}))
        .collect();
    let events = installation[0].send_all(&json!(gated));
    app.wait_for_log("fn=gated&step=held", 4);
    app.open("gate");
    for event in events {
        let run = installation[1].wait_for_start(&event);
        let run = installation[1].wait_for_status(&run, "completed");
        assert_eq!(run["output"], "passed");
        for step in ["before", "held", "after"] {
            let times = app.log(&format!("run_id={}&step={step}", text(&run["id"])));
            assert_eq!(times.len(), 1, "{step}: {times:?}");
        }
    }
}

#[test]
fn a_cron_ticks_once() {
    let pair = Pair::shared();
    let start = Instant::now();
    let seen = wait_for("a tick", TICK, || {
        let ticks = pair.app.log("fn=cron&step=tick");
        (!ticks.is_empty()).then_some(ticks)
    });
    println!("a tick after {:?}", start.elapsed());
    // Something that both have to do shows that both are past it.
    for server in [pair.one(), pair.other()] {
        server.complete(&json!({"name": "test/sleep", "data": {"sleep_ms": 1000}}));
    }
    let sql = "SELECT count(*), count(DISTINCT events.ts), count(DISTINCT runs.id)
        FROM callboard.events JOIN callboard.runs ON event_id = events.id WHERE events.name = 'inngest/scheduled.timer'";
    let counts = pair.installation.sql(sql);
    let mut counts = counts.split('|');
    let first = counts.next().expect("a count");
    assert!(counts.all(|count| count == first) && first != "0", "{first}: {seen:#?}");
}

#[test]
fn apps_are_asked_by_one_instance_at_a_time() {
    const INTERVAL: Duration = Duration::from_secs(1);
    let app = FakeApp::start(|_| Reply::sdk(200, &json!({})));
    let mut installation = Installation::builder()
        .flag("--sdk-url", &app.url())
        .flag("--poll-interval", &INTERVAL.as_secs().to_string())
        .start();
    let seen = app.wait_for_calls(1).len();
    let start = Instant::now();
    let count = app.wait_for_calls(seen + 5).len() - seen;
    // Two that asked independently would have asked twice as often. One of them may have asked just before the other did.
    let most = start.elapsed().as_secs() / INTERVAL.as_secs() + 2;
    assert!(
        u64::try_from(count).is_ok_and(|count| count <= most),
        "asked {count} times in {:?}",
        start.elapsed()
    );
    // Whichever it is that asks, the other one goes on when it is gone.
    for instance in 0..2 {
        installation[instance].kill();
        let seen = app.calls().len();
        app.wait_for_calls(seen + 2);
        installation[instance].revive();
        installation[instance].wait_until_up();
    }
}

/// `GET /api/v1/nodes` of an instance: name, address, state and whether it is silent, of each node by name.
fn nodes(server: &Server) -> Value {
    let view = server.get("/api/v1/nodes").expect(200).json();
    let nodes = view["nodes"].as_array().expect("nodes are an array");
    let shown = nodes
        .iter()
        .map(|node| json!([node["name"], node["address"], node["state"], node["silent"]]));
    shown.collect()
}

#[test]
fn nodes_know_each_other() {
    // Each may have two calls under way, so four take both of them.
    let mut installation = Installation::builder().env("CALLBOARD__LIMITS__CALLS", "2").start();
    let app = fake_app(&installation[0], |_| Reply::done(&json!(1)).after(DEADLINE));
    let node = |index: usize, address: SocketAddr, state: &str, is_silent: bool| {
        json!([format!("node-{index}"), address.to_string(), state, is_silent])
    };
    let addresses = [installation[0].address(), installation[1].address()];
    let expect = |server: &Server, expected: Value| {
        let what = format!("{expected} to be shown by {}", server.url());
        wait_for(&what, DEADLINE, || (nodes(server) == expected).then_some(()));
    };
    let both = json!([
        node(0, addresses[0], "serving", false),
        node(1, addresses[1], "serving", false)
    ]);
    for server in installation.iter() {
        expect(server, both.clone());
    }
    // Who leaves says so at once, to whoever asks and to the other.
    installation[0].send_all(&json!(vec![app.event(); 4]));
    app.wait_for_calls(4);
    let busy = "SELECT count(*) FROM callboard.nodes WHERE jobs_in_flight > 0";
    installation.wait_for_sql(busy, "2");
    installation[1].process().signal("TERM");
    let told = wait_for("the drain to be told", DEADLINE, || {
        let health = installation[1].get("/health/ready");
        (health.status == 503).then(|| health.json())
    });
    assert_eq!(told["status"], "draining");
    let drained = json!([
        node(0, addresses[0], "serving", false),
        node(1, addresses[1], "draining", false)
    ]);
    expect(&installation[0], drained);
    // Then it is gone; who is killed is silent.
    drop(app);
    assert!(installation[1].process().wait().success());
    expect(&installation[0], json!([node(0, addresses[0], "serving", false)]));
    installation[1].restart();
    expect(&installation[1], both);
    installation[0].kill();
    expect(
        &installation[1],
        json!([
            node(0, addresses[0], "serving", true),
            node(1, addresses[1], "serving", false)
        ]),
    );
}
