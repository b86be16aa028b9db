//! The queue's contract and not a word more: it wakes nobody whom the port does not promise to wake.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::ThreadId;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::domain::{FunctionId, Job, JobId, RunId, Timestamp};
use crate::ports::{Flow, Lease, LimitTable, Origin, PartitionStats, Place, Pushed, Queue, QueueStats};

#[derive(Debug)]
struct Entry {
    job: Job,
    not_before: Timestamp,
    lease: Option<(u64, Timestamp)>,
    pending: Option<Job>,
    is_forgotten: bool,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<JobId, Entry>,
    now: Option<Timestamp>,
    per_function: usize,
    epoch: u64,
    capacity: Option<usize>,
    share: Option<usize>,
    spilled: u64,
    table: LimitTable,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct FakeQueue {
    inner: Mutex<Inner>,
    news: Notify,
    lost: Notify,
    is_shared: AtomicBool,
    is_mute: AtomicBool,
    lag_ms: AtomicU64,
    taken_back: AtomicU64,
    first_asked_on: OnceLock<ThreadId>,
}

impl FakeQueue {
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        self.first_asked_on.get_or_init(|| std::thread::current().id());
        let mut inner = self.inner.lock().expect("no panic under the lock");
        let before = inner.next_due();
        let outcome = work(&mut inner);
        let after = inner.next_due();
        let now = inner.now.unwrap_or(Timestamp::MIN);
        if after.is_some_and(|after| before.is_none_or(|before| after.max(now) < before.max(now))) {
            self.news.notify_one();
        }
        outcome
    }

    /// The jobs it knows.
    pub(crate) fn jobs(&self) -> Vec<Job> {
        self.with(|inner| inner.entries.values().map(|entry| entry.job.clone()).collect())
    }

    /// The thread where a queue elsewhere would have its connections.
    pub(crate) fn thread(&self) -> Option<ThreadId> {
        self.first_asked_on.get().copied()
    }

    /// The numbers it was told last.
    pub(crate) fn limits(&self) -> LimitTable {
        self.with(|inner| inner.table.clone())
    }

    /// How many were handed out in vain.
    pub(crate) fn taken_back(&self) -> u64 {
        self.taken_back.load(Ordering::Relaxed)
    }

    /// How many are handed out.
    pub(crate) fn leased(&self) -> usize {
        self.with(|inner| inner.leased())
    }

    /// Room for so many jobs only.
    pub(crate) fn bound(&self, capacity: usize) {
        self.with(|inner| inner.capacity = Some(capacity));
    }

    /// Room for so many jobs of one function only, of plenty in all.
    pub(crate) fn bound_each(&self, share: usize) {
        self.with(|inner| {
            inner.capacity = Some(share * 1_000);
            inner.share = Some(share);
        });
    }

    /// Says that it has forgotten everything.
    pub(crate) fn say_forgotten(&self) {
        self.lost.notify_one();
    }

    /// Whether it gives no answer, as one elsewhere that stands still.
    pub(crate) fn mute(&self, is_mute: bool) {
        self.is_mute.store(is_mute, Ordering::Relaxed);
        if !is_mute {
            self.news.notify_one();
        }
    }

    /// From now on others may have had every job that is handed out.
    pub(crate) fn share(&self) {
        self.is_shared.store(true, Ordering::Relaxed);
    }

    /// From now on jobs were handed out so long ago.
    pub(crate) fn lag(&self, lag: Duration) {
        let lag = u64::try_from(lag.as_millis()).expect("a short time");
        self.lag_ms.store(lag, Ordering::Relaxed);
    }

    /// Forgets everything, as the port says it may at any instant.
    pub(crate) fn flush(&self) {
        self.with(|inner| inner.entries.clear());
    }
}

impl Inner {
    fn leased(&self) -> usize {
        self.entries.values().filter(|entry| entry.lease.is_some()).count()
    }

    fn leased_by_function(&self) -> HashMap<FunctionId, usize> {
        let mut counts = HashMap::new();
        for entry in self.entries.values().filter(|entry| entry.lease.is_some()) {
            *counts.entry(entry.job.function).or_default() += 1;
        }
        counts
    }

    /// The functions whose gates are shut.
    fn shut(&self) -> Vec<FunctionId> {
        let functions = self.table.functions.iter();
        functions
            .filter(|(_, limits)| limits.is_shut())
            .map(|(id, _)| *id)
            .collect()
    }

    fn partitions(&self) -> Vec<PartitionStats> {
        let mut partitions = HashMap::new();
        for entry in self.entries.values() {
            let partition = partitions.entry(entry.job.function).or_insert(PartitionStats {
                function: entry.job.function,
                ready: 0,
                delayed: 0,
                leased: 0,
                oldest: None,
            });
            match entry.lease {
                Some(_) => partition.leased += 1,
                None => partition.ready += 1,
            }
        }
        partitions.into_values().collect()
    }

    fn next_due(&self) -> Option<Timestamp> {
        let leased = self.leased_by_function();
        let shut = self.shut();
        let blocked = |entry: &Entry| {
            is_shut(&shut, &entry.job)
                || self.per_function > 0 && leased.get(&entry.job.function).copied().unwrap_or(0) >= self.per_function
        };
        let free = self
            .entries
            .values()
            .filter(|entry| entry.lease.is_none() && !blocked(entry));
        free.map(|entry| entry.not_before).min()
    }

    fn put(&mut self, job: Job, not_before: Timestamp) {
        let id = job.id.clone();
        let entry = Entry {
            job,
            not_before,
            lease: None,
            pending: None,
            is_forgotten: false,
        };
        self.entries.insert(id, entry);
    }

    fn end_lease(&mut self, id: &JobId, epoch: u64) -> Option<Entry> {
        let is_current = |entry: &Entry| entry.lease.is_some_and(|(held, _)| held == epoch);
        self.entries.get(id).filter(|entry| is_current(entry))?;
        self.entries.remove(id)
    }
}

fn is_shut(shut: &[FunctionId], job: &Job) -> bool {
    !job.gates.is_empty() && shut.contains(&job.function)
}

#[async_trait]
impl Queue for FakeQueue {
    async fn push(&self, jobs: Vec<Job>, _: Origin) -> Pushed {
        if self.is_mute.load(Ordering::Relaxed) {
            return Pushed {
                unheard: jobs.len(),
                ..Pushed::default()
            };
        }
        self.with(|inner| {
            let mut pushed = Pushed::default();
            for job in jobs {
                let own = inner
                    .entries
                    .values()
                    .filter(|entry| entry.job.function == job.function);
                let is_full = inner.share.is_some_and(|share| own.count() >= share)
                    || inner.capacity.is_some_and(|capacity| inner.entries.len() >= capacity);
                match inner.entries.get_mut(&job.id) {
                    Some(entry) if entry.lease.is_some() => {
                        entry.is_forgotten = false;
                        let newest = entry.pending.as_ref().unwrap_or(&entry.job).attempt;
                        if entry.job != job && job.attempt >= newest {
                            entry.pending = Some(job);
                        }
                    }
                    Some(entry) if entry.job == job || job.attempt < entry.job.attempt => {}
                    None if is_full => {
                        pushed.spilled += 1;
                        inner.spilled += 1;
                        continue;
                    }
                    _ => {
                        let due = job.due;
                        inner.put(job, due);
                    }
                }
                pushed.accepted += 1;
            }
            pushed
        })
    }

    async fn lease(&self, now: Timestamp, max: usize, per_function: usize) -> Vec<Lease> {
        self.with(|inner| {
            inner.now = Some(now);
            inner.per_function = per_function;
            let mut counts = inner.leased_by_function();
            let shut = inner.shut();
            let mut leases = Vec::new();
            for entry in inner.entries.values_mut() {
                let count = counts.entry(entry.job.function).or_default();
                let is_held = entry.lease.is_some() || entry.not_before > now || is_shut(&shut, &entry.job);
                if leases.len() == max || is_held || *count >= per_function {
                    continue;
                }
                *count += 1;
                inner.epoch += 1;
                entry.lease = Some((inner.epoch, now));
                leases.push(Lease {
                    job: entry.job.clone(),
                    epoch: inner.epoch,
                    since: now.before(Duration::from_millis(self.lag_ms.load(Ordering::Relaxed))),
                    is_first: !self.is_shared.load(Ordering::Relaxed),
                });
            }
            leases
        })
    }

    async fn configure(&self, table: LimitTable) {
        self.with(|inner| inner.table = table);
    }

    async fn acknowledge(&self, id: &JobId, epoch: u64) {
        self.with(|inner| {
            if let Some(Entry { pending: Some(job), .. }) = inner.end_lease(id, epoch) {
                let due = job.due;
                inner.put(job, due);
            }
        });
    }

    async fn take_back(&self, id: &JobId, epoch: u64) {
        self.taken_back.fetch_add(1, Ordering::Relaxed);
        self.acknowledge(id, epoch).await;
    }

    async fn release(&self, id: &JobId, epoch: u64, due: Timestamp) {
        self.with(|inner| {
            let Some(entry) = inner.end_lease(id, epoch) else {
                return;
            };
            match entry.pending {
                Some(job) => {
                    let due = due.max(job.due);
                    inner.put(job, due);
                }
                None if entry.is_forgotten => {}
                None => inner.put(entry.job, due),
            }
        });
    }

    async fn forget_run(&self, run: RunId) {
        self.with(|inner| {
            inner.entries.retain(|id, entry| id.run != run || entry.lease.is_some());
            for (_, entry) in inner.entries.iter_mut().filter(|(id, _)| id.run == run) {
                entry.is_forgotten = true;
                entry.pending = None;
            }
        });
    }

    async fn next_due(&self) -> Option<Timestamp> {
        self.with(|inner| inner.next_due())
    }

    async fn changed(&self) {
        self.news.notified().await;
    }

    async fn forgotten(&self) {
        self.lost.notified().await;
    }

    async fn leases_of(&self, _: RunId) -> Vec<Lease> {
        Vec::new()
    }

    async fn stats(&self) -> QueueStats {
        self.with(|inner| QueueStats {
            ready: inner.entries.len() - inner.leased(),
            leased: inner.leased(),
            capacity: inner.capacity,
            spilled: inner.spilled,
            partitions: inner.partitions(),
            ..QueueStats::default()
        })
    }

    async fn flow(&self, _: FunctionId) -> Flow {
        Flow::default()
    }

    async fn places_of(&self, _: RunId) -> Vec<Place> {
        Vec::new()
    }
}
