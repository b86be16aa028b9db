//! Permits for what is on its way in: how many events, and how many bytes of them, may be between the socket and the
//! commit at one time. What does not fit is refused at once (P6), never queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The permits.
#[derive(Debug, Clone)]
pub struct Intake(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    events: Gauge,
    bytes: Gauge,
}

#[derive(Debug)]
struct Gauge {
    used: AtomicUsize,
    limit: usize,
}

impl Gauge {
    fn take(&self, amount: usize) -> bool {
        let add = |used: usize| used.checked_add(amount).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok()
    }

    fn give_back(&self, amount: usize) {
        self.used.fetch_sub(amount, Ordering::AcqRel);
    }

    fn share(&self) -> Share {
        Share {
            used: self.used.load(Ordering::Acquire),
            limit: self.limit,
        }
    }
}

/// What is on its way in, and how much may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Events.
    pub events: Share,
    /// Bytes of requests.
    pub bytes: Share,
}

/// So much of so much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// In use.
    pub used: usize,
    /// What may be.
    pub limit: usize,
}

impl Intake {
    /// So many events and bytes at a time.
    #[must_use]
    pub fn new(events: usize, bytes: usize) -> Self {
        let gauge = |limit| Gauge {
            used: AtomicUsize::new(0),
            limit,
        };
        Self(Arc::new(Shared {
            events: gauge(events),
            bytes: gauge(bytes),
        }))
    }

    /// An empty permit, to be filled as the request comes in.
    #[must_use]
    pub fn permit(&self) -> Permit {
        Permit {
            shared: Arc::clone(&self.0),
            events: 0,
            bytes: 0,
        }
    }

    /// What is on its way in.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            events: self.0.events.share(),
            bytes: self.0.bytes.share(),
        }
    }
}

/// What one request holds; given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    events: usize,
    bytes: usize,
}

impl Permit {
    /// Takes room for more bytes; answers whether there was any.
    #[must_use]
    pub fn add_bytes(&mut self, bytes: usize) -> bool {
        let taken = self.shared.bytes.take(bytes);
        self.bytes += if taken { bytes } else { 0 };
        taken
    }

    /// Takes room for more events; answers whether there was any.
    #[must_use]
    pub fn add_events(&mut self, events: usize) -> bool {
        let taken = self.shared.events.take(events);
        self.events += if taken { events } else { 0 };
        taken
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.events.give_back(self.events);
        self.shared.bytes.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(intake: &Intake) -> (usize, usize) {
        let Load { events, bytes } = intake.load();
        (events.used, bytes.used)
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_dropped_is_free_again() {
        let intake = Intake::new(3, 100);
        let mut one = intake.permit();
        assert!(one.add_events(2) && one.add_bytes(60));
        let mut two = intake.permit();
        assert!(!two.add_events(2) && !two.add_bytes(41));
        assert!(two.add_events(1) && two.add_bytes(40));
        assert_eq!(used(&intake), (3, 100));
        drop(one);
        assert_eq!(used(&intake), (1, 40));
        drop(two);
        assert_eq!(used(&intake), (0, 0));
    }

    #[test]
    fn a_huge_request_does_not_overflow() {
        let intake = Intake::new(usize::MAX, usize::MAX);
        let mut permit = intake.permit();
        assert!(permit.add_bytes(usize::MAX));
        assert!(!intake.permit().add_bytes(1));
    }
}
