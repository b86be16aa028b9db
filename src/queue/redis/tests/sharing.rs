//! Several processes on one queue: who gets what, who is woken, what becomes of those who die or stand still.

use std::sync::Arc;

use callboard_actors::domain::Timestamp;
use callboard_actors::ports::{Origin, Queue};

use super::super::abort;
use super::{FOREVER, SOON, acknowledge_all, at, created, job, lease_all, lease_some, run, two, within};

#[tokio::test]
async fn two_share_the_work_and_no_job_goes_to_both() {
    const JOBS: i64 = 600;
    let (one, other) = two(FOREVER);
    one.push((0..JOBS).map(|i| job("a", i, 0)).collect(), Origin::Commit)
        .await;
    let work = |queue: Arc<dyn Queue>| async move {
        let mut done = Vec::new();
        loop {
            let leases = queue.lease(at(0), 7, 100).await;
            if leases.is_empty() {
                return done;
            }
            for lease in leases {
                queue.acknowledge(&lease.job.id, lease.epoch).await;
                done.push(lease);
            }
        }
    };
    let (one, other): (Arc<dyn Queue>, Arc<dyn Queue>) = (Arc::new(one), Arc::new(other));
    let (mut done, more) = tokio::join!(
        within(tokio::spawn(work(Arc::clone(&one)))),
        within(tokio::spawn(work(Arc::clone(&other))))
    );
    let done = done.as_mut().expect("works");
    done.extend(more.expect("works"));
    assert_eq!(created(done), (0..JOBS).collect());
    let stats = one.stats().await;
    assert_eq!((stats.ready, stats.delayed, stats.leased), (0, 0, 0));
}

#[tokio::test]
async fn the_limit_of_a_function_is_each_ones_own() {
    let (one, other) = two(FOREVER);
    one.push((0..10).map(|i| job("a", i, 0)).collect(), Origin::Commit)
        .await;
    assert_eq!(one.lease(at(0), 10, 3).await.len(), 3);
    assert_eq!(other.lease(at(0), 10, 3).await.len(), 3);
    assert_eq!(one.lease(at(0), 10, 3).await, []);
    assert_eq!(one.next_due().await, None);
}

#[tokio::test]
async fn what_a_process_without_room_pushes_wakes_another() {
    let (one, other) = two(FOREVER);
    assert_eq!(lease_all(&other).await, []);
    let wait = lease_some(&other);
    let push = one.push(vec![job("a", 0, 0)], Origin::Commit);
    let (leases, _) = tokio::join!(wait, push);
    assert_eq!(leases.len(), 1);
}

#[tokio::test]
async fn what_is_left_wakes_another() {
    let (one, other) = two(FOREVER);
    assert_eq!(
        one.lease(at(0), 1, 1).await,
        [],
        "it would take what it pushes, and wakes nobody"
    );
    assert_eq!(lease_all(&other).await, []);
    one.push((0..10).map(|i| job("a", i, 0)).collect(), Origin::Commit)
        .await;
    assert_eq!(one.lease(at(0), 4, 10).await.len(), 4);
    within(other.changed()).await;
    assert_eq!(lease_all(&other).await.len(), 6);
}

#[tokio::test]
async fn what_its_own_limit_keeps_from_a_process_wakes_another() {
    let (one, other) = two(FOREVER);
    one.push(vec![job("a", 0, 0)], Origin::Commit).await;
    assert_eq!(one.lease(at(0), 10, 1).await.len(), 1);
    assert_eq!(lease_all(&other).await, []);
    let (leases, _) = tokio::join!(lease_some(&other), one.push(vec![job("a", 1, 0)], Origin::Commit));
    assert_eq!(created(&leases), [1].into());
}

#[tokio::test]
async fn the_jobs_of_a_process_that_died_go_to_another() {
    let (dying, other) = two(SOON);
    dying
        .push((0..3).map(|i| job("a", i, 0)).collect(), Origin::Commit)
        .await;
    let before = lease_all(&dying).await;
    assert_eq!(before.len(), 3);
    assert_eq!(lease_all(&other).await, [], "they are held");
    drop(dying);
    let after = lease_some(&other).await;
    assert_eq!(created(&after), created(&before));
    assert!(after.iter().all(|lease| !lease.is_first), "they may have been done");
    let highest = before.iter().map(|lease| lease.epoch).max();
    assert!(after.iter().all(|lease| Some(lease.epoch) > highest));
}

#[tokio::test]
async fn the_end_of_a_session_is_noticed_by_who_has_nothing_to_say() {
    let (dying, other) = two(SOON);
    dying.push(vec![job("a", 0, 0)], Origin::Commit).await;
    assert_eq!(lease_all(&dying).await.len(), 1);
    assert_eq!(lease_all(&other).await, [], "it is held");
    // Not by a heartbeat, which may come as late as a third of the time that a session lives.
    abort(&mut other.tasks().beat);
    drop(dying);
    within(other.changed()).await;
    assert_eq!(lease_all(&other).await.len(), 1);
}

#[tokio::test]
async fn what_a_process_that_died_has_not_pushed_is_asked_for() {
    let (dying, other) = two(SOON);
    assert_eq!(lease_all(&dying).await, []);
    assert_eq!(lease_all(&other).await, []);
    drop(dying);
    within(other.forgotten()).await;
}

#[tokio::test]
async fn a_process_that_stood_still_is_fenced() {
    let (frozen, other) = two(SOON);
    let jobs: Vec<_> = (0..2).map(|i| job("a", i, 0)).collect();
    frozen.push(jobs.clone(), Origin::Commit).await;
    let before = lease_all(&frozen).await;
    // Its heart stands still, and it says nothing.
    abort(&mut frozen.tasks().beat);
    assert_eq!(lease_all(&other).await, []);
    let after = lease_some(&other).await;
    assert_eq!(after.len(), 2);

    // What it says of its old leases is ignored, and it learns that they are gone.
    let lease = &before[0];
    frozen.acknowledge(&lease.job.id, lease.epoch).await;
    frozen.release(&before[1].job.id, before[1].epoch, at(0)).await;
    assert_eq!(lease_all(&frozen).await, []);
    assert_eq!(frozen.shared.desk().held.len(), 0);
    for created in 0..2 {
        let expected: Vec<_> = after
            .iter()
            .filter(|lease| lease.job.id.run == run(created))
            .cloned()
            .collect();
        assert_eq!(frozen.leases_of(run(created)).await, expected);
    }
    // Whatever it pushes now may have been done while it stood still.
    frozen.push(vec![job("a", 7, 0)], Origin::Commit).await;
    let leases = lease_all(&frozen).await;
    assert_eq!(leases.iter().map(|lease| lease.is_first).collect::<Vec<_>>(), [false]);
    acknowledge_all(&other, &after).await;
    acknowledge_all(&frozen, &leases).await;
    assert_eq!(frozen.next_due().await, None);
}

#[tokio::test]
async fn a_process_that_finds_its_session_gone_drops_what_it_held() {
    let (frozen, other) = two(SOON);
    frozen.push(vec![job("a", 0, 0)], Origin::Commit).await;
    assert_eq!(lease_all(&frozen).await.len(), 1);
    abort(&mut frozen.tasks().beat);
    lease_all(&other).await;
    assert_eq!(lease_some(&other).await.len(), 1);
    assert_eq!(lease_all(&frozen).await, []);
    assert_eq!(frozen.shared.desk().held.len(), 0);
}

#[tokio::test]
async fn a_session_that_ends_in_order_gives_back_at_once() {
    let (one, other) = two(FOREVER);
    one.push(vec![job("a", 0, 0)], Origin::Commit).await;
    assert_eq!(lease_all(&one).await.len(), 1);
    assert_eq!(lease_all(&other).await, []);
    one.close().await;
    assert_eq!(lease_all(&other).await.len(), 1);
}

#[tokio::test]
async fn leases_that_nobody_takes_go_back() {
    let (one, other) = two(FOREVER);
    one.push((0..5).map(|i| job("a", i, 0)).collect(), Origin::Commit).await;
    // Polled once, so that the wish is left, and then dropped.
    let mut lease = Box::pin(one.lease(at(0), 10, 10));
    assert!(futures_util::poll!(&mut lease).is_pending());
    while one.shared.desk().held.len() == 0 {
        tokio::task::yield_now().await;
    }
    drop(lease);
    assert_eq!(one.next_due().await, Some(at(0)));
    assert_eq!(lease_all(&other).await.len(), 5);
}

#[tokio::test]
async fn only_the_committer_is_first() {
    let (one, other) = two(FOREVER);
    let is_first = async |leases: Vec<callboard_actors::ports::Lease>| {
        assert_eq!(leases.len(), 1);
        leases[0].is_first
    };

    one.push(vec![job("a", 0, 0)], Origin::Commit).await;
    let leases = lease_all(&other).await;
    assert!(!is_first(leases.clone()).await, "another process's");
    acknowledge_all(&other, &leases).await;

    one.push(vec![job("a", 1, 0)], Origin::Sweep).await;
    one.push(vec![job("a", 1, 0)], Origin::Commit).await;
    let leases = lease_all(&one).await;
    assert!(!is_first(leases.clone()).await, "known already");
    // A new version is new.
    let mut new = job("a", 1, 0);
    new.attempt = 1;
    one.push(vec![new], Origin::Commit).await;
    acknowledge_all(&one, &leases).await;
    let leases = lease_all(&one).await;
    assert!(is_first(leases.clone()).await);
    one.release(&leases[0].job.id, leases[0].epoch, Timestamp::MIN).await;
    let leases = lease_all(&one).await;
    assert!(!is_first(leases.clone()).await, "it was handed out before");
    acknowledge_all(&one, &leases).await;

    // The sweep of another was faster than the push that follows the commit, and the job is done.
    other.push(vec![job("a", 2, 0)], Origin::Sweep).await;
    let leases = lease_all(&other).await;
    acknowledge_all(&other, &leases).await;
    assert_eq!(other.next_due().await, None);
    one.push(vec![job("a", 2, 0)], Origin::Commit).await;
    assert!(!is_first(lease_all(&one).await).await, "it was done before it came in");
}
