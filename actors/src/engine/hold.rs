//! Jobs that are given up: each becomes a dead letter, which holds its run until somebody decides.
//!
//! Promises: a run that is held keeps what it has, and what else it has under way goes on; a job that is put back goes on
//! where it was, so that completed steps are not run again (P3). What decides about a letter that is gone changes nothing.

use serde_json::json;

use super::decision::Decision;
use super::finish;
use crate::domain::{Change, DeadLetter, Failure, HistoryKind, Job, JobKey, Json, LetterId, StepId};

/// Gives a job up.
pub(super) fn bury(decision: &mut Decision<'_>, job: &Job, reason: &str) {
    let letter = DeadLetter::new(
        job.clone(),
        reason.to_owned(),
        decision.run.version,
        decision.context.now,
    );
    note(decision, HistoryKind::JobBuried, &letter, Some(reason));
    decision.push(Change::Buried(letter));
}

/// Puts the job of a letter back, due now. Attempts that the app answered count as before.
pub(super) fn revive(decision: &mut Decision<'_>, id: LetterId) {
    let Some(letter) = held(decision, id) else { return };
    note(decision, HistoryKind::JobRevived, &letter, None);
    let Job {
        id, attempt, payload, ..
    } = letter.job;
    decision.push(Change::Unburied(id.key.clone()));
    decision.job_put(id.key, attempt, decision.context.now, payload);
}

/// Fails the run for the reason that a letter tells.
pub(super) fn discard(decision: &mut Decision<'_>, id: LetterId) {
    if let Some(letter) = held(decision, id) {
        finish::failed(decision, &Failure::new("PoisonousJob", letter.reason.as_str()));
    }
}

fn held(decision: &Decision<'_>, id: LetterId) -> Option<DeadLetter> {
    decision.run.held.values().find(|letter| letter.id == id).cloned()
}

fn note(decision: &mut Decision<'_>, kind: HistoryKind, letter: &DeadLetter, reason: Option<&str>) {
    let job = &letter.job;
    let mut detail = json!({ "job": job.id.key.to_string(), "letter": letter.id });
    if let Some(reason) = reason {
        detail["reason"] = reason.into();
    }
    decision.note(
        kind,
        step(&job.id.key).cloned(),
        job.attempt,
        Json::from_value(&detail).ok(),
    );
}

/// The step that a job is about; discoveries are about what comes after theirs.
fn step(key: &JobKey) -> Option<&StepId> {
    match key {
        JobKey::Step(step) | JobKey::Wake(step) | JobKey::Timeout(step) | JobKey::Resume(step) => Some(step),
        JobKey::Start | JobKey::Discover(_) | JobKey::Cancel | JobKey::Deadline(_) => None,
    }
}
