//! No actor searches.

use async_trait::async_trait;

use super::FakeStore;
use crate::domain::{Event, EventId};
use crate::ports::{EventSearch, Page, RunSearch, RunSummary, Search, StoreError};

fn nobody<T>() -> Result<T, StoreError> {
    Err(StoreError::Refused("nobody searches here".to_owned()))
}

#[async_trait]
impl Search for FakeStore {
    async fn find_runs(&self, _: &RunSearch) -> Result<Page<RunSummary>, StoreError> {
        nobody()
    }

    async fn count_runs(&self, _: &RunSearch) -> Result<u64, StoreError> {
        nobody()
    }

    async fn find_events(&self, _: &EventSearch) -> Result<Page<Event>, StoreError> {
        nobody()
    }

    async fn count_events(&self, _: &EventSearch) -> Result<u64, StoreError> {
        nobody()
    }

    async fn runs_of_events(&self, _: &[EventId]) -> Result<Vec<(EventId, RunSummary)>, StoreError> {
        nobody()
    }
}
