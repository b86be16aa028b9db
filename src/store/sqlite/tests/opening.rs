//! Opening data directories, good and bad.

use std::fs;

use callboard_actors::ports::Store as _;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;

use super::super::{OpenError, SqliteStore};
use super::accepted;

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

#[tokio::test]
async fn makes_the_directory_and_finds_everything_again() {
    let directory = directory();
    let path = directory.path().join("a").join("b");
    let (event, state, write) = accepted(1, "{}");
    let store = SqliteStore::open(&path).await.expect("opens");
    store.commit(&[write]).await.expect("commits");
    store.close().await.expect("closes");
    drop(store);
    let store = SqliteStore::open(&path).await.expect("opens again");
    assert_eq!(store.events_by_id(&[event.id]).await.expect("reads"), [event]);
    assert_eq!(store.load_run(state.id).await.expect("reads"), Some(state));
}

#[tokio::test]
async fn refuses_a_directory_in_use_and_says_by_whom() {
    let directory = directory();
    let first = SqliteStore::open(directory.path()).await.expect("opens");
    let refused = SqliteStore::open(directory.path()).await.expect_err("is in use");
    let OpenError::InUse { path, pid } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(path, directory.path());
    assert_eq!(pid, &std::process::id().to_string());
    first.ping().await.expect("still works");
    drop(first);
    SqliteStore::open(directory.path()).await.expect("is free again");
}

#[tokio::test]
async fn leaves_a_newer_database_as_it_is() {
    let directory = directory();
    drop(SqliteStore::open(directory.path()).await.expect("opens"));
    let path = directory.path().join("callboard.db");
    let url = format!("sqlite://{}", path.display());
    let mut conn = SqliteConnection::connect(&url).await.expect("opens");
    sqlx::raw_sql("PRAGMA user_version = 9999; DROP TABLE steps; PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(&mut conn)
        .await
        .expect("runs");
    conn.close().await.expect("closes");
    let before = fs::read(&path).expect("reads");
    let refused = SqliteStore::open(directory.path()).await.expect_err("is newer");
    assert!(matches!(refused, OpenError::Newer { found: 9999, .. }), "{refused}");
    assert!(fs::read(&path).expect("reads") == before, "the file has changed");
}

#[tokio::test]
async fn says_when_a_database_is_none() {
    let directory = directory();
    fs::write(
        directory.path().join("callboard.db"),
        "not a database, by far ".repeat(500),
    )
    .expect("writes");
    let refused = SqliteStore::open(directory.path()).await.expect_err("is no database");
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
}

#[tokio::test]
async fn says_when_the_schema_is_damaged() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    store.close().await.expect("closes");
    drop(store);
    let path = directory.path().join("callboard.db");
    let mut bytes = fs::read(&path).expect("reads");
    // The first page holds the schema: its cells begin at its end.
    bytes[2_048..4_096].fill(0xff);
    fs::write(&path, bytes).expect("writes");
    let refused = SqliteStore::open(directory.path()).await.expect_err("is damaged");
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
}

#[tokio::test]
async fn says_when_the_directory_is_a_file() {
    let directory = directory();
    let path = directory.path().join("file");
    fs::write(&path, "x").expect("writes");
    let refused = SqliteStore::open(&path).await.expect_err("is no directory");
    assert!(matches!(refused, OpenError::Directory { .. }), "{refused}");
}
