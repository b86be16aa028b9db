//! Several stores on one database: never more runs hold a slot than may, and all have their turn.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use callboard_actors::domain::{Change, Gate, GateKind, Gates, Json, RunState, RunStatus, Scope, Timestamp, Write};
use callboard_actors::ports::{RunSlots as _, SlotClaim, SlotLimits, Store as _, StoreError};

use super::super::PostgresStore;
use super::{accepted, advance, options};

const RUNS: i64 = 60;
const SLOTS: u32 = 3;

#[derive(Default)]
struct Field {
    /// Claims of runs whose start has come due.
    due: Mutex<VecDeque<SlotClaim>>,
    claims: Vec<SlotClaim>,
    held: AtomicUsize,
    most: AtomicUsize,
    ended: AtomicUsize,
}

/// What is unavailable may be tried again: of two transactions that want each other's rows one gives way.
macro_rules! sure {
    ($ask:expr) => {
        loop {
            match $ask.await {
                Ok(answer) => break answer,
                Err(StoreError::Unavailable(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
}

/// Does what comes due, until all runs have ended.
async fn work(store: PostgresStore, field: Arc<Field>) {
    let claim = &field.claims[0];
    let limits = SlotLimits {
        limits: vec![(claim.function, claim.rule, SLOTS)],
    };
    while field.ended.load(Ordering::SeqCst) < field.claims.len() {
        let next = field.due.lock().expect("no panic under the lock").pop_front();
        let Some(claim) = next else {
            tokio::task::yield_now().await;
            continue;
        };
        if !sure!(store.take_slots(std::slice::from_ref(&claim)))[0] {
            continue;
        }
        let held = field.held.fetch_add(1, Ordering::SeqCst) + 1;
        field.most.fetch_max(held, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let end = Change::Ended {
            status: RunStatus::Completed,
            output: Json::null(),
            at: Timestamp::from_millis(1_750_000_200_000),
        };
        let end = [advance(claim.run, 0, vec![end])];
        field.held.fetch_sub(1, Ordering::SeqCst);
        sure!(store.commit(&end));
        field.ended.fetch_add(1, Ordering::SeqCst);
        let now = Timestamp::from_millis(1_750_000_200_001);
        let admitted = sure!(store.admit(Some(&[claim.bucket]), &limits, now, 64));
        let admitted = admitted.iter().map(|job| {
            let mut claims = field.claims.iter();
            let claim = claims.find(|claim| claim.run == job.id.run);
            claim.expect("one of them").clone()
        });
        field.due.lock().expect("no panic under the lock").extend(admitted);
    }
}

fn with_gate(mut write: Write) -> (Write, SlotClaim) {
    let Write::Accept(accept) = &mut write else {
        unreachable!("an event that comes in")
    };
    let state: &mut RunState = &mut accept.runs[0].state;
    let gate = Gate::new(GateKind::RunSlot, Scope::Fn, state.function, None, "");
    state.gates = Gates::new(vec![gate.clone()]);
    let claim = SlotClaim {
        run: state.id,
        function: state.function,
        rule: gate.rule,
        bucket: gate.bucket,
        key: String::new(),
        limit: SLOTS,
        rank: state.created_at(),
    };
    (write, claim)
}

#[tokio::test]
async fn of_several_instances_none_lets_too_many_in() {
    let options = options();
    let store = PostgresStore::open(&options).await.expect("opens");
    let mut claims = Vec::new();
    for number in 0..RUNS {
        let (write, claim) = with_gate(accepted(number).2);
        store.commit(&[write]).await.expect("commits");
        claims.push(claim);
    }
    let field = Arc::new(Field {
        due: Mutex::new(claims.iter().cloned().collect()),
        claims,
        ..Field::default()
    });
    let mut workers = Vec::new();
    for _ in 0..4 {
        let own = PostgresStore::open(&options).await.expect("opens");
        workers.push(tokio::spawn(work(own, Arc::clone(&field))));
    }
    let all = futures_util::future::join_all(workers);
    let done = tokio::time::timeout(std::time::Duration::from_secs(60), all).await;
    for worker in done.expect("all have their turn") {
        worker.expect("works");
    }
    // How many of them meet is for the machine to say.
    let most = field.most.load(Ordering::SeqCst);
    assert!((1..=3).contains(&most), "{most} at a time");
    let left = store.run_slots(field.claims[0].function).await.expect("answers");
    assert_eq!(left, []);
}
