//! What numbers are kept in: counters, and histograms with fixed bounds.
//!
//! Promises: recording takes a handful of instructions, no lock and no memory, on any thread. A reading is consistent in
//! itself where that matters: a histogram's count is the sum of the buckets that were read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counts up, from the start of the process.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// How many so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How often values fell between which bounds. Values are whole numbers in a unit of the histogram's own.
#[derive(Debug)]
pub struct Histogram {
    /// The largest value of each bucket, rising; one more bucket takes what is larger.
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one with these bounds, which rise.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        debug_assert!(bounds.is_sorted_by(|one, next| one < next), "bounds rise");
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Takes a value in.
    pub fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Takes a span in, in whole microseconds.
    pub fn record_micros(&self, span: Duration) {
        self.record(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
    }

    /// What it holds.
    #[must_use]
    pub fn read(&self) -> Reading {
        let counts = self.counts.iter().map(|count| count.load(Relaxed)).collect();
        Reading {
            bounds: self.bounds,
            counts,
            sum: self.sum.load(Relaxed),
        }
    }
}

/// What a histogram held when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The largest value of each bucket but the last.
    pub bounds: &'static [u64],
    /// Values in each bucket, not counting those of the buckets before; one more than there are bounds.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: u64,
}

impl Reading {
    /// How many values were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: &[u64] = &[1, 10, 100];

    #[test]
    fn a_bound_belongs_to_the_bucket_it_ends() {
        let histogram = Histogram::new(BOUNDS);
        for value in [0, 1, 2, 10, 11, 100, 101, u64::from(u32::MAX)] {
            histogram.record(value);
        }
        let reading = histogram.read();
        assert_eq!(reading.counts, [2, 2, 2, 2]);
        assert_eq!(reading.sum, 225 + u64::from(u32::MAX));
    }

    #[test]
    fn spans_are_recorded_in_microseconds() {
        let histogram = Histogram::new(BOUNDS);
        histogram.record_micros(Duration::from_nanos(10_999));
        histogram.record_micros(Duration::from_micros(11));
        assert_eq!((histogram.read().counts, histogram.read().sum), (vec![0, 1, 1, 0], 21));
    }

    #[test]
    fn threads_lose_nothing_of_each_other() {
        let (histogram, counter) = (Histogram::new(BOUNDS), Counter::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for value in 0..10_000 {
                        histogram.record(value % 200);
                        counter.increment();
                    }
                });
            }
        });
        assert_eq!((histogram.read().count(), counter.value()), (40_000, 40_000));
        assert_eq!(histogram.read().counts, [400, 1_800, 18_000, 19_800]);
    }

    proptest! {
        #[test]
        fn every_value_is_in_the_one_bucket_that_has_room_for_it(values in prop::collection::vec(0_u64..1_000, 0..50)) {
            let histogram = Histogram::new(BOUNDS);
            values.iter().for_each(|value| histogram.record(*value));
            let reading = histogram.read();
            let mut below = 0;
            for (bound, count) in BOUNDS.iter().zip(&reading.counts) {
                below += count;
                let expected = values.iter().filter(|value| *value <= bound).count();
                prop_assert_eq!(below, expected as u64);
            }
            prop_assert_eq!(reading.count(), values.len() as u64);
            prop_assert_eq!(reading.sum, values.iter().sum::<u64>());
        }
    }
}
