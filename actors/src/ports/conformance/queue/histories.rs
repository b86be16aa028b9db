//! Random histories, checked call by call against a model made of lists and scans.
//!
//! The model does not predict which job is handed out where the port leaves a choice; it checks that what was handed
//! out was allowed, and that nothing was withheld.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::{at, function, run};
use crate::domain::{FunctionId, Gates, Job, JobId, JobKey, Json, Priority, RunId, StepId, Timestamp};
use crate::ports::{Lease, Origin, Queue};

const RUNS: i64 = 12;
const FUNCTIONS: [&str; 4] = ["a", "b", "c", "d"];

/// A call, with times relative to the present.
#[derive(Debug, Clone)]
enum Call {
    Push(Vec<Spec>),
    Lease {
        later: i64,
        max: usize,
        per_function: usize,
    },
    /// Of some lease ever given, held or not.
    Acknowledge(usize),
    Release(usize, i64),
    Forget(i64),
}

/// A job, small enough that random ones meet.
#[derive(Debug, Clone)]
struct Spec {
    run: i64,
    key: u8,
    attempt: u32,
    payload: bool,
    due: i64,
}

fn call() -> impl Strategy<Value = Call> {
    let spec =
        (0..RUNS, 0..3_u8, 0..2_u32, any::<bool>(), -3..6_i64).prop_map(|(run, key, attempt, payload, due)| Spec {
            run,
            key,
            attempt,
            payload,
            due,
        });
    let lease = (0..4_i64, 0..8_usize, 0..5_usize).prop_map(|(later, max, per_function)| Call::Lease {
        later,
        max,
        per_function,
    });
    prop_oneof![
        4 => vec(spec, 0..6).prop_map(Call::Push),
        4 => lease,
        3 => any::<usize>().prop_map(Call::Acknowledge),
        2 => (any::<usize>(), -3..6_i64).prop_map(|(lease, due)| Call::Release(lease, due)),
        1 => (0..RUNS).prop_map(Call::Forget),
    ]
}

/// Runs `cases` random histories, each on a fresh queue of the factory.
///
/// Not async, because the search for a smaller failing history is not; the factory is called inside the runtime that
/// runs the history.
///
/// # Panics
/// With the smallest failing history found.
pub fn histories(cases: u32, factory: impl Fn() -> Arc<dyn Queue>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the runtime starts");
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&vec(call(), 1..60), |calls| {
        runtime.block_on(async {
            let queue = factory();
            let mut model = Model::default();
            for call in calls {
                model.make(&queue, call).await?;
                model.compare(&queue).await?;
            }
            Ok(())
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Its place in the line of its function.
fn counts_from(job: &Job) -> Timestamp {
    job.priority.counts_from(job.id.run.at())
}

/// A job as the model knows it.
#[derive(Debug)]
struct Known {
    job: Job,
    not_before: Timestamp,
    lease: Option<Lease>,
    pending: Option<Job>,
    forgotten: bool,
}

/// What a queue must hold.
#[derive(Debug, Default)]
struct Model {
    now: i64,
    limit: Option<usize>,
    /// Whether the last call was a lease that had more to give than there was.
    exhausted: bool,
    jobs: Vec<Known>,
    given: Vec<Lease>,
}

impl Model {
    async fn make(&mut self, queue: &Arc<dyn Queue>, call: Call) -> Result<(), TestCaseError> {
        self.exhausted = false;
        match call {
            Call::Push(specs) => {
                let jobs: Vec<_> = specs.iter().map(|spec| self.job(spec)).collect();
                let pushed = queue.push(jobs.clone(), Origin::Commit).await;
                prop_assert_eq!((pushed.accepted, pushed.spilled), (jobs.len(), 0));
                for job in jobs {
                    self.push(job);
                }
            }
            Call::Lease {
                later,
                max,
                per_function,
            } => {
                self.now += later;
                self.limit = Some(per_function);
                let leases = queue.lease(at(self.now), max, per_function).await;
                self.check_leases(leases, max, per_function)?;
            }
            Call::Acknowledge(index) => {
                if let Some(lease) = self.pick(index) {
                    queue.acknowledge(&lease.job.id, lease.epoch).await;
                    self.end(&lease, None);
                }
            }
            Call::Release(index, due) => {
                if let Some(lease) = self.pick(index) {
                    let due = at(self.now + due);
                    queue.release(&lease.job.id, lease.epoch, due).await;
                    self.end(&lease, Some(due));
                }
            }
            Call::Forget(created) => {
                queue.forget_run(run(created)).await;
                self.jobs
                    .retain(|known| known.job.id.run != run(created) || known.lease.is_some());
                for known in self.jobs.iter_mut().filter(|known| known.job.id.run == run(created)) {
                    known.pending = None;
                    known.forgotten = true;
                }
            }
        }
        Ok(())
    }

    fn job(&self, spec: &Spec) -> Job {
        let functions = i64::try_from(FUNCTIONS.len()).expect("few");
        Job {
            id: JobId {
                run: run(spec.run),
                key: match spec.key {
                    0 => JobKey::Start,
                    1 => JobKey::Step(StepId::from("s")),
                    _ => JobKey::Wake(StepId::from("s")),
                },
            },
            function: function(FUNCTIONS[usize::try_from(spec.run % functions).expect("small")]),
            attempt: spec.attempt,
            due: at(self.now + spec.due),
            // Of a run, all jobs have the same.
            priority: Priority::from_seconds(i32::try_from(spec.run % 3).expect("small")),
            payload: spec.payload.then(Json::null),
            gates: Gates::NONE,
        }
    }

    fn push(&mut self, job: Job) {
        let Some(known) = self.jobs.iter_mut().find(|known| known.job.id == job.id) else {
            self.jobs.push(Known {
                not_before: job.due,
                job,
                lease: None,
                pending: None,
                forgotten: false,
            });
            return;
        };
        known.forgotten = false;
        let newest = known.pending.as_ref().unwrap_or(&known.job).attempt;
        if known.job == job || job.attempt < newest {
            return;
        }
        if known.lease.is_some() {
            known.pending = Some(job);
        } else {
            known.not_before = job.due;
            known.job = job;
        }
    }

    fn pick(&self, index: usize) -> Option<Lease> {
        // Recent ones more often: most of the old ones have ended.
        let back = (index % 64).min(index / 64 % 64);
        self.given.iter().rev().cycle().nth(back).cloned()
    }

    /// Ends a lease; `due` if it was released.
    fn end(&mut self, lease: &Lease, due: Option<Timestamp>) {
        let Some(index) = self.jobs.iter().position(|known| known.lease.as_ref() == Some(lease)) else {
            return;
        };
        let known = &mut self.jobs[index];
        known.lease = None;
        if let Some(new) = known.pending.take() {
            known.not_before = due.map_or(new.due, |due| due.max(new.due));
            known.job = new;
            known.forgotten = false;
        } else if let Some(due) = due.filter(|_| !known.forgotten) {
            known.not_before = due;
        } else {
            self.jobs.remove(index);
        }
    }

    /// Checks what was handed out against what was allowed, and notes it.
    fn check_leases(&mut self, leases: Vec<Lease>, max: usize, per_function: usize) -> Result<(), TestCaseError> {
        let now = at(self.now);
        let mut open: HashMap<FunctionId, (usize, usize)> = HashMap::new();
        for name in FUNCTIONS {
            let ready = self
                .ready()
                .filter(|known| known.job.function == function(name))
                .count();
            let room = per_function.saturating_sub(self.leased(function(name)));
            open.insert(function(name), (ready.min(room), 0));
        }
        let total: usize = open.values().map(|(most, _)| most).sum();
        prop_assert_eq!(leases.len(), total.min(max), "as many as allowed");

        for lease in leases {
            prop_assert_eq!(lease.since, now);
            prop_assert!(self.given.iter().all(|given| given.epoch < lease.epoch), "epochs rise");
            let Some(known) = self.jobs.iter_mut().find(|known| known.job.id == lease.job.id) else {
                return Err(TestCaseError::fail(format!("{lease:?} is of no job")));
            };
            prop_assert!(known.lease.is_none(), "{:?} is leased already", lease);
            prop_assert!(known.not_before <= now, "{:?} is not due", lease);
            prop_assert_eq!(&known.job, &lease.job);
            known.lease = Some(lease.clone());
            open.entry(lease.job.function).or_default().1 += 1;
            let older = self.ready().find(|known| {
                known.job.function == lease.job.function && counts_from(&known.job) < counts_from(&lease.job)
            });
            prop_assert!(older.is_none(), "{:?} came before {:?}", lease, older);
            self.given.push(lease);
        }

        let twice = open.values().any(|(_, got)| *got > 1);
        for (most, got) in open.values() {
            prop_assert!(got <= most, "no function more than its limit");
            prop_assert!(!twice || *most == 0 || *got > 0, "none twice before all once");
        }
        self.exhausted = total < max;
        Ok(())
    }

    /// Jobs that wait and were due at the last lease.
    fn ready(&self) -> impl Iterator<Item = &Known> {
        let now = self.limit.map_or(Timestamp::MIN, |_| at(self.now));
        self.waiting().filter(move |known| known.not_before <= now)
    }

    fn waiting(&self) -> impl Iterator<Item = &Known> {
        self.jobs.iter().filter(|known| known.lease.is_none())
    }

    fn leased(&self, function: FunctionId) -> usize {
        let held = |known: &&Known| known.job.function == function && known.lease.is_some();
        self.jobs.iter().filter(held).count()
    }

    /// Asks everything that can be asked.
    async fn compare(&self, queue: &Arc<dyn Queue>) -> Result<(), TestCaseError> {
        self.compare_next_due(queue.next_due().await)?;
        for created in 0..RUNS {
            self.compare_leases(run(created), queue.leases_of(run(created)).await)?;
        }

        let stats = queue.stats().await;
        let ready = self.ready().count();
        let leases = || self.jobs.iter().filter_map(|known| known.lease.as_ref());
        prop_assert_eq!(
            (stats.ready, stats.delayed, stats.leased, stats.spilled),
            (ready, self.waiting().count() - ready, leases().count(), 0)
        );
        prop_assert_eq!(stats.oldest_lease, leases().map(|lease| lease.since).min());
        for name in FUNCTIONS {
            let of = |known: &&Known| known.job.function == function(name);
            let part = stats.partitions.iter().find(|part| part.function == function(name));
            let found = part.map_or((0, 0, 0, None), |part| {
                (part.ready, part.delayed, part.leased, part.oldest)
            });
            let ready = self.ready().filter(of).count();
            let expected = (
                ready,
                self.waiting().filter(of).count() - ready,
                self.leased(function(name)),
                self.ready().filter(of).map(|known| known.not_before).min(),
            );
            prop_assert_eq!(found, expected, "{}", name);
            prop_assert_eq!(part.is_some(), self.jobs.iter().any(|known| of(&known)), "{}", name);
        }
        Ok(())
    }

    fn compare_next_due(&self, next: Option<Timestamp>) -> Result<(), TestCaseError> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let delayed = self
            .waiting()
            .map(|known| known.not_before)
            .filter(|due| self.limit.is_none() || *due > at(self.now))
            .min();
        let free = self.ready().any(|known| self.leased(known.job.function) < limit);
        if free {
            prop_assert!(
                next.is_some_and(|next| next <= at(self.now)),
                "{:?} for a ready job",
                next
            );
        } else if self.exhausted || self.ready().next().is_none() {
            prop_assert_eq!(next, delayed);
        }
        Ok(())
    }

    fn compare_leases(&self, run: RunId, mut found: Vec<Lease>) -> Result<(), TestCaseError> {
        let mut expected: Vec<_> = self
            .jobs
            .iter()
            .filter(|known| known.job.id.run == run)
            .filter_map(|known| known.lease.clone())
            .collect();
        expected.sort_by_key(|lease| lease.epoch);
        found.sort_by_key(|lease| lease.epoch);
        prop_assert_eq!(found, expected);
        Ok(())
    }
}
