//! When the next gathering is due, as far as this node knows: who joins one sets it, who fires them waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;

use crate::domain::Timestamp;

/// The alarm. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Alarm(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// In milliseconds.
    next: AtomicI64,
    earlier: Notify,
}

impl Default for Alarm {
    fn default() -> Self {
        Self(Arc::new(Inner {
            next: AtomicI64::new(i64::MAX),
            earlier: Notify::new(),
        }))
    }
}

impl Alarm {
    /// Something is due then. Rings if that is earlier than anything that was known.
    pub fn set(&self, due: Timestamp) {
        if self.lower(due) {
            self.0.earlier.notify_one();
        }
    }

    /// Forgets what was known; whoever sets it from now on rings.
    pub(super) fn clear(&self) {
        self.0.next.store(i64::MAX, Ordering::SeqCst);
    }

    /// Notes what its waiter has found itself. Answers whether that is the earliest.
    pub(super) fn lower(&self, due: Timestamp) -> bool {
        let due = due.as_millis();
        due < self.0.next.fetch_min(due, Ordering::SeqCst)
    }

    /// Rings.
    pub(super) async fn rung(&self) {
        self.0.earlier.notified().await;
    }
}
