//! What both databases are asked for in the same way: pages, and ranges of runs.

use std::time::Duration;

use callboard_actors::domain::{RunId, RunStatus, Timestamp};
use callboard_actors::ports::{Page, RunFilter, StoreError};

/// A limit as databases take it.
pub(super) fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A length of time as databases keep it.
pub(super) fn sql_millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

/// A page of at most `limit` items from the rows of a question for one more.
pub(super) fn page<R, T>(
    rows: &[R],
    limit: usize,
    item: impl Fn(&R) -> Result<T, StoreError>,
) -> Result<Page<T>, StoreError> {
    Ok(Page {
        items: rows.iter().take(limit).map(item).collect::<Result<_, _>>()?,
        has_more: rows.len() > limit,
    })
}

/// The runs that a filter is about, but for their functions.
pub(super) struct Runs<'a> {
    /// From this id on.
    pub(super) from: RunId,
    /// Before this one.
    pub(super) end: RunId,
    /// In one of these.
    pub(super) statuses: &'a [RunStatus],
}

impl<'a> Runs<'a> {
    pub(super) fn of(filter: &'a RunFilter) -> Self {
        let end = RunId::first_at(filter.until.unwrap_or(Timestamp::MAX));
        Self {
            from: RunId::first_at(filter.from.unwrap_or(Timestamp::MIN)),
            end: filter.before.map_or(end, |before| end.min(before)),
            statuses: or_all(&filter.statuses),
        }
    }

    /// The names of the statuses.
    pub(super) fn status_names(&self) -> impl Iterator<Item = &'static str> {
        self.statuses.iter().map(|status| status.as_str())
    }

    /// Of statements about all runs, the open ones, and those that failed or were cancelled, the one with the smallest range.
    pub(super) fn narrowest<S>(&self, all: S, open: S, unsuccessful: S) -> S {
        let is_unsuccessful = |status: &RunStatus| matches!(status, RunStatus::Failed | RunStatus::Cancelled);
        if self.statuses.iter().all(|status| !status.is_final()) {
            open
        } else if self.statuses.iter().all(is_unsuccessful) {
            unsuccessful
        } else {
            all
        }
    }
}

/// No statuses stand for all of them.
pub(super) fn or_all(statuses: &[RunStatus]) -> &[RunStatus] {
    match statuses {
        [] => &RunStatus::ALL[..],
        some => some,
    }
}
