//! Questions about runs: their states for the orchestrator, lists and details for people.

use std::collections::{BTreeSet, HashMap};

use callboard_actors::domain::{
    DeadLetter, EventId, HistoryEntry, HistoryKind, Priority, RunId, RunState, RunStatus, StepId,
};
use callboard_actors::ports::{JobView, Orphans, RunView, StepView, StoreError, WaitView};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use super::deferrals;
use super::error::{from_sqlx, unreadable};
use super::jsonb::Rows;
use super::letters;
use super::rows::{
    event_ids, gates, get, get_id, get_id_or_null, get_json, get_json_or_null, get_key, get_named, get_number,
    get_time, get_time_or_null, job, step, summary, wait,
};
use crate::store::paging::sql_limit;
use crate::store::parts::Parts;

/// Open runs by id. `event_id` and `event_ids` stand side by side.
const STATES: &str =
    "SELECT id, function_id, version, status, event_name, request_version, plan_only, step_group, started_at,
        priority, event_id, event_ids, singleton, gates, original_id, edited, batch_id, reporter,
        EXISTS (SELECT 1 FROM deferrals WHERE run_id = runs.id)
    FROM runs WHERE id IN (SELECT value FROM jsonb_each(?1)) AND ended_at IS NULL";

const BODIES: &str = "SELECT id, body FROM events WHERE id IN (SELECT value FROM jsonb_each(?1))";

const STEPS: &str = "SELECT run_id, step_id, op, label, race, started_at, until, position, failed, ended_at, memo
    FROM steps WHERE run_id IN (SELECT value FROM jsonb_each(?1)) ORDER BY run_id, seq";

const JOB_KEYS: &str = "SELECT run_id, key, attempt FROM jobs WHERE run_id IN (SELECT value FROM jsonb_each(?1))";

const SUMMARY: &str = "SELECT id, function_id, function_version, status, event_id, event_ids, event_name, started_at,
        ended_at, output, original_id, batch_id FROM runs WHERE id = ?1";

const HISTORY: &str = "SELECT at, kind, step_id, attempt, detail FROM history WHERE run_id = ?1 ORDER BY seq";

const JOBS: &str =
    "SELECT run_id, key, function_id, attempt, due, priority, payload FROM jobs WHERE run_id = ?1 ORDER BY due, key";

const WAITS: &str = "SELECT run_id, key, function_id, kind, name, path, lookup_key, condition, created_at, expires_at
    FROM waits WHERE run_id = ?1 ORDER BY key";

/// The second column is set for the last run of a span that is not the last.
pub(super) const ORPHANS: &str = "WITH open AS MATERIALIZED (
        SELECT id FROM runs WHERE ended_at IS NULL AND id > ?1 ORDER BY id LIMIT ?2)
    SELECT id, 0 FROM open
    WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE run_id = open.id AND key NOT IN ('deadline:start', 'deadline:finish'))
        AND NOT EXISTS (SELECT 1 FROM dead_letters
            WHERE run_id = open.id AND key NOT IN ('deadline:start', 'deadline:finish'))
    UNION ALL SELECT * FROM (SELECT id, 1 FROM open LIMIT 1 OFFSET ?2 - 1) AS last";

pub(super) async fn load(readers: &SqlitePool, ids: &[RunId]) -> Result<Vec<RunState>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids_param = || Rows::of_texts(ids).into_bytes();
    // One snapshot: a state made of two versions would be one that never was.
    let mut tx = readers.begin().await.map_err(from_sqlx)?;
    let rows = sqlx::query(STATES)
        .bind(ids_param())
        .fetch_all(&mut *tx)
        .await
        .map_err(from_sqlx)?;
    let mut events = HashMap::with_capacity(rows.len());
    for row in &rows {
        events.insert(get_id::<RunId>(row, 0)?, event_ids(row, 10)?);
    }
    let wanted: BTreeSet<EventId> = events.values().flatten().copied().collect();
    let bodies = sqlx::query(BODIES).bind(Rows::of_texts(wanted).into_bytes());
    let bodies = bodies.fetch_all(&mut *tx).await.map_err(from_sqlx)?;
    let steps = sqlx::query(STEPS)
        .bind(ids_param())
        .fetch_all(&mut *tx)
        .await
        .map_err(from_sqlx)?;
    let jobs = sqlx::query(JOB_KEYS)
        .bind(ids_param())
        .fetch_all(&mut *tx)
        .await
        .map_err(from_sqlx)?;
    let letters = letters::of_runs(&mut tx, ids).await?;
    let have_deferred = rows.iter().map(|row| get(row, 18)).collect::<Result<Vec<bool>, _>>()?;
    let deferrals = match have_deferred.contains(&true) {
        true => deferrals::of_runs(&mut tx, ids).await?,
        false => Vec::new(),
    };
    tx.commit().await.map_err(from_sqlx)?;

    let mut parts = parts(&bodies, &steps, &jobs, letters)?;
    deferrals
        .into_iter()
        .for_each(|(run, deferral)| parts.deferral(run, deferral));
    let mut states = HashMap::with_capacity(rows.len());
    for row in &rows {
        let id: RunId = get_id(row, 0)?;
        let events = events.remove(&id).unwrap_or_default();
        states.insert(id, state(row, events, &mut parts)?);
    }
    Ok(ids.iter().filter_map(|id| states.remove(id)).collect())
}

/// What belongs to runs, from its rows.
fn parts(
    bodies: &[SqliteRow],
    steps: &[SqliteRow],
    jobs: &[SqliteRow],
    letters: Vec<DeadLetter>,
) -> Result<Parts, StoreError> {
    let mut parts = Parts::default();
    for row in bodies {
        parts.body(get_id(row, 0)?, get_json(row, 1)?);
    }
    for row in steps {
        let (run, step) = step(row)?;
        parts.step(run, step);
    }
    for row in jobs {
        parts.job(get_id(row, 0)?, get_key(row, 1)?, get_number(row, 2)?);
    }
    letters.into_iter().for_each(|letter| parts.letter(letter));
    Ok(parts)
}

fn state(row: &SqliteRow, event_ids: Vec<EventId>, parts: &mut Parts) -> Result<RunState, StoreError> {
    let id: RunId = get_id(row, 0)?;
    let events = parts.events_of(id, &event_ids)?;
    let mut state = RunState::new(id, get_id(row, 1)?, get(row, 4)?, event_ids, events);
    state.version = get_number(row, 2)?;
    state.status = get_named(row, 3, RunStatus::parse)?;
    state.request_version = get_number(row, 5)?;
    state.plan_only = get(row, 6)?;
    state.group = serde_json::from_str(get(row, 7)?).map_err(|error| unreadable("a group of steps", error))?;
    state.started_at = get_time_or_null(row, 8)?;
    state.priority = Priority::from_seconds(get(row, 9)?);
    state.lock = get_id_or_null(row, 12)?;
    if let Some(text) = get::<Option<&str>>(row, 13)? {
        state.gates = gates(text)?;
    }
    state.original = get_id_or_null(row, 14)?;
    let edited = get::<Option<&str>>(row, 15)?.map(serde_json::from_str).transpose();
    state.edited = edited.map_err(|error| unreadable("an edited step", error))?;
    state.batch = get_id_or_null(row, 16)?;
    let reporter = get::<Option<&str>>(row, 17)?.map(str::parse).transpose();
    state.reporter = reporter.map_err(|error| unreadable("a call", error))?;
    parts.complete(&mut state);
    Ok(state)
}

pub(super) async fn view(readers: &SqlitePool, id: RunId) -> Result<Option<RunView>, StoreError> {
    let mut tx = readers.begin().await.map_err(from_sqlx)?;
    let run = sqlx::query(SUMMARY).bind(id.to_string());
    let Some(run) = run.fetch_optional(&mut *tx).await.map_err(from_sqlx)? else {
        return Ok(None);
    };
    let steps = sqlx::query(STEPS).bind(Rows::of_texts([id]).into_bytes());
    let steps = steps.fetch_all(&mut *tx).await.map_err(from_sqlx)?;
    let history = sqlx::query(HISTORY)
        .bind(id.to_string())
        .fetch_all(&mut *tx)
        .await
        .map_err(from_sqlx)?;
    let jobs = sqlx::query(JOBS)
        .bind(id.to_string())
        .fetch_all(&mut *tx)
        .await
        .map_err(from_sqlx)?;
    let waits = sqlx::query(WAITS)
        .bind(id.to_string())
        .fetch_all(&mut *tx)
        .await
        .map_err(from_sqlx)?;
    let mut held = letters::of_runs(&mut tx, &[id]).await?;
    held.sort_by(|a, b| a.job.id.key.cmp(&b.job.id.key));
    let deferrals = deferrals::of_run(&mut tx, id).await?;
    tx.commit().await.map_err(from_sqlx)?;
    Ok(Some(RunView {
        summary: summary(&run)?,
        steps: steps
            .iter()
            .map(|row| Ok(StepView::from(step(row)?.1)))
            .collect::<Result<_, _>>()?,
        history: history.iter().map(entry).collect::<Result<_, _>>()?,
        jobs: jobs
            .iter()
            .map(|row| job(row).map(JobView::from))
            .collect::<Result<_, _>>()?,
        waits: waits
            .iter()
            .map(|row| wait(row).map(WaitView::from))
            .collect::<Result<_, _>>()?,
        held,
        deferrals,
    }))
}

fn entry(row: &SqliteRow) -> Result<HistoryEntry, StoreError> {
    Ok(HistoryEntry {
        at: get_time(row, 0)?,
        kind: get_named(row, 1, HistoryKind::parse)?,
        step: get::<Option<&str>>(row, 2)?.map(StepId::from),
        attempt: get_number(row, 3)?,
        detail: get_json_or_null(row, 4)?,
    })
}

pub(super) async fn orphans(readers: &SqlitePool, after: Option<RunId>, span: usize) -> Result<Orphans, StoreError> {
    let query = sqlx::query(ORPHANS)
        .bind(after.map_or_else(String::new, |run| run.to_string()))
        .bind(sql_limit(span.max(1)));
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    let mut orphans = Orphans::default();
    for row in &rows {
        match get(row, 1)? {
            true => orphans.next = Some(get_id(row, 0)?),
            false => orphans.runs.push(get_id(row, 0)?),
        }
    }
    Ok(orphans)
}
