//! Reading columns, and the rows that more than one family of questions reads.

use std::fmt::Display;
use std::str::FromStr;

use callboard_actors::domain::{
    Event, EventId, Gates, Job, JobId, Json, Lookup, Priority, RuleId, RunStatus, Step, StepId, StepOp, StepState,
    Timestamp, Wait, WaitKind,
};
use callboard_actors::ports::{RunSummary, StoreError};
use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Row as _, Type};
use uuid::Uuid;

use super::cells::{Id, plain};
use super::error::{from_sqlx, unreadable};

/// A column as the driver reads it.
pub(super) fn get<'r, T>(row: &'r PgRow, column: usize) -> Result<T, StoreError>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get(column).map_err(from_sqlx)
}

/// A text.
pub(super) fn get_text(row: &PgRow, column: usize) -> Result<String, StoreError> {
    Ok(plain(get(row, column)?).into_owned())
}

pub(super) fn get_text_or_null(row: &PgRow, column: usize) -> Result<Option<String>, StoreError> {
    Ok(get::<Option<&str>>(row, column)?.map(|text| plain(text).into_owned()))
}

/// A column whose text stands for something.
pub(super) fn get_key<T>(row: &PgRow, column: usize) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: Display,
{
    plain(get(row, column)?)
        .parse()
        .map_err(|error| unreadable("a key", error))
}

pub(super) fn get_step_id(row: &PgRow, column: usize) -> Result<StepId, StoreError> {
    Ok(StepId::from(&*plain(get(row, column)?)))
}

/// An identifier.
pub(super) fn get_id<T: Id>(row: &PgRow, column: usize) -> Result<T, StoreError> {
    Ok(T::from_cell(get::<Uuid>(row, column)?))
}

pub(super) fn get_id_or_null<T: Id>(row: &PgRow, column: usize) -> Result<Option<T>, StoreError> {
    Ok(get::<Option<Uuid>>(row, column)?.map(T::from_cell))
}

/// A number that no column type holds exactly, from a `bigint`.
pub(super) fn get_number<T: TryFrom<i64>>(row: &PgRow, column: usize) -> Result<T, StoreError>
where
    T::Error: Display,
{
    let number: i64 = get(row, column)?;
    T::try_from(number).map_err(|error| unreadable("a number", error))
}

pub(super) fn get_time(row: &PgRow, column: usize) -> Result<Timestamp, StoreError> {
    get(row, column).map(Timestamp::from_millis)
}

pub(super) fn get_time_or_null(row: &PgRow, column: usize) -> Result<Option<Timestamp>, StoreError> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_millis))
}

/// JSON that was canonical when it was written.
pub(super) fn get_json(row: &PgRow, column: usize) -> Result<Json, StoreError> {
    get::<&str>(row, column).map(Json::from_canonical)
}

pub(super) fn get_json_or_null(row: &PgRow, column: usize) -> Result<Option<Json>, StoreError> {
    Ok(get::<Option<&str>>(row, column)?.map(Json::from_canonical))
}

/// A name that one of the domain's `parse` functions knows.
pub(super) fn get_named<T>(row: &PgRow, column: usize, parse: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
    let text: &str = get(row, column)?;
    parse(text).ok_or_else(|| StoreError::Corrupt(format!("the name `{text}` is unknown")))
}

/// From the columns id, external_id, has_own_id, name, ts, received_at, body.
pub(super) fn event(row: &PgRow) -> Result<Event, StoreError> {
    Ok(Event {
        id: get_id(row, 0)?,
        external_id: get_text(row, 1)?,
        has_own_id: get(row, 2)?,
        name: get_text(row, 3)?,
        ts: get_time(row, 4)?,
        received_at: get_time(row, 5)?,
        body: get_json(row, 6)?,
    })
}

/// From the columns id, function_id, function_version, status, event_id, event_ids, event_name, started_at, ended_at, output,
/// original_id, batch_id.
pub(super) fn summary(row: &PgRow) -> Result<RunSummary, StoreError> {
    Ok(RunSummary {
        id: get_id(row, 0)?,
        function: get_id(row, 1)?,
        function_version: get_number(row, 2)?,
        status: get_named(row, 3, RunStatus::parse)?,
        event_ids: event_ids(row, 4)?,
        event_name: get_text(row, 6)?,
        started_at: get_time_or_null(row, 7)?,
        ended_at: get_time_or_null(row, 8)?,
        output: get_json_or_null(row, 9)?,
        original: get_id_or_null(row, 10)?,
        batch: get_id_or_null(row, 11)?,
    })
}

/// The events that started a run, from the columns `event_id` and `event_ids`.
pub(super) fn event_ids(row: &PgRow, column: usize) -> Result<Vec<EventId>, StoreError> {
    Ok(match get::<Option<Vec<Uuid>>>(row, column + 1)? {
        Some(all) => all.into_iter().map(EventId::from_cell).collect(),
        None => vec![get_id(row, column)?],
    })
}

/// From the columns run_id, key, function_id, attempt, due, priority, payload.
pub(super) fn job(row: &PgRow) -> Result<Job, StoreError> {
    Ok(Job {
        id: JobId {
            run: get_id(row, 0)?,
            key: get_key(row, 1)?,
        },
        function: get_id(row, 2)?,
        attempt: get_number(row, 3)?,
        due: get_time(row, 4)?,
        priority: Priority::from_seconds(get(row, 5)?),
        payload: get_json_or_null(row, 6)?,
        gates: Gates::NONE,
    })
}

/// With those of its run's gates that the job has to pass.
pub(super) fn gated(mut job: Job, run: Option<String>) -> Result<Job, StoreError> {
    if let Some(run) = run {
        job.gates = gates(&run)?.of_job(&job.id.key, job.attempt);
    }
    Ok(job)
}

/// Which rule of a function.
pub(super) fn get_rule(row: &PgRow, column: usize) -> Result<RuleId, StoreError> {
    let text: &str = get(row, column)?;
    text.parse().map_err(|error| unreadable("a rule", error))
}

/// A run's gates, from their text.
pub(super) fn gates(text: &str) -> Result<Gates, StoreError> {
    Gates::parse(text).ok_or_else(|| StoreError::Corrupt(format!("`{text}` are no gates")))
}

/// From the columns run_id, key, function_id, kind, name, path, lookup_key, condition, created_at, expires_at.
pub(super) fn wait(row: &PgRow) -> Result<Wait, StoreError> {
    let lookup = match (get_text_or_null(row, 5)?, get_text_or_null(row, 6)?) {
        (Some(path), Some(key)) => Some(Lookup { path, key }),
        _ => None,
    };
    Ok(Wait {
        run: get_id(row, 0)?,
        key: get_key(row, 1)?,
        function: get_id(row, 2)?,
        kind: get_named(row, 3, WaitKind::parse)?,
        name: get_text(row, 4)?,
        lookup,
        condition: get_text_or_null(row, 7)?,
        created_at: get_time(row, 8)?,
        expires_at: get_time(row, 9)?,
    })
}

/// From the columns run_id, step_id, op, label, race, started_at, until, position, failed, ended_at, memo; without the run.
pub(super) fn step(row: &PgRow) -> Result<Step, StoreError> {
    let state = match (get::<Option<i64>>(row, 7)?, get_time_or_null(row, 6)?) {
        (Some(_), _) => StepState::Done {
            memo: get_json(row, 10)?,
            failed: get(row, 8)?,
            position: get_number(row, 7)?,
            at: get_time(row, 9)?,
        },
        (None, Some(until)) => StepState::Parked { until },
        (None, None) => StepState::Planned,
    };
    Ok(Step {
        id: get_step_id(row, 1)?,
        op: get_named(row, 2, StepOp::parse)?,
        label: get_text(row, 3)?,
        race: get(row, 4)?,
        started_at: get_time(row, 5)?,
        state,
    })
}
