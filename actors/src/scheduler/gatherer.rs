//! Fires gatherings when they are due.
//!
//! It knows when the next one is due: from the commits of this node, which set the [`Alarm`], and from the store after
//! each round. What another node has opened and no longer fires is found by a sweep. Any number of nodes may try: who
//! comes second has lost, and nothing of it is written.
//!
//! Promises: a gathering is fired once, with all that had joined it by then. Never: it decides nothing, which is
//! [`engine::gathering`]'s.

use std::time::Duration;

use super::Parts;
use crate::catalog::Catalog;
use crate::domain::{Fire, Gathered, Timestamp, Write, Written};
use crate::engine;
use crate::link::{self, LinkError};
use crate::ports::StoreError;

/// Gatherings fired in one write.
const PAGE: usize = 128;
/// Wait after something failed.
const RETRY: Duration = Duration::from_millis(500);
/// The net below the alarm: how often the store is asked in any case.
const SWEEP: Duration = Duration::from_secs(10);
/// The shortest time from one round to the next: those due within it are fired together.
const PACE: Duration = Duration::from_millis(5);

/// The gatherer's working state, handed from round to round.
pub(super) struct Gatherer {
    parts: Parts,
    /// How many fired in the last round.
    pub(super) fired: u64,
}

/// What a round has come to.
#[derive(Default)]
struct Round {
    fired: u64,
    /// Whether some can't be fired at present.
    has_failed: bool,
}

impl Gatherer {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, fired: 0 }
    }

    /// Fires what is due, and waits until something is.
    pub(super) async fn round(mut self) -> Self {
        let wait = match self.work().await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(%error, "gatherings were not fired, trying again");
                RETRY
            }
        };
        let _ = tokio::time::timeout(wait, self.parts.alarm.rung()).await;
        self
    }

    /// Answers how long there is nothing to do.
    async fn work(&mut self) -> Result<Duration, LinkError> {
        self.fired = 0;
        // What is set from here on rings again.
        self.parts.alarm.clear();
        let metrics = self.parts.metrics.clone();
        let errors = &metrics.store_errors;
        loop {
            let Some(next) = errors.watch(self.parts.store.next_gathering().await)? else {
                return Ok(SWEEP);
            };
            let now = self.parts.clock.now();
            if next > now {
                self.parts.alarm.lower(next);
                return Ok(next.since(now).clamp(PACE, SWEEP));
            }
            let due = errors.watch(self.parts.store.due_gatherings(now, PAGE).await)?;
            if due.is_empty() {
                // Another node has just fired it.
                return Ok(PACE);
            }
            let round = self.fire(&due, now).await?;
            self.fired += round.fired;
            if round.has_failed {
                return Ok(RETRY);
            }
        }
    }

    async fn fire(&self, due: &[Gathered], now: Timestamp) -> Result<Round, LinkError> {
        let catalog = self.parts.catalog.current();
        match self.commit(&catalog, due, now).await {
            // Nobody knows at whom the database balks: each alone, so that one does not hold up the others.
            Err(LinkError::Store(error @ (StoreError::Refused(_) | StoreError::Corrupt(_)))) => {
                tracing::warn!(%error, "gatherings can't be fired together");
            }
            outcome => return outcome,
        }
        let mut sum = Round::default();
        for gathered in due {
            match self.commit(&catalog, std::slice::from_ref(gathered), now).await {
                Ok(round) => sum.fired += round.fired,
                Err(LinkError::Store(error @ (StoreError::Refused(_) | StoreError::Corrupt(_)))) => {
                    tracing::error!(gathering = %gathered.gathering.id, %error, "a gathering can't be fired");
                    sum.has_failed = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sum)
    }

    async fn commit(&self, catalog: &Catalog, due: &[Gathered], now: Timestamp) -> Result<Round, LinkError> {
        let writes: Vec<_> = due.iter().map(|one| Write::Fire(fire(catalog, one, now))).collect();
        let written = link::commit(&self.parts.book, writes, false).await?;
        if written.contains(&Written::Outdated) {
            // Another node has registered functions meanwhile: the next round finds these again, and those functions.
            link::refresh_catalog(&self.parts.book).await?;
        }
        let done = written.iter().filter(|written| matches!(written, Written::Done { .. }));
        Ok(Round {
            fired: u64::try_from(done.count()).unwrap_or(0),
            has_failed: false,
        })
    }
}

/// The end of a gathering by this catalog.
pub(crate) fn fire(catalog: &Catalog, gathered: &Gathered, now: Timestamp) -> Fire {
    let function = catalog.function(gathered.gathering.function);
    Fire {
        catalog: Some(catalog.revision()),
        ..engine::gathering::fire(gathered, function.map(|function| &**function), now)
    }
}
