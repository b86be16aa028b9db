//! Steps, one after the other and side by side.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::sdk::Sdk::{self, Python, Ts3, Ts4};
use crate::support::server::text;
use crate::support::stage::Stage;

fn sorted(mut steps: Vec<String>) -> Vec<String> {
    steps.sort();
    steps
}

/// Milliseconds between two times of a run's document.
fn millis(from: &Value, to: &Value) -> i64 {
    let at = |value: &Value| chrono::DateTime::parse_from_rfc3339(value.as_str().expect("a time")).expect("RFC 3339");
    (at(to) - at(from)).num_milliseconds()
}

fn step<'a>(run: &'a Value, name: &str) -> &'a Value {
    let steps = run["steps"].as_array().expect("an array");
    let found = steps.iter().find(|step| step["name"] == name);
    found.unwrap_or_else(|| panic!("no step {name} in {run:#}"))
}

#[rstest]
fn a_function_without_steps(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/hello", &json!({"name": "Ada"}));
    assert_eq!(run["output"], json!({"hello": "Ada"}));
    assert_eq!(run["function"]["slug"], stage.app.slug("hello"));
    assert_eq!(run["steps"], json!([]));
    assert_eq!(stage.calls_of(&run), 1);
}

#[rstest]
fn one_step(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/one-step", &json!({}));
    assert_eq!(run["output"], json!({"only": 1}));
    assert_eq!(stage.steps_of(&run), ["only"]);
    assert_eq!(step(&run, "only")["status"], "completed");
    assert_eq!(step(&run, "only")["output"], json!({"data": 1}));
}

#[rstest]
fn ten_steps_run_once_each_and_in_order(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/ten-steps", &json!({}));
    assert_eq!(run["output"], json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    let expected: Vec<_> = (0..10).map(|i| format!("step-{i}")).collect();
    assert_eq!(stage.steps_of(&run), expected);
    let names: Vec<_> = run["steps"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|step| &step["name"])
        .collect();
    assert_eq!(names, expected.iter().collect::<Vec<_>>());
}

#[rstest]
fn one_id_in_a_loop_is_three_steps(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/loop", &json!({}));
    assert_eq!(run["output"], json!([0, 1, 2]));
    assert_eq!(stage.steps_of(&run), ["again", "again", "again"]);
}

#[rstest]
fn a_sleep_ends_when_it_is_due_and_not_before(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.begin("test/sleep", &json!({"sleep_ms": 1000}));
    let asleep = stage.server.wait_until_pending(&run, "sleep");
    assert_eq!(asleep["status"], "running");
    let run = stage.server.wait_for_status(&run, "completed");
    assert_eq!(run["output"], "slept");
    assert_eq!(stage.steps_of(&run), ["before", "after"]);
    assert_eq!(step(&run, "nap")["output"], Value::Null);
    // By the app's clock: the Python SDK says until when, a moment before the server hears of it.
    let at = |step: &str| {
        let entries = stage.app.log(&format!("run_id={}&step={step}", text(&run["id"])));
        entries[0]["at_ms"].as_i64().expect("a number")
    };
    let slept = at("after") - at("before");
    assert!(slept >= 1000, "woken after {slept} ms");
}

#[rstest]
fn a_sleep_until_a_time(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/sleep-until", &json!({"sleep_ms": 700}));
    assert_eq!(stage.steps_of(&run), ["compute", "after"]);
    // Protocol times are whole milliseconds.
    let early = millis(&step(&run, "nap")["ended_at"], &run["output"]["until"]);
    assert!(early <= 0, "woken {early} ms early");
}

/// The newer protocol: one call that finds three steps, one for each, one that runs the join, one for the end, which are
/// one where steps are reported while their call goes on. The classic one asks again after each of the three, and lets the join be planned as well.
#[rstest]
#[case::ts4(Ts4, 5)]
#[case::ts3(Ts3, 9)]
#[case::python(Python, 6)]
fn parallel_steps_are_joined(#[case] sdk: Sdk, #[case] calls: usize) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/parallel", &json!({}));
    assert_eq!(run["output"], json!({"joined": "slow+middle+fast"}));
    assert_eq!(sorted(stage.steps_of(&run)), ["fast", "join", "middle", "slow"]);
    assert_eq!(stage.calls_of(&run), calls);
}

#[rstest]
fn branches_of_several_steps(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/parallel-branches", &json!({}));
    assert_eq!(run["output"], json!(["a1,a2", "b"]));
    assert_eq!(sorted(stage.steps_of(&run)), ["a1", "a2", "b"]);
}

#[rstest]
fn a_group_of_a_step_a_sleep_and_a_failure(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/parallel-mixed", &json!({}));
    let expected = json!({"good": "good", "bad": "caught parallel-mixed/bad fails on purpose"});
    assert_eq!(run["output"], expected);
    assert_eq!(sorted(stage.steps_of(&run)), ["bad", "good"]);
    assert_eq!(step(&run, "bad")["status"], "failed");
}

#[rstest]
fn a_race_is_won_before_the_slow_one_ends(#[values(Ts4)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/race", &json!({}));
    assert_eq!(run["output"], json!({"winner": "fast", "after": "fast"}));
    let (slow, after) = (step(&run, "slow"), step(&run, "after"));
    let is_earlier = slow["ended_at"].is_null() || millis(&after["ended_at"], &slow["ended_at"]) > 0;
    assert!(is_earlier, "the winner had to wait for the slow one: {run:#}");
}

#[test]
fn branches_in_race_mode_go_on_each_for_itself() {
    let stage = Stage::shared(Python);
    let run = stage.complete("test/race", &json!({}));
    assert_eq!(run["output"], json!({"got": ["slow", "fast"]}));
    let order = stage.steps_of(&run);
    let place = |name: &str| order.iter().position(|step| step == name).expect("it ran");
    assert_eq!(order.len(), 4, "{order:?}");
    assert!(place("fast-after") < place("slow-after"), "{order:?}");
    assert!(
        millis(&step(&run, "fast-after")["ended_at"], &step(&run, "slow")["ended_at"]) > 0,
        "the fast branch waited for the slow one: {run:#}"
    );
}

#[rstest]
fn a_hundred_steps_at_once_run_once_each(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/fan-out", &json!({"n": 100}));
    assert_eq!(run["output"], json!({"sum": 4950}));
    let mut expected: Vec<_> = (0..100).map(|i| format!("part-{i}")).collect();
    expected.sort();
    assert_eq!(sorted(stage.steps_of(&run)), expected);
    assert_eq!(run["steps"].as_array().map(Vec::len), Some(100));
}

#[rstest]
fn two_hundred_steps_in_a_row(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage.complete("test/many-steps", &json!({"n": 200}));
    assert_eq!(run["output"], json!({"last": 199}));
    let expected: Vec<_> = (0..200).map(|i| format!("step-{i}")).collect();
    assert_eq!(stage.steps_of(&run), expected);
}

#[rstest]
fn many_runs_at_once_each_do_their_own(#[values(Ts4, Ts3, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let events: Vec<_> = (0..50)
        .map(|n| json!({"name": "test/hello", "data": {"name": format!("n{n}")}}))
        .collect();
    let ids = stage.server.send_all(&json!(events));
    for (n, id) in ids.iter().enumerate() {
        let run = stage.server.wait_for_start(id);
        let run = stage.server.wait_for_status(&run, "completed");
        assert_eq!(run["output"], json!({"hello": format!("n{n}")}));
    }
}
