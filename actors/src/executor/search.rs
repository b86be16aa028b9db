//! Looks for the event that a wait was set too late for.

use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::slot::Task;
use super::{Executor, Parts};
use crate::assignment::Assignment;
use crate::domain::{Resumption, RunId};
use crate::engine::{Input, Search};
use crate::ports::StoreError;

/// Events read at a time.
const PAGE: usize = 100;
/// Events looked at for one wait. Whoever sends more of a name within the look-back waits for one that comes later.
const MOST: usize = 10_000;

impl Executor {
    /// Looks among the events that came before the wait was set. What it finds takes its place in the run's line.
    pub(super) fn search(&self, run: RunId, search: Search, assignment: Assignment, ctx: &mut Context<Self>) {
        let step = search.step.clone();
        let found = find(self.parts.clone(), search);
        let then = found.into_actor(self).map(move |found, executor: &mut Self, ctx| {
            let Some(slot) = executor.slots.get_mut(&run) else {
                return;
            };
            slot.calls -= 1;
            match found {
                Ok(found) => slot.push_back(Task {
                    input: Some(Input::Looked(step, found)),
                    ..Task::new(assignment)
                }),
                Err(error) => {
                    tracing::warn!(%run, %error, "events before a wait not known, trying again");
                    executor.hand_back(assignment);
                }
            }
            executor.go_on(run, ctx);
        });
        ctx.spawn(then);
    }
}

async fn find(parts: Parts, search: Search) -> Result<Option<Resumption>, StoreError> {
    let store = Arc::clone(&parts.store);
    let (mut after, mut seen) = (None, 0);
    loop {
        let page = store.events_named(&search.name, search.from, search.until, after, PAGE);
        let page = parts.metrics.store_errors.watch(page.await)?;
        let now = parts.clock.now();
        if let Some(event) = page.iter().find(|event| search.fits(event, now)) {
            return Ok(Some(Resumption::by(event)));
        }
        seen += page.len();
        if page.len() < PAGE {
            return Ok(None);
        }
        if seen >= MOST {
            tracing::warn!(
                name = search.name,
                seen,
                "too many events before a wait to look at all of them"
            );
            return Ok(None);
        }
        after = page.last().map(|event| event.id);
    }
}
