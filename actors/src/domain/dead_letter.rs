//! A job that was given up, kept for an operator to look at.

use serde::Serialize;

use super::{FunctionId, RunId, Timestamp};

/// A job that was given up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetter {
    /// The run it belonged to, failed by it.
    pub run: RunId,
    /// Which job.
    pub job: String,
    /// The function.
    pub function: FunctionId,
    /// Why it was given up, such as the text of a panic.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}
