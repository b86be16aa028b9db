//! What gives way when there is no room, and who is told when there is again.

use callboard_actors::domain::{Job, JobId, JobKey, StepId};
use callboard_actors::ports::Pushed;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{at, drain, job, run};
use crate::queue::embedded::Capacity;
use crate::queue::embedded::state::State;

fn state(total: usize, per_function: usize) -> State {
    State::new(Capacity { total, per_function })
}

fn pushed(accepted: usize, spilled: usize) -> Pushed {
    Pushed {
        accepted,
        spilled,
        unheard: 0,
    }
}

/// The runs that are held, by creation.
fn held(state: &mut State) -> Vec<i64> {
    let mut runs: Vec<_> = drain(state, i64::from(u32::MAX))
        .iter()
        .map(|lease| lease.job.id.run.at().as_millis() - at(0).as_millis())
        .collect();
    runs.sort_unstable();
    runs
}

#[test]
fn of_delayed_jobs_the_earliest_stay() {
    let mut state = state(3, 10);
    let jobs = [(0, 3_000), (1, 1_000), (2, 2_000), (3, 4_000), (4, 500)];
    let jobs = jobs.map(|(created, due)| job("a", run(created), due)).to_vec();
    assert_eq!(state.push(jobs), pushed(4, 2));
    state.audit();
    assert_eq!(state.stats().spilled, 2);
    assert_eq!(held(&mut state), [1, 2, 4]);
}

#[test]
fn the_latest_of_all_functions_gives_way() {
    let mut state = state(3, 10);
    state.push(vec![
        job("a", run(0), 9_000),
        job("a", run(1), 1),
        job("b", run(2), 5_000),
    ]);
    assert_eq!(state.push(vec![job("c", run(3), 7_000)]), pushed(1, 1));
    assert_eq!(state.push(vec![job("a", run(4), 8_000)]), pushed(0, 1));
    state.audit();
    assert_eq!(held(&mut state), [1, 2, 3]);
}

#[test]
fn a_full_function_leaves_room_to_others() {
    let mut state = state(10, 2);
    let of_a = (0..5).map(|i| job("a", run(i), i)).collect();
    assert_eq!(state.push(of_a), pushed(2, 3));
    assert_eq!(state.push(vec![job("b", run(9), 0)]), pushed(1, 0));
    state.audit();
    assert_eq!(held(&mut state), [0, 1, 9]);
}

#[test]
fn what_was_begun_pushes_out_what_was_not() {
    let mut state = state(10, 2);
    state.push(vec![job("a", run(5), 0), job("a", run(7), 0)]);
    assert_eq!(state.lease(at(10), 0, 1), []);
    // Due since the last lease, as what a run does next always is.
    assert_eq!(state.push(vec![job("a", run(3), 15)]), pushed(1, 1));
    assert_eq!(state.push(vec![job("a", run(9), 15)]), pushed(0, 1));
    assert_eq!(state.push(vec![job("a", run(1), 60_000)]), pushed(0, 1));
    state.audit();
    assert_eq!(held(&mut state), [3, 5]);
}

#[test]
fn the_longest_line_makes_room_for_a_quiet_function() {
    let mut state = state(7, 7);
    state.push((0..7).map(|i| job("hot", run(i), 0)).collect());
    assert_eq!(state.lease(at(10), 0, 1), []);
    assert_eq!(state.push(vec![job("quiet", run(100), 0)]), pushed(1, 1));
    assert_eq!(state.push(vec![job("quiet", run(101), 0)]), pushed(1, 1));
    assert_eq!(state.push(vec![job("quiet", run(102), 0)]), pushed(1, 1));
    assert_eq!(
        state.push(vec![job("quiet", run(103), 0)]),
        pushed(0, 1),
        "that would only turn it around"
    );
    state.audit();
    assert_eq!(held(&mut state), [0, 1, 2, 3, 100, 101, 102]);
}

#[test]
fn leased_jobs_never_give_way_and_can_always_come_back() {
    let mut state = state(2, 2);
    state.push(vec![job("a", run(1), 0), job("b", run(2), 0)]);
    let leases = drain(&mut state, 0);
    assert_eq!(leases.len(), 2);
    assert_eq!(state.push(vec![job("a", run(0), 0)]), pushed(0, 1));
    let new = Job {
        attempt: 1,
        ..job("a", run(1), 0)
    };
    assert_eq!(state.push(vec![new]), pushed(1, 0), "a new version needs no room");
    for lease in leases {
        state.release(&lease.job.id, lease.epoch, at(5));
        state.audit();
    }
    assert_eq!(held(&mut state), [1, 2]);
}

#[test]
fn a_capacity_of_one_is_enough_to_go_on() {
    let mut state = state(0, 0);
    assert_eq!(
        state.push(vec![job("a", run(1), 9_000), job("a", run(0), 0)]),
        pushed(2, 1)
    );
    state.audit();
    assert_eq!(held(&mut state), [0]);
}

#[test]
fn room_is_news_once_a_quarter_is_free() {
    for (total, per_function) in [(8, 100), (100, 8)] {
        let mut state = state(total, per_function);
        state.push((0..9).map(|i| job("a", run(i), 0)).collect());
        let leases = drain(&mut state, 0);
        assert_eq!(leases.len(), 8);
        state.take_news();
        let told: Vec<bool> = leases
            .iter()
            .map(|lease| {
                state.acknowledge(&lease.job.id, lease.epoch);
                state.audit();
                state.take_news()
            })
            .collect();
        assert_eq!(told, [false, true, false, false, false, false, false, false]);
    }
}

#[test]
fn what_is_not_earlier_is_no_news() {
    let mut state = state(100, 100);
    state.push(vec![job("a", run(0), 100)]);
    assert!(state.take_news());
    state.push(vec![job("a", run(1), 100), job("b", run(2), 200)]);
    assert!(!state.take_news());
    let leases = state.lease(at(100), 1, 1);
    state.push(vec![job("a", run(3), 100)]);
    state.acknowledge(&leases[0].job.id, leases[0].epoch + 1);
    assert_eq!(state.lease(at(100), 1, 1), []);
    state.push(vec![job("a", run(4), 50)]);
    assert!(!state.take_news(), "it is at its limit");
}

/// One call of a random history in little room.
#[derive(Debug, Clone)]
enum Call {
    Push(Vec<(i64, bool, i64)>),
    Lease(i64, usize, usize),
    Acknowledge(usize),
    Release(usize, i64),
    Forget(i64),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => vec((0..40_i64, any::<bool>(), -2_000..4_000_i64), 0..8).prop_map(Call::Push),
        3 => (-1_000..3_000_i64, 0..6_usize, 0..4_usize).prop_map(|(by, max, limit)| Call::Lease(by, max, limit)),
        2 => any::<usize>().prop_map(Call::Acknowledge),
        2 => (any::<usize>(), -2_000..4_000_i64).prop_map(|(lease, due)| Call::Release(lease, due)),
        1 => (0..40_i64).prop_map(Call::Forget),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_structure_holds(total in 1..12_usize, per_function in 1..6_usize, calls in vec(call(), 1..80)) {
        let mut state = state(total, per_function);
        let mut now = 10_000;
        let mut leases = Vec::new();
        for call in calls {
            match call {
                Call::Push(specs) => {
                    for (created, second, due) in specs {
                        let name = ["a", "b", "c", "d"][usize::try_from(created % 4).expect("small")];
                        let key = if second { JobKey::Step(StepId::from("s")) } else { JobKey::Start };
                        let one = Job { id: JobId { run: run(created), key }, ..job(name, run(created), now + due) };
                        let before = state.stats();
                        let pushed = state.push(vec![one]);
                        let after = state.stats();
                        // Taken in, in the place of another or not, or turned away: nothing else can happen.
                        prop_assert!(pushed.accepted <= 1 && pushed.spilled <= 1 && pushed.accepted + pushed.spilled >= 1);
                        prop_assert_eq!(after.spilled - before.spilled, u64::try_from(pushed.spilled).expect("small"));
                        prop_assert_eq!(after.leased, before.leased, "leases stay");
                    }
                }
                Call::Lease(by, max, limit) => {
                    now += by;
                    let given = state.lease(at(now), max, limit);
                    prop_assert!(given.iter().all(|lease| lease.job.id.run.at() >= at(0)));
                    leases.extend(given);
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
            }
            state.audit();
            prop_assert_eq!(state.stats().leased, leases.len());
        }
    }
}
