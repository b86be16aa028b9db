//! What apps note. This store keeps no history, so there is what the API has written and nothing else; and no spans.

use async_trait::async_trait;

use super::FakeStore;
use crate::domain::{MetadataLog, MetadataRecord, RunId, UserSpan};
use crate::ports::{MetadataBook, SpanBook, StoreError};

#[async_trait]
impl MetadataBook for FakeStore {
    async fn metadata(&self, run: RunId) -> Result<Option<MetadataLog>, StoreError> {
        let inner = self.lock();
        Ok(inner.runs.contains_key(&run).then(|| MetadataLog {
            record: inner.metadata.get(&run).cloned(),
            lines: Vec::new(),
        }))
    }

    async fn put_metadata(&self, run: RunId, record: &MetadataRecord) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let is_next = inner.metadata.get(&run).map_or(0, |known| known.version) + 1 == record.version;
        let is_kept = is_next && inner.runs.contains_key(&run);
        if is_kept {
            inner.metadata.insert(run, record.clone());
        }
        Ok(is_kept)
    }
}

#[async_trait]
impl SpanBook for FakeStore {
    async fn add_spans(&self, _: RunId, spans: &[UserSpan]) -> Result<usize, StoreError> {
        Ok(spans.len())
    }

    async fn spans(&self, _: RunId) -> Result<Vec<UserSpan>, StoreError> {
        Ok(Vec::new())
    }
}
