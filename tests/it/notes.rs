//! Metadata, scores and experiments, as the newest TypeScript SDK notes them. The others have nothing of the kind.

use serde_json::{Value, json};

use crate::support::graphql::child;
use crate::support::http::Request;
use crate::support::sdk::Sdk::Ts4;
use crate::support::server::text;
use crate::support::stage::Stage;

const NOTED: &str = "name status metadata { scope kind values updatedAt }";

fn trace(stage: &Stage, run: &str) -> Value {
    let query = format!(
        "query ($id: String!) {{ run(runID: $id) {{ status trace(preview: true) {{ {NOTED}
            childrenSpans {{ {NOTED} childrenSpans {{ {NOTED} }} }} }} }} }}"
    );
    stage.server.graphql(&query, &json!({ "id": run }))["run"]["trace"].clone()
}

/// Of a span, by kind: the scope and the values.
fn noted(span: &Value, kind: &str) -> (String, Value) {
    let entries = span["metadata"].as_array().expect("a list");
    let found: Vec<_> = entries.iter().filter(|entry| entry["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind} in {span:#}");
    (text(&found[0]["scope"]), found[0]["values"].clone())
}

fn of(scope: &str, values: Value) -> (String, Value) {
    (scope.to_owned(), values)
}

#[test]
fn what_steps_note_is_there_when_the_run_has_completed() {
    let stage = Stage::shared(Ts4);
    let run = stage.complete("test/notes", &json!({}));
    assert_eq!(run["output"], "short");
    let root = trace(&stage, &text(&run["id"]));
    assert_eq!(noted(&root, "userland.default"), of("run", json!({"from": "measure"})));
    assert_eq!(
        noted(&root, "inngest.score"),
        of("run", json!({"passed": {"value": true}}))
    );
    let measure = child(&root, "measure");
    assert_eq!(noted(measure, "userland.size"), of("step", json!({"a": 1, "b": 2})));
    assert_eq!(
        noted(measure, "inngest.score"),
        of("step", json!({"speed": {"value": 0.25}}))
    );
    // A score of its own is a step of that name, and the scores of the run are not its.
    assert_eq!(child(&root, "grade")["metadata"], json!([]));
    let choice = noted(child(&root, "prompt"), "inngest.experiment");
    assert_eq!(
        (choice.1["name"].clone(), choice.1["variant"].clone()),
        (json!("prompt"), json!("short"))
    );
    let variant = noted(child(&root, "short"), "inngest.experiment");
    let expected = json!({"name": "prompt", "variant": "short", "selection_strategy": "fixed"});
    assert_eq!(variant, of("step", expected));
}

#[test]
fn attempts_are_told_apart() {
    let stage = Stage::shared(Ts4);
    let run = text(&stage.complete("test/notes-attempts", &json!({}))["id"]);
    let about = |attempt: u32| {
        let values = json!({"number": attempt});
        let body = json!({
            "target": {"step_id": "flaky", "step_attempt": attempt},
            "metadata": [{"kind": "userland.api", "op": "set", "values": values}],
        });
        stage
            .server
            .post(&format!("/v1/runs/{run}/metadata"), &body)
            .expect(200);
    };
    about(0);
    about(1);
    let root = trace(&stage, &run);
    let flaky = child(&root, "flaky");
    // The SDK notes it about the step: what came with the second attempt has replaced what came with the first.
    assert_eq!(noted(flaky, "userland.default"), of("step", json!({"attempt": 1})));
    for number in [0, 1] {
        let attempt = child(flaky, &format!("Attempt {number}"));
        assert_eq!(
            noted(attempt, "userland.api"),
            of("step_attempt", json!({"number": number}))
        );
    }
}

#[test]
fn a_run_that_is_over_is_scored() {
    let stage = Stage::shared(Ts4);
    let run = text(&stage.complete("test/notes", &json!({}))["id"]);
    let score = |body: Value| stage.app.ask(&Request::post("/score", &body));
    score(json!({"runId": run, "name": "human", "value": 4}));
    score(json!({"runId": run, "stepId": "measure", "name": "human", "value": false}));
    score(json!({"runId": run, "stepId": "nothing", "name": "human", "value": 1}));
    let write = |update: Value| {
        let body = json!({"target": {"step_id": "measure"}, "metadata": [update]});
        stage
            .server
            .post(&format!("/v1/runs/{run}/metadata"), &body)
            .expect(200);
    };
    write(json!({"kind": "userland.size", "op": "add", "values": {"a": 10, "c": 1}}));
    write(json!({"kind": "userland.size", "op": "delete", "values": {"b": null}}));

    let root = trace(&stage, &run);
    let both = json!({"passed": {"value": true}, "human": {"value": 4}});
    assert_eq!(noted(&root, "inngest.score"), of("run", both));
    let measure = child(&root, "measure");
    let both = json!({"speed": {"value": 0.25}, "human": {"value": false}});
    assert_eq!(noted(measure, "inngest.score"), of("step", both));
    assert_eq!(noted(measure, "userland.size"), of("step", json!({"a": 11, "c": 1})));
}

#[test]
fn what_a_model_was_asked_is_told() {
    let stage = Stage::shared(Ts4);
    let run = stage.complete("test/ai-infer", &json!({}));
    let root = trace(&stage, &text(&run["id"]));
    let asked = root["childrenSpans"].as_array().expect("children").iter();
    let asked: Vec<_> = asked.filter(|span| span["metadata"] != json!([])).collect();
    assert_eq!(asked.len(), 1, "{root:#}");
    let (scope, values) = noted(asked[0], "inngest.ai");
    assert_eq!(scope, "step");
    for (key, expected) in [
        ("provider", json!("openai")),
        ("response_id", json!("chatcmpl-1")),
        ("input_tokens", json!(1)),
        ("total_tokens", json!(2)),
        ("finish_reasons", json!(["stop"])),
    ] {
        assert_eq!(values[key], expected, "{key} of {values:#}");
    }
}

#[test]
fn nothing_is_lost_when_many_write_at_once() {
    const WRITERS: u64 = 8;
    const WRITES: u64 = 5;
    let stage = Stage::shared(Ts4);
    let run = text(&stage.complete("test/hello", &json!({}))["id"]);
    let path = format!("/v1/runs/{run}/metadata");
    let update = json!({"metadata": [{"kind": "userland.count", "op": "add", "values": {"n": 1}}]});
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                for _ in 0..WRITES {
                    stage.server.post(&path, &update).expect(200);
                }
            });
        }
    });
    let root = trace(&stage, &run);
    assert_eq!(
        noted(&root, "userland.count"),
        of("run", json!({"n": WRITERS * WRITES}))
    );
}
