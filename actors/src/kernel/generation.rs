//! The number of an incarnation.
//!
//! Unique within the process and growing, over all children: a child that was put to rest, forgotten
//! and started again never meets its own past.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which incarnation of which child; a higher one was started later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(u64);

impl Generation {
    /// A generation with a number of the caller's choice, for messages that are tested without a supervisor.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The bare number, for logs and wire formats.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

/// Hands out generations; one per supervisor.
#[derive(Debug, Default)]
pub(crate) struct Generations(u64);

impl Generations {
    pub(crate) fn advance(&mut self) -> Generation {
        self.0 += 1;
        Generation(self.0)
    }
}
