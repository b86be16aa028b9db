//! A call to an app, and what came back, free of anything HTTP.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Endpoint, Failure, FunctionId, GatewayOptions, Json, Opcode, RunId, SpanId, StepId, Ticket, Timestamp, TraceId,
};

/// What a call asks the app to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Replay the function and report what it finds next.
    Discovery,
    /// Replay the function and run this step only.
    Step(StepId),
}

/// A call to an app: everything the app is told.
#[derive(Debug, Clone)]
pub struct Call {
    /// The function's URL as registered.
    pub url: String,
    /// Set if it is made as the request in the run's event.
    pub endpoint: Option<Endpoint>,
    /// The run.
    pub run: RunId,
    /// The function.
    pub function: FunctionId,
    /// The app.
    pub app: Arc<str>,
    /// What to do.
    pub target: Target,
    /// Which call it is, for the app to refer to.
    pub ticket: Ticket,
    /// Whether the app may report steps before the call is over. The TypeScript SDK (4.24) would take the input of a step that
    /// was edited for its result then. A worker that connects outlives the server that called it and goes on under the same
    /// call: it would be refused as superseded, which it answers like a failure for good.
    pub may_report: bool,
    /// Attempts made before this one that the app is told of: none from before it last reported a step.
    pub attempt: u32,
    /// Attempts in all.
    pub max_attempts: u32,
    /// Version of the request protocol: -1 until the app's first reply tells.
    pub request_version: i32,
    /// Whether a step that is found may be run at once; not while siblings are under way.
    pub plan_only: bool,
    /// Ids of the completed steps, in the order in which they were recorded.
    pub stack: Vec<StepId>,
    /// 1 + the position in `stack` of the step whose completion caused this call; 0 if there is none.
    pub stack_current: usize,
    /// The events that started the run.
    pub events: Arc<[Json]>,
    /// What the run has put off, by id, and whether it can still take it back; in the order of the ids.
    pub defers: Vec<(StepId, bool)>,
    /// The memos of the steps of `stack` and, in the place of one, the input of a step that was edited; in the order of
    /// their ids.
    pub steps: Vec<(StepId, Json)>,
}

impl Call {
    /// The trace that it is part of, and its own span: that of the attempt at its step, if it is for one.
    #[must_use]
    pub fn span(&self) -> (TraceId, SpanId) {
        let span = match &self.target {
            Target::Step(step) => SpanId::of_attempt(step, self.attempt),
            Target::Discovery => SpanId::of_call(self.run, &self.ticket.call.job.to_string(), self.attempt),
        };
        (TraceId::of_run(self.run), span)
    }
}

/// What an app answered, or what stands for an answer that never came.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// The function returned this.
    Returned(Json),
    /// It reports steps.
    Steps {
        /// The opcodes, in the order sent.
        ops: Vec<Opcode>,
        /// The request version that the SDK speaks.
        request_version: i32,
        /// Whether failed steps must not be retried.
        no_retry: bool,
        /// When to retry failed steps: the `Retry-After` header as sent.
        retry_after: Option<String>,
    },
    /// The attempt failed: the function threw, or nobody we understand answered.
    Failed {
        /// What went wrong.
        failure: Failure,
        /// HTTP status, where there was an answer.
        status: Option<u16>,
        /// Whether the app forbids another attempt.
        no_retry: bool,
        /// When to try again: the `Retry-After` header as sent.
        retry_after: Option<String>,
    },
    /// The attempt failed because there was no answer: no connection, a broken one, or nothing in time.
    Unanswered(Failure),
}

impl Reply {
    /// Whether it says that the app can't be reached at present, rather than anything about the function.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unanswered(_)
                | Self::Failed {
                    status: Some(502..=504),
                    ..
                }
        )
    }
}

/// A request that a step asks us to make (`step.fetch`, `step.ai.infer`).
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// Where to and how.
    pub options: GatewayOptions,
    /// Whether a model provider is asked: that shapes credentials, and what counts as success.
    pub ai: bool,
    /// Give up after this long.
    pub timeout: Duration,
}

/// The answer to a [`FetchRequest`] as the step's memo.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchResponse {
    /// `{"data":…}`.
    pub memo: Json,
    /// When it was made.
    pub at: Timestamp,
}

/// A [`FetchRequest`] that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchFailure {
    /// What went wrong, as the step's error should it be the last attempt.
    pub failure: Failure,
}
