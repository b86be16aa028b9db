//! Run slots: see the port. All of a decision happens in one session of the connection that writes.

use callboard_actors::domain::{BucketId, FunctionId, Job, RuleId, RunId, Timestamp};
use callboard_actors::ports::{
    KeyFlow, PARKED, Place, SlotClaim, SlotLimits, SlotPlace, Standing, StoreError, Waiting,
};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use super::error::from_sqlx;
use super::jsonb::{Row, Rows};
use super::rows::{gated, get, get_id, get_number, get_rule, get_time_or_null, job};
use super::writer::{Script, Session, Writer};
use crate::store::paging::sql_limit;
use crate::store::slots::Taking;

/// Runs looked at in one go; [`WAITING`] has the same number.
const PAGE: usize = 64;

/// Who is in the buckets of the first row, by their places, but for the claimants of the second that wait.
pub(super) const STANDING: &str = "SELECT asked.key, (SELECT count(*) FROM run_slots AS slot
            JOIN runs ON runs.id = slot.run_id AND runs.ended_at IS NULL
            WHERE slot.bucket = asked.value AND slot.held = 1), first.rank, first.run_id
    FROM jsonb_each(?, '$[0]') AS asked LEFT JOIN run_slots AS first ON first.run_id = (
        SELECT slot.run_id FROM run_slots AS slot JOIN runs ON runs.id = slot.run_id AND runs.ended_at IS NULL
            WHERE slot.bucket = asked.value AND slot.held = 0
            AND slot.run_id NOT IN (SELECT value FROM jsonb_each(asked.json, '$[1]'))
            ORDER BY slot.rank, slot.run_id LIMIT 1)";

/// The claimants that have not ended, and whether they hold a slot.
const CLAIMANTS: &str = "SELECT id, coalesce(held, 0) FROM runs LEFT JOIN run_slots ON run_id = id
    WHERE id IN (SELECT value FROM jsonb_each(?)) AND ended_at IS NULL";

const PUT: &str = "INSERT INTO run_slots (run_id, bucket, function_id, created_at, rank, rule, key, held)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7
    FROM jsonb_each(?) WHERE true ON CONFLICT (run_id) DO UPDATE SET held = excluded.held";

const PARK: &str = "UPDATE jobs SET due = value->>1 FROM jsonb_each(?) WHERE run_id = value->>0 AND jobs.key = 'start'";

/// Those of runs that have ended count no more.
pub(super) const CLEAR: &str = "DELETE FROM run_slots WHERE bucket IN (SELECT value FROM jsonb_each(?)) AND held = 1
    AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = run_slots.run_id AND runs.ended_at IS NULL)";

/// Of some buckets those where somebody waits.
pub(super) const CROWDED: &str = "SELECT value FROM jsonb_each(?)
    WHERE EXISTS (SELECT 1 FROM run_slots WHERE bucket = value AND held = 0)";

const CLEAR_ALL: &str = "DELETE FROM run_slots
    WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = run_slots.run_id AND runs.ended_at IS NULL)";

const HELD: &str = "SELECT count(*) FROM run_slots WHERE bucket = ? AND held = 1";

const WAITING: &str = "SELECT run_id, function_id, rule,
        EXISTS (SELECT 1 FROM runs WHERE runs.id = run_slots.run_id AND runs.ended_at IS NULL)
    FROM run_slots WHERE bucket = ? AND held = 0 ORDER BY rank, run_id LIMIT 64";

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

pub(super) async fn take(writer: &Writer, claims: &[SlotClaim]) -> Result<Vec<bool>, StoreError> {
    let taking = Taking::of(claims);
    let mut both = Rows::new();
    taking.buckets().fold(both.row(), Row::shown);
    taking.runs().fold(both.row(), Row::shown);
    let mut session = writer.session().await?;
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    let standings = script.with(STANDING, both.into_bytes());
    let claimants = script.with(CLAIMANTS, Rows::of_texts(taking.runs()).into_bytes());
    let outcomes = session.run(script, false).await?;
    let standings = outcomes[standings]
        .rows
        .iter()
        .map(standing_of)
        .collect::<Result<_, _>>()?;
    let claimants = outcomes[claimants]
        .rows
        .iter()
        .map(|row| Ok((get_id(row, 0)?, get(row, 1)?)));
    let taken = taking.decide(&standings, &claimants.collect::<Result<_, StoreError>>()?);

    let (mut put, mut parked) = (Rows::new(), Rows::new());
    for (claim, is_held) in &taken.fresh {
        put.row()
            .shown(claim.run)
            .shown(claim.bucket)
            .shown(claim.function)
            .int(claim.run.at().as_millis())
            .int(claim.rank.as_millis())
            .shown(claim.rule)
            .text(&claim.key)
            .int(*is_held);
    }
    for run in taken.parked() {
        parked.row().shown(run).int(PARKED.as_millis());
    }
    let mut script = Script::default();
    script.with_rows(PUT, put);
    script.with_rows(PARK, parked);
    script.add("COMMIT");
    session.run(script, true).await?;
    Ok(taken.answers(claims))
}

fn standing_of(row: &SqliteRow) -> Result<(usize, Standing), StoreError> {
    let rank = get_time_or_null(row, 2)?;
    let first = rank.map(|rank| Ok::<_, StoreError>((rank, get_id(row, 3)?)));
    let standing = Standing {
        held: get_number(row, 1)?,
        first: first.transpose()?,
    };
    Ok((get_number(row, 0)?, standing))
}

pub(super) async fn admit(
    writer: &Writer,
    buckets: Option<&[BucketId]>,
    limits: &SlotLimits,
    now: Timestamp,
    most: usize,
) -> Result<Vec<Job>, StoreError> {
    if let Some(buckets) = buckets {
        return admit_in(writer, Rows::of_texts(buckets), limits, now, most).await;
    }
    let mut jobs = Vec::new();
    for bucket in loose(writer, limits).await? {
        if jobs.len() >= most {
            break;
        }
        jobs.extend(admit_in(writer, Rows::of_texts([bucket]), limits, now, most - jobs.len()).await?);
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
    writer: &Writer,
    buckets: Rows,
    limits: &SlotLimits,
    now: Timestamp,
    most: usize,
) -> Result<Vec<Job>, StoreError> {
    let buckets = buckets.into_bytes();
    let mut session = writer.session().await?;
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    script.with(CLEAR, buckets.clone());
    let crowded = script.with(CROWDED, buckets);
    let outcomes = session.run(script, false).await?;
    let mut jobs = Vec::new();
    for row in &outcomes[crowded].rows {
        let bucket: String = get(row, 0)?;
        let admitted = admit_one(&mut session, &bucket, limits, now, most.saturating_sub(jobs.len()));
        jobs.extend(admitted.await?);
    }
    let mut script = Script::default();
    script.add("COMMIT");
    session.run(script, true).await?;
    Ok(jobs)
}

/// In one bucket, within the transaction.
async fn admit_one(
    session: &mut Session<'_>,
    bucket: &str,
    limits: &SlotLimits,
    now: Timestamp,
    most: usize,
) -> Result<Vec<Job>, StoreError> {
    let mut script = Script::default();
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
        if count == 0 {
            return Ok(jobs);
        }
        let (open, ended): (Vec<&Waiting>, Vec<_>) = page[..count].iter().partition(|of| of.is_open);
        let runs = |of: &[&Waiting]| Rows::of_texts(of.iter().map(|of| of.run));
        let mut wake = Rows::new();
        for of in &open {
            wake.row().shown(of.run).int(now.as_millis()).int(PARKED.as_millis());
        }
        held += open.len();
        let mut script = Script::default();
        script.with_rows(DROP, runs(&ended));
        script.with_rows(GIVE, runs(&open));
        let woken = script.with_rows(WAKE, wake);
        let outcomes = session.run(script, false).await?;
        for row in woken.map_or(&[][..], |woken| &outcomes[woken].rows[..]) {
            jobs.push(job_of(row)?);
        }
        if count < PAGE {
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
