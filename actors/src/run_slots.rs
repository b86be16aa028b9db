//! The end of a run that held a run slot: who waits for one has room.
//!
//! Whoever commits the end passes the slot on, for he knows of it first. Should he not come to it, the scheduler's sweep does.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::domain::{BucketId, RunState, Timestamp};
use crate::metrics::Metrics;
use crate::ports::{Origin, Queue, Store};

/// Runs let in by the end of one, on average at the most: more than one only where a limit has risen.
const ADMITTED: usize = 64;

/// Where slots are passed on.
#[derive(Debug, Clone)]
pub(crate) struct PassOn {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) metrics: Metrics,
}

/// What a run counted with that is in this state from now on, if it has ended and had a slot to hold.
pub(crate) fn left_by(run: &RunState) -> Option<BucketId> {
    let gate = run.gates.run_slot().filter(|_| run.status.is_final())?;
    Some(gate.bucket)
}

impl PassOn {
    /// Lets in who waits for what runs have left that counted in these buckets.
    pub(crate) async fn pass(self, buckets: &[BucketId], now: Timestamp) {
        let (limits, most) = (self.catalog.slot_limits(), ADMITTED * buckets.len());
        let admitted = self.store.admit(Some(buckets), limits, now, most).await;
        match self.metrics.store_errors.watch(admitted) {
            Ok(jobs) if jobs.is_empty() => {}
            Ok(jobs) => drop(self.queue.push(jobs, Origin::Sweep).await),
            Err(error) => {
                let count = buckets.len();
                tracing::warn!(count, %error, "slots of runs that have ended are passed on by the next sweep");
            }
        }
    }
}
