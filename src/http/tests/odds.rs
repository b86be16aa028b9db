//! Routes beside the SDKs' everyday ones: limits on sizes, what only tests use, bulk cancellations, what is not there.

use callboard_actors::domain::*;
use callboard_actors::orchestrator::Cancelled;
use rstest::rstest;
use serde_json::{Value, json};

use super::fake::{NOW, Server, options};
use super::sdk::{app, run_id, view};
use crate::http::Options;
use crate::sdk::ServerKind;

fn charge() -> FunctionId {
    FunctionId::derive("shop", "shop-charge")
}

async fn with_app(options: Options) -> Server {
    let server = Server::with(options).await;
    server.world.with(|world| world.apps = vec![app()]);
    server
}

#[rstest]
#[case("step-limit", Cap::Steps)]
#[case("state-size-limit", Cap::StateBytes)]
#[actix_web::test]
async fn a_functions_runs_are_given_another_size(#[case] path: &str, #[case] cap: Cap) {
    let server = with_app(options()).await;
    let path = |rest: &str| format!("/fn/{path}?functionId={}{rest}", charge());
    assert_eq!(server.method("DELETE", &path("")).await.status, 404, "there is none");
    assert_eq!(server.method("POST", &path("&limit=x")).await.status, 400);
    assert_eq!(server.method("POST", &path("&limit=-1")).await.status, 400);
    let set = server.method("POST", &path("&limit=7")).await;
    assert_eq!((set.status.as_u16(), set.body.len()), (200, 0));
    assert_eq!(
        server.world.with(|world| world.caps.get(&(charge(), cap)).copied()),
        Some(7)
    );
    assert_eq!(server.method("DELETE", &path("")).await.status, 200);
    assert!(server.world.with(|world| world.caps.is_empty()));
}

#[rstest]
#[case("functionId=x&limit=7", 400)]
#[case("functionId=00000000-0000-4000-b000-000000000000&limit=7", 404)]
#[case("limit=7", 400)]
#[actix_web::test]
async fn sizes_are_of_functions(#[case] query: &str, #[case] status: u16) {
    let answer = with_app(options())
        .await
        .method("POST", &format!("/fn/step-limit?{query}"))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["status"].clone()),
        (status, json!(status))
    );
}

#[rstest]
#[case(ServerKind::Dev, false)]
#[case(ServerKind::Cloud, true)]
#[actix_web::test]
async fn what_tests_use_is_not_on_every_server(#[case] kind: ServerKind, #[case] testing: bool) {
    let server = with_app(Options {
        kind,
        testing,
        ..options()
    })
    .await;
    assert_eq!(server.get("/test").await.status, 404);
    assert_eq!(server.method("POST", "/test/reset").await.status, 404);
    assert!(server.world.with(|world| world.wishes.is_empty()));
    if kind == ServerKind::Cloud {
        let path = format!("/fn/step-limit?functionId={}&limit=1", charge());
        assert_eq!(server.method("POST", &path).await.status, 404);
    }
}

#[actix_web::test]
async fn tests_empty_the_server_and_look_into_its_queue() {
    let testing = Options {
        testing: true,
        ..options()
    };
    let server = with_app(testing).await;
    let text = |answer: super::fake::Answer| (answer.status.as_u16(), String::from_utf8(answer.body).expect("text"));
    assert_eq!(text(server.get("/test/").await), (200, "OK".to_owned()));
    assert_eq!(text(server.method("POST", "/test/reset").await), (200, "ok".to_owned()));
    let wish = server.world.with(|world| world.wishes.remove(0));
    assert_eq!(
        (wish.kind, wish.filter),
        (OperationKind::Cancel, OperationFilter::default())
    );

    let size = format!("/test/queue/function-queue-size?accountId=x&fnId={}", charge());
    assert_eq!(server.get(&size).await.json(), json!({"count": 0}));
    server.world.with(|world| world.runs = vec![view(RunStatus::Queued)]);
    assert_eq!(server.get(&size).await.json(), json!({"count": 1}));
    assert_eq!(server.get("/test/queue/function-queue-size?fnId=x").await.status, 400);

    server.world.with(|world| world.cancelled = Some(Cancelled::Now));
    let cancel = format!("/test/function/runs/cancel?fnId={}&runId={}", charge(), run_id());
    assert_eq!(text(server.method("POST", &cancel).await), (200, "OK".to_owned()));
    let paused = FunctionMode::Paused { since: NOW };
    assert_eq!(server.world.with(|world| world.modes.clone()), [(charge(), paused)]);
    let bad = format!("/test/function/runs/cancel?fnId={}&runId=x", charge());
    assert_eq!(
        text(server.method("POST", &bad).await),
        (400, "invalid run ID: x".to_owned())
    );
}

#[actix_web::test]
async fn a_developers_server_tells_how_it_was_started() {
    let page = Server::start().await.get("/dev").await.json();
    let of_page = "version authed functions handlers isSingleNodeService isMissingSigningKey isMissingEventKeys";
    for key in of_page.split(' ') {
        assert!(page.get(key).is_some(), "{key}");
    }
    let of_start =
        "dir urls autodiscover poll poll_interval tick retry_interval queue_workers require_keys persist sqlite_dir";
    for key in of_start.split(' ') {
        assert!(page["startOpts"].get(key).is_some(), "{key}");
    }
    assert_eq!(page["features"]["enable-step-metadata"], true);
}

#[actix_web::test]
async fn metrics_of_an_environment_are_not_implemented() {
    let answer = Server::start().await.get("/v1/prom/dev").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"].clone()),
        (501, json!("not implemented"))
    );
}

#[actix_web::test]
async fn a_run_names_the_first_of_its_chain() {
    let server = Server::start().await;
    let mut again = view(RunStatus::Completed);
    let first = RunId::new(NOW, 3);
    again.summary.original = Some(first);
    server.world.with(|world| world.runs = vec![again]);
    let shown = server.get(&format!("/v1/runs/{}", run_id())).await.json();
    assert_eq!(shown["data"]["original_run_id"], json!(first));
}

const WISH: &str = r#"{"app_id":"shop","function_id":"charge","started_after":"2025-01-01T00:00:00Z",
    "started_before":"2025-02-01T00:00:00Z","if":"event.data.id == 8"}"#;

#[actix_web::test]
async fn runs_are_cancelled_in_bulk() {
    let server = with_app(options()).await;
    let answer = server.post("/v1/cancellations", WISH).await;
    assert_eq!(answer.status, 201);
    let record = answer.json()["data"].clone();
    for (key, expected) in [
        ("app_id", json!("shop")),
        ("function_id", json!("shop-charge")),
        ("function_internal_id", json!(charge())),
        ("started_after", json!("2025-01-01T00:00:00.000Z")),
        ("started_before", json!("2025-02-01T00:00:00.000Z")),
        ("if", json!("event.data.id == 8")),
    ] {
        assert_eq!(record[key], expected, "{key}");
    }
    let wish = server.world.with(|world| world.wishes.remove(0));
    assert_eq!(
        (wish.kind, wish.filter.functions),
        (OperationKind::Cancel, Some(vec![charge()]))
    );
    assert_eq!(wish.filter.condition.as_deref(), Some("event.data.id == 8"));

    let listed = server.get("/v1/cancellations").await.json();
    assert_eq!(listed["data"], json!([record]));
    let older = format!(
        "/v1/cancellations?limit=5&cursor={}",
        record["id"].as_str().expect("an id")
    );
    assert_eq!(server.get(&older).await.json()["data"], json!([]));

    let this = format!("/v1/cancellations/{}", record["id"].as_str().expect("an id"));
    assert_eq!(server.method("DELETE", &this).await.status, 204);
    let state = server.world.with(|world| world.operations[0].state);
    assert_eq!(state, OperationState::Cancelled);
    let unknown = format!("/v1/cancellations/{}", OperationId::new(NOW, 999));
    assert_eq!(server.method("DELETE", &unknown).await.status, 404);
}

#[actix_web::test]
async fn operations_of_other_kinds_are_no_cancellations() {
    let server = with_app(options()).await;
    server.post("/v1/cancellations", WISH).await;
    server
        .world
        .with(|world| world.operations[0].kind = OperationKind::Replay);
    assert_eq!(server.get("/v1/cancellations").await.json()["data"], json!([]));
    let id = server.world.with(|world| world.operations[0].id);
    assert_eq!(
        server.method("DELETE", &format!("/v1/cancellations/{id}")).await.status,
        404
    );
}

#[rstest]
#[case(json!({"app_id": null}), 400)]
#[case(json!({"app_id": ""}), 400)]
#[case(json!({"app_id": "other"}), 404)]
#[case(json!({"function_id": "other"}), 404)]
#[case(json!({"started_before": null}), 400)]
#[case(json!({"started_before": "soon"}), 400)]
#[case(json!({"started_after": "2025-02-01T00:00:00Z"}), 400)]
#[actix_web::test]
async fn bulk_cancellations_that_make_no_sense(#[case] change: Value, #[case] status: u16) {
    let server = with_app(options()).await;
    let mut wish: Value = serde_json::from_str(WISH).expect("JSON");
    for (key, value) in change.as_object().expect("an object") {
        wish[key] = value.clone();
    }
    let answer = server.post("/v1/cancellations", wish.to_string()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["status"].clone()),
        (status, json!(status))
    );
    assert!(server.world.with(|world| world.wishes.is_empty()));
}
