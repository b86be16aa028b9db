//! Jobs that were given up: seen, retried and discarded from the command line; and the doctor, beside the server and alone.
//!
//! What an app can't bring about (a job that brings its executor down; a promise broken) is written into the server's
//! database while it is down, by the engine and the store themselves.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use callboard::store::sqlite::SqliteStore;
use callboard_actors::domain::{Advance, Change, Function, Job, JobKey, RunState, Timestamp, Write, Written};
use callboard_actors::engine::{self, Context, Input, Listeners, RetryPolicy};
use callboard_actors::ports::{Except, Store as _};
use serde_json::{Value, json};

use crate::support::fake::{FakeApp, Reply};
use crate::support::server::{Server, text};

fn callboard(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callboard"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CALLBOARD") || name.starts_with("INNGEST") {
            command.env_remove(name);
        }
    }
    command.args(arguments).output().expect("the built binary starts")
}

/// What a command prints that ends with this code.
#[track_caller]
fn printed(code: i32, arguments: &[&str]) -> String {
    let output = callboard(arguments);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8_lossy(if code == 0 || !output.stdout.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    })
    .into_owned()
}

#[derive(Debug)]
struct Deaf;

impl Listeners for Deaf {
    fn listens(&self, _: &str) -> bool {
        false
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("not that far off")
}

/// Changes each of these runs in the database of a server that is down.
fn change(directory: &Path, runs: &[String], changes: impl Fn(RunState, &Function, &Job) -> Vec<Change>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let store = SqliteStore::open(directory).await.expect("the server is down");
        let catalog = store.catalog().await.expect("reads");
        let far = Timestamp::from_millis(now()).after(Duration::from_secs(24 * 60 * 60));
        let jobs = store.jobs_due(far, None, Except::default(), 100).await.expect("reads");
        for run in runs {
            let id = run.parse().expect("a run's id");
            let state = store.load_run(id).await.expect("reads").expect("it is open");
            let mut functions = catalog.apps.iter().flat_map(|app| &app.functions);
            let function = functions.find(|function| function.id == state.function).expect("known");
            let job = jobs.iter().find(|job| job.id.run == id).expect("it has a job");
            let advance = Write::Advance(Advance {
                run: id,
                expected: state.version,
                changes: changes(state, function, job),
            });
            assert_eq!(store.commit(&[advance]).await.expect("commits"), [Written::done()]);
        }
        store.close().await.expect("closes");
    });
}

fn give_up(run: RunState, function: &Function, job: &Job) -> Vec<Change> {
    let context = Context {
        now: Timestamp::from_millis(now()),
        dice: 0.0,
        retry: RetryPolicy::default(),
        listeners: &Deaf,
    };
    let input = Input::Poisoned(Box::new(job.clone()), "the executor panicked 3 times".to_owned());
    engine::decide(run, function, &input, &context).1
}

fn letters(server: &Server) -> Vec<Value> {
    let page = server.get("/api/v1/dead-letters").expect(200).json();
    page["dead_letters"].as_array().expect("an array").clone()
}

#[test]
fn jobs_that_were_given_up_are_seen_retried_and_discarded() {
    let mut server = Server::start();
    let app = FakeApp::with_function(&server, 0, |_| Reply::done(&json!("made it")));
    // Due in an hour, so that there is somebody to give up.
    let later = |n: i64| {
        let mut event = app.event();
        event["ts"] = json!(now() + 3_600_000 + n);
        event
    };
    let runs: Vec<String> = (0..4).map(|n| server.wait_for_start(&server.send(&later(n)))).collect();
    assert!(server.terminate().success());
    change(&server.data_dir(), &runs, give_up);
    server.restart();

    let url = server.url();
    let directory = server.data_dir();
    let doctor = ["doctor", "--data-dir", directory.to_str().expect("a plain path")];
    assert!(
        printed(0, &doctor).contains("All is well."),
        "beside the server, with runs that are held"
    );
    let listed = printed(0, &["dead-letters", "list", "--url", &url]);
    for run in &runs {
        let line = listed.lines().find(|line| line.contains(run.as_str()));
        assert!(
            line.is_some_and(|line| line.contains("the executor panicked 3 times")),
            "{listed}"
        );
    }
    let held = server.wait_until_pending(&runs[0], "call");
    assert_eq!(held["waiting_for"][0]["owner"], "hold", "{held:#}");
    let letter_of = |run: &String| {
        let letters = letters(&server);
        let letter = letters.iter().find(|letter| letter["run_id"] == **run);
        text(&letter.expect("it is listed")["id"])
    };

    let first = letter_of(&runs[0]);
    let shown = printed(0, &["dead-letters", "show", &first, "--url", &url]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!((&shown["run"]["id"], &shown["job"]), (&json!(runs[0]), &json!("start")));
    let said = printed(0, &["dead-letters", "retry", &first, "--url", &url]);
    assert!(said.contains(&runs[0]), "{said}");
    assert_eq!(server.wait_for_status(&runs[0], "completed")["output"], "made it");
    let gone = printed(1, &["dead-letters", "retry", &first, "--url", &url]);
    assert!(gone.contains("CB-1305"), "{gone}");

    let second = letter_of(&runs[1]);
    printed(0, &["dead-letters", "discard", &second, "--url", &url]);
    let failed = server.wait_for_status(&runs[1], "failed");
    assert_eq!(failed["output"]["name"], "PoisonousJob", "{failed:#}");

    let said = printed(0, &["dead-letters", "retry", "--all", "--url", &url]);
    assert_eq!(said, "2 tried again.\n");
    for run in &runs[2..] {
        server.wait_for_status(run, "completed");
    }
    assert_eq!(letters(&server), [] as [Value; 0]);
    assert_eq!(app.calls().len(), 3);
}

#[test]
fn the_doctor_finds_what_is_broken() {
    let mut server = Server::start();
    let app = FakeApp::with_function(&server, 0, |_| Reply::done(&json!(1)));
    let mut event = app.event();
    event["ts"] = json!(now() + 3_600_000);
    let run = server.wait_for_start(&server.send(&event));
    assert!(server.terminate().success());
    let directory = server.data_dir();
    let path = directory.to_str().expect("a plain path");
    assert!(printed(0, &["doctor", "--data-dir", path]).contains("All is well."));
    change(&directory, std::slice::from_ref(&run), |_, _, _| {
        vec![Change::JobDone(JobKey::Start)]
    });

    let shown = printed(1, &["doctor", "--data-dir", path]);
    let line = shown
        .lines()
        .find(|line| line.starts_with("orphaned-run"))
        .expect("a line");
    assert!(line.contains(&run), "{shown}");
    let report: Value = serde_json::from_str(&printed(1, &["doctor", "--json", "--data-dir", path])).expect("JSON");
    assert_eq!(report["healthy"], false);
    let nowhere = tempfile::tempdir().expect("a directory can be made");
    let shown = printed(
        2,
        &["doctor", "--data-dir", nowhere.path().to_str().expect("a plain path")],
    );
    assert!(shown.contains("CB-3008") && shown.contains("no database"), "{shown}");
}
