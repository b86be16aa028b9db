//! How far ahead of its age a job stands in its function's line.
//!
//! Jobs that are ready are served by the age of their runs, so that what was begun ends. A head start makes a run count as
//! older. Because it is a time and not a rank, nothing starves: whatever waits longer than the others' head start goes
//! before them.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A head start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(i32);

/// What kind of work a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Somebody waits for it: runs started by events.
    High,
    /// Scheduled: runs started by the clock.
    Normal,
    /// Work in bulk.
    Low,
}

impl Priority {
    /// No head start.
    pub const NONE: Self = Self(0);
    /// The largest factor a function may give a run, in seconds, either way.
    pub const MAX_FACTOR: i32 = 43_200;
    /// From one class to the next, in seconds.
    const CLASS: i32 = 3_600;

    /// The head start of a class, with a function's own factor in seconds, which is clamped.
    #[must_use]
    pub fn new(class: Class, factor: i64) -> Self {
        let base = match class {
            Class::High => Self::CLASS,
            Class::Normal => 0,
            Class::Low => -Self::CLASS,
        };
        let most = i64::from(Self::MAX_FACTOR);
        let factor = i32::try_from(factor.clamp(-most, most)).unwrap_or(0);
        Self(base + factor)
    }

    /// From stored seconds.
    #[must_use]
    pub const fn from_seconds(seconds: i32) -> Self {
        Self(seconds)
    }

    /// In seconds; negative for a run that lets others go first.
    #[must_use]
    pub const fn seconds(self) -> i32 {
        self.0
    }

    /// The time that a run created at `created` counts from.
    #[must_use]
    pub fn counts_from(self, created: Timestamp) -> Timestamp {
        Timestamp::from_millis(created.as_millis().saturating_sub(i64::from(self.0) * 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_worth_an_hour_and_a_factor_its_seconds() {
        let at = Timestamp::from_millis(10_000_000);
        assert_eq!(Priority::NONE.counts_from(at), at);
        assert_eq!(Priority::new(Class::Normal, 0), Priority::NONE);
        assert!(Priority::new(Class::High, 0) > Priority::new(Class::Normal, 600));
        assert!(Priority::new(Class::Normal, -600) > Priority::new(Class::Low, 0));
        assert_eq!(
            Priority::new(Class::Normal, 5).counts_from(at),
            Timestamp::from_millis(9_995_000)
        );
        assert_eq!(
            Priority::new(Class::Normal, i64::MIN).seconds(),
            -Priority::MAX_FACTOR,
            "clamped"
        );
    }
}
