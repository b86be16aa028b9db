//! Run slots: a run that is about to make its first call takes one or is parked, and one that has ended lets the next in.

use std::rc::Rc;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::Executor;
use super::slot::Task;
use crate::assignment::Assignment;
use crate::domain::{BucketId, Function, JobKey, RunState};
use crate::engine;
use crate::ports::SlotClaim;

/// What a run has to hold before its first call, if anything.
pub(super) fn claim(run: &RunState, function: &Function, job: &JobKey) -> Option<SlotClaim> {
    let gate = run.gates.run_slot()?;
    if *job != JobKey::Start || run.started_at.is_some() {
        return None;
    }
    // Under another rule than now, or none: nothing is limited any more.
    let (rule, limit) = engine::run_limit(function).filter(|(rule, _)| *rule == gate.rule)?;
    Some(SlotClaim {
        run: run.id,
        function: function.id,
        rule,
        bucket: gate.bucket,
        key: gate.key.to_string(),
        limit,
        rank: run.priority.counts_from(run.created_at()),
    })
}

impl Executor {
    /// Takes a slot for the run; the job goes on with it, or waits in the store.
    pub(super) fn take_slot(&mut self, claim: SlotClaim, assignment: Assignment, doubts: u32, ctx: &mut Context<Self>) {
        let run = claim.run;
        let Some(slot) = self.slots.get_mut(&run) else { return };
        slot.is_busy = true;
        let taken = Rc::clone(&self.local.slots).ask(claim);
        let then = taken.into_actor(self).map(move |taken, executor: &mut Self, ctx| {
            let Some(slot) = executor.slots.get_mut(&run) else {
                return;
            };
            slot.is_busy = false;
            match taken {
                Ok(true) => slot.push_front(Task {
                    has_slot: true,
                    doubts,
                    ..Task::new(assignment)
                }),
                // Its job comes again when it has been given one.
                Ok(false) => executor.acknowledge(assignment),
                Err(error) => {
                    tracing::warn!(%run, function = %executor.id, %error, "no slot could be taken, trying again");
                    executor.hand_back(assignment);
                }
            }
            executor.go_on(run, ctx);
        });
        ctx.spawn(then);
    }

    /// A run has ended: who waits for its slot has room.
    pub(super) fn pass_slot_on(&self, bucket: BucketId) {
        actix::spawn(Rc::clone(&self.local.ends).ask(bucket));
    }
}
