//! Reports of calls under way, in the run's line like everything else that is decided about it.
//!
//! The executor knows which call it has in flight for a job, so it says of what an earlier one reports that it has a rival even
//! before the newer one has reported anything. What it can't tell, the engine tells from the run's state.

use actix::{Context, Handler, Message};
use tokio::sync::oneshot;

use super::slot::{Slot, Work};
use super::{Executor, TRIES};
use crate::domain::{Report, ReportRefused, RunId};
use crate::engine::{self, Context as Deciding, Input};

/// What becomes of a report. Nobody answers if it could not be decided upon: whether it is recorded is then not known.
pub type Taken = Result<(), NotTaken>;

/// Why a report is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// The run's state says so.
    Refused(ReportRefused),
    /// Another call for the same job is in flight here, which the run's state does not know of yet.
    Rival,
}

/// Take this report of a call for a run.
#[derive(Debug)]
pub struct TakeReport {
    /// The run.
    pub run: RunId,
    /// The report.
    pub report: Report,
    /// Told when it is durable.
    pub reply: oneshot::Sender<Taken>,
}

impl Message for TakeReport {
    type Result = ();
}

/// A report that waits for its turn.
#[derive(Debug)]
pub(super) struct Pending {
    report: Report,
    reply: oneshot::Sender<Taken>,
    /// Decisions on it that lost against somebody faster.
    tries: u32,
}

impl Pending {
    /// Says that the report is not taken.
    pub(super) fn refuse(self, why: ReportRefused) {
        let _ = self.reply.send(Err(NotTaken::Refused(why)));
    }
}

impl Handler<TakeReport> for Executor {
    type Result = ();

    fn handle(&mut self, TakeReport { run, report, reply }: TakeReport, ctx: &mut Context<Self>) {
        let slot = self.slots.entry(run).or_default();
        slot.work.push_back(Work::Report(Pending {
            report,
            reply,
            tries: 0,
        }));
        self.go_on(run, ctx);
    }
}

impl Slot {
    /// Whether another call for the same job is in flight.
    fn has_rival(&self, report: &Report) -> bool {
        let mut rivals = self.under_way.iter().filter(|call| call.job == report.call.job);
        rivals.any(|call| *call != report.call)
    }
}

impl Executor {
    /// A report, with the run's state at hand.
    pub(super) fn take_report(&mut self, run: RunId, mut pending: Pending, ctx: &mut Context<Self>) {
        let function = self.function();
        let Some(slot) = self.slots.get_mut(&run) else { return };
        let (Some(function), Some(state)) = (function, slot.state.take()) else {
            return;
        };
        if slot.has_rival(&pending.report) {
            slot.state = Some(state);
            let _ = pending.reply.send(Err(NotTaken::Rival));
            return;
        }
        match engine::refusal(&state, &pending.report) {
            None => {}
            // A state that was remembered may be older than the call.
            Some(ReportRefused::Stale) if pending.tries == 0 => {
                pending.tries += 1;
                return slot.work.push_front(Work::Report(pending));
            }
            Some(why) => {
                slot.state = Some(state);
                return pending.refuse(why);
            }
        }
        let taken = if engine::contradicts(&state, &pending.report) {
            Err(NotTaken::Refused(ReportRefused::Stale))
        } else {
            Ok(())
        };
        let expected = state.version;
        let catalog = self.parts.catalog.current();
        let context = Deciding {
            now: self.parts.clock.now(),
            dice: 0.0,
            retry: self.parts.retry,
            listeners: &*catalog,
            look_back: None,
        };
        let input = Input::Reported(Box::new(pending.report));
        let (next, changes) = engine::decide(*state, &function, &input, &context);
        let Input::Reported(report) = input else { return };
        pending.report = *report;
        if changes.is_empty() {
            slot.state = Some(Box::new(next));
            let _ = pending.reply.send(Ok(()));
            return;
        }
        self.commit(
            run,
            next,
            expected,
            changes,
            ctx,
            move |executor, outcome| match outcome {
                Ok(true) => {
                    let _ = pending.reply.send(taken);
                }
                // From here on the state is loaded anew.
                Ok(false) if pending.tries < TRIES => {
                    pending.tries += 1;
                    if let Some(slot) = executor.slots.get_mut(&run) {
                        slot.work.push_front(Work::Report(pending));
                    }
                }
                // Nobody answers: whether it is recorded is not known.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%run, function = %executor.id, %error, "report not committed");
                    drop(pending);
                    executor.set_back(run);
                }
            },
        );
    }
}
