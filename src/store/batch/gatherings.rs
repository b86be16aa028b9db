//! Which gatherings the events of a segment join, and what becomes of those.
//!
//! Joins of a bucket are decided in the order of the writes, as if each had been a batch of its own; what comes of them is
//! written once for each gathering. What the database holds of the buckets comes in, rows to be written go out.

use std::collections::{BTreeMap, HashMap, HashSet};

use callboard_actors::domain::{
    ClaimId, EventId, FunctionId, Gathering, GatheringId, Join, LATE_TO_DEBOUNCE, Skip, SkipReason, Timestamp, limits,
    replaced_by,
};
use callboard_actors::engine::gathering::{Admitted, admit};

/// A gathering as its row says.
#[derive(Debug, Clone)]
pub(in crate::store) struct Held {
    pub(in crate::store) gathering: Gathering,
    pub(in crate::store) is_open: bool,
    /// The event that joined last, and whether it stays when another takes its place.
    pub(in crate::store) last: (EventId, bool),
}

/// What the database holds of the buckets that a segment is about.
#[derive(Debug, Default)]
pub(in crate::store) struct Holdings {
    pub(in crate::store) open: HashMap<ClaimId, Held>,
    /// Keys of events that have joined within the window.
    pub(in crate::store) keys: HashSet<(FunctionId, String)>,
}

/// What comes of a segment's joins.
#[derive(Debug, Default)]
pub(in crate::store) struct Joins {
    /// Rows that are new or have changed, those that are closed before those that take their place.
    pub(in crate::store) rows: Vec<Held>,
    /// Events that are held from now on, with their places.
    pub(in crate::store) members: BTreeMap<(GatheringId, u32), EventId>,
    /// Events that were held, and are no longer.
    pub(in crate::store) gone: Vec<(GatheringId, EventId)>,
    pub(in crate::store) skips: Vec<Skip>,
    /// Keys of events that have joined, with how long they are kept.
    pub(in crate::store) keys: Vec<(FunctionId, String, Timestamp)>,
    /// Joins that were left out.
    pub(in crate::store) left_out: HashMap<GatheringId, SkipReason>,
    /// Events whose place was taken, by the join.
    pub(in crate::store) replaced: HashMap<GatheringId, EventId>,
    /// When the first of the gatherings is due.
    pub(in crate::store) due: Option<Timestamp>,
}

impl Joins {
    /// Decides on these joins, in order.
    pub(in crate::store) fn decide<'a>(joins: impl Iterator<Item = &'a Join>, mut holdings: Holdings) -> Self {
        let mut decided = Self::default();
        // Only what has changed is written.
        let mut changed: BTreeMap<ClaimId, Held> = BTreeMap::new();
        for join in joins {
            if let Some(key) = &join.idempotency {
                let key = (join.function, key.clone());
                if holdings.keys.contains(&key) {
                    decided.leave_out(join, SkipReason::Duplicate, join.duplicate());
                    continue;
                }
                let until = join.at.after(limits::IDEMPOTENCY_WINDOW);
                decided.keys.push((join.function, key.1.clone(), until));
                holdings.keys.insert(key);
            }
            let before = changed
                .remove(&join.bucket)
                .or_else(|| holdings.open.remove(&join.bucket));
            let open = before.filter(|held| held.is_open);
            let Some(admitted) = admit(open.as_ref().map(|held| held.gathering.standing), join) else {
                changed.extend(open.map(|held| (join.bucket, held)));
                decided.leave_out(join, SkipReason::Debounced, LATE_TO_DEBOUNCE.to_owned());
                continue;
            };
            let held = decided.take_in(join, admitted, open);
            if held.is_open {
                changed.insert(join.bucket, held);
            } else {
                decided.put(held);
            }
        }
        for held in changed.into_values() {
            decided.put(held);
        }
        decided
    }

    fn leave_out(&mut self, join: &Join, reason: SkipReason, detail: String) {
        self.left_out.insert(join.id, reason);
        self.skips.push(Skip {
            event: join.event,
            function: Some(join.function),
            reason,
            detail,
        });
    }

    fn put(&mut self, held: Held) {
        let due = held.gathering.standing.due_at;
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
        self.rows.push(held);
    }

    /// The gathering with the event in it.
    fn take_in(&mut self, join: &Join, admitted: Admitted, open: Option<Held>) -> Held {
        let place = admitted.standing.count.saturating_sub(1);
        let last = (join.event, join.is_awaited);
        let held = match open {
            Some(mut held) if !admitted.opens => {
                let (replaced, stays) = std::mem::replace(&mut held.last, last);
                if !join.is_batch() {
                    self.replaced.insert(join.id, replaced);
                    self.skips.push(Skip {
                        event: replaced,
                        function: Some(join.function),
                        reason: SkipReason::Debounced,
                        detail: replaced_by(join.event),
                    });
                    let was_new = self.members.range(members_of(held.gathering.id)).next_back();
                    let was_new = was_new.filter(|(_, event)| **event == replaced).map(|(key, _)| *key);
                    match (stays, was_new) {
                        (true, _) => {}
                        (false, Some(key)) => drop(self.members.remove(&key)),
                        (false, None) => self.gone.push((held.gathering.id, replaced)),
                    }
                }
                held.gathering.version += 1;
                held.gathering.standing = admitted.standing;
                held
            }
            open => {
                if let (Some(mut held), Some(closed)) = (open, admitted.closed) {
                    held.gathering.standing = closed;
                    held.is_open = false;
                    self.put(held);
                }
                Held {
                    gathering: Gathering {
                        id: join.id,
                        function: join.function,
                        bucket: join.bucket,
                        is_batch: join.is_batch(),
                        version: 0,
                        key: join.key.clone(),
                        standing: admitted.standing,
                    },
                    is_open: true,
                    last,
                }
            }
        };
        self.members.insert((held.gathering.id, place), join.event);
        Held {
            is_open: !admitted.is_full,
            ..held
        }
    }
}

fn members_of(id: GatheringId) -> std::ops::RangeInclusive<(GatheringId, u32)> {
    (id, 0)..=(id, u32::MAX)
}
