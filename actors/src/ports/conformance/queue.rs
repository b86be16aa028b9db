//! What every [`Queue`] must do, sentence by sentence; [`histories`] compares random histories with a naive model.
//!
//! [`queue_conformance!`](crate::queue_conformance) makes tests of all of it. Each function takes a factory for an empty
//! queue with room for at least 3,000 jobs, 2,500 of one function. Nothing here knows how a queue is built, and nothing
//! asserts how long something takes: waits have a generous deadline.

mod gate_histories;
mod gates;
mod histories;
mod places;
mod versions;
mod waking;

use std::collections::HashSet;
use std::sync::Arc;

pub use gate_histories::gate_histories;
pub use gates::*;
pub use histories::histories;
pub use places::*;
pub use versions::*;
pub use waking::*;

use crate::domain::{FunctionId, Gates, Job, JobId, JobKey, Json, Priority, RunId, StepId, Timestamp};
use crate::ports::{Lease, Origin, PartitionStats, Pushed, Queue};

/// Makes a test of each function of the [`queue`](crate::ports::conformance::queue) suite, so that no implementation
/// forgets one; the argument is the path of the factory.
#[macro_export]
macro_rules! queue_conformance {
    ($factory:path) => {
        $crate::queue_conformance! {
            $factory:
            an_empty_queue_has_nothing
            a_job_is_handed_out_when_it_is_due
            jobs_come_out_as_they_went_in
            no_more_than_asked_for
            older_runs_go_first
            a_head_start_makes_a_run_older
            a_job_of_a_commit_is_first
            a_function_holds_no_more_than_its_limit
            a_hot_function_starves_no_quiet_one
            a_blocked_function_blocks_no_other
            a_waiting_job_is_replaced
            an_unchanged_job_stays_as_it_is
            a_leased_job_is_replaced_when_its_lease_ends
            a_version_that_comes_late_changes_nothing
            a_release_yields_to_the_new_version
            a_released_job_comes_back
            stale_epochs_are_ignored
            an_ended_run_is_forgotten
            a_leased_job_of_an_ended_run_goes_with_its_lease
            the_next_due_time
            a_blocked_job_is_not_due_next
            the_leases_of_a_run
            the_stats
            a_push_wakes
            an_earlier_job_wakes
            room_for_a_function_wakes
            a_job_that_comes_back_wakes
            news_is_kept
            concurrent_callers_share_the_work
            gates_are_shut_until_their_numbers_are_known
            a_slot_is_held_as_long_as_a_lease
            a_key_blocks_no_other
            both_limits_count
            functions_share_slots
            the_oldest_of_all_functions_gets_the_slot
            numbers_change_at_once
            a_throttle_delays_starts
            a_throttle_holds_up_nothing_else
            a_start_is_throttled_once
            a_turn_taken_in_vain_is_given_back
            gates_that_are_shut_cost_nothing
            a_throttle_follows_numbers_and_clock
            a_crowd_at_a_gate_keeps_nobody_waiting
            the_flow_of_a_function
            the_places_of_a_run
            a_place_is_counted_up_to_a_bound
        }

        #[test]
        fn histories() {
            $crate::ports::conformance::queue::histories(256, $factory);
        }

        #[test]
        fn gate_histories() {
            $crate::ports::conformance::queue::gate_histories(256, $factory);
        }
    };
    ($factory:path: $($name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::ports::conformance::queue::$name($factory).await;
            }
        )*
    };
}

/// An arbitrary time at which the tests begin.
const START: i64 = 1_750_000_000_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(START + millis)
}

fn function(name: &str) -> FunctionId {
    FunctionId::derive("conformance", name)
}

/// A run created at that many milliseconds.
fn run(created: i64) -> RunId {
    RunId::new(at(created), 7)
}

/// The job that starts this run of this function, due at that time.
fn job(name: &str, run: RunId, due: i64) -> Job {
    Job {
        id: JobId {
            run,
            key: JobKey::Start,
        },
        function: function(name),
        attempt: 0,
        due: at(due),
        priority: Priority::NONE,
        payload: None,
        gates: Gates::NONE,
    }
}

fn jobs_of(leases: &[Lease]) -> Vec<Job> {
    leases.iter().map(|lease| lease.job.clone()).collect()
}

fn count_of(leases: &[Lease], name: &str) -> usize {
    leases
        .iter()
        .filter(|lease| lease.job.function == function(name))
        .count()
}

/// Leases without limits.
async fn lease_all(queue: &Arc<dyn Queue>, now: i64) -> Vec<Lease> {
    queue.lease(at(now), 10_000, 10_000).await
}

/// Leases the one job that must be ready.
async fn lease_one(queue: &Arc<dyn Queue>, now: i64) -> Lease {
    let mut leases = lease_all(queue, now).await;
    assert_eq!(leases.len(), 1, "one job must be ready: {leases:?}");
    leases.remove(0)
}

/// An empty queue answers every question, and answers to leases it never gave change nothing.
pub async fn an_empty_queue_has_nothing(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let id = job("a", run(0), 0).id;
    queue.acknowledge(&id, 1).await;
    queue.release(&id, 1, at(0)).await;
    queue.forget_run(run(0)).await;
    assert_eq!(queue.push(Vec::new(), Origin::Commit).await, Pushed::default());
    assert_eq!(lease_all(&queue, 0).await, []);
    assert_eq!(queue.next_due().await, None);
    assert_eq!(queue.leases_of(run(0)).await, []);
    let stats = queue.stats().await;
    assert_eq!((stats.ready, stats.delayed, stats.leased, stats.spilled), (0, 0, 0, 0));
    assert_eq!(stats.partitions, []);
}

/// A job is handed out from the very millisecond at which it is due, once.
pub async fn a_job_is_handed_out_when_it_is_due(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let pushed = queue.push(vec![job("a", run(0), 100)], Origin::Commit).await;
    let expected = Pushed {
        accepted: 1,
        spilled: 0,
        unheard: 0,
    };
    assert_eq!(pushed, expected);
    assert_eq!(lease_all(&queue, 99).await, []);
    let lease = lease_one(&queue, 100).await;
    assert_eq!(lease.since, at(100));
    assert_eq!(lease_all(&queue, 10_000).await, [], "it is handed out already");
    queue.acknowledge(&lease.job.id, lease.epoch).await;
    assert_eq!(lease_all(&queue, 10_000).await, [], "it is done");
}

/// What comes out is what went in, whatever the job's key and payload.
pub async fn jobs_come_out_as_they_went_in(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let odd = StepId::from("a:b/c d{e}\u{0}ü\n\"");
    let keys = [
        JobKey::Start,
        JobKey::Discover(odd.clone()),
        JobKey::Step(odd.clone()),
        JobKey::Wake(odd.clone()),
        JobKey::Timeout(odd.clone()),
        JobKey::Resume(odd),
        JobKey::Resume(StepId::from("")),
        JobKey::Cancel,
    ];
    let payloads = [
        None,
        Some(Json::null()),
        Some(Json::from_canonical(r#"{"ü":"\n",":":[1]}"#)),
    ];
    let mut expected = Vec::new();
    for (created, payload) in (0..).zip(payloads) {
        for (attempt, key) in (0..).zip(&keys) {
            expected.push(Job {
                id: JobId {
                    run: run(created),
                    key: key.clone(),
                },
                attempt,
                payload: payload.clone(),
                ..job("a", run(created), -5 - created)
            });
        }
    }
    assert_eq!(
        queue.push(expected.clone(), Origin::Commit).await.accepted,
        expected.len()
    );
    let mut leased = jobs_of(&lease_all(&queue, 0).await);
    leased.sort_by(|a, b| a.id.cmp(&b.id));
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(leased, expected);
}

/// `max` bounds a call, and nothing is handed out where there is no room at all.
pub async fn no_more_than_asked_for(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue
        .push((0..10).map(|i| job("a", run(i), 0)).collect(), Origin::Commit)
        .await;
    assert_eq!(queue.lease(at(0), 0, 10).await, []);
    assert_eq!(queue.lease(at(0), 10, 0).await, []);
    assert_eq!(queue.lease(at(0), 3, 10).await.len(), 3);
    assert_eq!(queue.lease(at(0), usize::MAX, usize::MAX).await.len(), 7);
}

/// Of one function, older runs go first, however late their job came in or fell due.
pub async fn older_runs_go_first(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue
        .push(vec![job("a", run(30), 31), job("a", run(20), 35)], Origin::Commit)
        .await;
    queue
        .push(vec![job("a", run(10), 39), job("a", run(40), 40)], Origin::Commit)
        .await;
    queue.push(vec![job("a", run(0), 100)], Origin::Commit).await;
    let mut order = Vec::new();
    for _ in 0..4 {
        let leases = queue.lease(at(50), 1, 10).await;
        order.extend(leases.iter().map(|lease| lease.job.id.run));
    }
    assert_eq!(order, [run(10), run(20), run(30), run(40)]);
}

/// A head start makes a run count as older by so much, and no more.
pub async fn a_head_start_makes_a_run_older(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let with = |created, seconds| Job {
        priority: Priority::from_seconds(seconds),
        ..job("a", run(created), 0)
    };
    let jobs = vec![
        with(1_000, 0),
        with(3_000, 3),
        with(2_500, 1),
        with(0, -2),
        with(2_000, 0),
    ];
    queue.push(jobs, Origin::Commit).await;
    let leases = lease_all(&queue, 5_000).await;
    let order: Vec<_> = leases.iter().map(|lease| lease.job.id.run).collect();
    assert_eq!(order, [run(3_000), run(1_000), run(2_500), run(0), run(2_000)]);
}

/// A job that came with a commit of this process is known to be handed out for the first time; a job that was released
/// and comes back is not, unless nobody else shares the queue.
pub async fn a_job_of_a_commit_is_first(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue.push(vec![job("a", run(0), 0)], Origin::Commit).await;
    let lease = lease_one(&queue, 0).await;
    assert!(lease.is_first);
    assert_eq!(queue.leases_of(run(0)).await, [lease]);
}

/// Leases of earlier calls count against the limit, each function for itself, and the end of a lease makes room.
pub async fn a_function_holds_no_more_than_its_limit(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue
        .push((0..10).map(|i| job("a", run(i), 0)).collect(), Origin::Commit)
        .await;
    queue
        .push((10..12).map(|i| job("b", run(i), 0)).collect(), Origin::Commit)
        .await;
    let leases = queue.lease(at(0), 100, 3).await;
    assert_eq!((count_of(&leases, "a"), count_of(&leases, "b")), (3, 2));
    assert_eq!(queue.lease(at(0), 100, 3).await, []);

    let mut held: Vec<_> = leases.into_iter().filter(|l| l.job.function == function("a")).collect();
    let done = held.remove(0);
    queue.acknowledge(&done.job.id, done.epoch).await;
    held.extend(queue.lease(at(0), 100, 3).await);
    assert_eq!(held.len(), 3);

    let back = held.remove(0);
    queue.release(&back.job.id, back.epoch, at(1_000)).await;
    held.extend(queue.lease(at(0), 100, 3).await);
    assert_eq!(held.len(), 3);

    held.extend(queue.lease(at(0), 100, 5).await);
    assert_eq!(held.len(), 5, "a higher limit makes room too");
    let done = held.remove(0);
    queue.acknowledge(&done.job.id, done.epoch).await;
    assert_eq!(queue.lease(at(0), 100, 3).await, [], "a lower limit holds at once");
    assert_eq!(count_of(&held, "a"), 4);
}

/// Handed out one by one, a hot function gets no more than its turn.
pub async fn a_hot_function_starves_no_quiet_one(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let quiet: Vec<String> = (0..100).map(|i| format!("quiet-{i}")).collect();
    queue
        .push((0..2_000).map(|i| job("hot", run(i), 0)).collect(), Origin::Commit)
        .await;
    assert_eq!(queue.lease(at(0), 5, 10_000).await.len(), 5);
    queue
        .push(
            quiet
                .iter()
                .zip(3_000..)
                .map(|(name, i)| job(name, run(i), 0))
                .collect(),
            Origin::Commit,
        )
        .await;

    // In one call: a second job for one function only after a first for each.
    let leases = queue.lease(at(0), 120, 10_000).await;
    assert_eq!(count_of(&leases, "hot"), 20);
    for name in &quiet {
        assert_eq!(count_of(&leases, name), 1, "{name}");
    }

    // Over calls that ask for one: the newcomer's turn comes within two rounds.
    queue
        .push(
            quiet
                .iter()
                .zip(4_000..)
                .map(|(name, i)| job(name, run(i), 0))
                .collect(),
            Origin::Commit,
        )
        .await;
    let mut served = HashSet::new();
    for _ in 0..202 {
        for lease in queue.lease(at(0), 1, 10_000).await {
            served.insert(lease.job.function);
        }
    }
    assert_eq!(served.len(), 101);
}

/// A function at its limit costs the others neither turns nor places.
pub async fn a_blocked_function_blocks_no_other(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue
        .push((0..500).map(|i| job("blocked", run(i), 0)).collect(), Origin::Commit)
        .await;
    assert_eq!(queue.lease(at(0), 100, 2).await.len(), 2);
    queue
        .push((1_000..1_002).map(|i| job("free", run(i), 0)).collect(), Origin::Commit)
        .await;
    let leases = queue.lease(at(0), 2, 2).await;
    assert_eq!(count_of(&leases, "free"), 2);
}

/// The next due time is exact for what is delayed, in the past for what is ready, and skips what is leased.
pub async fn the_next_due_time(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let jobs = [(0, 300), (1, 100), (2, 200)].map(|(created, due)| job("a", run(created), due));
    queue.push(jobs.to_vec(), Origin::Commit).await;
    assert_eq!(queue.next_due().await, Some(at(100)));
    assert_eq!(queue.lease(at(150), 0, 1).await, []);
    assert!(queue.next_due().await <= Some(at(150)), "one is ready");
    let lease = lease_one(&queue, 150).await;
    assert_eq!(queue.next_due().await, Some(at(200)));
    queue.acknowledge(&lease.job.id, lease.epoch).await;
    assert_eq!(queue.next_due().await, Some(at(200)));
    queue.forget_run(run(2)).await;
    assert_eq!(queue.next_due().await, Some(at(300)));
    lease_one(&queue, 300).await;
    assert_eq!(queue.next_due().await, None);
}

/// Whoever sleeps until the next due time does not spin for jobs that nobody may have.
pub async fn a_blocked_job_is_not_due_next(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue
        .push(vec![job("a", run(0), 0), job("a", run(1), 0)], Origin::Commit)
        .await;
    queue.push(vec![job("b", run(2), 500)], Origin::Commit).await;
    let leases = queue.lease(at(0), 10, 1).await;
    assert_eq!(leases.len(), 1);
    assert_eq!(queue.next_due().await, Some(at(500)));
    queue.acknowledge(&leases[0].job.id, leases[0].epoch).await;
    assert!(queue.next_due().await <= Some(at(0)));
}

/// A run's leases are found by the run.
pub async fn the_leases_of_a_run(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let step = |name: &str, due| Job {
        id: JobId {
            run: run(1),
            key: JobKey::Step(StepId::from(name)),
        },
        ..job("a", run(1), due)
    };
    queue
        .push(vec![step("x", 0), step("y", 0), step("z", 100)], Origin::Commit)
        .await;
    queue
        .push(vec![job("a", run(0), 0), job("a", run(2), 0)], Origin::Commit)
        .await;
    let mut expected = lease_all(&queue, 0).await;
    assert_eq!(expected.len(), 4);
    expected.retain(|lease| lease.job.id.run == run(1));
    let mut leases = queue.leases_of(run(1)).await;
    for leases in [&mut expected, &mut leases] {
        leases.sort_by_key(|lease| lease.epoch);
    }
    assert_eq!(leases, expected);
    assert_eq!(queue.leases_of(run(9)).await, []);
}

/// The numbers for people.
pub async fn the_stats(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue
        .push((0..4).map(|i| job("a", run(i), -10 * i)).collect(), Origin::Commit)
        .await;
    queue
        .push(vec![job("b", run(10), 100), job("b", run(11), 200)], Origin::Commit)
        .await;
    assert_eq!(queue.lease(at(-5), 1, 9).await.len(), 1);
    assert_eq!(queue.lease(at(0), 1, 9).await.len(), 1);
    let stats = queue.stats().await;
    assert_eq!((stats.ready, stats.delayed, stats.leased), (2, 2, 2));
    assert_eq!(stats.oldest_lease, Some(at(-5)));
    assert_eq!(stats.spilled, 0);
    assert!(stats.capacity.is_none_or(|capacity| capacity >= 3_000));
    let mut partitions = stats.partitions;
    partitions.sort_by_key(|partition| partition.delayed);
    // At -5 run 1 is the oldest that is due, at 0 it is run 0: runs 2 and 3 are left, due at -20 and -30.
    let expected = [
        PartitionStats {
            function: function("a"),
            ready: 2,
            delayed: 0,
            leased: 2,
            oldest: Some(at(-30)),
        },
        PartitionStats {
            function: function("b"),
            ready: 0,
            delayed: 2,
            leased: 0,
            oldest: None,
        },
    ];
    assert_eq!(partitions, expected);
}
