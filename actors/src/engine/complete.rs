//! The end of a step: its memo is recorded, and the app is asked what comes next.
//!
//! Parallel steps (request version 2 on): a reply with several steps makes a group, and discovery waits until the last
//! of the group is done. In a race, and in older request versions, every step's end is told at once.

use super::decision::Decision;
use super::finish;
use crate::domain::{Change, EventId, Failure, HistoryKind, JobKey, Json, Step, StepId, StepOp, StepState, Timestamp};

/// A step whose code ran, or whose request was made.
pub(super) struct Completion {
    pub(super) id: StepId,
    pub(super) op: StepOp,
    pub(super) label: String,
    pub(super) race: bool,
    pub(super) memo: Json,
    pub(super) failed: bool,
    pub(super) attempt: u32,
    pub(super) started_at: Timestamp,
    pub(super) ended_at: Timestamp,
    /// What the SDK calls this kind of step.
    pub(super) run_type: Option<String>,
    /// The event that ended it.
    pub(super) event: Option<EventId>,
}

/// Records a step's memo and, if nothing else of its group is under way, asks the app what comes next.
pub(super) fn complete(decision: &mut Decision<'_>, completion: Completion) {
    if let Some(done) = record(decision, completion) {
        discover(decision, &[done]);
    }
}

/// A step whose memo is recorded now.
pub(super) struct Done {
    id: StepId,
    race: bool,
}

/// Records a step's memo, unless it has one. The app is not asked what comes next.
pub(super) fn record(decision: &mut Decision<'_>, completion: Completion) -> Option<Done> {
    let Completion {
        id,
        op,
        label,
        race,
        memo,
        failed,
        attempt,
        started_at,
        ended_at,
        run_type,
        event,
    } = completion;
    if decision.run.steps.get(&id).is_some_and(Step::is_done) {
        return None;
    }
    let limit = decision.function.caps.state_bytes;
    if decision.run.memo_bytes() + memo.len() > limit {
        let message = format!("The function run exceeded the state size limit of {limit} bytes.");
        let failure = Failure::new("InngestErrStateOverflowed", &*message)
            .with("error", format!("InngestErrStateOverflowed: {message}"));
        finish::fatal(decision, &failure);
        return None;
    }
    let known = decision.run.steps.get(&id);
    let was_parked = known.is_some_and(|step| matches!(step.state, StepState::Parked { .. }));
    let race = race || known.is_some_and(|step| step.race);
    let (op, label) = known.map_or((op, label), |step| (step.op, step.label.clone()));
    let mut detail = serde_json::json!({
        "name": label,
        "started_at": started_at.as_millis(),
        "ended_at": ended_at.as_millis(),
    });
    if let Some(run_type) = run_type {
        detail["type"] = serde_json::Value::String(run_type);
    }
    if let Some(event) = event {
        detail["event_id"] = serde_json::Value::from(event.to_string());
    }
    let kind = if failed {
        HistoryKind::StepFailed
    } else {
        HistoryKind::StepCompleted
    };
    let position = u32::try_from(decision.run.stack.len()).unwrap_or(u32::MAX);
    let state = StepState::Done {
        memo,
        failed,
        position,
        at: decision.context.now,
    };
    decision.step_put(Step {
        id: id.clone(),
        op,
        label,
        race,
        started_at,
        state,
    });
    decision.note(kind, Some(id.clone()), attempt, Json::from_value(&detail).ok());
    // Whatever was under way for the step is over: it may have been planned, or parked, and then be run by a discovery.
    decision.job_done(&JobKey::Step(id.clone()));
    if was_parked {
        if op != StepOp::Sleep {
            decision.wait_done(&id);
        }
        for key in [
            JobKey::Wake(id.clone()),
            JobKey::Timeout(id.clone()),
            JobKey::Resume(id.clone()),
        ] {
            decision.job_done(&key);
        }
    }
    if decision.run.group.contains(&id) {
        let mut group = decision.run.group.clone();
        group.remove(&id);
        decision.push(Change::Group(group));
    }
    Some(Done { id, race })
}

/// A parked step is over, with this memo; an event may have ended it.
pub(super) fn parked(decision: &mut Decision<'_>, id: &StepId, memo: Json, failed: bool, event: Option<EventId>) {
    let Some(step) = decision.run.steps.get(id).filter(|step| !step.is_done()) else {
        return;
    };
    let (op, label, race, started_at) = (step.op, step.label.clone(), step.race, step.started_at);
    let ended_at = decision.context.now;
    let id = id.clone();
    complete(
        decision,
        Completion {
            id,
            op,
            label,
            race,
            memo,
            failed,
            attempt: 0,
            started_at,
            ended_at,
            run_type: None,
            event,
        },
    );
}

/// Asks the app what comes next after these steps, which were recorded together: once.
pub(super) fn discover(decision: &mut Decision<'_>, done: &[Done]) {
    let Some(last) = done.last() else { return };
    if !decision.run.group.is_empty() && !done.iter().any(|done| done.race) {
        return;
    }
    relax(decision);
    decision.job_put(JobKey::Discover(last.id.clone()), 0, decision.context.now, None);
}

/// With no parallel sibling left, steps may be run where they are found.
pub(super) fn relax(decision: &mut Decision<'_>) {
    if decision.run.group.is_empty() && decision.run.request_version >= 2 && decision.run.plan_only {
        decision.push(Change::PlanOnly(false));
    }
}
