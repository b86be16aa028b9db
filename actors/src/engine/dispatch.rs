//! What a job that has come due leads to: a call, or an input to decide upon.

use super::look_back::Search;
use super::{Input, deadline, endpoint, is_current};
use crate::domain::{
    Call, CallRef, Function, Job, JobKey, Json, RequestId, Resumption, RunState, StepId, Target, Ticket,
};

/// What to do about a job.
#[derive(Debug)]
pub enum Next {
    /// Call the app; its answer is an [`Input::Replied`].
    Call(Box<Call>),
    /// Look for the event; what comes of it is an [`Input::Looked`].
    Search(Box<Search>),
    /// Decide at once. After [`Input::Begun`] and [`Input::Superseded`] the same job is to be dispatched again, for its
    /// call.
    Decide(Input),
    /// Nothing: the run has ended or has moved past the job.
    Stale,
}

/// Whether a job has something to do. One of an earlier attempt is one that somebody has done already.
#[must_use]
pub fn is_due(run: &RunState, job: &Job) -> bool {
    !run.status.is_final() && is_current(run, job)
}

/// Says what a due job leads to. `request` will name the call, and `epoch` is that of the job's lease.
#[must_use]
pub fn dispatch(run: &RunState, function: &Function, job: &Job, request: RequestId, epoch: u64) -> Next {
    if !is_due(run, job) {
        return Next::Stale;
    }
    let (target, stack_current) = match &job.id.key {
        JobKey::Deadline(which) => return Next::Decide(Input::Missed(*which)),
        JobKey::Wake(step) => return Next::Decide(Input::Woke(step.clone())),
        JobKey::Timeout(step) => {
            return match &job.payload {
                None => Next::Decide(Input::TimedOut(step.clone())),
                Some(payload) => Search::of(run, step, payload).map_or_else(
                    || Next::Decide(Input::Looked(step.clone(), None)),
                    |search| Next::Search(Box::new(search)),
                ),
            };
        }
        JobKey::Resume(step) => {
            let brought = Resumption::of(job.payload.as_ref().unwrap_or(&Json::null()));
            return Next::Decide(Input::Resumed(step.clone(), brought));
        }
        JobKey::Cancel => {
            let reason = job
                .payload
                .as_ref()
                .and_then(|reason| reason.to::<String>().ok())
                .unwrap_or_default();
            return Next::Decide(Input::Cancelled(reason));
        }
        JobKey::Step(step) if run.steps.get(step).is_none_or(crate::domain::Step::is_done) => {
            return Next::Decide(Input::Idle(job.id.key.clone()));
        }
        JobKey::Step(step) => (Target::Step(step.clone()), run.stack.len()),
        JobKey::Start if run.started_at.is_none() && deadline::matter(&function.flow.timeouts) => {
            return Next::Decide(Input::Begun);
        }
        JobKey::Start => (Target::Discovery, 0),
        JobKey::Discover(step) => (
            Target::Discovery,
            run.stack.iter().position(|id| id == step).map_or(0, |at| at + 1),
        ),
    };
    if run.stack.len() >= function.caps.steps {
        return Next::Decide(Input::Overflowed);
    }
    let call = CallRef::new(job, request);
    // An earlier call of this attempt has reported steps, and may be at work still. Or the app has begun by itself.
    let reporter = run.reporter.clone();
    let rival = reporter.or_else(|| function.endpoint.map(|_| endpoint::session(run.id)));
    if let Some(rival) = rival.filter(|rival| rival.is_beside(&call) && rival.request != request) {
        let request = request.after(rival.request);
        return Next::Decide(Input::Superseded(CallRef { request, ..call }));
    }
    Next::Call(Box::new(Call {
        url: function.url.clone(),
        endpoint: function.endpoint,
        run: run.id,
        function: function.id,
        app: function.app.clone(),
        target,
        ticket: Ticket { call, epoch },
        may_report: run.edited_input().is_none() && !function.is_connected(),
        attempt: run.counted_attempts(&job.id.key, job.attempt),
        max_attempts: function.max_attempts(),
        request_version: run.request_version,
        plan_only: run.plan_only,
        stack: run.stack.clone(),
        stack_current,
        events: run.events.clone(),
        defers: defers(run),
        steps: memos(run),
    }))
}

/// What the run has put off, sorted by id.
fn defers(run: &RunState) -> Vec<(StepId, bool)> {
    let known = run.deferrals.values();
    let mut defers: Vec<_> = known
        .map(|deferral| (deferral.id.clone(), deferral.is_pending()))
        .collect();
    defers.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    defers
}

/// The memos of the completed steps, and the input of one that was edited, sorted by step id as canonical JSON wants its members.
fn memos(run: &RunState) -> Vec<(StepId, Json)> {
    let done = run
        .stack
        .iter()
        .filter_map(|id| Some((id.clone(), run.steps.get(id)?.memo()?.clone())));
    let mut memos: Vec<_> = done.chain(run.edited_input()).collect();
    memos.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    memos
}
