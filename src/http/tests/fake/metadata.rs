//! What apps note, in the fake store: metadata as a test says, and the spans that were added.

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

#[async_trait]
impl SpanBook for FakeStore {
    async fn add_spans(&self, run: RunId, spans: &[UserSpan]) -> Read<usize> {
        Ok(self.0.with(|world| {
            if !world.runs.iter().any(|view| view.summary.id == run) {
                return spans.len();
            }
            world.spans.extend(spans.iter().map(|span| (run, span.clone())));
            0
        }))
    }
    async fn spans(&self, run: RunId) -> Read<Vec<UserSpan>> {
        let of_run = |(of, span): &(RunId, UserSpan)| (*of == run).then(|| span.clone());
        Ok(self.0.with(|world| world.spans.iter().filter_map(of_run).collect()))
    }
}
