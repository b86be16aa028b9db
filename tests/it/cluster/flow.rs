//! Flow control that each instance does for itself, or together with the other one, at the same moment.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

use super::fake_app;
use crate::support::command::{callboard, stdout};
use crate::support::fake::{Call, FakeApp, Reply};
use crate::support::http::Request;
use crate::support::installation::Installation;
use crate::support::server::{API_KEY, EVENT_KEY, Server};
use crate::support::{DEADLINE, wait_for};

/// The breaker of an app, as an instance tells it.
fn breaker(server: &Server, app: &FakeApp) -> Value {
    let apps = server.get("/api/v1/apps").expect(200).json();
    let apps = apps["apps"].as_array().expect("a list");
    let of_it = apps.iter().find(|known| known["name"] == app.id());
    of_it.expect("it is registered")["breaker"].clone()
}

fn put(server: &Server, path: &str, body: &Value) -> Value {
    Request::new("PUT", path)
        .json(body)
        .header("authorization", &format!("Bearer {API_KEY}"))
        .send(server.address())
        .expect(200)
        .json()
}

/// Each instance finds out by itself that an app is away, and that it is back; an outage fails no run, and most of them keep
/// all of their attempts.
#[test]
fn each_instance_learns_that_an_app_is_away() {
    const RUNS: usize = 60;
    let installation = Installation::builder()
        .env("CALLBOARD__LIMITS__CALLS", "4")
        .env("CALLBOARD__BREAKER__MIN_CALLS", "4")
        .env("CALLBOARD__BREAKER__OPEN", "1s")
        .env("CALLBOARD__BREAKER__OPEN_CAP", "2s")
        .start();
    let is_away = Arc::new(AtomicBool::new(true));
    let unanswered = Arc::new(AtomicUsize::new(0));
    let (away, count) = (Arc::clone(&is_away), Arc::clone(&unanswered));
    let app = fake_app(&installation[0], move |_| {
        if away.load(Ordering::SeqCst) {
            count.fetch_add(1, Ordering::SeqCst);
            Reply::http(503, "away")
        } else {
            Reply::done(&json!("made it"))
        }
    });
    let events: Vec<String> = (0..RUNS).map(|n| installation[n % 2].send(&app.event())).collect();
    for server in installation.iter() {
        let open = wait_for("the breaker to open", DEADLINE, || {
            let breaker = breaker(server, &app);
            (breaker["openings"].as_u64() >= Some(1)).then_some(breaker)
        });
        let place = app.url().replace("127.0.0.1", "localhost");
        assert_eq!(open["endpoint"], place, "{open:#}");
        let metrics = server.get("/metrics").expect(200).text();
        let line = format!("callboard_breaker_openings_total{{app=\"{}\"}} ", app.id());
        let count = metrics.lines().find_map(|text| text.strip_prefix(&line));
        assert!(count.is_some_and(|count| count != "0"), "{count:?}");
        let status = stdout(&callboard(&["status", "--url", &server.url(), "--api-key", API_KEY]));
        assert!(status.contains(app.id()), "{status}");
    }
    is_away.store(false, Ordering::SeqCst);
    for event in &events {
        let run = installation[1].wait_for_start(event);
        let view = installation[0].wait_for_status(&run, "completed");
        assert_eq!(view["output"], "made it", "{view:#}");
    }
    let unanswered = unanswered.load(Ordering::SeqCst);
    assert!(
        unanswered < RUNS,
        "{unanswered} calls were made in vain for {RUNS} runs"
    );
    // What is switched at one counts at the other.
    let path = format!("/api/v1/apps/{}/breaker", app.id());
    let off = put(&installation[0], &path, &json!({"enabled": false}));
    assert_eq!(off["state"], "off", "{off:#}");
    wait_for("the switch to be known to the other", DEADLINE, || {
        (breaker(&installation[1], &app)["state"] == "off").then_some(())
    });
}

/// The step that waits, by the id that SDKs would give it.
const WAIT: &str = "3a1c2d8a9c7d1e6a0b5f4e3d2c1b0a9f8e7d6c5b";

/// An event that comes to one instance while the wait for it is set by the other is found by the one or the other: by the
/// event's look for waits, or by the wait's look back.
#[test]
fn an_event_and_the_wait_for_it_that_come_at_the_same_moment_find_each_other_once() {
    const RUNS: usize = 300;
    let installation = Installation::builder().env("CALLBOARD__WAITS__LOOK_BACK", "1m").start();
    let doors: Vec<SocketAddr> = installation.iter().map(Server::address).collect();
    let id: Arc<OnceLock<String>> = Arc::default();
    let known = Arc::clone(&id);
    let app = fake_app(&installation[0], move |call| {
        let body = call.json();
        if call.has_step(WAIT) {
            return Reply::done(&body["steps"][WAIT]["data"]);
        }
        let name = format!("{}/ready", known.get().expect("set before the first event"));
        let wait = json!([{"op": "WaitForEvent", "id": WAIT, "name": name, "displayName": "ready",
            "opts": {"event": name, "timeout": "30s", "if": "event.data.n == async.data.n"}}]);
        let n = body["event"]["data"]["n"].as_u64().unwrap_or(0);
        // The event goes to either instance, from some milliseconds before the answer to as many after it.
        let door = doors[usize::try_from(n % 2).unwrap_or(0)];
        let event = json!({"name": name, "data": {"n": n}});
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(700 * (n % 24)));
            // If it were not taken, its run would time out.
            let _ = Request::post(format!("/e/{EVENT_KEY}"), &event).try_send(door);
        });
        Reply::ops(&wait).after(Duration::from_millis(8))
    });
    id.set(app.id().to_owned()).expect("set once");
    let event = |n: usize| json!({"name": format!("{}/go", app.id()), "data": {"n": n}});
    let mut runs = Vec::with_capacity(RUNS);
    for from in (0..RUNS).step_by(10) {
        let part: Vec<Value> = (from..from + 10).map(event).collect();
        let door = &installation[(from / 10) % 2];
        runs.extend(
            door.send_all(&json!(part))
                .iter()
                .map(|event| door.wait_for_start(event)),
        );
    }
    for (n, run) in runs.iter().enumerate() {
        let view = installation[n % 2].wait_for_status(run, "completed");
        assert_eq!(view["output"], json!({"n": n}), "{view:#}");
    }
    // Once: no run was called with its result more than once, and no step has ended more than once.
    let mut told: HashMap<String, usize> = HashMap::new();
    for call in app.calls().iter().filter(|call: &&Call| call.has_step(WAIT)) {
        let run = call.json()["ctx"]["run_id"].as_str().unwrap_or_default().to_owned();
        *told.entry(run).or_default() += 1;
    }
    assert_eq!(told.len(), RUNS);
    assert!(told.values().all(|times| *times == 1), "{told:?}");
    let ended = "SELECT count(*), count(DISTINCT run_id) FROM callboard.history WHERE kind = 'step.completed'";
    assert_eq!(installation.sql(ended), format!("{RUNS}|{RUNS}"));
    // Of those that found each other, some events came before their waits, and some after them.
    let order =
        "SELECT count(*) FILTER (WHERE received_at < started_at), count(*) FILTER (WHERE received_at > started_at)
        FROM callboard.steps JOIN callboard.events ON position(external_id IN memo) > 0 WHERE name LIKE '%/ready'";
    let order = installation.sql(order);
    println!("events before and after their waits: {order}");
    assert!(order.split('|').all(|count| count != "0"), "nothing was tried: {order}");
    assert_eq!(installation.sql("SELECT count(*) FROM callboard.waits"), "0");
}

/// Gates are shut while leases may be held that Redis does not know of. At the very first start nobody can hold any.
#[test]
fn the_first_start_waits_for_nobody_and_a_redis_that_has_lost_everything_does() {
    let installation = Installation::builder().instances(1).start();
    let app = FakeApp::start(|_| Reply::done(&json!("made it")));
    let mut function = app.function("fn", &format!("{}/go", app.id()), 0);
    function["concurrency"] = json!([{"limit": 1}]);
    app.register(&installation[0], &[function]);
    installation[0].complete(&app.event());
    let is_shut = || {
        let answer = installation.redis.cli(&["HEXISTS", "{callboard}:meta", "shut"]);
        answer.expect("Redis answers").trim().to_owned()
    };
    assert_eq!(is_shut(), "0");
    installation.redis.cli(&["FLUSHALL"]).expect("Redis answers");
    installation[0].complete(&app.event());
    assert_eq!(is_shut(), "1");
}
