//! Places in lines: what holds a job up, and how many go before it.

use std::sync::Arc;

use super::gates::{KEYED, Rule, SHARED, THROTTLE, WHOLE, a_rate, acknowledge, created, gated, push, table};
use super::{at, function, job, lease_all, lease_one, run};
use crate::domain::{Gate, Job, JobId, JobKey, Limit, StepId};
use crate::ports::{Place, Queue};

/// The place of the one job of a run that has one.
async fn place(queue: &Arc<dyn Queue>, created: i64) -> Option<Place> {
    let mut places = queue.places_of(run(created)).await;
    assert!(places.len() < 2, "{places:?}");
    places.pop()
}

async fn ahead(queue: &Arc<dyn Queue>, created: i64) -> Option<usize> {
    place(queue, created).await.expect("it waits").ahead
}

fn gate(rule: Rule, value: &str) -> Option<Gate> {
    Some(rule.gate(function("a"), value))
}

/// A job that waits says at which gate, and counts who goes before it there: jobs of all keys that the gate is for, older runs,
/// steps of runs that have begun. What is handed out, is not due or is unknown has no place.
pub async fn the_places_of_a_run(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    assert_eq!(queue.places_of(run(0)).await, []);
    let numbers = [
        (THROTTLE, a_rate(2, 60, 0)),
        (WHOLE, Limit::Slots(2)),
        (KEYED, Limit::Slots(1)),
    ];
    let shared = [(SHARED, Limit::Slots(1))];
    queue.configure(table(1, &[("a", &numbers), ("b", &shared)])).await;
    let both = |created: i64, key| gated("a", created, &[(WHOLE, ""), (KEYED, key)]);
    // Before anything is handed out it is not known what is due.
    push(&queue, vec![both(5, "x"), both(3, "x"), both(0, "x"), both(4, "y")]).await;
    assert_eq!(place(&queue, 5).await, None);
    let first = lease_one_of(&queue, 1).await;
    assert_eq!(created(std::slice::from_ref(&first)), [0]);
    let waits = |job: Job, gate, ahead| {
        Some(Place {
            job: job.id,
            gate,
            opens: None,
            ahead: Some(ahead),
        })
    };
    assert_eq!(place(&queue, 0).await, None, "it is handed out");
    assert_eq!(place(&queue, 3).await, waits(both(3, "x"), gate(KEYED, "x"), 0));
    assert_eq!(place(&queue, 5).await, waits(both(5, "x"), gate(KEYED, "x"), 1));
    assert_eq!(
        place(&queue, 4).await,
        waits(both(4, "y"), None, 0),
        "its turn has not come"
    );
    let second = lease_one(&queue, 0).await;
    assert_eq!(created(std::slice::from_ref(&second)), [4]);
    // Now both slots of the function are taken, and all keys stand in one line for them.
    let step = Job {
        id: JobId {
            run: run(4),
            key: JobKey::Step(StepId::from("s")),
        },
        ..both(4, "y")
    };
    push(&queue, vec![step, both(6, "z")]).await;
    assert_eq!(lease_all(&queue, 0).await, []);
    assert_eq!(place(&queue, 6).await, waits(both(6, "z"), gate(WHOLE, ""), 3));
    acknowledge(&queue, &first).await;
    acknowledge(&queue, &second).await;

    // A throttle says when it opens; slots that functions share have no line of their own.
    let start = |created: i64| gated("a", created, &[(THROTTLE, "t")]);
    push(&queue, (10..14).map(start).collect()).await;
    let mut later = start(14);
    later.due = at(50_000);
    push(&queue, vec![later]).await;
    lease_all(&queue, 0).await;
    let third = place(&queue, 13).await.expect("it waits");
    assert_eq!((third.gate, third.ahead), (gate(THROTTLE, "t"), Some(1)));
    assert_eq!(third.opens, Some(at(30_000)));
    assert_eq!(place(&queue, 14).await, None, "it is not due");
    let of_others = |created: i64| gated("b", created, &[(SHARED, "global")]);
    push(&queue, vec![of_others(20), of_others(21)]).await;
    lease_one(&queue, 0).await;
    let other = place(&queue, 21).await.expect("it waits");
    let shared = SHARED.gate(function("b"), "global");
    assert_eq!((other.gate, other.ahead), (Some(shared), None));
}

/// Leases so many, of which there is one.
async fn lease_one_of(queue: &Arc<dyn Queue>, max: usize) -> crate::ports::Lease {
    let mut leases = queue.lease(at(0), max, 10).await;
    assert_eq!(leases.len(), 1);
    leases.remove(0)
}

/// Nobody counts a long line to its end; jobs without gates stand in their function's.
pub async fn a_place_is_counted_up_to_a_bound(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue.configure(table(1, &[("a", &[(KEYED, Limit::Slots(1))])])).await;
    for part in 0..5 {
        let jobs = (0..220).map(|i| gated("a", part * 220 + i, &[(KEYED, "x")]));
        push(&queue, jobs.collect()).await;
    }
    push(&queue, (0..3).map(|i| job("b", run(5_000 + i), 0)).collect()).await;
    let leases = queue.lease(at(0), 2, 1).await;
    assert_eq!(leases.len(), 2);
    assert_eq!(ahead(&queue, 1).await, Some(0));
    assert_eq!(ahead(&queue, 900).await, Some(899));
    assert_eq!(ahead(&queue, 1_000).await, Some(999));
    assert_eq!(ahead(&queue, 1_001).await, Some(Place::MOST));
    assert_eq!(ahead(&queue, 1_090).await, Some(Place::MOST));
    assert_eq!(ahead(&queue, 5_002).await, Some(1));
}
