//! A step of a run, from the moment it is first reported.

use serde::{Deserialize, Serialize};

use super::{Json, StepId, Timestamp};

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its id, from the SDK.
    pub id: StepId,
    /// What kind of step it is.
    pub op: StepOp,
    /// Its name for people.
    pub label: String,
    /// Whether its completion is told to the app at once, even while siblings are under way.
    pub race: bool,
    /// When it was first reported, or began to run.
    pub started_at: Timestamp,
    /// Where it stands.
    pub state: StepState,
}

/// The kinds of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOp {
    /// User code.
    Run,
    /// A sleep.
    Sleep,
    /// A wait for an event.
    WaitForEvent,
    /// A wait for a signal.
    WaitForSignal,
    /// Another function.
    Invoke,
    /// A request made by the server.
    Gateway,
    /// A model request made by the server.
    AiGateway,
}

impl StepOp {
    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Sleep => "sleep",
            Self::WaitForEvent => "wait_for_event",
            Self::WaitForSignal => "wait_for_signal",
            Self::Invoke => "invoke",
            Self::Gateway => "gateway",
            Self::AiGateway => "ai_gateway",
        }
    }

    /// From the stored name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Run,
            Self::Sleep,
            Self::WaitForEvent,
            Self::WaitForSignal,
            Self::Invoke,
            Self::Gateway,
            Self::AiGateway,
        ]
        .into_iter()
        .find(|op| op.as_str() == text)
    }
}

/// Where a step stands.
#[derive(Debug, Clone, PartialEq)]
pub enum StepState {
    /// It waits to be called.
    Planned,
    /// It waits for a time, an event, a signal or another run, at most until then.
    Parked {
        /// When a sleep ends, or a wait times out.
        until: Timestamp,
    },
    /// Its result is recorded, and never changes any more (P3).
    Done {
        /// What the SDK is given back.
        memo: Json,
        /// Whether the memo is an error.
        failed: bool,
        /// Place in the order of completion, from 0.
        position: u32,
        /// When it was recorded.
        at: Timestamp,
    },
}

impl Step {
    /// The recorded result.
    #[must_use]
    pub fn memo(&self) -> Option<&Json> {
        match &self.state {
            StepState::Done { memo, .. } => Some(memo),
            StepState::Planned | StepState::Parked { .. } => None,
        }
    }

    /// Whether its result is recorded.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, StepState::Done { .. })
    }
}
