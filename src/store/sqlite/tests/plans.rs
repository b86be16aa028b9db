//! The hot questions are answered from indexes: no table is read from end to end, and no page is sorted.

use rstest::rstest;
use sqlx::{AssertSqlSafe, Row as _};
use tempfile::TempDir;

use super::super::{
    SqliteStore, commit, crons, events, gatherings, jobs, operations, retention, run_list, run_slots, runs, search,
    waits,
};

/// The steps of a statement's plan.
async fn plan(store: &SqliteStore, sql: &str) -> Vec<String> {
    let query = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
    let rows = query.fetch_all(&store.readers).await.expect("is valid");
    rows.iter().map(|row| row.get(3)).collect()
}

#[rstest]
#[case(jobs::DUE, "jobs USING INDEX jobs_due ((due,run_id,key)>(?,?,?) AND due<?)")]
#[case(jobs::NEXT_DUE, "jobs USING COVERING INDEX jobs_due (due>?)")]
#[case(
    waits::FIND,
    "waits USING INDEX waits_lookup (name=? AND path=? AND lookup_key=? AND (run_id,key)>(?,?))"
)]
#[case(waits::PATHS, "waits USING COVERING INDEX waits_lookup (name=? AND path>?)")]
#[case(events::LIST_ALL, "events USING PRIMARY KEY (id>? AND id<?)")]
#[case(events::LIST_NAMED, "events USING INDEX events_by_name (name=? AND id>? AND id<?)")]
#[case(events::NAMED, "events USING INDEX events_by_name (name=? AND id>? AND id<?)")]
#[case(run_list::ALL, "runs USING PRIMARY KEY (id>? AND id<?)")]
#[case(run_list::OPEN, "runs USING INDEX runs_open (id>? AND id<?)")]
#[case(run_list::FAILED, "runs USING INDEX runs_failed (id>? AND id<?)")]
#[case(
    run_list::OF_FUNCTION,
    "runs USING INDEX runs_by_function (function_id=? AND id>? AND id<?)"
)]
#[case(run_list::OF_FUNCTIONS, "runs USING PRIMARY KEY (id>? AND id<?)")]
#[case(search::PAGES[0], "events USING PRIMARY KEY (id>? AND id<?)")]
#[case(search::PAGES[1], "events USING INDEX events_by_name (name=? AND id>? AND id<?)")]
#[case(search::COUNTS[0], "events USING PRIMARY KEY (id>? AND id<?)")]
#[case(search::COUNTS[1], "events USING INDEX events_by_name (name=? AND id>? AND id<?)")]
#[case(crons::MARKS_OF, "crons USING PRIMARY KEY (function_id=?)")]
#[case(crons::GAPS, "cron_gaps USING PRIMARY KEY (function_id=? AND last>?)")]
#[case(crons::TICKS, "runs USING PRIMARY KEY (id=?) LEFT-JOIN")]
#[case(crons::OLD[0], "cron_gaps USING INDEX cron_gaps_by_last (last<?)")]
#[case(crons::OLD[1], "crons USING INDEX crons_ended (ended_at<?)")]
#[case(operations::LIST, "operations USING PRIMARY KEY (id<?)")]
#[case(operations::NEWEST, "runs USING COVERING INDEX runs_by_original (original_id=?)")]
#[case(operations::COUNT_ALL, "runs USING PRIMARY KEY (id>? AND id<?)")]
#[case(operations::COUNT_OPEN, "runs USING INDEX runs_open (id>? AND id<?)")]
#[case(operations::COUNT_FAILED, "runs USING INDEX runs_failed (id>? AND id<?)")]
#[case(
    operations::COUNT_OF,
    "runs USING INDEX runs_by_function (function_id=? AND id>? AND id<?)"
)]
#[case(gatherings::DUE, "gatherings USING INDEX gatherings_due (due<?)")]
#[case(
    gatherings::OF_FUNCTION,
    "gatherings USING INDEX gatherings_by_function (function_id=? AND id>?)"
)]
#[case(gatherings::ONE, "gatherings USING PRIMARY KEY (id=?)")]
#[case(gatherings::OF_EVENT, "gatherings USING PRIMARY KEY (id=?)")]
#[case(
    gatherings::DELETE_KEYS,
    "gathered_ids USING COVERING INDEX gathered_ids_until (until<?)"
)]
#[case(
    run_slots::STANDING,
    "slot USING COVERING INDEX run_slots_by_bucket (bucket=? AND held=?)"
)]
#[case(run_slots::CLEAR, "run_slots USING INDEX run_slots_by_bucket (bucket=? AND held=?)")]
#[case(
    run_slots::CROWDED,
    "run_slots EXISTS USING COVERING INDEX run_slots_by_bucket (bucket=? AND held=?)"
)]
#[case(
    run_slots::PLACE,
    "other USING COVERING INDEX run_slots_by_bucket (bucket=? AND held=? AND rank<?)"
)]
#[case(runs::ORPHANS, "jobs USING PRIMARY KEY (run_id=?)")]
#[case(retention::OLD_RUNS, "runs USING PRIMARY KEY (id<?)")]
#[case(retention::OLD_RATES, "rate_limits USING COVERING INDEX rate_limits_next (next<?)")]
#[case(retention::OLD_EVENTS, "events USING PRIMARY KEY (id<?)")]
#[tokio::test]
async fn questions_are_answered_from_an_index(#[case] sql: &str, #[case] expected: &str) {
    let directory = TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    let plan = plan(&store, sql).await;
    assert!(plan.contains(&format!("SEARCH {expected}")), "{plan:#?}");
    assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:#?}");
}

#[tokio::test]
async fn the_runs_of_events_are_looked_up_event_by_event() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    let plan = plan(&store, search::RUNS_OF_EVENTS).await;
    for step in [
        "SEARCH runs USING PRIMARY KEY (id>? AND id<?)",
        "SEARCH run_events USING PRIMARY KEY (event_id=?)",
        "SEARCH runs USING PRIMARY KEY (id=?)",
    ] {
        assert!(plan.contains(&step.to_owned()), "{step}: {plan:#?}");
    }
}

#[tokio::test]
async fn a_commit_reads_no_table_from_end_to_end() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    let mut statements = 0;
    for (name, sql) in commit::statements() {
        statements += 1;
        let plan = plan(&store, sql).await;
        let scans = plan.iter().filter(|step| step.starts_with("SCAN"));
        let of_tables: Vec<_> = scans.filter(|step| !step.contains("VIRTUAL TABLE")).collect();
        assert!(of_tables.is_empty(), "{name}: {plan:#?}");
    }
    assert!(statements > 15, "all of them");
}
