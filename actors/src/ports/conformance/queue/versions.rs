//! What becomes of a job that is pushed again, released, answered too late, or whose run has ended.

use std::slice;
use std::sync::Arc;

use super::{at, job, jobs_of, lease_all, lease_one, run};
use crate::domain::{Job, JobId, JobKey, Json, StepId};
use crate::ports::{Origin, Pushed, Queue};

/// A job that waits is replaced by what is pushed later, with the new due time in either direction.
pub async fn a_waiting_job_is_replaced(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue.push(vec![job("a", run(0), 100)], Origin::Commit).await;
    let sooner = Job {
        attempt: 1,
        payload: Some(Json::null()),
        ..job("a", run(0), 50)
    };
    assert_eq!(queue.push(vec![sooner], Origin::Commit).await.accepted, 1);
    assert_eq!(queue.next_due().await, Some(at(50)));
    assert_eq!(lease_all(&queue, 49).await, []);

    // Ready by now in the eyes of the queue, and put off again.
    assert_eq!(queue.lease(at(60), 0, 1).await, []);
    let later = Job {
        attempt: 2,
        ..job("a", run(0), 200)
    };
    queue.push(vec![later.clone()], Origin::Commit).await;
    assert_eq!(lease_all(&queue, 199).await, []);
    assert_eq!(lease_one(&queue, 200).await.job, later);
}

/// The same push twice is one job, and does not undo the delay of a release.
pub async fn an_unchanged_job_stays_as_it_is(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let one = job("a", run(0), 0);
    let pushed = queue.push(vec![one.clone(), one.clone()], Origin::Commit).await;
    let expected = Pushed {
        accepted: 2,
        spilled: 0,
        unheard: 0,
    };
    assert_eq!(pushed, expected);
    let lease = lease_one(&queue, 0).await;
    queue.release(&lease.job.id, lease.epoch, at(100)).await;
    queue.push(vec![one.clone()], Origin::Commit).await;
    assert_eq!(lease_all(&queue, 99).await, []);
    assert_eq!(lease_one(&queue, 100).await.job, one);
}

/// What is pushed over a leased job waits for the end of the lease; the last version counts, the same one does not.
pub async fn a_leased_job_is_replaced_when_its_lease_ends(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let first = job("a", run(0), 0);
    queue.push(vec![first.clone()], Origin::Commit).await;
    let lease = lease_one(&queue, 0).await;
    let second = Job {
        attempt: 1,
        ..first.clone()
    };
    let third = Job {
        attempt: 2,
        ..job("a", run(0), 50)
    };
    queue.push(vec![second], Origin::Commit).await;
    queue.push(vec![third.clone()], Origin::Commit).await;
    assert_eq!(queue.push(vec![first.clone()], Origin::Commit).await.accepted, 1);
    assert_eq!(lease_all(&queue, 1_000).await, [], "it is at work");
    assert_eq!(queue.next_due().await, None);

    queue.acknowledge(&lease.job.id, lease.epoch).await;
    assert_eq!(queue.next_due().await, Some(at(50)));
    let lease = lease_one(&queue, 1_000).await;
    assert_eq!(lease.job, third);

    queue.push(vec![third], Origin::Commit).await;
    queue.acknowledge(&lease.job.id, lease.epoch).await;
    assert_eq!(lease_all(&queue, 10_000).await, [], "the same version was dropped");
}

/// A version of an earlier attempt takes the place of no newer one, wherever that is: waiting, leased, or waiting for the
/// end of a lease.
pub async fn a_version_that_comes_late_changes_nothing(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let first = job("a", run(0), 0);
    let attempt = |attempt, due| Job {
        attempt,
        ..job("a", run(0), due)
    };
    let accepted = Pushed {
        accepted: 1,
        spilled: 0,
        unheard: 0,
    };
    queue.push(vec![attempt(1, 100)], Origin::Commit).await;
    assert_eq!(queue.push(vec![first.clone()], Origin::Sweep).await, accepted);
    assert_eq!(lease_all(&queue, 99).await, []);
    let lease = lease_one(&queue, 100).await;
    assert_eq!(lease.job, attempt(1, 100));

    queue.push(vec![attempt(2, 200)], Origin::Commit).await;
    for late in [first.clone(), attempt(1, 150)] {
        assert_eq!(queue.push(vec![late], Origin::Sweep).await, accepted);
    }
    queue.acknowledge(&lease.job.id, lease.epoch).await;
    assert_eq!(lease_all(&queue, 199).await, []);
    let lease = lease_one(&queue, 200).await;
    assert_eq!(lease.job, attempt(2, 200));

    queue.push(vec![first], Origin::Commit).await;
    queue.acknowledge(&lease.job.id, lease.epoch).await;
    assert_eq!(queue.next_due().await, None, "nothing comes back");
}

/// A released job gives way to its new version, which waits for the later of the two times.
pub async fn a_release_yields_to_the_new_version(factory: impl Fn() -> Arc<dyn Queue>) {
    for (due_of_new, due_of_release, expected) in [(50, 80, 80), (80, 50, 80)] {
        let queue = factory();
        queue.push(vec![job("a", run(0), 0)], Origin::Commit).await;
        let lease = lease_one(&queue, 0).await;
        let new = Job {
            attempt: 1,
            ..job("a", run(0), due_of_new)
        };
        queue.push(vec![new.clone()], Origin::Commit).await;
        queue.release(&lease.job.id, lease.epoch, at(due_of_release)).await;
        assert_eq!(lease_all(&queue, expected - 1).await, []);
        assert_eq!(lease_one(&queue, expected).await.job, new);
    }
}

/// A released job comes back at its time, not before, as it was, under a higher epoch.
pub async fn a_released_job_comes_back(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue.push(vec![job("a", run(0), 0)], Origin::Commit).await;
    let first = lease_one(&queue, 0).await;
    queue.release(&first.job.id, first.epoch, at(100)).await;
    assert_eq!(queue.next_due().await, Some(at(100)));
    assert_eq!(queue.leases_of(run(0)).await, []);
    assert_eq!(lease_all(&queue, 99).await, []);
    let second = lease_one(&queue, 100).await;
    assert_eq!((&second.job, second.since), (&first.job, at(100)));
    assert!(second.epoch > first.epoch);
    queue.release(&second.job.id, second.epoch, at(-100)).await;
    assert_eq!(lease_one(&queue, 100).await.job, first.job, "due at once");
}

/// Answers to older leases are ignored, even if the job went and came back.
pub async fn stale_epochs_are_ignored(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let one = job("a", run(0), 0);
    queue.push(vec![one.clone()], Origin::Commit).await;
    let first = lease_one(&queue, 0).await;
    queue.release(&one.id, first.epoch, at(0)).await;
    queue.acknowledge(&one.id, first.epoch).await;
    let second = lease_one(&queue, 0).await;
    queue.acknowledge(&one.id, first.epoch).await;
    queue.release(&one.id, first.epoch, at(0)).await;
    queue.acknowledge(&one.id, second.epoch + 1).await;
    assert_eq!(queue.leases_of(run(0)).await, slice::from_ref(&second));

    queue.acknowledge(&one.id, second.epoch).await;
    queue.push(vec![one.clone()], Origin::Commit).await;
    let third = lease_one(&queue, 0).await;
    assert!(third.epoch > second.epoch);
    for stale in [&first, &second] {
        queue.acknowledge(&one.id, stale.epoch).await;
        queue.release(&one.id, stale.epoch, at(0)).await;
    }
    assert_eq!(queue.leases_of(run(0)).await, slice::from_ref(&third));
    assert_eq!(lease_all(&queue, 1_000).await, []);
    queue.acknowledge(&one.id, third.epoch).await;
    assert_eq!(queue.leases_of(run(0)).await, []);
}

/// The jobs of an ended run are forgotten, those of others stay.
pub async fn an_ended_run_is_forgotten(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let of_run = |run, key| Job {
        id: JobId { run, key },
        ..job("a", run, 0)
    };
    let delayed = Job {
        due: at(1_000),
        ..of_run(run(1), JobKey::Timeout(StepId::from("s")))
    };
    let others = [of_run(run(0), JobKey::Cancel), of_run(run(2), JobKey::Start)];
    queue.push(others.to_vec(), Origin::Commit).await;
    queue
        .push(
            vec![of_run(run(1), JobKey::Start), of_run(run(1), JobKey::Cancel), delayed],
            Origin::Commit,
        )
        .await;
    queue.forget_run(run(1)).await;
    assert_eq!(jobs_of(&lease_all(&queue, 10_000).await), others);
    assert_eq!(queue.next_due().await, None);
}

/// Forgetting does not end leases; the end of one takes the job along, with the version that waited.
pub async fn a_leased_job_of_an_ended_run_goes_with_its_lease(factory: impl Fn() -> Arc<dyn Queue>) {
    let one = job("a", run(0), 0);
    let new = Job {
        attempt: 1,
        ..one.clone()
    };
    for released in [false, true] {
        let queue = factory();
        queue.push(vec![one.clone()], Origin::Commit).await;
        let lease = lease_one(&queue, 0).await;
        queue.push(vec![new.clone()], Origin::Commit).await;
        queue.forget_run(run(0)).await;
        assert_eq!(queue.leases_of(run(0)).await, slice::from_ref(&lease));
        if released {
            queue.release(&one.id, lease.epoch, at(0)).await;
        } else {
            queue.acknowledge(&one.id, lease.epoch).await;
        }
        assert_eq!(lease_all(&queue, 1_000).await, []);
        assert_eq!(queue.next_due().await, None);
    }

    // Pushed again, it is wanted again.
    let queue = factory();
    queue.push(vec![one.clone()], Origin::Commit).await;
    let lease = lease_one(&queue, 0).await;
    queue.forget_run(run(0)).await;
    queue.push(vec![one.clone()], Origin::Commit).await;
    queue.release(&one.id, lease.epoch, at(0)).await;
    assert_eq!(lease_one(&queue, 0).await.job, one);
}
