//! Operations, and what they ask.

use async_trait::async_trait;

use super::{FakeStore, Fault, error};
use crate::domain::{Operation, OperationId, RunId};
use crate::ports::{OperationBook, Page, RunFilter, StoreError};

impl FakeStore {
    /// So many times how far an operation has come can't be written down.
    pub(crate) fn fail_operations(&self, times: usize) {
        self.lock().operation_faults = times;
    }
}

#[async_trait]
impl OperationBook for FakeStore {
    async fn put_operation(&self, operation: &Operation) -> Result<(), StoreError> {
        let mut inner = self.lock();
        inner
            .operations
            .entry(operation.id)
            .or_insert_with(|| operation.clone());
        Ok(())
    }

    async fn update_operation(&self, operation: &Operation, expected: u64) -> Result<bool, StoreError> {
        tokio::task::yield_now().await;
        let mut inner = self.lock();
        if inner.operation_faults > 0 {
            inner.operation_faults -= 1;
            return Err(error(Fault::Unavailable));
        }
        let known = inner
            .operations
            .get_mut(&operation.id)
            .filter(|known| known.version == expected);
        Ok(known.map(|known| *known = operation.clone()).is_some())
    }

    async fn operation(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        Ok(self.lock().operations.get(&id).cloned())
    }

    async fn operations(&self, before: Option<OperationId>, limit: usize) -> Result<Page<Operation>, StoreError> {
        let inner = self.lock();
        let older = inner
            .operations
            .values()
            .rev()
            .filter(|of| before.is_none_or(|before| of.id < before));
        let items: Vec<_> = older.clone().take(limit).cloned().collect();
        Ok(Page {
            has_more: older.count() > items.len(),
            items,
        })
    }

    async fn open_operations(&self) -> Result<Vec<Operation>, StoreError> {
        let inner = self.lock();
        Ok(inner
            .operations
            .values()
            .filter(|of| of.ended_at.is_none())
            .cloned()
            .collect())
    }

    async fn count_up_to(&self, filter: &RunFilter) -> Result<u64, StoreError> {
        Ok(self.lock().list(filter).items.len().try_into().unwrap_or(u64::MAX))
    }

    async fn newest_repetitions(&self, originals: &[RunId]) -> Result<Vec<(RunId, RunId)>, StoreError> {
        let inner = self.lock();
        let newest = |original: &RunId| {
            let of = inner.runs.values().filter(|run| run.original == Some(*original));
            Some((*original, of.map(|run| run.id).max()?))
        };
        Ok(originals.iter().filter_map(newest).collect())
    }
}
