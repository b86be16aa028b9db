//! Run slots: see the port. All of a decision happens in one session of the connection that writes.

use callboard_actors::domain::{BucketId, FunctionId, Job, RuleId, RunId, Timestamp};
use callboard_actors::ports::{KeyFlow, PARKED, Place, SlotClaim, SlotLimits, SlotPlace, StoreError, Waiting};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use super::error::from_sqlx;
use super::jsonb::Rows;
use super::rows::{gated, get, get_id, get_number, get_rule, get_time_or_null, job};
use super::writer::{Script, Session, Writer};
use crate::store::paging::sql_limit;

/// Runs looked at in one go; [`WAITING`] has the same number.
const PAGE: usize = 64;

/// A run that has ended finds no row of its own and asks for nothing.
const TAKE: &str = "INSERT INTO run_slots (run_id, bucket, function_id, created_at, rank, rule, key, held)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6,
        (SELECT count(*) FROM run_slots AS other JOIN runs ON runs.id = other.run_id AND runs.ended_at IS NULL
            WHERE other.bucket = value->>1 AND other.held AND other.run_id <> value->>0) < value->>7
        AND NOT EXISTS (SELECT 1 FROM run_slots AS other JOIN runs ON runs.id = other.run_id AND runs.ended_at IS NULL
            WHERE other.bucket = value->>1 AND NOT other.held
            AND (other.rank, other.run_id) < (value->>4, value->>0))
    FROM jsonb_each(?) WHERE EXISTS (SELECT 1 FROM runs WHERE id = value->>0 AND ended_at IS NULL)
    ON CONFLICT (run_id) DO UPDATE SET held = run_slots.held OR excluded.held
    RETURNING held";

const PARK: &str = "UPDATE jobs SET due = value->>1 FROM jsonb_each(?) WHERE run_id = value->>0 AND jobs.key = 'start'";

/// Those of runs that have ended count no more.
const CLEAR: &str = "DELETE FROM run_slots WHERE bucket = ? AND held
    AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = run_slots.run_id AND runs.ended_at IS NULL)";

const CLEAR_ALL: &str = "DELETE FROM run_slots
    WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = run_slots.run_id AND runs.ended_at IS NULL)";

const HELD: &str = "SELECT count(*) FROM run_slots WHERE bucket = ? AND held";

const WAITING: &str = "SELECT run_id, function_id, rule,
        EXISTS (SELECT 1 FROM runs WHERE runs.id = run_slots.run_id AND runs.ended_at IS NULL)
    FROM run_slots WHERE bucket = ? AND NOT held ORDER BY rank, run_id LIMIT 64";

const GIVE: &str = "UPDATE run_slots SET held = 1 WHERE run_id IN (SELECT value FROM jsonb_each(?))";

const DROP: &str = "DELETE FROM run_slots WHERE run_id IN (SELECT value FROM jsonb_each(?))";

const WAKE: &str = "UPDATE jobs SET due = value->>1 FROM jsonb_each(?)
    WHERE run_id = value->>0 AND jobs.key = 'start' AND due = value->>2
    RETURNING run_id, jobs.key, function_id, attempt, due, priority, payload, (SELECT gates FROM runs WHERE id = run_id)";

/// Buckets where somebody waits and has room; one sweep looks at so many.
const LOOSE: &str = "WITH number (function_id, rule, slots) AS (
        SELECT value->>0, value->>1, value->>2 FROM jsonb_each(?)),
    share AS (SELECT bucket, function_id, rule, sum(NOT held) AS waiting,
            sum(sum(held)) OVER (PARTITION BY bucket) AS in_use
        FROM run_slots GROUP BY bucket, function_id, rule)
    SELECT DISTINCT bucket FROM share LEFT JOIN number USING (function_id, rule)
    WHERE waiting > 0 AND in_use < coalesce(slots, 9223372036854775807) LIMIT 1000";

const OF_FUNCTION: &str = "SELECT rule, slot.key, sum(held), sum(is_mine AND NOT held),
        min(created_at) FILTER (WHERE is_mine AND NOT held)
    FROM (SELECT run_slots.*, function_id = ?1 AS is_mine FROM run_slots
        WHERE bucket IN (SELECT bucket FROM run_slots WHERE function_id = ?1)
        AND EXISTS (SELECT 1 FROM runs WHERE runs.id = run_slots.run_id AND runs.ended_at IS NULL)) AS slot
    GROUP BY bucket, rule, slot.key";

/// Those of a bucket have one line, whatever their functions.
pub(super) const PLACE: &str = "SELECT mine.key, (SELECT count(*) FROM (SELECT 1 FROM run_slots AS other
            WHERE other.bucket = mine.bucket AND other.held = 0 AND (other.rank, other.run_id) < (mine.rank, mine.run_id)
            AND EXISTS (SELECT 1 FROM runs WHERE runs.id = other.run_id AND runs.ended_at IS NULL)
            LIMIT ?2))
    FROM run_slots AS mine JOIN runs ON runs.id = mine.run_id AND runs.ended_at IS NULL
    WHERE mine.run_id = ?1 AND NOT mine.held";

pub(super) async fn take(writer: &Writer, claim: &SlotClaim) -> Result<bool, StoreError> {
    let mut rows = Rows::new();
    rows.row()
        .shown(claim.run)
        .shown(claim.bucket)
        .shown(claim.function)
        .int(claim.run.at().as_millis())
        .int(claim.rank.as_millis())
        .shown(claim.rule)
        .text(&claim.key)
        .int(claim.limit);
    let mut session = writer.session().await?;
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    let taken = script.with(TAKE, rows.into_bytes());
    let outcomes = session.run(script, false).await?;
    let is_held = outcomes[taken].rows.first().map_or(Ok(true), |row| get(row, 0))?;
    let mut script = Script::default();
    if !is_held {
        let mut parked = Rows::new();
        parked.row().shown(claim.run).int(PARKED.as_millis());
        script.with(PARK, parked.into_bytes());
    }
    script.add("COMMIT");
    session.run(script, true).await?;
    Ok(is_held)
}

pub(super) async fn admit(
    writer: &Writer,
    bucket: Option<BucketId>,
    limits: &SlotLimits,
    now: Timestamp,
    most: usize,
) -> Result<Vec<Job>, StoreError> {
    let buckets = match bucket {
        Some(bucket) => vec![bucket.to_string()],
        None => loose(writer, limits).await?,
    };
    let mut jobs = Vec::new();
    for bucket in buckets {
        if jobs.len() >= most {
            break;
        }
        let mut session = writer.session().await?;
        jobs.extend(admit_in(&mut session, &bucket, limits, now, most - jobs.len()).await?);
    }
    Ok(jobs)
}

async fn loose(writer: &Writer, limits: &SlotLimits) -> Result<Vec<String>, StoreError> {
    let mut rows = Rows::new();
    for (function, rule, limit) in &limits.limits {
        rows.row().shown(function).shown(rule).int(*limit);
    }
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    script.add(CLEAR_ALL);
    let found = script.with(LOOSE, rows.into_bytes());
    script.add("COMMIT");
    let outcomes = writer.session().await?.run(script, true).await?;
    outcomes[found].rows.iter().map(|row| get(row, 0)).collect()
}

async fn admit_in(
    session: &mut Session<'_>,
    bucket: &str,
    limits: &SlotLimits,
    now: Timestamp,
    most: usize,
) -> Result<Vec<Job>, StoreError> {
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    script.with(CLEAR, bucket.to_owned());
    let counted = script.with(HELD, bucket.to_owned());
    let outcomes = session.run(script, false).await?;
    let row = outcomes[counted].rows.first();
    let mut held: usize = row.map_or(Ok(0), |row| get_number(row, 0))?;
    let mut jobs = Vec::new();
    loop {
        let mut script = Script::default();
        let asked = script.with(WAITING, bucket.to_owned());
        let outcomes = session.run(script, false).await?;
        let page: Vec<_> = outcomes[asked].rows.iter().map(waiting).collect::<Result<_, _>>()?;
        let count = limits.admitted(held, &page, most - jobs.len());
        let (open, ended): (Vec<&Waiting>, Vec<_>) = page[..count].iter().partition(|of| of.is_open);
        let runs = |of: &[&Waiting]| Rows::of_texts(of.iter().map(|of| of.run));
        let mut wake = Rows::new();
        for of in &open {
            wake.row().shown(of.run).int(now.as_millis()).int(PARKED.as_millis());
        }
        held += open.len();
        let is_last = count < PAGE;
        let mut script = Script::default();
        script.with_rows(DROP, runs(&ended));
        script.with_rows(GIVE, runs(&open));
        let woken = script.with_rows(WAKE, wake);
        if is_last {
            script.add("COMMIT");
        }
        let outcomes = session.run(script, is_last).await?;
        for row in woken.map_or(&[][..], |woken| &outcomes[woken].rows[..]) {
            jobs.push(job_of(row)?);
        }
        if is_last {
            return Ok(jobs);
        }
    }
}

fn waiting(row: &SqliteRow) -> Result<Waiting, StoreError> {
    Ok(Waiting {
        run: get_id::<RunId>(row, 0)?,
        function: get_id(row, 1)?,
        rule: get_rule(row, 2)?,
        is_open: get(row, 3)?,
    })
}

/// What held it up in the queue it has passed.
fn job_of(row: &SqliteRow) -> Result<Job, StoreError> {
    let mut job = gated(job(row)?, get(row, 7)?)?;
    job.gates = job.gates.without_throttle();
    Ok(job)
}

pub(super) async fn of_function(
    readers: &SqlitePool,
    function: FunctionId,
) -> Result<Vec<(RuleId, KeyFlow)>, StoreError> {
    let query = sqlx::query(OF_FUNCTION).bind(function.to_string());
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter()
        .map(|row| {
            let flow = KeyFlow {
                key: get(row, 1)?,
                in_use: get_number(row, 2)?,
                waiting: get_number(row, 3)?,
                oldest: get_time_or_null(row, 4)?,
                next: None,
            };
            Ok((get_rule(row, 0)?, flow))
        })
        .collect()
}

pub(super) async fn place(readers: &SqlitePool, run: RunId) -> Result<Option<SlotPlace>, StoreError> {
    let query = sqlx::query(PLACE).bind(run.to_string()).bind(sql_limit(Place::MOST));
    let row = query.fetch_optional(readers).await.map_err(from_sqlx)?;
    row.map(|row| {
        Ok(SlotPlace {
            key: get(&row, 0)?,
            ahead: get_number(&row, 1)?,
        })
    })
    .transpose()
}
