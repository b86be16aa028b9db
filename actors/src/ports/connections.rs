//! What is kept of workers' connections, for people.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{Connection, Timestamp};

/// The part of a store that is about connections of workers.
#[async_trait]
pub trait ConnectionBook {
    /// Writes connections down as they are, in the place of what was known of them. Of several with one id the last counts.
    async fn put_connections(&self, connections: &[Connection]) -> Result<(), StoreError>;

    /// At most `limit`: those that have not ended first, and of both from new to old.
    async fn connections(&self, limit: usize) -> Result<Vec<Connection>, StoreError>;

    /// Forgets those that were heard of last before then.
    async fn forget_connections(&self, before: Timestamp) -> Result<(), StoreError>;
}
