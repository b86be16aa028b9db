//! What a batch of writes comes to, whatever the database: where it has to be cut, and what the changes of a run add up
//! to. Never: no SQL.

mod fold;
mod gatherings;
mod segments;
mod starts;

pub(super) use self::fold::{Folded, place};
pub(super) use self::gatherings::{Held, Holdings, Joins};
pub(super) use self::segments::split;
pub(super) use self::starts::{Buckets, Starts, has_claims};

use std::collections::{HashMap, HashSet};

use callboard_actors::domain::{
    Change, EventId, GatheringId, Job, Join, Joined, LeftOut, NewRun, RunId, SkipReason, Timestamp, WaitKey, Write,
    Written,
};

/// What of a segment did not come about, though its writes did.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Events that are new and have to be routed.
    pub(super) unrouted: HashSet<EventId>,
    /// Runs that were not created, with the reason unless they exist.
    pub(super) left_out: HashMap<RunId, Option<SkipReason>>,
    /// Waits that were over.
    pub(super) missed: HashSet<(RunId, WaitKey)>,
    /// Jobs for runs that have lost their lock, by the run that has it now.
    pub(super) evictions: HashMap<RunId, Job>,
    /// Joins that were left out.
    pub(super) unjoined: HashMap<GatheringId, SkipReason>,
    /// Events whose place in a debounce was taken, by the join.
    pub(super) replaced: HashMap<GatheringId, EventId>,
    /// When the first of the gatherings is due that were joined.
    pub(super) due: Option<Timestamp>,
}

impl Outcome {
    /// What came of a write of the segment that has not lost.
    pub(super) fn of(&self, write: &Write) -> Written {
        let mut events: Vec<EventId> = match write {
            Write::Accept(accept) => vec![accept.event.id],
            Write::Route(_) => Vec::new(),
            Write::Fire(fire) => fire.answers.iter().map(|event| event.id).collect(),
            Write::Advance(advance) => advance
                .changes
                .iter()
                .filter_map(|change| match change {
                    Change::Emit { event, .. } => Some(event.id),
                    _ => None,
                })
                .collect(),
        };
        let of_runs = new_runs(write).iter().flat_map(|run| {
            let of_rate = run.rate.as_ref().and_then(|claim| claim.refusal.as_ref());
            of_rate
                .into_iter()
                .chain(run.lock.as_ref().and_then(|claim| claim.refusal.as_ref()))
        });
        let of_joins = joins(write)
            .iter()
            .filter_map(|join| join.rate.as_ref()?.refusal.as_ref());
        let refusals = of_runs.chain(of_joins);
        events.extend(refusals.map(|event| event.id));
        let runs = || new_runs(write).iter().map(|run| run.state.id);
        let left_out = runs().filter_map(|run| {
            let reason = *self.left_out.get(&run)?;
            Some(LeftOut { run, reason })
        });
        Written::Done {
            left_out: left_out.collect(),
            missed: takes(write).filter(|wait| self.missed.contains(wait)).collect(),
            unrouted: events
                .into_iter()
                .filter(|event| self.unrouted.contains(event))
                .collect(),
            evictions: runs().filter_map(|run| self.evictions.get(&run).cloned()).collect(),
            joined: self.joined(joins(write)),
        }
    }

    fn joined(&self, joins: &[Join]) -> Joined {
        let left_out = joins
            .iter()
            .filter_map(|join| Some((join.function, *self.unjoined.get(&join.id)?)));
        let left_out: Vec<_> = left_out.collect();
        Joined {
            due: self.due.filter(|_| left_out.len() < joins.len()),
            left_out,
            replaced: joins
                .iter()
                .filter_map(|join| self.replaced.get(&join.id).copied())
                .collect(),
        }
    }
}

/// The runs a write creates.
pub(super) fn new_runs(write: &Write) -> &[NewRun] {
    match write {
        Write::Accept(accept) => &accept.runs,
        Write::Route(route) => &route.runs,
        Write::Fire(fire) => &fire.runs,
        Write::Advance(_) => &[],
    }
}

/// The gatherings that a write's event is to join.
pub(super) fn joins(write: &Write) -> &[Join] {
    match write {
        Write::Accept(accept) => &accept.joins,
        Write::Route(route) => &route.joins,
        Write::Fire(_) | Write::Advance(_) => &[],
    }
}

/// The waits a write takes.
pub(super) fn takes(write: &Write) -> impl Iterator<Item = (RunId, WaitKey)> {
    let takes = match write {
        Write::Route(route) => &route.takes[..],
        _ => &[],
    };
    takes.iter().map(|take| (take.run, take.key.clone()))
}
