//! Functions that are put off until a run has ended, as the newest TypeScript SDK puts them off.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::sdk::Sdk::Ts4;
use crate::support::server::text;
use crate::support::stage::Stage;

/// What was given to the functions that a run has put off, waited for until there are so many; by what they were given.
fn deferred(stage: &Stage, parent: &str, count: usize) -> Vec<Value> {
    let mut entries = stage.app.wait_for_log(&format!("fn=deferred&parent={parent}"), count);
    entries.sort_by_key(|entry| entry["data"].to_string());
    for entry in &entries {
        stage.server.wait_for_status(&text(&entry["run_id"]), "completed");
    }
    entries
}

fn given(entries: &[Value]) -> Vec<Value> {
    entries.iter().map(|entry| entry["data"]["id"].clone()).collect()
}

const DEFERS: &str = "query ($id: String!) { run(runID: $id) { isDeferred
    defers { hashedDeferID userlandDeferID fnSlug status function { slug } runID run { id status } }
    siblingDefers { userlandDeferID } deferredFrom { runID function { slug } run { id } } } }";

fn linkage(stage: &Stage, run: &str) -> Value {
    stage.server.graphql(DEFERS, &json!({"id": run}))["run"].clone()
}

/// The same whether steps are reported as they are done or with the answer of their call.
#[rstest]
#[case::reported("defers")]
#[case::answered("defers-plain")]
fn what_is_put_off_starts_once_when_the_run_has_ended(#[case] function: &str) {
    let stage = Stage::shared(Ts4);
    let run = stage.complete(&format!("test/{function}"), &json!({}));
    let id = text(&run["id"]);
    let entries = deferred(&stage, &id, 4);
    assert_eq!(given(&entries), ["before", "last", "named like a step", "within"]);
    for entry in &entries {
        assert_eq!(entry["parents"][0]["fnSlug"], stage.app.slug(function));
    }
    assert_eq!(
        entries[1]["parents"][0]["experiment"],
        json!({"experimentName": "prompt", "variant": "short"})
    );

    let seen = linkage(&stage, &id);
    assert_eq!(
        (&seen["isDeferred"], &seen["deferredFrom"]),
        (&json!(false), &json!([]))
    );
    let defers = seen["defers"].as_array().expect("an array");
    let names: Vec<&Value> = defers.iter().map(|defer| &defer["userlandDeferID"]).collect();
    assert_eq!(names, ["before", "within", "work", "nobody", "last"]);
    assert!(defers.iter().all(|defer| defer["status"] == "SCHEDULED"), "{defers:#?}");
    assert_eq!(
        (&defers[3]["function"], &defers[3]["runID"]),
        (&Value::Null, &Value::Null)
    );
    let child = &defers[0];
    assert_eq!(child["function"]["slug"], stage.app.slug("deferred"));
    assert_eq!(child["run"]["status"], "COMPLETED");
    let child = linkage(&stage, &text(&child["runID"]));
    assert_eq!(child["isDeferred"], true);
    let parent = json!([{"runID": id, "function": {"slug": stage.app.slug(function)}, "run": {"id": id}}]);
    assert_eq!(child["deferredFrom"], parent);
    assert_eq!(child["siblingDefers"].as_array().map(Vec::len), Some(4));

    let detail = stage.server.get(&format!("/api/v1/runs/{id}")).expect(200).json();
    let own = detail["deferrals"].as_array().expect("an array");
    assert_eq!(own.iter().map(|own| &own["name"]).collect::<Vec<_>>(), names);
    assert!(
        own.iter()
            .all(|own| own["status"] == "scheduled" && own["event_id"].is_string())
    );
    assert_eq!(stage.steps_of(&run), ["work", "more"], "each once");
}

#[test]
fn what_is_taken_back_does_not_start() {
    let stage = Stage::shared(Ts4);
    let run = stage.complete("test/defers-aborts", &json!({}));
    let id = text(&run["id"]);
    assert_eq!(given(&deferred(&stage, &id, 1)), ["kept"]);
    let seen = linkage(&stage, &id);
    let defers = seen["defers"].as_array().expect("an array");
    let all: Vec<(&Value, &Value)> = defers
        .iter()
        .map(|defer| (&defer["userlandDeferID"], &defer["status"]))
        .collect();
    let expected = [("shipped", "ABORTED"), ("kept", "SCHEDULED")].map(|(name, status)| (json!(name), json!(status)));
    assert_eq!(
        all,
        expected.iter().map(|(name, status)| (name, status)).collect::<Vec<_>>()
    );
}

#[test]
fn it_starts_also_when_the_run_fails_or_is_cancelled() {
    let stage = Stage::shared(Ts4);
    let run = stage.fail("test/defers-and-fails", &json!({}));
    let entries = deferred(&stage, &text(&run["id"]), 2);
    let data: Vec<&Value> = entries.iter().map(|entry| &entry["data"]).collect();
    assert_eq!(
        data,
        [&json!({"attempt": 0}), &json!({"id": "before the step"})],
        "as it was first put off"
    );

    let run = stage.begin("test/defers-and-waits", &json!({}));
    stage.server.wait_until_pending(&run, "sleep");
    let cancelled = stage.server.delete(&format!("/v1/runs/{run}"));
    assert!((200..300).contains(&cancelled.status), "{}", cancelled.text());
    stage.server.wait_for_status(&run, "cancelled");
    assert_eq!(given(&deferred(&stage, &run, 1)), ["waiting"]);
}

#[test]
fn sessions_are_handed_down() {
    let stage = Stage::shared(Ts4);
    let event = json!({"name": "test/defers-sessions", "data": {}, "meta": {"sessions": {"user": "u", "chat": 7}}});
    let run = stage.server.complete(&event);
    let entries = deferred(&stage, &text(&run["id"]), 3);
    assert_eq!(given(&entries), ["forgets", "inherits", "overrides"]);
    let sessions: Vec<&Value> = entries.iter().map(|entry| &entry["meta"]).collect();
    assert_eq!(sessions[0], &Value::Null);
    assert_eq!(sessions[1], &json!({"sessions": {"chat": "7", "user": "u"}}));
    assert_eq!(sessions[2], &json!({"sessions": {"chat": "7", "user": "other"}}));
}

#[test]
fn a_kill_loses_nothing_that_was_put_off_and_starts_nothing_twice() {
    let mut stage = Stage::of_its_own(Ts4);
    let run = stage.begin("test/defers-gated", &json!({"gate": "open"}));
    stage.app.wait_for_log(&format!("run_id={run}&step=held"), 1);
    stage.server.kill();
    stage.server.restart();
    stage.app.wait_for_log(&format!("run_id={run}&step=held"), 2);
    stage.app.open("open");
    stage.server.wait_for_status(&run, "completed");
    // Whatever had not been started by then is started now.
    stage.server.kill();
    stage.server.restart();
    assert_eq!(given(&deferred(&stage, &run, 2)), ["after the kill", "before the kill"]);
    let children = linkage(&stage, &run)["defers"].clone();
    let children = children.as_array().expect("an array");
    assert_eq!(children.len(), 2);
    for child in children {
        let started = stage
            .app
            .log(&format!("fn=deferred&step=null&run_id={}", text(&child["runID"])));
        assert!(!started.is_empty(), "{child:#}");
    }
    let mut runs: Vec<Value> = stage.app.log(&format!("fn=deferred&parent={run}"));
    runs.sort_by_key(|entry| entry["run_id"].to_string());
    runs.dedup_by_key(|entry| entry["run_id"].to_string());
    assert_eq!(runs.len(), 2, "one run each");
}
