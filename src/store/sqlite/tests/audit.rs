//! What no commit can break is found too; looking needs no lock and takes no time that grows with the database.

use std::collections::BTreeMap;
use std::time::Duration;

use callboard_actors::domain::{Advance, Change, JobKey, Step, StepId, StepOp, StepState, Timestamp, Write};
use callboard_actors::ports::{Audit as _, AuditScope, Check, Finding, Store as _};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};
use tempfile::TempDir;

use super::super::audit::statement;
use super::super::{OpenError, SqliteInspector, SqliteStore};
use super::accepted;

fn scope() -> AuditScope {
    AuditScope {
        now: Timestamp::from_millis(1_750_000_000_000),
        overdue_after: Duration::from_secs(3_600),
        rows: 1_000,
    }
}

/// Everything in the directory but SQLite's index of its log, which readers share.
fn files(directory: &TempDir) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory.path()).expect("is there");
    let read = entries.map(|entry| {
        let entry = entry.expect("is there");
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, std::fs::read(entry.path()).expect("is a file"))
    });
    read.filter(|(name, _)| !name.ends_with("-shm")).collect()
}

#[tokio::test]
async fn what_only_sql_can_break_is_found() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    let (_, state, write) = accepted(1, "{}");
    let step = Step {
        id: StepId::from("a"),
        op: StepOp::Run,
        label: String::new(),
        race: false,
        started_at: state.created_at(),
        state: StepState::Done {
            memo: state.events[0].clone(),
            failed: false,
            position: 0,
            at: state.created_at(),
        },
    };
    let done = Write::Advance(Advance {
        run: state.id,
        expected: 0,
        changes: vec![Change::StepPut(step)],
    });
    store.commit(&[write, done]).await.expect("commits");
    assert_eq!(store.audit(&scope()).await.expect("reads"), []);
    let url = format!("sqlite://{}", directory.path().join("callboard.db").display());
    let mut conn = SqliteConnection::connect(&url).await.expect("opens");
    sqlx::raw_sql("UPDATE steps SET memo = NULL; INSERT INTO unrouted VALUES ('01JXWP3V00000000000000000A')")
        .execute(&mut conn)
        .await
        .expect("runs");
    let one = |check, sample: &str| Finding {
        check,
        count: 1,
        samples: vec![sample.to_owned()],
    };
    let expected = [
        one(Check::UnroutableEvent, "01JXWP3V00000000000000000A"),
        one(Check::LostResult, &format!("{} a", state.id)),
    ];
    assert_eq!(store.audit(&scope()).await.expect("reads"), expected);
}

#[tokio::test]
async fn an_inspector_looks_beside_a_server_and_writes_nothing() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    let (_, state, write) = accepted(1, "{}");
    store.commit(&[write]).await.expect("commits");
    let before = files(&directory);
    let inspector = SqliteInspector::open(directory.path()).await.expect("needs no lock");
    assert_eq!(inspector.audit(&scope()).await.expect("reads"), []);
    assert!(files(&directory) == before, "a file has changed");

    let lose = Write::Advance(Advance {
        run: state.id,
        expected: 0,
        changes: vec![Change::JobDone(JobKey::Start)],
    });
    store.commit(&[lose]).await.expect("commits beside it");
    let found = inspector.audit(&scope()).await.expect("reads");
    assert_eq!(found.len(), 1, "it sees what was committed last: {found:?}");

    // And when the server has gone.
    store.close().await.expect("closes");
    drop((store, inspector));
    let database = std::fs::read(directory.path().join("callboard.db")).expect("reads");
    let inspector = SqliteInspector::open(directory.path()).await.expect("opens");
    assert_eq!(inspector.audit(&scope()).await.expect("reads").len(), 1);
    drop(inspector);
    let after = std::fs::read(directory.path().join("callboard.db")).expect("reads");
    assert!(after == database, "the database has changed");
}

#[tokio::test]
async fn an_inspector_makes_nothing() {
    let directory = TempDir::new().expect("a temporary directory");
    let refused = SqliteInspector::open(directory.path()).await.expect_err("is empty");
    assert!(matches!(refused, OpenError::Directory { .. }), "{refused}");
    assert!(files(&directory).is_empty());
    let older = directory.path().join("callboard.db");
    let url = format!("sqlite://{}?mode=rwc", older.display());
    let mut conn = SqliteConnection::connect(&url).await.expect("opens");
    sqlx::raw_sql("CREATE TABLE x (y)")
        .execute(&mut conn)
        .await
        .expect("runs");
    let refused = SqliteInspector::open(directory.path()).await.expect_err("is older");
    assert!(matches!(refused, OpenError::Older { found: 0, .. }), "{refused}");
    sqlx::raw_sql("PRAGMA user_version = 9999")
        .execute(&mut conn)
        .await
        .expect("runs");
    let refused = SqliteInspector::open(directory.path()).await.expect_err("is newer");
    assert!(matches!(refused, OpenError::Newer { found: 9999, .. }), "{refused}");
}

#[tokio::test]
async fn checks_walk_through_bounded_rows_only() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    for check in Check::ALL {
        let query = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", statement(*check))));
        let rows = query.fetch_all(&store.readers).await.expect("is valid");
        let plan: Vec<String> = rows.iter().map(|row| row.get(3)).collect();
        // What is scanned from end to end is the select that has the limit, and what is scanned in it, in order.
        let scans: Vec<_> = plan.iter().filter(|step| step.starts_with("SCAN")).collect();
        assert!(scans.len() <= 2, "{}: {plan:#?}", check.code());
        assert!(statement(*check).contains("LIMIT ?1"), "{}", check.code());
        let sorts = plan.iter().filter(|step| step.contains("FOR ORDER BY"));
        assert_eq!(sorts.count(), 0, "{}: {plan:#?}", check.code());
    }
}
