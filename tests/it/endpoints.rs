//! Durable endpoints of the TypeScript SDK: handlers of HTTP requests that the app begins by itself, and the server goes on
//! with once they have to wait.

use std::net::SocketAddr;

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::command::{callboard, stdout};
use crate::support::http::{Request, Response};
use crate::support::sdk::{Sdk, SdkApp};
use crate::support::server::{EVENT_KEY, SIGNING_KEY, Server, text};
use crate::support::{DEADLINE, wait_for};

fn server() -> Server {
    Server::builder()
        .switch("--no-poll")
        .flag("--retry-interval", "1")
        .start()
}

/// A request to one of the app's endpoints.
fn ask(app: &SdkApp, method: &'static str, path: &str) -> Response {
    let address = SocketAddr::from(([127, 0, 0, 1], app.port()));
    Request::new(method, path).within(DEADLINE).send(address)
}

/// The only run there is.
fn only_run(server: &Server) -> Value {
    let run = wait_for("the run", DEADLINE, || {
        let runs = server.get("/api/v1/runs").expect(200).json();
        runs["runs"].as_array().and_then(|runs| runs.first().cloned())
    });
    server.run(&text(&run["id"]))
}

/// Follows the redirect to the answer, which comes when the run has ended.
fn answer(server: &Server, redirect: &Response) -> Response {
    assert_eq!(redirect.status, 302, "{}", redirect.text());
    let location = redirect.header("location").expect("a location").to_owned();
    let path = location.strip_prefix(&server.url()).expect("it leads to the server");
    // Without a key: the token in it will do.
    Request::get(path).within(DEADLINE).send(server.address())
}

fn steps(app: &SdkApp) -> Vec<String> {
    app.log("fn=@endpoint")
        .iter()
        .map(|entry| text(&entry["step"]))
        .collect()
}

#[test]
fn a_request_that_needs_no_wait_is_answered_by_its_app_and_is_a_run() {
    let server = server();
    let app = SdkApp::ts4(&server.url());
    let answered = ask(&app, "GET", "/endpoints/quick").expect(200).json();
    assert_eq!(answered, json!({"first": "first", "second": "second"}));
    let run = server.wait_for_status(&text(&only_run(&server)["id"]), "completed");
    assert_eq!(run["output"]["status"], 200);
    assert_eq!(steps(&app), ["first", "second"]);
    let names: Vec<_> = run["steps"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|step| &step["name"])
        .collect();
    assert_eq!(names, ["first", "second"]);
    assert_eq!(run["function"]["slug"], "GET /endpoints/quick");
    assert_eq!(app.calls("endpoint=/endpoints/quick").len(), 1, "nobody calls it again");
}

/// A server, and the app that begins runs on it.
fn with_app(is_production: bool) -> (Server, SdkApp) {
    if is_production {
        let server = Server::builder().production().flag("--retry-interval", "1").start();
        let app = SdkApp::builder(Sdk::Ts4, &server.url())
            .env("INNGEST_SIGNING_KEY", SIGNING_KEY)
            .env("INNGEST_EVENT_KEY", EVENT_KEY)
            .start();
        (server, app)
    } else {
        let server = server();
        let app = SdkApp::ts4(&server.url());
        (server, app)
    }
}

#[rstest]
fn a_request_that_has_to_wait_is_gone_on_with(#[values(false, true)] is_production: bool) {
    let (server, app) = with_app(is_production);
    let redirect = ask(&app, "GET", "/endpoints/sleepy?a=1");
    let got = answer(&server, &redirect);
    assert_eq!((got.status, got.json()), (200, json!("hello world")));
    let run = server.wait_for_status(&text(&only_run(&server)["id"]), "completed");
    assert_eq!(steps(&app), ["before", "after"]);
    let names: Vec<_> = run["steps"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|step| &step["name"])
        .collect();
    assert_eq!(names, ["before", "nap", "after"]);
    // One that runs the last step, and one for the end.
    let calls = app.calls(&format!("run_id={}", text(&run["id"])));
    assert_eq!(calls.len(), 2, "{calls:#?}");
    for call in &calls {
        assert_eq!(
            (&call["query"], &call["signed"]),
            (&json!("?a=1"), &json!(is_production))
        );
    }
    let path = format!("/v1/http/runs/{}/output", text(&run["id"]));
    for token in ["", "?token=a.b.c"] {
        Request::get(format!("{path}{token}"))
            .send(server.address())
            .expect(401);
    }
}

/// Before the wait the app streams to whoever asked; after it, through the server.
#[rstest]
fn what_a_request_streams_is_read_across_its_wait(#[values(false, true)] is_production: bool) {
    let (server, app) = with_app(is_production);
    app.ask(&Request::post("/follow", &json!({"path": "/endpoints/told"})).within(DEADLINE));
    let run = only_run(&server);
    let told = app.log("fn=@stream");
    let told: Vec<(&str, &Value)> = told
        .iter()
        .map(|entry| {
            let what = match entry["kind"].as_str() {
                Some("metadata") => &entry["runId"],
                Some("data") => &entry["data"],
                Some("response") => &entry["body"],
                _ => &entry["hashedStepId"],
            };
            (entry["kind"].as_str().expect("a text"), what)
        })
        .collect();
    let id = |name: &str| {
        let steps = run["steps"].as_array().expect("a list");
        let step = steps.iter().find(|step| step["name"] == name);
        step.unwrap_or_else(|| panic!("no step {name}: {run:#}"))["id"].clone()
    };
    let (one, two) = (id("one"), id("two"));
    let data = |text: &str| ("data", json!(text));
    let begins = || ("metadata", run["id"].clone());
    let expected = [
        begins(),
        data("one"),
        ("commit", one),
        // The server has taken over; each call begins anew.
        begins(),
        data("wrong"),
        ("rollback", two.clone()),
        begins(),
        data("t"),
        data("wo"),
        ("commit", two),
        begins(),
        data("end"),
        ("response", json!("\"told\"")),
    ];
    let expected: Vec<(&str, &Value)> = expected.iter().map(|(kind, what)| (*kind, what)).collect();
    assert_eq!(told, expected);
    server.wait_for_status(&text(&run["id"]), "completed");
}

#[test]
fn steps_side_by_side_are_the_servers_to_call() {
    let server = server();
    let app = SdkApp::ts4(&server.url());
    let redirect = ask(&app, "GET", "/endpoints/parallel");
    let got = answer(&server, &redirect).expect(200).json();
    assert_eq!(got, json!({"both": ["left", "right"], "last": "last"}));
    let mut ran = steps(&app);
    ran.sort();
    assert_eq!(ran, ["last", "left", "right"], "each once");
}

/// The SDK makes text of the response and JSON of the text: that is what the run has put out.
#[test]
fn a_response_comes_as_the_sdk_prints_it() {
    let server = server();
    let app = SdkApp::ts4(&server.url());
    let redirect = ask(&app, "GET", "/endpoints/response");
    let got = answer(&server, &redirect);
    assert_eq!((got.status, got.json()), (200, json!("\"hello world\"")));
}

/// The attempt of the app's own counts: three more make four.
#[rstest]
#[case::once(1, 2, "completed")]
#[case::always(99, 4, "failed")]
fn a_step_that_fails_is_tried_again_by_the_server(#[case] times: u32, #[case] attempts: usize, #[case] status: &str) {
    let server = server();
    let app = SdkApp::ts4(&server.url());
    let redirect = ask(&app, "POST", &format!("/endpoints/flaky?key=k&times={times}"));
    let got = answer(&server, &redirect);
    let run = server.wait_for_status(&text(&only_run(&server)["id"]), status);
    assert_eq!(steps(&app).len(), attempts);
    assert_eq!(run["function"]["slug"], "POST /endpoints/flaky");
    if status == "completed" {
        assert_eq!(got.json()["failed"], times);
    }
}

#[test]
fn a_run_goes_on_whatever_is_killed() {
    let mut server = server();
    let app = SdkApp::ts4(&server.url());
    let redirect = ask(&app, "GET", "/endpoints/sleepy");
    server.kill();
    server.restart();
    assert_eq!(answer(&server, &redirect).expect(200).json(), json!("hello world"));
    assert_eq!(steps(&app), ["before", "after"]);
    assert!(server.terminate().success());
    let directory = server.data_dir();
    let doctor = ["doctor", "--data-dir", directory.to_str().expect("a plain path")];
    let said = stdout(&callboard(&doctor));
    assert!(said.contains("All is well."), "{said}");
}
