//! The pure core: what happened goes in, what must become true comes out.
//!
//! [`decide`] takes a run's state and an [`Input`] and gives the next state with the [`Change`]s that lead there. It reads
//! no clock and rolls no dice (both arrive in [`Context`]), and it is the only place where a run's fate is decided.
//!
//! ```text
//!                     ┌──────────── attempt failed, attempts left: the same job, later ─────────────┐
//!                     ▼                                                                             │
//!   event ──► [Start] ──► call ──► reply ─┬─ returned ───────────────────────────────► Completed    │
//!                          ▲              ├─ failed ── no attempts left ─────────────► Failed       │
//!                          │              │      └────────────────────────────────────────────────────┘
//!                          │              └─ opcodes, each once per step:
//!                          │                   StepRun, StepFailed ── memo recorded ─────────┐
//!                          │                   StepPlanned ── [Step] ── call for that step ──┤
//!                          │                   Sleep ── [Wake] ── null recorded ─────────────┤
//!                          │                   WaitForEvent, WaitForSignal, Invoke           │
//!                          │                     ├─ [Resume] ── memo recorded ───────────────┤
//!                          │                     └─ [Timeout] ── null or error recorded ─────┤
//!                          └───────────────── [Discover] ◄── when no parallel sibling is left ┘
//!
//!   [Cancel], [Deadline] at any time ──► Cancelled          [Name] is a job
//!
//!   report of a call under way ── memos recorded, the call goes on
//!
//!   DeferAdd, with anything ── taken down ── the run's end, any of the three ──► an event for each that was not taken back
//!
//!   any job that is given up ──► held ─┬─ revived ──► the same job, now
//!                                      └─ discarded ──► Failed
//! ```
//!
//! Promises, each a property test:
//! * a run that has not ended has a job that brings it on, or a dead letter that holds it (P4);
//! * a recorded memo never changes (P3): a second report of a step that is done is a no-op;
//! * a step that is under way is not begun again when the SDK reports it again, as it does in every discovery;
//! * what was put off until the run's end starts then, once, unless it was taken back;
//! * nothing happens to a run that has ended.

mod admission;
mod complete;
mod deadline;
mod decision;
mod defer;
mod dispatch;
pub mod endpoint;
mod finish;
mod gates;
pub mod gathering;
mod hold;
mod look_back;
mod plan;
pub mod rate_limit;
mod reply;
mod report;
pub mod rerun;
pub mod retry;
mod start;
mod subject;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

pub use admission::{Lock, lock};
pub use dispatch::{Next, dispatch, is_due};
pub(crate) use finish::refused_invoke;
pub use gates::{limits, run_limit};
pub use look_back::Search;
pub use plan::invoke_key;
pub use report::{contradicts, is_known, refusal};
pub use rerun::rerun;
pub use retry::RetryPolicy;
pub(crate) use start::refuse_lock;
pub use start::{Start, begin, invoked_event, start};

use crate::domain::{
    CallRef, Change, Deadline, Failure, FetchFailure, FetchResponse, Function, HistoryKind, Job, JobKey, Json,
    LetterId, Reply, Report, RequestId, Resumption, RunState, RunStatus, StepId, StepOp, Timestamp,
};
use decision::Decision;

/// What the engine is told beside a run and an input.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Now.
    pub now: Timestamp,
    /// Chance, in [0, 1).
    pub dice: f64,
    /// How long failed attempts wait.
    pub retry: RetryPolicy,
    /// Which of the server's own events start functions.
    pub listeners: &'a dyn Listeners,
    /// How long before a wait for an event was set that event may have come; `None`: only what comes later counts.
    pub look_back: Option<Duration>,
}

/// Knows which names of events start functions.
pub trait Listeners: std::fmt::Debug {
    /// Whether an event of this name might start a function.
    fn listens(&self, event_name: &str) -> bool;
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The first call of a run with deadlines is about to go out.
    Begun,
    /// A deadline has come.
    Missed(Deadline),
    /// A call came back.
    Replied(Box<Replied>),
    /// A call that is under way reports steps that are done.
    Reported(Box<Report>),
    /// An app reports of a run that it has begun by itself. What can be reported while a call is under way is recorded;
    /// with anything else the run is the server's from now on.
    Attended(Box<Replied>),
    /// This call is about to go out, and takes the place of one that has reported steps.
    Superseded(CallRef),
    /// A sleep is over.
    Woke(StepId),
    /// A wait's time is up.
    TimedOut(StepId),
    /// A wait brought this.
    Resumed(StepId, Resumption),
    /// What came of the [`Search`] for an event that was there before its wait, if there was one.
    Looked(StepId, Option<Resumption>),
    /// Somebody wants the run cancelled, for this reason.
    Cancelled(String),
    /// A job turned out to have nothing left to do.
    Idle(JobKey),
    /// The run has more steps than it may have.
    Overflowed,
    /// Attempts at this job keep killing the executor; why.
    Poisoned(Box<Job>, String),
    /// The job of this dead letter is to be tried again.
    Revived(LetterId),
    /// The job of this dead letter is not worth another try.
    Discarded(LetterId),
}

/// A call that came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Replied {
    /// The job that asked for it.
    pub job: Job,
    /// Which call for the job it was.
    pub request: RequestId,
    /// The answer.
    pub reply: Reply,
    /// When the call went out.
    pub called_at: Timestamp,
    /// What came of the requests that its gateway steps asked for.
    pub fetched: HashMap<StepId, Result<FetchResponse, FetchFailure>>,
    /// Which of the signals that its steps want to wait for have a waiter elsewhere.
    pub signals_taken: HashSet<String>,
}

impl Replied {
    /// The call.
    pub(crate) fn call(&self) -> CallRef {
        CallRef::new(&self.job, self.request)
    }
}

/// Decides what an input makes of a run.
///
/// The state that comes back is one version on. If the changes can't be committed under the version that went in, both
/// are void: load the run again and decide again.
#[must_use]
pub fn decide(run: RunState, function: &Function, input: &Input, context: &Context<'_>) -> (RunState, Vec<Change>) {
    let mut decision = Decision::new(run, function, context);
    if decision.run.status.is_final() {
        return decision.finish();
    }
    match input {
        Input::Begun => deadline::begun(&mut decision, context.now),
        Input::Missed(which) => deadline::missed(&mut decision, *which),
        // Somebody else has done the job, or is at its next attempt: what this one brought comes too late.
        Input::Replied(replied) if !is_current(&decision.run, &replied.job) => {}
        // An app whose report was refused answers with an error, which is about that call and not about the function.
        Input::Replied(replied) if decision.run.has_superseded(&replied.call()) => {}
        Input::Replied(replied) => reply::replied(&mut decision, replied),
        Input::Attended(attended) if !endpoint::is_attended(&decision.run) || attended.job.id.key != JobKey::Start => {}
        Input::Attended(attended) => endpoint::attended(&mut decision, attended),
        Input::Reported(report) => report::reported(&mut decision, report),
        Input::Superseded(call) => decision.push(Change::Reporter(call.clone())),
        Input::Woke(step) => {
            decision.job_done(&JobKey::Wake(step.clone()));
            complete::parked(&mut decision, step, Json::null(), false, None);
        }
        // What the wait was for has come: its job is held, and nobody may say that it has not.
        Input::TimedOut(step) if decision.run.held.contains_key(&JobKey::Resume(step.clone())) => {
            decision.job_done(&JobKey::Timeout(step.clone()));
        }
        Input::TimedOut(step) => {
            decision.job_done(&JobKey::Timeout(step.clone()));
            let (memo, failed) = timeout_memo(decision.run.steps.get(step).map(|step| step.op));
            complete::parked(&mut decision, step, memo, failed, None);
        }
        Input::Resumed(step, Resumption { memo, event }) => {
            decision.job_done(&JobKey::Resume(step.clone()));
            let failed = decision
                .run
                .steps
                .get(step)
                .is_some_and(|step| step.op == StepOp::Invoke)
                && memo.as_str().starts_with("{\"error\":");
            complete::parked(&mut decision, step, memo.clone(), failed, *event);
        }
        Input::Looked(step, found) => look_back::looked(&mut decision, step, found.as_ref()),
        Input::Cancelled(reason) => finish::cancelled(&mut decision, reason),
        Input::Idle(job) => decision.job_done(job),
        Input::Overflowed => finish::fatal(&mut decision, &Failure::of_step_limit(function.caps.steps)),
        // Somebody else has done the job meanwhile.
        Input::Poisoned(job, _) if !is_current(&decision.run, job) => {}
        Input::Poisoned(job, reason) => hold::bury(&mut decision, job, reason),
        Input::Revived(letter) => hold::revive(&mut decision, *letter),
        Input::Discarded(letter) => hold::discard(&mut decision, *letter),
    }
    decision.ensure_owned();
    decision.finish()
}

/// Whether a job is still to be done, in this attempt.
pub(crate) fn is_current(run: &RunState, job: &Job) -> bool {
    run.jobs.get(&job.id.key) == Some(&job.attempt)
}

fn timeout_memo(op: Option<StepOp>) -> (Json, bool) {
    const NAME: &str = "InngestInvokeTimeoutError";
    const MESSAGE: &str = "Timed out waiting for invoked function to complete";
    match op {
        Some(StepOp::Invoke) => {
            let failure = Failure::new(NAME, MESSAGE).with("error", format!("{NAME}: {MESSAGE}"));
            (failure.to_json().wrapped("error"), true)
        }
        _ => (Json::null(), false),
    }
}

impl Decision<'_> {
    /// P4 as code: a run that goes on, is not held and has lost its last job is asked again what it wants.
    ///
    /// It comes to this when a reply holds nothing new and nothing is under way, for instance when a step's second report
    /// is all it holds.
    fn ensure_owned(&mut self) {
        if self.run.status.is_final() || self.run.is_owned() {
            return;
        }
        let key = self.run.stack.last().cloned().map_or(JobKey::Start, JobKey::Discover);
        self.job_put(key, 0, self.context.now, None);
    }

    /// Notes the end of the run.
    fn note_end(&mut self, status: RunStatus) {
        let detail = Json::from_value(&serde_json::json!({ "status": status.as_str() })).ok();
        self.note(HistoryKind::RunEnded, None, 0, detail);
    }
}
