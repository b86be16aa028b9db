//! The process tree: which actors there are, on which threads, in which order.
//!
//! ```text
//!   order  child                 on giving up           thread
//!   1      state-writer          stop the process       work
//!   2      router, registrar     stop the process       work
//!   2      presence              stop the process       work    (where the store is shared)
//!   3      executor/<function>   quarantine, probe      work    (started on demand, put to rest when idle)
//!   4      scheduler, janitor,   stop the process       work
//!          steward
//!   5      consumer, gateway     stop the process       work    (start last, stop first)
//! ```
//!
//! The work thread is the one that serves HTTP: an event's way from the request to the writer, and a reply's way from the
//! app to the next call, cross no thread. The supervisor has a thread of its own.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actix::ArbiterHandle;
use tokio::sync::{Notify, oneshot};

use super::Orchestrator;
use crate::breaker::{self, Breakers};
use crate::catalog::SharedCatalog;
use crate::consumer::{self, Consumer, executor_name};
use crate::domain::{FunctionId, GateKind, Node};
use crate::engine::RetryPolicy;
use crate::executor::{self, Executor, Local};
use crate::gateway::Gateway;
use crate::janitor::{self, Janitor, Retention};
use crate::kernel::credit::Limits;
use crate::kernel::{ChildSpec, Credits, GiveUp, Placement, RestartKind, RestartPolicy, Supervised};
use crate::link::names;
use crate::metrics::Metrics;
use crate::outside::Outside;
use crate::parked::Parked;
use crate::ports::{Clock, InvokerFactory, Queue, Random, Store, StoreError};
use crate::presence::{self, Presence};
use crate::registrar::{self, Registrar};
use crate::rerun::Reruns;
use crate::router::{self, Router};
use crate::run_cache::RunCache;
use crate::run_ends::RunEnds;
use crate::scheduler::alarm::Alarm;
use crate::scheduler::catch_up::CatchUp;
use crate::scheduler::untaken::Untaken;
use crate::scheduler::{self, Scheduler};
use crate::state_writer::{self, StateWriter};
use crate::steward::{self, Steward};
use crate::supervisor::{self, Refusal, Sources, StartTree, Supervisor};
use crate::workers::Workers;

/// The world, as the daemon provides it.
#[derive(Clone)]
pub struct World {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// Calls apps.
    pub invoker: Arc<dyn InvokerFactory>,
    /// The workers that are connected.
    pub workers: Workers,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// This process.
    pub node: Node,
    /// Whether other processes use the same store and queue.
    pub is_shared: bool,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long failed attempts wait.
    pub retry: RetryPolicy,
    /// Jobs in flight, at the most.
    pub jobs_in_flight: usize,
    /// Jobs in flight of one function, at the most.
    pub jobs_per_function: usize,
    /// How far ahead of their time jobs are held in memory.
    pub horizon: Duration,
    /// What becomes of cron slots that were missed.
    pub catch_up: CatchUp,
    /// How long before a wait was set its event may have come; `None`: only what comes later counts.
    pub look_back: Option<Duration>,
    /// When apps that can't be reached are left alone.
    pub breaker: breaker::Settings,
    /// Bytes of run states kept between two jobs.
    pub cache_bytes: usize,
    /// How long a request made on an app's behalf may take.
    pub fetch_timeout: Duration,
    /// What is kept for how long.
    pub retention: Retention,
    /// How actors that fail are restarted.
    pub restart: RestartPolicy,
    /// When a function whose executor can't be kept running is tried again.
    pub quarantine_probe: Duration,
    /// How long calls in flight may take to finish in a drain.
    pub drain_grace: Duration,
    /// Heartbeats.
    pub supervision: supervisor::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            retry: RetryPolicy::default(),
            jobs_in_flight: 1_000,
            jobs_per_function: 500,
            horizon: Duration::from_secs(10),
            catch_up: CatchUp::default(),
            look_back: None,
            breaker: breaker::Settings::default(),
            cache_bytes: 32 * 1024 * 1024,
            fetch_timeout: Duration::from_secs(300),
            retention: Retention {
                finished_runs: DAY * 30,
                failed_runs: DAY * 90,
                events: DAY * 30,
            },
            restart: RestartPolicy::default(),
            quarantine_probe: Duration::from_secs(300),
            drain_grace: Duration::from_secs(25),
            supervision: supervisor::Settings::default(),
        }
    }
}

/// Why the tree did not come up.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The catalog could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A child could not be started.
    #[error("the process tree did not start: {0}")]
    Tree(#[from] Refusal),
    /// The thread that does the work is gone.
    #[error("the work thread ended before it began")]
    Work,
    /// The supervisor's thread is gone.
    #[error("the supervisor did not start")]
    Supervisor,
}

thread_local! {
    /// What the executors of this thread share; none of it can leave the thread.
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// Runs of a throttled function that are looked at for when they were started.
const STARTS: usize = 1_000;

/// Reads the catalog for the first time, and tells the queue of it. A queue elsewhere has its connections on the thread that
/// first asks it, so that this has to be the work thread: on another, each exchange would cross over and back.
async fn begin(world: World, registrar: registrar::Parts) -> Result<(), StoreError> {
    registrar::refresh(&registrar).await?;
    recall(&world, &registrar.catalog).await
}

/// Runs `task` on the thread of an arbiter.
async fn on<F>(arbiter: &ArbiterHandle, task: F) -> Result<(), BuildError>
where
    F: Future<Output = Result<(), StoreError>> + Send + 'static,
{
    let (reply, outcome) = oneshot::channel();
    arbiter.spawn(async move {
        // Whoever started the process has given up.
        let _ = reply.send(task.await);
    });
    Ok(outcome.await.map_err(|_| BuildError::Work)??)
}

/// Tells a queue that begins anew what throttles have let through before, as far as the youngest runs tell.
async fn recall(world: &World, catalog: &SharedCatalog) -> Result<(), StoreError> {
    if !world.queue.forgets_starts() {
        return Ok(());
    }
    let catalog = catalog.current();
    for function in catalog.functions().filter(|function| function.flow.throttle.is_some()) {
        let starts = world.store.starts_of(function.id, STARTS).await?;
        let of_throttle = starts.iter().filter_map(|(gates, at)| {
            let gate = gates
                .as_slice()
                .first()
                .filter(|gate| gate.kind == GateKind::Throttle)?;
            Some((function.id, gate.bucket, *at))
        });
        let mut starts: Vec<_> = of_throttle.collect();
        starts.sort_by_key(|(_, _, at)| *at);
        world.queue.recall(starts).await;
    }
    Ok(())
}

/// Starts the process tree: the supervisor on its own thread, everybody else on `work`.
///
/// # Errors
/// When the store can't be read, or a child the process can't do without does not start.
pub async fn build(
    world: World,
    settings: Settings,
    root: &ArbiterHandle,
    work: ArbiterHandle,
) -> Result<Orchestrator, BuildError> {
    let catalog = SharedCatalog::default();
    // Who has work for the scheduler rings one bell, whether functions have changed or workers have come.
    let functions_changed = world.workers.bell();
    let metrics = Metrics::default();
    let breakers = Breakers::new(
        settings.breaker.clone(),
        Arc::clone(&world.clock),
        Arc::clone(&world.random),
    );
    let registrar = registrar::Parts {
        store: Arc::clone(&world.store),
        queue: Arc::clone(&world.queue),
        clock: Arc::clone(&world.clock),
        catalog: catalog.clone(),
        changed: Arc::clone(&functions_changed),
        metrics: metrics.clone(),
        breakers: breakers.clone(),
    };
    on(&work, begin(world.clone(), registrar.clone())).await?;

    let (dice, wall) = (Arc::clone(&world.random), Arc::clone(&world.clock));
    let sources = Sources {
        dice: Box::new(move || dice.unit()),
        wall_ms: Box::new(move || wall.now().as_millis()),
    };
    let supervisor = Supervisor::start_on(root, settings.supervision, sources);
    let book = supervisor.book.clone();
    let placement = Placement::new("work", work);
    let cache = RunCache::new(settings.cache_bytes);
    let unrouted = Arc::new(Notify::new());
    let untaken = Untaken::default();
    let alarm = Alarm::default();
    let parked = Parked::new(catalog.clone(), world.workers.clone(), Arc::clone(&functions_changed));

    let child = Children {
        placement: placement.clone(),
        policy: settings.restart,
    };
    let ends = RunEnds::default();
    let writer = state_writer::Parts {
        store: Arc::clone(&world.store),
        queue: Arc::clone(&world.queue),
        clock: Arc::clone(&world.clock),
        cache: cache.clone(),
        ends: ends.clone(),
        unrouted: Arc::clone(&unrouted),
        untaken: untaken.clone(),
        untaken_changed: Arc::clone(&functions_changed),
        alarm: alarm.clone(),
        metrics: metrics.clone(),
        horizon: settings.horizon,
    };
    let router = router::Parts {
        store: Arc::clone(&world.store),
        clock: Arc::clone(&world.clock),
        catalog: catalog.clone(),
        book: book.clone(),
        unrouted,
        metrics: metrics.clone(),
    };
    let scheduler = scheduler::Parts {
        store: Arc::clone(&world.store),
        queue: Arc::clone(&world.queue),
        clock: Arc::clone(&world.clock),
        catalog: catalog.clone(),
        changed: functions_changed,
        untaken,
        alarm,
        parked: parked.clone(),
        book: book.clone(),
        metrics: metrics.clone(),
        horizon: settings.horizon,
        catch_up: settings.catch_up,
    };
    let janitor = janitor::Parts {
        store: Arc::clone(&world.store),
        clock: Arc::clone(&world.clock),
        random: Arc::clone(&world.random),
        catalog: catalog.clone(),
        book: book.clone(),
        retention: settings.retention,
        metrics: metrics.clone(),
        node: world.is_shared.then_some(world.node.id),
    };
    let operations_changed = Arc::new(Notify::new());
    let steward = steward::Parts {
        outside: Outside {
            store: Arc::clone(&world.store),
            queue: Arc::clone(&world.queue),
            clock: Arc::clone(&world.clock),
            random: Arc::clone(&world.random),
            catalog: catalog.clone(),
            book: book.clone(),
            metrics: metrics.clone(),
            retry: settings.retry,
        },
        reruns: Reruns {
            store: Arc::clone(&world.store),
            catalog: catalog.clone(),
            book: book.clone(),
        },
        changed: Arc::clone(&operations_changed),
        node: world.is_shared.then_some(world.node.id),
    };
    let executor = executor::Parts {
        store: Arc::clone(&world.store),
        queue: Arc::clone(&world.queue),
        clock: Arc::clone(&world.clock),
        random: Arc::clone(&world.random),
        catalog: catalog.clone(),
        cache,
        book: book.clone(),
        metrics: metrics.clone(),
        supervisor: supervisor.address.clone(),
        retry: settings.retry,
        fetch_timeout: settings.fetch_timeout,
        look_back: settings.look_back,
    };
    let consumer = consumer::Parts {
        lane: consumer::Lane::default(),
        queue: Arc::clone(&world.queue),
        clock: Arc::clone(&world.clock),
        parked,
        supervisor: supervisor.clone(),
        spec: executor_spec(executor, Arc::clone(&world.invoker), placement, &settings),
        catalog: catalog.clone(),
        breakers: breakers.clone(),
        workers: world.workers.clone(),
        credits: Credits::new(Limits {
            total: settings.jobs_in_flight,
            per_key: settings.jobs_in_flight,
            // The consumer.
            waiting: 1,
        }),
        per_function: settings.jobs_per_function,
    };
    let is_draining = Arc::new(AtomicBool::new(false));
    let presence = presence::Parts {
        store: Arc::clone(&world.store),
        clock: Arc::clone(&world.clock),
        catalog: catalog.clone(),
        book: book.clone(),
        credits: consumer.credits.clone(),
        metrics: metrics.clone(),
        node: world.node.clone(),
        is_draining: Arc::clone(&is_draining),
    };
    let credits = consumer.credits.clone();
    let (workers, has_others) = (world.workers.clone(), world.is_shared);
    let mut tree = vec![
        child.spec(names::WRITER, "state-writer", 1, move || {
            StateWriter::new(writer.clone())
        }),
        child.spec(names::ROUTER, "router", 2, move || Router::new(router.clone())),
        child.spec(names::REGISTRAR, "registrar", 2, move || {
            Registrar::new(registrar.clone())
        }),
        child.spec(names::SCHEDULER, "scheduler", 4, move || {
            Scheduler::new(scheduler.clone())
        }),
        child.spec(names::JANITOR, "janitor", 4, move || Janitor::new(janitor.clone())),
        child.spec(names::STEWARD, "steward", 4, move || Steward::new(steward.clone())),
        child.spec(names::CONSUMER, "consumer", 5, move || Consumer::new(consumer.clone())),
        child.spec(names::GATEWAY, "gateway", 5, move || {
            Gateway::new(workers.clone(), has_others)
        }),
    ];
    if world.is_shared {
        tree.push(child.spec(names::PRESENCE, "presence", 2, move || Presence::new(presence.clone())));
    }
    supervisor
        .address
        .send(StartTree(tree))
        .await
        .map_err(|_| BuildError::Supervisor)??;
    let World {
        store,
        queue,
        clock,
        random,
        node,
        is_shared,
        workers,
        ..
    } = world;
    Ok(Orchestrator {
        store,
        queue,
        clock,
        random,
        catalog,
        supervisor,
        metrics,
        credits,
        breakers,
        workers,
        node,
        is_shared,
        is_draining,
        events_kept: settings.retention.events,
        operations_changed,
        metadata_turns: Arc::default(),
        ends,
        retry: settings.retry,
    })
}

/// What the children there is one of have in common.
struct Children {
    placement: Placement,
    policy: RestartPolicy,
}

impl Children {
    fn spec<A: Supervised>(
        &self,
        name: &'static str,
        role: &'static str,
        order: u16,
        factory: impl Fn() -> A + Send + Sync + 'static,
    ) -> ChildSpec {
        ChildSpec::new(name, role, self.placement.clone(), move |_| factory())
            .with_policy(self.policy)
            .with_order(order)
    }
}

fn executor_spec(
    parts: executor::Parts,
    invoker: Arc<dyn InvokerFactory>,
    placement: Placement,
    settings: &Settings,
) -> consumer::ExecutorSpec {
    let (policy, grace, probe_after) = (settings.restart, settings.drain_grace, settings.quarantine_probe);
    Arc::new(move |id: FunctionId| {
        let (parts, invoker) = (parts.clone(), Arc::clone(&invoker));
        let factory = move |boot| {
            let local = LOCAL.with_borrow_mut(|local| {
                let make = || Local::new(&parts, invoker.build());
                local.get_or_insert_with(make).clone()
            });
            Executor::new(id, boot, parts.clone(), local)
        };
        ChildSpec::new(executor_name(id), "executor", placement.clone(), factory)
            .with_restart(RestartKind::Permanent)
            .with_policy(policy)
            .with_give_up(GiveUp::Quarantine { probe_after })
            .with_order(3)
            .with_stop_grace(grace)
    })
}

#[cfg(test)]
mod tests {
    use actix::{Arbiter, System};

    use super::*;
    use crate::testkit::{FakeApp, Rig};

    #[test]
    fn the_queue_lives_where_the_work_is_done() {
        System::new().block_on(async {
            let work = Arbiter::new();
            let (sender, thread) = oneshot::channel();
            work.spawn_fn(move || {
                let _ = sender.send(std::thread::current().id());
            });
            let app = FakeApp::new(|call| unreachable!("there is no function: {call:?}"));
            let rig = Rig::on_two_threads(Vec::new(), app, work.handle()).await;
            assert_eq!(rig.queue.thread(), thread.await.ok());
            assert_ne!(rig.queue.thread(), Some(std::thread::current().id()));
            rig.orchestrator.drain(Duration::from_secs(1)).await;
        });
    }
}
