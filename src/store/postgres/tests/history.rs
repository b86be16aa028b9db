//! The history in its partitions: made ahead of time, dropped when their time has come.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use callboard_actors::domain::{Change, HistoryEntry, HistoryKind, Json, RunId, RunStatus, Timestamp};
use callboard_actors::ports::{Expiry, Store as _};
use callboard_backends::postgres::Server;

use super::super::PostgresStore;
use super::{accepted_at, advance, options};

const MONTH: Duration = Duration::from_secs(31 * 24 * 60 * 60);

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp::from_millis(i64::try_from(since.as_millis()).expect("fits"))
}

/// A run that has ended with this status, with one line of history.
async fn ended_run(store: &PostgresStore, at: Timestamp, number: i64, status: Option<RunStatus>) -> RunId {
    let (_, state, write) = accepted_at(at, number);
    store.commit(&[write]).await.expect("commits");
    let mut changes = vec![Change::Noted(HistoryEntry {
        at,
        kind: HistoryKind::RunStarted,
        step: None,
        attempt: 0,
        detail: None,
    })];
    changes.extend(status.map(|status| Change::Ended {
        status,
        output: Json::null(),
        at,
    }));
    store.commit(&[advance(state.id, 0, changes)]).await.expect("commits");
    state.id
}

async fn lines(store: &PostgresStore, run: RunId) -> Option<usize> {
    let view = store.run_view(run).await.expect("reads");
    view.map(|view| view.history.len())
}

#[tokio::test]
async fn a_month_is_dropped_when_its_runs_are_gone() {
    let options = options();
    let database = options.exposed_url().rsplit('/').next().expect("a name").to_owned();
    let sql = |sql: &str| Server::shared().sql(&database, sql).expect("runs");
    let store = PostgresStore::open(&options).await.expect("opens");
    let partitions = || sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'callboard.history'::regclass");
    assert_eq!(partitions(), "4", "this month, two ahead, and the rest");

    let at = now();
    let gone = ended_run(&store, at, 1, Some(RunStatus::Completed)).await;
    let failed = ended_run(&store, at, 2, Some(RunStatus::Failed)).await;
    let open = ended_run(&store, at, 3, None).await;
    let odd = ended_run(&store, Timestamp::from_millis(1_000), 4, Some(RunStatus::Completed)).await;
    let in_default = || sql("SELECT count(*) FROM callboard.history_default");
    assert_eq!(in_default(), "1", "only that of an odd time");
    for run in [gone, failed, open, odd] {
        assert_eq!(lines(&store, run).await, Some(1));
    }

    // As if it were two months later: this month has expired for runs that completed.
    let expiry = Expiry {
        finished_runs: at.after(MONTH).after(MONTH),
        failed_runs: at.before(MONTH),
        events: at.before(MONTH),
        rates: at.before(MONTH),
    };
    store.purge(&expiry, 100).await.expect("purges");
    assert_eq!(lines(&store, gone).await, None);
    assert_eq!(lines(&store, odd).await, None);
    assert_eq!(lines(&store, failed).await, Some(1), "it outlives its month");
    assert_eq!(lines(&store, open).await, Some(1));
    assert_eq!(in_default(), "2", "those two");

    // Rows that the default partition holds do not keep a month from being made.
    sql("SELECT callboard.make_history_partitions(2)");
    assert_eq!(partitions(), "4");
    assert_eq!(in_default(), "0", "they are back in their month");
    assert_eq!(lines(&store, failed).await, Some(1));
    assert_eq!(lines(&store, open).await, Some(1));
}

#[tokio::test]
async fn ids_are_shown_as_people_know_them() {
    let (_, state, _) = accepted_at(now(), 1);
    let options = options();
    let database = options.exposed_url().rsplit('/').next().expect("a name").to_owned();
    drop(PostgresStore::open(&options).await.expect("opens"));
    let sql = format!("SELECT callboard.ulid(callboard.from_ulid('{}'))", state.id);
    assert_eq!(
        Server::shared().sql(&database, &sql).expect("runs"),
        state.id.to_string()
    );
}
