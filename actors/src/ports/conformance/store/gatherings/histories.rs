//! Random histories of gatherings against the engine's rules, which decide on one event at a time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::super::audits::Dice;
use super::super::fixtures::*;
use super::{BATCH, DEBOUNCE, all, firing, holding, join, joining, skips};
use crate::domain::{ClaimId, EventId, Gather, GatheringId, Join, SkipReason, Standing, Write, Written, limits};
use crate::engine::gathering::admit;

/// What the store should hold, told one event at a time.
#[derive(Default)]
struct Model {
    open: HashMap<ClaimId, GatheringId>,
    held: BTreeMap<GatheringId, (Standing, Vec<EventId>)>,
    skipped: HashMap<EventId, SkipReason>,
}

impl Model {
    fn join(&mut self, join: &Join) {
        let open = self.open.get(&join.bucket).copied();
        let standing = open.map(|id| self.held[&id].0);
        let Some(admitted) = admit(standing, join) else {
            self.skipped.insert(join.event, SkipReason::Debounced);
            return;
        };
        if let (Some(id), Some(closed)) = (open, admitted.closed) {
            self.held.get_mut(&id).expect("is held").0 = closed;
        }
        let id = open.filter(|_| !admitted.opens).unwrap_or(join.id);
        let (standing, events) = self.held.entry(id).or_insert((admitted.standing, Vec::new()));
        *standing = admitted.standing;
        if !join.is_batch() {
            self.skipped
                .extend(events.drain(..).map(|event| (event, SkipReason::Debounced)));
        }
        events.push(join.event);
        self.open.insert(join.bucket, id);
        if admitted.is_full {
            self.open.remove(&join.bucket);
        }
    }

    fn fire(&mut self, id: GatheringId) {
        self.held.remove(&id);
        self.open.retain(|_, open| *open != id);
    }
}

/// Events of a few buckets, whose senders' clocks differ and whose receivers' clocks are set now and then, in batches of
/// all sizes with gatherings that end among them: what is held is what is held when they come one by one.
pub async fn joins_are_exact_however_writes_are_batched(store: Shared) {
    let mut dice = Dice(0x2545_F491_4F6C_DD1D);
    let mut model = Model::default();
    let mut number = 0;
    let mut millis: i64 = 10_000;
    let mut fired = 0;
    for _ in 0..60 {
        let (mut batch, mut expected) = (Vec::new(), Vec::new());
        let firable = all(&store).await;
        for _ in 0..=dice.roll(12) {
            number += 1;
            millis += i64::try_from(dice.roll(60)).expect("small");
            if dice.roll(25) == 0 {
                millis += i64::try_from(dice.roll(4_000)).expect("small") - 2_000;
            }
            if dice.roll(6) == 0
                && let Some(gathering) = firable.get(usize::try_from(dice.roll(8)).expect("small"))
            {
                let gathered = holding(&store, gathering.id).await;
                let is_first = expected.iter().all(|(id, _)| *id != Some(gathering.id));
                // One that an event of this batch has joined is not what was read.
                let held = model.held.get(&gathering.id);
                let events: Vec<_> = gathered.events.iter().map(|event| event.id).collect();
                let wins = is_first && held.is_some_and(|(_, held)| *held == events);
                if wins {
                    model.fire(gathering.id);
                    fired += 1;
                }
                expected.push((Some(gathering.id), wins));
                batch.push(Write::Fire(firing(&gathered)));
                continue;
            }
            let mut event = event_named(&format!("n{number}"), millis);
            event.ts = at(millis + i64::try_from(dice.roll(200)).expect("small") - 100);
            let name = ["a", "b", "c"][usize::try_from(dice.roll(3)).expect("small")];
            let gather = match dice.roll(12) {
                0 => Gather::Batch {
                    max_size: 2,
                    timeout: Duration::from_millis(40),
                },
                1 => Gather::Debounce {
                    period: Duration::from_millis(30),
                    timeout: None,
                },
                2..=6 => BATCH,
                _ => DEBOUNCE,
            };
            let mut join = join(&event, name, gather);
            join.bytes = match dice.roll(15) {
                0 => limits::BATCH_BYTES / 2 + 1,
                1 => limits::BATCH_BYTES,
                _ => 100,
            };
            model.join(&join);
            batch.push(joining(&event, vec![join]));
            expected.push((None, true));
        }
        let written = store.commit(&batch).await.expect("commits");
        for (written, (_, wins)) in written.iter().zip(&expected) {
            assert_eq!(matches!(written, Written::Done { .. }), *wins, "{written:?}");
        }
        let held: BTreeMap<_, _> = all(&store)
            .await
            .into_iter()
            .map(|one| (one.id, one.standing))
            .collect();
        let standings: BTreeMap<_, _> = model.held.iter().map(|(id, (standing, _))| (*id, *standing)).collect();
        assert_eq!(held, standings);
        for (id, (_, expected)) in &model.held {
            let events: Vec<_> = holding(&store, *id).await.events.iter().map(|event| event.id).collect();
            assert_eq!(events, *expected);
        }
    }
    for (event, reason) in &model.skipped {
        let skips = skips(&store, *event).await;
        assert_eq!(skips.iter().map(|skip| skip.reason).collect::<Vec<_>>(), [*reason]);
    }
    assert!(
        fired > 5 && model.skipped.len() > 20,
        "{fired}, {}",
        model.skipped.len()
    );
}
