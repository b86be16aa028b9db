//! Gatherings of events.

use async_trait::async_trait;

use super::starts::Created;
use super::{FakeStore, Inner};
use crate::domain::{
    EventId, Fire, FunctionId, Gathered, Gathering, GatheringId, Join, LATE_TO_DEBOUNCE, Skip, SkipReason, Timestamp,
    Written, limits, replaced_by,
};
use crate::engine::gathering::admit;
use crate::engine::rate_limit;
use crate::ports::{GatheringBook, StoreError, within_due_bytes};

/// A gathering with its events, each with whether it stays when another takes its place.
#[derive(Debug, Clone)]
pub(super) struct Held {
    gathering: Gathering,
    is_open: bool,
    events: Vec<(EventId, bool)>,
}

impl Inner {
    pub(super) fn join(&mut self, joins: &[Join], created: &mut Created) {
        for join in joins {
            match self.join_one(join, created) {
                Ok(due) => created.joined.due = Some(created.joined.due.map_or(due, |known| known.min(due))),
                Err((reason, detail)) => {
                    created.joined.left_out.push((join.function, reason));
                    self.skip(join.event, join.function, reason, detail);
                }
            }
        }
    }

    fn skip(&mut self, event: EventId, function: FunctionId, reason: SkipReason, detail: String) {
        self.skips.push(Skip {
            event,
            function: Some(function),
            reason,
            detail,
        });
    }

    fn join_one(&mut self, join: &Join, created: &mut Created) -> Result<Timestamp, (SkipReason, String)> {
        if let Some(key) = &join.idempotency {
            let key = (join.function, key.clone());
            if self.gathered_keys.get(&key).is_some_and(|until| *until > join.at) {
                return Err((SkipReason::Duplicate, join.duplicate()));
            }
            self.gathered_keys
                .insert(key, join.at.after(limits::IDEMPOTENCY_WINDOW));
        }
        if let Some(rate) = &join.rate {
            let level = self.levels.get(&rate.bucket).copied();
            let Ok(level) = rate_limit::admit(level, rate.rate, rate.at) else {
                let refusal = rate.refusal.iter();
                let told = refusal.flat_map(|event| self.put_event(event, true));
                created.unrouted.extend(told.collect::<Vec<_>>());
                return Err((rate.reason, String::new()));
            };
            self.levels.insert(rate.bucket, level);
        }
        let open = self
            .gatherings
            .values_mut()
            .find(|held| held.is_open && held.gathering.bucket == join.bucket);
        let Some(admitted) = admit(open.as_ref().map(|held| held.gathering.standing), join) else {
            return Err((SkipReason::Debounced, LATE_TO_DEBOUNCE.to_owned()));
        };
        let mut replaced = None;
        match open {
            Some(held) if !admitted.opens => {
                held.gathering.version += 1;
                held.gathering.standing = admitted.standing;
                held.is_open = !admitted.is_full;
                if !join.is_batch() {
                    replaced = held.events.last().map(|(event, _)| *event);
                    held.events.pop_if(|(_, stays)| !*stays);
                }
                held.events.push((join.event, join.is_awaited));
            }
            open => {
                if let (Some(held), Some(closed)) = (open, admitted.closed) {
                    held.gathering.standing = closed;
                    held.is_open = false;
                }
                let gathering = Gathering {
                    id: join.id,
                    function: join.function,
                    bucket: join.bucket,
                    is_batch: join.is_batch(),
                    version: 0,
                    key: join.key.clone(),
                    standing: admitted.standing,
                };
                let held = Held {
                    gathering,
                    is_open: !admitted.is_full,
                    events: vec![(join.event, join.is_awaited)],
                };
                self.gatherings.insert(join.id, held);
            }
        }
        if let Some(event) = replaced {
            created.joined.replaced.push(event);
            self.skip(event, join.function, SkipReason::Debounced, replaced_by(join.event));
        }
        Ok(admitted.closed.map_or(admitted.standing.due_at, |closed| {
            closed.due_at.min(admitted.standing.due_at)
        }))
    }

    pub(super) fn fire(&mut self, fire: &Fire) -> Written {
        let held = self.gatherings.get(&fire.gathering);
        if held.is_none_or(|held| held.gathering.version != fire.version) {
            return Written::Lost;
        }
        self.gatherings.remove(&fire.gathering);
        self.skips.extend(fire.skips.iter().cloned());
        let mut created = self.create(&fire.runs);
        for answer in &fire.answers {
            created.unrouted.extend(self.put_event(answer, true));
        }
        created.into_written(Vec::new())
    }

    /// Those that hold an event.
    pub(super) fn gatherings_of(&self, event: EventId) -> Vec<Gathering> {
        let holds = |held: &&Held| held.events.iter().any(|(held, _)| *held == event);
        self.gatherings
            .values()
            .filter(holds)
            .map(|held| held.gathering.clone())
            .collect()
    }

    fn gathered(&self, held: &Held) -> Gathered {
        let events = held
            .events
            .iter()
            .filter_map(|(event, _)| self.events.get(event).cloned());
        Gathered {
            gathering: held.gathering.clone(),
            events: events.collect(),
        }
    }
}

#[async_trait]
impl GatheringBook for FakeStore {
    async fn due_gatherings(&self, until: Timestamp, limit: usize) -> Result<Vec<Gathered>, StoreError> {
        let inner = self.lock();
        let due = |held: &&Held| held.gathering.standing.due_at <= until;
        let mut due: Vec<_> = inner.gatherings.values().filter(due).collect();
        due.sort_by_key(|held| (held.gathering.standing.due_at, held.gathering.id));
        due.truncate(limit);
        due.truncate(within_due_bytes(due.iter().map(|held| held.gathering.standing.bytes)));
        Ok(due.into_iter().map(|held| inner.gathered(held)).collect())
    }

    async fn next_gathering(&self) -> Result<Option<Timestamp>, StoreError> {
        let inner = self.lock();
        Ok(inner
            .gatherings
            .values()
            .map(|held| held.gathering.standing.due_at)
            .min())
    }

    async fn gatherings(
        &self,
        function: FunctionId,
        after: Option<GatheringId>,
        limit: usize,
    ) -> Result<Vec<Gathering>, StoreError> {
        let inner = self.lock();
        let of = |held: &&Held| held.gathering.function == function && after.is_none_or(|id| held.gathering.id > id);
        let of = inner.gatherings.values().filter(of);
        Ok(of.take(limit).map(|held| held.gathering.clone()).collect())
    }

    async fn gathering(&self, id: GatheringId) -> Result<Option<Gathered>, StoreError> {
        let inner = self.lock();
        Ok(inner.gatherings.get(&id).map(|held| inner.gathered(held)))
    }
}
