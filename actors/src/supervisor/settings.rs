//! What the supervisor is given at build: its settings, and where it takes the time of day and luck from.
//!
//! All durations run on the tokio clock, so a paused clock drives the whole tree in tests.

use std::{fmt, time::Duration};

/// The supervisor's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// From one probe of every child to the next.
    pub heartbeat: Duration,
    /// Probes in a row a child or a thread may leave unanswered; with the last it is given up.
    pub missed_probes: u32,
    /// What a child is given to wind down in a drain whose own grace is over, so that those who stop last
    /// are not aborted on account of those who stopped first.
    pub last_call: Duration,
    /// From an abort to the conclusion that the child's thread is stuck.
    pub abort_patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            missed_probes: 3,
            last_call: Duration::from_secs(1),
            abort_patience: Duration::from_secs(2),
        }
    }
}

/// The supervisor's sources of what is not decided.
pub struct Sources {
    /// A random number from 0 to 1, for jitter.
    pub dice: Box<dyn Fn() -> f64 + Send>,
    /// The time of day, Unix milliseconds. For snapshots and reports; nothing is decided by it.
    pub wall_ms: Box<dyn Fn() -> i64 + Send>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}
