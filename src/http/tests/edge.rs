//! What holds for every answer: the server's kind, CORS, JSON errors, keys.

use std::sync::Arc;

use actix_web::test::TestRequest;
use rstest::rstest;

use super::fake::{Server, Shared, options};
use crate::http::AppState;
use crate::sdk::signing::Keys;
use crate::sdk::{ServerKind, SigningKey};

const EVERYWHERE: &[(&str, &str, u16)] = &[
    ("GET", "/", 200),
    ("GET", "/health", 200),
    ("GET", "/health/ready", 200),
    ("GET", "/metrics", 200),
    ("GET", "/nothing/here", 404),
    ("GET", "/v1/nothing", 404),
    ("GET", "/api/v1/nothing", 404),
    ("GET", "/e/key", 405),
    ("DELETE", "/health", 405),
    ("PATCH", "/api/v1/events", 405),
    ("POST", "/v1/signals", 400),
    ("GET", "/v1/runs/nonsense", 400),
    ("GET", "/api/v1/runs?limit=0", 400),
    ("GET", "/api/v1/runs?colour=red", 400),
    ("GET", "/dev", 200),
];

#[actix_web::test]
async fn every_answer_names_the_servers_kind_and_every_error_is_json() {
    let server = Server::start().await;
    for (method, path, status) in EVERYWHERE {
        let answer = server.method(method, path).await;
        assert_eq!(answer.status, *status, "{method} {path}");
        assert_eq!(answer.header("x-inngest-server-kind"), Some("dev"), "{method} {path}");
        if *status >= 400 {
            let body = answer.json();
            let is_own = path.starts_with("/api/") || ["/nothing/here", "/health"].contains(path);
            let code = if is_own { &body["error"]["code"] } else { &body["code"] };
            assert!(
                code.as_str().is_some_and(|code| code.starts_with("CB-")),
                "{method} {path}: {body}"
            );
        }
    }
}

#[actix_web::test]
async fn a_wrong_method_is_told_which_are_right() {
    let server = Server::start().await;
    let answer = server.method("PUT", "/api/v1/functions").await;
    assert_eq!(answer.status, 405);
    let allow = answer.header("allow").expect("an Allow header");
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    assert_eq!(answer.json()["error"]["code"], "CB-1009");
}

#[rstest]
#[case("/api/v1/runs/?limit=1", 303, Some("/api/v1/runs?limit=1"))]
#[case("/health/", 303, Some("/health"))]
#[case("//elsewhere.example/", 404, None)]
#[actix_web::test]
async fn a_slash_too_many_is_forgiven(#[case] path: &str, #[case] status: u16, #[case] location: Option<&str>) {
    let answer = Server::start().await.get(path).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (status, location));
}

#[actix_web::test]
async fn any_origin_may_ask() {
    let server = Server::start().await;
    let preflight = TestRequest::default()
        .method(actix_web::http::Method::OPTIONS)
        .uri("/e/key")
        .insert_header(("origin", "https://app.example"))
        .insert_header(("access-control-request-method", "POST"))
        .insert_header(("access-control-request-headers", "x-custom"));
    let answer = server.call(preflight).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("x-custom"));
    assert_eq!(answer.header("access-control-max-age"), Some("3600"));
    assert_eq!(answer.header("x-inngest-server-kind"), Some("dev"));
    let request = TestRequest::get()
        .uri("/nothing")
        .insert_header(("origin", "https://app.example"));
    assert_eq!(
        server.call(request).await.header("access-control-allow-origin"),
        Some("*")
    );
    assert_eq!(server.get("/health").await.header("access-control-allow-origin"), None);
}

#[rstest]
#[case("POST", "/e/key")]
#[case("GET", "/health/ready")]
#[case("GET", "/metrics")]
#[case("GET", "/api/v1/nodes")]
#[case("GET", "/dev")]
#[case("GET", "/api/v1/runs")]
#[case("GET", "/v1/events")]
#[actix_web::test]
async fn before_the_orchestrator_is_ready_the_answer_is_503(#[case] method: &str, #[case] path: &str) {
    let server = Server::around(AppState::new(options()), Shared::default()).await;
    let answer = server.method(method, path).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
    assert_eq!(server.get("/").await.json()["ready"], false);
    assert_eq!(server.get("/health").await.status, 200, "it lives");
}

const SIGNING_KEY: &str = "signkey-test-0a0b";
const FALLBACK: &str = "signkey-test-0c0d";
const API_KEYS: [&str; 2] = ["first-key-of-the-api", "other-key-of-the-api"];

fn with_keys(kind: ServerKind) -> crate::http::Options {
    crate::http::Options {
        kind,
        signing_keys: Some(Arc::new(Keys::new(
            SigningKey::parse(SIGNING_KEY).expect("a key"),
            vec![SigningKey::parse(FALLBACK).expect("a key")],
        ))),
        api_keys: API_KEYS.map(secrecy::SecretString::from).to_vec(),
        ..options()
    }
}

#[rstest]
#[case("GET", "/dev", true, true)]
#[case("POST", "/fn/register", true, true)]
#[case("DELETE", "/fn/remove?url=x", true, true)]
#[case("GET", "/v0/runs/x/batch", true, true)]
#[case("POST", "/v0/telemetry", true, true)]
#[case("GET", "/v1/events", true, true)]
#[case("GET", "/v1/nothing", true, true)]
#[case("POST", "/invoke/x", true, true)]
#[case("POST", "/api/v1/events", true, true)]
#[case("POST", "/api/v1/runs/x/cancel", true, true)]
#[case("GET", "/nothing", true, true)]
#[case("GET", "/e", true, true)]
#[case("GET", "/healthy", true, true)]
#[case("GET", "/%61pi/v1/runs", true, true)]
#[case("POST", "/metrics", true, true)]
#[case("GET", "/metrics", false, true)]
#[case("GET", "/api/v1/runs", false, true)]
#[case("GET", "/api/v1/supervisor", false, true)]
#[case("GET", "/api/v1/openapi.json", false, true)]
#[case("HEAD", "/api/v1/runs", false, true)]
#[case("POST", "/dev/traces", false, true)]
#[case("GET", "/health", false, false)]
#[case("GET", "/health/", false, false)]
#[case("GET", "/health/ready", false, false)]
#[case("GET", "/", false, false)]
#[case("HEAD", "/", false, false)]
#[case("POST", "/e/key", false, false)]
#[actix_web::test]
async fn with_keys_most_doors_are_locked(
    #[case] method: &str,
    #[case] path: &str,
    #[case] locked_in_dev: bool,
    #[case] locked: bool,
) {
    for (kind, locked) in [(ServerKind::Dev, locked_in_dev), (ServerKind::Cloud, locked)] {
        let server = Server::with(with_keys(kind)).await;
        let method = || actix_web::http::Method::from_bytes(method.as_bytes()).expect("a method");
        let ask = |bearer: String| {
            let request = TestRequest::default().method(method()).uri(path);
            request.insert_header(("authorization", bearer))
        };
        let wrong = [
            "Bearer 0b0a",
            "Bearer",
            "Basic 0a0b",
            "",
            "Bearer first-key-of-the-ap",
            "Bearer test-0a0b",
        ];
        for wrong in wrong.map(str::to_owned) {
            let answer = server.call(ask(wrong.clone())).await;
            assert_eq!(answer.status == 401, locked, "{kind:?} `{wrong}`");
            if locked {
                assert_eq!(answer.header("x-inngest-server-kind"), Some(kind.as_str()));
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
                if method() != "HEAD" {
                    assert!(answer.json().to_string().contains("Authentication failed"));
                }
            }
        }
        let key = SigningKey::parse(SIGNING_KEY).expect("a key");
        let right = [
            "signkey-prod-0a0b",
            "0a0b",
            &key.bearer(),
            "0c0d",
            API_KEYS[0],
            API_KEYS[1],
        ];
        for right in right.map(|key| format!("bearer {key}")) {
            assert_ne!(server.call(ask(right.clone())).await.status, 401, "{kind:?} `{right}`");
        }
    }
}

#[actix_web::test]
async fn api_keys_lock_without_a_signing_key_too() {
    let options = crate::http::Options {
        signing_keys: None,
        ..with_keys(ServerKind::Dev)
    };
    let server = Server::with(options).await;
    assert_eq!(server.get("/v1/events").await.status, 401);
    let request = TestRequest::get()
        .uri("/v1/events")
        .insert_header(("authorization", format!("Bearer {}", API_KEYS[1])));
    assert_eq!(server.call(request).await.status, 200);
}

#[actix_web::test]
async fn a_production_server_has_no_dev_page() {
    let mut options = options();
    options.kind = ServerKind::Cloud;
    let answer = Server::with(options).await.get("/dev").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-inngest-server-kind")),
        (404, Some("cloud"))
    );
}
