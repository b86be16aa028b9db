//! Gates that several processes share: none ever opens too far, whoever dies and whatever Redis loses.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callboard_actors::domain::{
    FunctionId, Gate, GateKind, Gates, Job, JobKey, Limit, Limits, Rate, RuleId, Scope, Timestamp,
};
use callboard_actors::ports::{Lease, LimitTable, Origin, Queue};
use callboard_backends::redis::Redis;

use super::super::{Options, RedisQueue, abort};
use super::loss::keys;
use super::{
    FOREVER, SOON, acknowledge_all, at, created, job, lease_all, lease_some, options, prefix, queue, server, whole,
    within,
};

const KEY: Option<&str> = Some("event.data.key");

fn gated(kind: GateKind, created: i64, key: &str) -> Job {
    let job = job("a", created, 0);
    let gates = Gates::new(vec![Gate::new(kind, Scope::Fn, job.function, KEY, key)]);
    Job {
        gates: gates.of_job(&JobKey::Start, 0),
        ..job
    }
}

fn table(kind: GateKind, limit: Limit) -> LimitTable {
    let rule = RuleId::derive(kind, Scope::Fn, KEY);
    LimitTable {
        revision: 1,
        functions: vec![(FunctionId::derive("test", "a"), Limits::new([(rule, limit)]))],
    }
}

/// Two processes that let so many through for each key.
async fn two(ttl: Duration, slots: u32) -> (RedisQueue, RedisQueue) {
    let options = Options {
        ttl,
        ..options(server(), &whole())
    };
    let (one, other) = (queue(options.clone()), queue(options));
    for queue in [&one, &other] {
        queue.configure(table(GateKind::Slot, Limit::Slots(slots))).await;
    }
    (one, other)
}

fn slot(created: i64, key: &str) -> Job {
    gated(GateKind::Slot, created, key)
}

/// Leases until something comes; answers how often nothing did.
async fn patiently(queue: &RedisQueue, now: Timestamp) -> (Vec<Lease>, usize) {
    within(async {
        let mut vain = 0;
        loop {
            let leases = queue.lease(now, 100, 100).await;
            if !leases.is_empty() {
                return (leases, vain);
            }
            vain += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test]
async fn together_they_hold_no_more_than_the_limit() {
    const JOBS: i64 = 300;
    let (one, other) = two(FOREVER, 3).await;
    let keys = ["x", "y"];
    let jobs = (0..JOBS).map(|i| slot(i, keys[usize::try_from(i % 2).expect("small")]));
    one.push(jobs.collect(), Origin::Commit).await;
    let held: Arc<[AtomicUsize; 2]> = Arc::default();
    let left = Arc::new(AtomicUsize::new(usize::try_from(JOBS).expect("small")));
    let work = |queue: Arc<dyn Queue>| {
        let (held, left) = (Arc::clone(&held), Arc::clone(&left));
        async move {
            while left.load(Ordering::SeqCst) > 0 {
                let leases = queue.lease(at(1_000), 4, 100).await;
                let keys: Vec<usize> = leases
                    .iter()
                    .map(|lease| usize::from(&*lease.job.gates.as_slice()[0].key == "y"))
                    .collect();
                for key in &keys {
                    assert!(held[*key].fetch_add(1, Ordering::SeqCst) < 3, "no more than the limit");
                }
                for (lease, key) in leases.iter().zip(keys) {
                    tokio::task::yield_now().await;
                    held[key].fetch_sub(1, Ordering::SeqCst);
                    left.fetch_sub(1, Ordering::SeqCst);
                    queue.acknowledge(&lease.job.id, lease.epoch).await;
                }
                if leases.is_empty() {
                    // The other may hold what this one waits for.
                    let _ = tokio::time::timeout(Duration::from_millis(5), queue.changed()).await;
                }
            }
        }
    };
    let (one, other): (Arc<dyn Queue>, Arc<dyn Queue>) = (Arc::new(one), Arc::new(other));
    let (first, second) = tokio::join!(
        within(tokio::spawn(work(Arc::clone(&one)))),
        within(tokio::spawn(work(Arc::clone(&other))))
    );
    first.expect("works");
    second.expect("works");
    // What the other has said last is told by now, and this one has looked since.
    other.next_due().await;
    assert_eq!(one.lease(at(1_000), 4, 100).await, []);
    assert_eq!(one.next_due().await, None);
    let stats = one.stats().await;
    assert_eq!((stats.ready, stats.leased), (0, 0));
}

/// A Redis that has lost everything looks like a new one. Who knows that nobody can hold anything says so, once.
#[tokio::test]
async fn nobody_waits_for_what_nobody_can_hold() {
    let options = options(server(), &prefix());
    let start = async |options: &Options, is_new: bool| {
        let queue = queue(options.clone());
        if is_new {
            queue.nobody_was_at_work(std::time::Instant::now());
        }
        queue.configure(table(GateKind::Slot, Limit::Slots(1))).await;
        queue.push(vec![slot(0, "x"), slot(1, "x")], Origin::Commit).await;
        queue
    };
    let first = start(&options, true).await;
    assert_eq!(created(&lease_all(&first).await), [0].into());
    // Those that come then hold to what there is.
    let second = start(&options, true).await;
    assert_eq!(lease_all(&second).await, []);
    // When it is lost, everybody waits.
    for key in keys(&options.prefix) {
        server().cli(&["DEL", &key]).expect("answers");
    }
    for queue in [&second, &first] {
        queue.push(vec![slot(2, "y")], Origin::Commit).await;
        assert_eq!(lease_all(queue).await, []);
    }
    // Without the word nobody knows, and what was true a while ago need not be true any more.
    let long_ago = Options {
        ttl: Duration::from_millis(300),
        prefix: prefix(),
        ..options.clone()
    };
    let late = queue(long_ago.clone());
    late.nobody_was_at_work(std::time::Instant::now() - long_ago.ttl);
    late.configure(table(GateKind::Slot, Limit::Slots(1))).await;
    late.push(vec![slot(0, "x")], Origin::Commit).await;
    let shut = server().cli(&["HEXISTS", &format!("{{{}}}:meta", long_ago.prefix), "shut"]);
    assert_eq!(shut.expect("answers").trim(), "1");
}

#[tokio::test]
async fn a_process_that_knows_no_limits_keeps_to_those_that_another_knows() {
    let options = options(server(), &whole());
    let (knowing, other) = (queue(options.clone()), queue(options));
    // It has worked before there was any limit, and hears of none.
    other.push(vec![job("b", 0, 0)], Origin::Commit).await;
    let before = lease_all(&other).await;
    acknowledge_all(&other, &before).await;
    knowing.configure(table(GateKind::Slot, Limit::Slots(2))).await;
    knowing
        .push((1..3).map(|i| slot(i, "x")).collect(), Origin::Commit)
        .await;
    other.push((3..6).map(|i| slot(i, "x")).collect(), Origin::Commit).await;
    let held = lease_all(&other).await;
    assert_eq!(created(&held), [1, 2].into());
    for queue in [&other, &knowing] {
        assert_eq!(lease_all(queue).await, [], "two, over both");
    }
    acknowledge_all(&other, &held[..1]).await;
    other.next_due().await;
    assert_eq!(created(&lease_all(&knowing).await), [3].into());
}

#[tokio::test]
async fn a_slot_that_comes_free_wakes_the_other() {
    let (one, other) = two(FOREVER, 1).await;
    one.push(vec![slot(0, "x"), slot(1, "x")], Origin::Commit).await;
    let first = lease_all(&one).await;
    assert_eq!(created(&first), [0].into());
    assert_eq!(lease_all(&other).await, []);
    acknowledge_all(&one, &first).await;
    // Whoever gives a slot back takes what it lets through, or leaves it to who waits.
    assert_eq!(one.lease(at(0), 0, 1).await, []);
    assert_eq!(created(&lease_some(&other).await), [1].into());
}

#[tokio::test]
async fn the_slots_of_a_process_that_died_come_free_with_its_leases() {
    let (dying, other) = two(SOON, 2).await;
    dying.push((0..4).map(|i| slot(i, "x")).collect(), Origin::Commit).await;
    let before = dying.lease(at(0), 1, 10).await;
    let own = lease_all(&other).await;
    assert_eq!((before.len(), own.len()), (1, 1));
    assert_eq!(lease_all(&other).await, [], "the limit is two, over both");
    drop(dying);
    let after = lease_some(&other).await;
    assert_eq!(created(&after), [0].into(), "one slot, for the oldest");
    assert_eq!(lease_all(&other).await, []);
    acknowledge_all(&other, &own).await;
    assert_eq!(created(&lease_all(&other).await), [2].into());
}

#[tokio::test]
async fn a_process_that_stood_still_gives_back_no_slot_that_is_another_s() {
    let (frozen, other) = two(SOON, 1).await;
    frozen
        .push((0..3).map(|i| slot(i, "x")).collect(), Origin::Commit)
        .await;
    let before = lease_all(&frozen).await;
    abort(&mut frozen.tasks().beat);
    assert_eq!(lease_all(&other).await, []);
    let after = lease_some(&other).await;
    assert_eq!(created(&after), [0].into());
    acknowledge_all(&frozen, &before).await;
    assert_eq!(lease_all(&frozen).await, [], "the slot is held by the other");
    assert_eq!(lease_all(&other).await, []);
    acknowledge_all(&other, &after).await;
    assert_eq!(created(&lease_all(&frozen).await), [1].into());
}

#[tokio::test]
async fn after_a_loss_nothing_passes_until_everybody_has_had_its_say() {
    let server = Redis::start().expect("starts");
    let options = Options {
        ttl: SOON,
        ..options(&server, "loss")
    };
    let (one, other) = (queue(options.clone()), queue(options));
    for queue in [&one, &other] {
        queue.configure(table(GateKind::Slot, Limit::Slots(2))).await;
    }
    let jobs: Vec<_> = (0..4).map(|i| slot(i, "x")).collect();
    one.push(jobs.clone(), Origin::Commit).await;
    let (held, _) = patiently(&one, at(0)).await;
    assert_eq!(created(&held), [0, 1].into());
    acknowledge_all(&one, &held[..1]).await;
    one.next_due().await;

    server.flush().expect("flushes");
    other.push(jobs[1..].to_vec(), Origin::Sweep).await;
    other.push(vec![job("b", 9, 0)], Origin::Commit).await;
    let (first, _) = patiently(&other, at(0)).await;
    assert_eq!(created(&first), [9].into(), "what has no gates goes on");
    let due = other.next_due().await.expect("it says when it goes on");
    assert!(due > at(0), "nobody spins");
    let (second, vain) = patiently(&other, at(0)).await;
    assert!(vain > 0, "not at once");
    assert_eq!(created(&second), [2].into(), "one slot is held by who said so");
    acknowledge_all(&one, &held[1..]).await;
    one.next_due().await;
    assert_eq!(created(&lease_all(&other).await), [3].into());
}

#[tokio::test]
async fn after_a_loss_a_throttle_begins_used_up() {
    let server = Redis::start().expect("starts");
    let queue = queue(Options {
        ttl: SOON,
        ..options(&server, "loss")
    });
    let minute = Limit::Rate(Rate::new(2, Duration::from_secs(120), 0));
    queue.configure(table(GateKind::Throttle, minute)).await;
    assert_eq!(queue.lease(at(0), 1, 1).await, []);
    server.flush().expect("flushes");
    assert_eq!(queue.lease(at(600_000), 1, 1).await, []);
    let start = |created| gated(GateKind::Throttle, created, "x");
    queue.push(vec![start(0), start(1)], Origin::Sweep).await;
    // Once everybody has had its say, the throttle is all that holds it.
    tokio::time::sleep(SOON + Duration::from_millis(100)).await;
    assert_eq!(queue.lease(at(659_999), 10, 10).await, []);
    assert_eq!(queue.next_due().await, Some(at(660_000)));
    assert_eq!(created(&queue.lease(at(660_000), 10, 10).await), [0].into());
    assert_eq!(created(&queue.lease(at(720_000), 10, 10).await), [1].into());
}

#[tokio::test]
async fn whichever_key_is_evicted_no_gate_opens_too_far_and_all_is_done() {
    let kinds = [
        "meta", "j:", "l:", "g:", "q:", "w:", "slots", "limits", "ready", "turns", "sessions", "h:",
    ];
    let each = kinds.map(|kind| async move {
        let prefix = whole();
        let queue = queue(Options {
            ttl: SOON,
            ..options(server(), &prefix)
        });
        queue.configure(table(GateKind::Slot, Limit::Slots(1))).await;
        let mut left: Vec<_> = (0..8).map(|i| slot(i, ["x", "y"][usize::from(i % 2 == 0)])).collect();
        queue.push(left.clone(), Origin::Commit).await;
        let mut held = queue.lease(at(0), 1, 10).await;
        let evicted: Vec<_> = keys(&prefix)
            .into_iter()
            .filter(|key| key.contains(&format!("}}:{kind}")))
            .collect();
        for key in &evicted {
            server().cli(&["DEL", key]).expect("deletes");
        }
        within(async {
            while !left.is_empty() {
                queue.shared.desk().outbox.beat = true;
                queue.push(left.clone(), Origin::Sweep).await;
                held.extend(queue.lease(at(0), 10, 10).await);
                let mut counts: HashMap<_, usize> = HashMap::new();
                for lease in &held {
                    *counts.entry(lease.job.gates.clone()).or_default() += 1;
                }
                assert!(counts.values().all(|count| *count <= 1), "{kind}: {held:?}");
                if held.len() == 2 || left.len() == 1 && held.len() == 1 {
                    for lease in held.drain(..) {
                        left.retain(|job| job.id != lease.job.id);
                        queue.acknowledge(&lease.job.id, lease.epoch).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert_eq!(queue.next_due().await, None, "{kind}");
        let left: Vec<_> = keys(&prefix)
            .into_iter()
            .filter(|key| key.contains("}:l:") || key.contains("}:w:"))
            .collect();
        assert!(left.is_empty(), "{kind}: {left:?}");
        assert!(!evicted.is_empty() || kind == "w:", "{kind}");
    });
    futures_util::future::join_all(each).await;
}

#[tokio::test]
async fn gates_that_nobody_uses_leave_nothing_behind() {
    let prefix = whole();
    let queue = queue(options(server(), &prefix));
    queue.configure(table(GateKind::Slot, Limit::Slots(1))).await;
    for round in 0..10 {
        let key = round.to_string();
        queue
            .push((0..5).map(|i| slot(round * 5 + i, &key)).collect(), Origin::Commit)
            .await;
        for _ in 0..5 {
            let leases = lease_all(&queue).await;
            assert_eq!(leases.len(), 1);
            acknowledge_all(&queue, &leases).await;
        }
    }
    assert_eq!(queue.next_due().await, None);
    let names: Vec<_> = keys(&prefix)
        .iter()
        .filter_map(|key| Some(key.split_once("}:")?.1.split(':').next()?.to_owned()))
        .collect();
    assert_eq!(names, ["h", "hungry", "limits", "marks", "meta", "sessions", "slots"]);
    let slots = server()
        .cli(&["HGETALL", &format!("{{{prefix}}}:slots")])
        .expect("answers");
    assert_eq!(slots.lines().filter(|line| !line.is_empty()).count(), 1, "{slots}");
}
