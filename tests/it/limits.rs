//! Concurrency and throttle, as the app sees them.

use std::time::Duration;

use callboard_backends::{postgres, redis::Redis};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::sdk::Sdk::{self, Python, Ts4};
use crate::support::sdk::SdkApp;
use crate::support::server::{EVENT_KEY, SIGNING_KEY, Server, text};
use crate::support::stage::Stage;
use crate::support::{DEADLINE, wait_for};

/// The one concurrency rule of a function, as soon as so many calls are under way and so many jobs wait.
fn concurrency(stage: &Stage, function: &str, in_use: u64, waiting: u64) -> Value {
    let path = format!("/api/v1/functions/{}/flow", stage.app.slug(function));
    wait_for(&format!("{in_use} at work and {waiting} waiting"), DEADLINE, || {
        let flow = stage.server.get(&path).expect(200).json();
        let rule = flow["rules"][0].clone();
        (rule["in_use"] == in_use && rule["waiting"] == waiting).then_some(rule)
    })
}

/// The most that were at work at the same moment, by what the app counted.
fn most_busy(app: &SdkApp) -> u64 {
    let entries = app.log("step=busy");
    entries
        .iter()
        .filter_map(|entry| entry["busy"].as_u64())
        .max()
        .unwrap_or(0)
}

#[rstest]
fn a_key_has_so_many_calls_at_a_time(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::of_its_own(sdk);
    let event = |key: &str| json!({"name": "test/slots-key", "data": {"key": key, "gate": "g"}});
    let keys = ["x", "x", "x", "y", "x", "x"];
    let events: Vec<_> = keys.iter().map(|key| event(key)).collect();
    let ids = stage.server.send_all(&json!(events));
    stage.app.wait_for_log("step=busy", 3);
    let rule = concurrency(&stage, "slots-key", 3, 3);
    assert_eq!(
        (&rule["limit"], &rule["scope"], &rule["keys"]),
        (&json!(2), &json!("fn"), &json!(2))
    );
    assert_eq!(rule["longest"][0]["key"], "x");
    // Those of one commit stand in the order of their ids.
    let mut places: Vec<String> = Vec::new();
    for id in &ids {
        let waits = stage.server.run(&stage.server.wait_for_start(id))["waiting_for"][0].clone();
        if waits["owner"] == "queue" {
            assert_eq!(
                (&waits["limit"], &waits["key"]),
                (&json!("concurrency"), &json!("x")),
                "{waits:#}"
            );
            places.push(text(&waits["position"]));
        }
    }
    places.sort();
    assert_eq!(places, ["1", "2", "3"]);
    assert_eq!(stage.app.log("step=busy&key=y").len(), 1, "a key blocks no other");
    // What has no limit goes on.
    stage.complete("test/one-step", &json!({}));
    stage.app.open("g");
    for id in &ids {
        let run = stage.server.wait_for_start(id);
        stage.server.wait_for_status(&run, "completed");
    }
    assert_eq!(most_busy(&stage.app), 2);
    concurrency(&stage, "slots-key", 0, 0);
}

#[rstest]
fn functions_share_a_constant_key_of_the_account(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::of_its_own(sdk);
    let names = [
        "slots-one",
        "slots-two",
        "slots-one",
        "slots-two",
        "slots-one",
        "slots-two",
    ];
    let events = names.map(|name| json!({"name": format!("test/{name}"), "data": {"gate": "g"}}));
    let ids = stage.server.send_all(&json!(events));
    stage.app.wait_for_log("step=busy", 1);
    let (one, two) = ("slots-one", "slots-two");
    let waits = |function: &str| concurrency_of(&stage, function);
    wait_for("five to wait", DEADLINE, || {
        (waits(one) + waits(two) == 5).then_some(())
    });
    assert_eq!(stage.app.log("step=busy").len(), 1);
    stage.app.open("g");
    for id in &ids {
        let run = stage.server.wait_for_start(id);
        stage.server.wait_for_status(&run, "completed");
    }
    assert_eq!(most_busy(&stage.app), 1);
}

fn concurrency_of(stage: &Stage, function: &str) -> u64 {
    let path = format!("/api/v1/functions/{}/flow", stage.app.slug(function));
    let flow = stage.server.get(&path).expect(200).json();
    flow["rules"][0]["waiting"].as_u64().expect("a number")
}

/// One in two seconds, and one more at once for the Python SDK, which asks for a burst of one unless told otherwise: four starts
/// take four seconds at the least, and the way to the app may take no more than half of that.
#[rstest]
fn a_throttle_spaces_starts_in_order(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::of_its_own(sdk);
    let event = |key: &str, n: u64| json!({"name": "test/throttle", "data": {"key": key, "n": n}});
    // One after the other: of runs of the same millisecond, either may be the older.
    let ids = [("x", 0), ("x", 1), ("y", 9), ("x", 2), ("x", 3)].map(|(key, n)| stage.server.send(&event(key, n)));
    for id in &ids {
        let run = stage.server.wait_for_start(id);
        stage.server.wait_for_status(&run, "completed");
    }
    let started = stage.app.log("fn=throttle&step=work");
    let of = |key: &str| -> Vec<(u64, u64)> {
        let runs = stage.app.log("fn=throttle&step=started");
        let number = |entry: &Value| {
            let run = runs.iter().find(|run| run["run_id"] == entry["run_id"])?;
            (run["data"]["key"] == key).then(|| run["data"]["n"].as_u64())?
        };
        let with_time = |entry: &Value| Some((number(entry)?, entry["at_ms"].as_u64()?));
        started.iter().filter_map(with_time).collect()
    };
    let (x, y) = (of("x"), of("y"));
    assert_eq!(
        x.iter().map(|(n, _)| *n).collect::<Vec<_>>(),
        [0, 1, 2, 3],
        "first come, first served"
    );
    assert!(x[3].1 - x[0].1 >= 2_000, "{x:?}");
    assert!(y[0].1 < x[3].1, "another key is not held up: {y:?}, {x:?}");
}

#[test]
fn two_instances_of_which_one_dies_never_exceed_a_limit() {
    const RUNS: usize = 24;
    let database = postgres::Server::shared().create_database().expect("a database");
    let redis = Redis::start().expect("starts");
    let instance = || {
        Server::builder()
            .production()
            .flag("--retry-interval", "1")
            .flag("--database-url", &database)
            .flag("--redis-url", &redis.url())
            .start()
    };
    let (mut dying, living) = (instance(), instance());
    let app = SdkApp::builder(Ts4, &living.url())
        .env("INNGEST_SIGNING_KEY", SIGNING_KEY)
        .env("INNGEST_EVENT_KEY", EVENT_KEY)
        .start();
    living.post("/api/v1/apps/sync", &json!({"url": app.url()})).expect(200);
    let event = |n: usize| {
        let key = ["x", "y"][n % 2];
        json!({"name": "test/slots-key", "data": {"key": key, "work_ms": 300}})
    };
    let ids = living.send_all(&json!((0..RUNS).map(event).collect::<Vec<_>>()));
    // Both are at work when one is killed.
    app.wait_for_log("step=busy", 6);
    dying.kill();
    for id in &ids {
        let run = living.wait_for_start(id);
        living.wait_for_status_within(&run, "completed", Duration::from_secs(90));
    }
    assert_eq!(most_busy(&app), 2, "the limit was used, and never exceeded");
}
