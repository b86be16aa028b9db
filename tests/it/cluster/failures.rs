//! An instance dies or stands still, Redis forgets, PostgreSQL goes away: with work in every state, and what becomes of it.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Pair, fake_app, sdk_app};
use crate::support::fake::{Call, Reply};
use crate::support::installation::{Installation, LEASE};
use crate::support::server::text;
use crate::support::{DEADLINE, wait_for};

/// How long work of an instance that is gone may rest once its leases have expired.
const HANDOVER: Duration = Duration::from_secs(2);
/// What a test on a busy machine is given beyond that.
const SLACK: Duration = Duration::from_secs(10);

#[test]
fn work_of_an_instance_that_is_killed_is_taken_over() {
    let mut installation = Installation::builder().instances(1).start();
    let app = sdk_app(&installation[0]);
    let gated: Vec<_> = (0..5)
        .map(|_| json!({"name": "test/gated", "data": {"gate": "gate"}}))
        .collect();
    let mut events = installation[0].send_all(&json!(gated));
    // All of it is in the hands of the first one before there is a second.
    app.wait_for_log("fn=gated&step=held", 5);
    events.push(installation[0].send(&json!({"name": "test/sleep", "data": {"sleep_ms": 1000}})));
    let asleep = installation[0].wait_for_start(&events[5]);
    installation[0].wait_until_pending(&asleep, "sleep");
    installation.add();
    installation[0].kill();
    let start = Instant::now();
    let moved = wait_for("the work to move", LEASE + HANDOVER + SLACK, || {
        (app.log("fn=gated&step=held").len() >= 10).then(|| start.elapsed())
    });
    println!("killed: its work moved after {moved:?}; leases last {LEASE:?}");
    app.open("gate");
    for event in &events {
        let run = installation[1].wait_for_start(event);
        installation[1].wait_for_status(&run, "completed");
        // What was recorded is not done again; what was under way is.
        assert_eq!(app.log(&format!("run_id={run}&step=before")).len(), 1);
        assert_eq!(app.log(&format!("run_id={run}&step=after")).len(), 1);
    }
}

#[test]
fn an_instance_that_stood_still_is_fenced() {
    let mut installation = Installation::builder().instances(1).start();
    let gate = Arc::new(Barrier::new(2));
    let late = Arc::clone(&gate);
    let app = fake_app(&installation[0], move |call: &Call| {
        match (call.has_step("one"), call.index) {
            (true, _) => Reply::done(&call.json()["steps"]),
            // The first call is answered when it is too late.
            (false, 0) => {
                late.wait();
                Reply::step("one", &json!("late"))
            }
            (false, _) => Reply::step("one", &json!("in time")),
        }
    });
    let event = installation[0].send(&app.event());
    let run = installation[0].wait_for_start(&event);
    app.wait_for_calls(1);
    installation.add();
    installation[0].process().signal("STOP");
    let view = installation[1].wait_for_status_within(&run, "completed", LEASE + HANDOVER + SLACK);
    assert_eq!(view["output"], json!({"one": {"data": "in time"}}));
    gate.wait();
    installation[0].process().signal("CONT");
    // It has heard of the late answer when it has nothing in hand any more.
    wait_for("the frozen one to have nothing in hand", DEADLINE, || {
        let status = installation[0].get("/api/v1/supervisor").expect(200).text();
        let nodes = installation.sql("SELECT jobs_in_flight FROM callboard.nodes WHERE name = 'node-0'");
        (nodes == "0" && !status.contains("\"in_flight\":1")).then_some(())
    });
    assert_eq!(installation[1].run(&run), view, "the late answer changed something");
    let lines = format!(
        "SELECT count(*) FILTER (WHERE kind = 'step.completed'), count(*) FILTER (WHERE kind = 'run.ended')
            FROM callboard.history WHERE run_id = callboard.from_ulid('{run}')"
    );
    assert_eq!(installation.sql(&lines), "1|1");
    // And it works again.
    let event = installation[0].send(&app.event());
    let run = installation[0].wait_for_start(&event);
    installation[0].wait_for_status(&run, "completed");
}

/// Runs asleep, waiting and in flight, while something happens to what they rest upon.
fn every_state_survives(happens: impl FnOnce(&mut Installation)) {
    let mut pair = Pair::start(Installation::builder().own_database());
    let begin = |name: &str, data: serde_json::Value, until: &str| {
        let event = pair.one().send(&json!({"name": name, "data": data}));
        let run = pair.one().wait_for_start(&event);
        if !until.is_empty() {
            pair.one().wait_until_pending(&run, until);
        }
        run
    };
    let asleep = begin("test/sleep", json!({"sleep_ms": 2500}), "sleep");
    let waiting = begin("test/wait-match", json!({"id": "a"}), "event");
    let in_flight = begin("test/gated", json!({"gate": "gate"}), "");
    let retrying = begin("test/step-fails", json!({}), "retry");
    pair.app.wait_for_log("fn=gated&step=held", 1);
    happens(&mut pair.installation);
    pair.app.open("gate");
    let answer = json!({"name": "test/wait-match.answer", "data": {"id": "a"}});
    pair.other().send(&answer);
    for (run, output) in [
        (&asleep, json!("slept")),
        (
            &waiting,
            json!({"timed_out": false, "name": "test/wait-match.answer", "data": {"id": "a"}}),
        ),
        (&in_flight, json!("passed")),
        (&retrying, json!({"got": "made it"})),
    ] {
        assert_eq!(pair.other().wait_for_status(run, "completed")["output"], output);
    }
    for step in ["before", "held", "after"] {
        let times = pair.app.log(&format!("run_id={in_flight}&step={step}"));
        assert_eq!(times.len(), 1, "{step} was repeated: {times:#?}");
    }
}

#[test]
fn redis_forgets_everything() {
    every_state_survives(|installation| installation.redis.flush().expect("Redis answers"));
}

#[test]
fn redis_dies_and_comes_back_empty() {
    every_state_survives(|installation| installation.redis.restart_empty().expect("Redis starts"));
}

#[test]
fn postgres_crashes_and_comes_back() {
    every_state_survives(|installation| {
        installation.postgres().restart().expect("PostgreSQL starts");
        for server in installation.iter_mut() {
            server.wait_until_up();
        }
    });
}

#[test]
fn without_a_database_events_are_refused_and_work_goes_on_by_itself_after() {
    let mut pair = Pair::start(Installation::builder().own_database());
    // One answers after each step, the other reports each while its call goes on.
    let runs = ["plain-gated", "gated"].map(|function| {
        let event = json!({"name": format!("test/{function}"), "data": {"gate": "gate"}});
        let event = pair.one().send(&event);
        let run = pair.one().wait_for_start(&event);
        pair.app.wait_for_log(&format!("fn={function}&step=held"), 1);
        run
    });
    pair.installation.postgres().stop_immediate().expect("PostgreSQL stops");
    for server in pair.installation.iter() {
        let refused = server.post(
            &format!("/e/{}", crate::support::server::EVENT_KEY),
            &json!({"name": "test/hello", "data": {}}),
        );
        assert_eq!(refused.status, 503, "{}", refused.text());
        let patience = refused
            .header("retry-after")
            .and_then(|seconds| seconds.parse::<u32>().ok());
        assert!(patience.is_some_and(|seconds| seconds >= 1), "{:?}", refused.headers);
        let health = server.get("/health/ready").expect(503).json();
        let failing = health["failing"].as_array().cloned().unwrap_or_default();
        assert!(failing.contains(&json!("database")), "{health}");
        server.get("/health").expect(200);
    }
    // The answer of the step comes while nothing can be written.
    pair.app.open("gate");
    // One for `before`, one for `held`.
    pair.app.wait_for_calls(&format!("run_id={}&status=206", runs[0]), 2);
    pair.installation.postgres().restart().expect("PostgreSQL starts");
    for run in &runs {
        wait_for("the run to go on", DEADLINE, || {
            let view = pair.other().get(&format!("/api/v1/runs/{run}"));
            (view.status == 200 && view.json()["status"] == "completed").then_some(())
        });
        for step in ["before", "held", "after"] {
            let times = pair.app.log(&format!("run_id={run}&step={step}"));
            assert_eq!(times.len(), 1, "{step} was repeated: {times:#?}");
        }
    }
    for server in pair.installation.iter_mut() {
        server.wait_until_up();
    }
    let after = pair.one().complete(&json!({"name": "test/hello", "data": {}}));
    assert_eq!(text(&after["status"]), "completed");
}
