//! The executor of one function: does its jobs.
//!
//! For each job: bring the run's state, ask the engine what the job leads to, call the app if it says so, let the engine
//! decide what the answer means, and have the decision committed. The executor does the I/O around the engine and
//! decides nothing.
//!
//! Inputs of one run are decided one after another, in the order in which they came; different runs, and the calls of
//! parallel steps of one run, go side by side. A decision that can't be committed because the run has moved on is made
//! again from the state in the database, and so is the verdict that a job has nothing left to do. A call that another
//! process may have made before is made from the state in the database, never from one remembered here, and never from one
//! that was read a while ago: a process that stood still does not know it.
//!
//! Each call runs in a task of its own, so a panic there fails one attempt and nothing else. What a dying executor had in
//! hand goes back to the queue by itself (see [`Assignment`]).

mod call;
mod local;
mod report;
mod run_slot;
mod search;
mod slot;

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use tokio::time::Instant;

use crate::assignment::Assignment;
use crate::breaker::Pass;
use crate::catalog::SharedCatalog;
use crate::domain::{Change, Function, FunctionId, ReportRefused, RequestId, RunId, RunState, Timestamp};
use crate::engine::{self, Context as Deciding, Input, Next, RetryPolicy};
use crate::kernel::{AddressBook, Boot, Observation, Supervised};
use crate::link::{self, LinkError};
use crate::metrics::Metrics;
use crate::ports::{Clock, Lease, Queue, Random, Store};
use crate::run_cache::RunCache;
use crate::run_slots;
use crate::supervisor::{RestChild, Supervisor};
pub(crate) use call::taken as signals_taken;
pub use local::Local;
pub use report::{NotTaken, TakeReport, Taken};
use slot::{Slot, Task, Work};

/// An executor that has had nothing to do for so long is put to rest.
const IDLE: Duration = Duration::from_secs(60);
/// How long a job waits whose run could not be loaded or whose decision could not be committed.
const SETBACK: Duration = Duration::from_millis(500);
/// Decisions on one input that may lose against somebody faster before the job is handed back.
const TRIES: u32 = 5;

/// How old what is known of a run may be when its app is called. Less than the shortest time for which a silent process
/// keeps its leases, 3 s: nobody else can have gone on meanwhile, even if this process stood still.
const FRESH: Duration = Duration::from_secs(2);
/// The same for a job that somebody else may have held before: one who wakes now still commits what his call brought.
const FRESH_AFTER_OTHERS: Duration = Duration::from_millis(250);
/// Times that a run is loaded anew for one job. A database that always takes longer than that must not stop all work.
const DOUBTS: u32 = 8;

/// Do this job.
#[derive(Debug)]
pub struct Perform(pub Assignment);

impl Message for Perform {
    type Result = ();
}

/// What an executor works with; the same for all of a thread.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// Where jobs are acknowledged.
    pub queue: Arc<dyn Queue>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Functions as they are now.
    pub catalog: SharedCatalog,
    /// States between two jobs.
    pub cache: RunCache,
    /// Where the writer is.
    pub book: AddressBook,
    /// What is counted.
    pub metrics: Metrics,
    /// Who puts an idle executor to rest.
    pub supervisor: Addr<Supervisor>,
    /// How long failed attempts wait.
    pub retry: RetryPolicy,
    /// How long a request made on an app's behalf may take.
    pub fetch_timeout: Duration,
    /// How long before a wait was set its event may have come.
    pub look_back: Option<Duration>,
}

/// The actor.
pub struct Executor {
    id: FunctionId,
    boot: Boot,
    parts: Parts,
    local: Local,
    slots: HashMap<RunId, Slot>,
    calls: Rc<Cell<u64>>,
    idle_since: Instant,
    is_stopping: bool,
    done: u64,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor")
            .field("function", &self.id)
            .field("runs", &self.slots.len())
            .finish_non_exhaustive()
    }
}

impl Executor {
    /// The executor of function `id`.
    #[must_use]
    pub fn new(id: FunctionId, boot: Boot, parts: Parts, local: Local) -> Self {
        Self {
            id,
            boot,
            parts,
            local,
            slots: HashMap::new(),
            calls: Rc::default(),
            idle_since: Instant::now(),
            is_stopping: false,
            done: 0,
        }
    }

    fn function(&self) -> Option<Arc<Function>> {
        self.parts.catalog.current().function(self.id).cloned()
    }

    /// Goes on with a run's next task, if its last one is through.
    fn go_on(&mut self, run: RunId, ctx: &mut Context<Self>) {
        loop {
            let Some(slot) = self.slots.get_mut(&run) else { return };
            if slot.is_busy {
                return;
            }
            if slot.work.is_empty() {
                return self.leave(run, ctx);
            }
            if slot.state.is_none()
                && let Some(kept) = self.parts.cache.take(run)
            {
                slot.state = Some(Box::new(kept.state));
                slot.replied_at = kept.replied_at;
            }
            if slot.state.is_none() {
                slot.is_busy = true;
                slot.known_at = Some(Instant::now());
                return self.load(run, ctx);
            }
            match slot.work.pop_front() {
                Some(Work::Job(task)) => self.begin(run, task, ctx),
                Some(Work::Report(pending)) => self.take_report(run, pending, ctx),
                None => return,
            }
        }
    }

    /// Reads a run's state from the store.
    fn load(&self, run: RunId, ctx: &mut Context<Self>) {
        let loaded = Rc::clone(&self.local.states).ask(run);
        let then = loaded.into_actor(self).map(move |loaded, executor: &mut Self, ctx| {
            let Some(slot) = executor.slots.get_mut(&run) else {
                return;
            };
            slot.is_busy = false;
            match loaded {
                Ok(Some(state)) => slot.state = Some(Box::new(state)),
                // It has ended: its jobs went with it, and so do these.
                Ok(None) => executor.drop_work(run),
                Err(error) => {
                    tracing::warn!(%run, function = %executor.id, %error, "run not loaded, trying again");
                    executor.set_back(run);
                }
            }
            executor.go_on(run, ctx);
        });
        ctx.spawn(then);
    }

    /// One task, with the run's state at hand.
    fn begin(&mut self, run: RunId, task: Task, ctx: &mut Context<Self>) {
        let Some(function) = self.function() else {
            // Functions are archived, never deleted, so this is a catalog that has not been read yet.
            tracing::warn!(%run, function = %self.id, "the executor's function is not in the catalog");
            return self.hand_back(task.assignment);
        };
        let Task {
            mut assignment,
            input,
            tries,
            doubts,
            has_slot,
            request,
        } = task;
        let Some(slot) = self.slots.get_mut(&run) else { return };
        let Some(state) = slot.state.as_deref() else { return };
        if input.is_none() && self.is_stopping {
            // A drain finishes what was begun and begins nothing.
            return self.hand_back(assignment);
        }
        if let Some(input) = input {
            return self.decide(run, &function, assignment, input, tries, ctx);
        }
        // Nor is a job given up that a state held since before does not know.
        let is_last_word = assignment.poisoned().is_some();
        let is_doubtful = match doubts {
            0 => is_last_word || is_for_others_too(assignment.lease(), self.parts.clock.now()),
            // While this process stood still, others may have gone on after the state was read.
            1..DOUBTS => {
                let bound = if assignment.lease().is_first {
                    FRESH
                } else {
                    FRESH_AFTER_OTHERS
                };
                slot.known_at.is_some_and(|at| at.elapsed() > bound)
            }
            _ => false,
        };
        if is_doubtful {
            return slot.doubt(assignment, tries, doubts);
        }
        if let Some(reason) = assignment.poisoned() {
            let input = Input::Poisoned(Box::new(assignment.lease().job.clone()), reason.to_owned());
            return self.decide(run, &function, assignment, input, tries, ctx);
        }
        if !has_slot
            && let Some(claim) = run_slot::claim(state, &function, &assignment.lease().job.id.key)
            && engine::is_due(state, &assignment.lease().job)
        {
            return self.take_slot(claim, assignment, doubts, ctx);
        }
        let request = request.unwrap_or_else(|| RequestId::new(self.parts.clock.now(), self.parts.random.bits()));
        match assignment.handle(|lease| engine::dispatch(state, &function, &lease.job, request, lease.epoch)) {
            // The router writes the jobs of waits without the executor: a state held since before does not know them.
            Next::Stale if doubts == 0 && !state.status.is_final() => slot.doubt(assignment, tries, doubts),
            Next::Stale => self.acknowledge(assignment),
            Next::Search(search) => {
                slot.calls += 1;
                self.search(run, *search, assignment, ctx);
            }
            Next::Decide(input) => {
                // What follows, follows from this.
                slot.replied_at = None;
                self.decide(run, &function, assignment, input, tries, ctx);
            }
            Next::Call(call) => {
                if let Some(wait) = assignment.pass().as_ref().and_then(Pass::recalled) {
                    return self.put_off(assignment, wait);
                }
                slot.calls += 1;
                slot.under_way.push(call.ticket.call.clone());
                let replied_at = slot.replied_at.take();
                self.note_call(&assignment.lease().job, replied_at);
                self.call(run, *call, assignment, ctx);
            }
        }
    }

    /// Decides on an input and has the decision committed.
    fn decide(
        &mut self,
        run: RunId,
        function: &Function,
        mut assignment: Assignment,
        input: Input,
        tries: u32,
        ctx: &mut Context<Self>,
    ) {
        let Some(slot) = self.slots.get_mut(&run) else { return };
        let Some(state) = slot.state.take() else { return };
        let expected = state.version;
        let catalog = self.parts.catalog.current();
        let context = Deciding {
            now: self.parts.clock.now(),
            dice: self.parts.random.unit(),
            retry: self.parts.retry,
            listeners: &*catalog,
            look_back: self.parts.look_back,
        };
        let (next, changes) = assignment.handle(|_| engine::decide(*state, function, &input, &context));
        // The job's call is yet to be made.
        let goes_on = match &input {
            Input::Begun => Some(None),
            Input::Superseded(call) => Some(Some(call.request)),
            _ => None,
        };
        if changes.is_empty() {
            slot.state = Some(Box::new(next));
            return if goes_on.is_some() {
                slot.push_front(Task::new(assignment));
            } else {
                self.acknowledge(assignment);
            };
        }
        self.commit(run, next, expected, changes, ctx, move |executor, outcome| {
            let Some(slot) = executor.slots.get_mut(&run) else {
                return;
            };
            match outcome {
                Ok(true) => match goes_on {
                    Some(request) => slot.push_front(Task {
                        request,
                        ..Task::begun(assignment)
                    }),
                    None => executor.acknowledge(assignment),
                },
                // From here on the state is loaded anew.
                Ok(false) if tries < TRIES => slot.push_front(Task {
                    input: Some(input),
                    tries: tries + 1,
                    ..Task::new(assignment)
                }),
                Ok(false) => executor.hand_back(assignment),
                Err(error) => {
                    // Whether it was written is not known; the state in the database will tell.
                    tracing::warn!(%run, function = %executor.id, %error, "decision not committed, trying again");
                    executor.hand_back(assignment);
                    executor.set_back(run);
                }
            }
        });
    }

    /// Has a decision about a run committed, keeps the state that it leads to, and goes on with the run when `then` has seen
    /// what has come of it. Without it the state is loaded anew.
    fn commit(
        &mut self,
        run: RunId,
        next: RunState,
        expected: u64,
        changes: Vec<Change>,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Result<bool, LinkError>) + 'static,
    ) {
        let Some(slot) = self.slots.get_mut(&run) else { return };
        slot.is_busy = true;
        let asked_at = Instant::now();
        let (book, metrics, of) = (self.parts.book.clone(), self.parts.metrics.clone(), (run, self.id));
        let committed = async move { link::advance(&book, &metrics, of, expected, changes).await };
        let done = committed
            .into_actor(self)
            .map(move |outcome, executor: &mut Self, ctx| {
                let Some(slot) = executor.slots.get_mut(&run) else {
                    return;
                };
                slot.is_busy = false;
                let mut left = None;
                if matches!(outcome, Ok(true)) {
                    left = run_slots::left_by(&next);
                    slot.state = Some(Box::new(next));
                    slot.known_at = Some(asked_at);
                }
                then(executor, outcome);
                if let Some(left) = left {
                    executor.pass_slot_on(left);
                }
                executor.go_on(run, ctx);
            });
        ctx.spawn(done);
    }

    /// The run has nothing to do now: its state goes to the cache if it is going to be needed at once.
    fn leave(&mut self, run: RunId, ctx: &mut Context<Self>) {
        let Some(slot) = self.slots.get(&run) else { return };
        if slot.calls > 0 {
            return;
        }
        if let Some(Slot {
            state: Some(state),
            replied_at,
            ..
        }) = self.slots.remove(&run)
            && state.jobs.keys().any(crate::domain::JobKey::is_call)
        {
            self.parts.cache.put(*state, replied_at);
        }
        if self.slots.is_empty() {
            self.idle_since = Instant::now();
            if self.is_stopping {
                ctx.stop();
            }
        }
    }

    fn acknowledge(&mut self, assignment: Assignment) {
        self.done += 1;
        let queue = Arc::clone(&self.parts.queue);
        let lease = assignment.finish();
        actix::spawn(async move { queue.acknowledge(&lease.job.id, lease.epoch).await });
    }

    /// Gives a job back, to be handed out again after a moment.
    fn hand_back(&self, assignment: Assignment) {
        self.put_off(assignment, SETBACK);
    }

    /// Gives a job back, to be handed out again after this time.
    fn put_off(&self, assignment: Assignment, wait: Duration) {
        let queue = Arc::clone(&self.parts.queue);
        let due = self.parts.clock.now().after(wait);
        let lease = assignment.settle();
        actix::spawn(async move { queue.release(&lease.job.id, lease.epoch, due).await });
    }

    /// Gives a run's waiting jobs back. Replies among them are lost: their calls are made again (P3 allows it). Whoever
    /// reports is told to try again.
    fn set_back(&mut self, run: RunId) {
        for work in self.take_work(run) {
            match work {
                Work::Job(task) => self.hand_back(task.assignment),
                Work::Report(pending) => drop(pending),
            }
        }
    }

    /// The run has ended.
    fn drop_work(&mut self, run: RunId) {
        for work in self.take_work(run) {
            match work {
                Work::Job(task) => self.acknowledge(task.assignment),
                Work::Report(pending) => pending.refuse(ReportRefused::Stale),
            }
        }
    }

    fn take_work(&mut self, run: RunId) -> VecDeque<Work> {
        let slot = self.slots.get_mut(&run);
        slot.map(|slot| std::mem::take(&mut slot.work)).unwrap_or_default()
    }

    fn rest_if_idle(&self) {
        if self.slots.is_empty() && self.idle_since.elapsed() >= IDLE {
            let (name, generation) = (self.boot.name.clone(), Some(self.boot.generation));
            self.parts.supervisor.do_send(RestChild { name, generation });
        }
    }
}

/// Whether another process may have done this call, or moved its run on since: a step whose result is recorded must not be
/// called again (P3), and what is remembered here may not know of it.
fn is_for_others_too(lease: &Lease, now: Timestamp) -> bool {
    lease.job.id.key.is_call() && (!lease.is_first || now.since(lease.since) > FRESH)
}

impl Actor for Executor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // Whatever one function has under way comes through here; how much that is, the permits decide.
        ctx.set_mailbox_capacity(1024);
        ctx.run_interval(IDLE, |executor, _| executor.rest_if_idle());
    }
}

impl Supervised for Executor {
    fn observe(&self) -> Observation {
        let name = self.function().map(|function| function.slug.to_string());
        Observation::of(self.calls.get()).with_detail(serde_json::json!({
            "function": name,
            "runs": self.slots.len(),
            "jobs_done": self.done,
        }))
    }

    fn wind_down(&mut self, ctx: &mut Context<Self>) {
        self.is_stopping = true;
        if self.slots.is_empty() {
            ctx.stop();
        }
    }
}

impl Handler<Perform> for Executor {
    type Result = ();

    fn handle(&mut self, Perform(assignment): Perform, ctx: &mut Context<Self>) {
        if self.is_stopping {
            return self.hand_back(assignment);
        }
        let run = assignment.lease().job.id.run;
        let slot = self.slots.entry(run).or_default();
        slot.push_back(Task::new(assignment));
        self.go_on(run, ctx);
    }
}

#[cfg(test)]
mod tests;
