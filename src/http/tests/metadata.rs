//! Metadata: how it is written, what is refused, and where a trace shows it.

use callboard_actors::domain::*;
use callboard_actors::orchestrator::MetadataOutcome;
use rstest::rstest;
use serde_json::{Value, json};

use super::fake::{NOW, Server};
use super::sdk::{app, run_id, view};
use crate::sdk::step_id;

fn path() -> String {
    format!("/v1/runs/{}/metadata", run_id())
}

fn body(target: &Value) -> String {
    let update = json!({"kind": "userland.default", "op": "merge", "values": {"n": 1}});
    json!({"target": target, "metadata": [update]}).to_string()
}

#[rstest]
#[case(json!({}), MetadataTarget::default())]
#[case(json!(null), MetadataTarget::default())]
#[case(json!({"run_id": "whatever"}), MetadataTarget::default())]
#[case(json!({"step_id": "a"}), MetadataTarget::step(step_id("a", 0)))]
#[case(json!({"step_id": "a", "step_index": 2, "step_attempt": -1}), MetadataTarget::step(step_id("a", 2)))]
#[case(json!({"step_id": "a", "step_attempt": 3}), MetadataTarget { attempt: Some(3), ..MetadataTarget::step(step_id("a", 0)) })]
#[case(json!({"step_id": "a", "span_id": "f"}), MetadataTarget { span: Some("f".to_owned()), ..MetadataTarget::step(step_id("a", 0)) })]
#[actix_web::test]
async fn what_it_is_about(#[case] target: Value, #[case] expected: MetadataTarget) {
    let server = Server::start().await;
    let answer = server.post(&path(), body(&target)).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    let (run, updates) = server.world.with(|world| world.noted.remove(0));
    assert_eq!((run, &updates[0].0), (run_id(), &expected));
    assert_eq!(
        (updates[0].1.op, &updates[0].1.values["n"]),
        (MetadataOp::Merge, &json!(1))
    );
}

#[rstest]
#[case(body(&json!({"step_index": 1})), 400)]
#[case(body(&json!({"step_attempt": 0})), 400)]
#[case(body(&json!({"span_id": "x"})), 400)]
#[case(body(&json!({"step_id": "a", "step_attempt": -2})), 400)]
#[case(json!({"metadata": [{"kind": "inngest.secret", "op": "set", "values": {}}]}).to_string(), 400)]
#[case(json!({"metadata": [{"kind": "userland.a", "op": "twist", "values": {}}]}).to_string(), 400)]
#[case(json!({"metadata": [{"kind": "userland.a", "op": "set", "values": 1}]}).to_string(), 400)]
#[case(json!({"metadata": [{"kind": "inngest.score", "op": "merge", "values": {"a": {"value": "x"}}}]}).to_string(), 400)]
#[case(json!({"metadata": [{"kind": "userland.a", "op": "set", "values": {"x": "x".repeat(70_000)}}]}).to_string(), 413)]
#[case("[".to_owned(), 400)]
#[actix_web::test]
async fn what_is_refused(#[case] body: String, #[case] status: u16) {
    let server = Server::start().await;
    let answer = server.post(&path(), body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["status"].clone()),
        (status, json!(status))
    );
    assert!(server.world.with(|world| world.noted.is_empty()));
}

#[rstest]
#[case(MetadataOutcome::UnknownRun, 200)]
#[case(MetadataOutcome::TooLarge, 413)]
#[actix_web::test]
async fn what_comes_of_it(#[case] outcome: MetadataOutcome, #[case] status: u16) {
    let server = Server::start().await;
    server.world.with(|world| world.metadata_outcome = Some(outcome));
    assert_eq!(server.post(&path(), body(&json!({}))).await.status, status);
    assert_eq!(server.post("/v1/runs/x/metadata", body(&json!({}))).await.status, 400);
}

/// A run with a step that failed once and another that did not, and something noted about everything.
fn noted() -> (callboard_actors::ports::RunView, MetadataRecord) {
    let mut run = view(RunStatus::Completed);
    run.summary.ended_at = Some(NOW);
    let line = |kind, step: &str, attempt| HistoryEntry {
        at: NOW,
        kind,
        step: Some(StepId::from(step)),
        attempt,
        detail: None,
    };
    run.history = vec![
        line(HistoryKind::AttemptFailed, "a", 0),
        line(HistoryKind::MetadataWritten, "a", 1),
        line(HistoryKind::StepCompleted, "a", 1),
        line(HistoryKind::StepCompleted, "b", 0),
    ];
    let step = |id: &str, attempt| MetadataTarget {
        attempt,
        ..MetadataTarget::step(StepId::from(id))
    };
    let targets = [
        MetadataTarget::default(),
        step("a", None),
        step("a", Some(0)),
        step("a", Some(1)),
        step("b", Some(0)),
        step("nothing", None),
        MetadataTarget {
            span: Some("f".to_owned()),
            ..step("a", None)
        },
    ];
    let entries = targets.into_iter().enumerate().map(|(n, target)| MetadataEntry {
        target,
        kind: "userland.default".to_owned(),
        values: serde_json::Map::from_iter([("n".to_owned(), json!(n))]),
        updated_at: NOW,
    });
    let record = MetadataRecord {
        version: 1,
        through: None,
        entries: entries.collect(),
    };
    (run, record)
}

#[actix_web::test]
async fn a_trace_shows_it_where_it_belongs() {
    let server = Server::start().await;
    let (run, record) = noted();
    let log = MetadataLog {
        record: Some(record),
        lines: Vec::new(),
    };
    server.world.with(|world| {
        world.apps = vec![app()];
        world.runs = vec![run];
        world.metadata.insert(run_id(), log);
    });
    let span = "name metadata { scope kind values updatedAt }";
    let query = format!(
        "{{ run(runID: \"{}\") {{ trace(preview: true) {{ {span} childrenSpans {{ {span} childrenSpans {{ {span} }} }} }} }} }}",
        run_id()
    );
    let answer = server
        .post("/v0/gql", json!({ "query": query }).to_string())
        .await
        .json();
    let root = &answer["data"]["run"]["trace"];
    let of = |span: &Value| -> Vec<(Value, Value)> {
        let entries = span["metadata"].as_array().expect("a list").iter();
        entries
            .map(|entry| (entry["scope"].clone(), entry["values"]["n"].clone()))
            .collect()
    };
    let expected =
        json!([{"scope": "run", "kind": "userland.default", "values": {"n": 0}, "updatedAt": NOW.to_rfc3339()}]);
    assert_eq!(root["metadata"], expected, "{answer:#}");
    let (a, b) = (&root["childrenSpans"][0], &root["childrenSpans"][1]);
    assert_eq!(of(a), [(json!("step"), json!(1))]);
    assert_eq!(of(&a["childrenSpans"][0]), [(json!("step_attempt"), json!(2))]);
    assert_eq!(of(&a["childrenSpans"][1]), [(json!("step_attempt"), json!(3))]);
    assert_eq!(
        of(b),
        [(json!("step_attempt"), json!(4))],
        "its one attempt has no span of its own"
    );
    assert_eq!(of(&root["childrenSpans"][2]), [], "the end");
}
