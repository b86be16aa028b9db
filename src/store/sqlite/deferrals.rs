//! What runs have put off until their end.

use callboard_actors::domain::{Deferral, DeferralStatus, RunId, StepId};
use callboard_actors::ports::StoreError;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::error::from_sqlx;
use super::jsonb::Rows;
use super::rows::{get, get_id, get_id_or_null, get_json_or_null, get_named};

pub(super) const OF_RUNS: &str =
    "SELECT run_id, id, name, function, status, reason, event_id, input, meta FROM deferrals
    WHERE run_id IN (SELECT value FROM jsonb_each(?1)) ORDER BY run_id, seq";

/// For people, who are not shown what functions will be given.
const OF_RUN: &str = "SELECT run_id, id, name, function, status, reason, event_id, NULL, NULL FROM deferrals
    WHERE run_id = ?1 ORDER BY seq";

/// What these runs have put off, in order.
pub(super) async fn of_runs(conn: &mut SqliteConnection, ids: &[RunId]) -> Result<Vec<(RunId, Deferral)>, StoreError> {
    let query = sqlx::query(OF_RUNS).bind(Rows::of_texts(ids).into_bytes());
    let rows = query.fetch_all(conn).await.map_err(from_sqlx)?;
    rows.iter().map(|row| Ok((get_id(row, 0)?, deferral(row)?))).collect()
}

/// What a run has put off, in order and without what the functions are to be given.
pub(super) async fn of_run(conn: &mut SqliteConnection, run: RunId) -> Result<Vec<Deferral>, StoreError> {
    let rows = sqlx::query(OF_RUN).bind(run.to_string()).fetch_all(conn).await;
    rows.map_err(from_sqlx)?.iter().map(deferral).collect()
}

fn deferral(row: &SqliteRow) -> Result<Deferral, StoreError> {
    Ok(Deferral {
        id: StepId::from(get::<&str>(row, 1)?),
        name: get(row, 2)?,
        function: get(row, 3)?,
        status: get_named(row, 4, DeferralStatus::parse)?,
        reason: get(row, 5)?,
        event: get_id_or_null(row, 6)?,
        input: get_json_or_null(row, 7)?,
        meta: get_json_or_null(row, 8)?,
    })
}
