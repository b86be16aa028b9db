//! Searches; what they mean is said by [`callboard_actors::ports::Search`].

use callboard_actors::domain::{Event, EventId, RunId, Timestamp, limits};
use callboard_actors::ports::{EventSearch, Page, RunSearch, RunSummary, StoreError};
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Row as _, Sqlite, SqlitePool, query::Query};

use super::error::{from_sqlx, unreadable};
use super::jsonb::Rows;
use super::rows::{event, get_number, summary};
use super::run_list;
use crate::store::paging::{page, sql_limit};
use crate::store::search::{self, Dialect, EventParameters, RunParameters, by_names, event_statements};

const DIALECT: Dialect = Dialect {
    mark: '?',
    runs: "runs",
    has_status: "status IN (SELECT value FROM jsonb_each(?3))",
    has_function: "(?4 IS NULL OR function_id IN (SELECT value FROM jsonb_each(?4)))",
};

type Statement = Query<'static, Sqlite, SqliteArguments>;

/// With the parameters 1 to 6.
fn statement(sql: String, search: &RunSearch, parameters: &RunParameters) -> Statement {
    let functions = search.functions.as_ref();
    sqlx::query(AssertSqlSafe(sql))
        .bind(parameters.low.to_string())
        .bind(parameters.high.to_string())
        .bind(Rows::of_texts(&parameters.statuses).into_bytes())
        .bind(functions.map(|functions| Rows::of_texts(functions).into_bytes()))
        .bind(parameters.from)
        .bind(parameters.until)
}

pub(super) async fn find_runs(readers: &SqlitePool, search: &RunSearch) -> Result<Page<RunSummary>, StoreError> {
    if let Some(filter) = search::as_list(search) {
        return run_list::list(readers, &filter).await;
    }
    let parameters = RunParameters::of(search);
    let query = statement(search::find_runs(search, &DIALECT), search, &parameters)
        .bind(parameters.key)
        .bind(parameters.place.to_string())
        .bind(sql_limit(search.limit.saturating_add(1)));
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    page(&rows, search.limit, summary)
}

pub(super) async fn count_runs(readers: &SqlitePool, search: &RunSearch) -> Result<u64, StoreError> {
    let sql = search::count_runs(search, &DIALECT);
    let query = statement(sql, search, &RunParameters::of(search));
    let row = query.fetch_one(readers).await.map_err(from_sqlx)?;
    get_number(&row, 0)
}

event_statements! {
    from: "FROM events WHERE id > ?1 AND id < ?2 AND received_at >= ?3 AND received_at < ?4",
    visible: "(?5 OR substr(name, 1, length(?6)) <> ?6)",
    named: ["?7 IS NOT NULL", "name = ?7", "name IN (SELECT value FROM jsonb_each(?7))"], limit: "?8"
}

/// With the parameters 1 to 7.
fn event_statement(sql: &'static str, search: &EventSearch, is_paged: bool) -> Statement {
    let parameters = EventParameters::of(search, is_paged);
    let query = sqlx::query(sql)
        .bind(parameters.above.to_string())
        .bind(parameters.below.to_string())
        .bind(parameters.from)
        .bind(parameters.until)
        .bind(search.internal)
        .bind(limits::INTERNAL_PREFIX);
    match &search.names[..] {
        [one] => query.bind(one.clone()),
        names => query.bind(Rows::of_texts(names).into_bytes()),
    }
}

pub(super) async fn find_events(readers: &SqlitePool, search: &EventSearch) -> Result<Page<Event>, StoreError> {
    let query = event_statement(by_names(&search.names, PAGES), search, true);
    let query = query.bind(sql_limit(search.limit.saturating_add(1)));
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    page(&rows, search.limit, event)
}

pub(super) async fn count_events(readers: &SqlitePool, search: &EventSearch) -> Result<u64, StoreError> {
    let query = event_statement(by_names(&search.names, COUNTS), search, false);
    let row = query.fetch_one(readers).await.map_err(from_sqlx)?;
    get_number(&row, 0)
}

/// Runs whose ids were derived from an event carry its time; the others have a row. The columns are those of a summary, and
/// behind them the event that was asked about.
pub(super) const RUNS_OF_EVENTS: &str = "WITH asked (event_id, low, high) AS MATERIALIZED
        (SELECT value ->> 0, value ->> 1, value ->> 2 FROM jsonb_each(?1))
    SELECT id, function_id, function_version, status, runs.event_id, event_ids, event_name, started_at,
        ended_at, output, original_id, batch_id, asked.event_id AS asked_id
    FROM asked CROSS JOIN runs ON runs.id >= asked.low AND runs.id < asked.high AND runs.event_id = asked.event_id
    UNION
    SELECT id, function_id, function_version, status, runs.event_id, event_ids, event_name, started_at,
        ended_at, output, original_id, batch_id, asked.event_id AS asked_id
    FROM asked CROSS JOIN run_events ON run_events.event_id = asked.event_id
        CROSS JOIN runs ON runs.id = run_events.run_id
    ORDER BY id";

pub(super) async fn runs_of_events(
    readers: &SqlitePool,
    events: &[EventId],
) -> Result<Vec<(EventId, RunSummary)>, StoreError> {
    let mut asked = Rows::new();
    for event in events {
        let next = Timestamp::from_millis(event.at().as_millis() + 1);
        let row = asked.row().shown(event);
        let _ = row.shown(RunId::first_at(event.at())).shown(RunId::first_at(next));
    }
    let query = sqlx::query(RUNS_OF_EVENTS).bind(asked.into_bytes());
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter()
        .map(|row| {
            let event: &str = row.try_get("asked_id").map_err(from_sqlx)?;
            let event = event.parse().map_err(|error| unreadable("an id", error))?;
            Ok((event, summary(row)?))
        })
        .collect()
}
