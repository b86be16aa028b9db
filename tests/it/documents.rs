//! One client that reads every document: those that the suites of the SDKs send, in their words, what a dashboard asks for, and each
//! field that the schema has.
//!
//! What the answers mean in each situation is tested in `graphql`; here nothing may be refused, and nothing be missing.

use std::collections::{BTreeMap, BTreeSet};

use rstest::{fixture, rstest};
use serde_json::{Value, json};

use crate::support::graphql::children;
use crate::support::sdk::Sdk::Python;
use crate::support::server::{Server, text};
use crate::support::stage::Stage;
use crate::support::{DEADLINE, wait_for};

/// What the Go suite selects of a span.
const SPAN: &str =
    "name runID status attempts isRoot parentSpanID spanID queuedAt startedAt endedAt duration outputID stepOp
    stepInfo { __typename
        ... on InvokeStepInfo { triggeringEventID functionID timeout returnEventID runID timedOut }
        ... on SleepStepInfo { sleepUntil }
        ... on WaitForEventStepInfo { eventName expression timeout foundEventID timedOut } }";

/// A server with runs of many kinds.
struct Scene {
    stage: Stage,
    /// A run of one step that has completed, and the event that started it.
    run: String,
    event: String,
    /// A run that has failed, after two attempts at its step.
    failed: String,
    /// A run that waits.
    waiting: String,
    /// A run that has invoked another.
    invoking: String,
}

#[fixture]
fn scene() -> Scene {
    let stage = Stage::of_its_own(Python);
    let event = stage
        .server
        .send(&json!({"name": "test/one-step", "id": "own-id", "data": {"n": 1}}));
    let run = stage.server.wait_for_start(&event);
    stage.server.wait_for_status(&run, "completed");
    let failed = text(&stage.fail("test/step-fails-uncaught", &json!({}))["id"]);
    let invoking = text(&stage.complete("test/invoke", &json!({"n": 4}))["id"]);
    let waiting = stage.begin("test/wait-event", &json!({}));
    stage.server.wait_until_pending(&waiting, "event");
    Scene {
        stage,
        run,
        event,
        failed,
        waiting,
        invoking,
    }
}

impl Scene {
    fn server(&self) -> &Server {
        &self.stage.server
    }

    #[track_caller]
    fn ask(&self, document: &str, variables: &Value) -> Value {
        self.server().graphql(document, variables)
    }
}

/// JSON within text.
#[track_caller]
fn parsed(value: &Value) -> Value {
    serde_json::from_str(value.as_str().expect("text")).expect("JSON")
}

#[rstest]
fn of_the_go_suite(scene: Scene) {
    let runs = "query GetRuns($startTime: Time!, $endTime: Time, $status: [FunctionRunStatus!], $timeField: RunsV2OrderByField!, $query: String,
            $ids: [UUID!], $first: Int = 40, $after: String, $order: [RunsV2OrderBy!]!) {
        runs(first: $first, after: $after, filter: { from: $startTime, until: $endTime, status: $status, timeField: $timeField, query: $query, functionIDs: $ids },
            orderBy: $order, preview: true) {
            edges { cursor node { id status traceID startedAt queuedAt endedAt } }
            pageInfo { startCursor endCursor hasNextPage } totalCount(preview: true) } }";
    let order = json!([{"field": "QUEUED_AT", "direction": "DESC"}]);
    let variables =
        json!({"startTime": "2020-01-01T00:00:00Z", "timeField": "QUEUED_AT", "status": ["FAILED"], "order": order});
    let page = &scene.ask(runs, &variables)["runs"];
    let node = &page["edges"][0]["node"];
    assert_eq!(
        (&node["id"], &node["status"], &page["totalCount"]),
        (&json!(scene.failed), &json!("FAILED"), &json!(1))
    );
    assert_eq!(page["edges"][0]["cursor"], page["pageInfo"]["startCursor"]);

    let run = "query ($id: ID!) { functionRun(query: { functionRunId: $id }) { output status } }";
    let data = scene.ask(run, &json!({"id": scene.run}));
    assert_eq!(data["functionRun"]["status"], "COMPLETED");
    parsed(&data["functionRun"]["output"]);
    let status = "query GetRun($runID: String!) { run(runID: $runID) { status } }";
    assert_eq!(
        scene.ask(status, &json!({"runID": scene.waiting}))["run"]["status"],
        "RUNNING"
    );

    let trace = format!(
        "query GetTraceRun($runID: String!, $preview: Boolean) {{ run(runID: $runID) {{ status traceID isBatch batchCreatedAt cronSchedule endedAt
            trace(preview: $preview) {{ {SPAN} childrenSpans {{ {SPAN} childrenSpans {{ {SPAN} }} }} }} }} }}"
    );
    for variables in [
        json!({"runID": scene.failed}),
        json!({"runID": scene.failed, "preview": false}),
    ] {
        let run = &scene.ask(&trace, &variables)["run"];
        let root = &run["trace"];
        assert_eq!((&run["status"], &root["status"]), (&json!("FAILED"), &json!("FAILED")));
        let step = &children(root)[0];
        let spans = std::iter::once(step).chain(children(step));
        assert!(
            spans.clone().all(|span| span["parentSpanID"] == root["spanID"]),
            "{root:#}"
        );
        assert_eq!((&step["name"], spans.count()), (&json!("bad"), 3));
        let output = "query ($outputID: String!) { runTraceSpanOutputByID(outputID: $outputID) { data error { message name stack } } }";
        let output = &scene.ask(output, &json!({"outputID": children(step)[1]["outputID"]}))["runTraceSpanOutputByID"];
        assert_eq!(output["data"], Value::Null);
        assert_eq!(output["error"]["message"], "step-fails-uncaught/bad fails on purpose");
    }

    let trigger = "query ($runID: String!) { runTrigger(runID: $runID) { eventName IDs timestamp payloads isBatch batchID cron } }";
    let trigger = &scene.ask(trigger, &json!({"runID": scene.run}))["runTrigger"];
    assert_eq!(
        (&trigger["eventName"], &trigger["IDs"]),
        (&json!("test/one-step"), &json!([scene.event]))
    );
    let event = "query ($eventID: ID!, $ulid: ULID!) { event(query: { eventId: $eventID }) { functionRuns { id } }
        eventV2(id: $ulid) { id idempotencyKey name occurredAt raw receivedAt runs { id function { name } status } version } }";
    let data = scene.ask(event, &json!({"eventID": scene.event, "ulid": scene.event}));
    assert_eq!(data["event"]["functionRuns"], json!([{"id": scene.run}]));
    assert_eq!(data["eventV2"]["idempotencyKey"], "own-id");
    let keys: Vec<_> = parsed(&data["eventV2"]["raw"])
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect();
    assert_eq!(keys, ["data", "id", "name", "ts", "v"]);
    let events = "query ($from: Time!, $until: Time, $query: String, $names: [String!], $internal: Boolean! = false, $after: String) {
        eventsV2(first: 40, after: $after, filter: { from: $from, until: $until, query: $query, eventNames: $names, includeInternalEvents: $internal }) {
            edges { node { name id occurredAt receivedAt raw runs { status id startedAt endedAt function { name slug } } } }
            totalCount pageInfo { hasNextPage endCursor hasPreviousPage startCursor } } }";
    let page = &scene.ask(
        events,
        &json!({"from": "2020-01-01T00:00:00Z", "names": ["test/one-step"]}),
    )["eventsV2"];
    assert_eq!(page["totalCount"], 1);
    assert_eq!(page["edges"][0]["node"]["runs"][0]["id"], json!(scene.run));
    let functions = &scene.ask("{ functions { id name app { id externalID name } } }", &json!({}))["functions"];
    assert!(
        functions
            .as_array()
            .expect("a list")
            .iter()
            .all(|function| function["app"]["name"] == scene.stage.app.id())
    );
}

#[rstest]
fn of_the_python_suite(scene: Scene) {
    let of_event = "query ($id: ID!) { event(query: { eventId: $id }) { functionRuns { id } } }";
    let data = scene.ask(of_event, &json!({"id": scene.event}));
    assert_eq!(data["event"]["functionRuns"], json!([{"id": scene.run}]));
    let unknown = json!({"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"});
    scene
        .server()
        .try_graphql(of_event, &unknown)
        .expect_err("no null without an error");

    let run = "query ($id: String!) { run(runID: $id) { output status } runTrigger(runID: $id) { payloads } }";
    let data = scene.ask(run, &json!({"id": scene.run}));
    assert_eq!(data["run"]["status"], "COMPLETED");
    assert_eq!(parsed(&data["runTrigger"]["payloads"][0])["data"], json!({"n": 1}));
    let data = scene.ask(run, &json!({"id": scene.failed}));
    let error = parsed(&data["run"]["output"]);
    let keys: Vec<_> = error.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(keys, ["code", "message", "name", "stack"], "as the SDK has sent it");

    let trace = "query ($id: String!) { run(runID: $id) { trace { childrenSpans { name outputID } } } }";
    let data = scene.ask(trace, &json!({"id": scene.run}));
    let spans = children(&data["run"]["trace"]);
    let output = "query ($id: String!) { runTraceSpanOutputByID(outputID: $id) { data error { message name stack } } }";
    for span in spans {
        let output = scene.ask(output, &json!({"id": span["outputID"]}));
        parsed(&output["runTraceSpanOutputByID"]["data"]);
    }
}

#[rstest]
fn of_the_typescript_suite(scene: Scene) {
    let end = "query ($id: String!) { run(runID: $id) { status trace(preview: true) { status outputID } } }";
    let data = scene.ask(end, &json!({"id": scene.run}));
    let output =
        "query ($id: String!) { runTraceSpanOutputByID(outputID: $id) { data error { message name stack cause } } }";
    let output = scene.ask(output, &json!({"id": data["run"]["trace"]["outputID"]}));
    parsed(&output["runTraceSpanOutputByID"]["data"]);

    let shape = "name stepType attempts outputID status";
    let shape = format!(
        "query ($id: String!) {{ run(runID: $id) {{ trace(preview: true) {{ {shape} childrenSpans {{ {shape} childrenSpans {{ {shape} }} }} }} }} }}"
    );
    let told = |run: &str, wanted: &Value| {
        let data = scene.ask(&shape, &json!({"id": run}));
        let is_it = |span: &Value| {
            wanted
                .as_object()
                .expect("an object")
                .iter()
                .all(|(key, value)| span[key] == *value)
        };
        assert!(
            children(&data["run"]["trace"]).iter().any(is_it),
            "{wanted} in {data:#}"
        );
    };
    told(
        &scene.failed,
        &json!({"attempts": 1, "stepType": "RUN", "status": "FAILED", "name": "bad"}),
    );
    told(&scene.failed, &json!({"stepType": "FINALIZATION", "status": "FAILED"}));
    told(
        &scene.invoking,
        &json!({"stepType": "INVOKE", "status": "COMPLETED", "name": "call"}),
    );
    told(
        &scene.waiting,
        &json!({"stepType": "WAIT_FOR_EVENT", "status": "WAITING", "outputID": null}),
    );

    let noted = "name stepID spanID metadata { scope kind values updatedAt }";
    let noted = format!(
        "query ($id: String!) {{ run(runID: $id) {{ trace(preview: true) {{ {noted} childrenSpans {{ {noted} childrenSpans {{ {noted} }} }} }} }} }}"
    );
    assert_eq!(
        scene.ask(&noted, &json!({"id": scene.run}))["run"]["trace"]["metadata"],
        json!([])
    );
    let lists = "{ stream(query: { limit: 999, includeInternalEvents: false }) { id trigger runs { id function { name } } } events(query: {}) { id name payload } }";
    let data = scene.ask(lists, &json!({}));
    let stream = data["stream"].as_array().expect("a list");
    let item = stream
        .iter()
        .find(|item| item["id"] == json!(scene.event))
        .expect("is there");
    assert_eq!(
        (&item["trigger"], &item["runs"][0]["id"]),
        (&json!("test/one-step"), &json!(scene.run))
    );
    let events = data["events"].as_array().expect("a list");
    let event = events
        .iter()
        .find(|event| event["name"] == "test/invoke")
        .expect("is there");
    assert_eq!(parsed(&event["payload"]), json!({"n": 4}), "the data alone");
    assert!(
        !events.iter().any(|event| event["name"] == "test/one-step"),
        "its id is the sender's"
    );
}

/// What a dashboard does, by name: all in one document, of which one operation is meant.
const DASHBOARD: &str = "
    query GetEvent($id: ID!) { event(query: { eventId: $id }) { id name createdAt status pendingRuns raw functionRuns { id status startedAt finishedAt function { id name } } } }
    query GetEventV2($id: ULID!) { eventV2(id: $id) { name id receivedAt idempotencyKey occurredAt version source { name } } }
    query GetEventV2Payload($id: ULID!) { eventV2(id: $id) { raw } }
    query GetEventV2Runs($id: ULID!) { eventV2(id: $id) { name runs { status id startedAt endedAt function { name slug } trace(preview: true) { skipReason skipExistingRunID } } } }
    query GetEventsV2 { eventsV2(first: 50, filter: { from: \"2020-01-01T00:00:00Z\" }) { edges { node { name id receivedAt runs { status id function { name slug } } } } totalCount pageInfo { hasNextPage endCursor } } }
    query GetFunctions { functions { id slug name url triggers { type value condition } app { name } } }
    query GetFunction($slug: String!) { functionBySlug(query: { functionSlug: $slug }) { name id slug concurrency config url appID failureHandler { id slug }
        configuration { cancellations { event timeout condition } retries { value isDefault } priority eventsBatch { maxSize timeout key }
            concurrency { scope limit { value isPlanLimit } key } rateLimit { limit period key } debounce { period key } throttle { burst key limit period } singleton { mode key } } } }
    query GetApps { apps { id name appVersion sdkLanguage sdkVersion framework url error checksum method connected functionCount autodiscovered externalID sdkFeatureReadiness { extendedTraces { ready reason } aiMetadataExtraction { ready } } functions { name slug } } }
    query GetApp($id: UUID!) { app(id: $id) { id name functions { id triggers { type value } } } }
    query GetRuns($first: Int! = 40) { runs(first: $first, preview: true, filter: { from: \"2020-01-01T00:00:00Z\" }, orderBy: [{ field: QUEUED_AT, direction: DESC }]) {
        edges { cursor node { id app { externalID name } cronSchedule eventName function { name slug } isBatch isDeferred deferredFrom { runID function { name } } queuedAt startedAt endedAt status hasAI } } pageInfo { hasNextPage endCursor } } }
    query CountRuns { runs(preview: true, filter: { from: \"2020-01-01T00:00:00Z\" }, orderBy: []) { totalCount(preview: true) } }
    query GetRun($id: String!) { run(runID: $id) { id hasAI function { app { name } id name slug } trace(preview: true) { ...S childrenSpans { ...S childrenSpans { ...S childrenSpans { ...S childrenSpans { ...S } } } } } } }
    query GetRunLinkage($id: String!) { run(runID: $id) { defers { hashedDeferID userlandDeferID fnSlug status runID run { status } function { name } } siblingDefers { fnSlug } deferredFrom { runID run { id } } } }
    query GetRunTrace($id: String!) { runTrace(runID: $id) { ...S childrenSpans { ...S } } }
    query GetTrigger($id: String!) { runTrigger(runID: $id) { IDs payloads timestamp eventName isBatch batchID cron } }
    query GetWorkerConnections { workerConnections(orderBy: [{ field: CONNECTED_AT, direction: DESC }], filter: { status: [READY] }) { totalCount pageInfo { hasNextPage }
        edges { cursor node { id gatewayId instanceId workerIp appVersion app { id } connectedAt lastHeartbeatAt disconnectedAt disconnectReason status groupHash sdkLang sdkVersion sdkPlatform syncId functionCount cpuCores memBytes os } } } }
    mutation InvokeFunction($slug: String!, $data: Map, $user: Map) { invokeFunction(functionSlug: $slug, data: $data, user: $user) }
    mutation CancelRun($run: ULID!) { cancelRun(runID: $run) { id } }
    mutation Rerun($run: ULID!) { rerun(runID: $run) }
    mutation RerunFromStep($run: ULID!, $from: RerunFromStepInput!) { rerun(runID: $run, fromStep: $from) }
    mutation UpdateApp($input: UpdateAppInput!) { updateApp(input: $input) { url id } }
    mutation CreateApp($input: CreateAppInput!) { createApp(input: $input) { url } }
    mutation DeleteApp($id: String!) { deleteApp(id: $id) }
    fragment S on RunTraceSpan { appID functionID runID traceID spanID name status attempts duration outputID queuedAt scheduledAt startedAt endedAt isRoot isUserland groupID stepID stepOp stepType
        debugRunID debugSessionID debugPaused skipReason skipExistingRunID userlandSpan { spanName spanKind serviceName scopeName scopeVersion spanAttrs resourceAttrs }
        metadata { scope kind updatedAt values } response { statusCode headers }
        stepInfo { __typename ... on InvokeStepInfo { triggeringEventID functionID timeout returnEventID runID timedOut } ... on SleepStepInfo { sleepUntil }
            ... on WaitForEventStepInfo { eventName expression timeout foundEventID timedOut } ... on RunStepInfo { type } ... on WaitForSignalStepInfo { signal timeout timedOut } } }";

#[rstest]
fn of_a_dashboard(scene: Scene) {
    let server = scene.server();
    let operate = |operation: &str, variables: &Value| -> Value {
        let body = json!({"query": DASHBOARD, "operationName": operation, "variables": variables});
        let answer = server.post("/v0/gql", &body).expect(200).json();
        assert_eq!(answer.get("errors"), None, "{operation}: {answer:#}");
        answer["data"].clone()
    };
    let event = json!({"id": scene.event});
    assert_eq!(operate("GetEvent", &event)["event"]["status"], "COMPLETED");
    assert_eq!(operate("GetEventV2", &event)["eventV2"]["name"], "test/one-step");
    parsed(&operate("GetEventV2Payload", &event)["eventV2"]["raw"]);
    assert_eq!(
        operate("GetEventV2Runs", &event)["eventV2"]["runs"][0]["id"],
        json!(scene.run)
    );
    assert_eq!(operate("GetEventsV2", &json!({}))["eventsV2"]["totalCount"], 4);
    let functions = operate("GetFunctions", &json!({}))["functions"].clone();
    let slug = scene.stage.app.slug("step-fails-uncaught");
    assert!(
        functions
            .as_array()
            .expect("a list")
            .iter()
            .any(|one| one["slug"] == slug.as_str())
    );
    let function = operate("GetFunction", &json!({"slug": slug}))["functionBySlug"].clone();
    assert_eq!(function["failureHandler"]["slug"], format!("{slug}-failure"));
    let app = operate("GetApps", &json!({}))["apps"][0].clone();
    assert_eq!((&app["method"], &app["connected"]), (&json!("SERVE"), &json!(true)));
    let app = json!({"id": app["id"], "url": app["url"]});
    assert_eq!(operate("GetApp", &app)["app"]["name"], scene.stage.app.id());
    let runs = operate("GetRuns", &json!({}))["runs"].clone();
    let count = runs["edges"].as_array().map(Vec::len);
    assert_eq!(
        operate("CountRuns", &json!({}))["runs"]["totalCount"].as_u64(),
        count.map(|count| count as u64)
    );
    for run in [&scene.run, &scene.failed, &scene.waiting, &scene.invoking] {
        let run = json!({"id": run});
        assert_eq!(operate("GetRun", &run)["run"]["trace"]["isRoot"], true);
        assert_eq!(operate("GetRunTrace", &run)["runTrace"]["name"], "Run");
        assert_eq!(operate("GetRunLinkage", &run)["run"]["defers"], json!([]));
        assert!(!operate("GetTrigger", &run)["runTrigger"]["payloads"][0].is_null());
    }
    assert_eq!(
        operate("GetWorkerConnections", &json!({}))["workerConnections"]["totalCount"],
        0
    );

    let slug = scene.stage.app.slug("hello");
    assert_eq!(
        operate("InvokeFunction", &json!({"slug": slug, "data": {}}))["invokeFunction"],
        true
    );
    let again = text(&operate("Rerun", &json!({"run": scene.run}))["rerun"]);
    server.wait_for_status(&again, "completed");
    let from = json!({"run": scene.invoking, "from": {"stepID": "after"}});
    server.wait_for_status(&text(&operate("RerunFromStep", &from)["rerun"]), "completed");
    operate("CancelRun", &json!({"run": scene.waiting}));
    let status =
        || (operate("GetRun", &json!({"id": scene.waiting}))["run"]["trace"]["status"] == "CANCELLED").then_some(());
    wait_for("the end", DEADLINE, status);
    operate("UpdateApp", &json!({"input": app}));
    operate("DeleteApp", &app);
    operate("CreateApp", &json!({"input": {"url": app["url"]}}));
}

/// The schema, as introspection tells it.
struct Schema(BTreeMap<String, Value>);

impl Schema {
    fn of(server: &Server) -> Self {
        let kind = "kind name ofType { kind name ofType { kind name ofType { kind name } } }";
        let document = format!(
            "{{ __schema {{ types {{ kind name possibleTypes {{ name }} fields(includeDeprecated: true) {{ name args {{ name type {{ kind }} defaultValue }} type {{ {kind} }} }} }} }} }}"
        );
        let data = server.graphql(&document, &json!({}));
        let types = data["__schema"]["types"].as_array().expect("types");
        Self(types.iter().map(|one| (text(&one["name"]), one.clone())).collect())
    }

    /// Everything that can be selected of a type, this deep. Notes what it has selected.
    fn selection(&self, name: &str, depth: usize, selected: &mut BTreeSet<String>) -> String {
        let kind = &self.0[name];
        let list = |key: &str| kind[key].as_array().cloned().unwrap_or_default();
        if kind["kind"] == "UNION" {
            let members = list("possibleTypes");
            let member = |one: &Value| {
                let name = text(&one["name"]);
                let own = self.selection(&name, depth, selected);
                // Members may give one name to fields of several types.
                let aliased: Vec<_> = own
                    .split_whitespace()
                    .map(|field| format!("{name}_{field}: {field}"))
                    .collect();
                format!("... on {name} {{ {} }}", aliased.join(" "))
            };
            return members.iter().map(member).collect::<Vec<_>>().join(" ");
        }
        let mut all = Vec::new();
        for field in list("fields") {
            let asks = |argument: &Value| argument["type"]["kind"] == "NON_NULL" && argument["defaultValue"].is_null();
            if field["args"].as_array().expect("a list").iter().any(asks) {
                continue;
            }
            let mut of = &field["type"];
            while !of["ofType"].is_null() {
                of = &of["ofType"];
            }
            let is_leaf = matches!(of["kind"].as_str(), Some("SCALAR" | "ENUM"));
            let below = match depth.checked_sub(1) {
                _ if is_leaf => String::new(),
                Some(depth) => self.selection(&text(&of["name"]), depth, selected),
                None => continue,
            };
            if below.is_empty() && !is_leaf {
                continue;
            }
            let own = text(&field["name"]);
            selected.insert(format!("{name}.{own}"));
            all.push(if is_leaf { own } else { format!("{own} {{ {below} }}") });
        }
        all.join(" ")
    }
}

#[rstest]
fn each_field_of_the_schema(scene: Scene) {
    let schema = Schema::of(scene.server());
    let slug = scene.stage.app.slug("echo");
    let app = scene.ask("{ apps { id } }", &json!({}))["apps"][0]["id"].clone();
    let (run, event) = (&scene.invoking, &scene.event);
    let output = scene.ask(
        "query ($id: String!) { run(runID: $id) { trace { outputID } } }",
        &json!({"id": scene.failed}),
    );
    let output = text(&output["run"]["trace"]["outputID"]);
    let from = "filter: { from: \"2020-01-01T00:00:00Z\" }";
    let questions = [
        ("App", "apps".to_owned()),
        ("App", format!("app(id: {app})")),
        ("Event", format!("event(query: {{ eventId: \"{event}\" }})")),
        ("Event", "events(query: {})".to_owned()),
        ("EventV2", format!("eventV2(id: \"{event}\")")),
        ("EventsConnection", format!("eventsV2(first: 2, {from})")),
        ("StreamItem", "stream(query: { limit: 2 })".to_owned()),
        ("Function", "functions".to_owned()),
        (
            "Function",
            format!("functionBySlug(query: {{ functionSlug: \"{slug}\" }})"),
        ),
        (
            "FunctionRun",
            format!("functionRun(query: {{ functionRunId: \"{run}\" }})"),
        ),
        ("FunctionRunV2", format!("run(runID: \"{run}\")")),
        ("RunsV2Connection", format!("runs(first: 2, orderBy: [], {from})")),
        ("RunTraceSpan", format!("runTrace(runID: \"{run}\")")),
        ("RunTraceTrigger", format!("runTrigger(runID: \"{run}\")")),
        (
            "RunTraceSpanOutput",
            format!("runTraceSpanOutputByID(outputID: \"{output}\")"),
        ),
        (
            "ConnectV1WorkerConnectionsConnection",
            "workerConnections(orderBy: [], filter: {})".to_owned(),
        ),
    ];
    let mut selected = BTreeSet::new();
    for (kind, question) in &questions {
        // A function's limits lie deepest.
        let depth = if question.starts_with("functionBySlug") { 3 } else { 2 };
        let fields = schema.selection(kind, depth, &mut selected);
        let data = scene.ask(&format!("{{ {question} {{ {fields} }} }}"), &json!({}));
        let answer = data
            .as_object()
            .and_then(|data| data.values().next())
            .expect("an answer");
        assert!(!answer.is_null(), "{question}");
    }
    let roots: Vec<_> = schema.0["Query"]["fields"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|field| text(&field["name"]))
        .collect();
    for root in &roots {
        let is_it = |question: &str| question.split('(').next() == Some(root);
        assert!(
            questions.iter().any(|(_, question)| is_it(question)),
            "nobody asks for `{root}`"
        );
    }
    let reached: BTreeSet<_> = selected.iter().filter_map(|field| field.split('.').next()).collect();
    for kind in schema.0.values().filter(|kind| kind["kind"] == "OBJECT") {
        let name = text(&kind["name"]);
        let is_data = !name.starts_with("__") && !["Query", "Mutation"].contains(&name.as_str());
        assert!(
            !is_data || reached.contains(name.as_str()),
            "nothing of {name} was asked for"
        );
    }
}
