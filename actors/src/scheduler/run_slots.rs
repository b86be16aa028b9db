//! Run slots that nobody has passed on: their last holder's process died over it, or a limit has changed.

use std::sync::Arc;

use super::{SWEEP, Time};
use crate::domain::Timestamp;
use crate::ports::{Origin, StoreError};

/// Runs let in at a time.
const PAGE: usize = 500;

/// When slots were last looked at, and under which catalog.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    last: Option<(Timestamp, u64)>,
}

impl Sweep {
    /// The queue may lack jobs, and somebody may have died.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }
}

impl Time {
    /// Lets in who has room. Where there are no limits, once for each catalog: nobody begins to wait then.
    pub(super) async fn pass_slots_on(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let catalog = self.parts.catalog.current();
        let limits = Arc::clone(catalog.slot_limits());
        let is_due = match self.slots.last {
            None => true,
            Some((_, revision)) if revision != catalog.revision() => true,
            Some((last, _)) => !limits.limits.is_empty() && (now.since(last) >= SWEEP || now < last),
        };
        if !is_due {
            return Ok(());
        }
        loop {
            let admitted = self.parts.store.admit(None, &limits, now, PAGE).await;
            let jobs = self.parts.metrics.store_errors.watch(admitted)?;
            let is_last = jobs.len() < PAGE;
            self.turn.brought += u64::try_from(jobs.len()).unwrap_or(0);
            if !jobs.is_empty() {
                self.parts.queue.push(jobs, Origin::Sweep).await;
            }
            if is_last {
                break;
            }
        }
        self.slots.last = Some((now, catalog.revision()));
        Ok(())
    }
}
