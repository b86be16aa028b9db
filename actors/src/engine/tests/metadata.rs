//! What apps note along with their steps.

use serde_json::json;

use super::*;
use crate::domain::{Metadata, MetadataLog, NotedMetadata};

/// What the metadata of these changes comes to: for each entry its scope, its step and its values.
fn noted(changes: &[Change]) -> Vec<(&'static str, Option<String>, Value)> {
    let lines = changes.iter().zip(0..).filter_map(|(change, place)| match change {
        Change::Noted(entry) if entry.kind == HistoryKind::MetadataWritten => Some(NotedMetadata {
            place,
            at: entry.at,
            step: entry.step.clone(),
            attempt: entry.attempt,
            detail: entry.detail.clone(),
        }),
        _ => None,
    });
    let metadata = Metadata::of(MetadataLog {
        record: None,
        lines: lines.collect(),
    });
    let entries = metadata.entries().iter();
    entries
        .map(|entry| {
            let step = entry.target.step.as_ref().map(ToString::to_string);
            (entry.target.scope(), step, Value::Object(entry.values.clone()))
        })
        .collect()
}

fn update(scope: &str, values: &Value) -> Value {
    json!([{"scope": scope, "kind": "userland.default", "op": "set", "values": values}])
}

#[test]
fn it_is_remembered_with_the_result() {
    let mut case = Case::new();
    let plain = case.ops("start", json!([{"op": "StepRun", "id": "a"}]));
    assert_eq!(noted(&plain), []);
    let with = json!([{"op": "StepRun", "id": "b", "metadata": update("step", &json!({"n": 1}))}]);
    let changes = case.ops("discover:a", with);
    assert_eq!(noted(&changes), [("step", Some("b".to_owned()), json!({"n": 1}))]);
}

#[test]
fn it_is_remembered_of_attempts_that_fail_and_of_the_run() {
    let mut case = Case::new();
    let error = json!({"name": "E", "message": "m"});
    let failed =
        json!([{"op": "StepError", "id": "a", "error": error, "metadata": update("step_attempt", &json!({"n": 1}))}]);
    let changes = case.ops("start", failed);
    assert_eq!(
        noted(&changes),
        [("step_attempt", Some("a".to_owned()), json!({"n": 1}))]
    );
    let over = json!([{"op": "RunComplete", "data": 1, "metadata": update("run", &json!({"n": 2}))}]);
    let changes = case.ops("start", over);
    assert_eq!(case.run.status, RunStatus::Completed);
    assert_eq!(noted(&changes), [("run", None, json!({"n": 2}))]);
}

#[test]
fn what_is_reported_again_is_not_remembered_again() {
    let mut case = Case::new();
    let with =
        |op: &str, id: &str| json!({"op": op, "id": id, "data": 1, "metadata": update("step", &json!({"n": 1}))});
    let changes = case.ops("start", json!([with("StepRun", "a")]));
    assert_eq!(noted(&changes).len(), 1);
    let changes = case.ops("discover:a", json!([with("StepRun", "a"), with("StepPlanned", "b")]));
    assert_eq!(noted(&changes), [], "a is done, and b says it when it has run");
    let changes = case.ops("step:b", json!([with("StepRun", "b")]));
    assert_eq!(noted(&changes).len(), 1);
}
