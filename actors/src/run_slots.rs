//! The end of a run that held a run slot: who waits for one has room.
//!
//! Whoever commits the end passes the slot on, for he knows of it first. Should he not come to it, the scheduler's sweep does.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::domain::{RunId, RunState, Timestamp};
use crate::metrics::Metrics;
use crate::ports::{Origin, Queue, Store};

/// Runs let in by the end of one, at the most: more than one only where a limit has risen.
const ADMITTED: usize = 64;

/// Where slots are passed on.
#[derive(Debug, Clone)]
pub(crate) struct PassOn {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) metrics: Metrics,
}

/// What a run leaves that is in this state from now on: itself and what it counted with, if it has ended and had a slot to
/// hold.
pub(crate) fn left_by(run: &RunState) -> Option<Left> {
    let gate = run.gates.run_slot().filter(|_| run.status.is_final())?;
    Some(Left {
        run: run.id,
        bucket: gate.bucket,
    })
}

/// What a run has left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left {
    run: RunId,
    bucket: crate::domain::BucketId,
}

impl PassOn {
    /// Lets in who waits for what a run has left.
    pub(crate) async fn pass(self, Left { run, bucket }: Left, now: Timestamp) {
        let limits = self.catalog.slot_limits();
        let admitted = self.store.admit(Some(bucket), limits, now, ADMITTED).await;
        match self.metrics.store_errors.watch(admitted) {
            Ok(jobs) if jobs.is_empty() => {}
            Ok(jobs) => drop(self.queue.push(jobs, Origin::Sweep).await),
            Err(error) => {
                tracing::warn!(%run, %error, "the slot of a run that has ended is passed on by the next sweep");
            }
        }
    }
}
