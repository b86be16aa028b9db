//! Two stores on one database gather for the same keys, and fire what the other one has gathered: together they do what one
//! would have done.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use callboard_actors::domain::{
    Accept, ClaimId, Event, EventId, Fire, FunctionId, Gather, Gathered, GatheringId, Join, Json, Timestamp, Write,
    Written,
};
use callboard_actors::ports::{GatheringBook as _, Store as _, StoreError};

use tokio::sync::Barrier;

use super::super::PostgresStore;
use super::{accepted_at, options};

const AT: Timestamp = Timestamp::from_millis(1_750_000_000_000);
const ROUNDS: u32 = 40;
const KEYS: usize = 5;
const SIZE: u32 = 7;
const BATCH: Gather = Gather::Batch {
    max_size: SIZE,
    timeout: Duration::from_secs(60),
};
const DEBOUNCE: Gather = Gather::Debounce {
    period: Duration::from_millis(40),
    timeout: None,
};

async fn commit(store: &PostgresStore, batch: &[Write]) -> Vec<Written> {
    loop {
        match store.commit(batch).await {
            Ok(written) => return written,
            // Two that meet crosswise, which the database ends.
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn joining(event: Event, key: usize, gather: Gather) -> Write {
    let function = FunctionId::derive("test", "test-one");
    let value = Json::from_value(&key).expect("a number");
    let value = Some(("event.data.id", &value));
    let join = Join {
        id: GatheringId::derive(event.received_at, event.id, function),
        function,
        event: event.id,
        bucket: match gather {
            Gather::Batch { .. } => ClaimId::of_batch(function, value),
            Gather::Debounce { .. } => ClaimId::of_debounce(function, value),
        },
        gather,
        key: None,
        at: event.received_at,
        ts: event.ts,
        bytes: 2,
        idempotency: None,
        is_awaited: false,
        rate: None,
    };
    Write::Accept(Accept {
        event,
        runs: Vec::new(),
        joins: vec![join],
        skips: Vec::new(),
        catalog: None,
    })
}

/// The end of a gathering: which run it would start does not matter here.
fn firing(gathered: &Gathered) -> Write {
    Write::Fire(Fire {
        gathering: gathered.gathering.id,
        bucket: gathered.gathering.bucket,
        is_batch: gathered.gathering.is_batch,
        due_by: gathered.gathering.standing.due_by,
        version: gathered.gathering.version,
        runs: Vec::new(),
        skips: Vec::new(),
        answers: Vec::new(),
        catalog: None,
    })
}

/// The key of an event: some have a pause while others have none.
fn key(round: u32, n: u32) -> usize {
    (round as usize / 6 + n as usize % 2) % KEYS
}

fn time(round: u32) -> Timestamp {
    AT.after(Duration::from_millis(u64::from(round) * 10))
}

/// Sends its share of the events and fires what is due, round by round with the other one. Answers the events of each
/// gathering that it has fired.
async fn gather(store: PostgresStore, from: i64, gather: Gather, pace: Arc<Barrier>) -> Vec<Vec<EventId>> {
    let mut fired = Vec::new();
    for round in 0..ROUNDS {
        let now = time(round);
        let mut batch: Vec<Write> = (0..12)
            .map(|n| {
                let number = from + i64::from(round * 12 + n);
                joining(accepted_at(now, number).0, key(round, n), gather)
            })
            .collect();
        let joins = batch.len();
        let due = store.due_gatherings(now, 20).await.expect("reads");
        batch.extend(due.iter().map(firing));
        // Both have read by now, and want the same.
        pace.wait().await;
        let written = commit(&store, &batch).await;
        let done = |written: &Written| matches!(written, Written::Done { .. });
        assert!(written[..joins].iter().all(done));
        let won = due.iter().zip(&written[joins..]).filter(|(_, written)| done(written));
        fired.extend(won.map(|(one, _)| one.events.iter().map(|event| event.id).collect::<Vec<_>>()));
        pace.wait().await;
    }
    fired
}

/// Both at once; then what is left. Answers the events of all gatherings, and all events with their keys.
async fn together(gather_by: Gather) -> (Vec<Vec<EventId>>, Vec<(EventId, usize)>, PostgresStore) {
    let options = options();
    let open = || async { PostgresStore::open(&options).await.expect("opens") };
    let (store, other, rest) = (open().await, open().await, open().await);
    let pace = Arc::new(Barrier::new(2));
    let one = tokio::spawn(gather(store, 0, gather_by, Arc::clone(&pace)));
    let two = tokio::spawn(gather(other, 100_000, gather_by, pace));
    let mut fired = [one.await.expect("gathers"), two.await.expect("gathers")].concat();
    assert!(fired.len() > KEYS, "some have fired while others came");
    let left = rest.due_gatherings(AT.after(Duration::from_secs(600)), 1_000).await;
    let left = left.expect("reads");
    fired.extend(left.iter().map(|one| one.events.iter().map(|event| event.id).collect()));
    let mut sent = Vec::new();
    for from in [0, 100_000] {
        for (round, n) in (0..ROUNDS).flat_map(|round| (0..12).map(move |n| (round, n))) {
            let (event, ..) = accepted_at(time(round), from + i64::from(round * 12 + n));
            sent.push((event.id, key(round, n)));
        }
    }
    (fired, sent, rest)
}

#[tokio::test]
async fn batches_are_whole_for_all_instances_together() {
    let (fired, sent, _) = together(BATCH).await;
    let full = fired.iter().filter(|events| events.len() == SIZE as usize).count();
    let whole = |of: usize| sent.iter().filter(|(_, key)| *key == of).count() / SIZE as usize;
    assert_eq!(full, (0..KEYS).map(whole).sum::<usize>(), "all but the last of a key");
    assert!(fired.iter().all(|events| events.len() <= SIZE as usize));
    let mut gathered = fired.concat();
    gathered.sort();
    let mut expected: Vec<_> = sent.iter().map(|(event, _)| *event).collect();
    expected.sort();
    assert_eq!(gathered, expected, "each event is in one batch");
}

#[tokio::test]
async fn a_debounce_keeps_one_event_for_all_instances_together() {
    let (fired, sent, store) = together(DEBOUNCE).await;
    assert!(fired.iter().all(|events| events.len() == 1));
    let started: HashSet<EventId> = fired.iter().flatten().copied().collect();
    assert_eq!(started.len(), fired.len(), "no event has started twice");
    for (event, _) in sent {
        let view = store.event_view(event).await.expect("reads").expect("is known");
        let skips = usize::from(!started.contains(&event));
        assert_eq!(view.skips.len(), skips, "{event}: {view:?}");
    }
}
