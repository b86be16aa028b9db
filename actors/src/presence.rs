//! Shows the other nodes that this one is alive, and learns from them.
//!
//! Every beat writes a row and brings the catalog's revision back: when another node has registered an app, the catalog is
//! read again. A beat is no lease: nobody loses work for want of one. Work is fenced by the leases of the queue and the
//! versions of runs.
//!
//! Runs only where a database is shared. Never: it does not decide anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};

use crate::catalog::SharedCatalog;
use crate::domain::{Node, NodeState};
use crate::kernel::{AddressBook, Credits, Observation, Supervised};
use crate::link::{self, names};
use crate::metrics::Metrics;
use crate::ports::{Clock, Store, StoreError};
use crate::registrar::{Change, Registrar};

/// From one sign of life to the next.
pub const BEAT: Duration = Duration::from_secs(2);

/// What it works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What this node knows of functions.
    pub catalog: SharedCatalog,
    /// Where the registrar is.
    pub book: AddressBook,
    /// How much is in hand.
    pub credits: Credits,
    /// What is counted.
    pub metrics: Metrics,
    /// This node.
    pub node: Node,
    /// Whether it takes no more work.
    pub is_draining: Arc<AtomicBool>,
}

/// The actor.
pub struct Presence {
    parts: Parts,
    beats: u64,
    last_error: Option<String>,
    is_beating: bool,
    is_stopping: bool,
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presence")
            .field("node", &self.parts.node.id)
            .finish_non_exhaustive()
    }
}

impl Presence {
    /// Shows this node.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            beats: 0,
            last_error: None,
            is_beating: false,
            is_stopping: false,
        }
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        // A database that does not answer is asked once, not once for every beat.
        if std::mem::replace(&mut self.is_beating, true) {
            return;
        }
        let (store, now) = (Arc::clone(&self.parts.store), self.parts.clock.now());
        let node = Node {
            state: if self.parts.is_draining.load(Ordering::Relaxed) {
                NodeState::Draining
            } else {
                self.parts.node.state
            },
            jobs_in_flight: u64::try_from(self.parts.credits.gauges().in_use).unwrap_or(0),
            ..self.parts.node.clone()
        };
        let beat =
            async move { store.beat(&node, now).await }
                .into_actor(self)
                .map(|outcome, presence: &mut Self, ctx| {
                    presence.is_beating = false;
                    presence.note(outcome);
                    if presence.is_stopping {
                        presence.leave(ctx);
                    }
                });
        ctx.spawn(beat);
    }

    fn note(&mut self, outcome: Result<u64, StoreError>) {
        match self.parts.metrics.store_errors.watch(outcome) {
            Ok(revision) => {
                self.beats += 1;
                self.last_error = None;
                if revision > self.parts.catalog.current().revision() {
                    let told = link::tell::<Registrar, _>(&self.parts.book, names::REGISTRAR, Change::Refresh(None));
                    if let Err(error) = told {
                        tracing::debug!(%error, "the catalog is read at the next beat");
                    }
                }
            }
            Err(error) => {
                if self.last_error.is_none() {
                    tracing::warn!(%error, "no sign of life could be given");
                }
                self.last_error = Some(error.to_string());
            }
        }
    }

    fn leave(&self, ctx: &mut Context<Self>) {
        let (store, id) = (Arc::clone(&self.parts.store), self.parts.node.id);
        let leave = async move { store.leave(id).await }
            .into_actor(self)
            .map(|outcome, _, ctx| {
                if let Err(error) = outcome {
                    tracing::warn!(%error, "the others take this node for silent: its leave could not be noted");
                }
                ctx.stop();
            });
        ctx.spawn(leave);
    }
}

impl Actor for Presence {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.beat(ctx);
        ctx.run_interval(BEAT, Self::beat);
    }
}

impl Supervised for Presence {
    fn observe(&self) -> Observation {
        Observation::of(0).with_detail(serde_json::json!({ "beats": self.beats, "last_error": self.last_error }))
    }

    fn wind_down(&mut self, ctx: &mut Context<Self>) {
        self.is_stopping = true;
        if !self.is_beating {
            self.leave(ctx);
        }
    }
}

#[cfg(test)]
mod tests;
