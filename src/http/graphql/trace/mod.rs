//! The trace of a run: a tree of spans, in two views that clients tell apart.
//!
//! ```text
//! attempts.rs   what the history says: steps and bodies with their attempts, in order
//! tree.rs       the spans, by view
//! info.rs       what a step was about
//! output.rs     what an output id stands for
//! userland.rs   spans of users' own, hung into the tree
//! span.rs       as GraphQL shows it
//! ```
//!
//! Everything but `span.rs` is a pure function of what the store and the queue say of a run, so a trace never lags behind
//! its run. Nothing of it is stored but users' spans, which are as they were sent.

mod attempts;
mod info;
mod output;
mod span;
#[cfg(test)]
mod tests;
mod tree;
mod userland;

use async_graphql::Enum;

pub(super) use attempts::invokes;
pub(super) use span::{Query, RunTraceSpan, has_ai, trace_id};
pub(in crate::http) use tree::Node as Span;

/// Who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// Without `preview`.
    Legacy,
    /// With it.
    Preview,
}

impl View {
    pub(super) fn of(preview: Option<bool>) -> Self {
        if preview == Some(true) {
            Self::Preview
        } else {
            Self::Legacy
        }
    }
}

/// Where a span stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(name = "RunTraceSpanStatus")]
pub(in crate::http) enum SpanStatus {
    Failed,
    Queued,
    Running,
    Completed,
    Waiting,
    Cancelled,
    Skipped,
}

impl SpanStatus {
    /// Its spelling where there is none for what has not begun.
    pub(in crate::http) fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "FAILED",
            Self::Queued | Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Waiting => "WAITING",
            Self::Cancelled => "CANCELLED",
            Self::Skipped => "SKIPPED",
        }
    }
}

/// What kind of step it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(name = "StepOp")]
pub(super) enum Op {
    Invoke,
    Run,
    Sleep,
    WaitForEvent,
    AiGateway,
    WaitForSignal,
}

impl Op {
    /// Its spelling, which is also the type of step.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Invoke => "INVOKE",
            Self::Run => "RUN",
            Self::Sleep => "SLEEP",
            Self::WaitForEvent => "WAIT_FOR_EVENT",
            Self::AiGateway => "AI_GATEWAY",
            Self::WaitForSignal => "WAIT_FOR_SIGNAL",
        }
    }
}
