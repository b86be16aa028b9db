//! What is kept of the keys that operators hand out.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{ApiKey, ApiKeyId, Timestamp};

/// The part of a store that is about keys.
#[async_trait]
pub trait KeyBook {
    /// Writes a new key down. Forgets keys that were revoked or expired more than 90 days before it was made.
    async fn put_api_key(&self, key: &ApiKey) -> Result<(), StoreError>;

    /// All keys, those that are good for nothing any more included, from new to old.
    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// A key is good for nothing from then on; one that was revoked before stays so since then. Answers whether there is such
    /// a key.
    async fn revoke_api_key(&self, id: ApiKeyId, at: Timestamp) -> Result<bool, StoreError>;

    /// A key was used then, unless a later use is known. Unknown ones are ignored.
    async fn note_api_key_use(&self, id: ApiKeyId, at: Timestamp) -> Result<(), StoreError>;
}
