//! Gates, the lines of jobs that have the same ones to pass, and the buckets behind them.
//!
//! The ready jobs of a function that have gates stand in *lines*, one for each tuple of buckets. A line always stands at
//! one of its gates, in the *stand* that its function has there. A stand at an open gate is *shown* to the function, at
//! the rank of its first line, and takes part in the function's turn; one at a shut gate is not, and costs nothing until
//! the gate opens. When a shown line turns out to be shut elsewhere it moves there. So whatever is held up is found again by
//! the very event that lets it through, and no line keeps another one back.
//!
//! [`Gatehouse`] keeps the books; what a change means for the functions' turns is for [`super::state`].

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use callboard_actors::domain::{BucketId, FunctionId, Gate, GateKind, Gates, Limit, Limits, Rate, RuleId, Timestamp};
use callboard_actors::ports::LimitTable;

use super::partition::{JobSlot, PartitionSlot, Rank};
use super::ranked::Ranked;
use super::slab::{Slab, slab_key};

slab_key! {
    /// Where a line is.
    LineSlot
}

slab_key! {
    /// Where a bucket is.
    BucketSlot
}

/// A gate of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    pub(super) bucket: BucketSlot,
    pub(super) rule: RuleId,
    pub(super) kind: GateKind,
}

/// The jobs of a function with the same gates.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) partition: PartitionSlot,
    name: LineName,
    pub(super) passes: Box<[Pass]>,
    /// Its jobs that are ready.
    pub(super) jobs: Ranked<JobSlot>,
    /// Its jobs in whatever state; the line lives as long as there are any.
    pub(super) members: usize,
    /// The gate at which it stands, if it has ready jobs, and its rank there.
    pub(super) standing: Option<(usize, Rank)>,
}

/// What is counted together.
#[derive(Debug)]
pub(super) struct Bucket {
    id: BucketId,
    /// For people.
    pub(super) key: Arc<str>,
    /// Slots that are held.
    pub(super) held: usize,
    /// As [`Rate`] has it.
    pub(super) mark: i64,
    pub(super) stands: Vec<Stand>,
    /// When the throttle opens, as it is in [`Gatehouse::opens`].
    pub(super) timer: Option<Timestamp>,
}

/// The lines of a function at a gate.
#[derive(Debug)]
pub(super) struct Stand {
    pub(super) partition: PartitionSlot,
    pub(super) rule: RuleId,
    pub(super) lines: Ranked<LineSlot>,
    /// The rank at which the function's turn has it.
    pub(super) shown: Option<Rank>,
    /// Lines that pass this gate, standing here or not.
    users: usize,
}

/// The function and the sum of its buckets' digests, which is as good as a digest of them.
type LineName = (PartitionSlot, u128);

/// A hasher for what is a digest already.
#[derive(Debug, Default)]
pub(super) struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 ^= u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u128(&mut self, number: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "any 64 of the bits will do")]
        let bits = number as u64;
        self.0 ^= bits;
    }
}

type Digests<K, V> = HashMap<K, V, BuildHasherDefault<Folded>>;

/// The books.
#[derive(Debug)]
pub(super) struct Gatehouse {
    pub(super) lines: Slab<LineSlot, Line>,
    pub(super) buckets: Slab<BucketSlot, Bucket>,
    by_name: Digests<LineName, LineSlot>,
    by_bucket: Digests<u128, BucketSlot>,
    /// Throttles that are shut and have lines, by when they open.
    pub(super) opens: BTreeSet<(Timestamp, BucketSlot)>,
    /// The marks of throttles that no job has to pass just now, and when they can be forgotten.
    resting: Digests<u128, (i64, FunctionId)>,
    rested: BTreeSet<(Timestamp, u128)>,
    revision: Option<u64>,
    limits: HashMap<FunctionId, Arc<Limits>>,
    no_limits: Arc<Limits>,
}

impl Gatehouse {
    pub(super) fn new() -> Self {
        Self {
            lines: Slab::new(),
            buckets: Slab::new(),
            by_name: Digests::default(),
            by_bucket: Digests::default(),
            opens: BTreeSet::new(),
            resting: Digests::default(),
            rested: BTreeSet::new(),
            revision: None,
            limits: HashMap::new(),
            no_limits: Arc::default(),
        }
    }

    /// Forgets everything but the numbers.
    pub(super) fn reset(&mut self) -> Self {
        Self {
            revision: self.revision,
            limits: std::mem::take(&mut self.limits),
            ..Self::new()
        }
    }

    /// Takes a table; false if a later one counts.
    pub(super) fn configure(&mut self, table: LimitTable) -> bool {
        if self.revision.is_some_and(|revision| revision > table.revision) {
            return false;
        }
        self.revision = Some(table.revision);
        let functions = table.functions.into_iter();
        self.limits = functions.map(|(id, limits)| (id, Arc::new(limits))).collect();
        true
    }

    /// The numbers of a function.
    pub(super) fn limits_of(&self, function: FunctionId) -> Arc<Limits> {
        Arc::clone(self.limits.get(&function).unwrap_or(&self.no_limits))
    }

    /// The line of jobs with these gates, one more of them; `None` without gates.
    pub(super) fn join(&mut self, partition: PartitionSlot, gates: &Gates) -> Option<LineSlot> {
        let gates = gates.as_slice();
        if gates.is_empty() {
            return None;
        }
        let sum = gates
            .iter()
            .fold(0_u128, |sum, gate| sum.wrapping_add(gate.bucket.to_bits()));
        let name = (partition, sum);
        if let Some(slot) = self.by_name.get(&name) {
            self.lines[*slot].members += 1;
            return Some(*slot);
        }
        let passes = gates.iter().map(|gate| Pass {
            bucket: self.use_bucket(gate, partition),
            rule: gate.rule,
            kind: gate.kind,
        });
        let passes = passes.collect();
        let slot = self.lines.insert(Line {
            partition,
            name,
            passes,
            jobs: Ranked::default(),
            members: 1,
            standing: None,
        });
        self.by_name.insert(name, slot);
        Some(slot)
    }

    fn use_bucket(&mut self, gate: &Gate, partition: PartitionSlot) -> BucketSlot {
        let bits = gate.bucket.to_bits();
        let slot = match self.by_bucket.get(&bits) {
            Some(slot) => *slot,
            None => {
                let mark = self.resting.remove(&bits).map(|(mark, _)| mark);
                if let Some(mark) = mark {
                    self.rested.remove(&(Rate::rested_at(mark), bits));
                }
                let slot = self.buckets.insert(Bucket {
                    id: gate.bucket,
                    key: Arc::clone(&gate.key),
                    held: 0,
                    mark: mark.unwrap_or(Rate::RESTED),
                    stands: Vec::with_capacity(1),
                    timer: None,
                });
                self.by_bucket.insert(bits, slot);
                slot
            }
        };
        let stands = &mut self.buckets[slot].stands;
        match stands.iter_mut().find(|stand| stand.partition == partition) {
            Some(stand) => stand.users += 1,
            None => stands.push(Stand {
                partition,
                rule: gate.rule,
                lines: Ranked::default(),
                shown: None,
                users: 1,
            }),
        }
        slot
    }

    /// One job less in a line, which has no ready ones if it was the last.
    pub(super) fn leave(&mut self, slot: LineSlot, function: FunctionId, now: Timestamp) {
        let line = &mut self.lines[slot];
        line.members -= 1;
        if line.members > 0 {
            return;
        }
        let line = self.lines.remove(slot);
        self.by_name.remove(&line.name);
        for pass in &line.passes {
            let bucket = &mut self.buckets[pass.bucket];
            let stands = &mut bucket.stands;
            let place = stands.iter().position(|stand| stand.partition == line.partition);
            let place = place.expect("a line's gates have a stand of its function");
            stands[place].users -= 1;
            if stands[place].users == 0 {
                stands.swap_remove(place);
            }
            if stands.is_empty() {
                self.drop_bucket(pass.bucket, function, now);
            }
        }
    }

    fn drop_bucket(&mut self, slot: BucketSlot, function: FunctionId, now: Timestamp) {
        let bucket = self.buckets.remove(slot);
        let bits = bucket.id.to_bits();
        self.by_bucket.remove(&bits);
        if let Some(at) = bucket.timer {
            self.opens.remove(&(at, slot));
        }
        let rested_at = Rate::rested_at(bucket.mark);
        if rested_at > now {
            self.resting.insert(bits, (bucket.mark, function));
            self.rested.insert((rested_at, bits));
        }
    }

    /// A start that was made before anything was known here.
    pub(super) fn recall(&mut self, function: FunctionId, bucket: BucketId, at: Timestamp) {
        let limits = self.limits_of(function);
        let rates = limits.iter().filter_map(|(_, limit)| match limit {
            Limit::Rate(rate) => Some(rate),
            Limit::Slots(_) => None,
        });
        let bits = bucket.to_bits();
        for rate in rates.filter(|_| !self.by_bucket.contains_key(&bits)) {
            let before = self.resting.get(&bits).map_or(Rate::RESTED, |(mark, _)| *mark);
            let mark = rate.at_most(rate.after_start(before, at), at);
            self.rested.remove(&(Rate::rested_at(before), bits));
            self.resting.insert(bits, (mark, function));
            self.rested.insert((Rate::rested_at(mark), bits));
        }
    }

    /// Changes the mark of a throttle. Answers where it is, if somebody has to pass it just now.
    pub(super) fn revise_mark(&mut self, bucket: BucketId, revise: impl Fn(i64) -> i64) -> Option<BucketSlot> {
        let bits = bucket.to_bits();
        if let Some(slot) = self.by_bucket.get(&bits) {
            let bucket = &mut self.buckets[*slot];
            bucket.mark = revise(bucket.mark);
            return Some(*slot);
        }
        if let Some((mark, _)) = self.resting.get_mut(&bits) {
            self.rested.remove(&(Rate::rested_at(*mark), bits));
            *mark = revise(*mark);
            self.rested.insert((Rate::rested_at(*mark), bits));
        }
        None
    }

    /// Changes the marks of throttles that nobody has to pass just now.
    pub(super) fn revise_resting(&mut self, revise: impl Fn(i64, &Limits) -> i64) {
        self.rested.clear();
        for (bits, (mark, function)) in &mut self.resting {
            *mark = revise(*mark, self.limits.get(function).unwrap_or(&self.no_limits));
            self.rested.insert((Rate::rested_at(*mark), *bits));
        }
    }

    /// Forgets throttles that are as good as new.
    pub(super) fn forget_rested(&mut self, now: Timestamp) {
        while let Some(&(at, bits)) = self.rested.first()
            && at <= now
        {
            self.rested.pop_first();
            self.resting.remove(&bits);
        }
    }

    /// Whether a gate lets one more through, under the numbers of a function.
    pub(super) fn is_open(&self, bucket: &Bucket, rule: RuleId, limits: &Limits, now: Timestamp) -> bool {
        self.revision.is_some()
            && !limits.is_shut()
            && match limits.of(rule) {
                None => true,
                Some(Limit::Slots(slots)) => bucket.held < usize::try_from(slots).unwrap_or(usize::MAX),
                Some(Limit::Rate(rate)) => rate.is_open(bucket.mark, now),
            }
    }

    /// The stand of a function at a bucket where it has lines.
    pub(super) fn stand(&mut self, bucket: BucketSlot, partition: PartitionSlot) -> &mut Stand {
        let stands = &mut self.buckets[bucket].stands;
        let stand = stands.iter_mut().find(|stand| stand.partition == partition);
        stand.expect("a line's gates have a stand of its function")
    }

    /// Sets when a throttle opens for lines that wait.
    pub(super) fn set_timer(&mut self, slot: BucketSlot, timer: Option<Timestamp>) {
        let bucket = &mut self.buckets[slot];
        if bucket.timer != timer {
            if let Some(at) = bucket.timer {
                self.opens.remove(&(at, slot));
            }
            if let Some(at) = timer {
                self.opens.insert((at, slot));
            }
            bucket.timer = timer;
        }
    }
}

#[cfg(test)]
impl Gatehouse {
    /// Buckets, lines, and throttles that rest: what there is in memory.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        assert_eq!(self.buckets.len(), self.by_bucket.len());
        assert_eq!(self.lines.len(), self.by_name.len());
        assert_eq!(self.resting.len(), self.rested.len());
        (self.buckets.len(), self.lines.len(), self.resting.len())
    }
}
