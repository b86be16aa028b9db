//! With a signing key: the app and the server prove to each other who they are, and nobody else gets in.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::fake::{FakeApp, Reply};
use crate::support::http::Request;
use crate::support::sdk::Sdk::{self, Python, Ts3, Ts4};
use crate::support::sdk::SdkApp;
use crate::support::server::{Builder, EVENT_KEY, Server};

const KEY: &str = "signkey-test-0123456789abcdef0123456789abcdef";
const OTHER: &str = "signkey-test-ffffffffffffffffffffffffffffffff";

fn server() -> Server {
    Server::builder()
        .switch("--no-poll")
        .flag("--retry-interval", "1")
        .flag("--signing-key", KEY)
        .start()
}

#[rstest]
fn a_signed_app(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let server = server();
    let app = SdkApp::builder(sdk, &server.url())
        .env("INNGEST_SIGNING_KEY", KEY)
        .start();
    app.register();
    let run = server.complete(&json!({"name": "test/parallel"}));
    assert_eq!(run["output"], json!({"joined": "slow+middle+fast"}));
    // Text that is easily escaped in another way than the signature was made over.
    let run = server.complete(&json!({"name": "test/outputs"}));
    assert_eq!(run["output"]["keys"], json!({"b": 1, "a": 2, "€": 3, "\r": 4, "1": 5}));
    // The app fetches the state with its key.
    let run = server.complete(&json!({"name": "test/large-outputs"}));
    assert_eq!(run["output"]["lengths"].as_array().map(Vec::len), Some(2));
    let calls = app.calls("method=POST");
    assert!(calls.iter().all(|call| call["signed"] == true), "{calls:#?}");
    assert!(!server.log().contains(&KEY[13..]), "the key is in the log");
}

#[rstest]
fn an_app_with_another_key_is_refused(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let server = server();
    let app = SdkApp::builder(sdk, &server.url())
        .env("INNGEST_SIGNING_KEY", OTHER)
        .start();
    let answer = app.try_register();
    // The Python SDK answers 200 and passes on what it was told.
    let refused = answer.status != 200 || answer.json()["status"] == 401;
    assert!(refused, "{} {}", answer.status, answer.text());
    let functions = server.get("/api/v1/functions").expect(200).json();
    assert_eq!(functions["functions"], json!([]));
}

#[test]
fn requests_without_the_key_are_refused() {
    let server = server();
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for (method, path) in [
        ("POST", "/fn/register".to_owned()),
        ("DELETE", "/fn/remove?url=http://localhost".to_owned()),
        ("GET", format!("/v0/runs/{id}/actions")),
        ("GET", format!("/v0/runs/{id}/batch")),
        ("GET", format!("/v1/runs/{id}")),
        ("DELETE", format!("/v1/runs/{id}")),
        ("POST", "/v1/signals".to_owned()),
        ("POST", "/invoke/any".to_owned()),
        ("POST", "/api/v1/functions".to_owned()),
        ("POST", format!("/api/v1/runs/{id}/cancel")),
    ] {
        let request = Request::new(method, path).json(&json!({}));
        assert_eq!(request.send(server.address()).status, 401, "{request:?}");
        let wrong = request.clone().header("authorization", &format!("Bearer {OTHER}"));
        assert_eq!(wrong.send(server.address()).status, 401, "{wrong:?}");
        let right = request.header("authorization", &format!("Bearer {KEY}"));
        assert_ne!(right.send(server.address()).status, 401, "{right:?}");
    }
    // Those who look, and those who send events, need none.
    server.get("/health").expect(200);
    server.get("/api/v1/runs").expect(200);
    server.post("/e/any", &json!({"name": "a"})).expect(200);
}

#[test]
fn every_call_is_signed_for_its_body() {
    let server = server();
    let app = FakeApp::start(|_| Reply::done(&json!(1)));
    let registration = json!({
        "url": app.url(), "deployType": "ping", "appName": app.id(), "framework": "fake", "sdk": "fake:v1.0.0", "v": "0.1",
        "functions": [app.function("fn", &format!("{}/go", app.id()), 0)],
    });
    let bearer = format!("Bearer {KEY}");
    let register = Request::post("/fn/register", &registration).header("authorization", &bearer);
    register.send(server.address()).expect(200);
    server.complete(&app.event());
    let call = &app.calls()[0];
    let signature = call.header("x-inngest-signature").expect("a signature");
    assert!(signature.starts_with("t=") && signature.contains("&s="), "{signature}");
}

/// The variables of `callboard start`, and an app's, while one key takes the place of the other.
const EXCHANGED: [&str; 2] = ["INNGEST_SIGNING_KEY", "INNGEST_SIGNING_KEY_FALLBACK"];

fn production(keys: &[&str]) -> Builder {
    let builder = Server::builder().production().flag("--retry-interval", "1");
    let given = EXCHANGED.iter().zip(keys);
    given.fold(builder, |builder, (name, key)| builder.env(name, key))
}

/// An app with these keys, registered; at the port of one that is gone, or at any.
fn app_with(sdk: Sdk, server: &Server, port: u16, keys: &[&str]) -> SdkApp {
    let builder = SdkApp::builder(sdk, &server.url())
        .port(port)
        .env("INNGEST_EVENT_KEY", EVENT_KEY);
    let given = EXCHANGED.iter().zip(keys);
    let app = given
        .fold(builder, |builder, (name, key)| builder.env(name, key))
        .start();
    app.register();
    app
}

/// Runs whose app asks the API for what does not fit the call; no attempt at them fails.
fn complete_all(server: &Server) {
    let run = server.complete(&json!({"name": "test/large-outputs"}));
    assert_eq!(run["output"]["lengths"].as_array().map(Vec::len), Some(2));
    assert_unharmed(&run);
}

fn assert_unharmed(run: &Value) {
    let failed = |attempt: &Value| attempt["status"] == "failed";
    let steps = run["steps"].as_array().expect("steps");
    let mut attempts = steps
        .iter()
        .chain([run])
        .filter_map(|of| of["attempts"].as_array())
        .flatten();
    assert!(!attempts.any(failed), "{run:#}");
}

#[rstest]
fn keys_are_exchanged_at_the_server_first(#[values(Ts4, Python)] sdk: Sdk) {
    let mut server = production(&[KEY]).start();
    let mut app = app_with(sdk, &server, 0, &[KEY]);
    let waiting = server.wait_for_start(&server.send(&json!({"name": "test/wait-event"})));
    server.wait_until_pending(&waiting, "event");
    let restart = |server: &mut Server, keys: &[&str]| {
        server.set_builder(production(keys));
        assert!(server.terminate().success());
        server.restart();
    };

    restart(&mut server, &[OTHER, KEY]);
    server.send(&json!({"name": "test/wait-event.answer"}));
    assert_unharmed(&server.wait_for_status(&waiting, "completed"));
    complete_all(&server);
    // Asked by the server, as it asks those given by `--sdk-url`.
    server.post("/api/v1/apps/sync", &json!({"url": app.url()})).expect(200);

    let port = app.port();
    app.kill();
    let _app = app_with(sdk, &server, port, &[OTHER]);
    restart(&mut server, &[OTHER]);
    complete_all(&server);
    for (key, status) in [(KEY, 401), (OTHER, 200)] {
        let request = Request::get("/api/v1/runs").header("authorization", &format!("Bearer {key}"));
        assert_eq!(request.send(server.address()).status, status);
    }
}

#[rstest]
fn keys_are_exchanged_at_the_app_first(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let server = production(&[KEY]).start();
    let _app = app_with(sdk, &server, 0, &[OTHER, KEY]);
    complete_all(&server);
}
