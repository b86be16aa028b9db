//! The API as people and SDKs use it.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::fake::{FakeApp, Reply};
use crate::support::http::Request;
use crate::support::sdk::Sdk::{self, Python, Ts3, Ts4};
use crate::support::server::{Server, text};
use crate::support::stage::Stage;
use crate::support::unique;

#[test]
fn the_first_two_calls_of_a_newcomer() {
    let server = Server::start();
    let post = |path: &str, body: &str| {
        let request = Request::new("POST", path)
            .header("Content-Type", "application/json")
            .body(body);
        request.send(server.address())
    };
    let registered = post(
        "/api/v1/functions",
        r#"{"functions":[{"id":"hello-world","name":"Hello World Function","triggers":[{"event":"user.signup"}]}]}"#,
    )
    .expect(201)
    .json();
    assert_eq!(registered["modified"], true);
    assert_eq!(registered["functions"][0]["name"], "Hello World Function");
    let sent = post(
        "/api/v1/events",
        r#"{"name":"user.signup","data":{"user_id":"123","email":"user@example.com"}}"#,
    )
    .expect(201)
    .json();
    let event = server.event(&text(&sent["ids"][0]));
    assert_eq!(
        event["event"]["data"],
        json!({"user_id": "123", "email": "user@example.com"})
    );
    assert_eq!(event["runs"][0]["function"]["id"], registered["functions"][0]["id"]);
}

#[test]
fn a_function_registered_by_hand_is_called_where_it_says() {
    let server = Server::start();
    let app = FakeApp::start(|_| Reply::done(&json!("by hand")));
    let functions = json!({
        "app": "mine", "url": app.url(), "functions": [{"id": "one", "triggers": [{"event": "mine/go"}]}],
    });
    server.post("/api/v1/functions", &functions).expect(201);
    let run = server.complete(&json!({"name": "mine/go"}));
    assert_eq!(run["output"], "by hand");
}

#[rstest]
fn a_function_is_invoked_without_an_event(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let path = format!("/invoke/{}", stage.app.slug("invoke-target"));
    let answer = stage.server.post(&path, &json!({"data": {"n": 21}})).expect(200).json();
    let run = stage.server.wait_for_start(&text(&answer["id"]));
    let run = stage.server.wait_for_status(&run, "completed");
    assert_eq!(run["output"], json!({"doubled": 42}));
    stage
        .server
        .post("/invoke/no-such-function", &json!({"data": {}}))
        .expect(400);
    stage.server.post(&path, &json!({"data": 1})).expect(400);
}

#[rstest]
fn what_sdks_read_of_runs_and_events(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let name = unique("name");
    let event = stage
        .server
        .send(&json!({"name": "test/hello", "data": {"name": name}}));
    let run = stage.server.wait_for_start(&event);
    stage.server.wait_for_status(&run, "completed");

    let get = |path: String| stage.server.get(&path).expect(200).json();
    let view = get(format!("/v1/runs/{run}"))["data"].clone();
    assert_eq!(view["run_id"], run.as_str());
    assert_eq!(view["status"], "Completed");
    assert_eq!(view["output"], json!({"hello": name}));
    assert_eq!(view["event_id"], event.as_str());
    assert_eq!(get(format!("/v1/events/{event}/runs"))["data"], json!([view]));
    let seen = get(format!("/v1/events/{event}"))["data"].clone();
    assert_eq!(
        (&seen["internal_id"], &seen["name"]),
        (&json!(event), &json!("test/hello"))
    );
    let listed = get("/v1/events?name=test/hello&limit=51".to_owned())["data"].clone();
    let ids: Vec<_> = listed
        .as_array()
        .expect("an array")
        .iter()
        .map(|event| text(&event["internal_id"]))
        .collect();
    assert!(ids.is_sorted_by(|a, b| a > b), "newest first: {ids:?}");
    let functions = get(format!("/v1/apps/{}/functions", stage.app.id()));
    let slugs: Vec<_> = functions
        .as_array()
        .expect("a bare array")
        .iter()
        .map(|one| text(&one["id"]))
        .collect();
    assert!(slugs.contains(&stage.app.slug("hello")), "{slugs:?}");

    // Its state is gone with its end.
    for what in ["actions", "batch"] {
        stage.server.get(&format!("/v0/runs/{run}/{what}")).expect(410);
        stage.server.get(&format!("/v0/runs/nonsense/{what}")).expect(400);
    }
    stage.server.get("/v1/events/01ARZ3NDEKTSV4RRFFQ69G5FAV").expect(404);
    stage.server.get("/v1/events/nonsense").expect(400);
    stage.server.get("/v1/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV").expect(404);
}

#[rstest]
fn the_state_of_a_run_under_way(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let gate = unique("gate");
    let run = stage.begin("test/gated", &json!({"gate": gate}));
    stage.app.wait_for_log(&format!("run_id={run}&step=held"), 1);
    let events = stage.server.get(&format!("/v0/runs/{run}/batch")).expect(200).json();
    assert_eq!(events[0]["data"], json!({"gate": gate}));
    let actions = stage.server.get(&format!("/v0/runs/{run}/actions")).expect(200).json();
    let values: Vec<_> = actions.as_object().expect("an object").values().collect();
    assert_eq!(values, [&json!({"data": "before"})]);
    let jobs = stage.server.get(&format!("/v1/runs/{run}/jobs")).expect(200).json();
    assert_eq!(jobs["data"].as_array().map(Vec::len), Some(1));
    let view = stage.server.run(&run);
    assert_eq!(view["waiting_for"][0]["owner"], "lease", "{view:#}");
    stage.app.open(&gate);
    let view = stage.server.wait_for_status(&run, "completed");
    assert_eq!(view["output"], "passed");
}

#[test]
fn lists_are_filtered_and_paged() {
    let server = Server::start();
    let app = FakeApp::with_function(&server, 0, |call| {
        match call.json()["event"]["data"]["fails"].as_bool() {
            Some(true) => Reply::error("on purpose", true),
            _ => Reply::done(&json!(1)),
        }
    });
    let mut ids = Vec::new();
    for n in 0..5 {
        let mut event = app.event();
        event["data"]["fails"] = json!(n == 0);
        let id = server.send(&event);
        let run = server.wait_for_start(&id);
        server.wait_for_status(&run, if n == 0 { "failed" } else { "completed" });
        ids.insert(0, run);
    }
    let get = |path: String| server.get(&path).expect(200).json();
    let (mut walked, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(format!("/api/v1/runs?limit=2&cursor={cursor}"));
        let runs = page["runs"].as_array().expect("an array");
        walked.extend(runs.iter().map(|run| text(&run["id"])));
        match page["cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(walked, ids);
    let failed = get("/api/v1/runs?status=failed".to_owned());
    assert_eq!(failed["runs"].as_array().map(Vec::len), Some(1));
    let of_function = get(format!("/api/v1/runs?function={}-fn&status=completed,failed", app.id()));
    assert_eq!(of_function["runs"].as_array().map(Vec::len), Some(5));
    let events = get(format!("/api/v1/events?name={}/go", app.id()));
    assert_eq!(events["events"].as_array().map(Vec::len), Some(5));
    server.get("/api/v1/runs?status=nonsense").expect(400);
    server.get("/api/v1/runs?nonsense=1").expect(400);
}

#[test]
fn what_an_operator_sees() {
    let stage = Stage::shared(Ts4);
    let health = stage.server.get("/health").expect(200).json();
    assert_eq!((&health["status"], &health["message"]), (&json!(200), &json!("OK")));
    let tree = stage.server.get("/api/v1/supervisor").expect(200).json();
    let all = tree.to_string();
    for part in ["state-writer", "router", "consumer", "scheduler", "janitor"] {
        assert!(all.contains(part), "no {part} in {all}");
    }
    stage.server.get("/api/v1/dead-letters").expect(200);
    let document = stage.server.get("/api/v1/openapi.json").expect(200).json();
    assert!(document["paths"]["/api/v1/events"]["post"].is_object());
    let missing = stage.server.get("/api/v1/nothing").expect(404).json();
    assert_eq!(missing["error"]["code"], "CB-1008");
    Request::new("PATCH", "/api/v1/runs")
        .send(stage.server.address())
        .expect(405);
    let home = stage.server.get("/").expect(200);
    assert_eq!(home.header("x-inngest-server-kind"), Some("dev"));
    assert_ne!(home.json(), Value::Null);
}

#[test]
fn events_of_our_own_api_are_taken_all_or_none() {
    let server = Server::start();
    let events = json!([{"name": "a"}, {"name": ""}, {"name": "b"}]);
    let problem = server.post("/api/v1/events", &events).expect(400).json();
    assert_eq!(problem["error"]["code"], "CB-1102");
    assert_eq!(problem["error"]["details"], json!({"index": 1}));
    assert_eq!(server.get("/api/v1/events").expect(200).json()["events"], json!([]));
    let many: Vec<_> = (0..5001).map(|_| json!({"name": "a"})).collect();
    let problem = server.post("/api/v1/events", &json!(many)).expect(400).json();
    assert_eq!(problem["error"]["code"], "CB-1103");
    let ids = server.post("/api/v1/events", &json!(many[..5000])).expect(201).json();
    assert_eq!(ids["ids"].as_array().map(Vec::len), Some(5000));
}

#[test]
fn browsers_may_ask() {
    let stage = Stage::shared(Ts4);
    let preflight = Request::new("OPTIONS", "/e/key")
        .header("origin", "http://elsewhere")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type")
        .send(stage.server.address());
    assert!(matches!(preflight.status, 200 | 204), "{preflight:?}");
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
    assert!(
        preflight
            .header("access-control-allow-methods")
            .is_some_and(|methods| methods.contains("POST"))
    );
    let answer = Request::post("/e/key", &json!({"name": "a"})).header("origin", "http://elsewhere");
    assert_eq!(
        answer
            .send(stage.server.address())
            .header("access-control-allow-origin"),
        Some("*")
    );
}
