//! What the queue did not take in of the jobs that the writer brought: noted by the writer, made good by the scheduler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::ports::Pushed;

/// The note. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Untaken(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    spilled: AtomicBool,
    unheard: AtomicBool,
}

impl Untaken {
    /// Notes what came of a push; true if the scheduler has to be told.
    pub fn note(&self, pushed: Pushed) -> bool {
        let is_news = |lacks: bool, known: &AtomicBool| lacks && !known.swap(true, Relaxed);
        is_news(pushed.spilled > 0, &self.0.spilled) | is_news(pushed.unheard > 0, &self.0.unheard)
    }

    /// Whether there was no room for some.
    pub(super) fn is_spilled(&self) -> bool {
        self.0.spilled.load(Relaxed)
    }

    /// Whether the queue did not answer for some.
    pub(super) fn is_unheard(&self) -> bool {
        self.0.unheard.load(Relaxed)
    }

    /// From now on it is about what is brought from now on.
    pub(super) fn clear(&self) {
        self.0.spilled.store(false, Relaxed);
        self.0.unheard.store(false, Relaxed);
    }
}
