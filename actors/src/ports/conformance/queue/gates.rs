//! Gates: slots and throttles, sentence by sentence; [`histories`](super::gate_histories) has the model.

use std::sync::Arc;
use std::time::Duration;

use super::waking::woken_by;
use super::{at, count_of, function, job, lease_all, lease_one, run};
use crate::domain::{
    FunctionId, Gate, GateKind, Gates, Job, JobId, JobKey, Limit, Limits, Rate, RuleId, Scope, StepId,
};
use crate::ports::{KeyFlow, Lease, LimitTable, Origin, Queue};

/// A rule of the tests: kind, scope and key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule(pub(super) GateKind, pub(super) Scope, pub(super) Option<&'static str>);

pub(super) const WHOLE: Rule = Rule(GateKind::Slot, Scope::Fn, None);
pub(super) const KEYED: Rule = Rule(GateKind::Slot, Scope::Fn, Some("event.data.key"));
pub(super) const SHARED: Rule = Rule(GateKind::SharedSlot, Scope::Account, Some("'global'"));
pub(super) const THROTTLE: Rule = Rule(GateKind::Throttle, Scope::Fn, Some("event.data.key"));

impl Rule {
    pub(super) fn id(self) -> RuleId {
        RuleId::derive(self.0, self.1, self.2)
    }

    pub(super) fn gate(self, function: FunctionId, value: &str) -> Gate {
        Gate::new(self.0, self.1, function, self.2, value)
    }
}

/// The table of this revision: numbers by function and rule.
pub(super) fn table(revision: u64, functions: &[(&str, &[(Rule, Limit)])]) -> LimitTable {
    let functions = functions.iter().map(|(name, rules)| {
        let rules = rules.iter().map(|(rule, limit)| (rule.id(), *limit));
        (function(name), Limits::new(rules))
    });
    LimitTable {
        revision,
        functions: functions.collect(),
    }
}

/// The job that starts this run, with a key's value for each of these rules.
pub(super) fn gated(name: &str, created: i64, rules: &[(Rule, &str)]) -> Job {
    let gates = rules.iter().map(|(rule, value)| rule.gate(function(name), value));
    let gates = Gates::new(gates.collect());
    Job {
        gates: gates.of_job(&JobKey::Start, 0),
        ..job(name, run(created), 0)
    }
}

pub(super) async fn push(queue: &Arc<dyn Queue>, jobs: Vec<Job>) {
    let count = jobs.len();
    assert_eq!(queue.push(jobs, Origin::Commit).await.accepted, count);
}

/// When the runs of these leases were created, in the order of the leases.
pub(super) fn created(leases: &[Lease]) -> Vec<i64> {
    let first = at(0).as_millis();
    leases
        .iter()
        .map(|lease| lease.job.id.run.at().as_millis() - first)
        .collect()
}

pub(super) async fn acknowledge(queue: &Arc<dyn Queue>, lease: &Lease) {
    queue.acknowledge(&lease.job.id, lease.epoch).await;
}

pub(super) fn a_rate(limit: u32, seconds: u64, burst: u32) -> Limit {
    Limit::Rate(Rate::new(limit, Duration::from_secs(seconds), burst))
}

/// Nothing passes a gate before the queue knows the numbers; what has no gates does.
pub async fn gates_are_shut_until_their_numbers_are_known(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    push(&queue, vec![gated("a", 0, &[(WHOLE, "")]), job("a", run(1), 0)]).await;
    assert_eq!(created(&lease_all(&queue, 0).await), [1]);
    assert_eq!(queue.next_due().await, None);
    let told = queue.configure(table(1, &[]));
    assert_eq!(
        woken_by(&queue, 0, 10, told).await.job.id.run,
        run(0),
        "a rule without a number is open"
    );
}

/// A slot is held exactly as long as its lease, however that ends, and who waits at the gate makes nobody spin.
pub async fn a_slot_is_held_as_long_as_a_lease(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue.configure(table(1, &[("a", &[(WHOLE, Limit::Slots(2))])])).await;
    push(&queue, (0..4).map(|i| gated("a", i, &[(WHOLE, "")])).collect()).await;
    let first = lease_all(&queue, 0).await;
    assert_eq!(created(&first), [0, 1]);
    assert_eq!(lease_all(&queue, 10).await, []);
    assert_eq!(queue.next_due().await, None);
    acknowledge(&queue, &first[0]).await;
    assert!(queue.next_due().await.is_some_and(|due| due <= at(10)));
    assert_eq!(created(&lease_all(&queue, 10).await), [2]);
    acknowledge(&queue, &first[0]).await;
    assert_eq!(lease_all(&queue, 10).await, [], "it gave back its slot once");
    let release = queue.release(&first[1].job.id, first[1].epoch, at(500));
    let next = woken_by(&queue, 10, 10, release).await;
    assert_eq!(next.job.id.run, run(3));
    assert_eq!(
        lease_all(&queue, 500).await,
        [],
        "what comes back takes a slot like anybody"
    );
    queue.forget_run(run(3)).await;
    assert_eq!(
        lease_all(&queue, 500).await,
        [],
        "an ended run's lease is one until it ends"
    );
    acknowledge(&queue, &next).await;
    assert_eq!(created(&lease_all(&queue, 500).await), [1]);
}

/// Each value of a key is for itself, and the oldest run that may go goes first.
pub async fn a_key_blocks_no_other(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue.configure(table(1, &[("a", &[(KEYED, Limit::Slots(1))])])).await;
    let keyed = |created: i64, key| gated("a", created, &[(KEYED, key)]);
    let jobs = vec![
        keyed(4, "y"),
        keyed(0, "x"),
        keyed(1, "x"),
        keyed(5, "z"),
        keyed(2, "x"),
        keyed(3, "y"),
    ];
    push(&queue, jobs).await;
    push(&queue, vec![job("a", run(6), 0)]).await;
    let first = queue.lease(at(0), 2, 10).await;
    assert_eq!(created(&first), [0, 3]);
    let rest = lease_all(&queue, 0).await;
    assert_eq!(created(&rest), [5, 6]);
    acknowledge(&queue, &first[0]).await;
    assert_eq!(created(&lease_all(&queue, 0).await), [1]);
    // Steps of a run stand before starts of later ones.
    let mut step = keyed(0, "y");
    step.id.key = JobKey::Step(StepId::from("s"));
    push(&queue, vec![step]).await;
    acknowledge(&queue, &first[1]).await;
    assert_eq!(created(&lease_all(&queue, 0).await), [0]);
    acknowledge(&queue, &rest[0]).await;
    assert_eq!(lease_all(&queue, 0).await, []);
}

/// With two limits a job needs room under both, and room under one that its oldest waiter can't use goes to the next.
pub async fn both_limits_count(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let numbers = [(WHOLE, Limit::Slots(2)), (KEYED, Limit::Slots(1))];
    queue.configure(table(1, &[("a", &numbers)])).await;
    let both = |created: i64, key| gated("a", created, &[(WHOLE, ""), (KEYED, key)]);
    let jobs = ["x", "x", "y", "y", "z", "x"];
    push(
        &queue,
        (0..).zip(jobs).map(|(created, key)| both(created, key)).collect(),
    )
    .await;
    let first = lease_all(&queue, 0).await;
    assert_eq!(created(&first), [0, 2]);
    acknowledge(&queue, &first[1]).await;
    let second = lease_all(&queue, 0).await;
    assert_eq!(created(&second), [3], "run 1 waits for x");
    acknowledge(&queue, &second[0]).await;
    let third = lease_all(&queue, 0).await;
    assert_eq!(created(&third), [4]);
    acknowledge(&queue, &first[0]).await;
    let fourth = lease_all(&queue, 0).await;
    assert_eq!(created(&fourth), [1]);
    acknowledge(&queue, &third[0]).await;
    assert_eq!(lease_all(&queue, 0).await, [], "x is taken");
    acknowledge(&queue, &fourth[0]).await;
    assert_eq!(created(&lease_all(&queue, 0).await), [5]);
}

/// Functions that name the same key in the same scope share its slots; each has its own number for them, and the oldest
/// run goes first.
pub async fn functions_share_slots(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let (one, two) = ([(SHARED, Limit::Slots(1))], [(SHARED, Limit::Slots(2))]);
    queue
        .configure(table(1, &[("a", &one), ("b", &one), ("c", &two)]))
        .await;
    let of = |name: &str, created: i64| gated(name, created, &[(SHARED, "global")]);
    push(
        &queue,
        vec![of("a", 5), of("b", 1), of("a", 2), of("b", 3), of("c", 4), of("c", 6)],
    )
    .await;
    // Whose turn it is among functions is not said while nobody holds a slot.
    let mut held = queue.lease(at(0), 1, 10).await;
    let mut order = created(&held);
    held.extend(lease_all(&queue, 0).await);
    assert_eq!((held.len(), count_of(&held[1..], "c")), (2, 1), "c allows for two");
    // With two held, one that ends lets nobody in but c.
    acknowledge(&queue, &held.remove(0)).await;
    let next = lease_all(&queue, 0).await;
    if order != [4] {
        assert_eq!(created(&next), [6], "of the others one at a time");
    }
    held.extend(next);
    for lease in held.drain(..) {
        order.push(created(std::slice::from_ref(&lease))[0]);
        acknowledge(&queue, &lease).await;
    }
    loop {
        let leases = lease_all(&queue, 0).await;
        if leases.is_empty() {
            break;
        }
        for lease in &leases {
            acknowledge(&queue, lease).await;
        }
        order.extend(created(&leases));
    }
    order.sort_unstable();
    order.dedup();
    assert_eq!(order, [1, 2, 3, 4, 5, 6], "all had their turn");
}

/// Of several functions that wait for one slot, the one with the oldest run gets it.
pub async fn the_oldest_of_all_functions_gets_the_slot(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let names = ["a", "b", "c", "d"];
    let one = [(SHARED, Limit::Slots(1))];
    let numbers: Vec<(&str, &[_])> = names.iter().map(|name| (*name, &one[..])).collect();
    queue.configure(table(1, &numbers)).await;
    let of = |name: &str, created: i64| gated(name, created, &[(SHARED, "global")]);
    push(&queue, vec![of("a", 0)]).await;
    let mut lease = lease_one(&queue, 0).await;
    let waiting = [
        ("c", 4),
        ("b", 2),
        ("d", 1),
        ("a", 3),
        ("d", 7),
        ("c", 5),
        ("b", 8),
        ("a", 6),
    ];
    push(
        &queue,
        waiting.iter().map(|(name, created)| of(name, *created)).collect(),
    )
    .await;
    for expected in 1..9 {
        assert_eq!(lease_all(&queue, 0).await, []);
        acknowledge(&queue, &lease).await;
        lease = lease_one(&queue, 0).await;
        assert_eq!(lease.job.id.run, run(expected));
    }
}

/// Other numbers count at once, for what waits and for what is held.
pub async fn numbers_change_at_once(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let of = |revision, slots| table(revision, &[("a", &[(WHOLE, Limit::Slots(slots))])]);
    queue.configure(of(1, 1)).await;
    push(&queue, (0..9).map(|i| gated("a", i, &[(WHOLE, "")])).collect()).await;
    let mut held = lease_all(&queue, 0).await;
    assert_eq!(held.len(), 1);
    held.push(woken_by(&queue, 0, 10, queue.configure(of(3, 4))).await);
    held.extend(lease_all(&queue, 0).await);
    assert_eq!(created(&held), [0, 1, 2, 3]);
    queue.configure(of(4, 2)).await;
    queue.configure(of(2, 9)).await;
    for lease in held.drain(..2) {
        acknowledge(&queue, &lease).await;
        assert_eq!(
            lease_all(&queue, 0).await,
            [],
            "fewer than held, and an older table changes nothing"
        );
    }
    acknowledge(&queue, &held[0]).await;
    assert_eq!(created(&lease_all(&queue, 0).await), [4]);
    queue.configure(table(5, &[])).await;
    assert_eq!(
        created(&lease_all(&queue, 0).await),
        [5, 6, 7, 8],
        "a rule that is no more"
    );
}

/// A throttle lets through as many as its rate, in the order of age, and says when the next one may go.
pub async fn a_throttle_delays_starts(factory: impl Fn() -> Arc<dyn Queue>) {
    // Limit, period, burst; when five starts go that wait together.
    let cases: [(u32, u64, u32, [i64; 5]); 5] = [
        (1, 5, 0, [0, 5_000, 10_000, 15_000, 20_000]),
        (2, 5, 0, [0, 0, 2_500, 5_000, 7_500]),
        (1, 5, 1, [0, 0, 5_000, 10_000, 15_000]),
        (2, 5, 1, [0, 0, 0, 2_500, 5_000]),
        (4, 8, 2, [0, 0, 0, 0, 0]),
    ];
    for (limit, seconds, burst, expected) in cases {
        let queue = factory();
        queue
            .configure(table(1, &[("a", &[(THROTTLE, a_rate(limit, seconds, burst))])]))
            .await;
        push(
            &queue,
            (0..5).rev().map(|i| gated("a", i, &[(THROTTLE, "x")])).collect(),
        )
        .await;
        let (mut now, mut starts, mut order) = (0, Vec::new(), Vec::new());
        while starts.len() < expected.len() {
            let leases = lease_all(&queue, now).await;
            starts.extend(leases.iter().map(|_| now));
            order.extend(created(&leases));
            for lease in &leases {
                acknowledge(&queue, lease).await;
            }
            if starts.len() < expected.len() {
                let next = queue.next_due().await.expect("more are coming");
                let next = next.as_millis() - at(0).as_millis();
                assert!(next > now, "whoever sleeps until then does not spin");
                assert_eq!(lease_all(&queue, next - 1).await, []);
                now = next;
            }
        }
        assert_eq!(starts, expected);
        assert_eq!(order, [0, 1, 2, 3, 4]);
    }
}

/// A throttle is for each value of its key, and for starts alone; what is not due or has another key goes past.
pub async fn a_throttle_holds_up_nothing_else(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let numbers = [(THROTTLE, a_rate(1, 60, 0)), (WHOLE, Limit::Slots(3))];
    queue.configure(table(1, &[("a", &numbers)])).await;
    let of = |created: i64, key| gated("a", created, &[(THROTTLE, key), (WHOLE, "")]);
    push(&queue, vec![of(0, "x"), of(1, "x"), of(2, "y"), of(3, "x")]).await;
    let first = lease_all(&queue, 0).await;
    assert_eq!(created(&first), [0, 2]);
    let gates = Gates::new(vec![THROTTLE.gate(function("a"), "x"), WHOLE.gate(function("a"), "")]);
    let key = JobKey::Step(StepId::from("s"));
    let step = Job {
        gates: gates.of_job(&key, 0),
        id: JobId { run: run(0), key },
        ..job("a", run(0), 0)
    };
    push(&queue, vec![step]).await;
    let second = lease_all(&queue, 10).await;
    assert_eq!(created(&second), [0], "a step");
    push(&queue, vec![of(4, "z")]).await;
    assert_eq!(lease_all(&queue, 10).await, [], "no slot is left");
    acknowledge(&queue, &second[0]).await;
    assert_eq!(
        created(&lease_all(&queue, 10).await),
        [4],
        "a throttle is not used up by who waits for a slot"
    );
    assert_eq!(queue.next_due().await, Some(at(60_000)));
    assert_eq!(lease_all(&queue, 60_000).await, [], "no slot is left");
    assert!(
        queue.next_due().await.is_none_or(|due| due > at(60_000)),
        "nobody spins"
    );
    acknowledge(&queue, &first[0]).await;
    assert_eq!(created(&lease_all(&queue, 60_000).await), [1]);
}

/// A start takes its turn at the throttle once, however often it is handed out, and gives nothing back.
pub async fn a_start_is_throttled_once(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue
        .configure(table(1, &[("a", &[(THROTTLE, a_rate(1, 60, 0))])]))
        .await;
    let of = |created: i64| gated("a", created, &[(THROTTLE, "x")]);
    push(&queue, vec![of(0), of(1)]).await;
    for _ in 0..3 {
        let lease = lease_one(&queue, 0).await;
        assert_eq!(lease.job, of(0));
        queue.release(&lease.job.id, lease.epoch, at(0)).await;
        // As a sweep does.
        queue.push(vec![of(0), of(1)], Origin::Sweep).await;
    }
    let lease = lease_one(&queue, 0).await;
    acknowledge(&queue, &lease).await;
    assert_eq!(lease_all(&queue, 59_999).await, []);
    assert_eq!(created(&lease_all(&queue, 60_000).await), [1]);
    // A bucket that nobody waits at is remembered until it is as good as new.
    queue.forget_run(run(1)).await;
    push(&queue, vec![of(2)]).await;
    assert_eq!(lease_all(&queue, 119_999).await, []);
    assert_eq!(created(&lease_all(&queue, 120_000).await), [2]);
}

/// A start that was handed out in vain gives back the turn that it has taken, as far as it is worth anything, and
/// whoever waits at the throttle hears of it.
pub async fn a_turn_taken_in_vain_is_given_back(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue
        .configure(table(1, &[("a", &[(THROTTLE, a_rate(1, 60, 0))])]))
        .await;
    let of = |created: i64| gated("a", created, &[(THROTTLE, "x")]);
    push(&queue, vec![of(0), of(1)]).await;
    let first = lease_one(&queue, 0).await;
    assert_eq!(lease_all(&queue, 10_000).await, []);
    let second = woken_by(&queue, 10_000, 10_000, queue.take_back(&first.job.id, first.epoch)).await;
    // A sixth of the turn has gone: the next start may go that much later.
    assert_eq!(second.job, of(1));
    push(&queue, vec![of(0), of(2)]).await;
    queue.take_back(&first.job.id, first.epoch).await;
    assert_eq!(lease_all(&queue, 69_999).await, [], "it is given back once");
    let first = lease_one(&queue, 70_000).await;
    assert_eq!(first.job, of(0), "it comes in its old place");
    // What it has taken with an earlier lease it gives back, too.
    queue.release(&first.job.id, first.epoch, at(0)).await;
    let again = lease_one(&queue, 90_000).await;
    queue.take_back(&again.job.id, again.epoch).await;
    let third = lease_one(&queue, 90_000).await;
    assert_eq!(third.job, of(2));
    // An ended run gives nothing back.
    push(&queue, vec![of(3)]).await;
    queue.forget_run(run(2)).await;
    assert_eq!(lease_all(&queue, 90_000).await, []);
    queue.take_back(&third.job.id, third.epoch).await;
    assert_eq!(lease_all(&queue, 149_999).await, []);
    assert_eq!(created(&lease_all(&queue, 150_000).await), [3]);
}

/// While the gates of a function are shut none of its jobs passes one, nothing is spent and nobody spins; what has none,
/// and other functions, go on. A job that was handed out before, and is given back, keeps its turn at the throttle.
pub async fn gates_that_are_shut_cost_nothing(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let (own, others) = (
        [(THROTTLE, a_rate(1, 60, 0)), (SHARED, Limit::Slots(9))],
        [(SHARED, Limit::Slots(9))],
    );
    let numbers = |revision, is_shut| {
        let mut table = table(revision, &[("a", &own), ("b", &others)]);
        if is_shut {
            let limits = &mut table.functions[0].1;
            *limits = limits.clone().shut();
        }
        table
    };
    let of = |created: i64| gated("a", created, &[(THROTTLE, "x"), (SHARED, "global")]);
    queue.configure(numbers(1, false)).await;
    push(&queue, vec![of(0), of(1)]).await;
    let first = lease_one(&queue, 0).await;
    queue.configure(numbers(2, true)).await;
    queue.release(&first.job.id, first.epoch, at(0)).await;
    push(
        &queue,
        vec![of(2), job("a", run(3), 0), gated("b", 4, &[(SHARED, "global")])],
    )
    .await;
    let mut passed = created(&lease_all(&queue, 70_000).await);
    passed.sort_unstable();
    assert_eq!(passed, [3, 4]);
    assert_eq!(lease_all(&queue, 70_000).await, []);
    assert_eq!(
        queue.next_due().await,
        None,
        "nobody spins, and time alone opens nothing"
    );
    assert_eq!(queue.stats().await.ready, 3);
    let opened = queue.configure(numbers(3, false));
    assert_eq!(
        woken_by(&queue, 70_000, 10, opened).await.job,
        of(0),
        "it has had its turn"
    );
    assert_eq!(created(&lease_all(&queue, 70_000).await), [1]);
    assert_eq!(queue.next_due().await, Some(at(130_000)));
}

/// A faster throttle counts at once, and a clock that was set back holds up starts no longer than the throttle itself.
pub async fn a_throttle_follows_numbers_and_clock(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    let of = |revision, seconds| table(revision, &[("a", &[(THROTTLE, a_rate(1, seconds, 0))])]);
    queue.configure(of(1, 86_400)).await;
    let jobs = (0..4).map(|i| Job {
        due: at(-10_000_000),
        ..gated("a", i, &[(THROTTLE, "x")])
    });
    push(&queue, jobs.collect()).await;
    assert_eq!(lease_all(&queue, 0).await.len(), 1);
    assert_eq!(lease_all(&queue, 10_000).await, []);
    queue.configure(of(2, 60)).await;
    assert_eq!(lease_all(&queue, 10_000).await, []);
    let next = queue.next_due().await.expect("it opens");
    assert!(next <= at(70_000));
    assert_eq!(created(&lease_all(&queue, 70_000).await), [1]);
    assert_eq!(lease_all(&queue, -3_600_000).await, [], "an hour back");
    assert_eq!(created(&lease_all(&queue, -3_540_000).await), [2], "a minute later");
    assert_eq!(lease_all(&queue, -3_540_000).await, []);
}

/// A crowd at a gate keeps nobody else waiting: functions with one job each start in the next call.
pub async fn a_crowd_at_a_gate_keeps_nobody_waiting(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    queue
        .configure(table(1, &[("crowd", &[(WHOLE, Limit::Slots(1))])]))
        .await;
    for part in 0..8 {
        let jobs = (0..300).map(|i| gated("crowd", part * 300 + i, &[(WHOLE, "")]));
        push(&queue, jobs.collect()).await;
    }
    let held = lease_one(&queue, 0).await;
    let quiet = (0..100).map(|i| job(&format!("quiet-{i}"), run(10_000 + i), 0));
    push(&queue, quiet.collect()).await;
    assert_eq!(queue.lease(at(0), 100, 10).await.len(), 100);
    assert_eq!(queue.next_due().await, None);
    let stats = queue.stats().await;
    assert_eq!((stats.ready, stats.leased), (2_399, 101));
    let crowd = stats.partitions.iter().find(|part| part.function == function("crowd"));
    let crowd = crowd.expect("it is there");
    assert_eq!((crowd.ready, crowd.leased, crowd.oldest), (2_399, 1, Some(at(0))));
    acknowledge(&queue, &held).await;
    assert_eq!(created(&lease_all(&queue, 0).await), [1]);
}

/// What is going on at gates, for people: by value of the key.
pub async fn the_flow_of_a_function(factory: impl Fn() -> Arc<dyn Queue>) {
    let queue = factory();
    assert_eq!(queue.flow(function("a")).await.rules, []);
    let numbers = [(THROTTLE, a_rate(1, 60, 0)), (KEYED, Limit::Slots(2))];
    queue.configure(table(1, &[("a", &numbers)])).await;
    let of = |created: i64, key| gated("a", created, &[(THROTTLE, key), (KEYED, key)]);
    let mut jobs = vec![of(0, "x"), of(5, "x"), of(3, "x"), of(2, "y"), of(9, "z"), of(8, "w")];
    jobs[5].due = at(1_000);
    push(&queue, jobs).await;
    assert_eq!(created(&queue.lease(at(0), 2, 10).await), [0, 2]);
    let flow = queue.flow(function("a")).await;
    assert_eq!(flow.rules.len(), 2);
    let of_rule = |rule: Rule| {
        flow.rules
            .iter()
            .find(|flow| flow.rule == rule.id())
            .expect("it is there")
    };
    let key = |key: &str, in_use, waiting, oldest: Option<i64>, next: Option<i64>| KeyFlow {
        key: key.to_owned(),
        in_use,
        waiting,
        oldest: oldest.map(at),
        next: next.map(at),
    };
    let slots = of_rule(KEYED);
    assert_eq!(
        (slots.keys, slots.in_use, slots.waiting, slots.oldest),
        (3, 2, 3, Some(at(3)))
    );
    assert_eq!(
        slots.busiest,
        [key("x", 1, 2, Some(3), None), key("y", 1, 0, None, None)]
    );
    assert_eq!(
        slots.longest,
        [key("x", 1, 2, Some(3), None), key("z", 0, 1, Some(9), None)]
    );
    let throttle = of_rule(THROTTLE);
    assert_eq!((throttle.in_use, throttle.waiting), (0, 3));
    assert_eq!(
        throttle.longest,
        [key("x", 0, 2, Some(3), Some(60_000)), key("z", 0, 1, Some(9), None)]
    );
    assert_eq!(queue.flow(function("b")).await.rules, []);
}
