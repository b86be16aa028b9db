//! Questions about runs: their states for the orchestrator, details for people.

use std::collections::{BTreeSet, HashMap};

use callboard_actors::domain::{
    ClaimId, DeadLetter, EventId, HistoryEntry, HistoryKind, Priority, RunId, RunState, RunStatus, StepId,
};
use callboard_actors::ports::{JobView, Orphans, RunView, StepView, StoreError, WaitView};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::cells::{Id as _, plain};
use super::deferrals;
use super::error::unreadable;
use super::letters;
use super::readers::Readers;
use super::rows::{
    event_ids, gates, get, get_id, get_id_or_null, get_json, get_json_or_null, get_key, get_named, get_number,
    get_text, get_text_or_null, get_time, get_time_or_null, job, step, summary, wait,
};
use crate::store::paging::sql_limit;
use crate::store::parts::Parts;

/// Open runs by id. `event_id` and `event_ids` stand side by side.
pub(super) const STATES: &str =
    "SELECT id, function_id, version, status, event_name, request_version, plan_only, step_group, started_at,
        priority, event_id, event_ids, singleton, gates, original_id, edited, batch_id, reporter,
        (SELECT true FROM callboard.deferrals WHERE run_id = runs.id LIMIT 1)
    FROM callboard.runs WHERE id = ANY ($1) AND ended_at IS NULL";

pub(super) const BODIES: &str = "SELECT id, body FROM callboard.events WHERE id = ANY ($1)";

pub(super) const STEPS: &str =
    "SELECT run_id, step_id, op, label, race, started_at, until, position, failed, ended_at, memo
    FROM callboard.steps WHERE run_id = ANY ($1) ORDER BY run_id, seq";

pub(super) const JOB_KEYS: &str = "SELECT run_id, key, attempt FROM callboard.jobs WHERE run_id = ANY ($1)";

pub(super) const SUMMARY: &str = "SELECT id, function_id, function_version, status, event_id, event_ids, event_name,
        started_at, ended_at, output, original_id, batch_id FROM callboard.runs WHERE id = $1";

pub(super) const HISTORY: &str =
    "SELECT at, kind, step_id, attempt, detail FROM callboard.history WHERE run_id = $1 ORDER BY seq";

/// Without an order, which the index of due jobs would be read from end to end for.
pub(super) const JOBS: &str = "SELECT run_id, key, function_id, attempt, due, priority, payload FROM callboard.jobs
    WHERE run_id = $1";

pub(super) const WAITS: &str =
    "SELECT run_id, key, function_id, kind, name, path, lookup_key, condition, created_at, expires_at
    FROM callboard.waits WHERE run_id = $1 ORDER BY key";

/// The second column is set for the last run of a span that is not the last.
pub(super) const ORPHANS: &str = "WITH open AS MATERIALIZED (
        SELECT id FROM callboard.runs WHERE ended_at IS NULL AND id > $1 ORDER BY id LIMIT $2)
    SELECT id, false FROM open
    WHERE NOT EXISTS (SELECT 1 FROM callboard.jobs WHERE run_id = open.id AND key NOT IN ('deadline:start', 'deadline:finish'))
        AND NOT EXISTS (SELECT 1 FROM callboard.dead_letters
            WHERE run_id = open.id AND key NOT IN ('deadline:start', 'deadline:finish'))
    UNION ALL SELECT * FROM (SELECT id, true FROM open LIMIT 1 OFFSET $2 - 1) AS last";

pub(super) async fn load(readers: &Readers, ids: &[RunId]) -> Result<Vec<RunState>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let cells: Vec<Uuid> = ids.iter().map(|id| id.cell()).collect();
    // One instant: a state made of two versions would be one that never was.
    let parts = readers.snapshot(move |session| {
        Box::pin(async move {
            let runs = session.all(sqlx::query(STATES).bind(cells.clone())).await?;
            let mut wanted = BTreeSet::new();
            for row in &runs {
                wanted.extend(event_ids(row, 10)?);
            }
            let wanted: Vec<Uuid> = wanted.into_iter().map(EventId::cell).collect();
            let bodies = session.all(sqlx::query(BODIES).bind(wanted)).await?;
            let steps = session.all(sqlx::query(STEPS).bind(cells.clone())).await?;
            let jobs = session.all(sqlx::query(JOB_KEYS).bind(cells.clone())).await?;
            let letters = letters::of_runs(session, cells.clone()).await?;
            let mut parts = parts(&bodies, &steps, &jobs, letters)?;
            let have_deferred = runs
                .iter()
                .map(|row| get(row, 18))
                .collect::<Result<Vec<Option<bool>>, _>>()?;
            if have_deferred.contains(&Some(true)) {
                let deferrals = deferrals::of_runs(session, cells).await?;
                deferrals
                    .into_iter()
                    .for_each(|(run, deferral)| parts.deferral(run, deferral));
            }
            Ok((runs, parts))
        })
    });
    let (runs, mut parts) = parts.await?;
    let mut states = HashMap::with_capacity(runs.len());
    for row in &runs {
        let state = state(row, &mut parts)?;
        states.insert(state.id, state);
    }
    Ok(ids.iter().filter_map(|id| states.remove(id)).collect())
}

/// What belongs to runs, from its rows.
fn parts(bodies: &[PgRow], steps: &[PgRow], jobs: &[PgRow], letters: Vec<DeadLetter>) -> Result<Parts, StoreError> {
    let mut parts = Parts::default();
    for row in bodies {
        parts.body(get_id(row, 0)?, get_json(row, 1)?);
    }
    for row in steps {
        parts.step(get_id(row, 0)?, step(row)?);
    }
    for row in jobs {
        parts.job(get_id(row, 0)?, get_key(row, 1)?, get_number(row, 2)?);
    }
    letters.into_iter().for_each(|letter| parts.letter(letter));
    Ok(parts)
}

fn state(row: &PgRow, parts: &mut Parts) -> Result<RunState, StoreError> {
    let id: RunId = get_id(row, 0)?;
    let event_ids = event_ids(row, 10)?;
    let events = parts.events_of(id, &event_ids)?;
    let mut state = RunState::new(id, get_id(row, 1)?, get_text(row, 4)?, event_ids, events);
    state.version = get_number(row, 2)?;
    state.status = get_named(row, 3, RunStatus::parse)?;
    state.request_version = get(row, 5)?;
    state.plan_only = get(row, 6)?;
    state.group = serde_json::from_str(get(row, 7)?).map_err(|error| unreadable("a group of steps", error))?;
    state.started_at = get_time_or_null(row, 8)?;
    state.priority = Priority::from_seconds(get(row, 9)?);
    state.lock = get::<Option<Uuid>>(row, 12)?.map(ClaimId::from_uuid);
    if let Some(text) = get_text_or_null(row, 13)? {
        state.gates = gates(&text)?;
    }
    state.original = get_id_or_null(row, 14)?;
    let edited = get_text_or_null(row, 15)?;
    let edited = edited.map(|edited| serde_json::from_str(&edited)).transpose();
    state.edited = edited.map_err(|error| unreadable("an edited step", error))?;
    state.batch = get_id_or_null(row, 16)?;
    let reporter = get_text_or_null(row, 17)?.map(|text| text.parse()).transpose();
    state.reporter = reporter.map_err(|error| unreadable("a call", error))?;
    parts.complete(&mut state);
    Ok(state)
}

pub(super) async fn view(readers: &Readers, id: RunId) -> Result<Option<RunView>, StoreError> {
    let found = readers.snapshot(move |session| {
        Box::pin(async move {
            let Some(run) = session.optional(sqlx::query(SUMMARY).bind(id.cell())).await? else {
                return Ok(None);
            };
            let steps = session.all(sqlx::query(STEPS).bind(vec![id.cell()])).await?;
            let history = session.all(sqlx::query(HISTORY).bind(id.cell())).await?;
            let jobs = session.all(sqlx::query(JOBS).bind(id.cell())).await?;
            let waits = session.all(sqlx::query(WAITS).bind(id.cell())).await?;
            let held = letters::of_runs(session, vec![id.cell()]).await?;
            let deferrals = deferrals::of_run(session, id).await?;
            Ok(Some((run, steps, history, jobs, waits, held, deferrals)))
        })
    });
    let Some((run, steps, history, jobs, waits, mut held, deferrals)) = found.await? else {
        return Ok(None);
    };
    let mut jobs: Vec<JobView> = jobs
        .iter()
        .map(|row| job(row).map(JobView::from))
        .collect::<Result<_, _>>()?;
    jobs.sort_by(|a, b| (a.due, &a.key).cmp(&(b.due, &b.key)));
    held.sort_by(|a, b| a.job.id.key.cmp(&b.job.id.key));
    Ok(Some(RunView {
        summary: summary(&run)?,
        steps: steps
            .iter()
            .map(|row| step(row).map(StepView::from))
            .collect::<Result<_, _>>()?,
        history: history.iter().map(entry).collect::<Result<_, _>>()?,
        jobs,
        waits: waits
            .iter()
            .map(|row| wait(row).map(WaitView::from))
            .collect::<Result<_, _>>()?,
        held,
        deferrals,
    }))
}

fn entry(row: &PgRow) -> Result<HistoryEntry, StoreError> {
    Ok(HistoryEntry {
        at: get_time(row, 0)?,
        kind: get_named(row, 1, HistoryKind::parse)?,
        step: get::<Option<&str>>(row, 2)?.map(|step| StepId::from(&*plain(step))),
        attempt: get_number(row, 3)?,
        detail: get_json_or_null(row, 4)?,
    })
}

pub(super) async fn orphans(readers: &Readers, after: Option<RunId>, span: usize) -> Result<Orphans, StoreError> {
    let query = sqlx::query(ORPHANS)
        .bind(after.map_or(Uuid::nil(), RunId::cell))
        .bind(sql_limit(span.max(1)));
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    let mut orphans = Orphans::default();
    for row in &rows {
        match get(row, 1)? {
            true => orphans.next = Some(get_id(row, 0)?),
            false => orphans.runs.push(get_id(row, 0)?),
        }
    }
    Ok(orphans)
}
