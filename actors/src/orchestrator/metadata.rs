//! Metadata that comes by itself, not with a step's result: about a run of whatever status, or its steps.

use tokio::sync::{Mutex, MutexGuard};

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

/// Who writes about one run in this process waits for one another, rather than to lose against each other many times. Those of
/// other processes are met by the version of what is written.
#[derive(Debug, Default)]
pub(super) struct Turns([Mutex<()>; 32]);

impl Turns {
    async fn of(&self, run: RunId) -> MutexGuard<'_, ()> {
        let [.., last] = run.to_bytes();
        self.0[usize::from(last) % self.0.len()].lock().await
    }
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
        let _turn = self.metadata_turns.of(run).await;
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
