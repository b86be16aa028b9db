//! A call to the app, from the decision to make it to the reply in the run's line.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::slot::Task;
use super::{Executor, Local, Parts};
use crate::assignment::Assignment;
use crate::breaker::Pass;
use crate::domain::{
    Call, Failure, FetchFailure, FetchRequest, FetchResponse, Job, Opcode, OpcodeKind, Reply, RunId, StepId,
    StepMetadata,
};
use crate::engine::{Input, Replied};
use crate::ports::{Offered, Store};
use crate::spans::Calling;

impl Executor {
    /// Counts how long a call that is about to be made was waited for: since it was due and, unless it had to wait for
    /// a time to come, since the reply it follows from.
    pub(super) fn note_call(&self, job: &Job, replied_at: Option<Instant>) {
        let metrics = &self.parts.metrics;
        let waited = self.parts.clock.now().since(job.due);
        metrics.function(self.id).delay.record_micros(waited);
        if let (Some(at), 0) = (replied_at, job.attempt) {
            metrics.calls.hand_off.record_micros(at.elapsed());
        }
    }

    /// Calls the app. The reply takes its place in the run's line when it comes.
    pub(super) fn call(&self, run: RunId, call: Call, mut assignment: Assignment, ctx: &mut Context<Self>) {
        let pass = assignment.pass().take();
        let job = assignment.lease().job.clone();
        let request = call.ticket.call.request;
        let (parts, local, calls) = (self.parts.clone(), self.local.clone(), Rc::clone(&self.calls));
        calls.set(calls.get() + 1);
        // A task of its own: a panic in there costs this attempt, and nothing else.
        let task = actix::spawn(reply_to(parts.clone(), local, call, pass, job.clone()));
        let called_at = parts.clock.now();
        let then = task.into_actor(self).map(move |outcome, executor: &mut Self, ctx| {
            calls.set(calls.get() - 1);
            let outcome = outcome.unwrap_or_else(|error| {
                Ok(Replied {
                    job,
                    request,
                    reply: Reply::Failed {
                        failure: Failure::new("InternalError", format!("the call could not be carried out: {error}")),
                        status: None,
                        no_retry: false,
                        retry_after: None,
                    },
                    called_at,
                    fetched: HashMap::new(),
                    signals_taken: HashSet::new(),
                })
            });
            let Some(slot) = executor.slots.get_mut(&run) else {
                return;
            };
            slot.calls -= 1;
            slot.under_way.retain(|call| call.request != request);
            let replied = match outcome {
                Ok(replied) => replied,
                Err(wait) => {
                    executor.put_off(assignment, wait);
                    return executor.go_on(run, ctx);
                }
            };
            slot.replied_at = Some(Instant::now());
            slot.push_back(Task {
                input: Some(Input::Replied(Box::new(replied))),
                ..Task::new(assignment)
            });
            executor.go_on(run, ctx);
        });
        ctx.spawn(then);
    }
}

/// The reply to a call, with everything the engine needs to decide on it; or how long to wait, if nobody could take it.
async fn reply_to(parts: Parts, local: Local, call: Call, pass: Option<Pass>, job: Job) -> Result<Replied, Duration> {
    let called_at = parts.clock.now();
    let (run, request, sent) = (call.run, call.ticket.call.request, Instant::now());
    let calling = Calling::begin(&parts.metrics.spans, &call, called_at);
    let reply = match local.invoker.offer(call).await {
        Offered::Made(reply) => reply,
        Offered::Declined(wait) => return Err(wait),
    };
    parts.metrics.function(job.function).call.record_micros(sent.elapsed());
    parts.metrics.calls.answered(&reply);
    if let Some(calling) = calling {
        calling.end(&reply, parts.clock.now());
    }
    if let Some(pass) = pass {
        pass.report(reply.is_outage());
    }
    let mut reply = reply;
    let (mut fetched, mut signals_taken) = (HashMap::new(), HashSet::new());
    if let Reply::Steps { ops, .. } = &mut reply {
        fetched = fetch(&parts, &local, ops).await;
        note_models(ops, &fetched);
        signals_taken = taken(&*parts.store, run, ops).await;
    }
    Ok(Replied {
        job,
        request,
        reply,
        called_at,
        fetched,
        signals_taken,
    })
}

/// Makes the requests that a reply's gateway steps ask for, side by side.
async fn fetch(parts: &Parts, local: &Local, ops: &[Opcode]) -> HashMap<StepId, Result<FetchResponse, FetchFailure>> {
    let requests = ops.iter().filter_map(|op| {
        let (options, ai) = match &op.kind {
            OpcodeKind::AiGateway(options) => (options.clone(), true),
            OpcodeKind::Gateway(options) => (options.clone(), false),
            _ => return None,
        };
        let request = FetchRequest {
            options,
            ai,
            timeout: parts.fetch_timeout,
        };
        Some(async move { (op.id.clone(), local.invoker.fetch(request).await) })
    });
    join_all(requests).await.into_iter().collect()
}

/// Notes beside the steps that asked a model what its answer tells of that.
fn note_models(ops: &mut [Opcode], fetched: &HashMap<StepId, Result<FetchResponse, FetchFailure>>) {
    for op in ops {
        if let (OpcodeKind::AiGateway(asked), Some(Ok(answer))) = (&op.kind, fetched.get(&op.id)) {
            op.metadata.extend(StepMetadata::of_model(asked, &answer.memo));
        }
    }
}

/// Which of the signals a reply's steps want to wait for have a waiter already.
pub(crate) async fn taken(store: &dyn Store, run: RunId, ops: &[Opcode]) -> HashSet<String> {
    let mut taken = HashSet::new();
    for op in ops {
        let OpcodeKind::WaitForSignal {
            signal, replace: false, ..
        } = &op.kind
        else {
            continue;
        };
        match store.signal_wait(signal).await {
            Ok(Some(wait)) if wait.run != run => {
                taken.insert(signal.clone());
            }
            Ok(_) => {}
            // Without an answer the wait is set; the store lets the newest waiter have the signal.
            Err(error) => tracing::warn!(%run, signal, %error, "waiters of a signal not known"),
        }
    }
    taken
}
