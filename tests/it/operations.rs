//! Operations on many runs: previewed, begun, waited for and stopped from the command line; and a kill in the middle.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::command::{callboard, stdout};
use crate::support::fake::{FakeApp, Reply};
use crate::support::sdk::Sdk::{self, Python, Ts4};
use crate::support::server::{Server, text};
use crate::support::stage::Stage;
use crate::support::{DEADLINE, unique, wait_for};

/// What the command line prints about operations.
fn operations(server: &Server, arguments: &[&str]) -> String {
    let url = server.url();
    stdout(&callboard(&[&["operations"], arguments, &["--url", &url]].concat()))
}

fn runs(server: &Server, query: &str) -> Vec<Value> {
    let page = server
        .get(&format!("/api/v1/runs?limit=100&{query}"))
        .expect(200)
        .json();
    page["runs"].as_array().expect("a list").clone()
}

#[rstest]
fn sleeping_runs_are_cancelled_by_filter(#[values(Ts4, Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let (mine, other) = (unique("batch"), unique("batch"));
    let begin = |batch: &str| stage.begin("test/sleep", &json!({"sleep_ms": 3_600_000, "batch": batch}));
    let ours: Vec<String> = (0..5).map(|_| begin(&mine)).collect();
    let theirs = begin(&other);
    for run in ours.iter().chain([&theirs]) {
        stage.server.wait_until_pending(run, "sleep");
    }
    let (slug, condition) = (stage.app.slug("sleep"), format!("event.data.batch == '{mine}'"));
    let filter = ["cancel", "--function", &slug, "--if", &condition];
    let preview = operations(&stage.server, &[&["preview"], &filter[..]].concat());
    assert_eq!(preview, "5 runs.\n");
    let told = operations(&stage.server, &[&["begin"], &filter[..], &["--wait"]].concat());
    assert!(
        told.ends_with(" finished: 5 of 5 done, 0 failed, 0 skipped\n"),
        "{told}"
    );
    for run in &ours {
        assert_eq!(stage.server.run(run)["status"], "cancelled");
    }
    assert_eq!(stage.server.run(&theirs)["status"], "running");
    let id = told.split_whitespace().next().expect("an id");
    let listed = operations(&stage.server, &["list"]);
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with(id) && line.contains("finished")),
        "{listed}"
    );
    let cancel = format!("/api/v1/runs/{theirs}/cancel");
    stage.server.post(&cancel, &json!({})).expect(200);
}

#[test]
fn what_failed_is_done_again_once_though_the_server_is_killed_in_between() {
    const RUNS: usize = 40;
    let mut server = Server::start();
    let is_repaired = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let repaired = std::sync::Arc::clone(&is_repaired);
    let app = FakeApp::with_function(&server, 0, move |_| {
        if repaired.load(std::sync::atomic::Ordering::SeqCst) {
            Reply::done(&json!("made it"))
        } else {
            Reply::error("not yet", true)
        }
    });
    let events: Vec<Value> = (0..RUNS).map(|_| app.event()).collect();
    server.send_all(&json!(events));
    wait_for("all to fail", DEADLINE, || {
        (runs(&server, "status=failed").len() == RUNS).then_some(())
    });
    is_repaired.store(true, std::sync::atomic::Ordering::SeqCst);
    let begun = operations(
        &server,
        &["begin", "retry-failed", "--from", "2020-01-01T00:00:00Z", "--rate", "8"],
    );
    let id = begun.split_whitespace().next().expect("an id").to_owned();
    for done in [1, RUNS / 2] {
        wait_for("some to be done again", DEADLINE, || {
            (runs(&server, "status=completed,queued,running").len() >= done).then_some(())
        });
        server.kill();
        server.restart();
    }
    let path = format!("/api/v1/operations/{id}");
    let ended = wait_for("the operation to end", DEADLINE, || {
        let operation = server.get(&path).expect(200).json();
        (operation["state"] != "running").then_some(operation)
    });
    assert_eq!(
        (
            &ended["state"],
            &ended["done"],
            &ended["skipped"],
            &ended["total"]["count"]
        ),
        (&json!("finished"), &json!(RUNS), &json!(0), &json!(RUNS)),
        "{ended:#}"
    );
    let again = wait_for("all to be done again", DEADLINE, || {
        let again = runs(&server, "status=completed");
        (again.len() >= RUNS).then_some(again)
    });
    let mut originals: Vec<String> = again.iter().map(|run| text(&run["original_id"])).collect();
    originals.sort();
    originals.dedup();
    assert_eq!((again.len(), originals.len()), (RUNS, RUNS), "each once");
    // All that failed has been done again since.
    let second = operations(&server, &["begin", "retry-failed", "--wait"]);
    assert!(second.contains("finished: 0 of 0 done"), "{second}");
}
