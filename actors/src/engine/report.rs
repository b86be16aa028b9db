//! A report of a call that is under way: what it has done is recorded, and the call goes on.
//!
//! Promises: only the newest call of the current attempt at a job is listened to, so a call that was given up for lost
//! changes nothing once another has reported. Steps that are recorded keep their results (P3), and nobody is asked what
//! comes next: the call that reports goes on by itself. No call goes on with a result that is not the one recorded. Attempts count from the last report on.

use super::complete::{Completion, record};
use super::decision::Decision;
use super::reply::{note_metadata, times};
use super::{deadline, defer, finish};
use crate::domain::{
    CallRef, Change, Failure, Json, Opcode, OpcodeKind, Report, ReportRefused, RequestId, RunState, Step, StepOp,
    limits,
};

/// Why a report about a run in this state is not taken, if it is not.
#[must_use]
pub fn refusal(run: &RunState, report: &Report) -> Option<ReportRefused> {
    let call = &report.call;
    if run.status.is_final() || run.jobs.get(&call.job) != Some(&call.attempt) || run.has_superseded(call) {
        return Some(ReportRefused::Stale);
    }
    let bytes: usize = news(run, report).map(|(_, memo)| memo.len()).sum();
    (bytes > 0 && run.memo_bytes() + bytes > limits::RUN_STATE_BYTES).then_some(ReportRefused::TooLarge)
}

/// Whether it reports another result than is recorded: two calls have run a step, and this one, which goes on with its own
/// result, must not.
#[must_use]
pub fn contradicts(run: &RunState, report: &Report) -> bool {
    report.ops.iter().any(|op| match &op.kind {
        OpcodeKind::StepRun { memo } => {
            let recorded = run.steps.get(&op.id).and_then(Step::memo);
            recorded.is_some_and(|recorded| recorded != memo)
        }
        _ => false,
    })
}

/// Whether all that it reports is recorded already.
#[must_use]
pub fn is_known(run: &RunState, report: &Report) -> bool {
    news(run, report).next().is_none() && !defer::has_news(run, &report.ops)
}

/// The results that are not recorded yet.
fn news<'a>(run: &'a RunState, report: &'a Report) -> impl Iterator<Item = (&'a Opcode, &'a Json)> {
    report.ops.iter().filter_map(|op| match &op.kind {
        OpcodeKind::StepRun { memo } if !run.steps.get(&op.id).is_some_and(Step::is_done) => Some((op, memo)),
        _ => None,
    })
}

/// Records what is new.
pub(super) fn reported(decision: &mut Decision<'_>, report: &Report) {
    if refusal(&decision.run, report).is_some() {
        return;
    }
    if contradicts(&decision.run, report) {
        return call_again(decision, &report.call);
    }
    // What is known was recorded with all that goes with it.
    if is_known(&decision.run, report) {
        return;
    }
    let called_at = report.call.request.at().min(decision.context.now);
    deadline::begun(decision, called_at);
    defer::take_down(decision, &report.ops);
    let news: Vec<_> = news(&decision.run, report)
        .map(|(op, memo)| (op.clone(), memo.clone()))
        .collect();
    let most = decision.function.caps.steps;
    if decision.run.stack.len() + news.len() > most {
        return finish::fatal(decision, &Failure::of_step_limit(most));
    }
    let attempt = decision.run.counted_attempts(&report.call.job, report.call.attempt);
    for (op, memo) in news {
        note_metadata(decision, &op, attempt);
        let (started_at, ended_at) = times(&op, called_at, decision.context.now);
        let completion = Completion {
            id: op.id,
            op: StepOp::Run,
            label: op.label,
            race: op.race,
            memo,
            failed: false,
            attempt,
            started_at,
            ended_at,
            run_type: op.run_type,
            event: None,
        };
        record(decision, completion);
    }
    if decision.run.reporter.as_ref() != Some(&report.call) {
        decision.push(Change::Reporter(report.call.clone()));
    }
}

/// Has the app called again for this job, at once: none of the calls so far counts any more.
fn call_again(decision: &mut Decision<'_>, call: &CallRef) {
    let attempt = call.attempt + 1;
    // Not a failure of the function's, so no attempt that counts.
    let (job, request) = (call.job.clone(), RequestId::first_at(call.request.at()));
    decision.push(Change::Reporter(CallRef { job, attempt, request }));
    decision.job_put(call.job.clone(), attempt, decision.context.now, None);
}
