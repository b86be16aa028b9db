//! GraphQL as the SDKs' own tests use it: every document that they send, against real apps.

use std::collections::BTreeSet;

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::graphql::{child, children, say};
use crate::support::sdk::Sdk::{self, Python, Ts4};
use crate::support::server::{Server, text};
use crate::support::stage::Stage;
use crate::support::{DEADLINE, unique, wait_for};

/// The id of a run that is over.
fn id(run: &Value) -> String {
    text(&run["id"])
}

fn names(span: &Value) -> Vec<String> {
    children(span).iter().map(|child| text(&child["name"])).collect()
}

#[rstest]
fn steps_in_both_views(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let server = &stage.server;
    let run = id(&stage.complete("test/one-step", &json!({})));
    let legacy = server.trace(&run, false);
    let root = say(&legacy, ["status", "isRoot", "parentSpanID", "stepOp"]);
    assert_eq!(root, [json!("COMPLETED"), json!(true), Value::Null, Value::Null]);
    let step = &children(&legacy)[0];
    let said = say(step, ["status", "attempts", "stepOp", "stepType", "parentSpanID"]);
    assert_eq!(
        said,
        [
            json!("COMPLETED"),
            json!(0),
            json!("RUN"),
            json!("RUN"),
            legacy["spanID"].clone()
        ]
    );
    assert!(children(step).is_empty());
    assert!(!server.output_data(step).is_null());
    assert_eq!(children(&legacy)[1]["name"], "function success");

    let preview = server.trace(&run, true);
    assert_eq!(preview["name"], "Run");
    let end = children(&preview).last().expect("has an end");
    assert_eq!(
        say(end, ["name", "stepType", "status"]),
        ["Finalization", "FINALIZATION", "COMPLETED"].map(Value::from)
    );
    assert_eq!(preview["spanID"], legacy["spanID"]);
    // The n-th step of a name is the n-th span of it.
    let looped = server.trace(&id(&stage.complete("test/loop", &json!({}))), false);
    let spans = children(&looped).iter().filter(|span| span["stepOp"] == "RUN");
    assert_eq!(spans.count(), 3, "{looped:#}");
}

#[rstest]
fn a_run_and_its_trigger_in_one_document(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let mark = unique("gql");
    let run = stage.complete("test/echo", &json!({"mark": mark}));
    let query = "query ($id: String!) { run(runID: $id) { output status } runTrigger(runID: $id) { eventName IDs timestamp payloads isBatch batchID cron } }";
    let data = stage.server.graphql(query, &json!({"id": id(&run)}));
    assert_eq!(data["run"]["status"], "COMPLETED");
    let output: Value = serde_json::from_str(data["run"]["output"].as_str().expect("text")).expect("JSON");
    assert_eq!(output, run["output"]);
    let payload: Value = serde_json::from_str(data["runTrigger"]["payloads"][0].as_str().expect("text")).expect("JSON");
    assert_eq!(payload["data"]["mark"], json!(mark));
    assert_eq!(data["runTrigger"]["IDs"], run["event_ids"]);
    let trigger = say(&data["runTrigger"], ["eventName", "isBatch", "batchID", "cron"]);
    assert_eq!(trigger, [json!("test/echo"), json!(false), Value::Null, Value::Null]);
    let gone = stage
        .server
        .try_graphql(query, &json!({"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}));
    assert!(gone.expect_err("there is none")[0]["message"].is_string());
}

#[rstest]
fn a_step_that_is_tried_again(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = id(&stage.complete("test/step-fails", &json!({})));
    for preview in [false, true] {
        let trace = stage.server.trace(&run, preview);
        let step = child(&trace, "flaky");
        assert_eq!(say(step, ["status", "attempts"]), [json!("COMPLETED"), json!(2)]);
        assert_eq!(names(step), ["Attempt 0", "Attempt 1", "Attempt 2"]);
        let attempts: Vec<_> = children(step)
            .iter()
            .map(|attempt| say(attempt, ["status", "attempts"]))
            .collect();
        let expected = [("FAILED", 0), ("FAILED", 1), ("COMPLETED", 2)].map(|(status, n)| [json!(status), json!(n)]);
        assert_eq!(attempts, expected);
        let error = &stage.server.output(&children(step)[0])["error"];
        assert_eq!(error["message"], "step-fails/flaky fails on purpose");
        assert_eq!(stage.server.output_data(step), "made it");
        assert_eq!(stage.server.output_data(&children(step)[2]), "made it");
        let parent = if preview { step } else { &trace };
        assert_eq!(children(step)[0]["parentSpanID"], parent["spanID"]);
    }
}

#[rstest]
fn an_attempt_that_is_still_to_be_made(#[values(Ts4)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.begin("test/retry-after-step", &json!({"retry_after_ms": 60_000}));
    stage.server.wait_until_pending(&run, "retry");
    let trace = stage.server.trace(&run, false);
    let step = child(&trace, "flaky");
    assert_eq!(
        say(step, ["status", "outputID", "endedAt"]),
        [json!("RUNNING"), Value::Null, Value::Null]
    );
    assert_eq!(names(step), ["Attempt 0", "Attempt 1"]);
    assert_eq!(children(step)[1]["status"], "QUEUED");
    assert_eq!(say(&trace, ["status", "outputID"]), [json!("RUNNING"), Value::Null]);
    let cancel = "mutation ($id: ULID!) { cancelRun(runID: $id) { id status finishedAt } }";
    let cancelled = stage.server.graphql(cancel, &json!({"id": run}));
    assert_eq!(cancelled["cancelRun"]["status"], "CANCELLED");
    assert_eq!(stage.server.trace(&run, true)["status"], "CANCELLED", "at once");
    stage.server.graphql(cancel, &json!({"id": run}));
}

#[rstest]
fn failures_for_good(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let server = &stage.server;
    let run = id(&stage.fail("test/step-fails-uncaught", &json!({})));
    let message = "step-fails-uncaught/bad fails on purpose";
    let legacy = server.trace(&run, false);
    let step = child(&legacy, "bad");
    assert_eq!(say(step, ["status", "attempts"]), [json!("FAILED"), json!(2)]);
    assert_eq!(names(step), ["Attempt 0", "Attempt 1"]);
    let preview = server.trace(&run, true);
    let step = child(&preview, "bad");
    assert_eq!(
        say(step, ["status", "attempts", "stepType"]),
        [json!("FAILED"), json!(1), json!("RUN")]
    );
    assert_eq!(server.output(step)["error"]["message"], message);
    assert_eq!(child(&preview, "Finalization")["status"], "FAILED");
    let error = &server.output(&preview)["error"];
    assert!(error["message"].as_str().expect("text").contains(message), "{error}");
    assert!(error["name"].is_string() && error["stack"].is_string(), "{error}");

    let run = id(&stage.fail("test/body-fails-always", &json!({})));
    let legacy = server.trace(&run, false);
    let end = child(&legacy, "execute");
    assert_eq!(
        say(end, ["status", "attempts", "stepOp"]),
        [json!("FAILED"), json!(2), Value::Null]
    );
    assert_eq!(names(end), ["Attempt 0", "Attempt 1"]);
    assert_eq!(
        server.output(&children(end)[0])["error"]["message"],
        "the body fails on purpose"
    );
    let error = server.output(&legacy)["error"].clone();
    assert_eq!(
        say(&error, ["name", "message"]),
        ["TypeError", "the body fails on purpose"].map(Value::from)
    );
    if sdk == Ts4 {
        assert_eq!(error["cause"]["message"], "the deeper reason", "{error}");
    }
    let preview = server.trace(&run, true);
    assert_eq!(
        say(child(&preview, "Finalization"), ["status", "attempts"]),
        [json!("FAILED"), json!(1)]
    );

    let run = id(&stage.fail("test/non-retriable", &json!({})));
    let legacy = server.trace(&run, false);
    let end = child(&legacy, "function error");
    assert_eq!(say(end, ["status", "attempts"]), [json!("FAILED"), json!(0)]);
    assert!(children(end).is_empty());

    let run = id(&stage.complete("test/body-fails", &json!({})));
    let trace = server.trace(&run, false);
    assert_eq!(
        child(&trace, "after")["attempts"],
        1,
        "the discovery that failed is an attempt at it"
    );
}

#[rstest]
fn a_sleep(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.begin("test/sleep", &json!({"sleep_ms": 2_000}));
    stage.server.wait_until_pending(&run, "sleep");
    let span = |trace: &Value| {
        children(trace)
            .iter()
            .find(|span| span["stepOp"] == "SLEEP")
            .cloned()
            .expect("a sleep")
    };
    let sleeping = span(&stage.server.trace(&run, false));
    assert_eq!(
        say(&sleeping, ["status", "endedAt", "outputID"]),
        [json!("RUNNING"), Value::Null, Value::Null]
    );
    let until = text(&sleeping["stepInfo"]["sleepUntil"]);
    stage.server.wait_for_status(&run, "completed");
    for preview in [false, true] {
        let slept = span(&stage.server.trace(&run, preview));
        assert_eq!(say(&slept, ["status", "outputID"]), [json!("COMPLETED"), Value::Null]);
        assert_eq!(
            slept["stepInfo"],
            json!({"__typename": "SleepStepInfo", "sleepUntil": until})
        );
        assert!(slept["endedAt"].as_str().expect("has ended") >= until.as_str());
    }
}

#[rstest]
fn a_wait_that_an_event_ends(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let mark = unique("gql");
    let run = stage.begin("test/wait-if", &json!({"id": mark}));
    stage.server.wait_until_pending(&run, "event");
    let span = |trace: &Value| {
        let waits = children(trace).iter().find(|span| span["stepOp"] == "WAIT_FOR_EVENT");
        waits.cloned().expect("a wait")
    };
    let waiting = span(&stage.server.trace(&run, true));
    assert_eq!(
        say(&waiting, ["status", "endedAt", "outputID"]),
        [json!("WAITING"), Value::Null, Value::Null]
    );
    let info = &waiting["stepInfo"];
    assert_eq!(
        say(info, ["eventName", "foundEventID", "timedOut"]),
        [json!("test/wait-if.answer"), Value::Null, Value::Null]
    );
    let expression = text(&info["expression"]);
    assert!(expression.contains("async.data"), "{expression}");
    // An id of the sender's own is not the event's.
    let answer = json!({"name": "test/wait-if.answer", "id": unique("own"), "data": {"id": mark, "ok": true}});
    let found = stage.server.send(&answer);
    stage.server.wait_for_status(&run, "completed");
    for preview in [false, true] {
        let matched = span(&stage.server.trace(&run, preview));
        assert_eq!(say(&matched, ["status", "attempts"]), [json!("COMPLETED"), json!(0)]);
        let info = say(&matched["stepInfo"], ["foundEventID", "timedOut", "expression"]);
        assert_eq!(info, [json!(found), json!(false), json!(expression)]);
        let event = stage.server.output_data(&matched);
        assert_eq!(
            (&event["name"], &event["data"]["id"]),
            (&json!("test/wait-if.answer"), &json!(mark))
        );
    }
    let late = id(&stage.complete("test/wait-timeout", &json!({"timeout_ms": 1_000})));
    let late = span(&stage.server.trace(&late, false));
    assert_eq!(say(&late, ["status", "outputID"]), [json!("COMPLETED"), Value::Null]);
    assert_eq!(
        say(&late["stepInfo"], ["foundEventID", "timedOut"]),
        [Value::Null, json!(true)]
    );
}

#[rstest]
fn an_invoke(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let server = &stage.server;
    let span = |run: &str| {
        let trace = server.trace(run, false);
        children(&trace)
            .iter()
            .find(|span| span["stepOp"] == "INVOKE")
            .cloned()
            .expect("an invoke")
    };
    let invoked = span(&id(&stage.complete("test/invoke", &json!({"n": 4}))));
    assert_eq!(
        say(&invoked, ["status", "name"]),
        ["COMPLETED", "call"].map(Value::from)
    );
    assert_eq!(server.output_data(&invoked), json!({"doubled": 8}));
    let info = &invoked["stepInfo"];
    assert_eq!(
        say(info, ["functionID", "timedOut"]),
        [json!(stage.app.slug("invoke-target")), json!(false)]
    );
    let trigger = server.event(&text(&info["triggeringEventID"]));
    assert_eq!(trigger["event"]["name"], "inngest/function.invoked");
    assert_eq!(trigger["runs"][0]["id"], info["runID"]);
    let answer = server.event(&text(&info["returnEventID"]));
    assert_eq!(answer["event"]["data"]["run_id"], info["runID"]);

    let failed = span(&id(&stage.complete("test/invoke-error", &json!({}))));
    assert_eq!(failed["status"], "FAILED");
    assert_eq!(server.output(&failed)["error"]["message"], "the callee gives up");
    let missing = span(&id(&stage.complete("test/invoke-missing", &json!({}))));
    assert_eq!(
        say(&missing["stepInfo"], ["runID", "timedOut"]),
        [Value::Null, json!(false)]
    );
    let late = span(&id(&stage.complete("test/invoke-timeout", &json!({}))));
    assert_eq!(
        say(&late["stepInfo"], ["returnEventID", "timedOut"]),
        [Value::Null, json!(true)]
    );
    server.graphql(
        "mutation ($id: ULID!) { cancelRun(runID: $id) { id } }",
        &json!({"id": late["stepInfo"]["runID"]}),
    );
}

#[rstest]
fn a_signal_and_outputs_of_every_kind(#[values(Ts4)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let signal = unique("signal");
    let run = stage.begin("test/wait-signal", &json!({"signal": signal}));
    stage.server.wait_until_pending(&run, "signal");
    let sent = json!({"signal": signal, "data": {"n": 1}});
    stage.server.post("/v1/signals", &sent).expect(200);
    stage.server.wait_for_status(&run, "completed");
    let trace = stage.server.trace(&run, true);
    let span = children(&trace)
        .iter()
        .find(|span| span["stepOp"] == "WAIT_FOR_SIGNAL")
        .expect("a wait");
    assert_eq!(
        say(&span["stepInfo"], ["signal", "timedOut"]),
        [json!(signal), json!(false)]
    );
    assert_eq!(stage.server.output_data(span)["data"], json!({"n": 1}));

    let run = id(&stage.complete("test/send-event", &json!({})));
    let trace = stage.server.trace(&run, true);
    let kinds: Vec<_> = children(&trace)
        .iter()
        .map(|span| say(span, ["stepOp", "stepType"]))
        .collect();
    assert!(kinds.contains(&["RUN", "step.sendEvent"].map(Value::from)), "{trace:#}");

    let run = stage.complete("test/outputs", &json!({}));
    let trace = stage.server.trace(&id(&run), true);
    for (span, step) in children(&trace).iter().zip(run["steps"].as_array().expect("steps")) {
        assert_eq!(stage.server.output_data(span), step["output"]["data"], "{span:#}");
    }
}

#[rstest]
fn a_first_call_that_takes_long(#[values(Ts4)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let gate = unique("gate");
    let run = stage.begin("test/gated", &json!({"gate": gate}));
    let trace = stage.server.wait_for_trace(&run, "RUNNING");
    assert_eq!(trace["outputID"], Value::Null);
    let status = stage.server.graphql(
        "query ($id: ID!) { functionRun(query: {functionRunId: $id}) { output status } }",
        &json!({"id": run}),
    );
    assert_eq!(status["functionRun"], json!({"output": null, "status": "RUNNING"}));
    stage.app.open(&gate);
    let trace = stage.server.wait_for_trace(&run, "COMPLETED");
    assert!(trace["outputID"].is_string(), "known at once");
}

const RUNS: &str = "query ($from: Time!, $status: [FunctionRunStatus!], $query: String, $after: String, $first: Int = 40, $ids: [UUID!],
        $field: RunsV2OrderByField!, $direction: RunsOrderByDirection!) {
    runs(first: $first, after: $after, filter: {from: $from, status: $status, timeField: QUEUED_AT, query: $query, functionIDs: $ids},
            orderBy: [{field: $field, direction: $direction}], preview: true) {
        edges { cursor node { id status traceID startedAt queuedAt endedAt } }
        pageInfo { startCursor endCursor hasNextPage } totalCount(preview: true) } }";

/// All pages of a list of runs, and the count that the first one gave.
fn all_runs(server: &Server, variables: &Value) -> (Vec<String>, Value) {
    let mut variables = variables.clone();
    let (mut runs, mut count) = (Vec::new(), None);
    loop {
        let data = server.graphql(RUNS, &variables);
        let edges = data["runs"]["edges"].as_array().expect("edges");
        runs.extend(edges.iter().map(|edge| text(&edge["node"]["id"])));
        count.get_or_insert(data["runs"]["totalCount"].clone());
        if data["runs"]["pageInfo"]["hasNextPage"] == false {
            return (runs, count.unwrap_or_default());
        }
        variables["after"] = data["runs"]["pageInfo"]["endCursor"].clone();
    }
}

#[rstest]
fn runs_are_listed_searched_and_paged(#[values(Ts4)] sdk: Sdk) {
    let stage = Stage::of_its_own(sdk);
    let server = &stage.server;
    let sent: Vec<Value> = (0..12)
        .map(|n| json!({"name": "test/echo", "data": {"n": n, "even": n % 2 == 0, "none": null}}))
        .collect();
    let mut runs = Vec::new();
    for event in server.send_all(&json!(sent)) {
        let run = server.wait_for_start(&event);
        server.wait_for_status(&run, "completed");
        runs.push(run);
    }
    stage.fail("test/non-retriable", &json!({}));
    let function = server.run(&runs[0])["function"]["id"].clone();
    for field in ["QUEUED_AT", "STARTED_AT", "ENDED_AT"] {
        for direction in ["ASC", "DESC"] {
            let variables = json!({"from": "2020-01-01T00:00:00Z", "first": 5, "field": field, "direction": direction, "ids": [function]});
            let (found, count) = all_runs(server, &variables);
            assert_eq!(count, 12);
            let distinct: BTreeSet<_> = found.iter().cloned().collect();
            assert_eq!(
                (found.len(), distinct),
                (12, runs.iter().cloned().collect()),
                "{field} {direction}"
            );
        }
    }
    let search = |status: Value, query: &str| {
        let variables = json!({"from": "2020-01-01T00:00:00Z", "first": 2, "field": "QUEUED_AT", "direction": "DESC", "status": status, "query": query});
        let (found, count) = all_runs(server, &variables);
        assert_eq!(count, found.len(), "{query}");
        found
    };
    assert_eq!(search(json!(["FAILED"]), "").len(), 1);
    assert_eq!(
        search(Value::Null, "event.name == \"test/echo\"\nevent.data.even == true").len(),
        6
    );
    assert_eq!(search(Value::Null, "event.data.n == 3"), [runs[3].clone()]);
    assert_eq!(
        search(Value::Null, "event.name == 'test/echo' && event.data.none == null").len(),
        12
    );
    assert_eq!(search(Value::Null, "error.message == 'do not try again'").len(), 1);
    let refused = server.try_graphql(RUNS, &json!({"from": "2020-01-01T00:00:00Z", "field": "QUEUED_AT", "direction": "DESC", "query": "event.data.x.exists(y, y > 1)"}));
    assert_eq!(
        refused.expect_err("a macro")[0]["message"],
        "macros are currently not supported"
    );
}

#[rstest]
fn events_are_listed_with_their_runs(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::of_its_own(sdk);
    let server = &stage.server;
    let own = unique("own");
    let many: Vec<Value> = (0..49)
        .map(|n| json!({"name": "gql/plain", "data": {"n": n}}))
        .collect();
    server.send_all(&json!(many));
    let event = server.send(&json!({"name": "test/hello", "id": own, "data": {"a": 1}}));
    let run = server.wait_for_start(&event);
    server.wait_for_status(&run, "completed");
    let query = "query ($after: String, $names: [String!], $query: String, $internal: Boolean = false) {
        eventsV2(first: 40, after: $after, filter: {from: \"2020-01-01T00:00:00Z\", eventNames: $names, query: $query, includeInternalEvents: $internal}) {
            edges { node { name id occurredAt receivedAt raw runs { status id startedAt endedAt function { name slug } } } }
            totalCount pageInfo { hasNextPage endCursor hasPreviousPage startCursor } } }";
    let first = server.graphql(query, &json!({}))["eventsV2"].clone();
    assert_eq!(
        (first["edges"].as_array().map(Vec::len), &first["totalCount"]),
        (Some(40), &json!(50))
    );
    let newest = &first["edges"][0]["node"];
    assert_eq!(
        (&newest["id"], &newest["runs"][0]["id"], &newest["runs"][0]["status"]),
        (&json!(event), &json!(run), &json!("COMPLETED"))
    );
    let second = server.graphql(query, &json!({"after": first["pageInfo"]["endCursor"]}))["eventsV2"].clone();
    assert_eq!(
        (second["edges"].as_array().map(Vec::len), &second["totalCount"]),
        (Some(10), &json!(50))
    );
    assert_eq!(
        say(&second["pageInfo"], ["hasNextPage", "hasPreviousPage"]),
        [json!(false), json!(true)]
    );
    for (variables, count) in [
        (json!({"names": ["test/hello", "gql/other"]}), 1),
        (json!({"query": "event.name == 'gql/plain'\nevent.data.n < 10"}), 10),
        (json!({"names": ["inngest/function.finished"]}), 0),
    ] {
        assert_eq!(
            server.graphql(query, &variables)["eventsV2"]["totalCount"],
            count,
            "{variables}"
        );
    }
    let finished = || {
        let variables = json!({"names": ["inngest/function.finished"], "internal": true});
        let found = server.graphql(query, &variables);
        found["eventsV2"]["edges"]
            .as_array()?
            .first()
            .map(|edge| text(&edge["node"]["raw"]))
    };
    let raw: Value = serde_json::from_str(&wait_for("the run's end", DEADLINE, finished)).expect("JSON");
    let keys: Vec<_> = raw.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(keys, ["data", "id", "name", "ts", "v"]);

    let by_id = "query ($id: ID!, $ulid: ULID!) { event(query: {eventId: $id}) { id name functionRuns { id } }
        eventV2(id: $ulid) { id idempotencyKey name occurredAt raw receivedAt runs { id function { name } status } version } }";
    let found = server.graphql(by_id, &json!({"id": event, "ulid": event}));
    assert_eq!(found["event"]["functionRuns"], json!([{"id": run}]));
    assert_eq!(found["eventV2"]["idempotencyKey"], own.as_str());
    let stream = "{ stream(query: {limit: 999, includeInternalEvents: false}) { id trigger runs { id function { name } } } events(query: {}) { id name payload } }";
    let found = server.graphql(stream, &json!({}));
    assert_eq!(found["stream"].as_array().map(Vec::len), Some(50));
    assert_eq!(
        (&found["stream"][0]["id"], &found["stream"][0]["trigger"]),
        (&json!(event), &json!("test/hello"))
    );
    assert_eq!(found["stream"][0]["runs"][0]["id"], json!(run));
    assert_eq!(
        found["events"].as_array().map(Vec::len),
        Some(49),
        "but the one with an id of its own"
    );
}

#[rstest]
fn functions_are_listed_and_invoked(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::of_its_own(sdk);
    let server = &stage.server;
    let data = server.graphql("{ functions { id name slug app { id externalID name } configuration { concurrency { scope } throttle { period } retries { value } } }
        apps { id name functionCount connected error } }", &json!({}));
    let functions = data["functions"].as_array().expect("functions");
    assert!(
        functions
            .iter()
            .all(|function| function["app"]["externalID"] == stage.app.id())
    );
    assert_eq!(data["apps"][0]["functionCount"], functions.len());
    let slug = stage.app.slug("echo");
    let echo = functions
        .iter()
        .find(|function| function["slug"] == slug.as_str())
        .expect("is there");
    let mark = unique("gql");
    let invoke = "mutation ($slug: String!, $data: Map) { invokeFunction(functionSlug: $slug, data: $data) }";
    assert_eq!(
        server.graphql(invoke, &json!({"slug": slug, "data": {"mark": mark}}))["invokeFunction"],
        true
    );
    let variables =
        json!({"from": "2020-01-01T00:00:00Z", "field": "QUEUED_AT", "direction": "DESC", "ids": [echo["id"]]});
    let run = wait_for("the run", DEADLINE, || all_runs(server, &variables).0.pop());
    let run = server.wait_for_status(&run, "completed");
    assert!(run["output"].to_string().contains(&mark), "{run}");
    let delete = "mutation ($id: String!) { deleteApp(id: $id) }";
    server.graphql(delete, &json!({"id": data["apps"][0]["id"]}));
    let left = server.graphql("{ functions { id } apps { id } }", &json!({}));
    assert_eq!(left, json!({"functions": [], "apps": []}));
    let create = "mutation ($url: String!) { createApp(input: {url: $url}) { name functionCount } }";
    let created = server.graphql(create, &json!({"url": stage.app.url()}));
    assert_eq!(
        created["createApp"],
        json!({"name": stage.app.id(), "functionCount": functions.len()})
    );
}

#[test]
fn production_guards_it_and_it_can_be_switched_off() {
    let server = Server::builder().production().start();
    let found = server.graphql("{ apps { id } }", &json!({}));
    assert_eq!(found, json!({"apps": []}));
    let bare = crate::support::http::Request::post("/v0/gql", &json!({"query": "{ apps { id } }"}));
    bare.send(server.address()).expect(401);
    let server = Server::builder().switch("--no-poll").switch("--no-ui").start();
    server.post("/v0/gql", &json!({"query": "{ apps { id } }"})).expect(404);
}
