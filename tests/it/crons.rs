//! Crons over a downtime: made up for at the next start, and told of.
//!
//! A schedule's unit is a minute, too long to wait for; that the server was away for ten of them is written into its
//! database while it is down.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use callboard::store::sqlite::SqliteStore;
use callboard_actors::domain::Timestamp;
use callboard_actors::ports::{CronMark, SlotBook as _, Store as _};
use serde_json::{Value, json};

use crate::support::command::{callboard, stdout};
use crate::support::fake::{FakeApp, Reply};
use crate::support::server::Server;
use crate::support::{DEADLINE, wait_for};

const MINUTE: Duration = Duration::from_secs(60);

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp::MIN.after(since)
}

/// Has the server, which is down, have been down since then.
fn down_since(directory: &Path, slug: &str, since: Timestamp) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let store = SqliteStore::open(directory).await.expect("the server is down");
        let catalog = store.catalog().await.expect("reads");
        let mut functions = catalog.apps.iter().flat_map(|app| &app.functions);
        let function = functions
            .find(|function| *function.slug == *slug)
            .expect("is registered");
        let mark = CronMark {
            function: function.id,
            schedule: "* * * * *".to_owned(),
            since,
            through: since,
            ended: None,
        };
        store.note_crons(&[mark], &[]).await.expect("writes");
        store.close().await.expect("closes");
    });
}

fn slots(server: &Server, slug: &str) -> Value {
    let path = format!("/api/v1/functions/{slug}/slots?limit=100");
    server.get(&path).expect(200).json()
}

#[test]
fn the_newest_slot_makes_up_for_a_downtime() {
    let mut server = Server::start();
    let app = FakeApp::start(|_| Reply::done(&json!("done")));
    let mut function = app.function("nightly", "unused", 0);
    function["triggers"] = json!([{ "cron": "* * * * *" }]);
    app.register(&server, &[function]);
    let slug = format!("{}-nightly", app.id());
    let page = slots(&server, &slug);
    assert_eq!(page["upcoming"].as_array().map(Vec::len), Some(10), "{page:#}");
    assert!(server.terminate().success());
    let since = now().before(10 * MINUTE);
    down_since(&server.data_dir(), &slug, since);
    let before = app.calls().len();
    server.restart();

    // At once, and not when the next minute begins: its run has begun by the time the test would time out.
    app.wait_for_calls(before + 1);
    let page = wait_for("the newest slot has run", DEADLINE, || {
        let page = slots(&server, &slug);
        let newest = page["slots"]
            .as_array()?
            .iter()
            .find(|slot| slot["run_status"] == "completed");
        newest.is_some().then_some(page)
    });
    let past = page["slots"].as_array().expect("a list");
    let ran = |slot: &&Value| slot["run_id"].is_string();
    let first = past.iter().rfind(|slot| ran(slot)).expect("one has run");
    let run = first["run_id"].as_str().expect("an id");
    let shown = server.get(&format!("/api/v1/runs/{run}")).expect(200).json();
    assert_eq!(shown["event_name"], "inngest/scheduled.timer");
    let superseded = past.iter().filter(|slot| slot["reason"] == "superseded").count();
    assert!((8..=10).contains(&superseded), "{page:#}");
    assert_eq!(past.len(), superseded + past.iter().filter(ran).count(), "{page:#}");
    assert!(
        past[past.len() - superseded..]
            .iter()
            .all(|slot| slot["status"] == "skipped"),
        "{page:#}"
    );

    let printed = stdout(&callboard(&["slots", &slug, "--url", &server.url()]));
    let of = |what: &str| printed.lines().filter(|line| line.contains(what)).count();
    assert_eq!((of("to come"), of("superseded")), (10, superseded), "{printed}");
    assert!(of(run) == 1 && of("completed") >= 1, "{printed}");

    // Again, without a word of what has been dealt with: nothing is done twice.
    assert!(server.terminate().success());
    down_since(&server.data_dir(), &slug, since);
    server.restart();
    wait_for("the past is looked at again", DEADLINE, || {
        let metrics = server.get("/metrics").expect(200).text();
        let ticks = metrics
            .lines()
            .find_map(|line| line.strip_prefix("callboard_cron_ticks_total "))?;
        (ticks != "0").then_some(())
    });
    let again = slots(&server, &slug);
    let again = again["slots"].as_array().expect("a list");
    let same = again.iter().find(|slot| slot["scheduled_at"] == first["scheduled_at"]);
    assert_eq!(same.map(|slot| &slot["run_id"]), Some(&json!(run)));
    // A minute may have begun meanwhile, and its slot has a run of its own; but that is all.
    let runs = server
        .get(&format!("/api/v1/runs?limit=100&function={slug}"))
        .expect(200)
        .json();
    let runs = runs["runs"].as_array().expect("a list").len();
    assert!(runs == again.iter().filter(ran).count() && runs <= 3, "{again:#?}");
}
