//! Spans of users' own: how they come in, and where they are shown.

use std::io::Write as _;

use actix_web::test::TestRequest;
use callboard_actors::domain::*;
use prost::Message as _;
use rstest::rstest;
use serde_json::{Value, json};

use super::fake::{Answer, NOW, Server};
use super::sdk::{app, run_id, view};
use crate::otlp::wire::{ExportTraceServiceRequest, ExportTraceServiceResponse, RpcStatus};

const PATH: &str = "/v1/traces/userland";

/// A span of the run, made while the step `a` was run.
fn span(name: &str, run: &str) -> Value {
    let reference = "{\"tp\":\"00-71eeab122c16e2337e13aa425bc51912-b017a66031df8079-01\",\"ts\":\"\"}";
    let nanos = |after: i64| (NOW.as_millis() * 1_000_000 + after).to_string();
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    json!({"traceId": "71eeab122c16e2337e13aa425bc51912", "spanId": SpanId::derive(name.as_bytes()), "name": name, "kind": 3,
        "startTimeUnixNano": nanos(0), "endTimeUnixNano": nanos(5_000_000), "status": {"code": 1}, "attributes": [
            text("sdk.run.id", run), text("inngest.traceref", reference), text("inngest.step.hash", "a"),
            text("inngest.step.parentSpanId", &SpanId::of_step(&StepId::from("a")).to_string()),
            text("gen_ai.request.model", "gpt-4o"), text("mine", "yes")]})
}

fn export(spans: &[Value]) -> Value {
    json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
        "scopeSpans": [{"scope": {"name": "lib", "version": "1"}, "spans": spans}]}]})
}

fn protobuf(export: &Value) -> Vec<u8> {
    let request: ExportTraceServiceRequest = serde_json::from_value(export.clone()).expect("valid");
    request.encode_to_vec()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

async fn send(server: &Server, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut request = TestRequest::post().uri(PATH);
    for header in headers {
        request = request.insert_header(*header);
    }
    server.call(request.set_payload(body)).await
}

/// A server that knows the run, whose step `a` has completed.
async fn server() -> Server {
    let server = Server::start().await;
    let mut run = view(RunStatus::Completed);
    run.summary.ended_at = Some(NOW);
    server.world.with(|world| {
        world.runs = vec![run];
        world.apps = vec![app()];
    });
    server
}

#[rstest]
#[actix_web::test]
async fn spans_come_in_both_encodings(#[values(true, false)] is_json: bool, #[values(true, false)] is_zipped: bool) {
    let server = server().await;
    let run = run_id().to_string();
    let export = export(&[
        span("one", &run),
        span("strange", "01JZ0000000000000000000009"),
        json!({"name": "stray"}),
    ]);
    let content_type = if is_json {
        "application/json"
    } else {
        "application/x-protobuf"
    };
    let mut headers = vec![("content-type", content_type)];
    let mut body = if is_json {
        export.to_string().into_bytes()
    } else {
        protobuf(&export)
    };
    if is_zipped {
        headers.push(("content-encoding", "gzip"));
        body = gzip(&body);
    }
    let answer = send(&server, &headers, body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (200, Some(content_type))
    );
    let told: ExportTraceServiceResponse = match is_json {
        true => serde_json::from_slice(&answer.body).expect("JSON"),
        false => ExportTraceServiceResponse::decode(&*answer.body).expect("protobuf"),
    };
    assert_eq!(told.partial_success.map(|partial| partial.rejected_spans), Some(2));
    let kept = server.world.with(|world| world.spans.clone());
    assert_eq!(
        kept.iter()
            .map(|(run, span)| (*run, span.name.as_str()))
            .collect::<Vec<_>>(),
        [(run_id(), "one")]
    );
    assert_eq!(kept[0].1.started_at, NOW.as_millis() * 1_000_000);
}

#[actix_web::test]
async fn a_full_success_is_an_empty_message() {
    let server = server().await;
    let body = export(&[span("one", &run_id().to_string())]);
    let answer = server.post(PATH, body.to_string()).await;
    assert_eq!(answer.json(), json!({}));
    let body = protobuf(&body);
    let answer = send(&server, &[("content-type", "application/x-protobuf")], body).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
}

#[rstest]
#[case("application/json", "", b"{".to_vec(), 400)]
#[case("application/json", "", br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"spanId":"xyz"}]}]}]}"#.to_vec(), 400)]
#[case("application/x-protobuf", "", vec![0xff; 9], 400)]
#[case("application/json", "gzip", b"plain".to_vec(), 400)]
#[case("application/json", "gzip", gzip(&vec![b' '; 9 * 1024 * 1024]), 413)]
#[case("application/json", "", vec![b' '; 8 * 1024 * 1024 + 1], 413)]
#[case("application/json", "br", b"x".to_vec(), 415)]
#[case("text/plain", "", b"x".to_vec(), 415)]
#[actix_web::test]
async fn what_is_refused(#[case] kind: &str, #[case] encoding: &str, #[case] body: Vec<u8>, #[case] status: u16) {
    let server = server().await;
    let mut headers = vec![("content-type", kind)];
    headers.extend((!encoding.is_empty()).then_some(("content-encoding", encoding)));
    let answer = send(&server, &headers, body).await;
    assert_eq!(answer.status.as_u16(), status);
    let told: RpcStatus = match kind.contains("protobuf") {
        true => RpcStatus::decode(&*answer.body).expect("protobuf"),
        false => serde_json::from_slice(&answer.body).expect("JSON"),
    };
    assert_eq!(told.code, 3, "{told:?}");
    assert!(!told.message.is_empty());
}

const TRACE: &str =
    "query ($id: String!) { run(runID: $id) { trace(preview: true) { isUserland childrenSpans { name isUserland
    childrenSpans { name isUserland status duration stepID parentSpanID spanID
        userlandSpan { spanName spanKind serviceName resourceAttrs scopeName scopeVersion spanAttrs }
        metadata { scope kind values } } } } } }";

#[actix_web::test]
async fn they_are_shown_below_their_step() {
    let server = server().await;
    let step = Step {
        id: StepId::from("a"),
        op: StepOp::Run,
        label: "work".to_owned(),
        race: false,
        started_at: NOW,
        state: StepState::Done {
            memo: Json::null(),
            failed: false,
            position: 0,
            at: NOW,
        },
    };
    let line = HistoryEntry {
        at: NOW,
        kind: HistoryKind::StepCompleted,
        step: Some(StepId::from("a")),
        attempt: 0,
        detail: Json::from_value(&json!({"name": "work"})).ok(),
    };
    server.world.with(|world| {
        world.runs[0].steps = vec![step.into()];
        world.runs[0].history = vec![line];
    });
    server
        .post(PATH, export(&[span("one", &run_id().to_string())]).to_string())
        .await;
    let query = json!({"query": TRACE, "variables": {"id": run_id()}});
    let answer = server.post("/v0/gql", query.to_string()).await.json();
    let root = &answer["data"]["run"]["trace"];
    assert_eq!(root["isUserland"], false, "{answer:#}");
    let work = root["childrenSpans"]
        .as_array()
        .expect("children")
        .iter()
        .find(|span| span["name"] == "work");
    let one = &work.expect("the step")["childrenSpans"][0];
    let parent = SpanId::of_step(&StepId::from("a")).to_string();
    let id = SpanId::derive(b"one").to_string();
    assert_eq!(
        one["userlandSpan"],
        json!({"spanName": "one", "spanKind": "CLIENT", "serviceName": "shop",
        "resourceAttrs": "{\"service.name\":\"shop\"}", "scopeName": "lib", "scopeVersion": "1",
        "spanAttrs": "{\"gen_ai.request.model\":\"gpt-4o\",\"mine\":\"yes\"}"})
    );
    let shown = [
        "name",
        "isUserland",
        "status",
        "duration",
        "stepID",
        "parentSpanID",
        "spanID",
    ]
    .map(|key| one[key].clone());
    assert_eq!(
        shown,
        [
            json!("one"),
            json!(true),
            json!("COMPLETED"),
            json!(5),
            json!("a"),
            json!(parent),
            json!(id)
        ]
    );
    let values = json!({"request_model": "gpt-4o", "latency_ms": 5});
    assert_eq!(
        one["metadata"],
        json!([{"scope": "extended_trace", "kind": "inngest.ai", "values": values}])
    );

    let own = server.get(&format!("/api/v1/runs/{}/spans", run_id())).await.json();
    assert_eq!(
        (&own["spans"][0]["id"], &own["spans"][0]["outcome"]),
        (&json!(id), &json!("ok"))
    );
    assert_eq!(
        server.get("/api/v1/runs/01JZ0000000000000000000009/spans").await.status,
        404
    );
}
