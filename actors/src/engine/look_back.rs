//! Waits that look back: a wait set just after its event arrived is ended by that event all the same.
//!
//! With [`Context::look_back`](super::Context::look_back) the job that ends a wait's patience is due at once, carrying a
//! [`Search`], in the commit that sets the wait. So the search is made after the wait can be found by events, and it is made
//! whatever crashes in between: an event that came before is found by the search, one that comes later finds the wait. If
//! nothing is found the job is put again, for the end of the wait's patience.
//!
//! What counts is, of the events with the wait's name that fit its condition, the oldest by its id that
//! * was received within the look-back before the wait was set, or later,
//! * was received neither before the run was created nor after the wait's patience ended, and is not what started it,
//! * has not ended a wait of the run that was over before this one was set: who waits for one event after another gets one
//!   after another, and who waits for one in two places at once gets it in both.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::complete;
use super::decision::Decision;
use crate::domain::{
    Event, EventId, JobKey, Json, Lookup, Resumption, RunState, Step, StepId, StepOp, StepState, Timestamp, Wait,
};
use crate::expression::{Equality, Expression, Scope};

/// What the job carries: the wait, as far as it matters.
#[derive(Debug, Serialize, Deserialize)]
struct Carried {
    name: String,
    from: i64,
    until: i64,
    /// Steps that were done when it was set.
    done: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// A look at the events that came before a wait was set.
#[derive(Debug, Clone)]
pub struct Search {
    /// The step that waits.
    pub step: StepId,
    /// The events' name.
    pub name: String,
    /// Received then or later.
    pub from: Timestamp,
    /// Received before.
    pub until: Timestamp,
    lookup: Option<Lookup>,
    condition: Option<String>,
    /// What started the run.
    causes: Vec<EventId>,
    /// Events that the run has got already.
    given: HashSet<Json>,
}

impl Search {
    /// What the job of a wait has to carry for it.
    pub(super) fn payload(run: &RunState, wait: &Wait, look_back: Duration) -> Option<Json> {
        let from = wait.created_at.before(look_back).max(run.created_at());
        let (path, key) = wait
            .lookup
            .as_ref()
            .map(|lookup| (lookup.path.clone(), lookup.key.clone()))
            .unzip();
        let carried = Carried {
            name: wait.name.clone(),
            from: from.as_millis(),
            until: wait.expires_at.as_millis(),
            done: run.stack.len(),
            condition: wait.condition.clone(),
            path,
            key,
        };
        Json::from_value(&carried).ok()
    }

    /// The search that a job of this run asks for.
    pub(super) fn of(run: &RunState, step: &StepId, payload: &Json) -> Option<Self> {
        let carried: Carried = payload.to().ok()?;
        let lookup = carried.path.zip(carried.key).map(|(path, key)| Lookup { path, key });
        let before = run.stack.iter().take(carried.done);
        let waited = |step: &&Step| step.op == StepOp::WaitForEvent;
        let before = before.filter_map(|id| run.steps.get(id)).filter(waited);
        let given = before.filter_map(|step| step.memo().cloned());
        Some(Self {
            step: step.clone(),
            name: carried.name,
            from: Timestamp::from_millis(carried.from),
            until: Timestamp::from_millis(carried.until),
            lookup,
            condition: carried.condition,
            causes: run.event_ids.clone(),
            given: given.collect(),
        })
    }

    /// Whether this is an event that ends the wait. The caller asks about those of the name and the time only.
    #[must_use]
    pub fn fits(&self, event: &Event, now: Timestamp) -> bool {
        if self.causes.contains(&event.id) || self.given.contains(&event.body) {
            return false;
        }
        let Some(condition) = &self.condition else { return true };
        let body = event.body.to_tree();
        let is_candidate = |lookup: &Lookup| Equality::key_of(&body, &lookup.path) == lookup.key;
        if !self.lookup.as_ref().is_none_or(is_candidate) {
            return false;
        }
        let scope = Scope::of_async(&body, now.to_datetime());
        Expression::compile_bound(condition).is_ok_and(|condition| condition.truth(&scope).unwrap_or(false))
    }
}

/// A search has ended.
pub(super) fn looked(decision: &mut Decision<'_>, step: &StepId, found: Option<&Resumption>) {
    let (timeout, resume) = (JobKey::Timeout(step.clone()), JobKey::Resume(step.clone()));
    let until = match decision.run.steps.get(step).map(|step| &step.state) {
        Some(StepState::Parked { until }) => *until,
        _ => return decision.job_done(&timeout),
    };
    // What the wait was for has come, and nobody may say that it has not.
    if decision.run.held.contains_key(&resume) {
        return decision.job_done(&timeout);
    }
    match found {
        Some(Resumption { memo, event }) if !decision.run.jobs.contains_key(&resume) => {
            decision.job_done(&timeout);
            complete::parked(decision, step, memo.clone(), false, *event);
        }
        _ => decision.job_put(timeout, 0, until, None),
    }
}
