//! Operations on many runs.

use std::fmt::Result;

use super::Sample;
use crate::http::metrics::text::Text;

impl Sample {
    pub(super) fn operations(&self, text: &mut Text<'_>) -> Result {
        let kinds = || {
            let all = self.metrics.operations.all();
            all.map(|(kind, of)| (("kind", kind.as_str()), of))
        };
        text.counters(
            "callboard_operations_begun",
            "Operations on many runs that were begun on this node.",
            kinds().map(|(kind, of)| ([kind], of.begun.value())),
        )?;
        text.counters(
            "callboard_operations_counted_runs",
            "Runs that those were thought to be about when they were begun.",
            kinds().map(|(kind, of)| ([kind], of.counted.value())),
        )?;
        text.counters(
            "callboard_operations_runs",
            "Runs that operations have dealt with on this node, by outcome.",
            kinds().flat_map(|(kind, of)| {
                let outcomes = [("done", &of.done), ("failed", &of.failed), ("skipped", &of.skipped)];
                outcomes.map(|(outcome, count)| ([kind, ("outcome", outcome)], count.value()))
            }),
        )
    }
}
