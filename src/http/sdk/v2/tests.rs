//! The endpoints over a fake orchestrator: shapes, refusals, and what is asked of whom.

use actix_web::test::TestRequest;
use callboard_actors::domain::*;
use callboard_actors::orchestrator::{Cancelled, MetadataOutcome};
use callboard_actors::rerun::{FromStep, RerunError};
use rstest::rstest;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::ENDPOINTS;
use crate::http::Options;
use crate::http::tests::fake::{Answer, NOW, Server, options};
use crate::http::tests::sdk::{event, knowing, run_id, view};
use crate::sdk::{ServerKind, step_id};

/// A server that knows an event, the run that it started, and the app.
async fn server() -> Server {
    let mut run = view(RunStatus::Completed);
    run.summary.started_at = Some(NOW);
    run.summary.ended_at = Some(Timestamp::from_millis(NOW.as_millis() + 250));
    run.summary.output = Json::parse("[1]").ok();
    run.steps.clear();
    knowing(run).await
}

fn run(rest: &str) -> String {
    format!("/v2/runs/{}{rest}", run_id())
}

fn error(answer: &Answer) -> (u16, Value) {
    let body = answer.json();
    assert!(body["errors"][0]["message"].is_string(), "{body}");
    (answer.status.as_u16(), body["errors"][0]["code"].clone())
}

#[rstest]
#[case("/v2")]
#[case("/api/v2")]
#[actix_web::test]
async fn there_are_two_ways_to_it(#[case] prefix: &str) {
    let server = server().await;
    let answer = server.get(&format!("{prefix}/health")).await.json();
    let expected = json!({"data": {"status": "ok"}, "metadata": {"fetchedAt": NOW.to_rfc3339()}});
    assert_eq!(answer, expected);
    let document = server.get(&format!("{prefix}/openapi.json")).await.json();
    for endpoint in ENDPOINTS {
        let operation = &document["paths"][format!("{prefix}{}", endpoint.path)][endpoint.method];
        assert_eq!(operation["operationId"], endpoint.id);
        let parameters = operation["parameters"].as_array().expect("a list");
        let of_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
        assert_eq!(of_path, endpoint.path.matches('{').count(), "{}", endpoint.path);
    }
    let operations = server.get(&format!("{prefix}/operations")).await.json();
    assert_eq!(operations["operations"].as_array().map(Vec::len), Some(ENDPOINTS.len()));
}

#[actix_web::test]
async fn the_account_and_the_keys() {
    let keys = Options {
        event_keys: vec![SecretString::from("a-long-event-key")],
        ..options()
    };
    let server = Server::with(keys).await;
    assert_eq!(server.get("/v2/account").await.json()["data"]["name"], "Dev Server");
    let environments = server.get("/v2/envs").await.json();
    assert_eq!(
        (&environments["data"][0]["type"], &environments["page"]),
        (&json!("TEST"), &json!({"limit": 20}))
    );
    let keys = server.get("/v2/keys/events").await.json();
    assert_eq!(keys["data"][0]["key"], "***-key");
    for (name, scope) in [("shop", "events"), ("look", "read")] {
        let made = server
            .post("/api/v1/keys", json!({"name": name, "scope": scope}).to_string())
            .await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let keys = server.get("/v2/keys/events").await.json();
    let shown = keys["data"].as_array().expect("a list");
    assert_eq!(
        shown.len(),
        2,
        "only one of the two that were made is for events: {shown:?}"
    );
    assert_ne!(shown[1]["key"], "***-key");
    let first = server.get("/v2/keys/events?limit=1").await.json();
    let cursor = first["page"]["cursor"].as_str().expect("there are more");
    let rest = server
        .get(&format!("/v2/keys/events?limit=1&cursor={cursor}"))
        .await
        .json();
    assert_eq!(rest["data"], json!([shown[1]]));
    let none = server.get("/v2/keys/signing").await.json();
    assert_eq!(none.get("data"), None, "what is empty is left out");
}

#[actix_web::test]
async fn apps_and_functions() {
    let server = server().await;
    let apps = server.get("/v2/apps").await.json();
    let shop = &apps["data"][0];
    for (key, expected) in [
        ("id", json!("shop")),
        ("method", json!("SERVE")),
        ("functionCount", json!(1)),
    ] {
        assert_eq!(shop[key], expected, "{key}");
    }
    assert_eq!(
        (&shop["latestSync"]["sdkLanguage"], &shop["latestSync"]["sdkVersion"]),
        (&json!("js"), &json!("v4.0.0"))
    );
    assert_eq!(shop.get("isArchived"), None);
    assert_eq!(server.get("/v2/apps/shop").await.json()["data"], *shop);
    assert_eq!(server.get("/v2/apps?archived=true").await.json().get("data"), None);

    let functions = server.get("/v2/apps/shop/functions").await.json();
    assert_eq!(
        functions["data"].as_array().map(Vec::len),
        Some(1),
        "archived ones are not listed"
    );
    let charge = &functions["data"][0];
    assert_eq!(
        (&charge["id"], &charge["slug"]),
        (&json!("charge"), &json!("shop-charge"))
    );
    assert_eq!(
        charge["triggers"],
        json!([{"type": "EVENT", "value": "shop/order.paid"}])
    );
    assert_eq!(
        charge["configuration"]["retries"],
        json!({"value": 4, "isDefault": true})
    );
    let concurrency = json!([{"scope": "ACCOUNT", "limit": {"value": -1, "isPlanLimit": true}}]);
    assert_eq!(charge["configuration"]["concurrency"], concurrency);
    for id in ["charge", "shop-charge"] {
        let one = server.get(&format!("/v2/apps/shop/functions/{id}")).await.json();
        assert_eq!(one["data"], *charge);
    }
    for path in [
        "/v2/apps/none",
        "/v2/apps/none/functions",
        "/v2/apps/shop/functions/none",
    ] {
        assert_eq!(error(&server.get(path).await), (404, json!("not_found")), "{path}");
    }
    for query in ["limit=0", "limit=101", "limit=x", "cursor=x", "archived=perhaps"] {
        let answer = server.get(&format!("/v2/apps?{query}")).await;
        assert_eq!(error(&answer), (400, json!("invalid_field_format")), "{query}");
    }
}

#[actix_web::test]
async fn a_run() {
    let server = server().await;
    let shown = server.get(&run("")).await.json()["data"].clone();
    let expected = json!({
        "id": run_id(),
        "function": {"id": "charge", "name": "Charge"},
        "app": {"id": "shop"},
        "status": "COMPLETED",
        "queuedAt": run_id().at().to_rfc3339(),
        "startedAt": NOW.to_rfc3339(),
        "endedAt": Timestamp::from_millis(NOW.as_millis() + 250).to_rfc3339(),
        "durationMs": "250",
        "trigger": {"eventIds": [event().id], "eventName": "shop/order.paid"},
    });
    assert_eq!(shown, expected);
    let with_output = server.get(&run("?includeOutput=true")).await.json();
    assert_eq!(with_output["data"]["output"], json!({"data": [1]}), "always an object");
    let listed = server.get(&format!("/v2/events/{}/runs", event().id)).await.json();
    assert_eq!(listed["data"], json!([expected]));
    let bad = server.get("/v2/runs/01BAD").await;
    let refusal = json!({"errors": [{"code": "invalid_field_format", "message": "Run ID must be a valid ULID"}]});
    assert_eq!((bad.status.as_u16(), bad.json()), (400, refusal));
    let unknown = server.get(&format!("/v2/runs/{}", RunId::new(NOW, 999))).await;
    assert_eq!(error(&unknown), (404, json!("not_found")));
}

#[actix_web::test]
async fn runs_are_searched() {
    let server = server().await;
    let query = "from=2025-01-01T00:00:00Z&until=2025-02-01T00:00:00Z&timeField=endedAt&status=queued,RUNNING&status=Failed\
        &app_id=shop&functionId=charge&order=asc&limit=7";
    let answer = server.get(&format!("/v2/runs?{query}")).await;
    assert_eq!(answer.status, 200);
    let range = json!({"from": "2025-01-01T00:00:00.000Z", "until": "2025-02-01T00:00:00.000Z"});
    assert_eq!(answer.json()["metadata"]["timeRange"], range);
    let search = server.world.with(|world| world.run_searches.remove(0));
    assert_eq!(
        search.statuses,
        [RunStatus::Queued, RunStatus::Running, RunStatus::Failed]
    );
    assert_eq!(search.functions, Some(vec![FunctionId::derive("shop", "shop-charge")]));
    assert_eq!((search.limit, search.ascending), (7, true));
    let of_function = server.get("/v2/apps/shop/functions/charge/runs").await;
    assert_eq!(of_function.status, 200);
    let search = server.world.with(|world| world.run_searches.remove(0));
    assert_eq!(search.functions, Some(vec![FunctionId::derive("shop", "shop-charge")]));
    let deferred = server.get("/v2/runs?isDeferred=true").await;
    assert_eq!(deferred.status, 200);
    let search = server.world.with(|world| world.run_searches.remove(0));
    assert_eq!((search.deferred, search.functions), (Some(true), None));
}

#[rstest]
#[case("functionId=charge", "missing_field")]
#[case("from=2025-02-01T00:00:00Z&until=2025-01-01T00:00:00Z", "invalid_request")]
#[case("from=yesterday", "invalid_field_format")]
#[case("status=done", "invalid_field_format")]
#[case("timeField=born", "invalid_field_format")]
#[case("order=up", "invalid_field_format")]
#[case("cursor=x", "invalid_field_format")]
#[case("limit=101", "invalid_field_format")]
#[actix_web::test]
async fn searches_that_make_no_sense(#[case] query: &str, #[case] code: &str) {
    let answer = server().await.get(&format!("/v2/runs?{query}")).await;
    assert_eq!(error(&answer), (400, json!(code)));
}

#[actix_web::test]
async fn a_trace() {
    let server = server().await;
    server.world.with(|world| {
        let line = HistoryEntry {
            at: NOW,
            kind: HistoryKind::StepCompleted,
            step: Some(StepId::from("a")),
            attempt: 0,
            detail: Json::parse(r#"{"name":"charge card"}"#).ok(),
        };
        world.runs[0].history = vec![line];
        let target = MetadataTarget::step(StepId::from("a"));
        let mut noted = Metadata::default();
        noted.apply(&target, MetadataUpdate::score("speed", json!(0)), NOW);
        let record = Some(noted.into_record());
        world.metadata.insert(
            run_id(),
            MetadataLog {
                record,
                lines: Vec::new(),
            },
        );
    });
    let trace = server.get(&run("/trace?includeOutput=true")).await.json()["data"].clone();
    assert_eq!(trace["runId"], json!(run_id()));
    let root = &trace["rootSpan"];
    assert_eq!((&root["name"], &root["status"]), (&json!("Run"), &json!("COMPLETED")));
    assert_eq!((&root["durationMs"], &root["output"]), (&json!("250"), &json!([1])));
    let step = &root["children"][0];
    assert_eq!(
        (&step["name"], &step["stepOp"], &step["stepId"]),
        (&json!("charge card"), &json!("RUN"), &json!("a"))
    );
    let noted = json!([{"scope": "step", "kind": "inngest.score", "values": {"speed": {"value": 0}}, "updatedAt": NOW.to_rfc3339()}]);
    assert_eq!(step["metadata"], noted, "what apps note is not touched");
    let unknown = server.get(&format!("/v2/runs/{}/trace", RunId::new(NOW, 999))).await;
    assert_eq!(error(&unknown), (404, json!("not_found")));
}

const INVOKE: &str = "/v2/apps/shop/functions/charge/invoke";

#[actix_web::test]
async fn a_function_is_invoked_once_for_a_key() {
    let server = server().await;
    let body = r#"{"data":{"id":9},"idempotencyKey":"k1"}"#;
    let first = server.post(INVOKE, body).await;
    assert_eq!(
        (first.status.as_u16(), &first.json()["data"]),
        (200, &json!({"runId": run_id()}))
    );
    let (function, payload) = server.world.with(|world| world.invoked.remove(0));
    assert_eq!(function, FunctionId::derive("shop", "shop-charge").to_string());
    assert_eq!(Value::Object(payload), json!({"data": {"id": 9}}));
    let again = server.post(INVOKE, body).await;
    assert_eq!(
        (again.status.as_u16(), &again.json()["data"]),
        (409, &json!({"runId": run_id()}))
    );
}

#[rstest]
#[case(SkipReason::RateLimited, "rate_limited")]
#[case(SkipReason::Debounced, "function_debounced")]
#[case(SkipReason::Paused, "function_skipped")]
#[actix_web::test]
async fn an_invoke_that_starts_nothing(#[case] reason: SkipReason, #[case] code: &str) {
    let server = server().await;
    server.world.with(|world| {
        let mut asked = world.events[0].clone();
        asked.event.id = EventId::new(NOW, 9);
        asked.runs.clear();
        asked.skips = vec![Skip {
            event: asked.event.id,
            function: Some(FunctionId::derive("shop", "shop-charge")),
            reason,
            detail: String::new(),
        }];
        world.events.push(asked);
    });
    let answer = server.post(INVOKE, r#"{"data":{}}"#).await;
    assert_eq!(error(&answer), (422, json!(code)));
}

#[rstest]
#[case(INVOKE, "", 400, "missing_field")]
#[case(INVOKE, "{}", 400, "missing_field")]
#[case(INVOKE, r#"{"data":1}"#, 400, "invalid_request")]
#[case("/v2/apps/shop/functions/none/invoke", r#"{"data":{}}"#, 404, "not_found")]
#[case("/v2/apps/shop/functions/old/invoke", r#"{"data":{}}"#, 404, "not_found")]
#[case("/v2/events", "[]", 400, "invalid_request")]
#[case("/v2/events", r#"{"data":{}}"#, 400, "validation_error")]
#[case("/v2/runs/x/cancel", "", 400, "invalid_field_format")]
#[case("/v2/runs/x/scores", "[]", 400, "invalid_field_format")]
#[actix_web::test]
async fn wishes_that_make_no_sense(
    #[case] path: &str,
    #[case] body: &'static str,
    #[case] status: u16,
    #[case] code: &str,
) {
    let answer = server().await.post(path, body).await;
    assert_eq!(error(&answer), (status, json!(code)));
}

#[actix_web::test]
async fn an_event_is_sent() {
    let server = server().await;
    let answer = server
        .post("/v2/events", r#"{"name":"shop/order.paid","data":{"id":1}}"#)
        .await;
    let sent = server.world.with(|world| world.accepted.remove(0));
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["data"]),
        (200, &json!({"eventId": sent.id}))
    );
}

#[rstest]
#[case(Some(Cancelled::Now), RunStatus::Cancelled, 200, None)]
#[case(
    Some(Cancelled::AlreadyEnded),
    RunStatus::Cancelled,
    409,
    Some("run_already_cancelled")
)]
#[case(Some(Cancelled::AlreadyEnded), RunStatus::Failed, 409, Some("run_already_ended"))]
#[case(None, RunStatus::Failed, 404, Some("not_found"))]
#[actix_web::test]
async fn a_run_is_cancelled(
    #[case] outcome: Option<Cancelled>,
    #[case] ended: RunStatus,
    #[case] status: u16,
    #[case] code: Option<&str>,
) {
    let server = server().await;
    server.world.with(|world| {
        world.cancelled = outcome;
        world.runs[0].summary.status = ended;
    });
    let answer = server.post(&run("/cancel"), "{}").await;
    match code {
        None => assert_eq!(answer.json()["data"], json!({"runId": run_id()})),
        Some(code) => assert_eq!(error(&answer), (status, json!(code))),
    }
    assert_eq!(answer.status, status);
}

#[actix_web::test]
async fn a_run_is_done_again() {
    let server = server().await;
    let whole = server.post(&run("/rerun"), "").await.json();
    assert_eq!(whole["data"], json!({"runId": RunId::new(NOW, 77)}));
    server
        .post(&run("/rerun"), r#"{"from_step":{"step_id":"a","input":[1]}}"#)
        .await;
    let reruns = server.world.with(|world| std::mem::take(&mut world.reruns));
    let first = FromStep {
        step: "a".to_owned(),
        input: Json::parse("[1]").ok(),
    };
    assert_eq!(reruns, [(run_id(), None), (run_id(), Some(first))]);
    let bare = server.post(&run("/rerun"), r#"{"fromStep":{}}"#).await;
    assert_eq!(error(&bare), (400, json!("missing_field")));
    let unknown_step = callboard_actors::engine::rerun::FromStepError::Unknown("a".to_owned());
    server.world.with(|world| world.rerun_error = Some(unknown_step.into()));
    assert_eq!(
        error(&server.post(&run("/rerun"), "").await),
        (400, json!("invalid_request"))
    );
    server
        .world
        .with(|world| world.rerun_error = Some(RerunError::UnknownRun(run_id())));
    assert_eq!(error(&server.post(&run("/rerun"), "").await), (404, json!("not_found")));
}

#[actix_web::test]
async fn a_run_is_scored() {
    let server = server().await;
    let body = json!([
        {"name": "human", "value": 0},
        {"name": "speed", "value": true, "stepId": "a", "experiment": {"id": "prompt", "variant": "short"}},
    ]);
    let answer = server.post(&run("/scores"), body.to_string()).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["data"]), (200, &body));
    let (scored, updates) = server.world.with(|world| world.noted.remove(0));
    assert_eq!(scored, run_id());
    let kinds = updates
        .iter()
        .map(|(target, update)| (target.clone(), update.kind.as_str()));
    let step = MetadataTarget::step(step_id("a", 0));
    let expected = [
        (MetadataTarget::default(), "inngest.score"),
        (step.clone(), "inngest.experiment"),
        (step, "inngest.score"),
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
}

#[rstest]
#[case(json!([]), 400, "invalid_request")]
#[case(json!({}), 400, "invalid_request")]
#[case(json!([{"name": "a", "value": "x"}]), 400, "validation_error")]
#[case(json!([{"name": "", "value": 1}]), 400, "validation_error")]
#[case(json!([{"name": "a", "value": 1, "experiment": {"id": "x"}}]), 400, "missing_field")]
#[case(json!(vec![json!({"name": "a", "value": 1}); 101]), 400, "invalid_request")]
#[actix_web::test]
async fn scores_that_are_none(#[case] body: Value, #[case] status: u16, #[case] code: &str) {
    let server = server().await;
    let answer = server.post(&run("/scores"), body.to_string()).await;
    assert_eq!(error(&answer), (status, json!(code)));
    assert!(server.world.with(|world| world.noted.is_empty()));
}

#[rstest]
#[case(MetadataOutcome::UnknownRun, 404, "not_found")]
#[case(MetadataOutcome::TooLarge, 413, "invalid_request")]
#[actix_web::test]
async fn scores_that_find_no_place(#[case] outcome: MetadataOutcome, #[case] status: u16, #[case] code: &str) {
    let server = server().await;
    server.world.with(|world| world.metadata_outcome = Some(outcome));
    let answer = server.post(&run("/scores"), r#"[{"name":"a","value":1}]"#).await;
    assert_eq!(error(&answer), (status, json!(code)));
}

#[rstest]
#[case("GET", "/v2/partner/accounts", 501, "not_implemented")]
#[case("POST", "/v2/envs", 501, "not_implemented")]
#[case("PATCH", "/v2/envs/x", 501, "not_implemented")]
#[case("POST", "/api/v2/apps/shop/syncs", 501, "not_implemented")]
#[case("POST", "/v2/webhooks", 501, "not_implemented")]
#[case("GET", "/v2/insights/query", 501, "not_implemented")]
#[case("GET", "/v2/sandboxes/x", 501, "api_error")]
#[case("GET", "/v2/nothing", 404, "api_error")]
#[case("DELETE", "/api/v2/runs", 405, "api_error")]
#[actix_web::test]
async fn what_there_is_not(#[case] method: &str, #[case] path: &str, #[case] status: u16, #[case] code: &str) {
    let answer = server().await.method(method, path).await;
    assert_eq!(error(&answer), (status, json!(code)));
}

#[actix_web::test]
async fn production_asks_for_a_key() {
    let keys = Options {
        kind: ServerKind::Cloud,
        api_keys: vec![SecretString::from("sixteen letters!!")],
        ..options()
    };
    let server = Server::with(keys).await;
    for path in ["/v2/runs", "/api/v2/account", "/v2/keys/events"] {
        let refused = error(&server.get(path).await);
        assert_eq!(refused, (401, json!("authorization_header_missing")), "{path}");
    }
    assert_eq!(server.get("/v2/health").await.status, 200);
    let with = |key: &str| {
        let request = TestRequest::get().uri("/v2/runs");
        request.insert_header(("authorization", format!("Bearer {key}")))
    };
    let refused = error(&server.call(with("another one")).await);
    assert_eq!(refused, (401, json!("invalid_signing_key")));
    assert_eq!(server.call(with("sixteen letters!!")).await.status, 200);
}
