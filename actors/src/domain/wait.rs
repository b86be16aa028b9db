//! A wait: what an event, a signal or another run's end may bring to a run.
//!
//! Its equality part (`async.data.id == 7`) is stored as an indexed [`Lookup`], so that an event finds the runs that
//! wait for *it* without looking at the others.

use std::fmt;
use std::str::FromStr;

use super::{FunctionId, IdError, RunId, StepId, Timestamp};

/// An open wait.
#[derive(Debug, Clone, PartialEq)]
pub struct Wait {
    /// Who waits.
    pub run: RunId,
    /// Of which function that run is.
    pub function: FunctionId,
    /// For which of its steps, or by which of its cancel rules.
    pub key: WaitKey,
    /// What kind of thing is waited for.
    pub kind: WaitKind,
    /// The event's exact name, or the signal.
    pub name: String,
    /// The indexed part of the condition.
    pub lookup: Option<Lookup>,
    /// The whole condition, over `async` alone; `None` matches every event of that name.
    pub condition: Option<String>,
    /// When it was set.
    pub created_at: Timestamp,
    /// Events received from then on don't match.
    pub expires_at: Timestamp,
}

/// Whose wait it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitKey {
    /// A step's.
    Step(StepId),
    /// A cancel rule's, by its position in the function's configuration.
    Cancel(u32),
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitKind {
    /// An event; the memo is the event itself.
    Event,
    /// The end of an invoked run; the memo is its result.
    Invoke,
    /// A signal; at most one open wait for each.
    Signal,
    /// An event that cancels the run.
    Cancel,
}

impl WaitKind {
    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Invoke => "invoke",
            Self::Signal => "signal",
            Self::Cancel => "cancel",
        }
    }

    /// From the stored name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Event, Self::Invoke, Self::Signal, Self::Cancel]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// `async.<path>` must equal the value that `key` stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lookup {
    /// Members joined by dots, such as `data.id`.
    pub path: String,
    /// A text that is the same for equal values.
    pub key: String,
}

impl fmt::Display for WaitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step) => write!(f, "step:{step}"),
            Self::Cancel(rule) => write!(f, "cancel:{rule}"),
        }
    }
}

impl FromStr for WaitKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.split_once(':') {
            Some(("step", step)) => Ok(Self::Step(StepId::from(step))),
            Some(("cancel", rule)) => rule.parse().map(Self::Cancel).map_err(|_| IdError::new("wait", text)),
            _ => Err(IdError::new("wait", text)),
        }
    }
}
