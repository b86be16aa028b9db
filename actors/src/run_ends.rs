//! Tells whoever waits for the end of a run.
//!
//! Only of ends that are committed in this process: who waits looks at the store now and then as well. Where nobody waits,
//! an end costs one look at a counter.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::RunId;

/// Where to wait. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct RunEnds(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: AtomicUsize,
    waiting: Mutex<HashMap<RunId, watch::Sender<bool>>>,
}

impl RunEnds {
    /// Watches a run. An end from now on is not missed.
    #[must_use]
    pub fn watch(&self, run: RunId) -> Watch {
        let ended = self.lock().entry(run).or_default().subscribe();
        self.0.count.fetch_add(1, Ordering::SeqCst);
        Watch {
            ends: self.clone(),
            run,
            ended,
        }
    }

    /// These runs have ended.
    pub(crate) fn tell(&self, runs: &[RunId]) {
        if runs.is_empty() || self.0.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let waiting = self.lock();
        for ended in runs.iter().filter_map(|run| waiting.get(run)) {
            ended.send_replace(true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, watch::Sender<bool>>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run that is watched.
#[derive(Debug)]
pub struct Watch {
    ends: RunEnds,
    run: RunId,
    ended: watch::Receiver<bool>,
}

impl Watch {
    /// Resolves when the run has ended since it is watched.
    pub async fn ended(&mut self) {
        // The sender stays as long as this.
        let _ = self.ended.wait_for(|has_ended| *has_ended).await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = self.ends.lock();
        // The last one is this.
        if waiting.get(&self.run).is_some_and(|ended| ended.receiver_count() == 1) {
            waiting.remove(&self.run);
        }
        self.ends.0.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::domain::Timestamp;

    fn run(n: u128) -> RunId {
        RunId::new(Timestamp::from_millis(1), n)
    }

    #[test]
    fn who_watches_hears_of_it_whether_he_waits_just_then_or_not() {
        let ends = RunEnds::default();
        let (mut one, mut also, mut other) = (ends.watch(run(1)), ends.watch(run(1)), ends.watch(run(2)));
        let mut waiting = Box::pin(one.ended());
        assert!(waiting.as_mut().now_or_never().is_none());
        ends.tell(&[run(1)]);
        assert!(waiting.as_mut().now_or_never().is_some());
        assert!(also.ended().now_or_never().is_some());
        assert!(other.ended().now_or_never().is_none());
        drop(waiting);
        drop((one, also, other));
        assert!(ends.lock().is_empty() && ends.0.count.load(Ordering::SeqCst) == 0);
    }
}
