//! What operations on many runs have come to.

use super::Counter;
use crate::domain::{Estimate, OperationKind, Progress};

/// What is counted of the operations of one kind.
#[derive(Debug, Default)]
pub struct OfKind {
    /// Those that were begun on this node.
    pub begun: Counter,
    /// Runs that those were thought to be about when they were begun.
    pub counted: Counter,
    /// Runs cancelled or done again by this node, and jobs put back.
    pub done: Counter,
    /// Runs with which that did not work.
    pub failed: Counter,
    /// Runs that were left as they are.
    pub skipped: Counter,
}

/// All of them, by kind.
#[derive(Debug, Default)]
pub struct OperationMetrics([OfKind; OperationKind::ALL.len()]);

impl OperationMetrics {
    /// Those of one kind.
    #[must_use]
    pub fn of(&self, kind: OperationKind) -> &OfKind {
        &self.0[kind as usize]
    }

    /// All kinds.
    pub fn all(&self) -> impl Iterator<Item = (OperationKind, &OfKind)> {
        OperationKind::ALL.into_iter().zip(&self.0)
    }

    /// One was begun, and is durable.
    pub(crate) fn begun(&self, kind: OperationKind, total: Estimate) {
        let of = self.of(kind);
        of.begun.increment();
        of.counted.add(total.count);
    }

    /// One has got from here to there, which is durable.
    pub(crate) fn progressed(&self, kind: OperationKind, from: Progress, to: Progress) {
        let of = self.of(kind);
        for (counter, from, to) in [
            (&of.done, from.done, to.done),
            (&of.failed, from.failed, to.failed),
            (&of.skipped, from.skipped, to.skipped),
        ] {
            counter.add(to.saturating_sub(from));
        }
    }
}
