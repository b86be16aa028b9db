//! What is kept of crons: nothing; the ledger is the orchestrator's.

use async_trait::async_trait;
use callboard_actors::domain::{EventId, FunctionId, RunId, Timestamp};
use callboard_actors::ports::{CronGap, CronMark, SlotBook, StoreError, TickView};

use super::backends::{FakeStore, Read};

#[async_trait]
impl SlotBook for FakeStore {
    async fn cron_marks(&self, _: Option<FunctionId>) -> Read<Vec<CronMark>> {
        Ok(Vec::new())
    }
    async fn note_crons(&self, _: &[CronMark], _: &[CronGap]) -> Read<()> {
        Err(StoreError::Refused("the API never writes".to_owned()))
    }
    async fn cron_gaps(&self, _: FunctionId, _: Timestamp, _: Timestamp) -> Read<Vec<CronGap>> {
        Ok(Vec::new())
    }
    async fn ticks(&self, _: &[(EventId, RunId)]) -> Read<Vec<TickView>> {
        Ok(Vec::new())
    }
}
