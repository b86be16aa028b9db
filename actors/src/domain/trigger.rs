//! What starts a function.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One trigger of a function. A function may have several; an event that matches more than one starts one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Trigger {
    /// Events by name, or by a pattern that ends in `/*` or `.*`, or all of them (`*`, our own API only).
    Event {
        /// The name or pattern.
        event: String,
        /// A condition over `event`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expression: Option<String>,
    },
    /// A schedule.
    Cron {
        /// Five fields, perhaps after `TZ=<zone> `.
        cron: String,
        /// Each start is delayed by up to this much, the same for the same slot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jitter: Option<Duration>,
    },
}
