//! Works through operations on many runs: cancels, does again, tries again what failed; page by page, at their rates.
//!
//! Promises: an operation goes on after a kill, on any instance, and does nothing twice. What a page is about is written
//! down before it is begun, and runs that are done again get ids that follow from operation, page and run; so a page that is
//! begun again finds what was done. One instance at a time has the turn; should two think so, they do the same and one of
//! them can't write its progress down.
//!
//! A slow operation does not hold up the others: each has a page in its turn. With no operation there is nothing to do but
//! to look, now and then, whether another instance has left one behind.
//!
//! In reading order: [`count`] (how many runs an operation is about), `page` (what is next, and doing it).

pub mod count;
mod page;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::sync::Notify;

use crate::domain::{NodeId, Operation, OperationId, Timestamp};
use crate::kernel::{Observation, Supervised};
use crate::outside::Outside;
use crate::ports::StoreError;
use crate::rerun::Reruns;

/// The turn's name.
const TURN: &str = "operations";
/// How long a turn lasts that is not taken again. A page takes less.
const TURN_LASTS: Duration = Duration::from_secs(20);
/// How often somebody who does not have the turn asks for it while there are operations.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// The net below the wake-ups: how often operations are looked for that others have left behind.
const SWEEP: Duration = Duration::from_secs(30);
/// Wait after something failed.
const RETRY: Duration = Duration::from_secs(1);

/// What the steward works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Decides about runs.
    pub(crate) outside: Outside,
    /// Has runs done again.
    pub(crate) reruns: Reruns,
    /// Rung when there is an operation.
    pub changed: Arc<Notify>,
    /// This node, where there are others.
    pub node: Option<NodeId>,
}

impl Parts {
    /// Takes the turn until then.
    async fn take_turn(&self, until: Timestamp) -> Result<bool, StoreError> {
        let Some(node) = self.node else { return Ok(true) };
        let now = self.outside.clock.now();
        let store = &self.outside.store;
        let taken = store.take_turn(TURN, node, now, until).await;
        self.outside.metrics.store_errors.watch(taken)
    }
}

/// The actor.
pub struct Steward {
    work: Option<Work>,
    report: Report,
}

#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
struct Report {
    operations: usize,
    pages: u64,
}

impl std::fmt::Debug for Steward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steward")
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

impl Steward {
    /// A steward that begins with what was left behind.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let work = Work {
            parts,
            next: HashMap::new(),
            has_turn: false,
            report: Report::default(),
        };
        Self {
            work: Some(work),
            report: Report::default(),
        }
    }

    fn turn(&mut self, work: Work, ctx: &mut Context<Self>) {
        let turn = work.turn().into_actor(self).map(|work, steward, ctx| {
            steward.report = work.report;
            steward.turn(work, ctx);
        });
        ctx.spawn(turn);
    }
}

impl Actor for Steward {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if let Some(work) = self.work.take() {
            self.turn(work, ctx);
        }
    }
}

impl Supervised for Steward {
    fn observe(&self) -> Observation {
        Observation::of(0).with_detail(serde_json::to_value(self.report).unwrap_or_default())
    }
}

/// The steward's working state, handed from turn to turn.
struct Work {
    parts: Parts,
    /// When each operation may go on, by its rate.
    next: HashMap<OperationId, Timestamp>,
    has_turn: bool,
    report: Report,
}

impl Work {
    async fn turn(mut self) -> Self {
        let wait = match self.work().await {
            Ok(wait) => wait,
            Err(error) => {
                self.parts.outside.metrics.store_errors.count(&error);
                tracing::warn!(%error, "operations can't go on, trying again");
                RETRY
            }
        };
        if !wait.is_zero() {
            let changed = Arc::clone(&self.parts.changed);
            let _ = tokio::time::timeout(wait, changed.notified()).await;
        }
        self
    }

    /// A page of each operation whose time has come; answers how long there is nothing to do.
    async fn work(&mut self) -> Result<Duration, StoreError> {
        let store = Arc::clone(&self.parts.outside.store);
        let clock = Arc::clone(&self.parts.outside.clock);
        let open = store.open_operations().await?;
        self.report.operations = open.len();
        self.next
            .retain(|id, _| open.iter().any(|operation| operation.id == *id));
        if open.is_empty() {
            if std::mem::take(&mut self.has_turn) {
                // For whoever is asked for the next one.
                self.parts.take_turn(clock.now()).await?;
            }
            return Ok(SWEEP);
        }
        for operation in open {
            let (id, now) = (operation.id, clock.now());
            if self.next.get(&id).is_some_and(|next| now < *next) {
                continue;
            }
            self.has_turn = self.parts.take_turn(now.after(TURN_LASTS)).await?;
            if !self.has_turn {
                return Ok(ASK_AGAIN);
            }
            if let Err(error) = self.page(operation).await {
                // One that can't go on does not hold up the others.
                self.parts.outside.metrics.store_errors.count(&error);
                tracing::warn!(operation = %id, %error, "an operation can't go on, trying again");
            }
        }
        let now = clock.now();
        let next = self.next.values().min();
        Ok(next.map_or(Duration::ZERO, |next| next.since(now)).min(ASK_AGAIN))
    }

    async fn page(&mut self, operation: Operation) -> Result<(), StoreError> {
        let (id, kind, rate) = (operation.id, operation.kind, operation.rate);
        let began = self.parts.outside.clock.now();
        let worked = page::work(&self.parts, operation).await;
        self.report.pages += 1;
        let pause = match &worked {
            Ok(items) => page::pause(kind, rate, *items),
            // It must not hold up the others.
            Err(_) => RETRY,
        };
        self.next.insert(id, began.after(pause));
        worked.map(drop)
    }
}

#[cfg(test)]
mod tests;
