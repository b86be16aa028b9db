//! `callboard start`: keys are required, calls are signed, and who has no key gets nothing, not even a look.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::command::{callboard_with, stderr, stdout};
use crate::support::fake::{FakeApp, Reply};
use crate::support::http::Request;
use crate::support::sdk::{Sdk, SdkApp};
use crate::support::server::{API_KEY, EVENT_KEY, SIGNING_KEY, Server};

fn with_bearer(request: &Request, key: &str) -> Request {
    request.clone().header("authorization", &format!("Bearer {key}"))
}

#[rstest]
#[case(&[], &["signing key", "event key"])]
#[case(&[("INNGEST_SIGNING_KEY", SIGNING_KEY)], &["event key"])]
#[case(&[("INNGEST_EVENT_KEY", EVENT_KEY)], &["signing key"])]
fn without_keys_it_does_not_start(#[case] given: &[(&str, &str)], #[case] missing: &[&str]) {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let data = dir.path().join("data");
    let data = data.to_str().expect("a plain path");
    let said = stderr(&callboard_with(given, &["start", "--port", "0", "--data-dir", data]));
    assert!(
        said.contains("CB-3009") && said.contains("openssl rand -hex 32"),
        "{said}"
    );
    for what in ["signing key", "event key"] {
        assert_eq!(
            said.contains(&format!("a {what}")) || said.contains(&format!("an {what}")),
            missing.contains(&what)
        );
    }
    assert!(!dir.path().join("data").exists(), "it made its database first");
}

#[test]
fn an_app_of_production_registers_and_runs_signed() {
    let server = Server::builder().production().flag("--retry-interval", "1").start();
    let app = SdkApp::builder(Sdk::Ts4, &server.url())
        .env("INNGEST_SIGNING_KEY", SIGNING_KEY)
        .env("INNGEST_EVENT_KEY", EVENT_KEY)
        .start();
    // Asked by the server, as with `--sdk-url`: the app verifies our signature and kind, we verify its bearer.
    server.post("/api/v1/apps/sync", &json!({"url": app.url()})).expect(200);
    let asked = app.calls("method=PUT");
    assert!(
        asked
            .iter()
            .all(|call| call["server_kind"] == "cloud" && call["signed"] == true),
        "{asked:#?}"
    );
    let ids = app.send(&json!({"name": "test/parallel", "data": {}}));
    let run = server.wait_for_start(&ids[0]);
    let run = server.wait_for_status(&run, "completed");
    assert_eq!(run["output"], json!({"joined": "slow+middle+fast"}));
    // The app fetches the state with its key.
    let run = server.complete(&json!({"name": "test/large-outputs"}));
    assert_eq!(run["output"]["lengths"].as_array().map(Vec::len), Some(2));
    let calls = app.calls("method=POST");
    assert!(
        !calls.is_empty() && calls.iter().all(|call| call["signed"] == true),
        "{calls:#?}"
    );
}

#[test]
fn an_app_that_is_not_up_yet_is_asked_again() {
    let app = FakeApp::start(|call| match call.index {
        0 => Reply::sdk(500, &json!({})),
        _ => Reply::sdk(200, &json!({})),
    });
    let _server = Server::builder().production().flag("--sdk-url", &app.url()).start();
    for call in app.wait_for_calls(2) {
        assert_eq!(
            (call.method.as_str(), call.header("x-inngest-server-kind")),
            ("PUT", Some("cloud"))
        );
        assert!(
            call.header("x-inngest-signature")
                .is_some_and(|signature| signature.contains("&s="))
        );
    }
}

#[test]
fn nobody_gets_in_without_a_key() {
    let server = Server::builder().production().start();
    let address = server.address();
    for path in [
        "/api/v1/runs",
        "/api/v1/supervisor",
        "/api/v1/openapi.json",
        "/v1/events",
        "/metrics",
    ] {
        let request = Request::get(path);
        let refused = request.send(address).expect(401);
        assert_eq!(refused.header("x-inngest-server-kind"), Some("cloud"), "{path}");
        assert!(refused.text().contains("CB-1010"), "{}", refused.text());
        for wrong in [EVENT_KEY, &SIGNING_KEY[..20], &API_KEY[1..]] {
            with_bearer(&request, wrong).send(address).expect(401);
        }
        for right in [SIGNING_KEY, &SIGNING_KEY[13..], &hashed(), API_KEY] {
            assert_ne!(with_bearer(&request, right).send(address).status, 401, "{path} {right}");
        }
    }
    for path in ["/", "/health"] {
        Request::get(path).send(address).expect(200);
    }
    // A page for developers is not there, key or no key.
    with_bearer(&Request::get("/dev"), API_KEY).send(address).expect(404);
}

/// The bearer that SDKs make of the signing key, computed with `sha256sum`.
fn hashed() -> String {
    "signkey-prod-20a40ec9697a1d5d8ecb3ff6a48f1fd81edebd73ccd3a66878cf92fbfb410913".to_owned()
}

#[test]
fn events_want_one_of_the_event_keys() {
    let server = Server::builder().production().start();
    let event = json!({"name": "a", "data": {}});
    for key in ["wrong", "", API_KEY] {
        let refused = Request::post(format!("/e/{key}"), &event).send(server.address());
        assert_eq!(refused.status, 401, "`{key}`: {}", refused.text());
    }
    Request::post(format!("/e/{EVENT_KEY}"), &event)
        .send(server.address())
        .expect(200);
}

#[test]
fn a_command_says_that_it_needs_a_key_and_takes_one() {
    let server = Server::builder().production().start();
    let status = ["status", "--url", &server.url()];
    let said = stderr(&callboard_with(&[], &status));
    assert!(
        said.contains("CB-1010") && said.contains("--api-key") && said.contains("CALLBOARD_API_KEY"),
        "{said}"
    );
    let said = stderr(&callboard_with(
        &[("CALLBOARD_API_KEY", "another-key-than-the-right-one")],
        &status,
    ));
    assert!(
        said.contains("another key") && !said.contains("another-key-than"),
        "{said}"
    );
    let environments = [("CALLBOARD_API_KEY", API_KEY), ("INNGEST_SIGNING_KEY", SIGNING_KEY)];
    for environment in environments {
        assert!(stdout(&callboard_with(&[environment], &status)).contains("state-writer"));
    }
}

/// A run that has the server ask this app for something, and returns what it was told.
fn fetching(server: &Server) -> Value {
    let app = FakeApp::start(|call| match call.json()["steps"].get("a") {
        _ if call.path.starts_with("/asked") => Reply::http(200, "internal"),
        Some(memo) => Reply::done(memo),
        None => {
            let url = format!("http://{}/asked", call.header("host").unwrap_or_default());
            Reply::ops(&json!([{"op": "Gateway", "id": "a", "name": "a", "opts": {"url": url, "method": "GET"}}]))
        }
    });
    app.register(server, &[app.function("fn", &format!("{}/go", app.id()), 0)]);
    let output = server.complete(&app.event())["output"].clone();
    let asked = app.calls().iter().filter(|call| call.path == "/asked").count();
    json!({"told": output, "asked": asked})
}

#[test]
fn functions_can_not_have_internal_addresses_asked() {
    let refused = fetching(&Server::builder().production().start());
    assert_eq!(refused["asked"], 0);
    let told = &refused["told"]["error"]["message"];
    assert!(
        told.as_str().is_some_and(|told| told.contains("CB-2102")),
        "{refused:#}"
    );

    let allowing = Server::builder()
        .production()
        .env("CALLBOARD__FETCH__ALLOW", "127.0.0.1");
    let allowed = fetching(&allowing.start());
    assert_eq!(
        (&allowed["asked"], &allowed["told"]["data"]["body"]),
        (&json!(1), &json!("internal"))
    );
}

/// Parts of the keys and passwords below that a text must not hold.
const SECRETS: [&str; 5] = [
    "5161e7a2c0ffee",
    EVENT_KEY,
    API_KEY,
    "p4ssw0rd-of-postgres",
    "p4ssw0rd-of-redis",
];

#[track_caller]
fn assert_clean(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }
}

#[test]
fn no_secret_is_in_the_log_and_every_line_of_it_is_json() {
    let server = Server::builder().production().flag("--log-level", "trace").start();
    let app = FakeApp::start(|_| Reply::done(&json!(1)));
    app.register(&server, &[app.function("fn", &format!("{}/go", app.id()), 0)]);
    server.complete(&app.event());
    // Right keys in wrong places, and what fails.
    let address = server.address();
    for path in [
        format!("/e/{SIGNING_KEY}"),
        format!("/e/{API_KEY}"),
        format!("/api/v1/runs?limit={API_KEY}"),
    ] {
        with_bearer(&Request::post(path, &json!({})), EVENT_KEY)
            .send(address)
            .expect(401);
    }
    server
        .post("/api/v1/apps/sync", &json!({"url": "http://127.0.0.1:1/x"}))
        .expect(502);
    let log = server.log();
    assert_clean(&log);
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let listening = lines.iter().find(|line| line["message"] == "listening");
    assert!(listening.is_some_and(|line| line["node"].is_string()), "{log}");
}

#[test]
fn no_secret_is_in_errors_or_in_the_configuration() {
    let database = "postgres://callboard:p4ssw0rd-of-postgres@127.0.0.1:1/callboard";
    let redis = "redis://:p4ssw0rd-of-redis@127.0.0.1:1/0";
    let keys = [
        ("INNGEST_SIGNING_KEY", SIGNING_KEY),
        ("INNGEST_EVENT_KEY", EVENT_KEY),
        ("CALLBOARD__KEYS__API", API_KEY),
        ("INNGEST_POSTGRES_URI", database),
        ("INNGEST_TICK", "150"),
    ];
    let arguments = ["config", "--mode", "start", "--redis-uri", redis];
    let output = callboard_with(&keys, &arguments);
    let shown = stdout(&output);
    for expected in [
        r#""postgres://callboard:***@127.0.0.1:1/callboard""#,
        r#""redis://:***@127.0.0.1:1/0""#,
        "environment INNGEST_POSTGRES_URI",
        "flag --redis-url",
        "default of `start`",
    ] {
        assert!(shown.contains(expected), "{expected} in\n{shown}");
    }
    assert!(String::from_utf8_lossy(&output.stderr).contains("INNGEST_TICK"));
    assert_clean(&format!("{output:?}"));
    for broken in [
        &[
            "start",
            "--port",
            "0",
            "--redis-url",
            "redis://:p4ssw0rd-of-redis@127.0.0.1:port",
        ][..],
        &[
            "start",
            "--port",
            "0",
            "--signing-key",
            "p4ssw0rd-of-redis",
            "--redis-url",
            redis,
        ],
        &["start", "--port", "0"],
    ] {
        let output = callboard_with(&keys, broken);
        assert!(stderr(&output).contains("CB-"), "{output:?}");
        assert_clean(&format!("{output:?}"));
    }
}
