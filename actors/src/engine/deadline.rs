//! The deadlines of a run: from its creation to its first call, and from there to its end.
//!
//! Each is a job of its own, put when its time begins and taken away when it is met, so a run is cancelled on time while it
//! waits in line, sleeps or has a call in flight. What counts is the function's configuration at the time the deadline
//! comes: one that is gone is no longer missed, one that is longer now comes again.
//!
//! A run with deadlines is said to have begun before its first call goes out and not, like others, with the first reply:
//! or a call that takes long would look like a run that has not started.

use std::time::Duration;

use super::decision::Decision;
use super::finish;
use crate::domain::{
    Change, Class, Deadline, Function, Gates, HistoryKind, Job, JobId, JobKey, Priority, RunId, Timeouts, Timestamp,
};

/// The job that cancels a run that has not started in time, if its function says so.
pub(super) fn for_start(function: &Function, run: RunId) -> Option<Job> {
    let timeout = function.flow.timeouts.start?;
    Some(Job {
        id: JobId {
            run,
            key: JobKey::Deadline(Deadline::Start),
        },
        function: function.id,
        attempt: 0,
        due: run.at().after(timeout),
        priority: Priority::new(Class::High, 0),
        payload: None,
        gates: Gates::NONE,
    })
}

/// Whether a run has to be said to have begun before its first call.
pub(super) fn matter(timeouts: &Timeouts) -> bool {
    timeouts.start.is_some() || timeouts.finish.is_some()
}

/// The first call goes out, or went out then.
pub(super) fn begun(decision: &mut Decision<'_>, at: Timestamp) {
    if decision.run.started_at.is_some() {
        return;
    }
    decision.push(Change::Started { at });
    decision.note(HistoryKind::RunStarted, None, 0, None);
    decision.job_done(&JobKey::Deadline(Deadline::Start));
    if let Some(timeout) = decision.function.flow.timeouts.finish {
        decision.job_put(JobKey::Deadline(Deadline::Finish), 0, at.after(timeout), None);
    }
}

/// A deadline has come.
pub(super) fn missed(decision: &mut Decision<'_>, which: Deadline) {
    let key = JobKey::Deadline(which);
    let timeouts = &decision.function.flow.timeouts;
    let (timeout, since) = match which {
        Deadline::Start if decision.run.started_at.is_some() => (None, None),
        Deadline::Start => (timeouts.start, Some(decision.run.created_at())),
        Deadline::Finish => (timeouts.finish, decision.run.started_at),
    };
    let (Some(timeout), Some(since)) = (timeout, since) else {
        return decision.job_done(&key);
    };
    let due = since.after(timeout);
    if due > decision.context.now {
        decision.job_put(key, 0, due, None);
    } else {
        finish::cancelled(decision, &reason(which, timeout));
    }
}

fn reason(which: Deadline, timeout: Duration) -> String {
    match which {
        Deadline::Start => format!("the run has not started within {timeout:?} (timeouts.start)"),
        Deadline::Finish => format!("the run has not ended within {timeout:?} of its start (timeouts.finish)"),
    }
}
