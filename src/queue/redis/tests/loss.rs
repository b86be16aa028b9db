//! Redis forgets: everything, the scripts, single keys.

use std::time::Duration;

use callboard_actors::domain::{Job, JobId, JobKey, Json};
use callboard_actors::ports::{Origin, Queue};
use callboard_backends::redis::Redis;

use super::super::Options;
use super::{
    DEADLINE, SOON, acknowledge_all, alone, at, created, job, lease_all, options, prefix, queue, run, server, within,
};

/// Redis loses everything in the middle of the work; what is held stays held, and the rest comes with the sweep.
async fn everything_is_lost(server: &mut Redis, lose: impl FnOnce(&mut Redis)) {
    let options = Options {
        ttl: SOON,
        ..options(server, "loss")
    };
    let (one, other) = (queue(options.clone()), queue(options));
    let jobs: Vec<_> = (0..9).map(|i| job("a", i, 0)).collect();
    one.push(jobs.clone(), Origin::Commit).await;
    let first = one.lease(at(0), 3, 10).await;
    let second = other.lease(at(0), 3, 10).await;
    assert_eq!((first.len(), second.len()), (3, 3));

    lose(server);
    // What the store still has is brought when both have said what they hold.
    within(async { tokio::join!(one.forgotten(), other.forgotten()) }).await;
    let pushed = one.push(jobs, Origin::Sweep).await;
    assert_eq!((pushed.accepted, pushed.spilled), (9, 0));
    let third = lease_all(&other).await;
    assert_eq!(created(&third), (6..9).collect(), "what is held is not handed out");
    assert!(third.iter().all(|lease| !lease.is_first));
    let highest = first.iter().chain(&second).map(|lease| lease.epoch).max();
    assert!(third.iter().all(|lease| Some(lease.epoch) > highest), "epochs rise on");

    acknowledge_all(&one, &first).await;
    acknowledge_all(&other, &second).await;
    acknowledge_all(&other, &third).await;
    for queue in [&one, &other] {
        assert_eq!(queue.next_due().await, None);
    }
    let stats = one.stats().await;
    assert_eq!((stats.ready, stats.delayed, stats.leased), (0, 0, 0));
}

#[tokio::test]
async fn a_flush_is_noticed_and_made_good() {
    let mut server = Redis::start().expect("starts");
    everything_is_lost(&mut server, |server| server.flush().expect("flushes")).await;
}

#[tokio::test]
async fn an_empty_restart_is_noticed_and_made_good() {
    let mut server = Redis::start().expect("starts");
    everything_is_lost(&mut server, |server| server.restart_empty().expect("restarts")).await;
}

#[tokio::test]
async fn a_restart_that_keeps_everything_is_no_loss() {
    let mut server = Redis::start_with(callboard_backends::redis::Options {
        persistent: true,
        ..Default::default()
    })
    .expect("starts");
    let queue = queue(options(&server, "kept"));
    queue
        .push((0..5).map(|i| job("a", i, 0)).collect(), Origin::Commit)
        .await;
    let first = queue.lease(at(0), 2, 10).await;
    server.restart().expect("restarts");
    acknowledge_all(&queue, &first).await;
    let mut rest = Vec::new();
    within(async {
        while rest.is_empty() {
            rest = lease_all(&queue).await;
        }
    })
    .await;
    assert_eq!(created(&rest), (2..5).collect());
}

#[tokio::test]
async fn a_redis_that_comes_back_as_it_was_is_noticed() {
    let prefix = prefix();
    let options = Options {
        ttl: SOON,
        ..options(server(), &prefix)
    };
    let (one, other) = (queue(options.clone()), queue(options));
    let jobs: Vec<_> = (0..6).map(|i| job("a", i, 0)).collect();
    one.push(jobs[..4].to_vec(), Origin::Commit).await;
    let saved = keys(&prefix);
    for key in &saved {
        server().cli(&["COPY", key, &format!("saved:{key}")]).expect("copies");
    }
    let mut held = one.lease(at(0), 2, 10).await;
    one.push(jobs[4..].to_vec(), Origin::Commit).await;
    held.extend(other.lease(at(0), 1, 10).await);
    assert_eq!(held.len(), 3);

    // As after a fail-over to a replica that was behind: one session is known from earlier, the other is not.
    for key in keys(&prefix) {
        server().cli(&["DEL", &key]).expect("deletes");
    }
    for key in &saved {
        server()
            .cli(&["RENAME", &format!("saved:{key}"), key])
            .expect("renames");
    }
    within(async { tokio::join!(one.forgotten(), other.forgotten()) }).await;
    one.push(jobs, Origin::Sweep).await;
    let rest = lease_all(&one).await;
    let all: Vec<_> = held.iter().chain(&rest).cloned().collect();
    assert_eq!(created(&all), (0..6).collect(), "what is held stays held");
    let highest = held.iter().map(|lease| lease.epoch).max();
    assert!(rest.iter().all(|lease| Some(lease.epoch) > highest), "epochs rise on");
}

/// Pushes, leases and asks while Redis forgets the code before each.
async fn lost_code_is_sent_again(server: &Redis, url: &str, forget: &[&str]) {
    let queue = queue(Options {
        url: url.to_owned(),
        ..options(server, "code")
    });
    for i in 0..3 {
        server.cli(forget).expect("forgets");
        assert_eq!(queue.push(vec![job("a", i, 0)], Origin::Commit).await.accepted, 1);
        server.cli(forget).expect("forgets");
        let leases = lease_all(&queue).await;
        assert_eq!(leases.len(), 1);
        server.cli(forget).expect("forgets");
        assert_eq!(queue.leases_of(run(i)).await, leases);
        acknowledge_all(&queue, &leases).await;
    }
}

#[tokio::test]
async fn lost_functions_are_sent_again() {
    let server = Redis::start().expect("starts");
    lost_code_is_sent_again(&server, &server.url(), &["FUNCTION", "FLUSH"]).await;
    let stats = server.cli(&["INFO", "commandstats"]).expect("answers");
    assert!(!stats.contains("cmdstat_eval"), "{stats}");
}

#[tokio::test]
async fn where_no_functions_are_taken_scripts_will_do() {
    let server = Redis::start().expect("starts");
    let user = [
        "ACL",
        "SETUSER",
        "poor",
        "on",
        ">secret",
        "~*",
        "&*",
        "+@all",
        "-function",
    ];
    server.cli(&user).expect("sets");
    let url = server.url().replace("redis://", "redis://poor:secret@");
    lost_code_is_sent_again(&server, &url, &["SCRIPT", "FLUSH"]).await;
}

/// The keys of a queue.
pub(super) fn keys(prefix: &str) -> Vec<String> {
    let keys = server().cli(&["KEYS", &format!("{{{prefix}}}:*")]).expect("answers");
    let mut keys: Vec<_> = keys.lines().map(str::to_owned).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn whichever_key_is_evicted_a_sweep_makes_it_good() {
    let kinds = ["meta", "j:", "r:", "d:", "turns", "dues", "sessions", "h:", "hungry"];
    for kind in kinds {
        let prefix = prefix();
        let queue = queue(Options {
            ttl: SOON,
            ..options(server(), &prefix)
        });
        // Two held, two ready, two delayed.
        let dues = [0, 0, 1, 1, 500_000, 500_000];
        let jobs: Vec<_> = (0..).zip(dues).map(|(i, due)| job("a", i, due)).collect();
        queue.push(jobs.clone(), Origin::Commit).await;
        assert_eq!(queue.lease(at(1), 0, 10).await, []);
        let held = queue.lease(at(1), 2, 10).await;
        assert_eq!(created(&held), [0, 1].into());
        assert_eq!(queue.lease(at(0), 2, 2).await, [], "hungry");

        let evicted: Vec<_> = keys(&prefix)
            .into_iter()
            .filter(|key| key.contains(&format!("}}:{kind}")))
            .collect();
        assert!(!evicted.is_empty(), "{kind}");
        for key in &evicted {
            server().cli(&["DEL", key]).expect("deletes");
        }
        // The process says what it holds with its next heartbeat; then comes the sweep, of what is not done.
        queue.shared.desk().outbox.beat = true;
        assert_eq!(queue.push(jobs, Origin::Sweep).await.accepted, 6, "{kind}");
        let rest = lease_all(&queue).await;
        assert_eq!(created(&rest), (2..6).collect(), "{kind}");
        acknowledge_all(&queue, &held).await;
        acknowledge_all(&queue, &rest).await;
        assert_eq!(queue.next_due().await, None, "{kind}");
        let stats = queue.stats().await;
        assert_eq!((stats.ready, stats.delayed, stats.leased), (0, 0, 0), "{kind}");
    }
}

#[tokio::test]
async fn under_eviction_every_job_is_done() {
    const JOBS: i64 = 600;
    let server = Redis::start().expect("starts");
    server
        .cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"])
        .expect("sets");
    let queue = queue(options(&server, "evicted"));
    let jobs: Vec<_> = (0..JOBS)
        .map(|i| Job {
            payload: Some(Json::from_value(&"x".repeat(1_000)).expect("valid")),
            ..job(["a", "b", "c"][usize::try_from(i % 3).expect("small")], i, 0)
        })
        .collect();
    let mut left = jobs.clone();
    let work = async {
        while !left.is_empty() {
            queue.push(left.clone(), Origin::Sweep).await;
            // About a third of what there is goes, whatever it is.
            let info = server.cli(&["INFO", "memory"]).expect("answers");
            let used: u64 = info
                .lines()
                .find_map(|line| line.strip_prefix("used_memory:"))
                .and_then(|used| used.trim().parse().ok())
                .expect("it says");
            let bound = (used - 500 * u64::try_from(left.len()).expect("few")).to_string();
            server.cli(&["CONFIG", "SET", "maxmemory", &bound]).expect("sets");
            server.cli(&["CONFIG", "SET", "maxmemory", "0"]).expect("sets");
            for lease in queue.lease(at(1_000), 100, 1_000).await {
                left.retain(|job| job.id != lease.job.id);
                queue.acknowledge(&lease.job.id, lease.epoch).await;
            }
        }
    };
    tokio::time::timeout(DEADLINE * 3, work)
        .await
        .expect("it comes to an end");
    let evicted = server.cli(&["INFO", "stats"]).expect("answers");
    assert!(!evicted.contains("evicted_keys:0\r"), "nothing was evicted");
}

#[tokio::test]
async fn a_full_redis_takes_no_jobs_and_does_what_it_has() {
    let server = Redis::start().expect("starts");
    let queue = queue(options(&server, "full"));
    queue
        .push((0..5).map(|i| job("a", i, 0)).collect(), Origin::Commit)
        .await;
    let held = queue.lease(at(0), 2, 10).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).expect("sets");
    let pushed = queue.push(vec![job("a", 5, 0), job("b", 6, 0)], Origin::Commit).await;
    assert_eq!((pushed.accepted, pushed.spilled), (0, 2));
    acknowledge_all(&queue, &held).await;
    let rest = lease_all(&queue).await;
    assert_eq!(created(&rest), (2..5).collect());
    queue.release(&rest[0].job.id, rest[0].epoch, at(7)).await;
    acknowledge_all(&queue, &rest[1..]).await;
    assert_eq!(queue.next_due().await, Some(at(7)));
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).expect("sets");
    assert_eq!(queue.push(vec![job("a", 5, 0)], Origin::Commit).await.accepted, 1);
}

#[tokio::test]
async fn what_is_done_leaves_nothing_behind() {
    let prefix = prefix();
    let queue = queue(options(server(), &prefix));
    for round in 0..20 {
        let of_run = |key| Job {
            id: JobId { run: run(round), key },
            ..job(&round.to_string(), round, 0)
        };
        queue
            .push(vec![of_run(JobKey::Start), of_run(JobKey::Cancel)], Origin::Commit)
            .await;
        queue.push(vec![job("later", 1_000 + round, 500)], Origin::Commit).await;
        let leases = lease_all(&queue).await;
        queue.forget_run(run(round)).await;
        acknowledge_all(&queue, &leases).await;
    }
    assert_eq!(queue.next_due().await, None);
    let names: Vec<_> = keys(&prefix)
        .iter()
        .filter_map(|key| Some(key.split_once("}:")?.1.split(':').next()?.to_owned()))
        .collect();
    assert_eq!(names, ["h", "hungry", "marks", "meta", "sessions", "slots"]);
}

#[tokio::test]
async fn jobs_that_are_pushed_while_nobody_knows_come_in_once() {
    // Not a loss of Redis, but of the answers: the same push, again and again.
    let queue = alone();
    let jobs: Vec<_> = (0..50).map(|i| job("a", i, 0)).collect();
    for _ in 0..3 {
        assert_eq!(queue.push(jobs.clone(), Origin::Commit).await.accepted, 50);
    }
    assert_eq!(created(&lease_all(&queue).await), (0..50).collect());
    tokio::time::timeout(Duration::from_millis(1), queue.forgotten())
        .await
        .expect_err("nothing was lost");
}
