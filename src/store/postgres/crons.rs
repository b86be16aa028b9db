//! Crons: how far slots have been dealt with, which were skipped, and what is stored of their ticks.
//!
//! Several instances note the same slots. Rows are written in the order of their keys, so that two of them meet in the same
//! order; the last one to write a mark wins, which is as good as the first.

use callboard_actors::domain::{EventId, FunctionId, RunId, RunStatus, SkipReason, Timestamp};
use callboard_actors::ports::{CronEnd, CronGap, CronMark, GapReason, StoreError, TickView};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::cells::{Id as _, text};
use super::readers::{Readers, Statement};
use super::rows::{get, get_id, get_named, get_text, get_text_or_null, get_time, get_time_or_null};

const MARKS: &str = "SELECT function_id, schedule, since, through, ended_at, archived FROM callboard.crons
    ORDER BY function_id, schedule";

pub(super) const MARKS_OF: &str =
    "SELECT function_id, schedule, since, through, ended_at, archived FROM callboard.crons
    WHERE function_id = $1 ORDER BY function_id, schedule";

const PUT_MARKS: &str = "INSERT INTO callboard.crons (function_id, schedule, since, through, ended_at, archived)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[])
    ON CONFLICT (function_id, schedule) DO UPDATE SET since = excluded.since, through = excluded.through,
        ended_at = excluded.ended_at, archived = excluded.archived";

const PUT_GAPS: &str = "INSERT INTO callboard.cron_gaps (function_id, last, schedule, reason, first)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::bigint[])
    ON CONFLICT (function_id, last, schedule, reason) DO NOTHING";

/// As the bound is written, it is of use for the primary key only.
pub(super) const GAPS: &str = "SELECT function_id, schedule, first, last, reason FROM callboard.cron_gaps
    WHERE function_id = $1 AND (function_id, last) >= ($1, $2) AND first <= $3 ORDER BY last, schedule, reason";

pub(super) const TICKS: &str = "SELECT events.id, events.ts, events.received_at, runs.status,
        (SELECT reason FROM callboard.skips WHERE event_id = events.id ORDER BY seq LIMIT 1),
        (SELECT detail FROM callboard.skips WHERE event_id = events.id ORDER BY seq LIMIT 1)
    FROM unnest($1::uuid[], $2::uuid[]) AS tick (event_id, run_id)
    JOIN callboard.events ON events.id = tick.event_id LEFT JOIN callboard.runs ON runs.id = tick.run_id";

/// What is older than expired events says nothing about those that are left.
pub(super) const OLD: [&str; 2] = [
    "DELETE FROM callboard.cron_gaps WHERE last < $1",
    "DELETE FROM callboard.crons WHERE ended_at < $1",
];

pub(super) async fn marks(readers: &Readers, function: Option<FunctionId>) -> Result<Vec<CronMark>, StoreError> {
    let query = match function {
        Some(function) => sqlx::query(MARKS_OF).bind(function.cell()),
        None => sqlx::query(MARKS),
    };
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter().map(mark).collect()
}

pub(super) async fn note(readers: &Readers, marks: &[CronMark], gaps: &[CronGap]) -> Result<(), StoreError> {
    let mut statements = Vec::new();
    if !marks.is_empty() {
        statements.push(put_marks(marks));
    }
    if !gaps.is_empty() {
        statements.push(put_gaps(gaps));
    }
    let noted = readers.write(|session| {
        Box::pin(async move {
            for statement in statements {
                session.execute(statement).await?;
            }
            Ok(())
        })
    });
    noted.await
}

fn put_marks(marks: &[CronMark]) -> Statement {
    let mut marks: Vec<_> = marks.iter().collect();
    marks.sort_by_key(|mark| (mark.function.cell(), &mark.schedule));
    let ends = marks.iter().map(|mark| mark.ended.map(|end| end.at.as_millis()));
    let archived = marks.iter().map(|mark| mark.ended.map(|end| end.archived));
    sqlx::query(PUT_MARKS)
        .bind(marks.iter().map(|mark| mark.function.cell()).collect::<Vec<_>>())
        .bind(
            marks
                .iter()
                .map(|mark| text(&mark.schedule).into_owned())
                .collect::<Vec<_>>(),
        )
        .bind(marks.iter().map(|mark| mark.since.as_millis()).collect::<Vec<_>>())
        .bind(marks.iter().map(|mark| mark.through.as_millis()).collect::<Vec<_>>())
        .bind(ends.collect::<Vec<_>>())
        .bind(archived.collect::<Vec<_>>())
}

fn put_gaps(gaps: &[CronGap]) -> Statement {
    let mut gaps: Vec<_> = gaps.iter().collect();
    gaps.sort_by_key(|gap| (gap.function.cell(), gap.last, &gap.schedule, gap.reason.as_str()));
    sqlx::query(PUT_GAPS)
        .bind(gaps.iter().map(|gap| gap.function.cell()).collect::<Vec<_>>())
        .bind(gaps.iter().map(|gap| gap.last.as_millis()).collect::<Vec<_>>())
        .bind(
            gaps.iter()
                .map(|gap| text(&gap.schedule).into_owned())
                .collect::<Vec<_>>(),
        )
        .bind(gaps.iter().map(|gap| gap.reason.as_str()).collect::<Vec<_>>())
        .bind(gaps.iter().map(|gap| gap.first.as_millis()).collect::<Vec<_>>())
}

pub(super) async fn gaps(
    readers: &Readers,
    function: FunctionId,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<CronGap>, StoreError> {
    let query = sqlx::query(GAPS).bind(function.cell());
    let query = query.bind(from.as_millis()).bind(until.as_millis());
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter().map(gap).collect()
}

pub(super) async fn ticks(readers: &Readers, ids: &[(EventId, RunId)]) -> Result<Vec<TickView>, StoreError> {
    let events: Vec<Uuid> = ids.iter().map(|(event, _)| event.cell()).collect();
    let runs: Vec<Uuid> = ids.iter().map(|(_, run)| run.cell()).collect();
    let query = sqlx::query(TICKS).bind(events).bind(runs);
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter().map(tick).collect()
}

/// Deletes what was noted of slots before `before`.
pub(super) async fn purge(readers: &Readers, before: Timestamp) -> Result<(), StoreError> {
    let purged = readers.write(move |session| {
        Box::pin(async move {
            for sql in OLD {
                session.execute(sqlx::query(sql).bind(before.as_millis())).await?;
            }
            Ok(())
        })
    });
    purged.await
}

fn mark(row: &PgRow) -> Result<CronMark, StoreError> {
    let archived: Option<bool> = get(row, 5)?;
    Ok(CronMark {
        function: get_id(row, 0)?,
        schedule: get_text(row, 1)?,
        since: get_time(row, 2)?,
        through: get_time(row, 3)?,
        ended: get_time_or_null(row, 4)?.map(|at| CronEnd {
            at,
            archived: archived.unwrap_or(false),
        }),
    })
}

fn gap(row: &PgRow) -> Result<CronGap, StoreError> {
    Ok(CronGap {
        function: get_id(row, 0)?,
        schedule: get_text(row, 1)?,
        first: get_time(row, 2)?,
        last: get_time(row, 3)?,
        reason: get_named(row, 4, GapReason::parse)?,
    })
}

fn tick(row: &PgRow) -> Result<TickView, StoreError> {
    let known = |text: &str| StoreError::Corrupt(format!("the name `{text}` is unknown"));
    let status = match get::<Option<&str>>(row, 3)? {
        Some(name) => Some(RunStatus::parse(name).ok_or_else(|| known(name))?),
        None => None,
    };
    let skip = match get::<Option<&str>>(row, 4)? {
        Some(name) => {
            let reason = SkipReason::parse(name).ok_or_else(|| known(name))?;
            Some((reason, get_text_or_null(row, 5)?.unwrap_or_default()))
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
