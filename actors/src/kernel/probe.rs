//! Heartbeats: asking a child, or a thread, whether it still does anything.
//!
//! A probe is answered into a shared cell, not by message, so a thousand children cost the supervisor one
//! pass per beat. At most one probe per child is open at a time: a hung child collects no backlog. Never
//! judges by wall-clock: what counts is beats without an answer, so a process that was frozen and thawed
//! has missed one at most.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

/// What a child says about itself when asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Observation {
    /// Pieces of work it has begun and not ended.
    pub in_flight: u64,
    /// Whatever else it wants tests, metrics and operators to see. One shape per role.
    pub detail: Value,
}

impl Observation {
    /// An observation with nothing but the work in flight.
    #[must_use]
    pub fn of(in_flight: u64) -> Self {
        Self {
            in_flight,
            detail: Value::Null,
        }
    }

    /// Adds the details.
    #[must_use]
    pub fn with_detail(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }
}

#[derive(Debug, Default)]
struct Beat {
    answered: u64,
    at: Option<Instant>,
    observation: Arc<Observation>,
}

/// The cell a probe is answered into; shared with the probed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse(Arc<Mutex<Beat>>);

impl Pulse {
    pub(crate) fn answer(&self, ticket: u64, observation: Observation) {
        let mut beat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        beat.answered = ticket;
        beat.at = Some(Instant::now());
        beat.observation = Arc::new(observation);
    }

    /// When the last answer came, and what it said.
    pub(crate) fn last(&self) -> (Option<Instant>, Arc<Observation>) {
        let beat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (beat.at, Arc::clone(&beat.observation))
    }

    fn answered(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).answered
    }
}

/// The supervisor's side of a pulse.
#[derive(Debug, Default)]
pub(crate) struct Heart {
    pub(crate) pulse: Pulse,
    asked: u64,
    missed: u32,
}

impl Heart {
    pub(crate) fn new(pulse: Pulse) -> Self {
        Self {
            pulse,
            ..Self::default()
        }
    }

    /// One heartbeat. Gives the ticket of a new probe to send, or none while one is open.
    pub(crate) fn beat(&mut self) -> Option<u64> {
        if self.pulse.answered() != self.asked {
            self.missed += 1;
            return None;
        }
        self.missed = 0;
        Some(self.ask())
    }

    /// A probe between beats, if none is open.
    pub(crate) fn ask_now(&mut self) -> Option<u64> {
        (self.pulse.answered() == self.asked).then(|| self.ask())
    }

    /// Beats in a row that found the probe unanswered.
    pub(crate) fn missed(&self) -> u32 {
        self.missed
    }

    fn ask(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_count_up_without_new_probes_and_an_answer_clears_them() {
        let pulse = Pulse::default();
        let mut heart = Heart::new(pulse.clone());
        assert_eq!(heart.beat(), Some(1));
        assert_eq!(heart.beat(), None);
        assert_eq!(heart.beat(), None);
        assert_eq!(heart.missed(), 2);
        assert_eq!(heart.ask_now(), None);
        pulse.answer(1, Observation::of(3));
        assert_eq!(heart.ask_now(), Some(2));
        pulse.answer(2, Observation::of(4));
        assert_eq!(heart.beat(), Some(3));
        assert_eq!(heart.missed(), 0);
        assert_eq!(pulse.last().1.in_flight, 4);
    }
}
