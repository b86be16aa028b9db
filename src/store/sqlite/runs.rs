//! Questions about runs: their states for the orchestrator, lists and details for people.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use callboard_actors::domain::{
    DeadLetter, EventId, HistoryEntry, HistoryKind, JobKey, Json, Priority, RunId, RunState, RunStatus, Step, StepId,
    StepState, WaitKey,
};
use callboard_actors::ports::{JobView, RunView, StepView, StoreError, WaitView};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use super::error::{from_sqlx, unreadable};
use super::jsonb::Rows;
use super::letters;
use super::rows::{
    event_ids, gates, get, get_id, get_json, get_json_or_null, get_key, get_named, get_number, get_time,
    get_time_or_null, job, step, summary, wait,
};
use super::sql_limit;

/// Open runs by id. The columns `event_id` and `event_ids` come last.
const STATES: &str =
    "SELECT id, function_id, version, status, event_name, request_version, plan_only, step_group, started_at,
        priority, gates, event_id, event_ids
    FROM runs WHERE id IN (SELECT value FROM jsonb_each(?1)) AND ended_at IS NULL";

const BODIES: &str = "SELECT id, body FROM events WHERE id IN (SELECT value FROM jsonb_each(?1))";

const STEPS: &str = "SELECT run_id, step_id, op, label, race, started_at, until, position, failed, ended_at, memo
    FROM steps WHERE run_id IN (SELECT value FROM jsonb_each(?1)) ORDER BY run_id, seq";

const JOB_KEYS: &str = "SELECT run_id, key, attempt FROM jobs WHERE run_id IN (SELECT value FROM jsonb_each(?1))";

const SUMMARY: &str = "SELECT id, function_id, function_version, status, event_id, event_ids, event_name, started_at,
        ended_at, output FROM runs WHERE id = ?1";

const HISTORY: &str = "SELECT at, kind, step_id, attempt, detail FROM history WHERE run_id = ?1 ORDER BY seq";

const JOBS: &str =
    "SELECT run_id, key, function_id, attempt, due, priority, payload FROM jobs WHERE run_id = ?1 ORDER BY due, key";

const WAITS: &str = "SELECT run_id, key, function_id, kind, name, path, lookup_key, condition, created_at, expires_at
    FROM waits WHERE run_id = ?1 ORDER BY key";

pub(super) const ORPHANS: &str = "SELECT id FROM runs WHERE ended_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM jobs WHERE run_id = runs.id)
    AND NOT EXISTS (SELECT 1 FROM dead_letters WHERE run_id = runs.id) ORDER BY id LIMIT ?1";

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
        events.insert(get_id::<RunId>(row, 0)?, event_ids(row, 11)?);
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
    tx.commit().await.map_err(from_sqlx)?;

    let mut parts = Parts::read(&bodies, &steps, &jobs, letters)?;
    let mut states = HashMap::with_capacity(rows.len());
    for row in &rows {
        let id: RunId = get_id(row, 0)?;
        let events = events.remove(&id).unwrap_or_default();
        states.insert(id, state(row, events, &mut parts)?);
    }
    Ok(ids.iter().filter_map(|id| states.remove(id)).collect())
}

/// The rows that belong to runs, sorted by run.
struct Parts {
    bodies: HashMap<EventId, Json>,
    steps: HashMap<RunId, Vec<Step>>,
    jobs: HashMap<RunId, BTreeMap<JobKey, u32>>,
    letters: HashMap<RunId, BTreeMap<JobKey, DeadLetter>>,
}

impl Parts {
    fn read(
        bodies: &[SqliteRow],
        steps: &[SqliteRow],
        jobs: &[SqliteRow],
        letters: Vec<DeadLetter>,
    ) -> Result<Self, StoreError> {
        let mut parts = Self {
            bodies: HashMap::with_capacity(bodies.len()),
            steps: HashMap::new(),
            jobs: HashMap::new(),
            letters: HashMap::new(),
        };
        for row in bodies {
            parts.bodies.insert(get_id(row, 0)?, get_json(row, 1)?);
        }
        for row in steps {
            let (run, step) = step(row)?;
            parts.steps.entry(run).or_default().push(step);
        }
        for row in jobs {
            let jobs = parts.jobs.entry(get_id(row, 0)?).or_default();
            jobs.insert(get_key(row, 1)?, get_number(row, 2)?);
        }
        for letter in letters {
            let held = parts.letters.entry(letter.job.id.run).or_default();
            held.insert(letter.job.id.key.clone(), letter);
        }
        Ok(parts)
    }
}

fn state(row: &SqliteRow, event_ids: Vec<EventId>, parts: &mut Parts) -> Result<RunState, StoreError> {
    let id: RunId = get_id(row, 0)?;
    let bodies = event_ids.iter().map(|event| {
        let body = parts.bodies.get(event).cloned();
        body.ok_or_else(|| StoreError::Corrupt(format!("run {id} has lost its event {event}")))
    });
    let events: Arc<[Json]> = bodies.collect::<Result<_, _>>()?;
    let mut state = RunState::new(id, get_id(row, 1)?, get(row, 4)?, event_ids, events);
    state.version = get_number(row, 2)?;
    state.status = get_named(row, 3, RunStatus::parse)?;
    state.request_version = get_number(row, 5)?;
    state.plan_only = get(row, 6)?;
    state.group = serde_json::from_str(get(row, 7)?).map_err(|error| unreadable("a group of steps", error))?;
    state.started_at = get_time_or_null(row, 8)?;
    state.priority = Priority::from_seconds(get(row, 9)?);
    if let Some(text) = get::<Option<&str>>(row, 10)? {
        state.gates = gates(text)?;
    }
    let mut done = Vec::new();
    for step in parts.steps.remove(&id).unwrap_or_default() {
        if let StepState::Done { position, .. } = step.state {
            done.push((position, step.id.clone()));
        }
        state.steps.insert(step.id.clone(), step);
    }
    done.sort();
    state.stack = done.into_iter().map(|(_, step)| step).collect();
    state.jobs = parts.jobs.remove(&id).unwrap_or_default();
    state.held = parts.letters.remove(&id).unwrap_or_default();
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
    tx.commit().await.map_err(from_sqlx)?;
    Ok(Some(RunView {
        summary: summary(&run)?,
        steps: steps
            .iter()
            .map(|row| Ok(step_view(step(row)?.1)))
            .collect::<Result<_, _>>()?,
        history: history.iter().map(entry).collect::<Result<_, _>>()?,
        jobs: jobs.iter().map(job_view).collect::<Result<_, _>>()?,
        waits: waits.iter().map(wait_view).collect::<Result<_, _>>()?,
        held,
    }))
}

fn step_view(step: Step) -> StepView {
    let (status, ended_at, until, memo) = match step.state {
        StepState::Planned => ("planned", None, None, None),
        StepState::Parked { until } => ("parked", None, Some(until), None),
        StepState::Done {
            memo,
            failed: false,
            at,
            ..
        } => ("completed", Some(at), None, Some(memo)),
        StepState::Done { memo, at, .. } => ("failed", Some(at), None, Some(memo)),
    };
    StepView {
        id: step.id,
        op: step.op,
        label: step.label,
        status,
        started_at: step.started_at,
        ended_at,
        until,
        memo,
    }
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

fn job_view(row: &SqliteRow) -> Result<JobView, StoreError> {
    let job = job(row)?;
    Ok(JobView {
        key: job.id.key.to_string(),
        attempt: job.attempt,
        due: job.due,
    })
}

fn wait_view(row: &SqliteRow) -> Result<WaitView, StoreError> {
    let wait = wait(row)?;
    Ok(WaitView {
        kind: wait.kind.as_str(),
        step: match wait.key {
            WaitKey::Step(step) => Some(step),
            WaitKey::Cancel(_) => None,
        },
        name: wait.name,
        condition: wait.condition,
        expires_at: wait.expires_at,
    })
}

pub(super) async fn orphans(readers: &SqlitePool, limit: usize) -> Result<Vec<RunId>, StoreError> {
    let query = sqlx::query(ORPHANS).bind(sql_limit(limit));
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter().map(|row| get_id(row, 0)).collect()
}
