//! What is open for events to join, and what is due.
//!
//! Gatherings come and change with the commits that accept and route events, and go with those that fire them
//! ([`crate::domain::Write`]); here they are only read.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{FunctionId, Gathered, Gathering, GatheringId, Timestamp};

/// Bytes of events that one reading of due gatherings brings along, unless the first one alone has more.
pub const DUE_BYTES: u64 = 16 * 1024 * 1024;

/// Reads gatherings.
#[async_trait]
pub trait GatheringBook: std::fmt::Debug {
    /// Gatherings due at `until` or before, the first due first, with their events: at most `limit`, and fewer if their
    /// events are large ([`DUE_BYTES`]), but one if there is one.
    ///
    /// # Errors
    /// When the database can't be read.
    async fn due_gatherings(&self, until: Timestamp, limit: usize) -> Result<Vec<Gathered>, StoreError>;

    /// When the first gathering is due.
    ///
    /// # Errors
    /// When the database can't be read.
    async fn next_gathering(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Gatherings of a function, the first opened first, behind `after` only; at most `limit`.
    ///
    /// # Errors
    /// When the database can't be read.
    async fn gatherings(
        &self,
        function: FunctionId,
        after: Option<GatheringId>,
        limit: usize,
    ) -> Result<Vec<Gathering>, StoreError>;

    /// A gathering with its events, due or not; `None` if it has fired.
    ///
    /// # Errors
    /// When the database can't be read.
    async fn gathering(&self, id: GatheringId) -> Result<Option<Gathered>, StoreError>;
}

/// How many of these gatherings, by the bytes of their events, are read at once.
#[must_use]
pub fn within_due_bytes(bytes: impl IntoIterator<Item = u64>) -> usize {
    let mut sum = 0_u64;
    let fits = bytes.into_iter().enumerate().take_while(|(place, bytes)| {
        sum = sum.saturating_add(*bytes);
        *place == 0 || sum <= DUE_BYTES
    });
    fits.count()
}
