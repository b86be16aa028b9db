//! Spans that apps have sent of what goes on in their runs.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{RunId, UserSpan};

/// The part of a store that is about spans of users' own.
#[async_trait]
pub trait SpanBook {
    /// Adds spans to a run, which may have ended. Answers how many were not taken: all, if there is no such run, otherwise those
    /// that are too large or for which there is no room. One that is known counts as taken, and stays as it is. They go with
    /// their run.
    async fn add_spans(&self, run: RunId, spans: &[UserSpan]) -> Result<usize, StoreError>;

    /// The spans of a run, in the order in which they began. None if there is no such run.
    async fn spans(&self, run: RunId) -> Result<Vec<UserSpan>, StoreError>;
}
