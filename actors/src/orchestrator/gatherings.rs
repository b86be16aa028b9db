//! Gatherings on demand.

use super::{Orchestrator, Refusal, TRIES};
use crate::domain::{DueBy, Fire, GatheringId, RunId, Write, Written};
use crate::link;
use crate::scheduler;

/// A gathering that was fired because somebody asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiredGathering {
    /// The run that it started; `None` if it started none, which is recorded of its events.
    pub run: Option<RunId>,
    /// How many events it held.
    pub events: usize,
}

impl Orchestrator {
    /// Fires a gathering now, with what it holds. `None` if there is none, or none any more.
    ///
    /// # Errors
    /// When the store can't, or the server is going down.
    pub async fn fire_gathering(&self, id: GatheringId) -> Result<Option<FiredGathering>, Refusal> {
        for _ in 0..TRIES {
            let Some(gathered) = self.store.gathering(id).await? else {
                return Ok(None);
            };
            let fire = Fire {
                due_by: DueBy::Request,
                ..scheduler::fire(&self.catalog.current(), &gathered, self.clock.now())
            };
            let run = fire.runs.first().map(|run| run.state.id);
            let mut written = link::commit(&self.supervisor.book, vec![Write::Fire(fire)], true).await?;
            match written.pop() {
                Some(Written::Done { left_out, .. }) => {
                    return Ok(Some(FiredGathering {
                        run: run.filter(|run| !left_out.iter().any(|left| left.run == *run)),
                        events: gathered.events.len(),
                    }));
                }
                Some(Written::Outdated) => link::refresh_catalog(&self.supervisor.book).await?,
                // An event has joined it meanwhile, or it has fired.
                _ => {}
            }
        }
        Err(Refusal::Overloaded)
    }
}
