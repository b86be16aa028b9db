//! Random histories of jobs with gates, checked call by call against a model made of lists and scans.
//!
//! The model looks at every lease when it is given: all its gates must have been open at that moment, and no older job of
//! its function may have been passed over. Whenever a call could have handed out more, nothing that may go is left.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::gates::{KEYED, Rule, SHARED, THROTTLE, WHOLE, table};
use super::{at, function, run};
use crate::domain::{
    BucketId, Gate, GateKind, Gates, Job, JobId, JobKey, Limit, Limits, Priority, Rate, StepId, Timestamp,
};
use crate::ports::{Lease, LimitTable, Origin, Queue};

const RUNS: i64 = 15;
const FUNCTIONS: [&str; 3] = ["a", "b", "c"];
const RULES: [Rule; 4] = [THROTTLE, WHOLE, KEYED, SHARED];

/// A call, with times relative to the present.
#[derive(Debug, Clone)]
enum Call {
    Push(Vec<(i64, bool, u32, i64)>),
    Lease {
        later: i64,
        max: usize,
        per_function: usize,
    },
    Acknowledge(usize),
    TakeBack(usize),
    Release(usize, i64),
    Forget(i64),
    /// The clock is set by so much.
    Step(i64),
    /// The number of each rule of each function; 0 for none. And which function's gates are shut, if any.
    Configure([[u8; 4]; 3], usize),
}

fn call() -> impl Strategy<Value = Call> {
    let spec = (0..RUNS, any::<bool>(), 0..2_u32, -3_000..2_000_i64);
    let lease = (0..1_500_i64, 0..8_usize, 1..6_usize).prop_map(|(later, max, per_function)| Call::Lease {
        later,
        max,
        per_function,
    });
    prop_oneof![
        4 => vec(spec, 0..6).prop_map(Call::Push),
        6 => lease,
        4 => any::<usize>().prop_map(Call::Acknowledge),
        2 => any::<usize>().prop_map(Call::TakeBack),
        2 => (any::<usize>(), -3_000..2_000_i64).prop_map(|(lease, due)| Call::Release(lease, due)),
        1 => (0..RUNS).prop_map(Call::Forget),
        1 => prop_oneof![-20_000..-1_i64, 5_000..20_000_i64].prop_map(Call::Step),
        1 => (any::<[[u8; 4]; 3]>(), 0..9_usize)
            .prop_map(|(numbers, shut)| Call::Configure(numbers.map(|of| of.map(|n| n % 4)), shut)),
    ]
}

/// Runs `cases` random histories, each on a fresh queue of the factory.
///
/// # Panics
/// With the smallest failing history found.
pub fn gate_histories(cases: u32, factory: impl Fn() -> Arc<dyn Queue>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the runtime starts");
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&vec(call(), 1..80), |calls| {
        runtime.block_on(async {
            let queue = factory();
            let mut model = Model::default();
            for call in calls {
                model.make(&queue, call).await?;
                model.compare_next_due(queue.next_due().await)?;
            }
            Ok(())
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// A job as the model knows it.
#[derive(Debug)]
struct Known {
    job: Job,
    not_before: Timestamp,
    lease: Option<Lease>,
    pending: Option<Job>,
    forgotten: bool,
    /// It has passed its throttle.
    has_started: bool,
    /// When, unless a newer version or the end of its run has come meanwhile.
    turn: Option<Timestamp>,
}

impl Known {
    fn gates(&self) -> Gates {
        if self.has_started {
            self.job.gates.without_throttle()
        } else {
            self.job.gates.clone()
        }
    }
}

#[derive(Debug, Default)]
struct Model {
    now: i64,
    leased_at: Option<i64>,
    limit: Option<usize>,
    /// Whether the last call was a lease that had more to give than there was.
    exhausted: bool,
    table: Option<LimitTable>,
    marks: HashMap<BucketId, i64>,
    jobs: Vec<Known>,
    given: Vec<Lease>,
}

impl Model {
    async fn make(&mut self, queue: &Arc<dyn Queue>, call: Call) -> Result<(), TestCaseError> {
        self.exhausted = false;
        match call {
            Call::Push(specs) => {
                let jobs: Vec<_> = specs.into_iter().map(|spec| self.job(spec)).collect();
                let pushed = queue.push(jobs.clone(), Origin::Commit).await;
                prop_assert_eq!(pushed.accepted, jobs.len());
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
                let back = self.leased_at.map_or(0, |before| before - self.now);
                if back > 2_000 {
                    // Its clock was set.
                    self.marks.values_mut().for_each(|mark| *mark -= back * 1_000);
                }
                self.leased_at = Some(self.now);
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
            Call::TakeBack(index) => {
                if let Some(lease) = self.pick(index) {
                    queue.take_back(&lease.job.id, lease.epoch).await;
                    self.return_turn(&lease);
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
                    known.turn = None;
                }
            }
            Call::Step(by) => self.now += by,
            Call::Configure(numbers, shut) => {
                let revision = self.table.as_ref().map_or(1, |table| table.revision + 1);
                let limit = |rule: Rule, number: u8| match rule.0 {
                    GateKind::Throttle => {
                        Limit::Rate(Rate::new(u32::from(number), Duration::from_secs(u64::from(number)), 1))
                    }
                    _ => Limit::Slots(u32::from(number)),
                };
                let of = |numbers: [u8; 4]| -> Vec<_> {
                    let rules = RULES.into_iter().zip(numbers).filter(|(_, number)| *number > 0);
                    rules.map(|(rule, number)| (rule, limit(rule, number))).collect()
                };
                let rules = numbers.map(of);
                let functions: Vec<_> = FUNCTIONS.into_iter().zip(rules.iter().map(Vec::as_slice)).collect();
                let mut table = table(revision, &functions);
                if let Some((_, limits)) = table.functions.get_mut(shut) {
                    *limits = limits.clone().shut();
                }
                queue.configure(table.clone()).await;
                // Nobody waits longer than a throttle that is used up.
                if let Some(leased_at) = self.leased_at {
                    for (name, rules) in functions {
                        for key in ["x", "y"] {
                            let bucket = THROTTLE.gate(function(name), key).bucket;
                            if let Some((_, Limit::Rate(rate))) = rules.first()
                                && let Some(mark) = self.marks.get_mut(&bucket)
                            {
                                *mark = rate.at_most(*mark, at(leased_at));
                            }
                        }
                    }
                }
                self.table = Some(table);
            }
        }
        Ok(())
    }

    /// A run has a function and keys for good; the second function is throttled only, every fifth run has no gates.
    fn job(&self, (created, is_step, attempt, due): (i64, bool, u32, i64)) -> Job {
        let number = usize::try_from(created).expect("small");
        let name = FUNCTIONS[number % 3];
        let rules: &[Rule] = match (number % 3, number % 5) {
            (_, 4) => &[],
            (1, _) => &[THROTTLE],
            _ => &RULES,
        };
        let key = ["x", "y"][number % 2];
        let gates = rules.iter().map(|rule| match rule.2 {
            Some("event.data.key") => rule.gate(function(name), key),
            _ => rule.gate(function(name), ""),
        });
        let gates = Gates::new(gates.collect());
        let key = if is_step {
            JobKey::Step(StepId::from("s"))
        } else {
            JobKey::Start
        };
        Job {
            gates: gates.of_job(&key, attempt),
            id: JobId { run: run(created), key },
            function: function(name),
            attempt,
            due: at(self.now + due),
            priority: Priority::NONE,
            payload: None,
        }
    }

    fn push(&mut self, job: Job) {
        let Some(known) = self.jobs.iter_mut().find(|known| known.job.id == job.id) else {
            self.jobs.push(new(job, None));
            return;
        };
        known.forgotten = false;
        let newest = known.pending.as_ref().unwrap_or(&known.job).attempt;
        if known.job == job || job.attempt < newest {
            return;
        }
        if known.lease.is_some() {
            known.pending = Some(job);
            known.turn = None;
        } else {
            *known = new(job, None);
        }
    }

    fn pick(&self, index: usize) -> Option<Lease> {
        let back = (index % 64).min(index / 64 % 64);
        self.given.iter().rev().cycle().nth(back).cloned()
    }

    fn end(&mut self, lease: &Lease, due: Option<Timestamp>) {
        let Some(index) = self.jobs.iter().position(|known| known.lease.as_ref() == Some(lease)) else {
            return;
        };
        let known = &mut self.jobs[index];
        known.lease = None;
        if let Some(job) = known.pending.take() {
            *known = new(job, due);
        } else if let Some(due) = due.filter(|_| !known.forgotten) {
            known.not_before = due;
        } else {
            self.jobs.remove(index);
        }
    }

    fn return_turn(&mut self, lease: &Lease) {
        let mut jobs = self.jobs.iter();
        let Some(known) = jobs.find(|known| known.lease.as_ref() == Some(lease)) else {
            return;
        };
        let Some(turn) = known.turn else { return };
        let gate = known.job.gates.as_slice()[0].clone();
        if let Some(Limit::Rate(rate)) = self.limit_of(&known.job, &gate) {
            let now = at(self.leased_at.expect("there was a lease"));
            let mark = rate.after_return(self.mark(&gate), turn, now);
            self.marks.insert(gate.bucket, mark);
        }
    }

    fn limits_of(&self, job: &Job) -> Option<&Limits> {
        let functions = &self.table.as_ref()?.functions;
        let mut functions = functions.iter();
        functions.find_map(|(id, limits)| (*id == job.function).then_some(limits))
    }

    fn limit_of(&self, job: &Job, gate: &Gate) -> Option<Limit> {
        self.limits_of(job)?.of(gate.rule)
    }

    fn held(&self, bucket: BucketId) -> usize {
        let holds = |known: &&Known| {
            let mut gates = known.job.gates.as_slice().iter();
            known.lease.is_some() && gates.any(|gate| gate.kind != GateKind::Throttle && gate.bucket == bucket)
        };
        self.jobs.iter().filter(holds).count()
    }

    fn is_open(&self, job: &Job, gate: &Gate, now: Timestamp) -> bool {
        self.table.is_some()
            && self.limits_of(job).is_none_or(|limits| !limits.is_shut())
            && match self.limit_of(job, gate) {
                None => true,
                Some(Limit::Slots(slots)) => self.held(gate.bucket) < usize::try_from(slots).expect("small"),
                Some(Limit::Rate(rate)) => rate.is_open(self.mark(gate), now),
            }
    }

    fn mark(&self, gate: &Gate) -> i64 {
        self.marks.get(&gate.bucket).copied().unwrap_or(Rate::RESTED)
    }

    /// Whether a job may be handed out then.
    fn may_go(&self, known: &Known, now: Timestamp, per_function: usize) -> bool {
        let of_function = |other: &&Known| other.lease.is_some() && other.job.function == known.job.function;
        known.lease.is_none()
            && known.not_before <= now
            && self.jobs.iter().filter(of_function).count() < per_function
            && known
                .gates()
                .as_slice()
                .iter()
                .all(|gate| self.is_open(&known.job, gate, now))
    }

    fn check_leases(&mut self, leases: Vec<Lease>, max: usize, per_function: usize) -> Result<(), TestCaseError> {
        let now = at(self.now);
        prop_assert!(leases.len() <= max);
        self.exhausted = leases.len() < max;
        for lease in leases {
            let index = self.jobs.iter().position(|known| known.job.id == lease.job.id);
            let Some(index) = index else {
                return Err(TestCaseError::fail(format!("{lease:?} is of no job")));
            };
            let known = &self.jobs[index];
            prop_assert_eq!(&known.job, &lease.job);
            prop_assert!(self.may_go(known, now, per_function), "{:?} may not go", lease);
            let older = self.jobs.iter().find(|other| {
                other.job.function == known.job.function
                    && other.job.id.run.at() < known.job.id.run.at()
                    && self.may_go(other, now, per_function)
            });
            prop_assert!(older.is_none(), "{:?} came before {:?}", lease, older);
            let mut took_turn = false;
            for gate in known.gates().as_slice() {
                if let Some(Limit::Rate(rate)) = self.limit_of(&known.job, gate) {
                    let mark = rate.after_start(self.mark(gate), now);
                    self.marks.insert(gate.bucket, mark);
                    took_turn = true;
                }
            }
            let known = &mut self.jobs[index];
            if took_turn {
                known.turn = Some(now);
            }
            known.has_started = true;
            known.lease = Some(lease.clone());
            self.given.push(lease);
        }
        let withheld = self.jobs.iter().find(|known| self.may_go(known, now, per_function));
        prop_assert!(!self.exhausted || withheld.is_none(), "{:?} was withheld", withheld);
        Ok(())
    }

    fn compare_next_due(&self, next: Option<Timestamp>) -> Result<(), TestCaseError> {
        let (now, limit) = (at(self.now), self.limit.unwrap_or(usize::MAX));
        if !self.exhausted {
            return Ok(());
        }
        prop_assert!(
            next.is_none_or(|next| next > now),
            "{:?} would make one spin at {:?}",
            next,
            now
        );
        // The instants at which something may change by time alone.
        let delayed = self.jobs.iter().map(|known| known.not_before);
        let opens = self.jobs.iter().flat_map(|known| {
            let gates = known.gates();
            let rates = gates
                .as_slice()
                .iter()
                .filter_map(|gate| match self.limit_of(&known.job, gate) {
                    Some(Limit::Rate(rate)) => Some(rate.opens_at(self.mark(gate))),
                    _ => None,
                });
            rates.collect::<Vec<_>>()
        });
        let instants = delayed.chain(opens).filter(|instant| *instant > now);
        let first = instants
            .filter(|instant| self.jobs.iter().any(|known| self.may_go(known, *instant, limit)))
            .min();
        if let Some(first) = first {
            prop_assert!(
                next.is_some_and(|next| next <= first),
                "{:?} is later than {:?}",
                next,
                first
            );
        }
        Ok(())
    }
}

fn new(job: Job, not_before: Option<Timestamp>) -> Known {
    Known {
        not_before: not_before.map_or(job.due, |due| due.max(job.due)),
        job,
        lease: None,
        pending: None,
        forgotten: false,
        has_started: false,
        turn: None,
    }
}
