//! Gatherings: those that a test has put there.

use async_trait::async_trait;
use callboard_actors::domain::{FunctionId, Gathered, Gathering, GatheringId, Timestamp};
use callboard_actors::ports::GatheringBook;

use super::backends::{FakeStore, Read};

#[async_trait]
impl GatheringBook for FakeStore {
    async fn due_gatherings(&self, _: Timestamp, _: usize) -> Read<Vec<Gathered>> {
        Ok(Vec::new())
    }
    async fn next_gathering(&self) -> Read<Option<Timestamp>> {
        Ok(None)
    }
    async fn gatherings(&self, id: FunctionId, after: Option<GatheringId>, limit: usize) -> Read<Vec<Gathering>> {
        Ok(self.0.with(|world| {
            let held = world.gatherings.iter().map(|held| &held.gathering);
            let meant = held.filter(|held| held.function == id && after.is_none_or(|after| held.id > after));
            meant.take(limit).cloned().collect()
        }))
    }
    async fn gathering(&self, id: GatheringId) -> Read<Option<Gathered>> {
        let is_it = |held: &&Gathered| held.gathering.id == id;
        Ok(self.0.with(|world| world.gatherings.iter().find(is_it).cloned()))
    }
}
