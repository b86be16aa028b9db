//! The process tree in a world of fakes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use actix::{Arbiter, ArbiterHandle, System};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{EPOCH, FakeApp, FakeQueue, FakeStore, event};
use crate::domain::{EventId, Function, Node, NodeId, NodeState, RunId, RunStatus, Timestamp};
use crate::orchestrator::{Orchestrator, Refusal, Settings, World, build};
use crate::ports::{Clock, Queue, Random, Store};
use crate::workers::{self, Workers};

/// Longest anybody waits for anything, in virtual time.
const DEADLINE: Duration = Duration::from_secs(1_000);

/// Runs a test on one thread whose clock advances whenever everybody waits.
pub(crate) fn virtually<T>(test: impl Future<Output = T>) -> T {
    System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
    })
    .block_on(test)
}

/// Follows the virtual clock, and may be set.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    since: Instant,
    /// How far it was set ahead, in milliseconds.
    ahead: AtomicI64,
}

impl VirtualClock {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            ahead: AtomicI64::new(0),
        }
    }

    /// Sets it so far from what it would show.
    pub(crate) fn set_ahead(&self, seconds: i64) {
        self.ahead.store(seconds * 1_000, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let shown = EPOCH.after(self.since.elapsed()).as_millis();
        Timestamp::from_millis(shown + self.ahead.load(Ordering::SeqCst))
    }
}

/// Counts instead of rolling dice, or rolls what no die shows.
#[derive(Debug, Default)]
pub(crate) struct FakeRandom {
    next: AtomicU64,
    poisonous: AtomicU64,
}

impl FakeRandom {
    /// The next roll shows no number: a decision to wait before the next attempt then panics in the engine.
    pub(crate) fn poison(&self) {
        self.poisonous.store(1, Ordering::SeqCst);
    }
}

impl Random for FakeRandom {
    fn bits(&self) -> u128 {
        u128::from(self.next.fetch_add(1, Ordering::SeqCst)) + (1 << 64)
    }

    fn unit(&self) -> f64 {
        if self.poisonous.swap(0, Ordering::SeqCst) > 0 {
            f64::NAN
        } else {
            0.0
        }
    }
}

/// The tree, and everything it works with.
pub(crate) struct Rig {
    pub(crate) store: Arc<FakeStore>,
    pub(crate) queue: Arc<FakeQueue>,
    pub(crate) app: FakeApp,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) random: Arc<FakeRandom>,
    pub(crate) orchestrator: Orchestrator,
}

/// A node.
fn node() -> Node {
    Node {
        id: NodeId::new(EPOCH, 1),
        name: "test".to_owned(),
        address: String::new(),
        version: String::new(),
        started_at: EPOCH,
        state: NodeState::Serving,
        jobs_in_flight: 0,
    }
}

impl Rig {
    /// These functions, served by this app.
    pub(crate) async fn new(functions: Vec<Function>, app: FakeApp) -> Self {
        Self::with(functions, app, Settings::default()).await
    }

    pub(crate) async fn with(functions: Vec<Function>, app: FakeApp, settings: Settings) -> Self {
        Self::on(Arc::new(FakeStore::with(functions)), app, settings).await
    }

    /// As one of several nodes.
    pub(crate) async fn shared(functions: Vec<Function>, app: FakeApp) -> Self {
        let store = Arc::new(FakeStore::with(functions));
        Self::up(store, app, Settings::default(), true, Arc::new(VirtualClock::new())).await
    }

    /// Drained, and up again after a while on the same store, by the same clock.
    pub(crate) async fn restarted(self, downtime: Duration, settings: Settings) -> Self {
        self.within(self.orchestrator.drain(Duration::from_secs(1))).await;
        let (store, app, clock) = (Arc::clone(&self.store), self.app.clone(), Arc::clone(&self.clock));
        drop(self);
        tokio::time::sleep(downtime).await;
        Self::up(store, app, settings, false, clock).await
    }

    /// Another node on the same store, by the same clock, with a queue of its own.
    pub(crate) async fn beside(&self, settings: Settings) -> Self {
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        Self::up(store, self.app.clone(), settings, false, clock).await
    }

    /// On a store with a past.
    pub(crate) async fn on(store: Arc<FakeStore>, app: FakeApp, settings: Settings) -> Self {
        Self::up(store, app, settings, false, Arc::new(VirtualClock::new())).await
    }

    /// With the work on a thread of its own, as a daemon has it.
    pub(crate) async fn on_two_threads(functions: Vec<Function>, app: FakeApp, work: ArbiterHandle) -> Self {
        let (store, clock) = (Arc::new(FakeStore::with(functions)), Arc::new(VirtualClock::new()));
        Self::up_on(work, store, app, Settings::default(), false, clock).await
    }

    async fn up(
        store: Arc<FakeStore>,
        app: FakeApp,
        settings: Settings,
        is_shared: bool,
        clock: Arc<VirtualClock>,
    ) -> Self {
        Self::up_on(Arbiter::current(), store, app, settings, is_shared, clock).await
    }

    async fn up_on(
        work: ArbiterHandle,
        store: Arc<FakeStore>,
        app: FakeApp,
        settings: Settings,
        is_shared: bool,
        clock: Arc<VirtualClock>,
    ) -> Self {
        let queue = Arc::new(FakeQueue::default());
        let random = Arc::new(FakeRandom::default());
        let workers = Workers::new(
            workers::Settings::default(),
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::clone(&random) as Arc<dyn Random>,
        );
        let world = World {
            store: Arc::clone(&store) as Arc<dyn Store>,
            queue: Arc::clone(&queue) as Arc<dyn Queue>,
            invoker: Arc::new(app.clone()),
            workers: workers.clone(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Arc::clone(&random) as Arc<dyn Random>,
            node: node(),
            is_shared,
        };
        let orchestrator = build(world, settings, &Arbiter::current(), work)
            .await
            .expect("the tree comes up");
        Self {
            store,
            queue,
            app,
            clock,
            random,
            orchestrator,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Sends one event and says which it is.
    pub(crate) async fn send(&self, name: &str, data: &Value) -> EventId {
        self.try_send(name, data).await.expect("accepted")
    }

    pub(crate) async fn try_send(&self, name: &str, data: &Value) -> Result<EventId, Refusal> {
        let event = event(name, data, self.random.bits(), self.now());
        let id = event.id;
        self.within(self.orchestrator.accept(vec![event])).await.map(|()| id)
    }

    /// Sends an event and says which run it starts of a function.
    pub(crate) async fn start(&self, function: &Function, name: &str, data: &Value) -> RunId {
        RunId::derive(self.send(name, data).await, function.id)
    }

    /// Invokes a function, as the API does.
    pub(crate) async fn invoke(&self, slug: &str) -> EventId {
        self.within(self.orchestrator.invoke(slug, Map::new()))
            .await
            .expect("invoked")
    }

    /// Lets virtual time pass until something is true.
    pub(crate) async fn until(&self, what: &str, mut is_true: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_true(self) {
            assert!(
                Instant::now() < deadline,
                "not in {DEADLINE:?}: {what}\n{}",
                self.picture()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets virtual time pass until a run has ended; says how.
    pub(crate) async fn ended(&self, run: RunId) -> &'static str {
        self.until("the run ends", |rig| {
            rig.store.status(run).is_some_and(RunStatus::is_final)
        })
        .await;
        self.store.status(run).expect("it ended").as_str()
    }

    /// Lets virtual time pass.
    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    pub(crate) async fn within<T>(&self, what: impl Future<Output = T>) -> T {
        match tokio::time::timeout(DEADLINE, what).await {
            Ok(done) => done,
            Err(_) => panic!("nothing came of it\n{}", self.picture()),
        }
    }

    fn picture(&self) -> String {
        format!(
            "queue: {:?}\napp: {:?}\nstore: {}\ntree: {:#}",
            self.queue.jobs(),
            self.app,
            self.store.picture(),
            self.orchestrator.status()
        )
    }
}
