//! Supervision, tested harder than it is written.
//!
//! Most tests run on one thread with the paused clock: virtual minutes pass in milliseconds, and a test that
//! waits for what never comes fails at its deadline at once. Those about threads use real ones and wait on
//! signals. A failure prints the snapshot.

mod chaos;
mod demand;
mod faulty;
mod hang;
mod order;
mod quarantine;
mod restart;
mod status;
mod threads;

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{Actor, Addr, Arbiter, Context, Handler, Message, System};

use super::{Settings, Sources, StartChild, StartTree, Subscribe, Supervisor, SupervisorHandle};
use crate::kernel::{ChildExited, ChildSpec, ChildState, Exit, Generation, GiveUp, Placement, RestartPolicy, Snapshot};
use faulty::{Faulty, Script};

/// The time of day at which every virtual test begins, Unix milliseconds.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// Runs a test on one thread whose clock advances whenever everybody waits.
fn virtually<T>(test: impl Future<Output = T>) -> T {
    System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
    })
    .block_on(test)
}

/// Runs a test on real threads.
fn really<T>(test: impl Future<Output = T>) -> T {
    System::new().block_on(test)
}

/// A supervisor under test.
struct Rig {
    handle: SupervisorHandle,
    exits: Arc<Mutex<Vec<ChildExited>>>,
    scribe: Addr<Scribe>,
    script: Script,
    placement: Placement,
}

impl Rig {
    /// On the test's own thread; every delay is its ceiling.
    async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    async fn with(settings: Settings) -> Self {
        let here = Arbiter::current();
        let origin = tokio::time::Instant::now();
        let sources = Sources {
            dice: Box::new(|| 1.0),
            wall_ms: Box::new(move || EPOCH_MS + i64::try_from(origin.elapsed().as_millis()).expect("a short test")),
        };
        let handle = Supervisor::start_on(&here, settings, sources);
        let exits = Arc::default();
        let rig = Self {
            handle,
            scribe: Scribe(Arc::clone(&exits)).start(),
            exits,
            script: Script::default(),
            placement: Placement::new("here", here),
        };
        rig.handle
            .address
            .send(Subscribe(rig.scribe.clone().recipient()))
            .await
            .expect("the supervisor answers");
        rig
    }

    /// A faulty child that does as the rig's script says.
    fn child(&self, name: &str) -> ChildSpec {
        self.child_on(name, self.placement.clone())
    }

    fn child_on(&self, name: &str, placement: Placement) -> ChildSpec {
        let script = self.script.clone();
        ChildSpec::new(name, "faulty", placement, move |boot| Faulty::new(boot, script.clone()))
    }

    async fn start(&self, spec: ChildSpec) -> Generation {
        self.ask(StartChild(spec)).await.expect("the child starts")
    }

    async fn boot(&self, specs: Vec<ChildSpec>) {
        self.ask(StartTree(specs)).await.expect("the tree comes up");
    }

    /// Sends a message to the supervisor and waits for the answer.
    async fn ask<M>(&self, message: M) -> M::Result
    where
        M: actix::Message + Send + 'static,
        M::Result: Send,
        Supervisor: Handler<M>,
    {
        self.within(self.handle.address.send(message))
            .await
            .expect("the supervisor lives")
    }

    /// The address of a child that runs.
    fn address(&self, name: &str) -> Arc<actix::Addr<Faulty>> {
        let found = self.handle.book.find::<Faulty>(name);
        found
            .address()
            .unwrap_or_else(|| panic!("{name} is not here\n{}", self.picture()))
    }

    /// Waits, with a deadline, for a snapshot of which `wanted` is true.
    async fn until(&self, wanted: impl FnMut(&Snapshot) -> bool) -> Arc<Snapshot> {
        self.within(self.handle.board.until(wanted)).await
    }

    /// Waits for a child's state.
    async fn until_state(&self, name: &str, wanted: impl Fn(&ChildState) -> bool) -> Arc<Snapshot> {
        self.until(|tree| tree.child(name).is_some_and(|child| wanted(&child.state)))
            .await
    }

    /// Waits for a later incarnation to run.
    async fn until_newer(&self, name: &str, than: Generation) -> Generation {
        let tree = self
            .until(|tree| {
                tree.child(name)
                    .is_some_and(|child| child.generation > Some(than) && child.state == ChildState::Running)
            })
            .await;
        tree.child(name).and_then(|child| child.generation).expect("it runs")
    }

    async fn within<T>(&self, what: impl Future<Output = T>) -> T {
        match tokio::time::timeout(Duration::from_secs(1_000), what).await {
            Ok(done) => done,
            Err(_) => panic!("nothing came of it\n{}", self.picture()),
        }
    }

    /// The exits reported so far, of one child.
    fn exits(&self, name: &str) -> Vec<Exit> {
        let exits = self.exits.lock().expect("no panic under the lock");
        exits
            .iter()
            .filter(|report| report.name.as_str() == name)
            .map(|report| report.exit.clone())
            .collect()
    }

    fn picture(&self) -> String {
        serde_json::to_string_pretty(&*self.handle.board.read()).expect("a snapshot serialises")
    }
}

/// Writes down every report of an exit.
struct Scribe(Arc<Mutex<Vec<ChildExited>>>);

impl Actor for Scribe {
    type Context = Context<Self>;
}

impl Handler<ChildExited> for Scribe {
    type Result = ();

    fn handle(&mut self, report: ChildExited, _: &mut Context<Self>) {
        self.0.lock().expect("no panic under the lock").push(report);
    }
}

/// Answered once every report before it has been written down.
struct Flush;

impl Message for Flush {
    type Result = ();
}

impl Handler<Flush> for Scribe {
    type Result = ();

    fn handle(&mut self, _: Flush, _: &mut Context<Self>) {}
}

fn quarantine_after(restarts: u32, probe_after: Duration) -> impl Fn(ChildSpec) -> ChildSpec {
    move |spec| {
        spec.with_policy(RestartPolicy {
            max_restarts: restarts,
            ..RestartPolicy::default()
        })
        .with_give_up(GiveUp::Quarantine { probe_after })
    }
}

fn is_running(state: &ChildState) -> bool {
    *state == ChildState::Running
}

fn is_quarantined(state: &ChildState) -> bool {
    matches!(state, ChildState::Quarantined { .. })
}
