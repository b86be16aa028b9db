//! The REST APIs of the original, beyond what SDKs call: invoking with a key, bulk cancellation, limits on sizes, what tests use.

use serde_json::{Value, json};

use crate::support::sdk::Sdk::{Python, Ts4};
use crate::support::sdk::SdkApp;
use crate::support::server::{Server, text};
use crate::support::stage::Stage;
use crate::support::{DEADLINE, unique, wait_for};

/// The UUID of an app's function.
fn uuid(server: &Server, slug: &str) -> String {
    let page = server.get("/dev").json();
    let functions = page["functions"].as_array().expect("a list");
    let found = functions.iter().find(|function| function["slug"] == slug);
    text(&found.unwrap_or_else(|| panic!("no {slug}"))["id"])
}

#[test]
fn an_invoke_with_a_key_starts_one_run() {
    let stage = Stage::shared(Ts4);
    let server = &stage.server;
    let (key, mark) = (unique("key"), unique("invoke"));
    let path = format!("/v2/apps/{}/functions/one-step/invoke", stage.app.id());
    let invoke = |mark: &str| server.post(&path, &json!({"data": {"mark": mark}, "idempotencyKey": key}));
    let first = invoke(&mark).expect(200).json();
    let run = text(&first["data"]["runId"]);
    server.wait_for_status(&run, "completed");
    let again = invoke(&unique("other")).expect(409).json();
    assert_eq!(again["data"], first["data"]);

    let shown = server
        .get(&format!("/v2/runs/{run}?includeOutput=true"))
        .expect(200)
        .json()["data"]
        .clone();
    assert_eq!(
        [&shown["status"], &shown["function"]["id"], &shown["app"]["id"]],
        [&json!("COMPLETED"), &json!("one-step"), &json!(stage.app.id())]
    );
    let events = format!("/v1/events/{}", text(&shown["trigger"]["eventIds"][0]));
    assert_eq!(
        server.get(&events).expect(200).json()["data"]["data"]["mark"],
        json!(mark)
    );
    let of_function = format!("/v2/apps/{}/functions/one-step/runs?limit=100", stage.app.id());
    let listed = server.get(&of_function).expect(200).json();
    let ids: Vec<&Value> = listed["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|run| &run["id"])
        .collect();
    assert!(ids.contains(&&json!(run)), "{ids:?}");
    let trace = server.get(&format!("/v2/runs/{run}/trace")).expect(200).json();
    assert_eq!(trace["data"]["rootSpan"]["children"][0]["stepOp"], "RUN");
    // It is over: it can't be cancelled any more, but be done again.
    server.post(&format!("/v2/runs/{run}/cancel"), &json!({})).expect(409);
    let rerun = server
        .post(&format!("/v2/runs/{run}/rerun"), &json!({}))
        .expect(200)
        .json();
    let rerun = server.wait_for_status(&text(&rerun["data"]["runId"]), "completed");
    let shown = server
        .get(&format!("/v1/runs/{}", text(&rerun["id"])))
        .expect(200)
        .json();
    assert_eq!(shown["data"]["original_run_id"], json!(run));
}

#[test]
fn runs_are_cancelled_in_bulk() {
    let stage = Stage::shared(Python);
    let (mine, other) = (unique("bulk"), unique("bulk"));
    let begin = |mark: &str| stage.begin("test/sleep", &json!({"sleep_ms": 600_000, "mark": mark}));
    let (one, two, spared) = (begin(&mine), begin(&mine), begin(&other));
    let wish = json!({
        "app_id": stage.app.id(),
        "function_id": "sleep",
        "started_before": "2100-01-01T00:00:00Z",
        "if": format!("event.data.mark == '{mine}'"),
    });
    let record = stage.server.post("/v1/cancellations", &wish).expect(201).json();
    for run in [&one, &two] {
        stage.server.wait_for_status(run, "cancelled");
    }
    let listed = stage.server.get("/v1/cancellations").expect(200).json();
    assert_eq!(listed["data"][0]["id"], record["data"]["id"]);
    let id = text(&record["data"]["id"]);
    wait_for("the operation's end", DEADLINE, || {
        let operation = stage.server.get(&format!("/api/v1/operations/{id}")).json();
        (operation["state"] == "finished").then_some(())
    });
    let left = stage.server.run(&spared)["status"].clone();
    assert!(left == "running" || left == "queued", "{left}");
    stage.server.delete(&format!("/v1/runs/{spared}")).expect(200);
    stage.server.wait_for_status(&spared, "cancelled");
}

#[test]
fn runs_outgrow_what_their_function_is_given() {
    let stage = Stage::of_its_own(Ts4);
    let server = &stage.server;
    let function = uuid(server, &stage.app.slug("many-steps"));
    let set = |what: &str, limit: &str| {
        server
            .post(&format!("/fn/{what}?functionId={function}{limit}"), &json!({}))
            .expect(200);
    };
    set("step-limit", "&limit=2");
    let failed = stage.fail("test/many-steps", &json!({"n": 4}));
    let output = failed["output"].to_string();
    assert!(output.contains("step limit of 2 steps"), "{output}");
    server
        .delete(&format!("/fn/step-limit?functionId={function}"))
        .expect(200);
    set("state-size-limit", "&limit=20");
    let failed = stage.fail("test/many-steps", &json!({"n": 4}));
    let output = failed["output"].to_string();
    assert!(output.contains("state size limit of 20 bytes"), "{output}");
    server
        .delete(&format!("/fn/state-size-limit?functionId={function}"))
        .expect(200);
    stage.complete("test/many-steps", &json!({"n": 4}));
}

#[test]
fn tests_of_sdks_empty_the_server() {
    let server = Server::builder().switch("--no-poll").env("TEST_MODE", "true").start();
    let app = SdkApp::ts4(&server.url());
    app.register();
    let event = server.send(&json!({"name": "test/sleep", "data": {"sleep_ms": 600_000}}));
    let run = server.wait_for_start(&event);
    server.wait_until_pending(&run, "sleep");
    let size = format!(
        "/test/queue/function-queue-size?fnId={}",
        uuid(&server, &app.slug("sleep"))
    );
    assert_eq!(server.get(&size).expect(200).json(), json!({"count": 1}));
    assert_eq!(server.post("/test/reset", &json!({})).expect(200).text(), "ok");
    server.wait_for_status(&run, "cancelled");
    assert_eq!(server.get(&size).expect(200).json(), json!({"count": 0}));
}
