//! The endpoint over a fake orchestrator: what is asked of the store, what is refused, and the schema itself.

use actix_web::test::TestRequest;
use callboard_actors::domain::*;
use callboard_actors::orchestrator::Cancelled;
use callboard_actors::ports::{EventView, RunTime};
use callboard_actors::rerun::{FromStep, RerunError};
use rstest::rstest;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::SCHEMA;
use crate::http::Options;
use crate::http::tests::fake::{NOW, Server, options};
use crate::http::tests::sdk::{event, knowing, lease, run_id, view};
use crate::sdk::ServerKind;

/// A server that knows an event, the run that it started, and the app.
async fn server() -> Server {
    let mut run = view(RunStatus::Completed);
    run.summary.started_at = Some(NOW);
    run.summary.ended_at = Some(NOW);
    run.summary.output = Json::parse(r#"{"ok":true}"#).ok();
    knowing(run).await
}

async fn ask(server: &Server, query: &str, variables: Value) -> Value {
    let body = json!({"query": query, "variables": variables}).to_string();
    let answer = server.post("/v0/gql", body).await;
    assert_eq!(answer.status, 200, "whatever goes wrong");
    answer.json()
}

/// The data of an answer without errors.
async fn data(server: &Server, query: &str, variables: Value) -> Value {
    let answer = ask(server, query, variables).await;
    assert_eq!(answer.get("errors"), None, "{answer:#}");
    answer["data"].clone()
}

#[test]
fn the_schema_is_the_one_that_is_written_down() {
    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema.graphql");
    let schema = SCHEMA.sdl();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(PATH, &schema).expect("is written");
    }
    let written = std::fs::read_to_string(PATH).expect("there is one");
    assert!(
        written == schema,
        "run this test with BLESS=1, and look at what changes in docs/schema.graphql"
    );
}

#[actix_web::test]
async fn an_event_and_what_became_of_it() {
    let server = server().await;
    let query = r#"query ($id: ID!, $ulid: ULID!) {
        event(query: {eventId: $id}) { id name payload status totalRuns pendingRuns functionRuns { id status output function { slug } } }
        eventV2(id: $ulid) { envID idempotencyKey occurredAt receivedAt raw version source { id } runs { id status function { name } } }
    }"#;
    let id = event().id.to_string();
    let data = data(&server, query, json!({"id": id, "ulid": id})).await;
    assert_eq!(data["event"]["payload"], r#"{"id":8}"#);
    assert_eq!(
        (&data["event"]["status"], &data["event"]["totalRuns"]),
        (&json!("COMPLETED"), &json!(1))
    );
    let run = &data["event"]["functionRuns"][0];
    assert_eq!(
        (&run["id"], &run["output"]),
        (&json!(run_id()), &json!(r#"{"ok":true}"#))
    );
    assert_eq!(run["function"]["slug"], "shop-charge");
    assert_eq!(data["eventV2"]["idempotencyKey"], "order-8");
    let raw: Value = serde_json::from_str(data["eventV2"]["raw"].as_str().expect("text")).expect("JSON");
    assert_eq!((&raw["data"], &raw["v"]), (&json!({"id": 8}), &Value::Null));
    assert_eq!(data["eventV2"]["runs"][0]["function"]["name"], "Charge");
    assert_eq!(server.world.with(|world| world.batch_loads), 1, "for both");
}

#[rstest]
#[case("event", r#"{ event(query: {eventId: "01ARZ3NDEKTSV4RRFFQ69G5FAV"}) { id } }"#)]
#[case("run", r#"{ run(runID: "nonsense") { id } }"#)]
#[case("run", r#"{ run(runID: "01ARZ3NDEKTSV4RRFFQ69G5FAV") { id } }"#)]
#[case(
    "functionRun",
    r#"{ functionRun(query: {functionRunId: "01ARZ3NDEKTSV4RRFFQ69G5FAV"}) { id } }"#
)]
#[case("app", r#"{ app(id: "00000000-0000-0000-0000-000000000000") { id } }"#)]
#[actix_web::test]
async fn what_is_not_there_is_an_error_and_null(#[case] field: &str, #[case] query: &str) {
    let answer = ask(&server().await, query, json!({})).await;
    assert_eq!(answer["data"][field], Value::Null);
    assert_eq!(answer["errors"][0]["path"], json!([field]), "{answer}");
    assert!(
        answer["errors"][0]["extensions"]["code"]
            .as_str()
            .expect("a code")
            .starts_with("CB-")
    );
}

#[actix_web::test]
async fn a_field_that_may_not_be_null_takes_the_whole_data_along() {
    let query = r#"{ run(runID: "01ARZ3NDEKTSV4RRFFQ69G5FAV") { status } runTrigger(runID: "01ARZ3NDEKTSV4RRFFQ69G5FAV") { payloads } }"#;
    let answer = ask(&server().await, query, json!({})).await;
    assert_eq!(answer["data"], Value::Null);
    assert!(!answer["errors"].as_array().expect("errors").is_empty());
}

#[actix_web::test]
async fn a_run_with_its_trigger_and_trace() {
    let server = server().await;
    let query = r#"query ($id: String!) {
        run(runID: $id) { status traceID output eventName isBatch cronSchedule triggerIDs endedAt appID app { externalID }
            trace(preview: true) { name status isRoot duration outputID childrenSpans { name parentSpanID parentSpan { isRoot } } } }
        runTrigger(runID: $id) { eventName IDs payloads timestamp isBatch batchID cron }
    }"#;
    let data = data(&server, query, json!({"id": run_id()})).await;
    let run = &data["run"];
    assert_eq!(
        (&run["status"], &run["output"]),
        (&json!("COMPLETED"), &json!(r#"{"ok":true}"#))
    );
    assert_eq!(
        (&run["trace"]["name"], &run["trace"]["duration"]),
        (&json!("Run"), &json!(0))
    );
    assert_eq!(run["trace"]["childrenSpans"][0]["parentSpan"]["isRoot"], true);
    assert_eq!(data["runTrigger"]["IDs"], json!([event().id]));
    let payload: Value = serde_json::from_str(data["runTrigger"]["payloads"][0].as_str().expect("text")).expect("JSON");
    assert_eq!(payload["data"], json!({"id": 8}));

    let output = format!(
        r#"{{ runTraceSpanOutputByID(outputID: {}) {{ input data error {{ message }} }} }}"#,
        run["trace"]["outputID"]
    );
    let output = self::data(&server, &output, json!({})).await;
    assert_eq!(
        output["runTraceSpanOutputByID"],
        json!({"input": null, "data": r#"{"ok":true}"#, "error": null})
    );
    let answer = ask(
        &server,
        r#"{ runTraceSpanOutputByID(outputID: "bm8=") { data } }"#,
        json!({}),
    )
    .await;
    assert_eq!(answer["data"], Value::Null);
}

#[actix_web::test]
async fn a_first_call_that_is_under_way_makes_a_run_running() {
    let server = server().await;
    server.world.with(|world| world.runs = vec![view(RunStatus::Queued)]);
    let query = format!(r#"{{ run(runID: "{}") {{ status output startedAt }} }}"#, run_id());
    let expected = |status| json!({"run": {"status": status, "output": null, "startedAt": null}});
    assert_eq!(data(&server, &query, json!({})).await, expected("QUEUED"));
    server.world.with(|world| world.leases = vec![lease(JobKey::Start)]);
    assert_eq!(data(&server, &query, json!({})).await, expected("RUNNING"));
}

const RUNS: &str = r"query ($filter: RunsFilterV2!, $order: [RunsV2OrderBy!]!, $first: Int = 40, $after: String) {
    runs(first: $first, after: $after, filter: $filter, orderBy: $order, preview: true) {
        edges { cursor node { id status queuedAt } } pageInfo { startCursor endCursor hasNextPage hasPreviousPage } totalCount(preview: true)
    } }";

#[actix_web::test]
async fn a_list_of_runs_asks_the_store_for_what_the_filter_says() {
    let server = server().await;
    let order = json!([{"field": "STARTED_AT", "direction": "ASC"}]);
    let function = FunctionId::derive("shop", "shop-charge");
    let filter = json!({
        "from": "2025-01-01T00:00:00Z", "until": "2025-07-01T00:00:00Z", "timeField": "ENDED_AT",
        "status": ["COMPLETED", "QUEUED"], "functionIDs": [function], "appIDs": [FunctionId::app_uuid("shop")],
    });
    let listed = data(&server, RUNS, json!({"filter": filter, "order": order, "first": 1000})).await;
    let runs = &listed["runs"];
    assert_eq!(
        (&runs["edges"][0]["node"]["id"], &runs["totalCount"]),
        (&json!(run_id()), &json!(1))
    );
    assert_eq!(runs["pageInfo"]["endCursor"], runs["edges"][0]["cursor"]);
    let search = server.world.with(|world| world.run_searches[0].clone());
    assert_eq!(
        (search.time, search.order, search.ascending),
        (RunTime::Ended, RunTime::Started, true)
    );
    assert_eq!(search.statuses, [RunStatus::Completed, RunStatus::Queued]);
    assert_eq!((search.functions, search.limit), (Some(vec![function]), 40));

    let after = &runs["edges"][0]["cursor"];
    let next = data(&server, RUNS, json!({"filter": filter, "order": order, "after": after})).await;
    assert_eq!(
        (&next["runs"]["edges"], &next["runs"]["pageInfo"]["hasPreviousPage"]),
        (&json!([]), &json!(true))
    );
    for (filter, found, deferred) in [
        (json!({"isDeferred": true}), None, Some(true)),
        (json!({"isDeferred": false}), None, Some(false)),
        (json!({"status": ["SKIPPED"]}), Some(vec![]), None),
        (json!({"appIDs": [FunctionId::app_uuid("other")]}), Some(vec![]), None),
    ] {
        let mut filter = filter;
        filter["from"] = json!("2025-01-01T00:00:00Z");
        data(&server, RUNS, json!({"filter": filter, "order": []})).await;
        let search = server
            .world
            .with(|world| world.run_searches.last().cloned())
            .expect("was asked");
        assert_eq!((search.functions, search.deferred), (found, deferred), "{filter}");
    }
}

#[rstest]
#[case("event.data.id == 8\noutput.ok == true", 1)]
#[case("event.data.id == 9", 0)]
#[actix_web::test]
async fn runs_are_found_by_expressions(#[case] query: &str, #[case] count: usize) {
    let filter = json!({"from": "2025-01-01T00:00:00Z", "query": query});
    let found = data(&server().await, RUNS, json!({"filter": filter, "order": []})).await;
    assert_eq!(found["runs"]["edges"].as_array().map(Vec::len), Some(count));
    assert_eq!(found["runs"]["totalCount"], json!(count));
    assert_eq!(found["runs"]["pageInfo"]["hasNextPage"], false);
}

#[actix_web::test]
async fn a_list_of_events_loads_their_runs_at_once() {
    let server = server().await;
    for n in 10..60 {
        let other = Event::glued("shop/other", EventId::new(NOW, n), n.to_string(), NOW, "{}");
        server.world.with(|world| {
            let runs = vec![view(RunStatus::Running).summary];
            let view = EventView {
                event: other,
                runs,
                skips: Vec::new(),
                gatherings: Vec::new(),
            };
            world.events.push(view);
        });
    }
    let query = r#"query ($names: [String!]) { eventsV2(first: 51, filter: {from: "2025-01-01T00:00:00Z", eventNames: $names, includeInternalEvents: true}) {
        edges { node { id name runs { id startedAt function { name slug } } } } totalCount pageInfo { hasNextPage } } }"#;
    let listed = data(&server, query, json!({"names": ["a"]})).await;
    assert_eq!(listed["eventsV2"]["edges"].as_array().map(Vec::len), Some(51));
    assert_eq!(listed["eventsV2"]["totalCount"], 51);
    assert_eq!(server.world.with(|world| world.batch_loads), 1);
    let search = server.world.with(|world| world.event_searches[0].clone());
    assert_eq!(
        (search.names, search.internal, search.limit),
        (vec!["a".to_owned()], true, 51)
    );

    let stream = "{ stream(query: {limit: 999, includeInternalEvents: false}) { id trigger type inBatch runs { id function { name } } } }";
    let listed = data(&server, stream, json!({})).await;
    assert_eq!(listed["stream"][0]["id"], json!(event().id));
    assert_eq!(server.world.with(|world| world.batch_loads), 2);
    let found = data(
        &server,
        r#"{ eventsV2(filter: {from: "2025-01-01T00:00:00Z", query: "event.data.id == 8"}) { edges { node { id } } totalCount } events(query: {}) { id } }"#,
        json!({}),
    );
    let found = found.await;
    assert_eq!(found["eventsV2"]["edges"].as_array().map(Vec::len), Some(1));
    assert_eq!(found["eventsV2"]["totalCount"], 1);
    assert_eq!(found["events"], json!([]), "senders have given them ids");
}

#[actix_web::test]
async fn functions_and_apps() {
    let query = r#"{
        functions { id name slug appID config concurrency triggers { type value condition } app { id externalID method functionCount }
            configuration { retries { value isDefault } concurrency { scope limit { value isPlanLimit } key } cancellations { event } } failureHandler { id } }
        apps(filter: {method: SERVE}) { id name sdkLanguage sdkVersion url error connected functions { slug } sdkFeatureReadiness { extendedTraces { ready reason } } }
        connect: apps(filter: {method: CONNECT}) { id }
        functionBySlug(query: {functionSlug: "shop-charge"}) { name }
        workerConnections(orderBy: [], filter: {}) { totalCount edges { cursor } pageInfo { hasNextPage } }
    }"#;
    let data = data(&server().await, query, json!({})).await;
    let function = &data["functions"][0];
    assert_eq!(
        data["functions"].as_array().map(Vec::len),
        Some(1),
        "archived ones are left out"
    );
    assert_eq!(
        function["triggers"],
        json!([{"type": "EVENT", "value": "shop/order.paid", "condition": null}])
    );
    assert_eq!(
        function["configuration"]["concurrency"],
        json!([{"scope": "ACCOUNT", "limit": {"value": -1, "isPlanLimit": true}, "key": null}])
    );
    assert_eq!(function["app"]["id"], function["appID"]);
    assert_eq!(
        (&data["apps"][0]["sdkLanguage"], &data["apps"][0]["sdkVersion"]),
        (&json!("js"), &json!("v4.0.0"))
    );
    assert_eq!(
        (&data["connect"], &data["functionBySlug"]["name"]),
        (&json!([]), &json!("Charge"))
    );
}

#[actix_web::test]
async fn mutations_do_what_they_say() {
    let server = server().await;
    let invoke = r#"mutation ($data: Map) { invokeFunction(functionSlug: "shop-charge", data: $data) }"#;
    assert_eq!(
        data(&server, invoke, json!({"data": {"n": 1}})).await["invokeFunction"],
        true
    );
    let invoked = server.world.with(|world| world.invoked.pop()).expect("was invoked");
    assert_eq!(
        (invoked.0.as_str(), &invoked.1["data"]),
        ("shop-charge", &json!({"n": 1}))
    );
    let refused = ask(
        &server,
        r#"mutation { invokeFunction(functionSlug: "missing") }"#,
        json!({}),
    )
    .await;
    assert!(
        refused["errors"][0]["message"]
            .as_str()
            .expect("text")
            .contains("missing"),
        "{refused}"
    );

    let cancel = format!(r#"mutation {{ cancelRun(runID: "{}") {{ id status }} }}"#, run_id());
    server
        .world
        .with(|world| world.cancelled = Some(Cancelled::AlreadyEnded));
    let refused = ask(&server, &cancel, json!({})).await;
    assert_eq!(refused["errors"][0]["message"], "cannot cancel an ended run");
    server
        .world
        .with(|world| world.runs[0].summary.status = RunStatus::Cancelled);
    assert_eq!(
        data(&server, &cancel, json!({})).await["cancelRun"]["status"],
        "CANCELLED"
    );

    server.world.with(|world| world.has_app = true);
    let id = FunctionId::app_uuid("shop").to_string();
    let apps = format!(
        r#"mutation {{ createApp(input: {{url: "a/x"}}) {{ id url }} updateApp(input: {{id: "{id}", url: "http://a/x"}}) {{ name }}
            deleteApp(id: "{id}") deleteAppByName(name: "shop") none: deleteAppByName(name: "none") }}"#
    );
    let done = data(&server, &apps, json!({})).await;
    assert_eq!(done["createApp"], json!({"id": id, "url": "http://a/x"}));
    assert_eq!(
        (&done["deleteApp"], &done["deleteAppByName"], &done["none"]),
        (&json!(id), &json!(true), &json!(false))
    );
    let down = ask(
        &server,
        r#"mutation { createApp(input: {url: "http://down/x"}) { id } }"#,
        json!({}),
    )
    .await;
    assert!(
        down["errors"][0]["message"]
            .as_str()
            .expect("text")
            .contains("connection refused"),
        "{down}"
    );
    let note = server.world.with(|world| world.notes.pop()).expect("is noted");
    assert!(note.1.expect("an error").contains("connection refused"));
}

#[rstest]
#[case("{ nothing { id } }", "nothing")]
#[case("{ run(", "expected")]
#[case("{ runs(orderBy: [], filter: {}) { totalCount } }", "from")]
#[case("query ($id: ULID!) { eventV2(id: $id) { id } }", "id")]
#[actix_web::test]
async fn documents_that_make_no_sense(#[case] query: &str, #[case] about: &str) {
    let answer = ask(&server().await, query, json!({})).await;
    let message = answer["errors"][0]["message"].as_str().expect("a message");
    assert!(message.contains(about), "{message}");
}

#[actix_web::test]
async fn documents_are_bounded() {
    let server = server().await;
    let deep = format!(
        "{{ run(runID: \"x\") {{ trace {}name{} }} }}",
        "{ childrenSpans ".repeat(30) + "{ ",
        " }".repeat(31)
    );
    let deep = ask(&server, &deep, json!({})).await;
    assert!(
        deep["errors"][0]["message"].as_str().expect("text").contains("deep"),
        "{deep}"
    );
    let wide = r#"{ runs(first: 399, orderBy: [], filter: {from: "2025-01-01T00:00:00Z"}) { edges { node { trace { name } } } } }"#;
    let wide = ask(&server, wide, json!({})).await;
    assert!(
        wide["errors"][0]["message"].as_str().expect("text").contains("complex"),
        "{wide}"
    );
    // What the dashboard asks for fits: a trace five levels deep, of each run on a page.
    let span = "name status attempts outputID queuedAt startedAt endedAt stepInfo { __typename }";
    let trace = (0..5).fold(String::new(), |inner, _| {
        format!("{span} childrenSpans {{ spanID {inner} }}")
    });
    let page = format!(
        "{{ runs(first: 40, orderBy: [], filter: {{from: \"2025-01-01T00:00:00Z\"}}) {{ edges {{ node {{ trace {{ {trace} }} }} }} }} }}"
    );
    data(&server, &page, json!({})).await;
}

#[actix_web::test]
async fn introspection_works() {
    let query = "{ __schema { queryType { name } mutationType { name } types { kind name fields(includeDeprecated: true) { name args { name type { ...T } } type { ...T } } } } }
        fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } }";
    let data = data(&server().await, query, json!({})).await;
    let types = data["__schema"]["types"].as_array().expect("types");
    for name in ["RunTraceSpan", "EventV2", "ULID", "StepInfo", "RunsFilterV2"] {
        assert!(types.iter().any(|one| one["name"] == name), "{name}");
    }
}

#[actix_web::test]
async fn a_link_reads_and_changes_nothing() {
    let server = server().await;
    let read = server.get("/v0/gql?query=%7Bapps%7Bname%7D%7D").await;
    assert_eq!(read.json()["data"]["apps"][0]["name"], "shop");
    let change = server
        .get("/v0/gql?query=mutation%7BinvokeFunction(functionSlug:%22shop-charge%22)%7D")
        .await;
    assert_eq!(change.status, 200);
    assert!(
        change.json()["errors"][0]["message"]
            .as_str()
            .expect("text")
            .contains("POST")
    );
    assert!(server.world.with(|world| world.invoked.is_empty()));
}

#[rstest]
#[case(ServerKind::Dev, 200)]
#[case(ServerKind::Cloud, 401)]
#[actix_web::test]
async fn production_asks_for_a_key(#[case] kind: ServerKind, #[case] status: u16) {
    let keys = || vec![SecretString::from("sixteen letters!!")];
    let server = Server::with(Options {
        kind,
        api_keys: keys(),
        ..options()
    })
    .await;
    assert_eq!(server.post("/v0/gql", r#"{"query":"{apps{id}}"}"#).await.status, status);
    let with_key = TestRequest::post()
        .uri("/v0/gql")
        .insert_header(("authorization", "Bearer sixteen letters!!"))
        .set_payload(r#"{"query":"{apps{id}}"}"#);
    assert_eq!(server.call(with_key).await.status, 200);
}

#[actix_web::test]
async fn it_can_be_switched_off() {
    let server = Server::with(Options {
        graphql: false,
        ..options()
    })
    .await;
    assert_eq!(server.post("/v0/gql", r#"{"query":"{apps{id}}"}"#).await.status, 404);
}

#[actix_web::test]
async fn a_run_is_done_again_as_a_whole_or_from_a_step() {
    let server = server().await;
    let query = "mutation ($run: ULID!, $from: RerunFromStepInput) { rerun(runID: $run, fromStep: $from) }";
    let whole = data(&server, query, json!({"run": run_id().to_string()})).await;
    assert_eq!(whole["rerun"], json!(RunId::new(NOW, 77)));
    let from = json!({"stepID": "charge card", "input": "[ {\"b\": 1, \"a\": 2} ]"});
    data(&server, query, json!({"run": run_id().to_string(), "from": from})).await;
    let reruns = server.world.with(|world| std::mem::take(&mut world.reruns));
    let first = FromStep {
        step: "charge card".to_owned(),
        input: Json::parse(r#"[{"a":2,"b":1}]"#).ok(),
    };
    assert_eq!(reruns, [(run_id(), None), (run_id(), Some(first))]);

    let broken = json!({"stepID": "charge card", "input": "[ nothing"});
    let refused = ask(&server, query, json!({"run": run_id().to_string(), "from": broken})).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "CB-1309");
    server
        .world
        .with(|world| world.rerun_error = Some(RerunError::UnknownRun(run_id())));
    let unknown = ask(&server, query, json!({"run": run_id().to_string()})).await;
    assert_eq!(unknown["errors"][0]["extensions"]["code"], "CB-1302");
}
