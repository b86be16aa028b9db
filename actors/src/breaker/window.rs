//! How many calls there were of late, and how many of them failed.
//!
//! A sliding window in [`SLICES`] slices: a slice leaves it as a whole, so the window is between nine and ten tenths of
//! its length long. Recording and reading cost the same however many calls there are.

use std::time::Duration;

/// Slices of a window.
pub(super) const SLICES: u64 = 10;

/// Calls and how many of them failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that were answered, or that were given up.
    pub calls: u32,
    /// Of these, those that say that the app can't be reached.
    pub failed: u32,
}

/// The window. Times are given since an origin of the caller's choice.
#[derive(Debug, Clone)]
pub(super) struct Window {
    slice: Duration,
    /// The slice that `tallies` begins with, counted from the origin.
    newest: u64,
    tallies: [Tally; SLICES as usize],
}

impl Window {
    /// An empty window of this length.
    pub(super) fn new(length: Duration) -> Self {
        let slice = length / u32::try_from(SLICES).expect("a small number");
        Self {
            slice: slice.max(Duration::from_millis(1)),
            newest: 0,
            tallies: [Tally::default(); SLICES as usize],
        }
    }

    /// Counts a call.
    pub(super) fn record(&mut self, now: Duration, is_failure: bool) {
        let slice = self.slice_of(now).max(self.newest);
        for gone in (self.newest + 1..=slice).rev().take(SLICES as usize) {
            self.tallies[Self::place(gone)] = Tally::default();
        }
        self.newest = slice;
        let tally = &mut self.tallies[Self::place(slice)];
        tally.calls = tally.calls.saturating_add(1);
        tally.failed = tally.failed.saturating_add(u32::from(is_failure));
    }

    /// What is in the window.
    pub(super) fn read(&self, now: Duration) -> Tally {
        let slice = self.slice_of(now).max(self.newest);
        let oldest = slice.saturating_sub(SLICES - 1);
        let mut sum = Tally::default();
        for slice in oldest..=self.newest {
            let tally = self.tallies[Self::place(slice)];
            sum.calls = sum.calls.saturating_add(tally.calls);
            sum.failed = sum.failed.saturating_add(tally.failed);
        }
        sum
    }

    fn slice_of(&self, now: Duration) -> u64 {
        u64::try_from(now.as_nanos() / self.slice.as_nanos()).unwrap_or(u64::MAX)
    }

    fn place(slice: u64) -> usize {
        usize::try_from(slice % SLICES).expect("less than ten")
    }
}
