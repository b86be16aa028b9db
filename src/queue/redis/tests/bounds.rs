//! How much fits, who is served when, and what it costs to do nothing.

use std::time::Duration;

use callboard_actors::domain::{FunctionId, Job, Priority};
use callboard_actors::ports::{Origin, Queue};
use callboard_backends::redis::Redis;

use super::super::Options;
use super::{acknowledge_all, at, created, job, lease_all, options, prefix, queue, server, within};
use crate::queue::embedded::Capacity;

fn small(total: usize, per_function: usize) -> Options {
    Options {
        capacity: Capacity { total, per_function },
        ..options(server(), &prefix())
    }
}

#[tokio::test]
async fn what_does_not_fit_is_spilled_and_room_is_news() {
    let queue = queue(small(8, 100));
    let pushed = queue
        .push((0..11).map(|i| job("a", i, 0)).collect(), Origin::Commit)
        .await;
    assert_eq!((pushed.accepted, pushed.spilled), (8, 3));
    let again = queue
        .push((0..8).map(|i| job("a", i, 0)).collect(), Origin::Sweep)
        .await;
    assert_eq!((again.accepted, again.spilled), (8, 0), "known jobs need no room");
    let leases = lease_all(&queue).await;
    assert_eq!(created(&leases), (0..8).collect());
    let stats = queue.stats().await;
    assert_eq!((stats.capacity, stats.spilled, stats.leased), (Some(8), 3, 8));
    // Old news.
    within(queue.changed()).await;
    acknowledge_all(&queue, &leases[..2]).await;
    within(queue.changed()).await;
    assert_eq!(queue.push(vec![job("a", 8, 0)], Origin::Sweep).await.accepted, 1);
}

#[tokio::test]
async fn a_full_function_leaves_room_to_others() {
    let queue = queue(small(100, 3));
    let pushed = queue
        .push((0..5).map(|i| job("a", i, 0)).collect(), Origin::Commit)
        .await;
    assert_eq!((pushed.accepted, pushed.spilled), (3, 2));
    assert_eq!(queue.push(vec![job("b", 9, 0)], Origin::Commit).await.accepted, 1);
}

#[tokio::test]
async fn a_hundred_thousand_jobs_of_one_function_delay_the_others_by_a_turn() {
    let queue = queue(small(200_000, 200_000));
    // In parts that a busy machine, too, takes within the patience of a push.
    for part in 0..100 {
        let jobs = (part * 1_000..(part + 1) * 1_000).map(|i| job("hot", i, 0)).collect();
        within(async { assert_eq!(queue.push(jobs, Origin::Commit).await.spilled, 0) }).await;
    }
    assert_eq!(queue.lease(at(0), 10, 100_000).await.len(), 10);
    let quiet = (0..100).map(|i| job(&i.to_string(), 200_000 + i, 0)).collect();
    queue.push(quiet, Origin::Commit).await;
    let hot = FunctionId::derive("test", "hot");
    let mut served = 0;
    for _ in 0..202 {
        let leases = queue.lease(at(0), 1, 100_000).await;
        served += leases.iter().filter(|lease| lease.job.function != hot).count();
    }
    assert_eq!(served, 100);
}

#[tokio::test]
async fn of_one_function_head_start_then_age_then_due_time_then_name() {
    let queue = queue(options(server(), &prefix()));
    let ahead = |seconds, job| Job {
        priority: Priority::from_seconds(seconds),
        ..job
    };
    let ordered = [
        ahead(100, job("a", 50_000, 3)),
        job("a", 10, 9),
        job("a", 20, 1),
        ahead(-100, job("a", 0, 0)),
    ];
    queue
        .push(ordered.iter().rev().cloned().collect(), Origin::Commit)
        .await;
    let mut order = Vec::new();
    for _ in 0..4 {
        order.extend(queue.lease(at(10), 1, 10).await.into_iter().map(|lease| lease.job));
    }
    assert_eq!(order, ordered);
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_nothing_early() {
    let queue = queue(options(server(), &prefix()));
    queue
        .push((0..10).map(|i| job("a", 10 - i, i * 1_000)).collect(), Origin::Commit)
        .await;
    assert_eq!(queue.lease(at(60_000), 0, 1).await, []);
    assert_eq!(queue.stats().await.ready, 10);
    let leases = queue.lease(at(3_500), 100, 100).await;
    assert_eq!(leases.len(), 4);
    assert!(leases.iter().all(|lease| lease.job.due <= at(3_500)));
    assert_eq!(queue.next_due().await, Some(at(4_000)));
}

/// How often Redis was asked something, ever.
fn calls(server: &Redis) -> u64 {
    let info = server.cli(&["INFO", "commandstats"]).expect("answers");
    info.lines()
        .filter(|line| {
            ["fcall", "evalsha", "eval", "blpop"]
                .iter()
                .any(|name| line.starts_with(&format!("cmdstat_{name}:")))
        })
        .filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok())
        .sum()
}

#[tokio::test]
async fn idle_it_asks_about_once_a_second() {
    let server = Redis::start().expect("starts");
    let queue = queue(Options {
        ttl: Duration::from_secs(10),
        ..options(&server, "idle")
    });
    queue.push(vec![job("a", 0, 0)], Origin::Commit).await;
    let leases = lease_all(&queue).await;
    acknowledge_all(&queue, &leases).await;
    assert_eq!(lease_all(&queue).await, []);
    let before = calls(&server);
    // As the consumer naps: until there is news, five seconds at the most. The scheduler looks at nothing here.
    let until = tokio::time::Instant::now() + Duration::from_secs(5);
    while tokio::time::timeout_at(until, queue.changed()).await.is_ok() {
        lease_all(&queue).await;
    }
    lease_all(&queue).await;
    let asked = calls(&server) - before;
    assert!((1..=5).contains(&asked), "{asked} calls in five seconds");
}
