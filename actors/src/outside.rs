//! Decisions about runs made past their executors: for operators, by the API or by an operation on many runs; and for apps
//! that report about a run nobody here is at work on.
//!
//! The run's version is the arbiter: the executor's copy of the state goes stale, which it finds out with its next decision.

use std::sync::Arc;

use crate::catalog::SharedCatalog;
use crate::domain::{CallRef, DeadLetter, LetterId, Report, ReportRefused, RunId, RunState};
use crate::engine::{self, Context as Deciding, Input, RetryPolicy};
use crate::kernel::AddressBook;
use crate::link;
use crate::metrics::Metrics;
use crate::orchestrator::{Cancelled, Refusal};
use crate::ports::{Clock, Queue, Random, Store};
use crate::run_slots::{self, PassOn};

/// Decisions that may lose against somebody faster before we give up.
pub(crate) const TRIES: usize = 16;

/// What it takes.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) catalog: SharedCatalog,
    pub(crate) book: AddressBook,
    pub(crate) metrics: Metrics,
    /// How long failed attempts wait.
    pub(crate) retry: RetryPolicy,
}

impl Outside {
    /// Decides on an input. `None` if the run is not open, `false` if somebody was faster or nothing is left to decide.
    pub(crate) async fn advance(&self, run: RunId, input: &Input) -> Result<Option<bool>, Refusal> {
        match self.store.load_run(run).await? {
            Some(state) => self.advance_from(state, input).await,
            None => Ok(None),
        }
    }

    /// The same, from a state that was loaded just now.
    pub(crate) async fn advance_from(&self, state: RunState, input: &Input) -> Result<Option<bool>, Refusal> {
        let run = state.id;
        let catalog = self.catalog.current();
        let of = (run, state.function);
        let Some(function) = catalog.function(state.function) else {
            return Ok(None);
        };
        let context = Deciding {
            now: self.clock.now(),
            dice: self.random.unit(),
            retry: self.retry,
            listeners: &*catalog,
            look_back: None,
        };
        let expected = state.version;
        let (next, changes) = engine::decide(state, function, input, &context);
        if changes.is_empty() {
            // What it is about has gone since the caller looked.
            return Ok(Some(false));
        }
        let is_done = link::advance(&self.book, &self.metrics, of, expected, changes).await?;
        if let Some(bucket) = run_slots::left_by(&next).filter(|_| is_done) {
            let passing = PassOn {
                store: Arc::clone(&self.store),
                queue: Arc::clone(&self.queue),
                catalog,
                metrics: self.metrics.clone(),
            };
            passing.pass(&[bucket], self.clock.now()).await;
        }
        Ok(Some(is_done))
    }

    /// Takes a report about a run. The inner error says why it is not taken.
    pub(crate) async fn report(&self, run: RunId, report: Report) -> Result<Result<(), ReportRefused>, Refusal> {
        let input = Input::Reported(Box::new(report.clone()));
        for _ in 0..TRIES {
            let Some(state) = self.store.load_run(run).await? else {
                return Ok(Err(ReportRefused::Stale));
            };
            if let Some(why) = engine::refusal(&state, &report) {
                return Ok(Err(why));
            }
            if engine::contradicts(&state, &report) {
                if self.advance_from(state, &input).await? == Some(true) {
                    return Ok(Err(ReportRefused::Stale));
                }
                continue;
            }
            if engine::is_known(&state, &report) || self.advance_from(state, &input).await? == Some(true) {
                return Ok(Ok(()));
            }
        }
        Err(Refusal::Overloaded)
    }

    /// Has a call not count any more, nor its answer: whoever has its job now makes another, or has made it. Nothing is to be
    /// done where the run's state says so already.
    ///
    /// The app ends a call whose report is refused, and answers it with an error, which must not fail the run.
    pub(crate) async fn supersede(&self, run: RunId, report: &Report) -> Result<(), Refusal> {
        let CallRef { job, attempt, request } = report.call.clone();
        let request = request.after(request);
        let input = Input::Superseded(CallRef { job, attempt, request });
        for _ in 0..TRIES {
            let Some(state) = self.store.load_run(run).await? else {
                return Ok(());
            };
            if engine::refusal(&state, report) == Some(ReportRefused::Stale) {
                return Ok(());
            }
            if self.advance_from(state, &input).await? == Some(true) {
                return Ok(());
            }
        }
        Err(Refusal::Overloaded)
    }

    /// Cancels a run, for this reason.
    pub(crate) async fn cancel(&self, run: RunId, reason: &str) -> Result<Cancelled, Refusal> {
        let input = Input::Cancelled(reason.to_owned());
        for _ in 0..TRIES {
            match self.advance(run, &input).await? {
                Some(true) => return Ok(Cancelled::Now),
                Some(false) => {}
                None if self.store.run_view(run).await?.is_some() => return Ok(Cancelled::AlreadyEnded),
                None => return Ok(Cancelled::Unknown),
            }
        }
        Err(Refusal::Overloaded)
    }

    /// Decides about a dead letter. Answers it as it was; `None` if there is none, or none any more.
    pub(crate) async fn settle(&self, id: LetterId, input: &Input) -> Result<Option<DeadLetter>, Refusal> {
        for _ in 0..TRIES {
            let Some(letter) = self.store.dead_letter(id).await? else {
                return Ok(None);
            };
            match self.advance(letter.job.id.run, input).await? {
                Some(true) => return Ok(Some(letter)),
                Some(false) => {}
                None => return Ok(None),
            }
        }
        Err(Refusal::Overloaded)
    }
}
