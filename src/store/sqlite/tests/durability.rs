//! What has been answered stays; what has not is whole or absent.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use callboard_actors::domain::Written;
use callboard_actors::ports::{Store as _, StoreError};
use futures_util::poll;
use tempfile::TempDir;

use super::super::SqliteStore;
use super::accepted;

/// Tells the child of the test below where to write.
const DIRECTORY: &str = "CALLBOARD_TEST_DIRECTORY";

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut child = Command::new(std::env::current_exe().expect("a test binary"))
        .args(["--exact", "--ignored", "--nocapture"])
        .arg(format!(
            "{}::writes_until_it_is_killed",
            module_path!().split_once("::").expect("a path").1
        ))
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
    let mut answered = 0;
    for line in lines.map_while(Result::ok) {
        if let Some(number) = line.strip_prefix("answered ") {
            answered = number.parse().expect("a number");
            if answered == 25 {
                child.kill().expect("is alive");
            }
        }
    }
    child.wait().expect("has ended");
    assert!(answered >= 25, "the child has not come that far: {answered}");

    let store = SqliteStore::open(directory.path())
        .await
        .expect("the lock went with the process");
    for number in 1..=answered {
        let (event, state, _) = accepted(number, "{}");
        assert_eq!(store.events_by_id(&[event.id]).await.expect("reads"), [event]);
        assert_eq!(store.load_run(state.id).await.expect("reads"), Some(state));
    }
    let counts = store.counts().await.expect("reads");
    assert_eq!(counts.open_runs, counts.jobs, "whole or absent");
}

#[tokio::test]
#[ignore = "the child of the test above, which kills it"]
async fn writes_until_it_is_killed() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("is set by the parent"));
    let store = SqliteStore::open(&directory).await.expect("opens");
    for number in 1.. {
        store.commit(&[accepted(number, "{}").2]).await.expect("commits");
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nanswered {number}").expect("the parent listens");
        out.flush().expect("the parent listens");
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_whole_batch_and_nothing_else() {
    let directory = TempDir::new().expect("a temporary directory");
    let limit = [("max_page_count", "200".to_owned())];
    let store = SqliteStore::open_with(directory.path(), &limit).await.expect("opens");
    let data = format!("{{\"x\":\"{}\"}}", "y".repeat(3_000));
    let mut fitted = 0;
    let failed = loop {
        let batch = [accepted(fitted + 1, &data).2, accepted(fitted + 2, &data).2];
        match store.commit(&batch).await {
            Ok(_) => fitted += 2,
            Err(error) => break error,
        }
        assert!(fitted < 1_000, "the limit does not work");
    };
    assert!(matches!(failed, StoreError::Full(_)), "{failed}");
    let counts = store.counts().await.expect("reads");
    assert_eq!(i64::try_from(counts.open_runs), Ok(fitted));
    let known = store
        .commit(&[accepted(1, "{}").2])
        .await
        .expect("this one needs no room");
    assert_eq!(known, [Written::Lost]);
    drop(store);

    let store = SqliteStore::open(directory.path()).await.expect("opens with more room");
    let batch = [accepted(fitted + 1, &data).2, accepted(fitted + 2, &data).2];
    assert_eq!(
        store.commit(&batch).await.expect("commits"),
        [Written::done(), Written::done()]
    );
}

#[tokio::test]
async fn a_commit_that_is_dropped_half_way_is_whole_or_absent() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    let mut absent = 0;
    for polls in 0..60 {
        let (dropped, state, write) = accepted(2 * polls, "{}");
        {
            let batch = [write];
            let mut commit = std::pin::pin!(store.commit(&batch));
            for _ in 0..polls {
                if poll!(&mut commit).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let (_, _, next) = accepted(2 * polls + 1, "{}");
        assert_eq!(
            store.commit(&[next]).await.expect("no transaction is in the way"),
            [Written::done()]
        );
        let event = store.events_by_id(&[dropped.id]).await.expect("reads");
        let run = store.load_run(state.id).await.expect("reads");
        assert_eq!(event.len(), usize::from(run.is_some()), "whole or absent");
        absent += usize::from(run.is_none());
    }
    assert!(absent > 0, "at least those that were never polled are absent");
}

#[tokio::test]
async fn a_reader_that_is_dropped_half_way_harms_nobody() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    let (_, state, write) = accepted(1, "{}");
    store.commit(&[write]).await.expect("commits");
    for polls in 0..30 {
        {
            let mut load = std::pin::pin!(store.load_run(state.id));
            for _ in 0..polls {
                if poll!(&mut load).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        assert!(store.load_run(state.id).await.expect("reads").is_some());
    }
}
