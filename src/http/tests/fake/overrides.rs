//! Overrides of limits: the API has the orchestrator see to them.

use async_trait::async_trait;
use callboard_actors::domain::{FunctionId, LimitOverride, RuleId, Timestamp};
use callboard_actors::ports::{Overrides, StoreError};

use super::backends::{FakeStore, Read};

fn refused<T>() -> Read<T> {
    Err(StoreError::Refused("the API never writes".to_owned()))
}

#[async_trait]
impl Overrides for FakeStore {
    async fn put_override(&self, _: &LimitOverride) -> Read<()> {
        refused()
    }
    async fn end_overrides(&self, _: FunctionId, _: Option<RuleId>) -> Read<bool> {
        refused()
    }
    async fn expire_overrides(&self, _: Timestamp) -> Read<bool> {
        refused()
    }
}
