//! The fake store's keys: the orchestrator has nothing to do with them.

use async_trait::async_trait;

use super::FakeStore;
use crate::domain::{ApiKey, ApiKeyId, Timestamp};
use crate::ports::{KeyBook, StoreError};

#[async_trait]
impl KeyBook for FakeStore {
    async fn put_api_key(&self, _: &ApiKey) -> Result<(), StoreError> {
        Err(StoreError::Refused("the orchestrator makes no keys".to_owned()))
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        Ok(Vec::new())
    }

    async fn revoke_api_key(&self, _: ApiKeyId, _: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn note_api_key_use(&self, _: ApiKeyId, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }
}
