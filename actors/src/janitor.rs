//! Looks after what nobody else does: audits promise P4, and deletes what has outlived its keep.
//!
//! A run that has not ended, has no job and is not held would wait for ever. It can't come into being; the janitor looks anyway, says so
//! loudly if it finds one, and gives it a job.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};

use crate::catalog::SharedCatalog;
use crate::domain::{JobKey, NodeId, RunId};
use crate::engine::{self, Context as Deciding, Input, RetryPolicy};
use crate::kernel::{AddressBook, Observation, Supervised};
use crate::link::{self, LinkError};
use crate::metrics::Metrics;
use crate::ports::{Clock, Expiry, Orphans, Random, Store, StoreError};

/// From one audit to the next.
const AUDIT: Duration = Duration::from_secs(60);
/// From one round of deletions to the next, while there is nothing left to delete.
const PURGE: Duration = Duration::from_secs(600);
/// How late an event may ask for a run, and still find what its rate limit remembers.
const SLACK: Duration = Duration::from_secs(60 * 60);
/// Open runs that an audit looks at. When there are more the next one goes on behind them: a million that sleep or wait
/// must not cost a second of the database's time every minute.
const SPAN: usize = 20_000;
/// Rows of a kind deleted in one go.
const PAGE: usize = 500;

/// How long what has ended is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Runs that completed or were cancelled, from their end.
    pub finished_runs: Duration,
    /// Runs that failed, from their end.
    pub failed_runs: Duration,
    /// Events that no kept run was started by, from their arrival.
    pub events: Duration,
}

/// What the janitor works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Functions as they are now.
    pub catalog: SharedCatalog,
    /// Where the writer is.
    pub book: AddressBook,
    /// What is kept for how long.
    pub retention: Retention,
    /// What is counted.
    pub metrics: Metrics,
    /// This node, where there are others: one of them at a time is enough.
    pub node: Option<NodeId>,
}

impl Parts {
    /// Whether it is this node's turn, for the time until it comes round again and a little more.
    async fn has_turn(&self, turn: &str, interval: Duration) -> Result<bool, StoreError> {
        let Some(node) = self.node else { return Ok(true) };
        let now = self.clock.now();
        self.store
            .take_turn(turn, node, now, now.after(interval + interval / 2))
            .await
    }
}

/// The actor.
pub struct Janitor {
    parts: Parts,
    report: Report,
    /// Behind which run the next audit begins.
    audited: Option<RunId>,
}

#[derive(Debug, Clone, Default, serde::Serialize)]
struct Report {
    audits: u64,
    orphans_found: u64,
    rows_deleted: u64,
}

impl std::fmt::Debug for Janitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Janitor")
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

impl Janitor {
    /// A janitor.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            report: Report::default(),
            audited: None,
        }
    }

    fn audit(&self, ctx: &mut Context<Self>) {
        let (parts, after) = (self.parts.clone(), self.audited);
        let audit = async move { audit(&parts, after).await }
            .into_actor(self)
            .map(|outcome, janitor: &mut Self, _| match outcome {
                Ok((orphans, next)) => {
                    janitor.report.audits += 1;
                    janitor.report.orphans_found += orphans;
                    janitor.audited = next;
                }
                Err(error) => tracing::warn!(%error, "audit failed"),
            });
        ctx.spawn(audit);
    }

    fn purge(&self, ctx: &mut Context<Self>) {
        let parts = self.parts.clone();
        let purge = async move {
            if !parts.has_turn("purge", PURGE).await? {
                return Ok(0);
            }
            let now = parts.clock.now();
            let kept = parts.retention;
            let expiry = Expiry {
                finished_runs: now.before(kept.finished_runs),
                failed_runs: now.before(kept.failed_runs),
                events: now.before(kept.events),
                rates: now.before(SLACK),
            };
            parts.store.purge(&expiry, PAGE).await
        };
        let then = purge.into_actor(self).map(|outcome, janitor: &mut Self, ctx| {
            let wait = match outcome {
                Ok(0) => PURGE,
                // There may be more; others get their turn at the database in between.
                Ok(rows) => {
                    janitor.report.rows_deleted += rows;
                    Duration::from_secs(1)
                }
                Err(error) => {
                    janitor.parts.metrics.store_errors.count(&error);
                    tracing::warn!(%error, "deleting what has outlived its keep failed");
                    PURGE
                }
            };
            ctx.run_later(wait, |janitor, ctx| janitor.purge(ctx));
        });
        ctx.spawn(then);
    }
}

impl Actor for Janitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(AUDIT, |janitor, ctx| janitor.audit(ctx));
        ctx.run_later(AUDIT, |janitor, ctx| janitor.purge(ctx));
    }
}

impl Supervised for Janitor {
    fn observe(&self) -> Observation {
        Observation::of(0).with_detail(serde_json::to_value(&self.report).unwrap_or_default())
    }
}

/// Looks at the open runs behind `after`. Answers how many orphans there were, and behind which run to go on.
async fn audit(parts: &Parts, after: Option<RunId>) -> Result<(u64, Option<RunId>), LinkError> {
    if !parts.has_turn("audit", AUDIT).await? {
        return Ok((0, after));
    }
    let orphans = parts.store.orphans(after, SPAN).await;
    let Orphans { runs, next } = parts.metrics.store_errors.watch(orphans)?;
    let mut found = 0;
    for run in runs {
        if adopt(parts, run).await? {
            found += 1;
            tracing::error!(%run, "a run had nothing to wait for; it has been given a job");
        }
    }
    Ok((found, next))
}

/// Gives a run that has no job one, by telling the engine that a job it does not have is done.
async fn adopt(parts: &Parts, run: RunId) -> Result<bool, LinkError> {
    let Some(state) = parts.store.load_run(run).await? else {
        return Ok(false);
    };
    let catalog = parts.catalog.current();
    let of = (run, state.function);
    let Some(function) = catalog.function(state.function) else {
        return Ok(false);
    };
    if state.is_owned() {
        return Ok(false);
    }
    let context = Deciding {
        now: parts.clock.now(),
        dice: parts.random.unit(),
        retry: RetryPolicy::default(),
        listeners: &*catalog,
        look_back: None,
    };
    let expected = state.version;
    let (_, changes) = engine::decide(state, function, &Input::Idle(JobKey::Start), &context);
    link::advance(&parts.book, &parts.metrics, of, expected, changes).await
}

#[cfg(test)]
mod tests;
