//! The fake store's metadata: what a test says.

use async_trait::async_trait;
use callboard_actors::domain::*;
use callboard_actors::ports::*;

use super::backends::{FakeStore, Read};

#[async_trait]
impl MetadataBook for FakeStore {
    async fn metadata(&self, run: RunId) -> Read<Option<MetadataLog>> {
        Ok(self.0.with(|world| {
            let is_known = world.runs.iter().any(|view| view.summary.id == run);
            is_known.then(|| world.metadata.get(&run).cloned().unwrap_or_default())
        }))
    }
    async fn put_metadata(&self, _: RunId, _: &MetadataRecord) -> Read<bool> {
        Err(StoreError::Refused("the API never writes".to_owned()))
    }
}
