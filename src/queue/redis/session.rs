//! Who this process is to Redis: its session, the number of its exchanges, and the generation it has seen. Pure.

use tokio::time::{Duration, Instant};

/// The session.
#[derive(Debug)]
pub(super) struct Session {
    /// This queue, in this process, for as long as it lives.
    pub(super) process: String,
    incarnation: u64,
    number: u64,
    /// The last number that was answered.
    pub(super) answered: u64,
    pub(super) is_open: bool,
    /// Whether what is held must be compared with what Redis believes.
    pub(super) reconcile: bool,
    /// Whether Redis has lost something, so that what is missing is made again.
    pub(super) remake: bool,
    generation: Option<String>,
    /// Until then jobs pushed after their commit may be known to others: this process may have stood still in between.
    doubtful_until: Option<Instant>,
}

impl Session {
    pub(super) fn new(process: String) -> Self {
        Self {
            process,
            incarnation: 1,
            number: 0,
            answered: 0,
            is_open: false,
            reconcile: false,
            remake: false,
            generation: None,
            doubtful_until: None,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.process, self.incarnation)
    }

    /// The number of the next exchange.
    pub(super) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Notes which generation has answered; true if it is another one than before.
    pub(super) fn note(&mut self, generation: &str) -> bool {
        if self.generation.as_deref() == Some(generation) {
            return false;
        }
        let is_news = self.generation.is_some();
        self.generation = Some(generation.to_owned());
        if is_news {
            self.has_lost();
        }
        is_news
    }

    /// Redis has lost something: what is held is said again, and made again where it is missing.
    pub(super) fn has_lost(&mut self) {
        self.reconcile = true;
        self.remake = true;
    }

    /// The exchange with the last number was answered.
    pub(super) fn is_answered(&mut self) {
        self.answered = self.number;
    }

    /// Redis does not know the session: the next one is opened, for what is held.
    pub(super) fn lose(&mut self, doubt: Duration) {
        self.end();
        self.reconcile = true;
        self.doubtful_until = Some(Instant::now() + doubt);
    }

    /// The session is over.
    pub(super) fn end(&mut self) {
        self.is_open = false;
        self.incarnation += 1;
        self.number = 0;
        self.answered = 0;
    }

    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful_until.is_some_and(|until| Instant::now() < until)
    }
}
