//! What no commit can break is found too, by an inspector that changes nothing.

use std::time::Duration;

use callboard_actors::domain::{Advance, Change, EventId, JobKey, Step, StepId, StepOp, StepState, Timestamp, Write};
use callboard_actors::ports::{Audit as _, AuditScope, Check, Finding, Store as _};
use callboard_backends::postgres::Server;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::super::{OpenError, Options, PostgresInspector, PostgresStore};
use super::accepted;

fn scope() -> AuditScope {
    AuditScope {
        now: Timestamp::from_millis(1_750_000_000_000),
        overdue_after: Duration::from_secs(3_600),
        rows: 1_000,
    }
}

async fn sql(url: &str, script: &str) {
    let mut conn = PgConnection::connect(url).await.expect("connects");
    let done = sqlx::raw_sql(AssertSqlSafe(script.to_owned())).execute(&mut conn).await;
    done.expect("runs");
}

#[tokio::test]
async fn what_only_sql_can_break_is_found_beside_a_server() {
    let url = Server::shared().create_database().expect("makes a database");
    let options = Options::new(url.clone());
    let store = PostgresStore::open(&options).await.expect("opens");
    let (event, state, write) = accepted(1);
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
    let inspector = PostgresInspector::open(&options).await.expect("opens");
    assert_eq!(inspector.audit(&scope()).await.expect("reads"), []);

    let unknown = EventId::derive(event.received_at, "never sent");
    let script = format!(
        "UPDATE callboard.steps SET memo = NULL;
        INSERT INTO callboard.unrouted VALUES (callboard.from_ulid('{unknown}'))"
    );
    sql(&url, &script).await;
    let lose = Write::Advance(Advance {
        run: state.id,
        expected: 1,
        changes: vec![Change::JobDone(JobKey::Start)],
    });
    store.commit(&[lose]).await.expect("commits");
    let one = |check, sample: String| Finding {
        check,
        count: 1,
        samples: vec![sample],
    };
    let expected = [
        one(Check::UnroutableEvent, unknown.to_string()),
        one(Check::LostResult, format!("{} a", state.id)),
        one(Check::OrphanedRun, state.id.to_string()),
    ];
    assert_eq!(inspector.audit(&scope()).await.expect("reads"), expected);
    assert_eq!(store.audit(&scope()).await.expect("reads"), expected);
}

#[tokio::test]
async fn an_inspector_migrates_nothing() {
    let url = Server::shared().create_database().expect("makes a database");
    let options = Options::new(url.clone());
    let refused = PostgresInspector::open(&options).await.expect_err("is empty");
    assert!(matches!(refused, OpenError::Older { found: 0, .. }), "{refused}");
    sql(&url, "CREATE SCHEMA callboard").await;
    sql(
        &url,
        "CREATE TABLE callboard.schema_version AS SELECT 9999::bigint AS version",
    )
    .await;
    let refused = PostgresInspector::open(&options).await.expect_err("is newer");
    assert!(matches!(refused, OpenError::Newer { found: 9999, .. }), "{refused}");
}
