//! The embedded queue against the port's suite, and what only it promises: bounds, and time that goes backwards.

mod bounds;
mod gates;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use callboard_actors::domain::{FunctionId, Gates, Job, JobId, JobKey, Priority, RunId, Timestamp};
use callboard_actors::ports::{Lease, Origin, Queue};

use super::state::State;
use super::{Capacity, EmbeddedQueue};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_750_000_000_000 + millis)
}

fn run(created: i64) -> RunId {
    RunId::new(at(created), 7)
}

fn job(name: &str, run: RunId, due: i64) -> Job {
    Job {
        id: JobId {
            run,
            key: JobKey::Start,
        },
        function: FunctionId::derive("test", name),
        attempt: 0,
        due: at(due),
        priority: Priority::NONE,
        payload: None,
        gates: Gates::NONE,
    }
}

fn drain(state: &mut State, now: i64) -> Vec<Lease> {
    state.lease(at(now), usize::MAX, usize::MAX)
}

fn roomy() -> Arc<dyn Queue> {
    Arc::new(EmbeddedQueue::new(Capacity::default()))
}

callboard_actors::queue_conformance!(roomy);

#[test]
fn a_hundred_thousand_jobs_of_one_function_delay_the_others_by_one_turn() {
    let mut state = State::new(Capacity {
        total: 200_000,
        per_function: 200_000,
    });
    state.push((0..100_000).map(|i| job("hot", run(i), 0)).collect());
    assert_eq!(state.lease(at(0), 10, usize::MAX).len(), 10);
    let quiet = |i: i64| job(&i.to_string(), run(200_000 + i), 0);
    state.push((0..100).map(quiet).collect());
    let served: HashSet<_> = (0..101)
        .flat_map(|_| state.lease(at(0), 1, usize::MAX))
        .map(|lease| lease.job.function)
        .collect();
    assert_eq!(served.len(), 101);
}

#[test]
fn of_one_run_the_earlier_due_goes_first_then_the_key() {
    let key = |key, due| Job {
        id: JobId { run: run(0), key },
        ..job("a", run(0), due)
    };
    let step = |name: &str| JobKey::Step(name.into());
    let ordered = [
        key(JobKey::Cancel, 1),
        key(JobKey::Start, 2),
        key(step("x"), 2),
        key(step("y"), 2),
    ];
    let mut state = State::new(Capacity::default());
    state.push(ordered.iter().rev().cloned().collect());
    let leased: Vec<_> = drain(&mut state, 10).into_iter().map(|lease| lease.job).collect();
    assert_eq!(leased, ordered);
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_early() {
    let mut state = State::new(Capacity::default());
    state.push((0..10).map(|i| job("a", run(10 - i), i * 1_000)).collect());
    assert_eq!(state.lease(at(60_000), 0, 1), []);
    assert_eq!(state.stats().ready, 10);
    let leases = drain(&mut state, 3_500);
    state.audit();
    assert_eq!(leases.len(), 4);
    assert!(leases.iter().all(|lease| lease.job.due <= at(3_500)));
    assert_eq!(state.next_due(), Some(at(4_000)));
}

#[test]
fn functions_that_have_no_jobs_leave_nothing_behind() {
    let mut state = State::new(Capacity::default());
    for i in 0..1_000 {
        state.push(vec![job(&i.to_string(), run(i), 0)]);
        for lease in drain(&mut state, 0) {
            state.acknowledge(&lease.job.id, lease.epoch);
        }
    }
    state.audit();
    assert_eq!(state.stats().partitions, []);
}

#[tokio::test]
async fn after_a_panic_inside_it_starts_over_empty() {
    let queue = EmbeddedQueue::new(Capacity::default());
    let one = job("a", run(0), 0);
    queue.push(vec![one.clone()], Origin::Commit).await;
    let before = queue.lease(at(0), 1, 1).await;
    let panicked = catch_unwind(AssertUnwindSafe(|| queue.with(|_| panic!("a defect"))));
    assert!(panicked.is_err());

    assert_eq!(queue.next_due().await, None);
    queue.push(vec![one.clone()], Origin::Commit).await;
    let after = queue.lease(at(0), 1, 1).await;
    assert!(after[0].epoch > before[0].epoch, "what was leased before is stale");
    queue.acknowledge(&one.id, before[0].epoch).await;
    assert_eq!(queue.leases_of(run(0)).await, after);
}

#[test]
fn threads_share_the_work() {
    const JOBS: i64 = 4_000;
    let queue = EmbeddedQueue::new(Capacity::default());
    let work = |part: i64| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("starts");
        let mut done = Vec::new();
        runtime.block_on(async {
            for created in (part..JOBS).step_by(4) {
                queue.push(vec![job("a", run(created), 0)], Origin::Commit).await;
                for lease in queue.lease(at(0), 2, 5).await {
                    queue.acknowledge(&lease.job.id, lease.epoch).await;
                    done.push(lease.job.id);
                }
            }
        });
        done
    };
    let mut done = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|part| scope.spawn(move || work(part))).collect();
        let done = workers.into_iter().flat_map(|worker| worker.join().expect("works"));
        done.collect::<Vec<_>>()
    });
    let mut state = queue.lock();
    state.audit();
    done.extend(drain(&mut state, 0).into_iter().map(|lease| lease.job.id));
    assert_eq!(i64::try_from(done.len()), Ok(JOBS));
    assert_eq!(done.into_iter().collect::<HashSet<_>>().len(), 4_000);
}
