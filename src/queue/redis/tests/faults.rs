//! The way to Redis fails: connections are cut, Redis stands still, answers are lost or come late.

use std::collections::BTreeSet;

use callboard_actors::ports::{Origin, Queue};
use callboard_backends::redis::Redis;
use tokio::sync::oneshot;

use super::super::desk::Step;
use super::super::exchange::{self, Answer};
use super::super::link::Link;
use super::super::outbox::{Ask, Push};
use super::super::{RedisQueue, abort};
use super::{acknowledge_all, alone, at, created, job, lease_all, options, queue, within};

#[tokio::test]
async fn cut_connections_cost_no_job_and_double_none() {
    const JOBS: i64 = 400;
    let server = Redis::start().expect("starts");
    let queue = queue(options(&server, "cut"));
    let mut done = BTreeSet::new();
    let push = async {
        for i in 0..JOBS {
            while queue.push(vec![job("a", i, 0)], Origin::Commit).await.accepted == 0 {}
        }
    };
    let work = async {
        while done.len() < usize::try_from(JOBS).expect("small") {
            for lease in queue.lease(at(0), 5, 100).await {
                assert!(
                    done.insert(lease.job.id.clone()),
                    "{} was handed out twice",
                    lease.job.id
                );
                queue.acknowledge(&lease.job.id, lease.epoch).await;
            }
        }
    };
    let cut = async {
        loop {
            server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).ok();
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let all = async {
        tokio::select! {
            _ = async { tokio::join!(push, work) } => {}
            () = cut => {}
        }
    };
    within(all).await;
    assert_eq!(queue.next_due().await, None);
    let stats = queue.stats().await;
    assert_eq!((stats.ready, stats.delayed, stats.leased), (0, 0, 0));
}

#[tokio::test]
async fn while_redis_stands_still_nothing_fails_and_nothing_is_lost() {
    let server = Redis::start().expect("starts");
    let queue = queue(options(&server, "still"));
    queue
        .push((0..4).map(|i| job("a", i, 0)).collect(), Origin::Commit)
        .await;
    let held = queue.lease(at(0), 2, 10).await;
    queue.ping().await.expect("it answers");

    server.pause().expect("stops");
    acknowledge_all(&queue, &held).await;
    let pushed = queue.push(vec![job("a", 9, 0)], Origin::Commit).await;
    assert_eq!((pushed.accepted, pushed.unheard), (0, 1));
    assert_eq!(lease_all(&queue).await, []);
    assert_eq!(queue.next_due().await, Some(at(0)), "what it last knew");
    queue.ping().await.expect_err("it does not answer");

    server.resume().expect("goes on");
    let mut rest = Vec::new();
    within(async {
        while rest.is_empty() {
            rest = lease_all(&queue).await;
        }
    })
    .await;
    // The push that was given up may have got through.
    assert!(created(&rest).is_superset(&[2, 3].into()));
    assert!(created(&rest).is_disjoint(&[0, 1].into()), "those are done");
    acknowledge_all(&queue, &rest).await;
    assert_eq!(queue.next_due().await, None);
    queue.ping().await.expect("it answers again");
}

#[tokio::test]
async fn a_redis_that_is_not_there_yet_is_waited_for() {
    let mut server = Redis::start().expect("starts");
    let queue = queue(options(&server, "late"));
    server.kill().expect("dies");
    assert_eq!(queue.push(vec![job("a", 0, 0)], Origin::Commit).await.unheard, 1);
    queue.ping().await.expect_err("nobody there");
    assert!(queue.failures() > 0);
    server.restart().expect("starts");
    within(async { while queue.push(vec![job("a", 0, 0)], Origin::Sweep).await.unheard > 0 {} }).await;
    queue.ping().await.expect("it answers");
    assert_eq!(lease_all(&queue).await.len(), 1);
}

#[tokio::test]
async fn a_replica_takes_nothing_and_is_said_to_be_no_use() {
    let server = Redis::start().expect("starts");
    let queue = queue(options(&server, "replica"));
    queue.push(vec![job("a", 0, 0)], Origin::Commit).await;
    // Of nobody: it keeps what it has and refuses to be written to.
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]).expect("obeys");
    assert_eq!(queue.push(vec![job("a", 1, 0)], Origin::Commit).await.unheard, 1);
    queue.ping().await.expect_err("it answers, but is of no use");
    server.cli(&["REPLICAOF", "NO", "ONE"]).expect("obeys");
    within(async { while queue.push(vec![job("a", 1, 0)], Origin::Sweep).await.unheard > 0 {} }).await;
    assert_eq!(lease_all(&queue).await.len(), 2);
}

/// Takes the next exchange out of the queue's hands, as its arguments.
fn next_exchange(queue: &RedisQueue) -> (Step, Vec<String>) {
    let step = queue
        .shared
        .desk()
        .step(&queue.shared.options)
        .expect("there is something to do");
    let Step::Exchange(batch) = &step else {
        panic!("an exchange: {step:?}");
    };
    let args = batch.request.to_args();
    (step, args)
}

async fn send(queue: &RedisQueue, args: &[String]) -> Answer {
    let options = &queue.shared.options;
    let mut link = Link::open(options, options.response_timeout).await.expect("connects");
    let answer = queue
        .shared
        .scripts
        .exchange(&mut link, &queue.shared.key("meta"), args)
        .await;
    exchange::parse(answer.expect("answers")).expect("is understood")
}

fn ask(queue: &RedisQueue, max: usize) -> oneshot::Receiver<super::super::Handed> {
    let (reply, answer) = oneshot::channel();
    queue.shared.desk().outbox.asks.push_back(Ask {
        now: at(0),
        max,
        limit: 10,
        reply,
    });
    answer
}

#[tokio::test]
async fn leases_whose_answer_was_lost_are_found() {
    let queue = alone();
    queue
        .push((0..5).map(|i| job("a", i, 0)).collect(), Origin::Commit)
        .await;
    let held = queue.lease(at(0), 1, 10).await;
    abort(&mut queue.tasks().driver);

    let _nobody = ask(&queue, 2);
    let (step, args) = next_exchange(&queue);
    let Answer::Done(outcome) = send(&queue, &args).await else {
        panic!("it happens");
    };
    assert_eq!(outcome.leases.len(), 2);
    queue.shared.desk().put_back(step);
    drop(_nobody);

    // The queue goes on: what it does not hold goes back into line, what it holds stays.
    assert_eq!(created(&lease_all(&queue).await), (1..5).collect());
    acknowledge_all(&queue, &held).await;
    assert_eq!(queue.stats().await.leased, 4);
}

#[tokio::test]
async fn the_heartbeat_finds_leases_that_nobody_knows_of() {
    let queue = alone();
    queue
        .push((0..5).map(|i| job("a", i, 0)).collect(), Origin::Commit)
        .await;
    assert_eq!(queue.lease(at(0), 1, 10).await.len(), 1);
    abort(&mut queue.tasks().driver);
    let nobody = ask(&queue, 2);
    let (_, args) = next_exchange(&queue);
    send(&queue, &args).await;
    drop(nobody);
    // As if the answer had come, and what it said was lost inside.
    queue.shared.desk().idle();

    queue.shared.desk().outbox.beat = true;
    assert_eq!(lease_all(&queue).await.len(), 2, "the other two");
    let found = async {
        let mut leases = Vec::new();
        while leases.is_empty() {
            leases = lease_all(&queue).await;
        }
        leases
    };
    assert_eq!(within(found).await.len(), 2);
}

#[tokio::test]
async fn an_exchange_that_comes_late_is_refused() {
    let queue = alone();
    queue.push(vec![job("a", 0, 0)], Origin::Commit).await;
    abort(&mut queue.tasks().driver);
    let (reply, _answer) = oneshot::channel();
    let name = job("b", 1, 0);
    queue.shared.desk().outbox.pushes.push_back(Push {
        jobs: vec![(
            super::super::codec::field(&name.id),
            super::super::codec::version(&name),
            name.function,
        )],
        origin: exchange::Origin::Fresh,
        reply,
    });
    let (step, late) = next_exchange(&queue);
    // Given up, and sent again; everything is done before the first comes through.
    queue.shared.desk().put_back(step);
    let leases = lease_all(&queue).await;
    assert_eq!(created(&leases), [0, 1].into());
    let doubtful = leases
        .iter()
        .find(|lease| lease.job.id == name.id)
        .expect("it is there");
    assert!(
        !doubtful.is_first,
        "the first may have come through, and somebody may have done it"
    );
    acknowledge_all(&queue, &leases).await;
    assert_eq!(queue.next_due().await, None);

    assert!(matches!(send(&queue, &late).await, Answer::Stale));
    assert_eq!(lease_all(&queue).await, []);
}
