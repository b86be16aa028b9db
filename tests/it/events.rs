//! Events: what starts, what does not and why, and what comes twice.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::http::Request;
use crate::support::sdk::Sdk::{self, Python, Ts3, Ts4};
use crate::support::server::{Server, text};
use crate::support::stage::Stage;
use crate::support::{DEADLINE, unique, wait_for};

fn slugs(event: &Value) -> Vec<String> {
    let runs = event["runs"].as_array().expect("an array");
    let mut slugs: Vec<_> = runs.iter().map(|run| text(&run["function"]["slug"])).collect();
    slugs.sort();
    slugs
}

#[rstest]
fn a_step_sends_an_event(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let from = unique("from");
    let run = stage.complete("test/send-event", &json!({"from": from}));
    let id = text(&run["output"]["ids"][0]);
    assert_eq!(slugs(&stage.server.event(&id)), [stage.app.slug("on-sent")]);
    let started = stage.server.wait_for_start(&id);
    stage.server.wait_for_status(&started, "completed");
    let seen = stage.app.log(&format!("fn=on-sent&step=got&run_id={started}"));
    assert_eq!(seen[0]["data"], json!({"from": from}));
}

#[rstest]
fn a_step_sends_many_events(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/send-many", &json!({"n": 20}));
    let ids = run["output"]["ids"].as_array().expect("ids").clone();
    assert_eq!(ids.len(), 20);
    for id in ids {
        let started = stage.server.wait_for_starts(&text(&id), 1);
        assert_eq!(started.len(), 1);
        stage.server.wait_for_status(&started[0], "completed");
    }
}

#[rstest]
fn an_app_sends_events_through_its_client(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let ids = stage.app.send(&json!([
        {"name": "test/hello", "data": {"name": "one"}},
        {"name": "test/hello", "data": {"name": "two"}},
    ]));
    let outputs: Vec<_> = ids
        .iter()
        .map(|id| {
            let run = stage.server.wait_for_start(id);
            stage.server.wait_for_status(&run, "completed")["output"].clone()
        })
        .collect();
    assert_eq!(outputs, [json!({"hello": "one"}), json!({"hello": "two"})]);
}

#[rstest]
fn wildcards_and_several_triggers(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let start = |event: Value| slugs(&stage.server.event(&stage.server.send(&event)));
    let several = vec![stage.app.slug("several-triggers")];
    assert_eq!(
        start(json!({"name": "shop/order.placed"})),
        [stage.app.slug("wildcard")]
    );
    assert_eq!(start(json!({"name": "shop"})), Vec::<String>::new());
    assert_eq!(start(json!({"name": "test/several.one"})), several);
    // Two of its triggers match; it is started once.
    assert_eq!(
        start(json!({"name": "test/several.two", "data": {"ok": true}})),
        several
    );
    assert_eq!(start(json!({"name": "test/several.other"})), several);
}

#[rstest]
fn why_a_function_was_not_started_is_recorded(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let name = "test/trigger-expression";
    let run = stage.complete(name, &json!({"total": 11, "currency": "EUR"}));
    assert_eq!(run["output"], json!({"total": 11}));
    let slug = stage.app.slug("trigger-expression");
    for data in [json!({"total": 10, "currency": "EUR"}), json!({"total": 11}), json!({})] {
        let event = stage.server.send(&json!({"name": name, "data": data}));
        let skip = stage.server.wait_for_skip(&event, &slug);
        assert_eq!(skip["reason"], "expression_false", "{data}: {skip:#}");
        assert_eq!(stage.server.event(&event)["runs"], json!([]));
    }
}

#[rstest]
fn the_same_event_id_starts_a_function_once(#[values(Ts4)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let event = json!({"id": unique("event"), "name": "test/hello", "data": {"name": "first"}});
    let first = stage.server.send(&event);
    stage.server.wait_for_start(&first);
    let second = stage.server.send(&event);
    let skip = stage.server.wait_for_skip(&second, &stage.app.slug("hello"));
    assert_eq!(skip["reason"], "duplicate", "{skip:#}");
    assert_ne!(first, second);
    assert_eq!(stage.server.event(&second)["runs"], json!([]));
}

#[rstest]
fn a_request_that_is_sent_again_with_its_seed_changes_nothing(#[values(Ts4)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    // Milliseconds, then ten bytes.
    let seed = format!("{},AQIDBAUGBwgJCg==", chrono::Utc::now().timestamp_millis());
    let events = json!([{"name": "test/hello", "data": {"n": 1}}, {"name": "test/hello", "data": {"n": 2}}]);
    let send = || {
        let request = Request::post("/e/key", &events).header("x-inngest-event-id-seed", &seed);
        request.send(stage.server.address()).expect(200).json()["ids"].clone()
    };
    let first = send();
    assert_eq!(send(), first);
    for id in first.as_array().expect("ids") {
        let runs = stage.server.wait_for_starts(&text(id), 1);
        assert_eq!(runs.len(), 1);
        stage.server.wait_for_status(&runs[0], "completed");
        assert_eq!(stage.server.event(&text(id))["runs"].as_array().map(Vec::len), Some(1));
    }
}

#[rstest]
fn an_event_of_the_future_starts_its_run_then(#[values(Ts4)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let ts = chrono::Utc::now().timestamp_millis() + 2500;
    let event = stage
        .server
        .send(&json!({"name": "test/one-step", "data": {}, "ts": ts}));
    let run = stage.server.wait_for_start(&event);
    let queued = stage.server.run(&run);
    assert_eq!(queued["status"], "queued");
    assert_eq!(queued["waiting_for"][0]["what"], "start");
    stage.server.wait_for_status(&run, "completed");
    let first = stage.app.log(&format!("run_id={run}"))[0].clone();
    let began = first["at_ms"].as_i64().expect("a time");
    assert!(began >= ts, "began {} ms early", ts - began);
}

#[rstest]
fn what_the_app_is_given_of_an_event(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let id = unique("event");
    let run = stage.server.complete(&json!({
        "id": id, "name": "test/echo", "data": {"deep": [1, {"x": null}]}, "user": {"id": "u1"}, "ts": 1_700_000_000_123_i64,
    }));
    let event = &run["output"]["event"];
    assert_eq!(event["id"], id.as_str());
    assert_eq!(event["name"], "test/echo");
    assert_eq!(event["data"], json!({"deep": [1, {"x": null}]}));
    // The Python SDK's events have no user.
    let user = if sdk == Python {
        Value::Null
    } else {
        json!({"id": "u1"})
    };
    assert_eq!(event["user"], user);
    assert_eq!(event["ts"], 1_700_000_000_123_i64);
    assert_eq!(run["output"]["events"], json!([event]));
    assert_eq!(run["output"]["run_id"], run["id"]);
    assert_eq!(run["output"]["attempt"], 0);
}

#[rstest]
fn the_end_of_a_run_is_an_event(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/hello", &json!({"name": unique("name")}));
    let heard = wait_for("a function that listens to the end of others", DEADLINE, || {
        let heard = stage.app.log("fn=on-finished&step=got");
        heard.into_iter().find(|entry| entry["data"]["run_id"] == run["id"])
    });
    assert_eq!(heard["data"]["result"], run["output"]);
    assert_eq!(heard["data"]["function_id"], stage.app.slug("hello"));
    assert_eq!(heard["data"]["event"]["name"], "test/hello");
}

#[test]
fn a_cron_function_is_registered_with_its_schedule() {
    let stage = Stage::shared(Ts4);
    let functions = stage.server.get("/api/v1/functions?app=ts4").expect(200).json();
    let functions = functions["functions"].as_array().expect("an array");
    let cron = functions
        .iter()
        .find(|function| function["slug"] == "ts4-cron")
        .expect("the function");
    assert_eq!(cron["triggers"], json!([{"cron": "* * * * *"}]));
}

#[test]
fn the_forms_an_event_may_have() {
    let server = Server::start();
    let send = |path: &str, body: &str, kind: &str| {
        Request::new("POST", path)
            .header("content-type", kind)
            .body(body)
            .send(server.address())
    };
    let json = "application/json";
    for (body, count) in [
        (r#"{"name":"a","data":{}}"#, 1),
        (r#"{"name":"a"}"#, 1),
        (r#"{"name":"a","data":null}"#, 1),
        (r#"[{"name":"a"},{"name":"b"}]"#, 2),
        ("[]", 0),
    ] {
        let answer = send("/e/any", body, json).expect(200).json();
        assert_eq!(answer["ids"].as_array().map(Vec::len), Some(count), "{body}");
        assert_eq!(answer["status"], 200);
    }
    send("/e/any", r#"{"name":"a"}"#, "text/plain").expect(200);
    for body in [
        "",
        "null",
        "17",
        r#""text""#,
        "{",
        r#"{"data":{}}"#,
        r#"{"name":""}"#,
        r#"{"name":"inngest/mine"}"#,
    ] {
        let answer = send("/e/any", body, json).expect(400).json();
        assert_eq!(answer["ids"], json!([]), "{body}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    send("/e/any", "name=a", "application/x-www-form-urlencoded").expect(400);
    // Those before the bad one are accepted.
    let answer = send("/e/any", r#"[{"name":"a"},{"name":""},{"name":"b"}]"#, json)
        .expect(400)
        .json();
    assert_eq!(answer["ids"].as_array().map(Vec::len), Some(1));
}

#[test]
fn an_event_key_that_is_configured_is_asked_for() {
    let server = Server::builder()
        .switch("--no-poll")
        .flag("--event-key", "right")
        .start();
    let event = json!({"name": "a"});
    server.post("/e/right", &event).expect(200);
    let refused = server.post("/e/wrong", &event).expect(401).json();
    assert_eq!(refused["error"], "Event key not found");
}
