//! The fake store's connections of workers.

use async_trait::async_trait;
use callboard_actors::domain::*;
use callboard_actors::ports::*;

use super::backends::{FakeStore, Read};

#[async_trait]
impl ConnectionBook for FakeStore {
    async fn put_connections(&self, connections: &[Connection]) -> Read<()> {
        self.0.with(|world| world.connections.extend_from_slice(connections));
        Ok(())
    }
    async fn connections(&self, _limit: usize) -> Read<Vec<Connection>> {
        Ok(self.0.with(|world| world.connections.clone()))
    }
    async fn forget_connections(&self, _before: Timestamp) -> Read<()> {
        Ok(())
    }
}
