//! Realtime: subscribers, and what they are told.

use std::fmt::Result;

use super::{Sample, whole};
use crate::http::metrics::text::Text;

impl Sample {
    pub(super) fn realtime(&self, text: &mut Text<'_>) -> Result {
        let counts = self.realtime;
        text.gauge(
            "callboard_realtime_subscribers",
            "Subscribers that are connected to this node.",
            Some(whole(counts.subscribers)),
        )?;
        text.counter(
            "callboard_realtime_published",
            "Messages and pieces of streams that were published on this node.",
            counts.published,
        )?;
        text.counter(
            "callboard_realtime_delivered",
            "Those that this node had for a subscriber of its own, once for each.",
            counts.delivered,
        )?;
        text.counter(
            "callboard_realtime_slow_subscribers",
            "Subscribers that were disconnected because they did not keep up.",
            counts.too_slow,
        )?;
        text.counter(
            "callboard_realtime_lost",
            "Messages that could not be taken to other nodes, as Redis was away or did not keep up.",
            counts.not_carried,
        )
    }
}
