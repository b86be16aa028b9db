//! Searching what is stored: in other orders, by other times, counted, and for several events at once.
//!
//! The questions of people who look through a list. Each answers a page; a count looks at all that fits and may take its
//! time, so nothing on the way of an event or a run asks for one.

use async_trait::async_trait;

use super::{Page, RunSummary, StoreError};
use crate::domain::{Event, EventId, FunctionId, RunId, RunStatus, Timestamp};

/// One of the times of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunTime {
    /// It was created; every run has this one.
    #[default]
    Queued,
    /// Its first call went out.
    Started,
    /// It ended.
    Ended,
}

impl RunTime {
    /// This time of a run, if it has come.
    #[must_use]
    pub fn of(self, run: &RunSummary) -> Option<Timestamp> {
        match self {
            Self::Queued => Some(run.id.at()),
            Self::Started => run.started_at,
            Self::Ended => run.ended_at,
        }
    }
}

/// Which runs to find, and in which order. Everything set must hold.
#[derive(Debug, Clone, Default)]
pub struct RunSearch {
    /// In one of these; all if empty.
    pub statuses: Vec<RunStatus>,
    /// Of these functions; all if `None`.
    pub functions: Option<Vec<FunctionId>>,
    /// Only those that other runs have put off, or only others; all if `None`.
    pub deferred: Option<bool>,
    /// The time that `from` and `until` are about. Runs for which it has not come fit neither.
    pub time: RunTime,
    /// Then or later.
    pub from: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// The time they are sorted by; runs for which it has not come count as the oldest. Equal times go by id, upwards, but
    /// for [`RunTime::Queued`], where the order of ids is the order.
    pub order: RunTime,
    /// From old to new.
    pub ascending: bool,
    /// Behind this place: the last run of the page before.
    pub after: Option<RunPlace>,
    /// At most so many.
    pub limit: usize,
}

/// A place in a list of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunPlace {
    /// The run.
    pub id: RunId,
    /// Its time that the list is sorted by, if it has come.
    pub at: Option<Timestamp>,
}

/// Which events to find, from new to old. Everything set must hold.
#[derive(Debug, Clone, Default)]
pub struct EventSearch {
    /// Of one of these exact names; of all if empty.
    pub names: Vec<String>,
    /// With the server's own events.
    pub internal: bool,
    /// Received then or later.
    pub from: Option<Timestamp>,
    /// Received before.
    pub until: Option<Timestamp>,
    /// Newer than this event.
    pub after: Option<EventId>,
    /// Older than this event.
    pub before: Option<EventId>,
    /// At most so many.
    pub limit: usize,
}

/// The part of a store that people search.
#[async_trait]
pub trait Search {
    /// A page of runs.
    ///
    /// # Errors
    /// When the store can't.
    async fn find_runs(&self, search: &RunSearch) -> Result<Page<RunSummary>, StoreError>;

    /// How many runs there are, on all pages.
    ///
    /// # Errors
    /// When the store can't.
    async fn count_runs(&self, search: &RunSearch) -> Result<u64, StoreError>;

    /// A page of events.
    ///
    /// # Errors
    /// When the store can't.
    async fn find_events(&self, search: &EventSearch) -> Result<Page<Event>, StoreError>;

    /// How many events there are, on all pages; `after` and `before` don't count.
    ///
    /// # Errors
    /// When the store can't.
    async fn count_events(&self, search: &EventSearch) -> Result<u64, StoreError>;

    /// The runs that these events started, oldest first. A run that several of them started comes with each.
    ///
    /// # Errors
    /// When the store can't.
    async fn runs_of_events(&self, events: &[EventId]) -> Result<Vec<(EventId, RunSummary)>, StoreError>;
}
