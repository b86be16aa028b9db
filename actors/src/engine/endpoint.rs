//! Runs that an app begins by itself: those of its durable endpoints.
//!
//! ```text
//!   request ──► app ──► [Start], due when the app has been silent for long
//!                │          ▲
//!                ├── steps ─┘ recorded, and the time begins anew
//!                ├── RunComplete ──────────────────────────► Completed, or Failed from status 500 on
//!                └── anything else, or silence ──► from now on the server calls the app, with the request it was
//! ```
//!
//! The first job stands for the app's own work: it owns the run (P4), and what the app reports counts as an answer to it, so
//! the first retry is the second attempt. An app that dies over a request leaves a run that the server goes on with. From
//! then on the app's own work counts no more, should it be alive after all.

use std::time::Duration;

use serde_json::Value;

use super::admission::Claims;
use super::decision::Decision;
use super::start::new_run;
use super::subject::Subject;
use super::{Replied, finish, reply, report};
use crate::domain::{
    CallRef, Event, Failure, Function, Job, JobId, JobKey, Json, NewRun, OpcodeKind, Reply, Report, RequestId, RunId,
    RunState, Timestamp,
};

/// For how long an app may be silent about a run that it is at work on by itself.
pub const SILENCE: Duration = Duration::from_secs(60 * 60);

/// The event of a request; its id is the run's own, so a run that is begun again begins once.
pub const REQUEST: &str = "inngest/http.request";

/// The run `id` of an endpoint, which its app has begun to serve the request of this event.
#[must_use]
pub fn begin(function: &Function, event: &Event, id: RunId, now: Timestamp) -> NewRun {
    let due = now.after(SILENCE);
    let events = std::slice::from_ref(event);
    new_run(function, id, &Subject::new(event), events, Claims::default(), due, now)
}

/// What stands for the call that the app would have been made.
#[must_use]
pub fn session(run: RunId) -> CallRef {
    CallRef {
        job: JobKey::Start,
        attempt: 0,
        request: RequestId::first_at(run.at()),
    }
}

/// Whether the app is at work on the run by itself.
#[must_use]
pub fn is_attended(run: &RunState) -> bool {
    let session = session(run.id);
    let is_first_attempt = run.jobs.get(&session.job) == Some(&session.attempt);
    !run.status.is_final() && is_first_attempt && !run.has_superseded(&session)
}

/// The job that stands for the app's own work.
#[must_use]
pub fn job(run: &RunState, now: Timestamp) -> Job {
    Job {
        id: JobId {
            run: run.id,
            key: JobKey::Start,
        },
        function: run.function,
        attempt: 0,
        due: now.after(SILENCE),
        priority: run.priority,
        payload: None,
        gates: run.gates.of_job(&JobKey::Start, 0),
    }
}

pub(super) fn attended(decision: &mut Decision<'_>, attended: &Replied) {
    let is_over = |kind: &OpcodeKind| matches!(kind, OpcodeKind::StepRun { .. }) || kind.is_lazy();
    match &attended.reply {
        Reply::Steps { ops, .. } if ops.iter().all(|op| is_over(&op.kind)) => {
            super::deadline::begun(decision, attended.called_at);
            let ops = ops.clone();
            report::reported(
                decision,
                &Report {
                    call: session(decision.run.id),
                    ops,
                },
            );
            if !decision.run.status.is_final() {
                decision.job_put(JobKey::Start, 0, decision.context.now.after(SILENCE), None);
            }
        }
        _ => reply::replied(decision, attended),
    }
}

/// The function has returned this; of an endpoint it is the answer to its request, `{"status", "headers", "body"}`.
pub(super) fn completed(decision: &mut Decision<'_>, output: &Json) {
    /// From here on an answer says that the server has failed.
    const FAILED: u64 = 500;
    let status = decision.function.endpoint.and_then(|_| status(output));
    match status.filter(|status| *status >= FAILED) {
        None => finish::completed(decision, output),
        Some(status) => {
            let failure = Failure::new("Error", format!("invalid status code: {status}"));
            finish::failed(decision, &failure);
        }
    }
}

fn status(output: &Json) -> Option<u64> {
    let tree = output.to_tree();
    tree.get("status").and_then(Value::as_u64)
}
