//! Run slots: see the port. Whatever decides about a bucket holds its lock, from before it counts to its commit.

use callboard_actors::domain::{BucketId, FunctionId, Job, RuleId, RunId, Timestamp};
use callboard_actors::ports::{
    KeyFlow, PARKED, Place, SlotClaim, SlotLimits, SlotPlace, Standing, StoreError, Waiting,
};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::cells::{Id, text};
use super::readers::{Readers, Session};
use super::rows::{gated, get, get_id, get_number, get_rule, get_text, get_text_or_null, get_time_or_null, job};
use crate::store::paging::sql_limit;
use crate::store::slots::Taking;

/// Runs looked at in one go.
const PAGE: usize = 64;
/// Buckets looked at in one sweep.
const BUCKETS: usize = 1_000;

/// Names of buckets in ascending order, so that no two wait for each other.
const LOCK: &str = "SELECT pg_advisory_xact_lock(name) FROM unnest($1::bigint[]) AS name";

/// Who is in the buckets, by their places, but for the claimants that wait. Each run is looked up, and none is joined: see
/// [`PLACE`].
pub(super) const STANDING: &str = "SELECT asked.place - 1,
        (SELECT count(*) FROM callboard.run_slots AS slot WHERE slot.bucket = asked.bucket AND slot.held
            AND (SELECT ended_at IS NULL FROM callboard.runs WHERE runs.id = slot.run_id)),
        first.rank, first.run_id
    FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (bucket, place) LEFT JOIN LATERAL (
        SELECT slot.rank, slot.run_id FROM callboard.run_slots AS slot
            WHERE slot.bucket = asked.bucket AND NOT slot.held AND slot.run_id <> ALL ($2)
            AND (SELECT ended_at IS NULL FROM callboard.runs WHERE runs.id = slot.run_id)
            ORDER BY slot.rank, slot.run_id LIMIT 1) AS first ON true";

/// The claimants that have not ended, and whether they hold a slot.
pub(super) const CLAIMANTS: &str = "SELECT id, coalesce(held, false) FROM callboard.runs
    LEFT JOIN callboard.run_slots ON run_id = id WHERE id = ANY ($1) AND ended_at IS NULL";

const PUT: &str = "INSERT INTO callboard.run_slots (run_id, bucket, function_id, created_at, rank, rule, key, held)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::bool[])
    ON CONFLICT (run_id) DO UPDATE SET held = excluded.held";

/// In the order in which everybody locks jobs.
pub(super) const PARK: &str = "WITH start AS MATERIALIZED (
        SELECT run_id, key FROM callboard.jobs WHERE run_id = ANY ($1) AND key = 'start'
            ORDER BY run_id, key FOR UPDATE)
    UPDATE callboard.jobs SET due = $2 FROM start WHERE jobs.run_id = start.run_id AND jobs.key = start.key";

/// Those of runs that have ended, or are gone, count no more.
pub(super) const CLEAR: &str = "DELETE FROM callboard.run_slots WHERE bucket = ANY ($1) AND held
    AND (SELECT ended_at IS NULL FROM callboard.runs WHERE runs.id = run_slots.run_id) IS NOT TRUE";

/// Of some buckets those where somebody waits.
pub(super) const CROWDED: &str = "SELECT bucket FROM unnest($1::uuid[]) AS asked (bucket)
    WHERE EXISTS (SELECT FROM callboard.run_slots AS slot WHERE slot.bucket = asked.bucket AND NOT slot.held)";

const CLEAR_ALL: &str = "DELETE FROM callboard.run_slots
    WHERE (SELECT ended_at IS NULL FROM callboard.runs WHERE runs.id = run_slots.run_id) IS NOT TRUE";

pub(super) const HELD: &str = "SELECT count(*) FROM callboard.run_slots WHERE bucket = $1 AND held";

pub(super) const WAITING: &str = "SELECT run_id, function_id, rule, EXISTS (
        SELECT FROM callboard.runs WHERE runs.id = run_slots.run_id AND runs.ended_at IS NULL)
    FROM callboard.run_slots WHERE bucket = $1 AND NOT held ORDER BY rank, run_id LIMIT $2";

const GIVE: &str = "UPDATE callboard.run_slots SET held = true WHERE run_id = ANY ($1)";

const DROP: &str = "DELETE FROM callboard.run_slots WHERE run_id = ANY ($1)";

/// In the order in which everybody locks jobs.
pub(super) const WAKE: &str = "WITH parked AS MATERIALIZED (
        SELECT run_id, key FROM callboard.jobs WHERE run_id = ANY ($1) AND key = 'start' AND due = $3
            ORDER BY run_id, key FOR UPDATE)
    UPDATE callboard.jobs SET due = $2 FROM parked WHERE jobs.run_id = parked.run_id AND jobs.key = parked.key
    RETURNING jobs.run_id, jobs.key, function_id, attempt, due, priority, payload,
        (SELECT gates FROM callboard.runs WHERE id = jobs.run_id)";

/// Buckets where somebody waits and has room.
const LOOSE: &str = "SELECT DISTINCT bucket FROM (
        SELECT bucket, function_id, rule, count(*) FILTER (WHERE NOT held) AS waiting,
            sum(count(*) FILTER (WHERE held)) OVER (PARTITION BY bucket) AS in_use
        FROM callboard.run_slots GROUP BY bucket, function_id, rule) AS share
    LEFT JOIN unnest($1::uuid[], $2::text[], $3::bigint[]) AS number (function_id, rule, slots)
        USING (function_id, rule)
    WHERE waiting > 0 AND in_use < coalesce(slots, 9223372036854775807) LIMIT $4";

const OF_FUNCTION: &str =
    "SELECT rule, key, count(*) FILTER (WHERE held), count(*) FILTER (WHERE is_mine AND NOT held),
        min(created_at) FILTER (WHERE is_mine AND NOT held)
    FROM (SELECT run_slots.*, function_id = $1 AS is_mine FROM callboard.run_slots
        WHERE bucket IN (SELECT bucket FROM callboard.run_slots WHERE function_id = $1)
        AND EXISTS (SELECT FROM callboard.runs WHERE runs.id = run_slots.run_id AND runs.ended_at IS NULL)) AS slot
    GROUP BY bucket, rule, key";

/// Those of a bucket have one line, whatever their functions. Each run is looked up, and none is joined: without statistics
/// that would be a look at all open runs for each.
pub(super) const PLACE: &str =
    "SELECT mine.key, (SELECT count(*) FROM (SELECT FROM callboard.run_slots AS other
            WHERE other.bucket = mine.bucket AND NOT other.held AND (other.rank, other.run_id) < (mine.rank, mine.run_id)
            AND (SELECT ended_at IS NULL FROM callboard.runs WHERE runs.id = other.run_id)
            LIMIT $2) AS before)
    FROM callboard.run_slots AS mine JOIN callboard.runs ON runs.id = mine.run_id AND runs.ended_at IS NULL
    WHERE mine.run_id = $1 AND NOT mine.held";

fn cell(bucket: BucketId) -> Uuid {
    Uuid::from_u128(bucket.to_bits())
}

/// Any number that is different for every bucket serves as the name of its lock.
async fn lock(session: &mut Session, buckets: &[Uuid]) -> Result<(), StoreError> {
    let mut names: Vec<i64> = buckets
        .iter()
        .map(|bucket| bucket.as_u64_pair().1.cast_signed())
        .collect();
    names.sort_unstable();
    names.dedup();
    session.all(sqlx::query(LOCK).bind(names)).await.map(drop)
}

pub(super) async fn take(readers: &Readers, claims: &[SlotClaim]) -> Result<Vec<bool>, StoreError> {
    let all = claims.to_vec();
    let taken = readers.write(move |session| {
        Box::pin(async move {
            let taking = Taking::of(&all);
            let (runs, buckets) = (taking.runs(), taking.buckets());
            let (runs, buckets) = (cells(runs), buckets.map(cell).collect::<Vec<_>>());
            lock(session, &buckets).await?;
            let standing = sqlx::query(STANDING).bind(buckets).bind(runs.clone());
            let standings = session.all(standing).await?;
            let standings = standings.iter().map(standing_of).collect::<Result<_, _>>()?;
            let claimants = session.all(sqlx::query(CLAIMANTS).bind(runs)).await?;
            let claimants = claimants.iter().map(|row| Ok((get_id(row, 0)?, get(row, 1)?)));
            let taken = taking.decide(&standings, &claimants.collect::<Result<_, StoreError>>()?);
            put(session, &taken.fresh).await?;
            let parked = cells(taken.parked());
            if !parked.is_empty() {
                let park = sqlx::query(PARK).bind(parked).bind(PARKED.as_millis());
                session.execute(park).await?;
            }
            Ok(taken.answers(&all))
        })
    });
    taken.await
}

fn cells(runs: impl Iterator<Item = RunId>) -> Vec<Uuid> {
    runs.map(Id::cell).collect()
}

fn standing_of(row: &PgRow) -> Result<(usize, Standing), StoreError> {
    let rank = get_time_or_null(row, 2)?;
    let first = rank.map(|rank| Ok::<_, StoreError>((rank, get_id(row, 3)?)));
    let standing = Standing {
        held: get_number(row, 1)?,
        first: first.transpose()?,
    };
    Ok((get_number(row, 0)?, standing))
}

async fn put(session: &mut Session, fresh: &[(&SlotClaim, bool)]) -> Result<(), StoreError> {
    if fresh.is_empty() {
        return Ok(());
    }
    let claims = || fresh.iter().map(|(claim, _)| claim);
    let put = sqlx::query(PUT)
        .bind(cells(claims().map(|claim| claim.run)))
        .bind(claims().map(|claim| cell(claim.bucket)).collect::<Vec<_>>())
        .bind(claims().map(|claim| claim.function.cell()).collect::<Vec<_>>())
        .bind(claims().map(|claim| claim.run.at().as_millis()).collect::<Vec<_>>())
        .bind(claims().map(|claim| claim.rank.as_millis()).collect::<Vec<_>>())
        .bind(claims().map(|claim| claim.rule.to_string()).collect::<Vec<_>>())
        .bind(claims().map(|claim| text(&claim.key).into_owned()).collect::<Vec<_>>())
        .bind(fresh.iter().map(|(_, is_held)| *is_held).collect::<Vec<_>>());
    session.execute(put).await.map(drop)
}

pub(super) async fn admit(
    readers: &Readers,
    buckets: Option<&[BucketId]>,
    limits: &SlotLimits,
    now: Timestamp,
    most: usize,
) -> Result<Vec<Job>, StoreError> {
    if let Some(buckets) = buckets {
        let buckets: Vec<_> = buckets.iter().copied().map(cell).collect();
        return admit_in(readers, buckets, limits.clone(), now, most).await;
    }
    let mut jobs = Vec::new();
    for bucket in loose(readers, limits).await? {
        if jobs.len() >= most {
            break;
        }
        jobs.extend(admit_in(readers, vec![bucket], limits.clone(), now, most - jobs.len()).await?);
    }
    Ok(jobs)
}

async fn loose(readers: &Readers, limits: &SlotLimits) -> Result<Vec<Uuid>, StoreError> {
    let limits = limits.limits.iter();
    let (mut functions, mut rules, mut slots) = (Vec::new(), Vec::new(), Vec::new());
    for (function, rule, limit) in limits {
        functions.push(function.cell());
        rules.push(rule.to_string());
        slots.push(i64::from(*limit));
    }
    let query = sqlx::query(LOOSE).bind(functions).bind(rules).bind(slots);
    let query = query.bind(sql_limit(BUCKETS));
    let rows = readers.write(move |session| {
        Box::pin(async move {
            session.execute(sqlx::query(CLEAR_ALL)).await?;
            session.all(query).await
        })
    });
    rows.await?.iter().map(|row| get(row, 0)).collect()
}

async fn admit_in(
    readers: &Readers,
    buckets: Vec<Uuid>,
    limits: SlotLimits,
    now: Timestamp,
    most: usize,
) -> Result<Vec<Job>, StoreError> {
    let admitted = readers.write(move |session| {
        Box::pin(async move {
            lock(session, &buckets).await?;
            session.execute(sqlx::query(CLEAR).bind(buckets.clone())).await?;
            let mut jobs = Vec::new();
            for row in session.all(sqlx::query(CROWDED).bind(buckets)).await? {
                let bucket = get(&row, 0)?;
                jobs.extend(admit_one(session, bucket, &limits, now, most.saturating_sub(jobs.len())).await?);
            }
            Ok(jobs)
        })
    });
    admitted.await
}

/// In one bucket whose lock is held.
async fn admit_one(
    session: &mut Session,
    bucket: Uuid,
    limits: &SlotLimits,
    now: Timestamp,
    most: usize,
) -> Result<Vec<Job>, StoreError> {
    let mut held: usize = match session.optional(sqlx::query(HELD).bind(bucket)).await? {
        Some(row) => get_number(&row, 0)?,
        None => 0,
    };
    let mut jobs = Vec::new();
    loop {
        let page = sqlx::query(WAITING).bind(bucket).bind(sql_limit(PAGE));
        let page: Vec<_> = session.all(page).await?.iter().map(waiting).collect::<Result<_, _>>()?;
        let count = limits.admitted(held, &page, most - jobs.len());
        let (open, ended): (Vec<_>, Vec<_>) = page[..count].iter().partition(|of| of.is_open);
        let runs = |of: &[&Waiting]| cells(of.iter().map(|of| of.run));
        if !ended.is_empty() {
            session.execute(sqlx::query(DROP).bind(runs(&ended))).await?;
        }
        if !open.is_empty() {
            held += open.len();
            session.execute(sqlx::query(GIVE).bind(runs(&open))).await?;
            let wake = sqlx::query(WAKE).bind(runs(&open));
            let wake = wake.bind(now.as_millis()).bind(PARKED.as_millis());
            for row in session.all(wake).await? {
                jobs.push(woken(&row)?);
            }
        }
        if count < PAGE {
            return Ok(jobs);
        }
    }
}

fn waiting(row: &PgRow) -> Result<Waiting, StoreError> {
    Ok(Waiting {
        run: get_id::<RunId>(row, 0)?,
        function: get_id(row, 1)?,
        rule: get_rule(row, 2)?,
        is_open: get(row, 3)?,
    })
}

/// What held it up in the queue it has passed.
fn woken(row: &PgRow) -> Result<Job, StoreError> {
    let mut job = gated(job(row)?, get_text_or_null(row, 7)?)?;
    job.gates = job.gates.without_throttle();
    Ok(job)
}

pub(super) async fn of_function(readers: &Readers, function: FunctionId) -> Result<Vec<(RuleId, KeyFlow)>, StoreError> {
    let query = sqlx::query(OF_FUNCTION).bind(function.cell());
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter()
        .map(|row| {
            let flow = KeyFlow {
                key: get_text(row, 1)?,
                in_use: get_number(row, 2)?,
                waiting: get_number(row, 3)?,
                oldest: get_time_or_null(row, 4)?,
                next: None,
            };
            Ok((get_rule(row, 0)?, flow))
        })
        .collect()
}

pub(super) async fn place(readers: &Readers, run: RunId) -> Result<Option<SlotPlace>, StoreError> {
    let query = sqlx::query(PLACE).bind(run.cell()).bind(sql_limit(Place::MOST));
    let row = readers.single(|session| Box::pin(session.optional(query))).await?;
    row.map(|row| {
        Ok(SlotPlace {
            key: get_text(&row, 0)?,
            ahead: get_number(&row, 1)?,
        })
    })
    .transpose()
}
