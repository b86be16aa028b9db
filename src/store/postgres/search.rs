//! Searches; what they mean is said by [`callboard_actors::ports::Search`].

use callboard_actors::domain::{Event, EventId, RunId, Timestamp, limits};
use callboard_actors::ports::{EventSearch, Page, RunSearch, RunSummary, StoreError};
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::cells::{Id as _, text};
use super::error::from_sqlx;
use super::readers::{Readers, Statement};
use super::rows::{event, get_number, summary};
use super::run_list;
use crate::store::paging::{page, sql_limit};
use crate::store::search::{self, Dialect, EventParameters, RunParameters, by_names, event_statements};

const DIALECT: Dialect = Dialect {
    mark: '$',
    runs: "callboard.runs",
    has_status: "status = ANY ($3)",
    has_function: "($4::uuid[] IS NULL OR function_id = ANY ($4))",
};

/// With the parameters 1 to 6.
fn statement(sql: String, search: &RunSearch, parameters: &RunParameters) -> Statement {
    let functions = search.functions.as_ref();
    let functions: Option<Vec<Uuid>> = functions.map(|all| all.iter().map(|id| id.cell()).collect());
    sqlx::query(AssertSqlSafe(sql))
        .bind(parameters.low.cell())
        .bind(parameters.high.cell())
        .bind(parameters.statuses.clone())
        .bind(functions)
        .bind(parameters.from)
        .bind(parameters.until)
}

pub(super) async fn find_runs(readers: &Readers, search: &RunSearch) -> Result<Page<RunSummary>, StoreError> {
    if let Some(filter) = search::as_list(search) {
        return run_list::list(readers, &filter).await;
    }
    let parameters = RunParameters::of(search);
    let query = statement(search::find_runs(search, &DIALECT), search, &parameters)
        .bind(parameters.key)
        .bind(parameters.place.cell())
        .bind(sql_limit(search.limit.saturating_add(1)));
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    page(&rows, search.limit, summary)
}

/// The number that a statement answers.
async fn count(readers: &Readers, query: Statement) -> Result<u64, StoreError> {
    let row = readers.single(|session| Box::pin(session.optional(query))).await?;
    row.map_or(Ok(0), |row| get_number(&row, 0))
}

pub(super) async fn count_runs(readers: &Readers, search: &RunSearch) -> Result<u64, StoreError> {
    let sql = search::count_runs(search, &DIALECT);
    count(readers, statement(sql, search, &RunParameters::of(search))).await
}

event_statements! {
    from: "FROM callboard.events WHERE id > $1 AND id < $2 AND received_at >= $3 AND received_at < $4",
    visible: "($5 OR NOT starts_with(name, $6))",
    named: ["$7::text[] IS NOT NULL", "name = ($7::text[])[1]", "name = ANY ($7)"], limit: "$8"
}

/// With the parameters 1 to 7.
fn event_statement(sql: &'static str, search: &EventSearch, is_paged: bool) -> Statement {
    let parameters = EventParameters::of(search, is_paged);
    let query = sqlx::query(sql)
        .bind(parameters.above.cell())
        .bind(parameters.below.cell())
        .bind(parameters.from)
        .bind(parameters.until)
        .bind(search.internal)
        .bind(limits::INTERNAL_PREFIX);
    let names = search.names.iter().map(|name| text(name).into_owned());
    query.bind(names.collect::<Vec<_>>())
}

pub(super) async fn find_events(readers: &Readers, search: &EventSearch) -> Result<Page<Event>, StoreError> {
    let query = event_statement(by_names(&search.names, PAGES), search, true);
    let query = query.bind(sql_limit(search.limit.saturating_add(1)));
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    page(&rows, search.limit, event)
}

pub(super) async fn count_events(readers: &Readers, search: &EventSearch) -> Result<u64, StoreError> {
    count(readers, event_statement(by_names(&search.names, COUNTS), search, false)).await
}

/// Runs whose ids were derived from an event carry its time; the others have a row. The columns are those of a summary, and
/// behind them the event that was asked about.
pub(super) const RUNS_OF_EVENTS: &str = "WITH asked AS MATERIALIZED
        (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS asked (event_id, low, high))
    SELECT id, function_id, function_version, status, runs.event_id, event_ids, event_name,
        started_at, ended_at, output, original_id, batch_id, asked.event_id AS asked_id
    FROM asked JOIN callboard.runs
        ON runs.id >= asked.low AND runs.id < asked.high AND runs.event_id = asked.event_id
    UNION
    SELECT id, function_id, function_version, status, runs.event_id, event_ids, event_name,
        started_at, ended_at, output, original_id, batch_id, asked.event_id AS asked_id
    FROM asked JOIN callboard.run_events ON run_events.event_id = asked.event_id
        JOIN callboard.runs ON runs.id = run_events.run_id
    ORDER BY id";

pub(super) async fn runs_of_events(
    readers: &Readers,
    events: &[EventId],
) -> Result<Vec<(EventId, RunSummary)>, StoreError> {
    let first = |event: &EventId| RunId::first_at(event.at()).cell();
    let next = |event: &EventId| RunId::first_at(Timestamp::from_millis(event.at().as_millis() + 1)).cell();
    let query = sqlx::query(RUNS_OF_EVENTS)
        .bind(events.iter().map(|event| event.cell()).collect::<Vec<_>>())
        .bind(events.iter().map(first).collect::<Vec<_>>())
        .bind(events.iter().map(next).collect::<Vec<_>>());
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter()
        .map(|row| {
            let event: Uuid = row.try_get("asked_id").map_err(from_sqlx)?;
            Ok((EventId::from_cell(event), summary(row)?))
        })
        .collect()
}
