//! Waking and concurrency: what a caller that sleeps is told, and that callers at the same time share the work.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};

use super::{at, count_of, job, lease_all, lease_one, run};
use crate::ports::{Lease, Origin, Queue};

/// How long a wait may take before it counts as forever.
const DEADLINE: Duration = Duration::from_secs(20);

/// Leases at `now` until a job comes, and sleeps in between as a consumer does.
async fn consume(queue: &Arc<dyn Queue>, now: i64, per_function: usize) -> Lease {
    let consumed = tokio::time::timeout(DEADLINE, async {
        loop {
            if let Some(lease) = queue.lease(at(now), 1, per_function).await.pop() {
                return lease;
            }
            queue.changed().await;
        }
    });
    consumed.await.expect("a job came and nobody was told")
}

/// Like [`consume`], while `cause` happens once the consumer sleeps (or at the same time).
pub(super) async fn woken_by(
    queue: &Arc<dyn Queue>,
    now: i64,
    per_function: usize,
    cause: impl Future<Output = ()>,
) -> Lease {
    join(consume(queue, now, per_function), cause).await.0
}

/// A job that is pushed wakes who sleeps because there was none.
pub async fn a_push_wakes(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    for created in 0..3 {
        let one = job("a", run(created), 0);
        let push = async {
            queue.push(vec![one.clone()], Origin::Commit).await;
        };
        assert_eq!(woken_by(&queue, 0, 10, push).await.job, one);
    }
}

/// A job that is due earlier than the one everybody waits for wakes, also when it is a new version of that one.
pub async fn an_earlier_job_wakes(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue.push(vec![job("a", run(0), 1_000)], Origin::Commit).await;
    for created in [1, 0] {
        let early = job("a", run(created), 0);
        let push = async {
            queue.push(vec![early.clone()], Origin::Commit).await;
        };
        assert_eq!(woken_by(&queue, 10, 10, push).await.job, early);
    }
}

/// The end of a lease wakes who sleeps because the function was at its limit.
pub async fn room_for_a_function_wakes(factory: impl Fn() -> Arc<dyn Queue>) {
    for released in [false, true] {
        let queue = factory();
        queue
            .push(vec![job("a", run(0), 0), job("a", run(1), 0)], Origin::Commit)
            .await;
        let first = consume(&queue, 0, 1).await;
        let end = async {
            if released {
                queue.release(&first.job.id, first.epoch, at(1_000)).await;
            } else {
                queue.acknowledge(&first.job.id, first.epoch).await;
            }
        };
        assert_eq!(woken_by(&queue, 0, 1, end).await.job.id.run, run(1));
    }
}

/// A release, and a new version that had to wait for the end of a lease, wake like a push.
pub async fn a_job_that_comes_back_wakes(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let one = job("a", run(0), 0);
    queue.push(vec![one.clone()], Origin::Commit).await;
    let first = lease_one(&queue, 0).await;
    let release = queue.release(&one.id, first.epoch, at(0));
    let second = woken_by(&queue, 0, 10, release).await;

    let mut new = one.clone();
    new.attempt = 1;
    queue.push(vec![new.clone()], Origin::Commit).await;
    let acknowledge = queue.acknowledge(&one.id, second.epoch);
    assert_eq!(woken_by(&queue, 0, 10, acknowledge).await.job, new);
}

/// News that nobody waited for is kept until somebody does.
pub async fn news_is_kept(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue.push(vec![job("a", run(0), 0)], Origin::Commit).await;
    tokio::time::timeout(DEADLINE, queue.changed())
        .await
        .expect("the push came before the wait");
}

/// Many callers at the same time get each job once, never exceed the limit, and leave none behind.
pub async fn concurrent_callers_share_the_work(factory: impl Fn() -> Arc<dyn Queue>) {
    const JOBS: i64 = 400;
    const LIMIT: usize = 3;
    let queue = factory();
    let pushes = (0..4).map(|part| {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move {
            for created in (part..JOBS).step_by(4) {
                let name = ["a", "b", "c"][usize::try_from(created % 3).unwrap_or(0)];
                queue.push(vec![job(name, run(created), 0)], Origin::Commit).await;
            }
        })
    });
    for push in join_all(pushes).await {
        push.expect("pushes");
    }

    let workers = (0..4).map(|_| {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move {
            let mut done = Vec::new();
            loop {
                let leases = queue.lease(at(0), 2, LIMIT).await;
                for lease in &leases {
                    // Others see it leased, and nobody sees more leases than the limit.
                    assert_eq!(queue.leases_of(lease.job.id.run).await, std::slice::from_ref(lease));
                    let stats = queue.stats().await;
                    assert!(stats.partitions.iter().all(|p| p.leased <= LIMIT), "{stats:?}");
                    queue.acknowledge(&lease.job.id, lease.epoch).await;
                    done.push((lease.job.id.clone(), lease.epoch));
                }
                let stats = queue.stats().await;
                if stats.ready + stats.delayed == 0 {
                    return done;
                }
                tokio::task::yield_now().await;
            }
        })
    });
    let mut seen = HashSet::new();
    let mut epochs = HashSet::new();
    let all = tokio::time::timeout(DEADLINE, join_all(workers)).await;
    for done in all.expect("the workers come to an end") {
        for (id, epoch) in done.expect("works") {
            assert!(seen.insert(id.clone()), "{id} was handed out twice");
            assert!(epochs.insert(epoch), "{epoch} was given twice");
        }
    }
    assert_eq!(i64::try_from(seen.len()), Ok(JOBS));
    assert_eq!(count_of(&lease_all(&queue, 1_000).await, "a"), 0);
}
