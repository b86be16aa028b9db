//! What gates cost the embedded queue: memory that is freed, time that is printed, and whom a crowd keeps out.

use std::time::{Duration, Instant};

use callboard_actors::domain::{
    FunctionId, Gate, GateKind, Gates, Job, JobId, JobKey, Limit, Limits, Rate, RuleId, Scope, StepId,
};
use callboard_actors::ports::LimitTable;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{at, job, run};
use crate::queue::embedded::Capacity;
use crate::queue::embedded::state::State;

const KEY: Option<&str> = Some("event.data.key");

fn function(name: &str) -> FunctionId {
    FunctionId::derive("test", name)
}

fn limits(rules: &[(GateKind, Limit)]) -> Limits {
    let scope = |kind| {
        if kind == GateKind::SharedSlot {
            Scope::Env
        } else {
            Scope::Fn
        }
    };
    Limits::new(
        rules
            .iter()
            .map(|(kind, limit)| (RuleId::derive(*kind, scope(*kind), KEY), *limit)),
    )
}

fn a_rate(seconds: u64) -> Limit {
    Limit::Rate(Rate::new(1, Duration::from_secs(seconds), 0))
}

fn state(capacity: usize, functions: &[(&str, Limits)]) -> State {
    let mut state = State::new(Capacity {
        total: capacity,
        per_function: capacity,
    });
    let functions = functions.iter().map(|(name, limits)| (function(name), limits.clone()));
    state.configure(LimitTable {
        revision: 1,
        functions: functions.collect(),
    });
    state
}

fn gated(name: &str, created: i64, kinds: &[GateKind], key: &str) -> Job {
    let gates = kinds.iter().map(|kind| {
        let scope = if *kind == GateKind::SharedSlot {
            Scope::Env
        } else {
            Scope::Fn
        };
        Gate::new(*kind, scope, function(name), KEY, key)
    });
    Job {
        gates: Gates::new(gates.collect()),
        ..job(name, run(created), 0)
    }
}

#[test]
fn a_hundred_thousand_at_a_gate_keep_a_hundred_functions_waiting_for_nothing() {
    let crowd = limits(&[(GateKind::Slot, Limit::Slots(1))]);
    let mut state = state(200_000, &[("crowd", crowd)]);
    state.push((0..100_000).map(|i| gated("crowd", i, &[GateKind::Slot], "")).collect());
    assert_eq!(state.lease(at(0), 10, 50).len(), 1);
    state.push(
        (0..100)
            .map(|i| job(&format!("quiet-{i}"), run(200_000 + i), 0))
            .collect(),
    );
    assert_eq!(state.lease(at(0), 100, 50).len(), 100);
    assert_eq!(state.lease(at(0), 100, 50), []);
    assert_eq!(state.next_due(), None);
}

#[test]
fn what_was_begun_pushes_out_what_waits_at_a_gate() {
    let one = limits(&[(GateKind::Slot, Limit::Slots(1))]);
    let mut state = state(10, &[("a", one)]);
    let keys = ["x", "y", "z"];
    let start = |i: i64| gated("a", i, &[GateKind::Slot], keys[usize::try_from(i % 3).expect("small")]);
    state.push((0..10).map(|i| start(i * 10)).collect());
    assert_eq!(state.lease(at(10), 1, 10).len(), 1);
    for created in [5, 15, 25] {
        let mut step = start(created);
        step.id.key = JobKey::Step(StepId::from("s"));
        let pushed = state.push(vec![step]);
        assert_eq!((pushed.accepted, pushed.spilled), (1, 1));
        state.audit();
    }
    let pushed = state.push(vec![start(1_000)]);
    assert_eq!((pushed.accepted, pushed.spilled), (0, 1), "the youngest gives way");
    let flow = state.flow(function("a"));
    assert_eq!((flow.rules[0].waiting, flow.rules[0].in_use), (9, 1));
    assert_eq!(flow.rules[0].oldest, Some(at(5)));
}

#[test]
fn a_throttle_goes_on_from_what_was_started_before() {
    let rules = limits(&[(GateKind::Throttle, a_rate(60))]);
    let mut state = state(100, &[("a", rules)]);
    let start = |created, key| gated("a", created, &[GateKind::Throttle], key);
    let bucket = |key| start(0, key).gates.as_slice()[0].bucket;
    let a = function("a");
    state.recall(vec![
        (a, bucket("x"), at(-90_000)),
        (a, bucket("x"), at(-20_000)),
        (a, bucket("y"), at(-70_000)),
    ]);
    state.push(vec![start(0, "x"), start(1, "y"), start(2, "z")]);
    let runs = |state: &mut State, now| -> Vec<_> {
        let leases = state.lease(at(now), 10, 10);
        leases.iter().map(|lease| lease.job.id.run).collect()
    };
    assert_eq!(runs(&mut state, 0), [run(1), run(2)]);
    assert_eq!(state.next_due(), Some(at(40_000)));
    assert_eq!(runs(&mut state, 40_000), [run(0)]);
    state.audit();
}

#[test]
fn keys_that_nobody_uses_are_forgotten() {
    let rules = limits(&[(GateKind::Slot, Limit::Slots(1)), (GateKind::Throttle, a_rate(60))]);
    let mut state = state(50_000, &[("a", rules)]);
    for round in 0..10 {
        let start = |i: i64| gated("a", i, &[GateKind::Slot, GateKind::Throttle], &format!("{round}-{i}"));
        state.push((0..1_000).map(start).collect());
        let leases = state.lease(at(round * 1_000), usize::MAX, usize::MAX);
        assert_eq!(leases.len(), 1_000);
        for lease in leases {
            state.acknowledge(&lease.job.id, lease.epoch);
        }
        let (buckets, lines, resting) = state.gate_sizes();
        assert_eq!((buckets, lines), (0, 0));
        assert_eq!(
            i64::try_from(resting),
            Ok((round + 1) * 1_000),
            "until they are as good as new"
        );
    }
    assert_eq!(state.lease(at(69_000), 1, 1), []);
    assert_eq!(state.gate_sizes(), (0, 0, 0));
    state.audit();
}

/// One call of a random history.
#[derive(Debug, Clone)]
enum Call {
    Push(Vec<(i64, bool, i64)>),
    Lease(i64, usize, usize),
    Acknowledge(usize),
    Release(usize, i64),
    Forget(i64),
    Configure([u32; 3]),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => vec((0..40_i64, any::<bool>(), -2_000..4_000_i64), 0..8).prop_map(Call::Push),
        4 => (-3_000..3_000_i64, 0..6_usize, 0..4_usize).prop_map(|(by, max, limit)| Call::Lease(by, max, limit)),
        2 => any::<usize>().prop_map(Call::Acknowledge),
        2 => (any::<usize>(), -2_000..4_000_i64).prop_map(|(lease, due)| Call::Release(lease, due)),
        1 => (0..40_i64).prop_map(Call::Forget),
        1 => any::<[u32; 3]>().prop_map(|numbers| Call::Configure(numbers.map(|number| number % 4))),
    ]
}

proptest! {
    /// In little room, with gates everywhere, the books agree after every call.
    #[test]
    fn whatever_happens_the_books_agree(total in 1..20_usize, calls in vec(call(), 1..80)) {
        const NAMES: [&str; 3] = ["a", "b", "c"];
        const KINDS: [GateKind; 3] = [GateKind::Throttle, GateKind::Slot, GateKind::SharedSlot];
        let mut state = state(total, &[]);
        let (mut now, mut leases, mut revision) = (10_000, Vec::new(), 1);
        for call in calls {
            match call {
                Call::Push(specs) => {
                    let jobs = specs.into_iter().map(|(created, is_step, due)| {
                        let number = usize::try_from(created).expect("small");
                        let (name, key) = (NAMES[number % 3], ["x", "y"][number % 2]);
                        let mut one = gated(name, created, &KINDS[number % 4..], key);
                        one.due = at(now + due);
                        if is_step {
                            one.id = JobId { run: one.id.run, key: JobKey::Step(StepId::from("s")) };
                            one.gates = one.gates.without_throttle();
                        }
                        one
                    });
                    state.push(jobs.collect());
                }
                Call::Lease(by, max, limit) => {
                    now += by;
                    leases.extend(state.lease(at(now), max, limit));
                }
                Call::Acknowledge(index) if !leases.is_empty() => {
                    let lease = leases.swap_remove(index % leases.len());
                    state.acknowledge(&lease.job.id, lease.epoch);
                }
                Call::Release(index, due) if !leases.is_empty() => {
                    let lease = leases.swap_remove(index % leases.len());
                    state.release(&lease.job.id, lease.epoch, at(now + due));
                }
                Call::Acknowledge(_) | Call::Release(..) => {}
                Call::Forget(created) => state.forget_run(run(created)),
                Call::Configure([slots, shared, seconds]) => {
                    revision += 1;
                    let rules = [
                        (GateKind::Slot, Limit::Slots(slots)),
                        (GateKind::SharedSlot, Limit::Slots(shared)),
                        (GateKind::Throttle, a_rate(u64::from(seconds))),
                    ];
                    let rules = rules.into_iter().zip([slots, shared, seconds]).filter(|(_, number)| *number > 0);
                    let rules = limits(&rules.map(|(rule, _)| rule).collect::<Vec<_>>());
                    let functions = NAMES.map(|name| (function(name), rules.clone())).to_vec();
                    state.configure(LimitTable { revision, functions });
                }
            }
            state.audit();
            prop_assert_eq!(state.stats().leased, leases.len());
        }
    }
}

#[test]
#[ignore = "prints figures and asserts nothing about them"]
fn a_job_with_one_of_ten_thousand_keys() {
    const JOBS: i64 = 400_000;
    let rules = limits(&[(GateKind::Slot, Limit::Slots(2))]);
    for round in 0..6 {
        let kinds: &[GateKind] = if round % 2 == 0 { &[] } else { &[GateKind::Slot] };
        let mut state = state(50_000, &[("a", rules.clone())]);
        let jobs: Vec<_> = (0..JOBS)
            .map(|i| gated("a", i, kinds, &(i % 10_000).to_string()))
            .collect();
        let mut jobs = jobs.into_iter();
        // A backlog, of which there is always as much.
        state.push(jobs.by_ref().take(20_000).collect());
        let (start, mut done) = (Instant::now(), 0);
        while done < JOBS - 20_000 {
            let leases = state.lease(at(0), 64, 10_000);
            done += i64::try_from(leases.len()).expect("small");
            for lease in leases {
                state.acknowledge(&lease.job.id, lease.epoch);
            }
            state.push(jobs.by_ref().take(64).collect());
        }
        let each = start.elapsed().as_secs_f64() / 380_000.0 * 1e9;
        println!(
            "{}: {each:.0} ns per job",
            if kinds.is_empty() { "no gates" } else { "10,000 keys" }
        );
    }
}
