//! The fake store's keys.

use async_trait::async_trait;
use callboard_actors::domain::*;
use callboard_actors::ports::*;

use super::backends::{FakeStore, Read};

#[async_trait]
impl KeyBook for FakeStore {
    async fn put_api_key(&self, key: &ApiKey) -> Read<()> {
        self.0.with(|world| world.api_keys.insert(0, key.clone()));
        Ok(())
    }
    async fn api_keys(&self) -> Read<Vec<ApiKey>> {
        let fate = self.0.with(|world| world.database);
        fate.strike(StoreError::Unavailable("down".to_owned())).await?;
        Ok(self.0.with(|world| {
            world.key_loads += 1;
            world.api_keys.clone()
        }))
    }
    async fn revoke_api_key(&self, id: ApiKeyId, at: Timestamp) -> Read<bool> {
        Ok(self.0.with(|world| {
            let key = world.api_keys.iter_mut().find(|key| key.id == id);
            key.map(|key| key.revoked_at = key.revoked_at.or(Some(at))).is_some()
        }))
    }
    async fn note_api_key_use(&self, id: ApiKeyId, at: Timestamp) -> Read<()> {
        self.0.with(|world| {
            let key = world.api_keys.iter_mut().find(|key| key.id == id);
            if let Some(key) = key {
                key.last_used_at = key.last_used_at.max(Some(at));
            }
        });
        Ok(())
    }
}
