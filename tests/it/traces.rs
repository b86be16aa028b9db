//! Spans that the newest TypeScript SDK sends of what goes on in its functions, and those that the server tells a collector.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::fake::{FakeApp, Reply};
use crate::support::graphql::{child, children};
use crate::support::sdk::{Sdk::Ts4, SdkApp};
use crate::support::server::{Server, text};
use crate::support::{DEADLINE, wait_for};

const SPAN: &str = "name isUserland status stepID userlandSpan { spanName scopeName spanAttrs serviceName }";

fn trace(server: &Server, run: &str) -> Value {
    let query = format!(
        "query ($id: String!) {{ run(runID: $id) {{ trace(preview: true) {{ {SPAN} childrenSpans {{ {SPAN}
            childrenSpans {{ {SPAN} childrenSpans {{ {SPAN} }} }} }} }} }} }}"
    );
    server.graphql(&query, &json!({"id": run}))["run"]["trace"].clone()
}

/// Called at its URL, and over its connection.
#[rstest]
#[case::by_url(false)]
#[case::connected(true)]
fn spans_are_shown_below_the_steps_that_they_are_of(#[case] is_connected: bool) {
    let server = Server::builder().switch("--no-poll").start();
    let builder = SdkApp::builder(Ts4, &server.url()).env("EXTENDED_TRACES", "1");
    let app = if is_connected {
        builder.connected("one").start()
    } else {
        builder.start()
    };
    if !is_connected {
        app.register();
    }
    let run = server.complete(&json!({"name": "test/traced"}));
    let run = text(&run["id"]);
    let own = wait_for("the spans", DEADLINE, || {
        let own = server.get(&format!("/api/v1/runs/{run}/spans")).expect(200).json();
        let has = |name: &str| {
            own["spans"]
                .as_array()
                .is_some_and(|all| all.iter().any(|span| span["name"] == name))
        };
        ["in the body", "outer", "inner", "alone"]
            .into_iter()
            .all(has)
            .then_some(own)
    });
    let trace = trace(&server, &run);
    let outer = child(child(&trace, "first"), "outer");
    let inner = child(outer, "inner");
    let alone = child(child(&trace, "second"), "alone");
    for span in [outer, inner, alone] {
        assert_eq!(span["isUserland"], true);
        assert_eq!(span["userlandSpan"]["scopeName"], "inngest");
    }
    assert_eq!(
        (&outer["status"], &inner["status"]),
        (&json!("COMPLETED"), &json!("FAILED"))
    );
    assert_eq!(
        inner["userlandSpan"]["spanAttrs"]
            .as_str()
            .map(|text| text.contains("place")),
        Some(true)
    );
    let root: Vec<&Value> = children(&trace).iter().map(|span| &span["name"]).collect();
    assert!(root.contains(&&json!("in the body")), "{root:?}");
    assert!(!root.contains(&&json!("inngest.execution")), "nobody needs to see it");
    let hidden = own["spans"].as_array().expect("an array");
    assert!(
        hidden.iter().any(|span| span["name"] == "inngest.execution"),
        "it is kept all the same"
    );
}

/// The spans that a collector has taken, which it did not at first.
fn collected(collector: &FakeApp) -> Vec<Value> {
    let mut spans = Vec::new();
    for call in collector.calls().into_iter().skip(1) {
        assert_eq!(
            (call.path.as_str(), call.header("x-key")),
            ("/v1/traces", Some("secret"))
        );
        let sent = &call.json()["resourceSpans"][0];
        assert_eq!(sent["resource"]["attributes"][0]["value"]["stringValue"], "mine");
        spans.extend(sent["scopeSpans"][0]["spans"].as_array().cloned().expect("spans"));
    }
    spans
}

#[test]
fn a_collector_is_told_of_runs_steps_and_calls() {
    // It has trouble at first.
    let collector = FakeApp::start(|call| Reply::http(if call.index == 0 { 503 } else { 200 }, "{}"));
    let server = Server::builder()
        .switch("--no-poll")
        .flag("--retry-interval", "1")
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            collector.url().trim_end_matches("/api/inngest"),
        )
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")
        .env("OTEL_SERVICE_NAME", "mine")
        .start();
    let app = FakeApp::with_function(&server, 1, |call| match (call.has_step("a"), call.attempt()) {
        (false, 0) => Reply::error("once", false),
        (false, _) => Reply::step("a", &json!(1)),
        (true, _) => Reply::done(&json!("done")),
    });
    let run = server.complete(&app.event());
    let spans = wait_for("the run's spans", DEADLINE, || {
        let spans = collected(&collector);
        let calls = spans.iter().filter(|span| span["name"] == "call").count();
        (calls >= 3 && spans.iter().any(|span| span["name"] == "run")).then_some(spans)
    });
    let named = |name: &str| spans.iter().filter(|span| span["name"] == name).collect::<Vec<_>>();
    let root = named("run")[0];
    assert_eq!(
        (&root["parentSpanId"], &root["status"]["code"]),
        (&json!(""), &json!(1))
    );
    let of_run = |span: &&Value| {
        let attributes = span["attributes"].as_array().expect("attributes");
        attributes
            .iter()
            .any(|attribute| attribute["value"]["stringValue"] == run["id"])
    };
    assert!(
        spans
            .iter()
            .all(|span| of_run(&span) && span["traceId"] == root["traceId"]),
        "{spans:#?}"
    );
    let step = spans.iter().find(|span| span["name"] == "a").expect("the step");
    assert_eq!(step["parentSpanId"], root["spanId"]);
    let failed: Vec<_> = named("call")
        .into_iter()
        .filter(|call| call["status"]["code"] == 2)
        .collect();
    assert_eq!(failed.len(), 1);
    // What an app makes within a call hangs from it.
    let told: Vec<String> = app
        .calls()
        .iter()
        .filter_map(|call| call.header("traceparent").map(str::to_owned))
        .collect();
    let (trace, id) = (text(&root["traceId"]), text(&failed[0]["spanId"]));
    assert!(told.contains(&format!("00-{trace}-{id}-01")), "{told:?}");
    let metrics = server.get("/metrics").expect(200).text();
    assert!(
        metrics.contains("callboard_otlp_spans_total{outcome=\"dropped\"} 0"),
        "{metrics}"
    );
}

#[test]
fn spans_that_wait_for_others_are_told_when_the_server_stops() {
    let collector = FakeApp::start(|_| Reply::http(200, "{}"));
    let mut server = Server::builder()
        .switch("--no-poll")
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            collector.url().trim_end_matches("/api/inngest"),
        )
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
        .start();
    let app = FakeApp::with_function(&server, 1, |_| Reply::done(&json!("done")));
    let run = server.complete(&app.event());
    assert!(server.terminate().success());
    let told: String = collector.calls().iter().map(|call| call.json().to_string()).collect();
    assert!(
        told.contains(r#""name":"run""#) && told.contains(&text(&run["id"])),
        "{told}"
    );
}
