//! Run slots: none is ever asked for, and what is shown is the world's.

use async_trait::async_trait;
use callboard_actors::domain::{BucketId, FunctionId, Job, RuleId, RunId, Timestamp};
use callboard_actors::ports::{KeyFlow, RunSlots, SlotClaim, SlotLimits, SlotPlace, StoreError};

use super::backends::{FakeStore, Read};

#[async_trait]
impl RunSlots for FakeStore {
    async fn take_slots(&self, _: &[SlotClaim]) -> Read<Vec<bool>> {
        Err(StoreError::Refused("the API never writes".to_owned()))
    }
    async fn admit(&self, _: Option<&[BucketId]>, _: &SlotLimits, _: Timestamp, _: usize) -> Read<Vec<Job>> {
        Err(StoreError::Refused("the API never writes".to_owned()))
    }
    async fn run_slots(&self, _: FunctionId) -> Read<Vec<(RuleId, KeyFlow)>> {
        Ok(self.0.with(|world| world.run_slots.clone()))
    }
    async fn slot_place(&self, _: RunId) -> Read<Option<SlotPlace>> {
        Ok(self.0.with(|world| world.slot_place.clone()))
    }
}
