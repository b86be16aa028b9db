//! The routes of SDKs beside `/e`: their envelopes, statuses and oddities.

use std::sync::Arc;

use actix_web::test::TestRequest;
use callboard_actors::domain::*;
use callboard_actors::orchestrator::Cancelled;
use callboard_actors::ports::{AppView, EventView, JobView, Lease, RunSummary, RunView};
use rstest::rstest;
use serde_json::{Value, json};

use super::fake::{NOW, Server};

pub(crate) fn run_id() -> RunId {
    RunId::new(NOW, 7)
}

pub(crate) fn view(status: RunStatus) -> RunView {
    RunView {
        summary: RunSummary {
            id: run_id(),
            function: FunctionId::derive("shop", "shop-charge"),
            function_version: 3,
            status,
            event_ids: vec![EventId::new(NOW, 1)],
            batch: None,
            event_name: "shop/order.paid".to_owned(),
            started_at: None,
            ended_at: None,
            output: None,
            original: None,
        },
        steps: Vec::new(),
        history: Vec::new(),
        jobs: vec![JobView {
            key: "start".to_owned(),
            attempt: 0,
            due: NOW,
        }],
        held: Vec::new(),
        deferrals: Vec::new(),
        waits: Vec::new(),
    }
}

pub(crate) fn lease(key: JobKey) -> Lease {
    Lease {
        job: Job {
            id: JobId { run: run_id(), key },
            function: FunctionId::derive("shop", "shop-charge"),
            attempt: 0,
            due: NOW,
            priority: callboard_actors::domain::Priority::NONE,
            payload: None,
            gates: callboard_actors::domain::Gates::NONE,
        },
        epoch: 1,
        since: NOW,
        is_first: true,
    }
}

/// A server that knows an event, this run that it started, and the app.
pub(crate) async fn knowing(run: RunView) -> Server {
    let server = Server::start().await;
    server.world.with(|world| {
        world.apps = vec![app()];
        world.events = vec![EventView {
            event: event(),
            runs: vec![run.summary.clone()],
            skips: Vec::new(),
            gatherings: Vec::new(),
        }];
        world.runs = vec![run];
    });
    server
}

pub(crate) fn event() -> Event {
    let incoming = json!({"name": "shop/order.paid", "id": "order-8", "data": {"id": 8}});
    let incoming = serde_json::from_value(incoming).expect("an event");
    Event::accept(incoming, EventId::new(NOW, 1), NOW).expect("valid")
}

/// An app with a live function and an archived one.
pub(crate) fn app() -> AppView {
    let registration = crate::sdk::parse(REGISTRATION.as_bytes(), NOW).expect("valid");
    let mut functions = registration.functions;
    let mut old = functions[0].clone();
    old.id = FunctionId::derive("shop", "shop-old");
    old.slug = "shop-old".into();
    old.archived = true;
    functions.push(old);
    AppView {
        app: registration.app,
        functions,
        breaker: None,
    }
}

const REGISTRATION: &str = r#"{"appName":"shop","url":"http://a/x","sdk":"js:v4.0.0","functions":[{"id":"shop-charge",
    "name":"Charge","triggers":[{"event":"shop/order.paid"}],
    "steps":{"step":{"id":"step","name":"step","runtime":{"type":"http","url":"http://a/x?fnId=shop-charge&stepId=step"}}}}]}"#;

#[actix_web::test]
async fn a_registration_is_answered_with_everything_sdks_read() {
    let server = Server::start().await;
    let answer = server.post("/fn/register", REGISTRATION).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    for (key, expected) in [
        ("ok", json!(true)),
        ("modified", json!(true)),
        ("skipped", json!(false)),
        ("status", json!(200)),
        ("app_id", json!(FunctionId::app_uuid("shop"))),
    ] {
        assert_eq!(body[key], expected, "{key}");
    }
    assert!(body["sync_id"].is_string() && body.get("error").is_none());
    assert!(!server.world.with(|world| world.registered[0].keep_others));
}

#[rstest]
#[case("nonsense", "CB-1001", "Invalid request: ")]
#[case("{}", "CB-1201", "App ID required")]
#[case(
    r#"{"appName":"shop","functions":[{}]}"#,
    "config_invalid",
    "At least one function is invalid"
)]
#[actix_web::test]
async fn a_bad_registration_is_refused_in_the_words_of_the_protocol(
    #[case] body: &'static str,
    #[case] code: &str,
    #[case] error: &str,
) {
    let server = Server::start().await;
    let answer = server.post("/fn/register", body).await;
    let said = answer.json();
    assert_eq!(
        (answer.status.as_u16(), &said["status"], said["code"].as_str()),
        (400, &json!(400), Some(code))
    );
    assert!(
        said["error"].as_str().is_some_and(|text| text.starts_with(error)),
        "{said}"
    );
    assert!(server.world.with(|world| world.registered.is_empty()));
}

#[actix_web::test]
async fn an_app_that_expects_another_kind_of_server_is_told_so() {
    let server = Server::start().await;
    let register = |kind: &'static str| {
        let request = TestRequest::post().uri("/fn/register").set_payload(REGISTRATION);
        request.insert_header(("x-inngest-expected-server-kind", kind))
    };
    let answer = server.call(register("cloud")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"].clone()),
        (400, json!("Expected server kind dev, got cloud"))
    );
    assert_eq!(server.call(register("dev")).await.status, 200);
}

#[actix_web::test]
async fn removing_an_app() {
    let server = Server::start().await;
    let answer = server.method("DELETE", "/fn/remove?url=http%3A%2F%2Fa%2Fx").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"].clone()),
        (404, json!("App not found: http://a/x"))
    );
    server.world.with(|world| world.has_app = true);
    let answer = server.method("DELETE", "/fn/remove?url=http%3A%2F%2Fa%2Fx").await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
}

#[actix_web::test]
async fn invoking_keeps_what_counts_of_the_body() {
    let server = Server::start().await;
    let body = r#"{"name":"x","id":"y","data":{"n":1},"user":null,"extra":1}"#;
    let answer = server.post("/invoke/shop%2Fcharge", body).await;
    assert_eq!(answer.json(), json!({"id": EventId::new(NOW, 9), "status": 200}));
    let (function, payload) = server.world.with(|world| world.invoked.remove(0));
    assert_eq!(
        (function.as_str(), Value::Object(payload)),
        ("shop/charge", json!({"data": {"n": 1}}))
    );
}

#[rstest]
#[case("missing", "{}")]
#[case("x", "[]")]
#[case("x", "")]
#[case("x", r#"{"data":1}"#)]
#[actix_web::test]
async fn invoking_what_can_not_be_is_a_400(#[case] slug: &str, #[case] body: &'static str) {
    let answer = Server::start().await.post(&format!("/invoke/{slug}"), body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["status"].clone()),
        (400, json!(400))
    );
}

#[actix_web::test]
async fn an_app_fetches_the_state_of_its_run() {
    let server = Server::start().await;
    let memo = |text: &str| Json::parse(text).expect("valid");
    let mut state = RunState::new(
        run_id(),
        FunctionId::derive("shop", "shop-charge"),
        "a".to_owned(),
        vec![EventId::new(NOW, 1)],
        Arc::new([event().body]),
    );
    let mut done = |id: &str, text: &str| {
        let step = Step {
            id: StepId::from(id),
            op: StepOp::Run,
            label: id.to_owned(),
            race: false,
            started_at: NOW,
            state: StepState::Done {
                memo: memo(text),
                failed: false,
                position: 0,
                at: NOW,
            },
        };
        state.apply(&Change::StepPut(step));
    };
    done("z", r#"{"data":null}"#);
    done("a", "null");
    server.world.with(|world| world.states.insert(run_id(), state));
    let batch = server.get(&format!("/v0/runs/{}/batch", run_id())).await;
    assert_eq!(batch.json(), json!([event().body]));
    let actions = server.get(&format!("/v0/runs/{}/actions", run_id())).await;
    assert_eq!(
        String::from_utf8_lossy(&actions.body),
        r#"{"z":{"data":null},"a":null}"#,
        "in the order of completion"
    );
}

#[actix_web::test]
async fn state_that_is_gone_is_gone() {
    let server = Server::start().await;
    for what in ["batch", "actions"] {
        let answer = server.get(&format!("/v0/runs/{}/{what}", run_id())).await;
        let error = format!("runtime state is no longer available for runID: {}", run_id());
        let expected = json!({"code": "CB-1303", "error": error, "data": null, "status": 410});
        assert_eq!((answer.status.as_u16(), answer.json()), (410, expected));
        assert_eq!(server.get(&format!("/v0/runs/nonsense/{what}")).await.status, 400);
    }
}

#[rstest]
#[case(Some(Cancelled::Now), 204, 200)]
#[case(Some(Cancelled::AlreadyEnded), 204, 200)]
#[case(None, 404, 404)]
#[actix_web::test]
async fn cancelling(#[case] outcome: Option<Cancelled>, #[case] legacy: u16, #[case] current: u16) {
    let server = Server::start().await;
    server.world.with(|world| world.cancelled = outcome);
    assert_eq!(
        server.method("DELETE", &format!("/v0/runs/{}", run_id())).await.status,
        legacy
    );
    assert_eq!(
        server.method("DELETE", &format!("/v1/runs/{}", run_id())).await.status,
        current
    );
}

/// A report of `steps` in the name of the run's first call.
fn report(steps: &Value) -> Value {
    json!({
        "run_id": run_id(), "fn_id": FunctionId::derive("shop", "shop-charge"), "request_id": "01JZ0000000000000000000009",
        "qi_id": "7.0.01JZ0000000000000000000009.start", "generation_id": 1, "request_started_at": 1, "ts": 2,
        "steps": steps,
    })
}

#[rstest]
#[case("/v1/checkpoint")]
#[case("/v1/http/runs")]
#[actix_web::test]
async fn steps_of_a_call_under_way_are_reported(#[case] prefix: &str) {
    let server = Server::start().await;
    let path = format!("{prefix}/{}/async", run_id());
    let steps = json!([
        {"op": "StepRun", "id": "aa", "displayName": "a", "data": {"z": 1}, "timing": {"a": 5, "b": 7}},
        {"op": "StepPlanned", "id": "bb"}, {"op": "DeferAdd", "id": "cc"},
    ]);
    let answer = server.post(&path, report(&steps).to_string()).await;
    assert_eq!((answer.status.as_u16(), &*answer.text()), (200, ""));
    let (run, function, ticket, report) = server.world.with(|world| world.reports.remove(0));
    assert_eq!(
        (run, function),
        (run_id(), Some(FunctionId::derive("shop", "shop-charge")))
    );
    assert_eq!(ticket.to_string(), "7.0.01JZ0000000000000000000009.start");
    assert_eq!(report.call, ticket.call);
    assert_eq!(report.ops.len(), 3);
    assert_eq!(report.ops[0].timing, Some((5, 7)));
}

#[rstest]
#[case(json!([{"op": "StepRun", "id": "aa"}]), Some(ReportRefused::Stale), 409)]
#[case(json!([{"op": "StepRun", "id": "aa"}]), Some(ReportRefused::TooLarge), 413)]
#[case(json!([{"op": "StepRun", "id": "aa", "data": "x".repeat(4 * 1024 * 1024)}]), None, 413)]
#[case(json!([{"op": "Sleep", "id": "aa", "name": "1s"}]), None, 400)]
#[case(json!([{"op": "StepError", "id": "aa", "error": {"message": "m"}}]), None, 400)]
#[case(json!([{"op": "RunComplete", "id": "aa"}]), None, 400)]
#[case(json!([{"op": "Nonsense", "id": "aa"}]), None, 400)]
#[case(json!([{"op": "StepRun"}]), None, 400)]
#[case(json!("text"), None, 400)]
#[actix_web::test]
async fn reports_that_are_not_taken(#[case] steps: Value, #[case] refused: Option<ReportRefused>, #[case] status: u16) {
    let server = Server::start().await;
    server.world.with(|world| world.report_refused = refused);
    let path = format!("/v1/checkpoint/{}/async", run_id());
    let answer = server.post(&path, report(&steps).to_string()).await;
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    let error = answer.json();
    assert!(
        error["error"].is_string() && error["status"] == json!(status),
        "{error}"
    );
    assert_eq!(error["data"]["run_id"], json!(run_id()));
    assert_eq!(
        server.world.with(|world| world.reports.len()),
        usize::from(refused.is_some())
    );
}

#[actix_web::test]
async fn a_report_names_its_run_and_its_call() {
    let server = Server::start().await;
    let answer = server.post("/v1/checkpoint/nonsense/async", "{}").await;
    assert_eq!(answer.status, 400);
    let mut body = report(&json!([]));
    for ticket in [json!(null), json!("cXVldWU="), json!(5)] {
        body["qi_id"] = ticket;
        let path = format!("/v1/checkpoint/{}/async", run_id());
        assert_eq!(server.post(&path, body.to_string()).await.status, 400);
    }
}

#[actix_web::test]
async fn a_signal_finds_its_run_or_not() {
    let server = Server::start().await;
    let body = r#"{"signal":"task/42","data":{"ok":true}}"#;
    let answer = server.post("/v1/signals", body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"].clone()),
        (404, json!("No signal found"))
    );
    server.world.with(|world| world.signalled = Some(run_id()));
    let answer = server.post("/v1/signals", body).await.json();
    assert_eq!(answer["data"], json!({"run_id": run_id()}));
    assert_eq!(
        answer["metadata"],
        json!({"fetched_at": NOW.to_rfc3339(), "cached_until": null})
    );
    for bad in ["{}", "[", r#"{"signal":5}"#] {
        let answer = server.post("/v1/signals", bad).await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.json()["error"]
                .as_str()
                .is_some_and(|text| text.starts_with("Invalid signal data"))
        );
    }
}

#[actix_web::test]
async fn an_event_is_shown_with_both_its_ids() {
    let server = Server::start().await;
    let stored = EventView {
        event: event(),
        runs: vec![view(RunStatus::Queued).summary],
        skips: Vec::new(),
        gatherings: Vec::new(),
    };
    server.world.with(|world| world.events.push(stored));
    let id = event().id;
    let shown = server.get(&format!("/v1/events/{id}")).await.json();
    assert_eq!(shown["data"]["internal_id"], json!(id));
    assert_eq!(
        (&shown["data"]["id"], &shown["data"]["data"]),
        (&json!("order-8"), &json!({"id": 8}))
    );
    let runs = format!("/v1/events/{id}/runs");
    let status = || async { server.get(&runs).await.json()["data"][0]["status"].clone() };
    assert_eq!(status().await, "Scheduled");
    server.world.with(|world| world.leases.push(lease(JobKey::Start)));
    assert_eq!(status().await, "Running", "its first call is out");
    let answer = server.get("/v1/events/abc").await;
    let expected = json!({"code": "CB-1007", "error": "Invalid event ID: abc", "data": null, "status": 400});
    assert_eq!((answer.status.as_u16(), answer.json()), (400, expected));
    let unknown = EventId::new(NOW, 999);
    assert_eq!(
        server.get(&format!("/v1/events/{unknown}")).await.json()["error"],
        "Event not found"
    );
}

#[actix_web::test]
async fn events_are_listed_over_the_last_hour_unless_told_otherwise() {
    let server = Server::start().await;
    assert_eq!(server.get("/v1/events").await.json()["data"], json!([]));
    let before = EventId::new(NOW, 5);
    let path =
        format!("/v1/events?limit=1000&name=a&cursor={before}&received_after=2025-01-01T00:00:00Z&received_before=5");
    assert_eq!(server.get(&path).await.status, 200);
    let filters = server.world.with(|world| world.event_filters.clone());
    let hour = std::time::Duration::from_secs(3_600);
    assert_eq!(
        (filters[0].from, filters[0].limit, filters[0].internal),
        (Some(NOW.before(hour)), 20, false)
    );
    assert_eq!(
        (filters[1].limit, filters[1].before, filters[1].name.as_deref()),
        (51, Some(before), Some("a"))
    );
    assert_eq!(filters[1].until, Some(Timestamp::from_millis(5)));
    for bad in ["cursor=x", "received_after=yesterday", "limit=many"] {
        assert_eq!(server.get(&format!("/v1/events?{bad}")).await.status, 400, "{bad}");
    }
}

#[actix_web::test]
async fn a_run_and_its_jobs() {
    let server = Server::start().await;
    let mut done = view(RunStatus::Completed);
    done.summary.output = Some(Json::parse(r#"{"ok":true}"#).expect("valid"));
    done.summary.ended_at = Some(NOW);
    server.world.with(|world| world.runs.push(done));
    let shown = server.get(&format!("/v1/runs/{}", run_id())).await.json()["data"].clone();
    assert_eq!(
        (&shown["status"], &shown["output"]),
        (&json!("Completed"), &json!({"ok": true}))
    );
    assert_eq!(shown["function_version"], 3);
    assert_eq!(shown["ended_at"], NOW.to_rfc3339());
    assert_eq!(shown.get("cron"), None);
    let jobs = server.get(&format!("/v1/runs/{}/jobs", run_id())).await.json()["data"].clone();
    assert_eq!(jobs[0]["kind"], "start");
    let unknown = RunId::new(NOW, 999);
    let answer = server.get(&format!("/v1/runs/{unknown}")).await;
    assert_eq!(
        answer.json()["error"],
        format!("Unable to load function run: {unknown}")
    );
}

#[actix_web::test]
async fn a_run_that_the_clock_has_started_names_its_schedule() {
    let server = Server::start().await;
    let mut run = view(RunStatus::Completed);
    run.summary.event_name = Event::SCHEDULED.to_owned();
    let data = json!({"cron": "*/5 * * * *"}).to_string();
    let tick = Event::glued(Event::SCHEDULED, event().id, "tick".to_owned(), NOW, &data);
    let view = EventView {
        event: tick,
        runs: vec![run.summary.clone()],
        skips: Vec::new(),
        gatherings: Vec::new(),
    };
    server
        .world
        .with(|world| (world.runs, world.events) = (vec![run], vec![view]));
    let shown = server.get(&format!("/v1/runs/{}", run_id())).await.json();
    assert_eq!(shown["data"]["cron"], "*/5 * * * *");
    let shown = server.get(&format!("/v1/events/{}/runs", event().id)).await.json();
    assert_eq!(shown["data"][0]["cron"], "*/5 * * * *");
}

#[rstest]
#[case("/dev/traces")]
#[case("/v0/telemetry")]
#[actix_web::test]
async fn traces_are_taken_and_dropped(#[case] path: &str) {
    let server = Server::start().await;
    let request = TestRequest::post()
        .uri(path)
        .insert_header(("content-encoding", "gzip"))
        .insert_header(("content-type", "application/x-protobuf"))
        .set_payload(&b"\x1f\x8b"[..]);
    let answer = server.call(request).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (200, Some("application/x-protobuf"))
    );
}

#[actix_web::test]
async fn registered_functions_are_listed_and_archived_ones_are_not() {
    let server = Server::start().await;
    assert_eq!(server.get("/dev").await.json()["functions"], json!([]));
    assert_eq!(server.get("/v1/apps/shop/functions").await.status, 404);
    server.world.with(|world| world.apps.push(app()));
    let page = server.get("/dev").await.json();
    assert_eq!(
        (&page["isMissingSigningKey"], page["functions"].as_array().map(Vec::len)),
        (&json!(true), Some(1))
    );
    let function = &page["functions"][0];
    assert_eq!(
        (&function["slug"], &function["triggers"]),
        (&json!("shop-charge"), &json!([{"event": "shop/order.paid"}]))
    );
    let uri = "http://a/x?fnId=shop-charge&stepId=step";
    assert_eq!(
        function["steps"],
        json!([{"id": "step", "name": "step", "uri": uri}]),
        "exactly these members"
    );
    let listed = server.get("/v1/apps/shop/functions").await.json();
    assert_eq!(
        (&listed[0]["id"], &listed[0]["archived_at"]),
        (&json!("shop-charge"), &Value::Null)
    );
    assert_eq!(
        (&listed[1]["id"], listed[1]["archived_at"].is_string()),
        (&json!("shop-old"), true)
    );
}
