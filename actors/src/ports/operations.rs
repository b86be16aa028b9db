//! What is kept of operations on many runs, and what they ask about runs.

use async_trait::async_trait;

use super::{Page, RunFilter, StoreError};
use crate::domain::{Operation, OperationId, RunId};

/// The part of a store that is about operations.
#[async_trait]
pub trait OperationBook {
    /// Writes a new operation down. One that is known changes nothing. Forgets operations that ended more than 90 days before
    /// this one was asked for.
    async fn put_operation(&self, operation: &Operation) -> Result<(), StoreError>;

    /// Writes down how far an operation has come, unless it is at another version than `expected`; answers whether it did.
    async fn update_operation(&self, operation: &Operation, expected: u64) -> Result<bool, StoreError>;

    /// An operation.
    async fn operation(&self, id: OperationId) -> Result<Option<Operation>, StoreError>;

    /// Operations from new to old, those older than `before`.
    async fn operations(&self, before: Option<OperationId>, limit: usize) -> Result<Page<Operation>, StoreError>;

    /// Operations that have not ended, oldest first; a hundred at the most, the others have their turn when those have ended.
    async fn open_operations(&self) -> Result<Vec<Operation>, StoreError>;

    /// How many runs the filter means, counted up to its limit.
    async fn count_up_to(&self, filter: &RunFilter) -> Result<u64, StoreError>;

    /// The newest repetition of each of these runs, in no particular order; those without one are left out.
    async fn newest_repetitions(&self, originals: &[RunId]) -> Result<Vec<(RunId, RunId)>, StoreError>;
}
