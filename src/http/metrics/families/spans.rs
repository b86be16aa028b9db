//! Spans that are told to a collector.

use std::fmt::Result;

use super::Sample;
use crate::http::metrics::text::Text;

impl Sample {
    pub(super) fn spans(&self, text: &mut Text<'_>) -> Result {
        let spans = &self.metrics.spans;
        let outcomes = [("exported", &spans.exported), ("dropped", &spans.dropped)];
        text.counters(
            "callboard_otlp_spans",
            "Spans of this node for the collector of traces, by outcome.",
            outcomes.map(|(outcome, count)| ([("outcome", outcome)], count.value())),
        )
    }
}
