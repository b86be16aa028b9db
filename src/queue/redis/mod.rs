//! The queue on Redis: what processes use that share their work.
//!
//! Everything a process wants goes through one script, `scripts/exchange.lua`, in one round trip at a time; see [`driver`]
//! for who sends it, [`desk`] for what is in it. Works on Redis 7, on Valkey, on a cluster (all keys have one hash tag), and
//! on a Redis that evicts, loses or forgets: the store is the truth, and what is missing here is brought again.
//!
//! # Keys
//!
//! All begin with `{<prefix>}:`.
//!
//! | key | type | what it is |
//! |---|---|---|
//! | `meta` | hash | `g` the generation, `now` of the last lease, `epoch` and `turn` last given, `count` of jobs, `spilled` ever, `counted` when they were last counted |
//! | `j:<run>` | hash | the jobs of a run, one record each, by the job's key; `p<key>` the version that waits for the end of a lease |
//! | `r:<function>` | sorted set | the line of a function's ready jobs, scored by the run's creation; members begin with the due time |
//! | `d:<function>` | sorted set | its delayed jobs, scored by their due time |
//! | `turns` | sorted set | the functions with ready jobs, by their turn |
//! | `dues` | sorted set | the functions with delayed jobs, by the earliest |
//! | `sessions` | sorted set | the sessions, by when they expire, on the clock of Redis |
//! | `h:<session>` | hash | what a session holds: epoch, function and time by job; `q` the number of its last exchange |
//! | `reaped:<session>` | string | its leases were taken back; for a day |
//! | `hungry` | sorted set | the processes that found too little, by when they last said so |
//! | `wake:<process>` | list | the bell of a process, for a moment |
//! | `workers` | channel | what instances tell each other of workers that connect; see `src/connect/relay.rs` |
//! | `places:<worker>` | sorted set | requests that a worker has, by when their places end; see `src/connect/places.rs` |
//! | `gone` | sorted set | jobs read from the store that were done within the last minute, by when |
//! | `limits` | hash | the numbers of each function's gates; `` the revision of the table |
//! | `slots` | hash | by bucket: slots held, and `w` if lines wait there; `` is always there, or they are counted anew |
//! | `marks` | sorted set | throttles that are not as good as new, by their mark in microseconds; `` is always there |
//! | `opens` | sorted set | throttles at which lines wait, with rule and function, by when they open |
//! | `ready` | hash | by function: ready jobs with gates |
//! | `l:<function>:<tuple>` | sorted set | like `r:<function>`, for the jobs with these gates |
//! | `g:<function>` | set | the function's lines with gates |
//! | `q:<function>` | sorted set | of those, the ones that may have room, by their first job |
//! | `w:<bucket>:<function>` | sorted set | those that wait for room in a bucket, by their first job |
//! | `wf:<bucket>` | set | the functions that wait at a bucket that several share |
//!
//! `meta` also has `rev`, the revision of the limits, `shut`, until when nothing with gates is handed out, and `used`, since
//! when throttles without a mark count as used up.
//!
//! # Promises
//!
//! * A job is leased to one session at a time, and a session that is not heard of for [`Options::ttl`] loses its leases.
//!   Epochs rise over all processes and survive the loss of everything. What a process says of a lease it lost is ignored.
//! * A [`push`](Queue::push) is in Redis when it is answered, or spilled for want of room, or not heard.
//! * An exchange whose answer is lost does no harm, whether it has happened, is about to, or never will.
//! * If Redis comes back without what it held (the generation is missing, or a session, or the last exchanges), processes say
//!   at once what they hold, and [`forgotten`](Queue::forgotten) asks for the rest.
//! * After the death of a process, too, `forgotten` asks for what it may have committed and not pushed.
//! * Slots are counted from leases that live: they come and go with the entries of `h:<session>`, in the same script, and are
//!   counted anew from those whenever something may be missing. After a loss nothing with gates is handed out for
//!   [`Options::ttl`], in which everybody who holds a lease says so or has lost it; and throttles begin used up. Where it is
//!   known that nobody can hold any, there is no such wait ([`RedisQueue::nobody_was_at_work`]).
//! * While Redis can't, nothing here fails or spins: pushes are given up after a second, leases find nothing, and the ends of
//!   leases are kept until they can be told.
//!
//! Never: it does not touch the store, and keeps nothing that the store does not know.

mod bell;
mod codec;
mod desk;
mod driver;
mod exchange;
mod held;
mod link;
mod options;
mod outbox;
mod scripts;
mod session;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use callboard_actors::domain::{FunctionId, Job, JobId, RunId, Timestamp};
use callboard_actors::ports::{self, Lease, Place, Pushed, Queue, QueueError, QueueStats};
use redis::{RedisError, RedisResult};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use desk::Desk;
use exchange::{Ended, Origin};
pub(crate) use link::{Link, servers};
pub use options::Options;
use outbox::{Ask, Push, Read};
use scripts::Scripts;

/// How long a push waits for Redis before its jobs are left to the scheduler.
const PUSH_PATIENCE: Duration = Duration::from_secs(1);
/// How long a question waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// Jobs in one part of a push.
const PART: usize = 256;
/// Bytes of a part from which on a new one is begun.
const PART_BYTES: usize = 1024 * 1024;

/// The queue. It connects when it is first used, on the runtime of whoever uses it first; the heartbeat lives on the one
/// that first asks for a lease.
///
/// Dropping it is like dying: what it holds is handed to others when the session expires. See [`Queue::close`].
#[derive(Debug)]
pub struct RedisQueue {
    shared: Arc<Shared>,
    tasks: Mutex<Tasks>,
}

#[derive(Debug, Default)]
struct Tasks {
    driver: Option<JoinHandle<()>>,
    beat: Option<JoinHandle<()>>,
    bell: Option<JoinHandle<()>>,
}

/// What the queue and its tasks share.
#[derive(Debug)]
struct Shared {
    options: Options,
    process: String,
    scripts: Scripts,
    desk: Mutex<Desk>,
    /// Rung when there is something for the driver.
    work: Notify,
    changed: Notify,
    forgotten: Notify,
    link: watch::Sender<Option<Link>>,
    /// What is wrong with Redis.
    trouble: Mutex<Option<String>>,
    failures: AtomicU64,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Nothing panics while it holds the lock; if it did, the next exchange would still be sound.
        self.desk.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.options.prefix)
    }

    fn random_name() -> String {
        format!("{:016x}", rand::random::<u64>())
    }

    fn connected(&self, link: Option<Link>) {
        self.link.send_replace(link);
    }

    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn is_down(&self, error: &RedisError) {
        self.failures.fetch_add(1, Relaxed);
        let mut trouble = self.trouble();
        if trouble.is_none() {
            tracing::warn!(%error, "Redis can't; trying again");
        }
        *trouble = Some(error.to_string());
    }

    fn is_up(&self) {
        if self.trouble().take().is_some() {
            tracing::info!("Redis answers again");
        }
    }

    fn end(&self, id: &JobId, epoch: u64, outcome: Ended) {
        if self.desk().end(id, epoch, outcome) {
            self.work.notify_one();
        }
    }
}

/// Leases on their way to who asked for them. Dropped on the way, they go back.
#[derive(Debug)]
struct Handed {
    leases: Vec<Lease>,
    shared: Arc<Shared>,
}

impl Handed {
    fn new(leases: Vec<Lease>, shared: Arc<Shared>) -> Self {
        Self { leases, shared }
    }

    fn take(mut self) -> Vec<Lease> {
        std::mem::take(&mut self.leases)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if !self.leases.is_empty() {
            self.shared.desk().give_back(std::mem::take(&mut self.leases));
            self.shared.work.notify_one();
        }
    }
}

impl RedisQueue {
    /// A queue that has not connected yet.
    ///
    /// # Errors
    /// If the URL can't be understood.
    pub fn new(options: Options) -> RedisResult<Self> {
        link::check(&options.url)?;
        let process = Shared::random_name();
        Ok(Self {
            shared: Arc::new(Shared {
                desk: Mutex::new(Desk::new(process.clone(), &options)),
                options,
                process,
                scripts: Scripts::default(),
                work: Notify::new(),
                changed: Notify::new(),
                forgotten: Notify::new(),
                link: watch::Sender::new(None),
                trouble: Mutex::new(None),
                failures: AtomicU64::new(0),
            }),
            tasks: Mutex::default(),
        })
    }

    /// Says that at this time nobody held a lease of this installation, anywhere. A Redis that knows nothing then has not lost
    /// anything, if this process is the first to speak to it: nobody has to wait for what others may hold. Counts for the first
    /// thing that is said, and no longer than others would have to wait themselves.
    pub fn nobody_was_at_work(&self, at: std::time::Instant) {
        let until = at + self.shared.options.ttl;
        self.shared.desk().new_until = Some(until.into());
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sees that the driver runs, and wakes it.
    fn wake(&self) {
        start(&mut self.tasks().driver, || driver::run(Arc::clone(&self.shared)));
        self.shared.work.notify_one();
    }

    /// Leaves something for the driver and waits for the answer; `None` if there is none in time.
    async fn request<T>(&self, leave: impl FnOnce(&mut Desk, oneshot::Sender<T>)) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        leave(&mut self.shared.desk(), reply);
        self.wake();
        timeout(PATIENCE, answer).await.ok()?.ok()
    }

    async fn push_from(&self, jobs: Vec<Job>, origin: Origin) -> Pushed {
        let deadline = Instant::now() + PUSH_PATIENCE;
        let parts: Vec<_> = {
            let mut desk = self.shared.desk();
            in_parts(jobs)
                .into_iter()
                .map(|jobs| {
                    let (reply, answer) = oneshot::channel();
                    let count = jobs.len();
                    desk.outbox.pushes.push_back(Push { jobs, origin, reply });
                    (count, answer)
                })
                .collect()
        };
        let mut pushed = Pushed::default();
        if parts.is_empty() {
            return pushed;
        }
        self.wake();
        for (count, answer) in parts {
            match timeout_at(deadline, answer).await {
                Ok(Ok(answer)) => {
                    let accepted = answer.iter().filter(|is_in| **is_in).count();
                    pushed.accepted += accepted;
                    pushed.spilled += count - accepted;
                }
                _ => pushed.unheard += count,
            }
        }
        pushed
    }
}

impl Drop for RedisQueue {
    fn drop(&mut self) {
        let mut tasks = self.tasks();
        abort(&mut tasks.driver);
        abort(&mut tasks.beat);
        abort(&mut tasks.bell);
    }
}

/// Starts a task that is not running, or whose runtime is gone.
fn start<F: Future<Output = ()> + Send + 'static>(task: &mut Option<JoinHandle<()>>, make: impl FnOnce() -> F) {
    if task.as_ref().is_none_or(JoinHandle::is_finished) {
        *task = Some(tokio::spawn(make()));
    }
}

fn abort(task: &mut Option<JoinHandle<()>>) {
    if let Some(task) = task.take() {
        task.abort();
    }
}

type Part = Vec<(String, String, FunctionId)>;

fn in_parts(jobs: Vec<Job>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut bytes = 0;
    for job in jobs {
        let (field, version) = (codec::field(&job.id), codec::version(&job));
        bytes += version.len();
        match parts.last_mut().filter(|part| part.len() < PART && bytes <= PART_BYTES) {
            Some(part) => part.push((field, version, job.function)),
            None => {
                bytes = version.len();
                parts.push(vec![(field, version, job.function)]);
            }
        }
    }
    parts
}

#[async_trait]
impl Queue for RedisQueue {
    async fn push(&self, jobs: Vec<Job>, origin: ports::Origin) -> Pushed {
        let origin = match origin {
            ports::Origin::Commit => Origin::Fresh,
            ports::Origin::Sweep => Origin::Store,
        };
        self.push_from(jobs, origin).await
    }

    async fn lease(&self, now: Timestamp, max: usize, per_function: usize) -> Vec<Lease> {
        {
            let mut tasks = self.tasks();
            start(&mut tasks.beat, || bell::beat(Arc::clone(&self.shared)));
            start(&mut tasks.bell, || bell::listen(Arc::clone(&self.shared)));
        }
        let handed = self.request(|desk, reply| {
            desk.outbox.asks.push_back(Ask {
                now,
                max,
                limit: per_function,
                reply,
            });
        });
        handed.await.map(Handed::take).unwrap_or_default()
    }

    async fn configure(&self, table: ports::LimitTable) {
        self.shared.desk().configure(table);
        self.wake();
    }

    async fn acknowledge(&self, id: &JobId, epoch: u64) {
        self.shared.end(id, epoch, Ended::Done);
    }

    async fn release(&self, id: &JobId, epoch: u64, due: Timestamp) {
        self.shared.end(id, epoch, Ended::ComesBack(due));
    }

    async fn take_back(&self, id: &JobId, epoch: u64) {
        self.shared.end(id, epoch, Ended::TakenBack);
    }

    async fn forget_run(&self, run: RunId) {
        self.shared.desk().outbox.forget(run);
        self.wake();
    }

    async fn next_due(&self) -> Option<Timestamp> {
        let told = self.shared.desk().barrier();
        if let Some(told) = told {
            let _ = timeout(PATIENCE, told).await;
        }
        self.shared.desk().next_due()
    }

    async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    async fn leases_of(&self, run: RunId) -> Vec<Lease> {
        let found = self
            .request(|desk, reply| desk.outbox.reads.push(Read::LeasesOf(run, reply)))
            .await;
        found.unwrap_or_else(|| self.shared.desk().held.of_run(run))
    }

    async fn stats(&self) -> QueueStats {
        let found = self
            .request(|desk, reply| desk.outbox.reads.push(Read::Stats(reply)))
            .await;
        found.unwrap_or_else(|| self.shared.desk().last_stats.clone())
    }

    async fn flow(&self, function: FunctionId) -> ports::Flow {
        let found = self
            .request(|desk, reply| desk.outbox.reads.push(Read::Flow(function, reply)))
            .await;
        found.unwrap_or_default()
    }

    async fn places_of(&self, run: RunId) -> Vec<Place> {
        let found = self
            .request(|desk, reply| desk.outbox.reads.push(Read::Places(run, reply)))
            .await;
        found.unwrap_or_default()
    }

    async fn forgotten(&self) {
        self.shared.forgotten.notified().await;
    }

    async fn ping(&self) -> Result<(), QueueError> {
        self.wake();
        let ask = async {
            let mut links = self.shared.link.subscribe();
            // The sender lives as long as `shared`.
            let link = links.wait_for(Option::is_some).await.ok().and_then(|link| link.clone());
            match link {
                Some(mut link) => link
                    .send(&redis::cmd("PING"))
                    .await
                    .map(drop)
                    .map_err(|error| error.to_string()),
                None => Err("not connected".to_owned()),
            }
        };
        let outcome = timeout(PUSH_PATIENCE, ask)
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()));
        // A server that answers may still take no scripts: it is loading, or a replica.
        let trouble = self.shared.trouble().clone();
        match trouble.or(outcome.err()) {
            None => Ok(()),
            Some(error) => Err(QueueError::Unavailable(error)),
        }
    }

    fn failures(&self) -> u64 {
        self.shared.failures.load(Relaxed)
    }

    async fn close(&self) {
        let is_running = {
            let mut tasks = self.tasks();
            abort(&mut tasks.beat);
            abort(&mut tasks.bell);
            tasks.driver.is_some()
        };
        if is_running {
            self.request(|desk, reply| desk.outbox.closing.push(reply)).await;
        }
    }
}
