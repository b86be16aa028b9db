//! Apps come, change and go; the server notices.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::fake::{FakeApp, Reply};
use crate::support::sdk::Sdk::{self, Python, Ts3, Ts4};
use crate::support::sdk::SdkApp;
use crate::support::server::{Server, text};
use crate::support::stage::Stage;
use crate::support::{DEADLINE, wait_for};

fn slugs(functions: &Value) -> Vec<String> {
    let functions = functions.as_array().expect("an array");
    let mut slugs: Vec<_> = functions.iter().map(|function| text(&function["slug"])).collect();
    slugs.sort();
    slugs
}

#[rstest]
fn registering_again_changes_nothing(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let app = stage.app.id();
    let path = format!("/api/v1/functions?app={app}");
    let before = stage.server.get(&path).expect(200).json();
    assert!(
        before["functions"]
            .as_array()
            .is_some_and(|functions| functions.len() > 50)
    );
    stage.app.register();
    assert_eq!(stage.server.get(&path).expect(200).json(), before);
    let apps = stage.server.get("/api/v1/apps").expect(200).json();
    assert_eq!(apps["apps"][0]["name"], app);
    assert_eq!(apps["apps"][0]["error"], Value::Null);
}

#[test]
fn a_function_that_is_left_out_starts_no_more_but_its_runs_go_on() {
    let server = Server::start();
    let app = FakeApp::start(|call| match (call.function().ends_with("-old"), call.has_step("nap")) {
        (true, false) => Reply::ops(&json!([{"op": "Sleep", "id": "nap", "name": "1500ms", "displayName": "nap"}])),
        _ => Reply::done(&json!("ended")),
    });
    let [old, new] = ["old", "new"].map(|name| app.function(name, "both", 0));
    assert_eq!(app.register(&server, &[old.clone(), new.clone()])["modified"], true);
    assert_eq!(app.register(&server, &[old.clone(), new.clone()])["modified"], false);
    let first = server.send(&json!({"name": "both"}));
    let runs = server.wait_for_starts(&first, 2);
    let of_old = runs
        .iter()
        .find(|run| server.run(run)["function"]["name"] == "old")
        .expect("a run of old");
    server.wait_until_pending(of_old, "sleep");

    assert_eq!(app.register(&server, std::slice::from_ref(&new))["modified"], true);
    let functions = server.get("/api/v1/functions").expect(200).json();
    assert_eq!(slugs(&functions["functions"]), [format!("{}-new", app.id())]);
    let all = server.get("/api/v1/functions?archived=true").expect(200).json();
    assert_eq!(all["functions"].as_array().map(Vec::len), Some(2));
    let second = server.send(&json!({"name": "both"}));
    let run = server.wait_for_start(&second);
    server.wait_for_status(&run, "completed");
    assert_eq!(server.event(&second)["runs"].as_array().map(Vec::len), Some(1));
    let run = server.wait_for_status(of_old, "completed");
    assert_eq!(run["output"], "ended");

    app.register(&server, &[old, new]);
    let third = server.send(&json!({"name": "both"}));
    assert_eq!(server.wait_for_starts(&third, 2).len(), 2);
}

#[test]
fn an_app_is_removed() {
    let server = Server::start();
    let app = FakeApp::with_function(&server, 0, |_| Reply::done(&json!(1)));
    server.complete(&app.event());
    server.delete(&format!("/fn/remove?url={}", app.url())).expect(200);
    let event = server.send(&app.event());
    assert_eq!(server.event(&event)["runs"], json!([]));
    server.delete("/fn/remove?url=http://localhost:1/none").expect(404);
}

#[test]
fn a_registration_that_asks_for_the_impossible_is_refused_as_a_whole() {
    let server = Server::start();
    let app = FakeApp::start(|_| Reply::done(&json!(1)));
    let good = app.function("good", "a", 0);
    let mut bad = app.function("bad", "a", 0);
    bad["triggers"] = json!([{"event": "a", "expression": "event.data.id =="}]);
    let registration = json!({
        "url": app.url(), "deployType": "ping", "appName": app.id(), "framework": "fake", "sdk": "fake:v1.0.0", "v": "0.1",
        "functions": [good, bad],
    });
    let refused = server.post("/fn/register", &registration).expect(400).json();
    assert!(refused["error"].is_string(), "{refused}");
    assert!(refused.to_string().contains("bad"), "{refused}");
    assert_eq!(
        server.get("/api/v1/functions").expect(200).json()["functions"],
        json!([])
    );
}

#[rstest]
fn an_app_whose_url_is_given_is_asked_until_it_is_there(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    // Its port is known before its server, so a first app finds one that is free.
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.local_addr().expect("an address").port()
    };
    let server = Server::builder()
        .flag("--sdk-url", &format!("http://127.0.0.1:{port}/api/inngest"))
        .flag("--poll-interval", "1")
        .start();
    let app = SdkApp::builder(sdk, &server.url()).port(port).start();
    let functions = || server.get("/api/v1/functions").expect(200).json()["functions"].clone();
    wait_for("the app to be found", DEADLINE, || {
        slugs(&functions()).contains(&app.slug("hello")).then_some(())
    });
    let run = server.complete(&json!({"name": "test/hello"}));
    assert_eq!(run["output"], json!({"hello": "world"}));
    assert!(!app.calls("method=PUT").is_empty());
}

#[test]
fn an_app_that_has_changed_is_noticed() {
    let server = Server::builder().flag("--poll-interval", "1").start();
    let first = SdkApp::builder(Ts4, &server.url()).start();
    first.register();
    let port = first.port();
    drop(first);
    // Another app id stands for changed code: the same URL serves other functions now.
    let second = SdkApp::builder(Ts4, &server.url()).app_id("renamed").port(port).start();
    let names = || {
        let apps = server.get("/api/v1/apps").expect(200).json();
        apps["apps"]
            .as_array()
            .expect("an array")
            .iter()
            .map(|app| text(&app["name"]))
            .collect::<Vec<_>>()
    };
    wait_for("the new app", DEADLINE, || {
        names().contains(&"renamed".to_owned()).then_some(())
    });
    assert_eq!(second.id(), "renamed");
}

#[test]
fn an_app_is_synced_by_hand() {
    let server = Server::start();
    let app = SdkApp::ts4(&server.url());
    let synced = server
        .post("/api/v1/apps/sync", &json!({"url": app.url()}))
        .expect(200)
        .json();
    assert_eq!(synced["app"]["name"], "ts4");
    server.complete(&json!({"name": "test/hello"}));
    let nobody = json!({"url": "http://127.0.0.1:1/api/inngest"});
    let problem = server.post("/api/v1/apps/sync", &nobody).expect(502).json();
    assert_eq!(problem["error"]["code"], "CB-1204");
}

#[rstest]
fn what_sdks_ask_a_development_server(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let answer = stage.server.get("/dev").expect(200);
    assert_eq!(answer.header("x-inngest-server-kind"), Some("dev"));
    let dev = answer.json();
    let hello = dev["functions"]
        .as_array()
        .expect("an array")
        .iter()
        .find(|function| function["name"] == "hello");
    let hello = hello.expect("a function");
    assert_eq!(hello["triggers"], json!([{"event": "test/hello"}]));
    let uri = text(&hello["steps"][0]["uri"]);
    assert!(
        uri.contains(&format!("fnId={}&stepId=step", stage.app.slug("hello"))),
        "{uri}"
    );
    assert_eq!(dev["isMissingSigningKey"], true);
}

#[test]
fn an_app_may_move_to_another_port_without_losing_its_runs() {
    let server = Server::builder()
        .switch("--no-poll")
        .flag("--retry-interval", "1")
        .start();
    let first = SdkApp::ts4(&server.url());
    first.register();
    let event = server.send(&json!({"name": "test/sleep", "data": {"sleep_ms": 1500}}));
    let run = server.wait_for_start(&event);
    server.wait_until_pending(&run, "sleep");
    let id = server.run(&run)["function"]["id"].clone();
    drop(first);
    let second = SdkApp::ts4(&server.url());
    second.register();
    let run = server.wait_for_status(&run, "completed");
    assert_eq!(run["function"]["id"], id);
    assert_eq!(second.log("step=after").len(), 1);
}

#[test]
fn apps_of_three_sdks_share_a_server_and_its_events() {
    let server = Server::builder()
        .switch("--no-poll")
        .flag("--retry-interval", "1")
        .start();
    let apps = [Ts4, Ts3, Python].map(|sdk| SdkApp::builder(sdk, &server.url()).start());
    for app in &apps {
        app.register();
    }
    let event = server.send(&json!({"name": "test/ten-steps"}));
    let runs = server.wait_for_starts(&event, 3);
    let mut owners: Vec<_> = runs
        .iter()
        .map(|run| text(&server.wait_for_status(run, "completed")["function"]["app"]))
        .collect();
    owners.sort();
    assert_eq!(owners, ["python", "ts3", "ts4"]);
    // One language sends, the others hear it.
    let sent = apps[2].send(&json!({"name": "test/hello", "data": {"name": "Py"}}));
    for run in server.wait_for_starts(&sent[0], 3) {
        assert_eq!(
            server.wait_for_status(&run, "completed")["output"],
            json!({"hello": "Py"})
        );
    }
}
