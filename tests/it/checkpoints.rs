//! Steps that an app reports while its call goes on, with the newest TypeScript SDK, which does so unless it is told not to.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::installation::Installation;
use crate::support::sdk::{Sdk, SdkApp};
use crate::support::server::{EVENT_KEY, SIGNING_KEY, Server, text};
use crate::support::stage::Stage;

fn step<'a>(run: &'a Value, name: &str) -> &'a Value {
    let steps = run["steps"].as_array().expect("an array");
    let found = steps.iter().find(|step| step["name"] == name);
    found.unwrap_or_else(|| panic!("no step {name} in {run:#}"))
}

/// How often a step of a run was executed.
fn executions(app: &SdkApp, run: &str, step: &str) -> usize {
    app.log(&format!("run_id={run}&step={step}")).len()
}

/// What ten steps cost in calls of the app.
#[rstest]
#[case::reported("test/ten-steps", 1)]
#[case::not_reported("test/plain-steps", 11)]
fn ten_steps_are_one_call_or_eleven(#[case] event: &str, #[case] calls: usize) {
    let stage = Stage::shared(Sdk::Ts4);
    let run = stage.complete(event, &json!({}));
    assert_eq!(run["output"], json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    assert_eq!(stage.calls_of(&run), calls);
    let expected: Vec<_> = (0..10).map(|i| format!("step-{i}")).collect();
    assert_eq!(stage.steps_of(&run), expected);
    let ends: Vec<_> = expected
        .iter()
        .map(|name| text(&step(&run, name)["ended_at"]))
        .collect();
    assert!(ends.is_sorted(), "each at its own time: {ends:?}");
}

#[test]
fn a_step_shows_when_it_is_done_and_not_when_its_call_is() {
    let stage = Stage::shared(Sdk::Ts4);
    let run = stage.begin("test/gated", &json!({"gate": "its own time"}));
    stage.app.wait_for_log(&format!("run_id={run}&step=held"), 1);
    let view = stage.server.run(&run);
    assert_eq!(view["status"], "running");
    assert_eq!(step(&view, "before")["status"], "completed");
    stage.app.open("its own time");
    let view = stage.server.wait_for_status(&run, "completed");
    assert_eq!(stage.calls_of(&view), 1);
}

#[test]
fn steps_may_be_reported_several_at_a_time() {
    let stage = Stage::shared(Sdk::Ts4);
    let run = stage.complete("test/buffered-steps", &json!({}));
    assert_eq!((stage.calls_of(&run), stage.steps_of(&run).len()), (1, 5));
    assert_eq!(run["steps"].as_array().map(Vec::len), Some(5));
}

/// The call fails after a step was reported: the next attempt is the second one again.
#[test]
fn attempts_start_over_after_a_report() {
    let stage = Stage::shared(Sdk::Ts4);
    let run = stage.complete("test/second-fails", &json!({}));
    assert_eq!(run["output"], json!({"got": 1, "third": "third"}));
    let attempts = stage.app.log(&format!("run_id={}&step=second", text(&run["id"])));
    let attempts: Vec<_> = attempts.iter().map(|entry| entry["attempt"].clone()).collect();
    assert_eq!(attempts, [json!(0), json!(1)]);
    assert_eq!(stage.steps_of(&run), ["first", "second", "second", "third"]);
}

/// No step: one call however long it takes. A pause between two steps: one that runs the first and plans the second, one that
/// runs it, one for the end. A pause after the last step: one call.
#[rstest]
#[case::without_steps(0, 1)]
#[case::a_pause_after_the_last(1, 1)]
#[case::a_pause_between(2, 3)]
fn a_call_ends_when_it_has_gone_on_for_long(#[case] steps: usize, #[case] calls: usize) {
    let stage = Stage::shared(Sdk::Ts4);
    let run = stage.complete("test/max-runtime", &json!({"steps": steps, "pause_ms": 800}));
    assert_eq!(run["output"], "in the end");
    assert_eq!(stage.calls_of(&run), calls);
    assert_eq!(stage.steps_of(&run).len(), steps, "each once");
}

#[test]
fn steps_are_reported_again_after_parallel_ones() {
    let stage = Stage::shared(Sdk::Ts4);
    let run = stage.complete("test/after-parallel", &json!({}));
    let id = text(&run["id"]);
    for name in ["left", "right", "third", "fourth"] {
        assert_eq!(executions(&stage.app, &id, name), 1, "{name}");
    }
    // One that finds two steps, one for each, and one that runs all that follow.
    let calls = stage.app.calls(&format!("run_id={id}"));
    let told: Vec<_> = calls.iter().map(|call| &call["disable_immediate_execution"]).collect();
    assert_eq!(told.len(), 4, "{calls:#?}");
    assert_eq!(told[3], &json!(false));
}

/// A proxy gives a call up while the app works on: what that call reports is refused, and it ends.
#[test]
fn a_call_that_was_given_up_runs_no_further_step() {
    let stage = Stage::of_its_own(Sdk::Ts4);
    stage
        .app
        .control(&json!({"http": {"times": 1, "status": 504, "fn": "zombie", "abandoned": "proxy"}}));
    let run = stage.begin("test/zombie", &json!({"first": "first", "second": "second"}));
    stage.app.wait_for_log(&format!("run_id={run}&step=a"), 1);
    stage.app.open("proxy");
    // The next attempt has done the first step and is in the second.
    stage.app.wait_for_log(&format!("run_id={run}&step=b"), 1);
    stage.app.open("first");
    let abandoned = stage
        .app
        .wait_for_calls(&format!("run_id={run}&abandoned_status=400"), 1);
    assert_eq!(abandoned[0]["generation"], "1");
    stage.app.open("second");
    let view = stage.server.wait_for_status(&run, "completed");
    assert_eq!(view["output"], "alive");
    let counts = ["a", "b", "c", "d"].map(|name| executions(&stage.app, &run, name));
    assert_eq!(counts, [2, 1, 1, 1]);
}

#[test]
fn what_was_reported_survives_a_kill_and_is_not_done_again() {
    let mut stage = Stage::of_its_own(Sdk::Ts4);
    let run = stage.begin("test/zombie", &json!({"first": "open", "second": "second"}));
    stage.app.open("open");
    stage.app.wait_for_log(&format!("run_id={run}&step=b"), 1);
    stage.server.kill();
    stage.server.restart();
    stage.app.wait_for_log(&format!("run_id={run}&step=b"), 2);
    stage.app.open("second");
    let view = stage.server.wait_for_status(&run, "completed");
    // The call that the killed server had made works on, and is told to end.
    let counts = ["a", "b", "c", "d"].map(|name| executions(&stage.app, &run, name));
    assert_eq!((view["output"].clone(), counts), (json!("alive"), [1, 2, 1, 1]));
}

/// Jobs that an instance has in hand.
fn in_hand(server: &Server, name: &str) -> u64 {
    let nodes = server.get("/api/v1/nodes").expect(200).json();
    let nodes = nodes["nodes"].as_array().expect("an array").clone();
    let node = nodes
        .into_iter()
        .find(|node| node["name"] == name)
        .expect("it is there");
    node["jobs_in_flight"].as_u64().expect("a number")
}

#[test]
fn any_instance_takes_reports_and_who_takes_over_goes_on_from_them() {
    let mut installation = Installation::builder().instances(2).start();
    // Whoever makes the calls, the reports go to the instance that the app knows.
    let app = app_of(&installation[0]);
    let ten = json!({"name": "test/ten-steps"});
    for event in installation[1].send_all(&json!(vec![ten; 6])) {
        let run = installation[1].wait_for_start(&event);
        let run = installation[1].wait_for_status(&run, "completed");
        assert_eq!(app.calls(&format!("run_id={}", text(&run["id"]))).len(), 1);
        assert_eq!(run["steps"].as_array().map(Vec::len), Some(10));
    }
    app.open("open");
    let zombie = json!({"name": "test/zombie", "data": {"first": "open", "second": "second"}});
    let (mut events, mut lost) = (Vec::new(), 0);
    while lost == 0 {
        assert!(events.len() < 100, "the other instance does nothing");
        events.push(installation[1].send(&zombie));
        app.wait_for_log("fn=zombie&step=b", events.len());
        lost = in_hand(&installation[1], "node-1");
    }
    installation[1].kill();
    let lost = usize::try_from(lost).expect("few");
    app.wait_for_log("fn=zombie&step=b", events.len() + lost);
    app.open("second");
    let mut repeated = 0;
    for event in &events {
        let run = installation[0].wait_for_start(event);
        installation[0].wait_for_status(&run, "completed");
        let counts = ["a", "c", "d"].map(|name| executions(&app, &run, name));
        assert_eq!(counts, [1, 1, 1], "run {run}: what was reported is not done again");
        repeated += executions(&app, &run, "b") - 1;
    }
    assert_eq!(repeated, lost);
}

/// An app in production mode that knows this instance.
fn app_of(server: &Server) -> SdkApp {
    let app = SdkApp::builder(Sdk::Ts4, &server.url())
        .env("INNGEST_SIGNING_KEY", SIGNING_KEY)
        .env("INNGEST_EVENT_KEY", EVENT_KEY)
        .start();
    app.register();
    app
}
