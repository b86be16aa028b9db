//! Whether the promises hold in what is stored, told from the rows alone.
//!
//! One check per way in which a promise could have been broken. Checks read one snapshot and write nothing, so they may run
//! beside servers at work; each looks at a bounded number of rows, the newest ones where there are more.

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use super::StoreError;
use crate::domain::Timestamp;

/// What to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditScope {
    /// Now.
    pub now: Timestamp,
    /// How long something may be overdue before it counts: servers need a moment, and longer after a failure.
    pub overdue_after: Duration,
    /// Rows that each check looks at, at the most: the newest runs and events, the first jobs, waits and dead letters.
    pub rows: usize,
}

/// Examples that a finding gives, at the most.
pub const SAMPLES: usize = 5;

/// What was found by one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// How often.
    pub count: u64,
    /// A few examples, each the ids that lead to it with blanks between: the event or dead letter; the event and the
    /// function; or the run and, where it is about one, the step, job or wait.
    pub samples: Vec<String>,
}

macro_rules! checks {
    ($($name:ident = $code:literal, $promise:literal, $meaning:literal;)*) => {
        /// A check.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Check {
            $(#[doc = $meaning] $name,)*
        }

        impl Check {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its stable name.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// The promise it is about, such as `P4`.
            #[must_use]
            pub const fn promise(self) -> &'static str {
                match self { $(Self::$name => $promise),* }
            }

            /// What was found, if something was.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning),* }
            }
        }
    };
}

checks! {
    StuckEvent = "stuck-event", "P1", "Events that have been waiting too long to find their functions and waits.";
    UnroutableEvent = "unroutable-event", "P1", "Events to be routed that are not stored.";
    DoubledRun = "doubled-run", "P2", "Functions started more than once by the same event.";
    CauselessRun = "causeless-run", "P2", "Runs whose event is not stored.";
    EmptyGathering = "empty-gathering", "P2", "Debounces and batches that hold no event, or none that is stored.";
    OverdueGathering = "overdue-gathering", "P2", "Debounces and batches that have been due for too long: no server fires them.";
    RepeatedResult = "repeated-result", "P3", "Steps whose result was recorded more than once.";
    LostResult = "lost-result", "P3", "Steps that are done and have no result.";
    BrokenStack = "broken-stack", "P3", "Runs whose completed steps are not in one order without gaps.";
    OrphanedRun = "orphaned-run", "P4", "Unfinished runs with nothing to go on with: no job, and no dead letter.";
    StrandedStep = "stranded-step", "P4", "Unfinished steps of unfinished runs with neither a job nor a dead letter.";
    EndlessWait = "endless-wait", "P4", "Steps' waits that nothing ends when their time is up.";
    StrayJob = "stray-job", "P4", "Jobs of runs that have ended or do not exist.";
    StrayWait = "stray-wait", "P4", "Waits of runs that have ended or do not exist.";
    StrayLetter = "stray-letter", "P4", "Dead letters of runs that have ended or do not exist.";
    StrayLock = "stray-lock", "P4", "Locks of singletons that are held by runs that have ended or do not exist.";
    OverdueJob = "overdue-job", "P5", "Jobs that have been due for too long: no server does them, or not fast enough.";
}

/// Looks whether the promises hold.
#[async_trait]
pub trait Audit: std::fmt::Debug {
    /// Runs every check. Answers those that found something, in the order of [`Check::ALL`].
    ///
    /// # Errors
    /// When the database can't be read.
    async fn audit(&self, scope: &AuditScope) -> Result<Vec<Finding>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_have_distinct_codes_which_are_their_json() {
        let mut codes = std::collections::HashSet::new();
        for check in Check::ALL {
            assert!(codes.insert(check.code()));
            assert_eq!(serde_json::json!(check), check.code());
        }
    }
}
