//! What runs have put off until their end.

use callboard_actors::domain::{Deferral, DeferralStatus, RunId};
use callboard_actors::ports::StoreError;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::cells::Id as _;
use super::readers::Session;
use super::rows::{get_id, get_id_or_null, get_json_or_null, get_named, get_step_id, get_text, get_text_or_null};

pub(super) const OF_RUNS: &str = "SELECT run_id, id, name, function, status, reason, event_id, input, meta
    FROM callboard.deferrals WHERE run_id = ANY ($1) ORDER BY run_id, seq";

/// For people, who are not shown what functions will be given.
pub(super) const OF_RUN: &str = "SELECT run_id, id, name, function, status, reason, event_id, NULL::text, NULL::text
    FROM callboard.deferrals WHERE run_id = $1 ORDER BY seq";

/// What these runs have put off, in order.
pub(super) async fn of_runs(session: &mut Session, runs: Vec<Uuid>) -> Result<Vec<(RunId, Deferral)>, StoreError> {
    let rows = session.all(sqlx::query(OF_RUNS).bind(runs)).await?;
    rows.iter().map(|row| Ok((get_id(row, 0)?, deferral(row)?))).collect()
}

/// What a run has put off, in order and without what the functions are to be given.
pub(super) async fn of_run(session: &mut Session, run: RunId) -> Result<Vec<Deferral>, StoreError> {
    let rows = session.all(sqlx::query(OF_RUN).bind(run.cell())).await?;
    rows.iter().map(deferral).collect()
}

fn deferral(row: &PgRow) -> Result<Deferral, StoreError> {
    Ok(Deferral {
        id: get_step_id(row, 1)?,
        name: get_text(row, 2)?,
        function: get_text(row, 3)?,
        status: get_named(row, 4, DeferralStatus::parse)?,
        reason: get_text_or_null(row, 5)?,
        event: get_id_or_null(row, 6)?,
        input: get_json_or_null(row, 7)?,
        meta: get_json_or_null(row, 8)?,
    })
}
