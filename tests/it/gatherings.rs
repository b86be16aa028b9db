//! Debounces and batches, as the SDKs ask for them: which events a run stands for, and what becomes of the others.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::command::{callboard, stderr, stdout};
use crate::support::fake::{FakeApp, Reply};
use crate::support::installation::Installation;
use crate::support::sdk::Sdk::{self, Python, Ts3, Ts4};
use crate::support::server::{Server, text};
use crate::support::stage::Stage;
use crate::support::{DEADLINE, unique, wait_for};

/// So many events for a function, with this in their data and their number in `n`.
fn events(function: &str, data: &Value, count: usize) -> Value {
    let event = |n| {
        let mut data = data.clone();
        data["n"] = json!(n);
        json!({"name": format!("test/{function}"), "data": data})
    };
    (0..count).map(event).collect()
}

/// The slug of a fake app's function.
fn slug(app: &FakeApp, function: &str) -> String {
    format!("{}-{function}", app.id())
}

fn ids(view: &Value) -> Vec<String> {
    view["event_ids"].as_array().expect("ids").iter().map(text).collect()
}

/// What a function has gathered.
fn gathered(server: &Server, slug: &str) -> Vec<Value> {
    let answer = server.get(&format!("/api/v1/functions/{slug}/gatherings")).expect(200);
    answer.json()["gatherings"].as_array().expect("a list").clone()
}

#[rstest]
fn a_debounce_starts_once_with_the_last_event(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let data = json!({"key": unique("key")});
    let sent = stage.server.send_all(&events("debounce", &data, 3));
    let held = stage.server.event(&sent[2]);
    let run = stage.server.wait_for_start(&sent[2]);
    let view = stage.server.wait_for_status(&run, "completed");
    assert_eq!(view["output"]["events"], 1, "{view:#}");
    assert_eq!((ids(&view), &view["batch_id"]), (vec![sent[2].clone()], &Value::Null));
    for event in &sent[..2] {
        let skip = stage.server.wait_for_skip(event, &stage.app.slug("debounce"));
        assert_eq!(skip["reason"], "debounced", "{skip:#}");
        assert!(text(&skip["detail"]).contains("has taken its place"), "{skip:#}");
        assert_eq!(stage.server.event(event)["runs"], json!([]));
    }
    // It was there to be seen, unless it had fired by then.
    let was_held = held["gathered"][0]["kind"] == "debounce" && held["gathered"][0]["events"] == 3;
    assert!(was_held || held["runs"][0]["id"] == run.as_str(), "{held:#}");
    let started = stage.app.log(&format!("run_id={run}&step=started"));
    assert_eq!(started[0]["data"]["n"], 2, "{started:#?}");
}

#[rstest]
fn a_debounce_keeps_the_event_that_happened_last(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let mut events = events("debounce", &json!({"key": unique("key")}), 2);
    let now = chrono::Utc::now().timestamp_millis();
    events[0]["ts"] = json!(now);
    events[1]["ts"] = json!(now - 10_000);
    let sent = stage.server.send_all(&events);
    let run = stage.server.wait_for_start(&sent[0]);
    stage.server.wait_for_status(&run, "completed");
    let skip = stage.server.wait_for_skip(&sent[1], &stage.app.slug("debounce"));
    assert_eq!(skip["reason"], "debounced", "{skip:#}");
}

/// Events of one key keep coming until it has started without a pause.
#[rstest]
fn a_debounce_waits_no_longer_than_its_timeout(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::of_its_own(sdk);
    let data = json!({"key": unique("key")});
    let line = "callboard_gatherings_fired_total{kind=\"debounce\",due_by=\"timeout\"} 1";
    wait_for("a start while events keep coming", DEADLINE, || {
        stage.server.send_all(&events("debounce", &data, 1));
        let metrics = stage.server.get("/metrics").expect(200).text();
        metrics.contains(line).then_some(())
    });
}

#[rstest]
fn a_batch_has_its_events_in_order(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let data = json!({"key": unique("key")});
    let sent = stage.server.send_all(&events("batch", &data, 4));
    let run = stage.server.wait_for_start(&sent[0]);
    let view = stage.server.wait_for_status(&run, "completed");
    assert_eq!(view["output"]["events"], 3, "{view:#}");
    assert_eq!(ids(&view), sent[..3]);
    assert!(view["batch_id"].is_string());
    for event in &sent[..3] {
        assert_eq!(stage.server.wait_for_start(event), run);
    }
    let shown = stage.server.get(&format!("/v1/runs/{run}")).expect(200).json();
    assert_eq!(shown["data"]["batch_id"], view["batch_id"]);
    // The fourth waits for its timeout, alone.
    let rest = stage.server.wait_for_start(&sent[3]);
    let view = stage.server.wait_for_status(&rest, "completed");
    assert_eq!(view["output"]["events"], 1, "{view:#}");
}

#[rstest]
fn what_is_not_to_be_batched_runs_alone_and_the_rest_when_somebody_asks(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let key = unique("key");
    let alone = stage.complete("test/batch-if", &json!({"key": key, "batched": false}));
    assert_eq!(
        (&alone["output"]["events"], &alone["batch_id"]),
        (&json!(1), &Value::Null)
    );
    let sent = stage
        .server
        .send_all(&events("batch-if", &json!({"key": key, "batched": true}), 2));
    let slug = stage.app.slug("batch-if");
    let found = gathered(&stage.server, &slug);
    let shown = json!(key).to_string();
    let held = found.iter().find(|held| held["key"] == shown.as_str());
    let held = held.unwrap_or_else(|| panic!("{found:#?}"));
    assert_eq!(
        (&held["kind"], &held["events"], &held["due_by"]),
        (&json!("batch"), &json!(2), &json!("timeout"))
    );
    assert_eq!(stage.server.event(&sent[1])["gathered"][0]["id"], held["id"]);
    let path = format!("/api/v1/functions/{slug}/gatherings/{}/fire", text(&held["id"]));
    let fired = stage.server.post(&path, &Value::Null).expect(200).json();
    let view = stage.server.wait_for_status(&text(&fired["run_id"]), "completed");
    assert_eq!(ids(&view), sent);
    let again = stage.server.post(&path, &Value::Null).expect(404).json();
    assert_eq!(again["error"]["code"], "CB-1313", "{again:#}");
}

/// A call is smaller than a batch may be: the app fetches its events.
#[rstest]
fn a_large_batch_is_fetched_by_the_app(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let data = json!({"key": unique("key"), "batched": true, "ballast": "x".repeat(2_000_000)});
    let sent = stage.server.send_all(&events("batch-if", &data, 3));
    let run = stage.server.wait_for_start(&sent[0]);
    let view = stage.server.wait_for_status(&run, "completed");
    assert_eq!((&view["output"]["events"], ids(&view)), (&json!(3), sent));
}

/// Each caller gets the outcome of the run that stands for all of them.
#[rstest]
fn all_who_invoke_a_batch_hear_of_its_end(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let data = json!({"key": unique("key")});
    let callers: Vec<String> = (0..3).map(|_| stage.begin("test/invoke-batch", &data)).collect();
    for caller in callers {
        let view = stage.server.wait_for_status(&caller, "completed");
        assert_eq!(view["output"]["got"]["events"], 3, "{view:#}");
    }
}

#[rstest]
fn whose_invoke_a_debounce_replaces_is_told(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let data = json!({"key": unique("key")});
    // Side by side, their invokes are a moment apart at the most; the period is a second.
    let sent = stage.server.send_all(&events("invoke-debounce", &data, 2));
    let views: Vec<Value> = sent
        .iter()
        .map(|event| {
            stage
                .server
                .wait_for_status(&stage.server.wait_for_start(event), "completed")
        })
        .collect();
    let told = |view: &&Value| {
        view["output"]["caught"]["message"]
            .to_string()
            .contains("taken its place")
    };
    let got = |view: &&Value| view["output"]["got"]["events"] == 1;
    let (told, got) = (views.iter().filter(told).count(), views.iter().filter(got).count());
    // On a machine that is slow enough each has had its own.
    assert!((told, got) == (1, 1) || (told, got) == (0, 2), "{views:#?}");
}

/// What was answered is gathered, whatever becomes of the server.
#[rstest]
fn a_killed_server_goes_on_with_what_it_has_gathered(#[values(Ts4, Python)] sdk: Sdk) {
    let mut stage = Stage::of_its_own(sdk);
    let data = json!({"key": unique("key"), "batched": true});
    let batched = stage.server.send_all(&events("batch-if", &data, 2));
    let debounced = stage.server.send_all(&events("debounce", &data, 3));
    stage.server.kill();
    stage.server.restart();
    let run = stage.server.wait_for_start(&debounced[2]);
    let view = stage.server.wait_for_status(&run, "completed");
    assert_eq!(ids(&view), debounced[2..]);
    let last = stage.server.send_all(&events("batch-if", &data, 1));
    let run = stage.server.wait_for_start(&last[0]);
    let view = stage.server.wait_for_status(&run, "completed");
    assert_eq!(ids(&view), [batched, last].concat());
    assert_eq!(
        gathered(&stage.server, &stage.app.slug("batch-if")),
        Vec::<Value>::new()
    );
}

/// An event id joins once; large events come in batches that an app can still be called with.
#[test]
fn a_batch_is_bounded_by_its_bytes() {
    let stage = Stage::of_its_own(Ts4);
    let app = FakeApp::start(|call| Reply::done(&json!(call.json()["events"].as_array().map(Vec::len))));
    let mut function = app.function("fn", &format!("{}/go", app.id()), 0);
    function["batchEvents"] = json!({"maxSize": 100, "timeout": "1h"});
    app.register(&stage.server, &[function]);
    let event = |n: usize, bytes: usize| json!({"name": format!("{}/go", app.id()), "id": format!("id-{n}"), "data": {"x": "y".repeat(bytes)}});
    let small = stage.server.send(&event(0, 1));
    let again = stage.server.send(&event(0, 2));
    let skip = stage.server.wait_for_skip(&again, &slug(&app, "fn"));
    assert_eq!(skip["reason"], "duplicate", "{skip:#}");
    // Four of nearly 3 MiB have no room in 10 MiB.
    let large: Vec<String> = (1..=4).map(|n| stage.server.send(&event(n, 3_000_000))).collect();
    let run = stage.server.wait_for_start(&small);
    let view = stage.server.wait_for_status(&run, "completed");
    assert_eq!(ids(&view), [&[small][..], &large[..3]].concat());
    let held = &stage.server.event(&large[3])["gathered"][0];
    assert_eq!(
        (&held["events"], &held["kind"]),
        (&json!(1), &json!("batch")),
        "{held:#}"
    );
}

/// What an operator sees and does by the command line; and what becomes of it when the function is paused.
#[rstest]
fn an_operator_sees_what_is_gathered_and_starts_it(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::of_its_own(sdk);
    let (server, slug) = (&stage.server, stage.app.slug("batch-if"));
    let ask = |arguments: &[&str]| callboard(&[arguments, &["--url", &server.url()]].concat());
    let list = || stdout(&ask(&["gatherings", "list", &slug, "--limit", "1"]));
    assert_eq!(list(), "There are none.\n");
    let batched = |key: &str| json!({"key": key, "batched": true});
    let one = server.send_all(&events("batch-if", &batched("one"), 2));
    let other = server.send_all(&events("batch-if", &batched("other"), 1));
    let held = gathered(server, &slug);
    let [first, second] = [0, 1].map(|n| text(&held[n]["id"]));
    let shown = list();
    let line: Vec<&str> = shown.lines().nth(1).expect("a line").split_whitespace().collect();
    assert_eq!(line[..3], [&*first, "batch", "2"], "{shown}");
    assert_eq!(line[line.len() - 2..], ["timeout", "\"one\""], "{shown}");
    assert!(shown.ends_with(&format!("--cursor {first}\n")), "{shown}");
    let next = stdout(&ask(&["gatherings", "list", &slug, "--cursor", &first]));
    assert!(
        next.lines().nth(1).is_some_and(|line| line.starts_with(&second)),
        "{next}"
    );

    let told = stdout(&ask(&["gatherings", "fire", &slug, &first]));
    let run = told
        .strip_suffix(" runs with 2 events.\n")
        .unwrap_or_else(|| panic!("{told}"));
    let view = server.wait_for_status(run, "completed");
    assert_eq!(ids(&view), one);
    let again = stderr(&ask(&["gatherings", "fire", &slug, &first]));
    assert!(again.contains("CB-1313"), "{again}");

    // What is held goes on being held in a pause; what fires in it starts nothing, and its events say why.
    stdout(&ask(&["functions", "pause", &slug]));
    assert_eq!(gathered(server, &slug).len(), 1);
    let told = stdout(&ask(&["gatherings", "fire", &slug, &second]));
    assert!(told.starts_with("No run was started with 1 event"), "{told}");
    assert_eq!(server.wait_for_skip(&other[0], &slug)["reason"], "paused");
    stdout(&ask(&["functions", "resume", &slug]));
    assert_eq!(list(), "There are none.\n");
}

/// What was gathered before a pause is not what is triggered in it: it starts if the function goes on in time, with all
/// that had joined; what is sent during the pause does not join.
#[test]
fn what_a_function_has_gathered_waits_out_a_short_pause() {
    let server = Server::start();
    let app = FakeApp::start(|call| Reply::done(&json!(call.json()["events"].as_array().map(Vec::len))));
    let mut function = app.function("fn", &format!("{}/go", app.id()), 0);
    function["batchEvents"] = json!({"maxSize": 3, "timeout": "1h"});
    app.register(&server, &[function]);
    let slug = slug(&app, "fn");
    let mode = |wish: &str| {
        let path = format!("/api/v1/functions/{slug}/{wish}");
        server.post(&path, &json!({})).expect(200);
    };
    let before = [server.send(&app.event()), server.send(&app.event())];
    mode("pause");
    let during = server.send(&app.event());
    assert_eq!(server.wait_for_skip(&during, &slug)["reason"], "paused");
    assert_eq!(gathered(&server, &slug)[0]["events"], 2);
    mode("resume");
    let after = server.send(&app.event());
    let view = server.wait_for_status(&server.wait_for_start(&after), "completed");
    assert_eq!(
        (ids(&view), &view["output"]),
        ([&before[..], &[after]].concat(), &json!(3))
    );
}

/// Two instances gather for the same keys; one is killed, and its successor and the other one go on.
#[test]
fn instances_gather_together_and_lose_nothing_when_one_is_killed() {
    const KEYS: usize = 4;
    let mut installation = Installation::builder().start();
    let app = FakeApp::start(|_| Reply::done(&json!("done")));
    let mut batch = app.function("batch", &format!("{}/go", app.id()), 0);
    batch["batchEvents"] = json!({"maxSize": 5, "timeout": "20s", "key": "event.data.key"});
    let mut debounce = app.function("debounce", &format!("{}/go", app.id()), 0);
    debounce["debounce"] = json!({"period": "2s", "key": "event.data.key"});
    app.register(&installation[0], &[batch, debounce]);
    let event = |n: usize| json!({"name": format!("{}/go", app.id()), "data": {"key": n % KEYS, "n": n}});
    let mut sent: Vec<String> = (0..60).map(|n| installation[n % 2].send(&event(n))).collect();
    installation[0].kill();
    sent.extend((60..120).map(|n| installation[1].send(&event(n))));
    let server = &installation[1];
    let runs = |function: &str| {
        let path = format!("/api/v1/runs?function={}&limit=100", slug(&app, function));
        server.get(&path).expect(200).json()["runs"]
            .as_array()
            .expect("a list")
            .clone()
    };
    // 120 events of four keys are six whole batches for each.
    let batches = wait_for("all batches", DEADLINE, || {
        let runs = runs("batch");
        (runs.iter().filter(|run| run["status"] == "completed").count() == KEYS * 6).then_some(runs)
    });
    let mut gathered: Vec<String> = batches.iter().flat_map(ids).collect();
    gathered.sort();
    let mut expected = sent.clone();
    expected.sort();
    assert_eq!(gathered, expected, "each event is in one batch");
    for event in &sent {
        let view = wait_for("the debounce to be over", DEADLINE, || {
            let view = server.event(event);
            view["gathered"].as_array().is_some_and(Vec::is_empty).then_some(view)
        });
        let (runs, skips) = (
            view["runs"].as_array().expect("runs"),
            view["not_started"].as_array().expect("skips"),
        );
        let started = runs
            .iter()
            .filter(|run| run["function"]["slug"] == slug(&app, "debounce").as_str())
            .count();
        assert_eq!(started + skips.len(), 1, "a run or a reason: {view:#}");
    }
}
