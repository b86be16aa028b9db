//! Any sequence of failures and commands: what holds after each of them, and after the last.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use super::{super::*, *};
use crate::kernel::{ChildName, Lookup};
use faulty::*;

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Step {
    Start(usize),
    Panic(usize),
    Stop(usize),
    Hang(usize),
    Work(usize, u64),
    Rest(usize),
    RestAsChild(usize),
    Restart(usize),
    Quarantine(usize),
    Resume(usize),
    BadFactory(u32),
    BadStarted(u32),
    HangInStarted,
    Deaf,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let child = || 0..NAMES.len();
    prop_oneof![
        4 => child().prop_map(Step::Start),
        3 => child().prop_map(Step::Panic),
        1 => child().prop_map(Step::Stop),
        1 => child().prop_map(Step::Hang),
        2 => (child(), 0..20_000_u64).prop_map(|(at, millis)| Step::Work(at, millis)),
        1 => child().prop_map(Step::Rest),
        1 => child().prop_map(Step::RestAsChild),
        1 => child().prop_map(Step::Restart),
        1 => child().prop_map(Step::Quarantine),
        2 => child().prop_map(Step::Resume),
        1 => (1..4_u32).prop_map(Step::BadFactory),
        1 => (1..4_u32).prop_map(Step::BadStarted),
        1 => Just(Step::HangInStarted),
        1 => Just(Step::Deaf),
        2 => Just(Step::Pass(0)),
        3 => (1..2_000_u64).prop_map(Step::Pass),
        2 => (2_000..400_000_u64).prop_map(Step::Pass),
    ]
}

fn spec(rig: &Rig, at: usize) -> ChildSpec {
    let spec = quarantine_after(2, Duration::from_secs(30))(rig.child(NAMES[at]))
        .with_stop_grace(Duration::from_secs(10))
        .with_start_grace(Duration::from_secs(10))
        .with_order(u16::try_from(at).expect("small"));
    if at == 2 {
        return spec.with_restart(crate::kernel::RestartKind::Transient);
    }
    spec
}

async fn take(rig: &Rig, step: &Step) {
    let supervisor = &rig.handle.address;
    let name = |at: &usize| ChildName::from(NAMES[*at]);
    let address = |at: &usize| rig.handle.book.find::<Faulty>(NAMES[*at]).address();
    match step {
        Step::Start(at) => supervisor.do_send(StartChild(spec(rig, *at))),
        Step::Panic(at) => {
            if let Some(address) = address(at) {
                address.do_send(Panic);
            }
        }
        Step::Stop(at) => {
            if let Some(address) = address(at) {
                address.do_send(Stop);
            }
        }
        Step::Hang(at) => {
            if let Some(address) = address(at) {
                address.do_send(Hang);
            }
        }
        Step::Work(at, millis) => {
            if let Some(address) = address(at) {
                address.do_send(Work(Duration::from_millis(*millis), None));
            }
        }
        Step::Rest(at) => supervisor.do_send(RestChild {
            name: name(at),
            generation: None,
        }),
        Step::RestAsChild(at) => supervisor.do_send(RestChild {
            name: name(at),
            generation: rig.handle.book.find::<Faulty>(NAMES[*at]).generation(),
        }),
        Step::Restart(at) => supervisor.do_send(RestartChild { name: name(at) }),
        Step::Quarantine(at) => supervisor.do_send(Quarantine {
            name: name(at),
            reason: "chaos".into(),
        }),
        Step::Resume(at) => supervisor.do_send(Resume { name: name(at) }),
        Step::BadFactory(times) => rig.script.panic_in_factory(*times),
        Step::BadStarted(times) => rig.script.panic_in_started(*times),
        Step::HangInStarted => rig.script.hang_in_started(1),
        Step::Deaf => rig.script.be_deaf(1),
        Step::Pass(millis) => tokio::time::sleep(Duration::from_millis(*millis)).await,
    }
}

/// What the book says of a child and what the board says of it are one thing.
fn book_and_board_agree(rig: &Rig, seen: &mut HashMap<&'static str, Generation>) {
    let tree = rig.handle.board.read();
    for name in NAMES {
        let line = rig.handle.book.find::<Faulty>(name);
        let state = tree.child(name).map(|child| child.state.clone());
        if let Lookup::Here { generation, .. } = &line {
            let before = seen.insert(name, *generation);
            assert!(before <= Some(*generation), "the book went back in time");
            let listed = tree.child(name).and_then(|child| child.generation);
            assert_eq!(listed, Some(*generation));
        }
        let agree = match &state {
            Some(ChildState::Running) => matches!(line, Lookup::Here { .. }),
            Some(ChildState::Starting | ChildState::BackingOff { .. }) => {
                matches!(line, Lookup::Restarting { .. })
            }
            Some(ChildState::Quarantined { .. }) => matches!(line, Lookup::Quarantined { .. }),
            // Whatever follows; but nobody finds it any more.
            Some(ChildState::Stopping) => !matches!(line, Lookup::Here { .. }),
            Some(ChildState::Stopped | ChildState::Pending) | None => {
                matches!(line, Lookup::Absent)
            }
        };
        assert!(agree, "{name}: {line:?} and {state:?}\n{}", rig.picture());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn one_incarnation_at_a_time_each_reported_once_and_a_drain_that_ends(
        steps in prop::collection::vec(steps(), 1..60),
    ) {
        virtually(async {
            let rig = Rig::new().await;
            let mut seen = HashMap::new();
            for step in &steps {
                take(&rig, step).await;
                book_and_board_agree(&rig, &mut seen);
            }
            let grace = Duration::from_secs(30);
            let report = rig.ask(Drain { grace }).await.expect("drains");
            // Reports of exits are messages too; behind this one, all of them have arrived.
            let scribe = rig.scribe.clone();
            rig.within(scribe.send(Flush)).await.expect("the scribe lives");

            assert_eq!(rig.script.violations(), Vec::<String>::new());
            assert_eq!(rig.script.alive(), 0, "{report:?}");
            assert!(report.orphans.iter().all(|orphan| !orphan.stuck));
            assert!(rig.handle.book.is_empty());
            assert_eq!(rig.handle.stop.reason(), None, "nobody here may stop the process");
            let mut built = rig.script.built();
            let mut ended: Vec<(ChildName, Generation)> = rig
                .exits
                .lock()
                .expect("not poisoned")
                .iter()
                .map(|exit| (exit.name.clone(), exit.generation))
                .collect();
            built.sort();
            ended.sort();
            assert_eq!(built, ended, "every incarnation is reported, and once");
        });
    }
}
