//! Feeds the executors: leases jobs while there are permits, and takes back what was abandoned.
//!
//! A permit travels with each job and returns when its outcome is durable, so work in flight is bounded however much is
//! ready (P6). Executors are started when the first job for them comes; while one is down its jobs are handed back. A job
//! over which an executor has died three times is handed out once more, to be given up. Calls of a held function (paused, or
//! without a worker) are dropped from the queue when they come up, the store keeps them; a paused one's calls that have gates
//! go back to where the queue holds them.
//!
//! Started last and stopped first: whatever it hands out has somebody to do it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use crate::assignment::{Assignment, Returned};
use crate::breaker::{Admission, Breakers};
use crate::catalog::{Catalog, SharedCatalog};
use crate::domain::{FunctionId, JobId};
use crate::executor::{Executor, Perform};
use crate::kernel::{ChildName, ChildSpec, Credits, Lookup, Observation, Permit, Supervised};
use crate::parked::Parked;
use crate::ports::{Clock, Lease, Queue};
use crate::supervisor::{StartChild, SupervisorHandle};
use crate::workers::Workers;

/// Panics over one job after which it is given up.
const POISONED_AFTER: u32 = 3;
/// A job over which no executor has died for so long starts over.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60 * 60);
/// All permits are of one key: how much one function may have in flight is the queue's business.
const PERMIT_KEY: &str = "";
/// Jobs leased in one go.
const FETCH: usize = 64;
/// The net below the wake-ups.
const LONGEST_NAP: Duration = Duration::from_secs(5);
/// How long a job for an executor that is out of service is put off.
const PUT_OFF: Duration = Duration::from_secs(5);
/// How long a job is put off at the least, so that nobody is kept busy by it.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// Makes the spec of the executor of one function.
pub type ExecutorSpec = Arc<dyn Fn(FunctionId) -> ChildSpec + Send + Sync>;

/// Where jobs come back. It outlives the consumer, so that none is lost with it.
#[derive(Debug, Clone)]
pub struct Lane {
    sender: UnboundedSender<Returned>,
    receiver: Arc<Mutex<UnboundedReceiver<Returned>>>,
}

impl Default for Lane {
    fn default() -> Self {
        let (sender, receiver) = unbounded_channel();
        Self {
            sender,
            receiver: Arc::new(Mutex::new(receiver)),
        }
    }
}

/// What the consumer works with.
#[derive(Clone)]
pub struct Parts {
    /// Where jobs come back.
    pub lane: Lane,
    /// What is ready.
    pub queue: Arc<dyn Queue>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Functions whose calls are not handed out.
    pub parked: Parked,
    /// Who starts executors, and where they are.
    pub supervisor: SupervisorHandle,
    /// What an executor is.
    pub spec: ExecutorSpec,
    /// Whose app a job calls.
    pub catalog: SharedCatalog,
    /// Whether an app may be called.
    pub breakers: Breakers,
    /// Whether a worker has room.
    pub workers: Workers,
    /// Permits for jobs in flight.
    pub credits: Credits,
    /// Jobs in flight of one function.
    pub per_function: usize,
}

/// The name of the executor of a function.
#[must_use]
pub fn executor_name(function: FunctionId) -> ChildName {
    ChildName::new(format!("executor/{function}"))
}

/// The actor.
pub struct Consumer {
    parts: Parts,
    state: Option<Feed>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("per_function", &self.per_function)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

impl Consumer {
    /// A consumer.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            state: Some(Feed::new(parts.clone())),
            parts,
        }
    }

    fn turn(&mut self, feed: Feed, ctx: &mut Context<Self>) {
        let turn = feed
            .turn()
            .into_actor(self)
            .map(|feed, consumer, ctx| consumer.turn(feed, ctx));
        ctx.spawn(turn);
    }
}

impl Actor for Consumer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if let Some(feed) = self.state.take() {
            self.turn(feed, ctx);
        }
    }
}

impl Supervised for Consumer {
    fn observe(&self) -> Observation {
        let gauges = self.parts.credits.gauges();
        Observation::of(u64::try_from(gauges.in_use).unwrap_or(0))
            .with_detail(serde_json::to_value(gauges).unwrap_or_default())
    }
}

/// The consumer's working state, handed from turn to turn.
struct Feed {
    parts: Parts,
    names: HashMap<FunctionId, ChildName>,
    /// How often an executor has died over a job, and when it last did.
    panics: HashMap<JobId, (u32, Instant)>,
    /// Executors that are being started, and what waits for them.
    starting: HashMap<FunctionId, Vec<Assignment>>,
    started: (UnboundedSender<FunctionId>, UnboundedReceiver<FunctionId>),
}

impl Feed {
    fn new(parts: Parts) -> Self {
        Self {
            parts,
            names: HashMap::new(),
            panics: HashMap::new(),
            starting: HashMap::new(),
            started: unbounded_channel(),
        }
    }

    /// Hands out what is ready, or waits until something may be.
    async fn turn(mut self) -> Self {
        self.take_back().await;
        while let Ok(function) = self.started.1.try_recv() {
            for assignment in self.starting.remove(&function).unwrap_or_default() {
                self.deliver(assignment).await;
            }
        }
        let room = self.parts.credits.available_in_all().min(FETCH);
        let now = self.parts.clock.now();
        let leases = match room {
            0 => Vec::new(),
            room => self.parts.queue.lease(now, room, self.parts.per_function).await,
        };
        if leases.is_empty() {
            self.nap(room == 0).await;
        }
        let leases = self.park(leases).await;
        // From here on whatever happens to a job, it comes back.
        let (mut taken, mut left) = (Vec::with_capacity(leases.len()), Vec::new());
        let catalog = self.parts.catalog.current();
        for lease in leases {
            let pass = match self.admit(&catalog, &lease) {
                Admission::Go(pass) => pass,
                Admission::Wait(wait) => {
                    let due = self.parts.clock.now().after(wait.max(SHORTEST_WAIT));
                    left.push((lease, due));
                    continue;
                }
            };
            match self.parts.credits.try_acquire(PERMIT_KEY) {
                Ok(permit) => taken.push(self.assignment(lease, permit).with_pass(pass)),
                Err(_) => {
                    let due = lease.job.due;
                    left.push((lease, due));
                }
            }
        }
        for (lease, due) in left {
            self.parts.queue.release(&lease.job.id, lease.epoch, due).await;
        }
        for assignment in taken {
            self.deliver(assignment).await;
        }
        self
    }

    /// Drops the calls of held functions from the queue; answers the other leases. In this order: a call that is noted
    /// before it is dropped might be brought again in between, and dropped then. What has gates and is of a paused function was
    /// handed out at the very moment at which they were shut: it goes back behind them and keeps the turn that it has had at
    /// a throttle.
    async fn park(&self, mut leases: Vec<Lease>) -> Vec<Lease> {
        let catalog = self.parts.parked.catalog();
        if !self.parts.parked.may_hold(&catalog) {
            return leases;
        }
        let is_held =
            |lease: &mut Lease| lease.job.id.key.is_call() && self.parts.parked.holds(&catalog, lease.job.function);
        let held: Vec<Lease> = leases.extract_if(.., is_held).collect();
        for lease in held {
            if !lease.job.gates.is_empty() && catalog.is_paused(lease.job.function) {
                let due = lease.job.due;
                self.parts.queue.release(&lease.job.id, lease.epoch, due).await;
                continue;
            }
            self.parts.queue.take_back(&lease.job.id, lease.epoch).await;
            self.parts.parked.add(lease.job.function);
        }
        leases
    }

    /// Waits for something to do: jobs, room, jobs given back, an executor that has come up.
    async fn nap(&mut self, is_full: bool) {
        let mut until = Instant::now() + LONGEST_NAP;
        // Without room only room helps, and the permits announce it.
        if !is_full && let Some(due) = self.parts.queue.next_due().await {
            until = until.min(Instant::now() + due.since(self.parts.clock.now()));
        }
        let credits = self.parts.credits.clone();
        let room = async {
            // Closed credits give no room any more, and nothing to wait for.
            if !is_full || credits.acquire(PERMIT_KEY).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let lane = Arc::clone(&self.parts.lane.receiver);
        let mut lane = lane.lock().await;
        tokio::select! {
            () = self.parts.queue.changed(), if !is_full => {}
            () = room => {}
            Some(returned) = lane.recv() => self.receive(returned).await,
            Some(function) = self.started.1.recv() => {
                // Back in line: delivered at the beginning of the next turn.
                let _ = self.started.0.send(function);
            }
            () = tokio::time::sleep_until(until) => {}
        }
    }

    /// Whether the app that a job calls may be called now. Jobs that call nobody always go.
    fn admit(&self, catalog: &Catalog, lease: &Lease) -> Admission {
        if !lease.job.id.key.is_call() || self.is_poisonous(&lease.job.id) {
            return Admission::Go(None);
        }
        match catalog.function(lease.job.function) {
            Some(function) if function.is_connected() => {
                let wait = self.parts.workers.admit(&function.slug);
                wait.map_or(Admission::Go(None), Admission::Wait)
            }
            _ => self.parts.breakers.ask(catalog, lease.job.function),
        }
    }

    /// Whether a job is handed out once more to be given up.
    fn is_poisonous(&self, job: &JobId) -> bool {
        self.panics
            .get(job)
            .is_some_and(|(panics, _)| *panics >= POISONED_AFTER)
    }

    /// A leased job with its permit.
    fn assignment(&mut self, lease: Lease, permit: Permit) -> Assignment {
        // The count stays: the executor may be down just now, and the job is then handed out again.
        let panics = self.panics.get(&lease.job.id).map_or(0, |(panics, _)| *panics);
        let poisoned = self
            .is_poisonous(&lease.job.id)
            .then(|| format!("the executor panicked {panics} times over this job"));
        Assignment::new(lease, poisoned, permit, self.parts.lane.sender.clone())
    }

    async fn deliver(&mut self, assignment: Assignment) {
        let function = assignment.lease().job.function;
        if let Some(waiting) = self.starting.get_mut(&function) {
            return waiting.push(assignment);
        }
        let name = self.names.entry(function).or_insert_with(|| executor_name(function));
        match self.parts.supervisor.book.find::<Executor>(name.as_str()) {
            Lookup::Here { address, .. } => address.do_send(Perform(assignment)),
            Lookup::Absent => {
                self.starting.insert(function, vec![assignment]);
                self.start(function);
            }
            Lookup::Restarting { until } => {
                self.put_off(assignment, until.saturating_duration_since(Instant::now()))
                    .await;
            }
            Lookup::Quarantined { .. } => self.put_off(assignment, PUT_OFF).await,
        }
    }

    fn start(&self, function: FunctionId) {
        let command = self
            .parts
            .supervisor
            .address
            .send(StartChild((self.parts.spec)(function)));
        let started = self.started.0.clone();
        actix::spawn(async move {
            match command.await {
                Ok(Ok(_)) => {}
                Ok(Err(refusal)) => tracing::warn!(%function, %refusal, "executor not started"),
                Err(error) => tracing::warn!(%function, %error, "executor not started"),
            }
            // Either way its jobs have to go somewhere; the book knows where.
            let _ = started.send(function);
        });
    }

    /// Hands a job back, to be tried again after a while.
    async fn put_off(&self, assignment: Assignment, wait: Duration) {
        let lease = assignment.settle();
        let due = self.parts.clock.now().after(wait.max(SHORTEST_WAIT));
        self.parts.queue.release(&lease.job.id, lease.epoch, due).await;
    }

    async fn take_back(&mut self) {
        let lane = Arc::clone(&self.parts.lane.receiver);
        let mut lane = lane.lock().await;
        while let Ok(returned) = lane.try_recv() {
            self.receive(returned).await;
        }
    }

    async fn receive(&mut self, returned: Returned) {
        let (lease, is_culprit) = match returned {
            Returned::Abandoned { lease, is_culprit } => (lease, is_culprit),
            Returned::GivenUp(id) => {
                self.panics.remove(&id);
                return;
            }
        };
        if is_culprit {
            let now = Instant::now();
            self.panics
                .retain(|_, (_, at)| now.duration_since(*at) < FORGIVEN_AFTER);
            let (panics, at) = self.panics.entry(lease.job.id.clone()).or_insert((0, now));
            *panics += 1;
            *at = now;
            let (run, function) = (lease.job.id.run, lease.job.function);
            tracing::error!(%run, %function, job = %lease.job.id.key, panics, "an executor panicked over a job");
        }
        self.parts
            .queue
            .release(&lease.job.id, lease.epoch, lease.job.due)
            .await;
    }
}

#[cfg(test)]
mod tests;
