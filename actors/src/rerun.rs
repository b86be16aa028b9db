//! Has a run done again: as a whole or from one of its steps on, for an operator or for an operation on many runs.
//!
//! What is asked for is an event of the server's own, accepted together with the new run. The run's id follows from the
//! event's, as with any event, so asking twice with the same id starts one run, whatever was lost in between.

use std::sync::Arc;

use serde_json::json;

use crate::catalog::{Catalog, SharedCatalog};
use crate::domain::{Accept, Event, EventId, Function, Json, RunId, SkipReason, Write, Written};
use crate::engine;
use crate::engine::rerun::{From, FromStepError};
use crate::kernel::AddressBook;
use crate::link::{self, LinkError};
use crate::ports::{RunView, Store, StoreError};

/// The name of the event that asks for it.
pub const EVENT: &str = "inngest/run.rerun";

/// Catalogs that may turn out to be older than the database's, one after another.
const TRIES: usize = 16;

/// A step to begin with.
#[derive(Debug, Clone, PartialEq)]
pub struct FromStep {
    /// Its id, or its name if no other step of the run has it.
    pub step: String,
    /// Arguments in place of those that the function gives it: a JSON array.
    pub input: Option<Json>,
}

/// A run that does again what another one did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rerun {
    /// The new run.
    pub run: RunId,
    /// The first one of the chain.
    pub original: RunId,
}

/// Why a run is not done again.
#[derive(Debug, thiserror::Error)]
pub enum RerunError {
    /// There is no such run.
    #[error("there is no run {0}")]
    UnknownRun(RunId),
    /// A later registration has left its function out, so no app has it.
    #[error("the function of the run is archived: no app has it")]
    Archived,
    /// Not from this step.
    #[error(transparent)]
    FromStep(#[from] FromStepError),
    /// The app's SDK would take the input for the step's result.
    #[error("the app's SDK ({0}) does not take edited input of steps")]
    NoEditedInput(String),
    /// The run may not be created.
    #[error("the run was not created: {1}")]
    Skipped(SkipReason, String),
    /// Whoever does it is down. Worth another try.
    #[error("the server is not accepting work: {0}")]
    Unavailable(&'static str),
    /// The store can't.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl std::convert::From<LinkError> for RerunError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Down(name) | LinkError::Died(name) => Self::Unavailable(name),
            LinkError::Store(error) => Self::Store(error),
        }
    }
}

/// What it takes.
#[derive(Debug, Clone)]
pub(crate) struct Reruns {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) catalog: SharedCatalog,
    pub(crate) book: AddressBook,
}

impl Reruns {
    /// Has a run done again; `id` names the wish, and says when it was made.
    pub(crate) async fn rerun(&self, run: RunId, from: Option<&FromStep>, id: EventId) -> Result<Rerun, RerunError> {
        let view = self.store.run_view(run).await?;
        let view = view.ok_or(RerunError::UnknownRun(run))?;
        let events = self.store.events_by_id(&view.summary.event_ids).await?;
        if events.len() < view.summary.event_ids.len() {
            let lost = format!("run {run} has lost some of its events");
            return Err(StoreError::Corrupt(lost).into());
        }
        let original = view.summary.original.unwrap_or(run);
        let wish = wish(run, from, id);
        for _ in 0..TRIES {
            let catalog = self.catalog.current();
            let function = function(&catalog, &view)?;
            let start = beginning(&catalog, function, &view, from)?;
            let new = RunId::derive(id, function.id);
            let again = engine::rerun(function, &events, original, view.summary.batch, start, new, id.at());
            let again = again.map_err(|skip| RerunError::Skipped(skip.reason, skip.detail))?;
            let accept = Accept {
                event: wish.clone(),
                runs: vec![again],
                joins: Vec::new(),
                skips: Vec::new(),
                catalog: Some(catalog.revision()),
            };
            let mut written = link::commit(&self.book, vec![Write::Accept(accept)], false).await?;
            match written.pop() {
                Some(Written::Outdated) => link::refresh_catalog(&self.book).await?,
                Some(Written::Done { left_out, .. }) => {
                    return match left_out.first().and_then(|left_out| left_out.reason) {
                        Some(reason) => Err(RerunError::Skipped(reason, self.detail(id).await?)),
                        None => Ok(Rerun { run: new, original }),
                    };
                }
                // It was asked for before, by whoever had this id.
                Some(Written::Lost) | None => {
                    return match self.store.run_view(new).await? {
                        Some(_) => Ok(Rerun { run: new, original }),
                        None => Err(RerunError::Skipped(SkipReason::Duplicate, self.detail(id).await?)),
                    };
                }
            }
        }
        Err(RerunError::Unavailable(link::names::REGISTRAR))
    }

    /// Why the run was not created, as it was recorded.
    async fn detail(&self, id: EventId) -> Result<String, StoreError> {
        let view = self.store.event_view(id).await?;
        let skip = view.and_then(|view| view.skips.into_iter().next());
        Ok(skip.map_or_else(String::new, |skip| skip.detail))
    }
}

/// The event that asks for it.
fn wish(run: RunId, from: Option<&FromStep>, id: EventId) -> Event {
    let step = from.map(|from| from.step.as_str());
    let data = json!({ "from_step": step, "run_id": run });
    let data = Json::from_value(&data).expect("texts are JSON");
    Event::glued(EVENT, id, id.to_string(), id.at(), data.as_str())
}

fn function<'a>(catalog: &'a Catalog, view: &RunView) -> Result<&'a Function, RerunError> {
    let function = catalog.function(view.summary.function);
    let function = function.filter(|function| !function.archived);
    function.map(|function| &**function).ok_or(RerunError::Archived)
}

fn beginning(
    catalog: &Catalog,
    function: &Function,
    view: &RunView,
    from: Option<&FromStep>,
) -> Result<From, RerunError> {
    let Some(from) = from else { return Ok(From::default()) };
    let start = From::step(view, &from.step, from.input.clone())?;
    let app = catalog.apps().iter().find(|of| of.app.name == function.app);
    let sdk = app.map_or("", |of| of.app.sdk.as_str());
    if start.is_edited() && !takes_edited_input(sdk) {
        return Err(RerunError::NoEditedInput(sdk.to_owned()));
    }
    Ok(start)
}

/// Whether an SDK runs a step with the input that stands in the place of its result. The Python and the Go SDK take that
/// for the result itself. Functions that were registered by hand name no SDK; who edits their steps knows what they are.
fn takes_edited_input(sdk: &str) -> bool {
    sdk.is_empty() || sdk.starts_with("js:") || sdk.starts_with("inngest-js:")
}

#[cfg(test)]
mod tests;
