//! The embedded queue without its lock: one synchronous structure, a function of the calls made to it.
//!
//! A job lives in one [`Entry`]. While it waits, one place holds it: if it was due at the time of the last lease, its
//! function's line `ready`, or one of the lines at gates ([`super::gatehouse`]); else `delayed`, which exists once more over all functions so that time can advance without
//! looking at each. While it is leased neither does, and the entry knows the lease.
//!
//! Promises: a job is in one place at a time; at most `capacity` jobs are held; whoever was told of a want of room is
//! told of its end. Never: no clock, no I/O, no iteration over all jobs outside [`State::stats`], except when time goes
//! backwards.

mod admission;
#[cfg(test)]
mod audit;
mod flow;
mod gates;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use callboard_actors::domain::{FunctionId, Gates, Job, JobId, JobKey, Json, Priority, Rate, RunId, Timestamp};
use callboard_actors::ports::{Lease, PartitionStats, Pushed, QueueStats};

use super::gatehouse::{Gatehouse, LineSlot};
use super::partition::{JobSlot, Partition, PartitionSlot, Rank, Turns};
use super::slab::Slab;
use super::{Capacity, room};

/// A job that is held.
#[derive(Debug)]
struct Entry {
    id: JobId,
    partition: PartitionSlot,
    attempt: u32,
    /// As it was pushed.
    due: Timestamp,
    /// What it waits for: `due`, or what a release asked for.
    not_before: Timestamp,
    priority: Priority,
    payload: Option<Json>,
    gates: Gates,
    /// With those who have the same gates to pass; a start that has passed its throttle moves to one without.
    line: Option<LineSlot>,
    /// Boxed because most jobs wait.
    held: Option<Box<Held>>,
}

/// The lease of a job.
#[derive(Debug)]
struct Held {
    epoch: u64,
    since: Timestamp,
    /// The version that was pushed in the meantime.
    pending: Option<Job>,
    /// Its run has ended: it must not come back.
    forgotten: bool,
}

impl Entry {
    fn job(&self, function: FunctionId) -> Job {
        Job {
            id: self.id.clone(),
            function,
            attempt: self.attempt,
            due: self.due,
            priority: self.priority,
            payload: self.payload.clone(),
            gates: self.gates.clone(),
        }
    }

    /// Its place among the ready jobs of its function.
    fn rank(&self) -> Rank {
        Rank::new(&self.id, self.priority, self.not_before)
    }

    fn is(&self, job: &Job, function: FunctionId) -> bool {
        (job.due, job.attempt, job.priority) == (self.due, self.attempt, self.priority)
            && job.function == function
            && job.payload == self.payload
            && job.gates == self.gates
    }
}

/// The queue's content.
#[derive(Debug)]
pub(super) struct State {
    capacity: Capacity,
    entries: Slab<JobSlot, Entry>,
    /// Sorted, so that the jobs of a run are neighbours.
    by_id: BTreeMap<JobId, JobSlot>,
    partitions: Slab<PartitionSlot, Partition>,
    by_function: HashMap<FunctionId, PartitionSlot>,
    turns: Turns,
    gates: Gatehouse,
    /// When jobs have taken turns at throttles that they may give back. Beside the entries, which are many.
    turns_taken: BTreeMap<JobSlot, Timestamp>,
    delayed: BTreeSet<(Timestamp, JobSlot)>,
    /// The time and the limit of the last lease.
    now: Timestamp,
    limit: usize,
    /// Of the last lease given. Starts over with the process only, and leases don't outlive that.
    epoch: u64,
    ready: usize,
    leased: usize,
    spilled: u64,
    /// Whether jobs were turned away for want of room in total, and nobody has been told of room since.
    short: bool,
    news: bool,
}

impl State {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self {
            capacity: Capacity {
                total: capacity.total.clamp(1, Slab::<JobSlot, Entry>::MAX_LEN),
                per_function: capacity.per_function.max(1),
            },
            entries: Slab::new(),
            by_id: BTreeMap::new(),
            partitions: Slab::new(),
            by_function: HashMap::new(),
            turns: Turns::default(),
            gates: Gatehouse::new(),
            turns_taken: BTreeMap::new(),
            delayed: BTreeSet::new(),
            now: Timestamp::MIN,
            limit: usize::MAX,
            epoch: 0,
            ready: 0,
            leased: 0,
            spilled: 0,
            short: false,
            news: false,
        }
    }

    /// Forgets everything but what outlives the jobs: the epochs given and the numbers.
    pub(super) fn reset(&mut self) {
        *self = Self {
            epoch: self.epoch,
            spilled: self.spilled,
            gates: self.gates.reset(),
            news: true,
            ..Self::new(self.capacity)
        };
    }

    /// Whether something has happened since the last call that a caller of `changed` waits for.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    pub(super) fn push(&mut self, jobs: Vec<Job>) -> Pushed {
        let known = self.horizon();
        let mut pushed = Pushed::default();
        for job in jobs {
            let Some(&slot) = self.by_id.get(&job.id) else {
                self.admit(job, None, &mut pushed);
                continue;
            };
            let function = self.partitions[self.entries[slot].partition].function;
            let entry = &mut self.entries[slot];
            let same = entry.is(&job, function);
            if let Some(held) = &mut entry.held {
                held.forgotten = false;
                let newest = held.pending.as_ref().map_or(entry.attempt, |pending| pending.attempt);
                if !same && job.attempt >= newest {
                    held.pending = Some(job);
                    self.turns_taken.remove(&slot);
                }
                pushed.accepted += 1;
            } else if same || job.attempt < entry.attempt {
                pushed.accepted += 1;
            } else {
                self.remove(slot);
                self.admit(job, None, &mut pushed);
            }
        }
        self.spread_news(known);
        pushed
    }

    pub(super) fn lease(&mut self, now: Timestamp, max: usize, per_function: usize) -> Vec<Lease> {
        self.set_now(now);
        self.set_limit(per_function);
        let mut leases = Vec::with_capacity(max.min(self.ready));
        while leases.len() < max
            && let Some(place) = self.turns.first()
        {
            let partition = &mut self.partitions[place];
            self.turns.end_turn(place, partition);
            // It was appended under a higher limit; settling parks it.
            if partition.leased < self.limit
                && let Some(slot) = self.pop(place)
            {
                let partition = &mut self.partitions[place];
                partition.leased += 1;
                self.ready -= 1;
                self.leased += 1;
                self.epoch += 1;
                let entry = &mut self.entries[slot];
                entry.held = Some(Box::new(Held {
                    epoch: self.epoch,
                    since: now,
                    pending: None,
                    forgotten: false,
                }));
                leases.push(Lease {
                    job: entry.job(partition.function),
                    epoch: self.epoch,
                    since: now,
                    is_first: true,
                });
            }
            self.settle(place);
        }
        leases
    }

    pub(super) fn acknowledge(&mut self, id: &JobId, epoch: u64) {
        let known = self.horizon();
        if let Some((slot, held)) = self.end_lease(id, epoch) {
            self.discard(slot);
            if let Some(job) = held.pending {
                self.admit(job, None, &mut Pushed::default());
            }
            self.spread_news(known);
        }
    }

    pub(super) fn take_back(&mut self, id: &JobId, epoch: u64) {
        let known = self.horizon();
        if let Some(&slot) = self.by_id.get(id) {
            let entry = &self.entries[slot];
            let is_current = entry.held.as_ref().is_some_and(|held| held.epoch == epoch);
            if let Some(since) = self.turns_taken.get(&slot).filter(|_| is_current) {
                self.return_turn(slot, *since);
            }
        }
        self.acknowledge(id, epoch);
        self.spread_news(known);
    }

    pub(super) fn release(&mut self, id: &JobId, epoch: u64, due: Timestamp) {
        let known = self.horizon();
        if let Some((slot, held)) = self.end_lease(id, epoch) {
            if let Some(job) = held.pending {
                self.discard(slot);
                let not_before = job.due.max(due);
                self.admit(job, Some(not_before), &mut Pushed::default());
            } else if held.forgotten {
                self.discard(slot);
            } else {
                self.entries[slot].not_before = due;
                self.line_up(slot);
            }
            self.spread_news(known);
        }
    }

    pub(super) fn forget_run(&mut self, run: RunId) {
        for slot in self.slots_of(run).collect::<Vec<_>>() {
            if let Some(held) = &mut self.entries[slot].held {
                held.forgotten = true;
                held.pending = None;
                self.turns_taken.remove(&slot);
            } else {
                self.remove(slot);
            }
        }
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        match self.turns.first() {
            Some(place) => self.partitions[place].first_due(),
            None => {
                let delayed = self.delayed.first().map(|(due, _)| *due);
                let opens = self.gates.opens.first().map(|(at, _)| *at);
                delayed.into_iter().chain(opens).min()
            }
        }
    }

    pub(super) fn leases_of(&self, run: RunId) -> Vec<Lease> {
        self.slots_of(run)
            .filter_map(|slot| {
                let entry = &self.entries[slot];
                entry.held.as_ref().map(|held| Lease {
                    job: entry.job(self.partitions[entry.partition].function),
                    epoch: held.epoch,
                    since: held.since,
                    is_first: true,
                })
            })
            .collect()
    }

    pub(super) fn stats(&self) -> QueueStats {
        QueueStats {
            ready: self.ready,
            delayed: self.delayed.len(),
            leased: self.leased,
            oldest_lease: self
                .entries
                .iter()
                .filter_map(|(_, entry)| entry.held.as_ref())
                .map(|held| held.since)
                .min(),
            capacity: Some(self.capacity.total),
            spilled: self.spilled,
            partitions: self
                .partitions
                .iter()
                .map(|(_, partition)| PartitionStats {
                    function: partition.function,
                    ready: partition.ready_len(),
                    delayed: partition.delayed.len(),
                    leased: partition.leased,
                    oldest: self.oldest_due(partition),
                })
                .collect(),
        }
    }

    /// Moves jobs between the lines as time goes on. Backwards is for a clock that was set; it costs a look at every
    /// ready job, and spares the world jobs that run years early after one wrong reading.
    fn set_now(&mut self, now: Timestamp) {
        let before = std::mem::replace(&mut self.now, now);
        if now < before {
            let lines = self.gates.lines.iter().flat_map(|(_, line)| line.jobs.iter());
            let early: Vec<_> = self
                .partitions
                .iter()
                .flat_map(|(_, partition)| &partition.ready)
                .map(|(rank, slot)| (rank, *slot))
                .chain(lines)
                .filter(|(rank, _)| rank.due() > now)
                .map(|(_, slot)| slot)
                .collect();
            for slot in early {
                self.leave_ready(slot);
                self.line_up(slot);
            }
            if before.since(now) > Rate::CLOCK_STEP {
                self.revise_marks(|mark, _| Rate::set_back(mark, before, now));
            }
            self.check_gates();
        }
        while let Some(&(due, slot)) = self.delayed.first()
            && due <= now
        {
            self.delayed.pop_first();
            let place = self.entries[slot].partition;
            self.partitions[place].delayed.remove(&(due, slot));
            self.line_up(slot);
        }
        self.open_gates();
    }

    fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        while let Some(place) = self.turns.freed_by(limit) {
            self.settle(place);
        }
    }

    /// Puts a job that waits into the line it belongs to; it must not be in one.
    fn line_up(&mut self, slot: JobSlot) {
        let entry = &self.entries[slot];
        let place = entry.partition;
        let partition = &mut self.partitions[place];
        if entry.not_before <= self.now {
            self.ready += 1;
            match entry.line {
                None => drop(partition.ready.insert(entry.rank(), slot)),
                Some(line) => self.line_up_at_gate(line, slot),
            }
        } else {
            partition.delayed.insert((entry.not_before, slot));
            self.delayed.insert((entry.not_before, slot));
        }
        self.settle(place);
    }

    /// Takes a job out of the leased ones, if the epoch is that of its lease. It is in no line then.
    fn end_lease(&mut self, id: &JobId, epoch: u64) -> Option<(JobSlot, Box<Held>)> {
        let slot = *self.by_id.get(id)?;
        let entry = &mut self.entries[slot];
        let held = entry.held.take_if(|held| held.epoch == epoch)?;
        let (place, line) = (entry.partition, entry.line);
        self.partitions[place].leased -= 1;
        self.leased -= 1;
        if let Some(line) = line {
            self.give_slots_back(line);
        }
        // Never empty here: the job itself is not in line yet, so an empty partition must outlive this call.
        self.settle_turns(place);
        Some((slot, held))
    }

    /// Drops a job that waits.
    fn remove(&mut self, slot: JobSlot) {
        let entry = &self.entries[slot];
        let partition = &mut self.partitions[entry.partition];
        let due = entry.not_before;
        if partition.delayed.remove(&(due, slot)) {
            self.delayed.remove(&(due, slot));
        } else {
            self.leave_ready(slot);
        }
        self.discard(slot);
    }

    /// Drops a job that is in no line.
    fn discard(&mut self, slot: JobSlot) {
        let entry = self.entries.remove(slot);
        self.turns_taken.remove(&slot);
        self.by_id.remove(&entry.id);
        if let Some(line) = entry.line {
            let function = self.partitions[entry.partition].function;
            self.gates.leave(line, function, self.now);
        }
        let partition = &mut self.partitions[entry.partition];
        if self.short && self.entries.len() <= room::enough(self.capacity.total) {
            self.short = false;
            self.news = true;
        }
        if partition.short && partition.len() <= room::enough(self.capacity.per_function) {
            partition.short = false;
            self.news = true;
        }
        self.settle(entry.partition);
    }

    /// Brings everything derived from a partition up to date, and drops it if it holds nothing.
    fn settle(&mut self, place: PartitionSlot) {
        self.settle_turns(place);
        if self.partitions[place].len() == 0 {
            let partition = self.partitions.remove(place);
            self.by_function.remove(&partition.function);
        }
    }

    fn settle_turns(&mut self, place: PartitionSlot) {
        self.turns.settle(place, &mut self.partitions[place], self.limit);
    }

    fn slots_of(&self, run: RunId) -> impl Iterator<Item = JobSlot> {
        // `Start` sorts before all other keys.
        let first = JobId {
            run,
            key: JobKey::Start,
        };
        self.by_id
            .range(first..)
            .take_while(move |(id, _)| id.run == run)
            .map(|(_, slot)| *slot)
    }

    /// [`Self::next_due`] for comparing: what is ready is all equally near.
    fn horizon(&self) -> Option<Timestamp> {
        self.next_due().map(|due| due.max(self.now))
    }

    /// Makes it news if a job is due earlier than was `known`.
    fn spread_news(&mut self, known: Option<Timestamp>) {
        self.news |= self
            .horizon()
            .is_some_and(|next| known.is_none_or(|known| next < known));
    }
}
