//! Metadata that comes by itself, not with a step's result: about a run of whatever status, or its steps.

use super::{Orchestrator, Refusal};
use crate::domain::{Metadata, MetadataTarget, MetadataUpdate, RunId};
use crate::outside::TRIES;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataOutcome {
    /// It is kept, durably.
    Written,
    /// There is no such run.
    UnknownRun,
    /// The run has too much already; nothing was kept.
    TooLarge,
}

impl Orchestrator {
    /// Applies updates to what is noted about a run, all of them or none, in this order.
    ///
    /// # Errors
    /// When the store can't, or too many write at the same time.
    pub async fn write_metadata(
        &self,
        run: RunId,
        updates: &[(MetadataTarget, MetadataUpdate)],
    ) -> Result<MetadataOutcome, Refusal> {
        let now = self.clock.now();
        for _ in 0..TRIES {
            let read = self.metrics.store_errors.watch(self.store.metadata(run).await)?;
            let Some(log) = read else {
                return Ok(MetadataOutcome::UnknownRun);
            };
            let mut metadata = Metadata::of(log);
            let fits = |(target, update): &(_, MetadataUpdate)| metadata.apply(target, update.clone(), now);
            if !updates.iter().all(fits) {
                return Ok(MetadataOutcome::TooLarge);
            }
            let written = self.store.put_metadata(run, &metadata.into_record()).await;
            if self.metrics.store_errors.watch(written)? {
                return Ok(MetadataOutcome::Written);
            }
        }
        Err(Refusal::Overloaded)
    }
}
