//! The fake store's connections of workers: the orchestrator has nothing to do with them.

use async_trait::async_trait;

use super::FakeStore;
use crate::domain::{Connection, Timestamp};
use crate::ports::{ConnectionBook, StoreError};

#[async_trait]
impl ConnectionBook for FakeStore {
    async fn put_connections(&self, _: &[Connection]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn connections(&self, _: usize) -> Result<Vec<Connection>, StoreError> {
        Ok(Vec::new())
    }

    async fn forget_connections(&self, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }
}
