//! `/api/v1`: what may be asked, and what is answered.

mod breaker;
mod gatherings;
mod letters;
mod limits;
mod operations;
mod slots;
mod verbs;

use std::collections::BTreeSet;
use std::time::Duration;

use callboard_actors::domain::*;
use callboard_actors::orchestrator::Cancelled;
use callboard_actors::ports::{
    EventView, JobView, KeyFlow, NodeView, PARKED, Place, RuleFlow, SlotPlace, StepView, WaitView,
};
use rstest::rstest;
use serde_json::{Value, json};

use super::{MOUNTED, openapi_json};
use crate::http::tests::fake::{NOW, Server, node};
use crate::http::tests::sdk::{app, event, lease, run_id, view};

#[test]
fn the_document_describes_exactly_what_is_mounted() {
    let document: Value = serde_json::from_str(&openapi_json()).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let mut described = BTreeSet::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("methods") {
            assert!(operation["summary"].is_string(), "{method} {path} says what it does");
            let scope = operation["security"][0]["key"][0].as_str();
            let expected = match (method.as_str(), path.as_str()) {
                (_, path) if path.starts_with("/api/v1/keys") => "admin",
                ("get", _) | (_, "/api/v1/operations/preview") => "read",
                _ => "write",
            };
            assert_eq!(scope, Some(expected), "{method} {path}");
            described.insert((method.clone(), path.clone()));
        }
    }
    let mounted: BTreeSet<_> = MOUNTED
        .iter()
        .map(|(method, path)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    assert_eq!(described, mounted);
}

#[test]
fn the_document_refers_only_to_what_it_has() {
    let text = openapi_json();
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let references: BTreeSet<_> = text
        .split("\"$ref\": \"#")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(references.len() > 10, "{references:?}");
    for pointer in references {
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

#[actix_web::test]
async fn the_flow_of_a_function_is_shown_rule_by_rule() {
    let server = Server::start().await;
    let mut app = app();
    let function = &mut app.functions[0];
    function.flow.concurrency = vec![ConcurrencyLimit {
        limit: 3,
        key: Some("event.data.user".to_owned()),
        scope: Scope::Account,
    }];
    function.flow.throttle = Some(Throttle {
        limit: 10,
        period: Duration::from_secs(60),
        burst: 1,
        key: None,
    });
    let (slug, id) = (function.slug.clone(), function.id);
    let rule = RuleId::derive(GateKind::SharedSlot, Scope::Account, Some("event.data.user"));
    let key = |key: &str, in_use, waiting| KeyFlow {
        key: key.to_owned(),
        in_use,
        waiting,
        oldest: (waiting > 0).then_some(NOW),
        next: None,
    };
    server.world.with(|world| {
        world.apps = vec![app];
        world.flow.rules = vec![RuleFlow::of_keys(
            rule,
            GateKind::SharedSlot,
            vec![key("u1", 3, 7), key("u2", 1, 0)],
        )];
    });
    let shown = server.get(&format!("/api/v1/functions/{slug}/flow")).await.json();
    let expected = json!({"function": *slug, "rules": [
        {"kind": "throttle", "scope": "fn", "limit": 10, "period_ms": 60_000, "burst": 1, "keys": 0, "in_use": 0,
         "waiting": 0, "busiest": [], "longest": []},
        {"kind": "concurrency", "scope": "account", "key": "event.data.user", "limit": 3, "keys": 2, "in_use": 4,
         "waiting": 7, "oldest_waiting": NOW.to_rfc3339(),
         "busiest": [
            {"key": "u1", "in_use": 3, "waiting": 7, "oldest_waiting": NOW.to_rfc3339()},
            {"key": "u2", "in_use": 1, "waiting": 0}
         ],
         "longest": [{"key": "u1", "in_use": 3, "waiting": 7, "oldest_waiting": NOW.to_rfc3339()}]},
    ]});
    assert_eq!(shown, expected);
    assert_eq!(
        server.get(&format!("/api/v1/functions/{id}/flow")).await.json(),
        expected
    );
    assert_eq!(server.get("/api/v1/functions/nobody/flow").await.status, 404);
}

#[actix_web::test]
async fn the_document_is_served() {
    let answer = Server::start().await.get("/api/v1/openapi.json").await;
    assert_eq!(answer.json()["info"]["title"], "Callboard");
}

#[actix_web::test]
async fn an_event_that_starts_nothing_is_accepted_too() {
    let server = Server::start().await;
    let body = r#"{"name":"user.signup","data":{"user_id":"123","email":"user@example.com"}}"#;
    let answer = server.post("/api/v1/events", body).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["ids"].as_array().map(Vec::len), Some(1));
}

#[actix_web::test]
async fn events_are_accepted_all_or_none() {
    let server = Server::start().await;
    let answer = server.post("/api/v1/events", r#"[{"name":"a"},{"name":""}]"#).await;
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"].clone();
    assert_eq!(
        (&error["code"], &error["details"]["index"]),
        (&json!("CB-1102"), &json!(1))
    );
    assert!(error["remedy"].is_string());
    assert!(server.world.with(|world| world.accepted.is_empty()));
}

#[actix_web::test]
async fn an_event_is_shown_with_what_it_did_not_start() {
    let server = Server::start().await;
    let function = FunctionId::derive("shop", "shop-charge");
    let skip = Skip {
        event: event().id,
        function: Some(function),
        reason: SkipReason::ExpressionFalse,
        detail: "event.data.id > 10".to_owned(),
    };
    let stored = EventView {
        event: event(),
        runs: vec![view(RunStatus::Queued).summary],
        skips: vec![skip],
        gatherings: Vec::new(),
    };
    server.world.with(|world| world.events.push(stored));
    let shown = server.get(&format!("/api/v1/events/{}", event().id)).await.json();
    assert_eq!(shown["event"]["data"], json!({"id": 8}));
    assert_eq!(shown["runs"][0]["id"], json!(run_id()));
    assert_eq!(shown["not_started"][0]["reason"], "expression_false");
    assert_eq!(shown["not_started"][0]["function"]["id"], json!(function));
    let listed = server.get("/api/v1/events").await.json();
    assert_eq!(
        (&listed["events"][0]["external_id"], listed.get("cursor")),
        (&json!("order-8"), None)
    );
}

#[rstest]
#[case("/api/v1/runs?limit=0")]
#[case("/api/v1/runs?limit=101")]
#[case("/api/v1/runs?limit=ten")]
#[case("/api/v1/runs?status=sleeping")]
#[case("/api/v1/runs?status=running,")]
#[case("/api/v1/runs?cursor=x")]
#[case("/api/v1/runs?from=yesterday")]
#[case("/api/v1/runs?color=red")]
#[case("/api/v1/events?internal=perhaps")]
#[case("/api/v1/events?cursor=x")]
#[case("/api/v1/runs/x")]
#[case("/api/v1/events/x")]
#[case("/api/v1/dead-letters?limit=-1")]
#[actix_web::test]
async fn a_bad_parameter_is_named(#[case] path: &str) {
    let answer = Server::start().await.get(path).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"]["code"].clone()),
        (400, json!("CB-1007")),
        "{path}"
    );
}

#[rstest]
#[case("/api/v1/runs?function=x", "CB-1202")]
#[case("/api/v1/runs?app=x", "CB-1203")]
#[case("/api/v1/functions?app=x", "CB-1203")]
#[case("/api/v1/runs/01K0A0000000000000000000A1", "CB-1302")]
#[case("/api/v1/events/01K0A0000000000000000000A1", "CB-1301")]
#[actix_web::test]
async fn what_is_unknown_is_a_404(#[case] path: &str, #[case] code: &str) {
    let answer = Server::start().await.get(path).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"]["code"].clone()),
        (404, json!(code))
    );
}

#[actix_web::test]
async fn runs_are_filtered_and_walked_by_cursor() {
    let server = Server::start().await;
    server
        .world
        .with(|world| world.runs = vec![view(RunStatus::Running), view(RunStatus::Failed)]);
    let path = "/api/v1/runs?status=running,failed&from=2025-01-01T00%3A00%3A00%2B01:00&until=99&limit=1";
    let page = server.get(path).await.json();
    assert_eq!(page["runs"].as_array().map(Vec::len), Some(1));
    assert_eq!(page["cursor"], json!(run_id()), "there are more");
    let next = server.get(&format!("/api/v1/runs?cursor={}", run_id())).await.json();
    assert_eq!(next.get("cursor"), None, "the last page");
    let filters = server.world.with(|world| world.run_filters.clone());
    assert_eq!(filters[0].statuses, [RunStatus::Running, RunStatus::Failed]);
    assert_eq!(
        filters[0].from.map(Timestamp::to_rfc3339).as_deref(),
        Some("2024-12-31T23:00:00.000Z")
    );
    assert_eq!(
        (filters[0].until, filters[0].limit),
        (Some(Timestamp::from_millis(99)), 1)
    );
    assert_eq!((filters[1].before, filters[1].limit), (Some(run_id()), 20));
}

fn step(id: &str, op: StepOp, status: &'static str) -> StepView {
    StepView {
        id: StepId::from(id),
        op,
        label: format!("the {id}"),
        status,
        started_at: NOW,
        ended_at: None,
        until: None,
        memo: None,
        position: None,
    }
}

fn job(key: &str, attempt: u32, after_seconds: u64) -> JobView {
    JobView {
        key: key.to_owned(),
        attempt,
        due: NOW.after(Duration::from_secs(after_seconds)),
    }
}

async fn shown(run: callboard_actors::ports::RunView, leases: Vec<callboard_actors::ports::Lease>) -> Value {
    let server = Server::start().await;
    server
        .world
        .with(|world| (world.runs, world.leases) = (vec![run], leases));
    server.get(&format!("/api/v1/runs/{}", run_id())).await.json()
}

#[actix_web::test]
async fn a_run_whose_first_call_is_out_is_running() {
    let queued = shown(view(RunStatus::Queued), Vec::new()).await;
    assert_eq!(
        (&queued["status"], &queued["started_at"]),
        (&json!("queued"), &Value::Null)
    );
    assert_eq!(
        queued["waiting_for"],
        json!([{"what": "call", "owner": "queue", "attempt": 0, "since": NOW.to_rfc3339()}])
    );
    let called = shown(view(RunStatus::Queued), vec![lease(JobKey::Start)]).await;
    assert_eq!(
        (&called["status"], &called["started_at"]),
        (&json!("running"), &json!(NOW.to_rfc3339()))
    );
    assert_eq!(
        called["waiting_for"],
        json!([{"what": "call", "owner": "lease", "attempt": 0, "since": NOW.to_rfc3339()}])
    );
}

#[actix_web::test]
async fn a_run_says_which_limit_holds_it_up_and_its_place_in_the_line() {
    let server = Server::start().await;
    let place = |ahead| Place {
        job: JobId {
            run: run_id(),
            key: JobKey::Start,
        },
        gate: Some(Gate::new(
            GateKind::Throttle,
            Scope::Fn,
            FunctionId::derive("shop", "shop-charge"),
            Some("event.data.key"),
            "x",
        )),
        opens: Some(NOW.after(Duration::from_secs(5))),
        ahead,
    };
    let show = async |ahead| {
        server.world.with(|world| {
            world.runs = vec![view(RunStatus::Queued)];
            world.places = vec![place(ahead)];
        });
        let shown = server.get(&format!("/api/v1/runs/{}", run_id())).await.json();
        shown["waiting_for"][0].clone()
    };
    let opens_at = NOW.after(Duration::from_secs(5)).to_rfc3339();
    let mut expected = json!({"what": "call", "owner": "queue", "attempt": 0, "since": NOW.to_rfc3339(),
        "limit": "throttle", "key": "x", "position": "3", "opens_at": opens_at});
    assert_eq!(show(Some(2)).await, expected);
    expected["position"] = json!("1000");
    assert_eq!(show(Some(Place::MOST - 1)).await, expected);
    expected["position"] = json!("1001+");
    assert_eq!(show(Some(Place::MOST)).await, expected);
    expected.as_object_mut().expect("an object").remove("position");
    assert_eq!(show(None).await, expected);
    // A run that waits for a run slot has its place from the store.
    server.world.with(|world| {
        world.runs[0].jobs[0].due = PARKED;
        world.slot_place = Some(SlotPlace {
            key: String::new(),
            ahead: 0,
        });
    });
    let shown = server.get(&format!("/api/v1/runs/{}", run_id())).await.json();
    assert_eq!(
        shown["waiting_for"][0],
        json!({"what": "slot", "owner": "slot", "attempt": 0, "limit": "run_concurrency", "position": "1"})
    );
}

#[actix_web::test]
async fn an_unfinished_run_says_what_it_waits_for_and_who_sees_to_it() {
    let mut run = view(RunStatus::Running);
    run.steps = vec![
        step("call", StepOp::Run, "planned"),
        step("flaky", StepOp::Run, "planned"),
        step("nap", StepOp::Sleep, "parked"),
        step("wait", StepOp::WaitForEvent, "parked"),
    ];
    run.jobs = vec![
        job("step:call", 0, 0),
        job("step:flaky", 2, 30),
        job("wake:nap", 0, 60),
        job("timeout:wait", 0, 90),
    ];
    let wait = |kind: &'static str, step: Option<&str>| WaitView {
        kind,
        step: step.map(StepId::from),
        name: "order/paid".to_owned(),
        condition: Some("async.data.id == 7".to_owned()),
        expires_at: NOW.after(Duration::from_secs(90)),
    };
    run.waits = vec![wait("event", Some("wait")), wait("cancel", None)];
    let shown = shown(run, vec![lease(JobKey::Step(StepId::from("call")))]).await;
    let after = |seconds: u64| NOW.after(Duration::from_secs(seconds)).to_rfc3339();
    assert_eq!(
        shown["waiting_for"],
        json!([
            {"what": "call", "owner": "lease", "step": "the call", "step_id": "call", "attempt": 0, "since": after(0)},
            {"what": "retry", "owner": "timer", "step": "the flaky", "step_id": "flaky", "attempt": 2, "until": after(30)},
            {"what": "sleep", "owner": "timer", "step": "the nap", "step_id": "nap", "until": after(60)},
            {"what": "event", "owner": "wait", "step": "the wait", "step_id": "wait", "name": "order/paid",
             "condition": "async.data.id == 7", "until": after(90)},
        ])
    );
    assert_eq!(shown["cancelled_by"][0]["event"], "order/paid");
    assert_eq!(shown["steps"][0]["status"], "running", "its call is out");
    assert_eq!(shown["steps"][1]["status"], "planned");
}

#[actix_web::test]
async fn a_step_shows_its_attempts() {
    let entry = |kind: HistoryKind, attempt: u32, detail: Value| HistoryEntry {
        at: NOW.after(Duration::from_secs(9)),
        kind,
        step: Some(StepId::from("a")),
        attempt,
        detail: Some(Json::from_value(&detail).expect("finite")),
    };
    let millis = NOW.as_millis();
    let failure = json!({"error": {"message": "no"}, "status": 500, "started_at": millis, "retry_at": millis + 1_000});
    let mut run = view(RunStatus::Completed);
    run.steps = vec![step("a", StepOp::Run, "completed")];
    run.history = vec![
        entry(HistoryKind::StepScheduled, 0, json!({"op": "run"})),
        entry(HistoryKind::AttemptFailed, 0, failure),
        entry(
            HistoryKind::StepCompleted,
            1,
            json!({"started_at": millis, "ended_at": millis + 12}),
        ),
    ];
    let shown = shown(run, Vec::new()).await;
    let attempts = &shown["steps"][0]["attempts"];
    assert_eq!(attempts.as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&attempts[0]["status"], &attempts[0]["http_status"]),
        (&json!("failed"), &json!(500))
    );
    assert_eq!(
        (&attempts[0]["error"]["message"], &attempts[0]["duration_ms"]),
        (&json!("no"), &json!(9_000))
    );
    assert_eq!(
        (&attempts[1]["status"], &attempts[1]["duration_ms"]),
        (&json!("completed"), &json!(12))
    );
    assert_eq!(shown["waiting_for"], json!([]), "it is over");
}

#[actix_web::test]
async fn cancelling_says_whether_it_was_in_time() {
    let server = Server::start().await;
    let path = format!("/api/v1/runs/{}/cancel", run_id());
    assert_eq!(server.post(&path, "").await.status, 404);
    server.world.with(|world| world.cancelled = Some(Cancelled::Now));
    assert_eq!(
        server.post(&path, "").await.json(),
        json!({"id": run_id(), "cancelled": true})
    );
    server
        .world
        .with(|world| world.cancelled = Some(Cancelled::AlreadyEnded));
    assert_eq!(server.post(&path, "").await.json()["cancelled"], false);
}

#[actix_web::test]
async fn functions_are_registered_by_hand_and_others_stay() {
    let server = Server::start().await;
    let body =
        r#"{"functions":[{"id":"hello-world","name":"Hello World Function","triggers":[{"event":"user.signup"}]}]}"#;
    let answer = server.post("/api/v1/functions", body).await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    let registration = server.world.with(|world| world.registered.remove(0));
    assert!(registration.keep_others);
    assert_eq!(registration.app.sdk, "", "nobody is asked to register again");
    let function = &registration.functions[0];
    assert_eq!(
        (&*function.slug, function.name.as_str()),
        ("hello-world", "Hello World Function")
    );
    assert_eq!(
        function.url,
        "http://localhost:3000/api/inngest?fnId=hello-world&stepId=step"
    );
}

#[rstest]
#[case("[", "CB-1001")]
#[case("[]", "CB-1001")]
#[case("{}", "CB-1201")]
#[case(r#"{"functions":[]}"#, "CB-1201")]
#[case(r#"{"functions":[{"name":"x"}]}"#, "CB-1201")]
#[case(r#"{"functions":[{"id":"x","trigers":[]}]}"#, "CB-1201")]
#[case(r#"{"functions":[{"id":"x"}],"url":"nowhere"}"#, "CB-1201")]
#[actix_web::test]
async fn a_bad_registration_is_refused(#[case] body: &'static str, #[case] code: &str) {
    let answer = Server::start().await.post("/api/v1/functions", body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"]["code"].clone()),
        (400, json!(code))
    );
}

#[rstest]
#[case(r#"{"url":"http://a/x"}"#, 200)]
#[case(r#"{"url":"http://down/x"}"#, 502)]
#[case(r#"{"url":"nowhere"}"#, 400)]
#[case("{}", 400)]
#[actix_web::test]
async fn syncing_an_app(#[case] body: &'static str, #[case] status: u16) {
    let server = Server::start().await;
    server.world.with(|world| world.apps.push(app()));
    let answer = server.post("/api/v1/apps/sync", body).await;
    assert_eq!(answer.status, status);
    let notes = server.world.with(|world| std::mem::take(&mut world.notes));
    match status {
        200 => {
            assert_eq!(answer.json()["app"]["name"], "shop");
            assert_eq!(notes, [("http://a/x".to_owned(), None)]);
        }
        502 => {
            let error = answer.json()["error"].clone();
            assert_eq!(
                (&error["message"], &error["details"]["reason"]),
                (&json!("connection refused"), &json!("unreachable"))
            );
            assert_eq!(
                notes,
                [("http://down/x".to_owned(), Some("connection refused".to_owned()))]
            );
        }
        _ => assert!(notes.is_empty()),
    }
}

#[actix_web::test]
async fn functions_and_apps_are_listed() {
    let server = Server::start().await;
    server.world.with(|world| world.apps.push(app()));
    let slugs = async |path: &str| {
        let listed = server.get(path).await.json();
        let slugs = listed["functions"].as_array().expect("a list").iter();
        slugs
            .map(|function| function["slug"].as_str().expect("a slug").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(slugs("/api/v1/functions").await, ["shop-charge"]);
    assert_eq!(
        slugs("/api/v1/functions?app=shop&archived=true").await,
        ["shop-charge", "shop-old"]
    );
    let apps = server.get("/api/v1/apps").await.json();
    assert_eq!(
        (&apps["apps"][0]["name"], &apps["apps"][0]["functions"]),
        (&json!("shop"), &json!(["shop-charge"]))
    );
    assert_eq!(
        server.get("/").await.json()["counts"],
        json!({"apps": 1, "functions": 1})
    );
}

#[rstest]
#[case("function=shop-charge", &["shop-charge"])]
#[case("function=shop-old", &["shop-old"])]
#[case("app=shop", &["shop-charge", "shop-old"])]
#[case("app=shop&function=shop-charge", &["shop-charge"])]
#[actix_web::test]
async fn runs_are_filtered_by_function_and_app(#[case] query: &str, #[case] expected: &[&str]) {
    let server = Server::start().await;
    server.world.with(|world| world.apps.push(app()));
    assert_eq!(server.get(&format!("/api/v1/runs?{query}")).await.status, 200);
    let meant: Vec<_> = expected.iter().map(|slug| FunctionId::derive("shop", slug)).collect();
    assert_eq!(
        server.world.with(|world| world.run_filters[0].functions.clone()),
        Some(meant.clone())
    );
    let by_id = format!("/api/v1/runs?function={}", meant[0]);
    assert_eq!(server.get(&by_id).await.status, 200);
    assert_eq!(
        server.world.with(|world| world.run_filters[1].functions.clone()),
        Some(vec![meant[0]])
    );
}

#[actix_web::test]
async fn operators_see_the_tree() {
    let server = Server::start().await;
    assert_eq!(server.get("/api/v1/supervisor").await.json(), json!({"children": []}));
    assert_eq!(server.get("/api/v1/apps").await.json(), json!({"apps": []}));
}

#[actix_web::test]
async fn nodes_are_shown_with_who_is_silent_and_who_answers() {
    let server = Server::start().await;
    let seen = |n, name, ago| NodeView {
        node: node(n, name),
        seen_at: NOW.before(Duration::from_millis(ago)),
    };
    server.world.with(|world| {
        world.nodes = vec![seen(1, "here", 10_000), seen(2, "there", 10_001)];
        world.jobs_in_flight = 1;
        world.queue_stats.ready = 2;
    });
    let body = server.get("/api/v1/nodes").await.json();
    let told = |position: usize, key: &str| body["nodes"][position][key].clone();
    assert_eq!(
        (told(0, "name"), told(0, "self"), told(0, "silent")),
        (json!("here"), json!(true), json!(false))
    );
    assert_eq!(
        (told(1, "name"), told(1, "self"), told(1, "silent")),
        (json!("there"), json!(false), json!(true))
    );
    assert_eq!(
        (told(0, "state"), told(0, "version")),
        (json!("serving"), json!("1.2.3"))
    );
    assert_eq!(told(0, "started_at"), NOW.to_rfc3339());
    assert_eq!(body["saturation"], 0.25);
    assert_eq!(body["backlog"], json!({"ready": 2, "delayed": 0, "age_seconds": 0.0}));
}
