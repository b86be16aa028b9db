//! Crons: how far slots have been dealt with, which were skipped, and what is stored of their ticks.

use callboard_actors::domain::{EventId, FunctionId, RunId, RunStatus, SkipReason, Timestamp};
use callboard_actors::ports::{CronEnd, CronGap, CronMark, GapReason, StoreError, TickView};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use super::error::from_sqlx;
use super::jsonb::Rows;
use super::rows::{get, get_id, get_named, get_time, get_time_or_null};
use super::writer::{Script, Writer};

const MARKS: &str =
    "SELECT function_id, schedule, since, through, ended_at, archived FROM crons ORDER BY function_id, schedule";

pub(super) const MARKS_OF: &str = "SELECT function_id, schedule, since, through, ended_at, archived FROM crons
    WHERE function_id = ?1 ORDER BY schedule";

const PUT_MARKS: &str = "INSERT INTO crons (function_id, schedule, since, through, ended_at, archived)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 FROM jsonb_each(?) WHERE true
    ON CONFLICT (function_id, schedule) DO UPDATE SET since = excluded.since, through = excluded.through,
        ended_at = excluded.ended_at, archived = excluded.archived";

const PUT_GAPS: &str = "INSERT INTO cron_gaps (function_id, last, schedule, reason, first)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM jsonb_each(?) WHERE true
    ON CONFLICT (function_id, last, schedule, reason) DO NOTHING";

pub(super) const GAPS: &str = "SELECT function_id, schedule, first, last, reason FROM cron_gaps
    WHERE function_id = ?1 AND last >= ?2 AND first <= ?3 ORDER BY last, schedule, reason";

pub(super) const TICKS: &str = "SELECT events.id, events.ts, events.received_at, runs.status,
        (SELECT reason FROM skips WHERE event_id = events.id ORDER BY seq LIMIT 1),
        (SELECT detail FROM skips WHERE event_id = events.id ORDER BY seq LIMIT 1)
    FROM jsonb_each(?1) AS tick CROSS JOIN events ON events.id = tick.value->>0
    LEFT JOIN runs ON runs.id = tick.value->>1";

/// What is older than expired events says nothing about those that are left.
pub(super) const OLD: [&str; 2] = [
    "DELETE FROM cron_gaps WHERE last < ?",
    "DELETE FROM crons WHERE ended_at < ?",
];

pub(super) async fn marks(readers: &SqlitePool, function: Option<FunctionId>) -> Result<Vec<CronMark>, StoreError> {
    let query = match function {
        Some(function) => sqlx::query(MARKS_OF).bind(function.to_string()),
        None => sqlx::query(MARKS),
    };
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter().map(mark).collect()
}

pub(super) async fn note(writer: &Writer, marks: &[CronMark], gaps: &[CronGap]) -> Result<(), StoreError> {
    let mut rows = Rows::new();
    for mark in marks {
        let row = rows.row().shown(mark.function).text(&mark.schedule);
        let row = row.int(mark.since.as_millis()).int(mark.through.as_millis());
        let archived = mark.ended.map(|end| i64::from(end.archived));
        row.int_or_null(mark.ended.map(|end| end.at.as_millis()))
            .int_or_null(archived);
    }
    let mut gap_rows = Rows::new();
    for gap in gaps {
        let row = gap_rows.row().shown(gap.function).int(gap.last.as_millis());
        row.text(&gap.schedule)
            .text(gap.reason.as_str())
            .int(gap.first.as_millis());
    }
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    script.with_rows(PUT_MARKS, rows);
    script.with_rows(PUT_GAPS, gap_rows);
    script.add("COMMIT");
    writer.session().await?.run(script, true).await?;
    Ok(())
}

pub(super) async fn gaps(
    readers: &SqlitePool,
    function: FunctionId,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<CronGap>, StoreError> {
    let query = sqlx::query(GAPS).bind(function.to_string());
    let query = query.bind(from.as_millis()).bind(until.as_millis());
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter().map(gap).collect()
}

pub(super) async fn ticks(readers: &SqlitePool, ids: &[(EventId, RunId)]) -> Result<Vec<TickView>, StoreError> {
    let mut rows = Rows::new();
    for (event, run) in ids {
        rows.row().shown(event).shown(run);
    }
    let query = sqlx::query(TICKS).bind(rows.into_bytes());
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter().map(tick).collect()
}

/// Deletes what was noted of slots before `before`.
pub(super) async fn purge(writer: &Writer, before: Timestamp) -> Result<(), StoreError> {
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    for sql in OLD {
        script.with(sql, before.as_millis());
    }
    script.add("COMMIT");
    writer.session().await?.run(script, true).await?;
    Ok(())
}

fn mark(row: &SqliteRow) -> Result<CronMark, StoreError> {
    let archived: Option<bool> = get(row, 5)?;
    Ok(CronMark {
        function: get_id(row, 0)?,
        schedule: get(row, 1)?,
        since: get_time(row, 2)?,
        through: get_time(row, 3)?,
        ended: get_time_or_null(row, 4)?.map(|at| CronEnd {
            at,
            archived: archived.unwrap_or(false),
        }),
    })
}

fn gap(row: &SqliteRow) -> Result<CronGap, StoreError> {
    Ok(CronGap {
        function: get_id(row, 0)?,
        schedule: get(row, 1)?,
        first: get_time(row, 2)?,
        last: get_time(row, 3)?,
        reason: get_named(row, 4, GapReason::parse)?,
    })
}

fn tick(row: &SqliteRow) -> Result<TickView, StoreError> {
    let known = |text: &str| StoreError::Corrupt(format!("the name `{text}` is unknown"));
    let status = match get::<Option<&str>>(row, 3)? {
        Some(name) => Some(RunStatus::parse(name).ok_or_else(|| known(name))?),
        None => None,
    };
    let skip = match get::<Option<&str>>(row, 4)? {
        Some(name) => {
            let reason = SkipReason::parse(name).ok_or_else(|| known(name))?;
            Some((reason, get::<Option<String>>(row, 5)?.unwrap_or_default()))
        }
        None => None,
    };
    Ok(TickView {
        event: get_id(row, 0)?,
        due_at: get_time(row, 1)?,
        fired_at: get_time(row, 2)?,
        status,
        skip,
    })
}
