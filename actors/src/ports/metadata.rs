//! What apps have noted about their runs.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{MetadataLog, MetadataRecord, RunId};

/// The part of a store that is about metadata. What came with results of steps is in the runs' histories.
#[async_trait]
pub trait MetadataBook {
    /// What was noted about a run: the record, and the lines of history that are not in it. `None` if there is no such run.
    async fn metadata(&self, run: RunId) -> Result<Option<MetadataLog>, StoreError>;

    /// Writes a record down, as the next version of the one there is (version 1 if there is none). Answers whether it did: not
    /// if another version is there, and not if there is no such run. It goes with its run.
    async fn put_metadata(&self, run: RunId, record: &MetadataRecord) -> Result<bool, StoreError>;
}
