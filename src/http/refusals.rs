//! How many requests with events were refused, and why in a word.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::{Code, Problem};

/// The counts, from the start of the process.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    overloaded: AtomicU64,
    unauthorized: AtomicU64,
    unavailable: AtomicU64,
    invalid: AtomicU64,
}

impl Refusals {
    /// Counts one.
    pub(super) fn count(&self, problem: &Problem) {
        let counter = match (problem.code, problem.code.status()) {
            (Code::Overloaded, _) => &self.overloaded,
            (_, 401) => &self.unauthorized,
            (_, 500..) => &self.unavailable,
            _ => &self.invalid,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// How many for which reason.
    pub(super) fn by_reason(&self) -> [(&'static str, u64); 4] {
        [
            ("overloaded", &self.overloaded),
            ("unauthorized", &self.unauthorized),
            ("unavailable", &self.unavailable),
            ("invalid", &self.invalid),
        ]
        .map(|(reason, counter)| (reason, counter.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_reason() {
        let refusals = Refusals::default();
        for code in [
            Code::Overloaded,
            Code::EventKeyUnknown,
            Code::DatabaseUnavailable,
            Code::Unavailable,
            Code::InvalidEvent,
        ] {
            refusals.count(&Problem::from(code));
        }
        assert_eq!(refusals.by_reason().map(|(_, count)| count), [1, 1, 2, 1]);
    }
}
