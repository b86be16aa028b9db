//! What is kept of crons, beside the events and runs of their ticks.
//!
//! A slot is a time that a schedule names. Its tick has an event whose id follows from function, schedule and slot, so
//! most of what there is to know of a slot is found by computing that id. Kept here is the rest: since when a schedule is
//! known, how far its slots have been dealt with, and which of them were skipped and why. A few rows for each schedule,
//! written with its ticks.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{EventId, FunctionId, RunId, RunStatus, SkipReason, Timestamp};

/// A schedule of a function, and how far its slots have been dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronMark {
    /// Whose.
    pub function: FunctionId,
    /// The schedule as it is written, with its time zone.
    pub schedule: String,
    /// Since when it is known. Slots until then are nobody's.
    pub since: Timestamp,
    /// Slots until then, that instant included, have been dealt with; more may have been.
    pub through: Timestamp,
    /// Set while the function does not have it.
    pub ended: Option<CronEnd>,
}

/// How a function lost a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CronEnd {
    /// When.
    pub at: Timestamp,
    /// Whether the function was archived, and not only changed.
    pub archived: bool,
}

/// Slots that were skipped: those between two of them, both included, that have no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronGap {
    /// Whose.
    pub function: FunctionId,
    /// Of which schedule.
    pub schedule: String,
    /// The first.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// Why.
    pub reason: GapReason,
}

macro_rules! reasons {
    ($($name:ident = $text:literal, $meaning:literal;)*) => {
        /// Why slots were skipped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum GapReason {
            $(#[doc = $meaning] $name,)*
        }

        impl GapReason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name, as stored and shown.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The reason of this name.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

reasons! {
    Down = "down", "Nobody was there to fire it, and the policy did not make up for it.";
    Superseded = "superseded", "Nobody was there to fire it, and a later one made up for it.";
    Archived = "archived", "The function was archived then.";
    Removed = "removed", "The function had lost the schedule when the slot's jitter was over.";
}

/// What is stored of a slot's tick.
#[derive(Debug, Clone, PartialEq)]
pub struct TickView {
    /// Its event.
    pub event: EventId,
    /// When it should have fired, its jitter included.
    pub due_at: Timestamp,
    /// When it did.
    pub fired_at: Timestamp,
    /// Where its run stands; `None` if there is no such run, or none any more.
    pub status: Option<RunStatus>,
    /// Why it started no run, if that was recorded.
    pub skip: Option<(SkipReason, String)>,
}

/// The part of a store that is about crons.
#[async_trait]
pub trait SlotBook {
    /// How far each schedule's slots have been dealt with, of one function or of all; by function and schedule.
    async fn cron_marks(&self, function: Option<FunctionId>) -> Result<Vec<CronMark>, StoreError>;

    /// Writes marks and gaps down in one transaction. A mark replaces the one of the same function and schedule, a gap that
    /// is known (the same last slot and reason) changes nothing.
    async fn note_crons(&self, marks: &[CronMark], gaps: &[CronGap]) -> Result<(), StoreError>;

    /// A function's gaps that have slots between these two times, both included.
    async fn cron_gaps(
        &self,
        function: FunctionId,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<CronGap>, StoreError>;

    /// The ticks of these events, each with the run that it starts; unknown events are left out.
    async fn ticks(&self, ids: &[(EventId, RunId)]) -> Result<Vec<TickView>, StoreError>;
}
