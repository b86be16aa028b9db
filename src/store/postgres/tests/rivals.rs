//! Two stores on one database: of those that claim the same thing one gets it, whatever the order.

use std::collections::HashMap;
use std::sync::Arc;

use callboard_actors::domain::{
    Change, Event, EventId, Gates, Job, JobId, JobKey, Json, Lookup, Route, RunId, RunState, RunStatus, Step, StepId,
    StepOp, StepState, Take, Timestamp, Wait, WaitKey, WaitKind, Write, Written,
};
use callboard_actors::ports::{Store as _, StoreError};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::super::PostgresStore;
use super::{accepted, advance, options};

const RUNS: usize = 12;
const EVENTS: i64 = 40;
const ROUNDS: usize = 150;
const SIGNALS: [&str; 3] = ["a", "b", "c"];

/// What one of them tries to do.
#[derive(Debug, Clone)]
enum Try {
    /// This event, which starts a run, comes in.
    Accept(i64),
    /// This run moves on with a step's result.
    Step(usize, u8),
    /// This run waits for this signal.
    Wait(usize, usize),
    /// This run emits an event that has to be routed.
    Emit(usize),
    /// The oldest event that waits for it is routed, and takes all signals.
    Route,
    /// This run ends and another takes its place.
    End(usize),
}

fn attempt() -> impl Strategy<Value = Try> {
    prop_oneof![
        2 => (100..100 + EVENTS).prop_map(Try::Accept),
        4 => (0..RUNS, 0..4_u8).prop_map(|(run, step)| Try::Step(run, step)),
        3 => (0..RUNS, 0..SIGNALS.len()).prop_map(|(run, signal)| Try::Wait(run, signal)),
        2 => (0..RUNS).prop_map(Try::Emit),
        3 => Just(Try::Route),
        1 => (0..RUNS).prop_map(Try::End),
    ]
}

/// What a rival has achieved.
#[derive(Default)]
struct Account {
    /// Decisions committed.
    moves: HashMap<RunId, u64>,
    /// Events accepted and routed.
    accepted: Vec<EventId>,
    routed: Vec<EventId>,
    /// Waits taken, with their runs.
    taken: u64,
    /// First results recorded, by what the rival knew.
    results: HashMap<(RunId, StepId), Vec<Json>>,
    unavailable: u64,
}

/// One of the two; `name` tells what it writes from what the other writes.
async fn rival(store: PostgresStore, name: u64, runs: Vec<RunId>) -> Account {
    let mut account = Account::default();
    let seed = [u8::try_from(name).expect("small"); 32];
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let batches = prop::collection::vec(attempt(), 1..12);
    for round in 0..ROUNDS {
        let tries = batches.new_tree(&mut runner).expect("there are some").current();
        let states = store.load_runs(&runs).await.expect("reads");
        let states: HashMap<RunId, RunState> = states.into_iter().map(|state| (state.id, state)).collect();
        let unrouted = store.unrouted(1).await.expect("reads");
        let mut waits = Vec::new();
        for signal in SIGNALS {
            waits.extend(store.signal_wait(signal).await.expect("reads"));
        }
        let mut batch = Vec::new();
        for (index, attempt) in tries.into_iter().enumerate() {
            let unique = format!("{name}/{round}/{index}");
            batch.extend(write(&attempt, &states, &runs, &unrouted, &waits, &unique));
        }
        // The port's promise: what is unavailable may be tried again.
        let written = loop {
            match store.commit(&batch).await {
                Ok(written) => break written,
                Err(StoreError::Unavailable(_)) => account.unavailable += 1,
                Err(error) => panic!("{error}"),
            }
        };
        for (write, written) in batch.iter().zip(written) {
            account.note(write, &written);
        }
    }
    account
}

fn write(
    attempt: &Try,
    states: &HashMap<RunId, RunState>,
    runs: &[RunId],
    unrouted: &[Event],
    waits: &[Wait],
    unique: &str,
) -> Option<Write> {
    let at = Timestamp::from_millis(1_750_000_100_000);
    let state = |run: usize| states.get(&runs[run]);
    Some(match attempt {
        Try::Accept(number) => accepted(*number).2,
        Try::Step(run, step) => {
            let state = state(*run)?;
            let done = StepState::Done {
                memo: Json::from_value(&unique).expect("a text"),
                failed: false,
                position: u32::try_from(state.stack.len()).expect("few"),
                at,
            };
            let step = Step {
                id: StepId::from(step.to_string().as_str()),
                op: StepOp::Run,
                label: unique.to_owned(),
                race: false,
                started_at: at,
                state: done,
            };
            advance(state.id, state.version, vec![Change::StepPut(step)])
        }
        Try::Wait(run, signal) => {
            let state = state(*run)?;
            let wait = Wait {
                run: state.id,
                function: state.function,
                key: WaitKey::Step(StepId::from(format!("for {signal}").as_str())),
                kind: WaitKind::Signal,
                name: SIGNALS[*signal].to_owned(),
                lookup: None::<Lookup>,
                condition: None,
                created_at: at,
                expires_at: at,
            };
            advance(state.id, state.version, vec![Change::WaitPut(wait)])
        }
        Try::Emit(run) => {
            let state = state(*run)?;
            let id = EventId::derive(at, unique);
            let event = Event::glued("emitted", id, id.to_string(), at, "{}");
            let emit = Change::Emit {
                event,
                has_listeners: true,
            };
            advance(state.id, state.version, vec![emit])
        }
        Try::Route => Write::Route(Route {
            event: unrouted.first()?.id,
            runs: Vec::new(),
            joins: Vec::new(),
            skips: Vec::new(),
            takes: waits.iter().map(|wait| take(wait, at)).collect(),
            catalog: None,
        }),
        Try::End(run) => {
            let state = state(*run)?;
            // Some stay, for the others to have something to quarrel about.
            if run % 3 != 0 || state.version < 20 {
                return None;
            }
            let ended = Change::Ended {
                status: RunStatus::Completed,
                output: Json::null(),
                at,
            };
            advance(state.id, state.version, vec![ended])
        }
    })
}

fn take(wait: &Wait, at: Timestamp) -> Take {
    let WaitKey::Step(step) = &wait.key else {
        unreachable!("steps wait here")
    };
    Take {
        run: wait.run,
        key: wait.key.clone(),
        job: Job {
            id: JobId {
                run: wait.run,
                key: JobKey::Resume(step.clone()),
            },
            function: wait.function,
            attempt: 0,
            due: at,
            priority: callboard_actors::domain::Priority::NONE,
            payload: None,
            gates: Gates::NONE,
        },
    }
}

impl Account {
    fn note(&mut self, write: &Write, written: &Written) {
        let Written::Done { missed, .. } = written else { return };
        match write {
            Write::Accept(accept) => self.accepted.push(accept.event.id),
            Write::Route(route) => {
                self.routed.push(route.event);
                self.taken += u64::try_from(route.takes.len() - missed.len()).expect("few");
            }
            Write::Fire(_) => unreachable!("nobody fires here"),
            Write::Advance(advance) => {
                *self.moves.entry(advance.run).or_default() += 1;
                for change in &advance.changes {
                    if let Change::StepPut(step) = change {
                        let memo = step.memo().expect("is done").clone();
                        let key = (advance.run, step.id.clone());
                        self.results.entry(key).or_default().push(memo);
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn of_two_that_claim_the_same_one_gets_it() {
    let options = options();
    let store = Arc::new(PostgresStore::open(&options).await.expect("opens"));
    let mut runs = Vec::new();
    for number in 0..i64::try_from(RUNS).expect("few") {
        let (_, state, write) = accepted(number);
        store.commit(&[write]).await.expect("commits");
        runs.push(state.id);
    }
    let mut rivals = Vec::new();
    for name in [1, 2] {
        let own = PostgresStore::open(&options).await.expect("opens");
        rivals.push(tokio::spawn(rival(own, name, runs.clone())));
    }
    let mut accounts = Vec::new();
    for rival in rivals {
        accounts.push(rival.await.expect("nothing was refused"));
    }
    let [one, other] = &accounts[..] else {
        unreachable!("two")
    };

    // Nobody has what the other one has.
    for (mine, yours) in [(&one.accepted, &other.accepted), (&one.routed, &other.routed)] {
        let mut all: Vec<_> = mine.iter().chain(yours).collect();
        all.sort();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count, "claimed twice");
        assert!(!mine.is_empty() && !yours.is_empty(), "they have not met");
    }
    for run in &runs {
        let view = store.run_view(*run).await.expect("reads").expect("exists");
        let moves = one.moves.get(run).unwrap_or(&0) + other.moves.get(run).unwrap_or(&0);
        if let Some(state) = store.load_run(*run).await.expect("reads") {
            assert_eq!(state.version, moves, "a decision that was answered has happened once");
        } else {
            assert!(view.jobs.is_empty() && view.waits.is_empty(), "{view:?}");
        }
        for step in view.steps {
            let key = (*run, step.id.clone());
            let recorded = step.memo.expect("is done");
            let told = [one, other].map(|account| account.results.get(&key).is_some_and(|all| all.contains(&recorded)));
            assert!(
                told[0] != told[1],
                "{key:?}: exactly one of them has recorded {recorded}"
            );
        }
    }
    for signal in SIGNALS {
        let waits = store.waits(signal, &[None], None, 100).await.expect("reads");
        assert!(waits.len() <= 1, "a signal has one waiter: {waits:?}");
    }
    assert!(one.taken + other.taken > 0, "waits have been taken");
    let counts = store.counts().await.expect("reads");
    let accepted = u64::try_from(one.accepted.len() + other.accepted.len() + RUNS).expect("few");
    assert!(counts.open_runs <= accepted);
    assert!(store.orphans(None, 10).await.expect("reads").runs.is_empty());
}
