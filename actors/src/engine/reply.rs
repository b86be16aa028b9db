//! An app's reply: what becomes of the run, of its steps, and of the job that asked.

use std::collections::BTreeSet;

use serde_json::json;

use super::complete::{self, Completion, Done};
use super::decision::Decision;
use super::defer;
use super::look_back::Search;
use super::plan::{Plan, Problem, plan};
use super::{Replied, deadline, endpoint, finish};
use crate::domain::{
    Change, Event, Failure, HistoryKind, JobKey, Json, NotedMetadata, Opcode, OpcodeKind, Reply, Step, StepId, StepOp,
    StepState, Timestamp, WaitKind,
};

pub(super) fn replied(decision: &mut Decision<'_>, replied: &Replied) {
    deadline::begun(decision, replied.called_at);
    match &replied.reply {
        Reply::Returned(output) => finish::completed(decision, output),
        Reply::Failed {
            failure,
            status,
            no_retry,
            retry_after,
        } => {
            attempt_failed(
                decision,
                replied,
                None,
                failure,
                *status,
                *no_retry,
                retry_after.as_deref(),
            );
        }
        Reply::Unanswered(failure) => attempt_failed(decision, replied, None, failure, None, false, None),
        Reply::Steps {
            ops,
            request_version,
            no_retry,
            retry_after,
        } => {
            let rules = Rules {
                no_retry: *no_retry,
                retry_after: retry_after.as_deref(),
            };
            steps(decision, replied, ops, *request_version, rules);
        }
    }
}

#[derive(Clone, Copy)]
struct Rules<'a> {
    no_retry: bool,
    retry_after: Option<&'a str>,
}

fn steps(decision: &mut Decision<'_>, replied: &Replied, all: &[Opcode], version: i32, rules: Rules<'_>) {
    // Whatever the rest comes to: a function that throws has put off what it has put off.
    let has_deferred = defer::take_down(decision, all);
    let ops: Vec<&Opcode> = all.iter().filter(|op| !op.kind.is_lazy()).collect();
    let mut plans = Vec::with_capacity(ops.len());
    for op in ops.iter().copied() {
        match plan(&decision.run, decision.function, replied, op, decision.context) {
            Ok(plan) => plans.push((op, plan)),
            Err(Problem::Fatal(failure)) => return finish::fatal(decision, &failure),
            Err(Problem::Attempt(failure)) => {
                return attempt_failed(decision, replied, Some(op), &failure, None, false, rules.retry_after);
            }
        }
    }
    if let Some(silence) = silence(decision, replied, &plans, has_deferred) {
        let failure = Failure::new("Error", silence);
        return attempt_failed(decision, replied, None, &failure, None, false, rules.retry_after);
    }
    if decision.run.request_version < 0 {
        decision.push(Change::RequestVersion(version));
    }
    parallel(decision, &ops);
    decision.job_done(&replied.job.id.key);
    // Waits first: a sibling may be about to cause what is waited for.
    let (first, rest): (Vec<_>, Vec<_>) = plans
        .into_iter()
        .partition(|(op, _)| matches!(op.kind, OpcodeKind::WaitForEvent { .. }));
    let (mut done, mut is_retried) = (Vec::new(), false);
    for (op, plan) in first.into_iter().chain(rest) {
        // A step that is planned says the same again when it has run.
        if !matches!(plan, Plan::Nothing | Plan::Call | Plan::Again) {
            note_metadata(decision, op, attempts(decision, replied));
        }
        match act(decision, replied, op, plan, rules) {
            Acted::Done(step) => done.push(step),
            Acted::Retried => is_retried = true,
            Acted::Otherwise => {}
        }
    }
    if is_retried && !matches!(replied.job.id.key, JobKey::Step(_)) {
        // The app is asked again anyway, and told then what is done.
        complete::relax(decision);
    } else {
        complete::discover(decision, &done);
    }
}

/// What an opcode has come to.
enum Acted {
    /// The step is done.
    Done(Done),
    /// The call is made again.
    Retried,
    /// Something else.
    Otherwise,
}

/// Says what is wrong with a reply that leads nowhere: taking it for an answer would leave the run without a next step,
/// or have the app asked the same for ever. `has_deferred` says that it has put something off: then it may have nothing else
/// to say, and is asked again.
fn silence(
    decision: &Decision<'_>,
    replied: &Replied,
    plans: &[(&Opcode, Plan)],
    has_deferred: bool,
) -> Option<&'static str> {
    let does = |plan: &Plan| !matches!(plan, Plan::Nothing);
    if plans.iter().any(|(_, plan)| matches!(plan, Plan::Complete(_))) {
        return None;
    }
    if let JobKey::Step(target) = &replied.job.id.key {
        let answers = |(op, plan): &(&Opcode, Plan)| op.id == *target && does(plan) && !matches!(plan, Plan::Call);
        return (!plans.iter().any(answers)).then_some("the app did not run the step it was asked for");
    }
    // It has reported steps before, and may well repeat them now.
    if decision.run.reporter.as_ref() == Some(&replied.call()) {
        return None;
    }
    let owners = decision.run.jobs.keys().filter(|key| key.is_owner()).count();
    let is_alone = owners == 1 && decision.run.held.is_empty();
    let has_news = has_deferred || plans.iter().any(|(_, plan)| does(plan));
    (is_alone && !has_news).then_some("the app found no step to run and did not return either")
}

/// Keeps the books of parallel steps; see [`super::complete`].
fn parallel(decision: &mut Decision<'_>, ops: &[&Opcode]) {
    if ops.len() < 2 {
        return;
    }
    if !decision.run.plan_only {
        decision.push(Change::PlanOnly(true));
    }
    if decision.run.request_version >= 2 && ops.iter().any(|op| op.is_plan()) {
        let drives = |op: &&&Opcode| {
            !matches!(
                op.kind,
                OpcodeKind::None | OpcodeKind::RunComplete { .. } | OpcodeKind::DiscoveryRequest
            )
        };
        let is_open = |id: &StepId| !decision.run.steps.get(id).is_some_and(Step::is_done);
        let group: BTreeSet<_> = ops
            .iter()
            .filter(drives)
            .map(|op| op.id.clone())
            .filter(is_open)
            .collect();
        decision.push(Change::Group(group));
    }
}

fn act(decision: &mut Decision<'_>, replied: &Replied, op: &Opcode, plan: Plan, rules: Rules<'_>) -> Acted {
    let now = decision.context.now;
    // An earlier opcode of this reply may have spoken of the step: what is done stays done, and it is parked once.
    let is_settled = match decision.run.steps.get(&op.id).map(|step| &step.state) {
        Some(StepState::Done { .. }) => !matches!(plan, Plan::Complete(_) | Plan::Again),
        Some(StepState::Parked { .. }) => matches!(plan, Plan::Call | Plan::Sleep { .. } | Plan::Wait { .. }),
        Some(StepState::Planned) | None => false,
    };
    if is_settled {
        return Acted::Otherwise;
    }
    match plan {
        Plan::Nothing => {}
        Plan::Record { op: kind, memo, failed } => {
            let done = record(decision, replied, op, kind, memo, failed);
            return done.map_or(Acted::Otherwise, Acted::Done);
        }
        Plan::Retry { op: kind, failure } => {
            if rules.no_retry || is_last_attempt(decision, replied) {
                let memo = failure.to_json().wrapped("error");
                let done = record(decision, replied, op, kind, memo, true);
                return done.map_or(Acted::Otherwise, Acted::Done);
            }
            retry(decision, replied, Some(op), &failure, None, rules.retry_after);
            return Acted::Retried;
        }
        Plan::Call => {
            park(decision, op, StepOp::Run, StepState::Planned, None);
            decision.job_put(JobKey::Step(op.id.clone()), 0, now, None);
        }
        Plan::Sleep { until } => {
            park(decision, op, StepOp::Sleep, StepState::Parked { until }, None);
            decision.job_put(JobKey::Wake(op.id.clone()), 0, until, None);
        }
        Plan::Wait { op: kind, wait, emit } => {
            let until = wait.expires_at;
            park(decision, op, kind, StepState::Parked { until }, emit.as_deref());
            let is_invoke = wait.kind == WaitKind::Invoke;
            let look_back = decision.context.look_back.filter(|_| wait.kind == WaitKind::Event);
            let search = look_back.and_then(|look_back| Search::payload(&decision.run, &wait, look_back));
            decision.push(Change::WaitPut(*wait));
            let due = if search.is_some() { now } else { until };
            decision.job_put(JobKey::Timeout(op.id.clone()), 0, due, search);
            if let (true, Some(event)) = (is_invoke, emit) {
                decision.push(Change::Emit {
                    event: *event,
                    has_listeners: true,
                });
            }
        }
        Plan::Complete(output) => endpoint::completed(decision, &output),
        Plan::Again => decision.job_put(JobKey::Discover(op.id.clone()), 0, now, None),
    }
    Acted::Otherwise
}

/// Remembers what the app notes about a step, in this attempt.
pub(super) fn note_metadata(decision: &mut Decision<'_>, op: &Opcode, attempt: u32) {
    if op.metadata.is_empty() {
        return;
    }
    let step = Some(op.id.clone()).filter(|id| !id.as_str().is_empty());
    let detail = NotedMetadata::detail(&op.metadata);
    decision.note(HistoryKind::MetadataWritten, step, attempt, detail);
}

/// Records the outcome of a step that ran, or whose request was made.
fn record(
    decision: &mut Decision<'_>,
    replied: &Replied,
    op: &Opcode,
    kind: StepOp,
    memo: Json,
    failed: bool,
) -> Option<Done> {
    let (started_at, ended_at) = times(op, replied.called_at, decision.context.now);
    let completion = Completion {
        id: op.id.clone(),
        op: kind,
        label: op.label.clone(),
        race: op.race,
        memo,
        failed,
        attempt: attempts(decision, replied),
        started_at,
        ended_at,
        run_type: op.run_type.clone(),
        event: None,
    };
    complete::record(decision, completion)
}

/// Attempts before this one that count.
fn attempts(decision: &Decision<'_>, replied: &Replied) -> u32 {
    decision.run.counted_attempts(&replied.job.id.key, replied.job.attempt)
}

fn is_last_attempt(decision: &Decision<'_>, replied: &Replied) -> bool {
    attempts(decision, replied) + 1 >= decision.function.max_attempts()
}

fn park(decision: &mut Decision<'_>, op: &Opcode, kind: StepOp, state: StepState, emit: Option<&Event>) {
    let started_at = decision.context.now;
    let until = match state {
        StepState::Parked { until } => Some(until.as_millis()),
        _ => None,
    };
    let mut detail = json!({ "name": op.label, "op": kind.as_str(), "until": until });
    // A wait is deleted when it is over; what it was for is remembered here.
    match &op.kind {
        OpcodeKind::WaitForEvent { event, condition, .. } => {
            detail["event"] = json!(event);
            detail["if"] = json!(condition);
        }
        OpcodeKind::WaitForSignal { signal, .. } => detail["signal"] = json!(signal),
        OpcodeKind::InvokeFunction { function, .. } => {
            detail["function"] = json!(function);
            detail["event_id"] = json!(emit.map(|event| event.id));
        }
        OpcodeKind::StepPlanned if op.run_type.is_some() => detail["type"] = json!(op.run_type),
        _ => {}
    }
    decision.step_put(Step {
        id: op.id.clone(),
        op: kind,
        label: op.label.clone(),
        race: op.race,
        started_at,
        state,
    });
    decision.note(
        HistoryKind::StepScheduled,
        Some(op.id.clone()),
        0,
        Json::from_value(&detail).ok(),
    );
}

/// When a step's code ran: as the SDK says or, if it does not, for as long as the call took.
pub(super) fn times(op: &Opcode, called_at: Timestamp, now: Timestamp) -> (Timestamp, Timestamp) {
    const NANOS_PER_MILLI: i64 = 1_000_000;
    match op.timing {
        Some((start, duration)) if start > 0 && duration >= 0 => (
            Timestamp::from_millis(start / NANOS_PER_MILLI),
            Timestamp::from_millis(start.saturating_add(duration) / NANOS_PER_MILLI),
        ),
        _ => (called_at, now),
    }
}

/// The attempt came to nothing: it is made again later, or the run has failed.
fn attempt_failed(
    decision: &mut Decision<'_>,
    replied: &Replied,
    op: Option<&Opcode>,
    failure: &Failure,
    status: Option<u16>,
    no_retry: bool,
    retry_after: Option<&str>,
) {
    if no_retry || is_last_attempt(decision, replied) {
        note_failure(decision, replied, op, failure, status, None);
        if failure.name().starts_with("InngestErr") || failure.name() == "output_too_large" {
            return finish::fatal(decision, failure);
        }
        return finish::failed(decision, failure);
    }
    retry(decision, replied, op, failure, status, retry_after);
}

/// The same job again, after a wait.
fn retry(
    decision: &mut Decision<'_>,
    replied: &Replied,
    op: Option<&Opcode>,
    failure: &Failure,
    status: Option<u16>,
    retry_after: Option<&str>,
) {
    let context = decision.context;
    let due = context
        .retry
        .next(attempts(decision, replied), retry_after, context.now, context.dice);
    note_failure(decision, replied, op, failure, status, Some(due));
    // Attempts of a job only go up, counted or not: what comes of an earlier one is known by that.
    decision.job_put(replied.job.id.key.clone(), replied.job.attempt + 1, due, None);
}

fn note_failure(
    decision: &mut Decision<'_>,
    replied: &Replied,
    op: Option<&Opcode>,
    failure: &Failure,
    status: Option<u16>,
    retry_at: Option<Timestamp>,
) {
    let target = match &replied.job.id.key {
        JobKey::Step(step) => Some(step.clone()),
        _ => None,
    };
    let step = op
        .map(|op| op.id.clone())
        .filter(|id| !id.as_str().is_empty())
        .or(target);
    let name = op.map(|op| op.label.clone());
    let detail = json!({
        "error": failure.to_value(),
        "name": name,
        "retry_at": retry_at.map(Timestamp::as_millis),
        "started_at": replied.called_at.as_millis(),
        "status": status,
    });
    decision.note(
        HistoryKind::AttemptFailed,
        step,
        attempts(decision, replied),
        Json::from_value(&detail).ok(),
    );
}
