//! Runs are done again, wholly or from a step on, with other arguments if the SDK takes them.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::command::{callboard, stdout};
use crate::support::sdk::Sdk::{self, Python, Ts3, Ts4};
use crate::support::server::text;
use crate::support::stage::Stage;

/// Has a run done again by the command line, and waits for its end; answers the new run.
fn again(stage: &Stage, run: &Value, more: &[&str]) -> Value {
    let (id, url) = (text(&run["id"]), stage.server.url());
    let mut arguments = vec!["runs", "rerun", &id, "--url", &url];
    arguments.extend(more);
    let told = stdout(&callboard(&arguments));
    let new = told.split_whitespace().next().expect("the new run's id");
    stage.server.wait_for_status(new, "completed")
}

#[rstest]
fn a_run_is_done_again(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let first = stage.complete("test/rerun", &json!({}));
    let second = again(&stage, &first, &[]);
    assert_eq!(second["original_id"], first["id"]);
    assert_eq!(second["event_ids"], first["event_ids"]);
    assert_eq!(second["output"]["first"], second["id"], "it is a run of its own");
    assert_eq!(stage.steps_of(&second), ["first", "second", "third"]);
    // The event tells of both.
    let event = stage.server.event(&text(&first["event_ids"][0]));
    let runs: Vec<_> = event["runs"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|run| &run["id"])
        .collect();
    assert_eq!(runs, [&first["id"], &second["id"]]);
}

#[rstest]
fn a_run_is_done_again_from_a_step_on(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let first = stage.complete("test/rerun", &json!({}));
    let second = again(&stage, &first, &["--from-step", "second"]);
    assert_eq!(second["output"]["first"], first["id"], "it keeps its result");
    assert_eq!(second["output"]["second"]["run_id"], second["id"]);
    assert_eq!(second["output"]["second"]["given"], json!([1, "two"]));
    assert_eq!(stage.steps_of(&second), ["second", "third"]);
}

#[rstest]
fn a_step_is_given_other_arguments(#[values(Ts4, Ts3)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let first = stage.complete("test/rerun", &json!({}));
    let second = again(&stage, &first, &["--from-step", "second", "--input", "[7, {\"x\": 1}]"]);
    assert_eq!(second["output"]["first"], first["id"]);
    assert_eq!(
        second["output"]["second"],
        json!({"run_id": second["id"], "given": [7, {"x": 1}]})
    );
    assert_eq!(stage.steps_of(&second), ["second", "third"]);
}

#[test]
fn what_can_t_be_done_again_says_why() {
    let stage = Stage::shared(Python);
    let first = stage.complete("test/loop", &json!({}));
    let path = format!("/api/v1/runs/{}/rerun", text(&first["id"]));
    let code = |status: u16, wish: &Value| {
        let problem = stage.server.post(&path, wish).expect(status).json();
        text(&problem["error"]["code"])
    };
    assert_eq!(code(404, &json!({"from_step": {"step": "nothing"}})), "CB-1306");
    assert_eq!(code(409, &json!({"from_step": {"step": "again"}})), "CB-1307");
    let id = &first["steps"][1]["id"];
    assert_eq!(code(400, &json!({"from_step": {"step": id, "input": {}}})), "CB-1309");
    assert_eq!(
        code(409, &json!({"from_step": {"step": id, "input": [1]}})),
        "CB-1310",
        "Python would take it for the result"
    );
    assert_eq!(code(400, &json!({"from": "there"})), "CB-1001");
    let unknown = "/api/v1/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV/rerun";
    let problem = stage.server.post(unknown, &json!({})).expect(404).json();
    assert_eq!(problem["error"]["code"], "CB-1302");
}
