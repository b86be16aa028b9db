//! The fake store's operations on many runs.

use async_trait::async_trait;
use callboard_actors::domain::*;
use callboard_actors::ports::*;

use super::backends::{FakeStore, Read};

#[async_trait]
impl OperationBook for FakeStore {
    async fn put_operation(&self, _: &Operation) -> Read<()> {
        Err(StoreError::Refused("the API never writes".to_owned()))
    }
    async fn update_operation(&self, _: &Operation, _: u64) -> Read<bool> {
        Err(StoreError::Refused("the API never writes".to_owned()))
    }
    async fn operation(&self, id: OperationId) -> Read<Option<Operation>> {
        let found = |operation: &&Operation| operation.id == id;
        Ok(self.0.with(|world| world.operations.iter().find(found).cloned()))
    }
    async fn operations(&self, before: Option<OperationId>, limit: usize) -> Read<Page<Operation>> {
        Ok(self.0.with(|world| {
            let older = world
                .operations
                .iter()
                .filter(|of| before.is_none_or(|before| of.id < before));
            Page {
                has_more: older.clone().count() > limit,
                items: older.take(limit).cloned().collect(),
            }
        }))
    }
    async fn open_operations(&self) -> Read<Vec<Operation>> {
        Ok(Vec::new())
    }
    async fn count_up_to(&self, _: &RunFilter) -> Read<u64> {
        Ok(0)
    }
    async fn newest_repetitions(&self, _: &[RunId]) -> Read<Vec<(RunId, RunId)>> {
        Ok(Vec::new())
    }
}
