//! What an operator asks of one instance counts at the other, and goes on when that one dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{Pair, fake_app};
use crate::support::fake::Reply;
use crate::support::installation::Installation;
use crate::support::server::{Server, text};
use crate::support::{DEADLINE, wait_for};

fn set(server: &Server, slug: &str, wish: &str) {
    server
        .post(&format!("/api/v1/functions/{slug}/{wish}"), &json!({}))
        .expect(200);
}

#[test]
fn a_pause_counts_at_every_instance() {
    let pair = Pair::shared();
    let app = fake_app(pair.one(), |_| Reply::done(&json!("made it")));
    let witness = fake_app(pair.one(), |_| Reply::done(&json!("made it")));
    let slug = format!("{}-fn", app.id());
    // Held from before the pause until after it; the witness is due behind it.
    let later = |app: &crate::support::fake::FakeApp, millis: i64| {
        let mut event = app.event();
        event["ts"] = json!(chrono::Utc::now().timestamp_millis() + millis);
        pair.other().wait_for_start(&pair.other().send(&event))
    };
    let held = later(&app, 4_000);
    let behind = later(&witness, 4_500);
    let witnessed = witness.calls().len();
    let calls = app.calls().len();
    set(pair.one(), &slug, "pause");
    // The very next event at the other one.
    let event = pair.other().send(&app.event());
    assert_eq!(pair.other().wait_for_skip(&event, &slug)["reason"], "paused");
    pair.one().wait_for_status(&behind, "completed");
    assert_eq!(witness.calls().len(), witnessed + 1);
    assert_eq!(app.calls().len(), calls, "nobody called it");
    assert_eq!(pair.one().run(&held)["status"], "queued");
    set(pair.other(), &slug, "resume");
    let run = pair.one().wait_for_status(&held, "completed");
    assert_eq!(run["output"], "made it");
    assert_eq!(app.calls().len(), calls + 1);
}

#[test]
fn an_operation_goes_on_at_the_other_instance() {
    const RUNS: usize = 30;
    /// The longest that the turn of an instance that is gone is kept for it, and a little more.
    const TURN: Duration = Duration::from_secs(30);
    let mut installation = Installation::builder().start();
    let is_repaired = Arc::new(AtomicBool::new(false));
    let repaired = Arc::clone(&is_repaired);
    let app = super::FakeApp::with_function(&installation[0], 0, move |_| {
        if repaired.load(Ordering::SeqCst) {
            Reply::done(&json!("made it"))
        } else {
            Reply::error("not yet", true)
        }
    });
    let events: Vec<_> = (0..RUNS).map(|_| app.event()).collect();
    installation[0].send_all(&json!(events));
    let count = |server: &Server, status: &str| {
        let page = server
            .get(&format!("/api/v1/runs?limit=100&status={status}"))
            .expect(200)
            .json();
        page["runs"].as_array().map_or(0, Vec::len)
    };
    wait_for("all to fail", DEADLINE, || {
        (count(&installation[0], "failed") == RUNS).then_some(())
    });
    is_repaired.store(true, Ordering::SeqCst);
    let wish = json!({"kind": "retry_failed", "rate": 5});
    let begun = installation[0].post("/api/v1/operations", &wish).expect(201).json();
    wait_for("some to be done again", DEADLINE, || {
        (count(&installation[1], "completed") >= 3).then_some(())
    });
    installation[0].kill();
    let path = format!("/api/v1/operations/{}", text(&begun["id"]));
    let ended = wait_for("the operation to end", DEADLINE + TURN, || {
        let operation = installation[1].get(&path).expect(200).json();
        (operation["state"] != "running").then_some(operation)
    });
    assert_eq!(
        (&ended["done"], &ended["skipped"]),
        (&json!(RUNS), &json!(0)),
        "{ended:#}"
    );
    wait_for("all to be done again", DEADLINE, || {
        (count(&installation[1], "completed") >= RUNS).then_some(())
    });
    assert_eq!(count(&installation[1], "completed"), RUNS, "each once");
}
