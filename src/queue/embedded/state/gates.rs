//! What gates do to the turns of functions: which stands are shown, which line goes next, who gives a slot back.
//!
//! One rule holds between any two calls: a stand is shown to its function exactly if its gate is open and a line stands
//! there. Every change of a bucket, of the numbers or of time ends with [`State::refresh`] for the buckets concerned.

use callboard_actors::domain::{BucketId, FunctionId, GateKind, Limit, Limits, Rate, Timestamp};
use callboard_actors::ports::LimitTable;

use super::State;
use crate::queue::embedded::gatehouse::{BucketSlot, LineSlot};
use crate::queue::embedded::partition::{JobSlot, Partition, PartitionSlot, Rank};

impl State {
    pub(in crate::queue::embedded) fn configure(&mut self, table: LimitTable) {
        let known = self.horizon();
        if !self.gates.configure(table) {
            return;
        }
        let places: Vec<_> = self.partitions.iter().map(|(place, _)| place).collect();
        for place in places {
            let partition = &mut self.partitions[place];
            partition.limits = self.gates.limits_of(partition.function);
        }
        // Nobody waits longer than a throttle that is used up, under the numbers that count now.
        let now = self.now;
        self.revise_marks(|mark, limits| {
            let rate = limits.iter().find_map(|(_, limit)| match limit {
                Limit::Rate(rate) => Some(rate),
                Limit::Slots(_) => None,
            });
            rate.map_or(mark, |rate| rate.at_most(mark, now))
        });
        self.check_gates();
        self.spread_news(known);
    }

    pub(in crate::queue::embedded) fn recall(&mut self, starts: Vec<(FunctionId, BucketId, Timestamp)>) {
        for (function, bucket, at) in starts {
            self.gates.recall(function, bucket, at);
        }
    }

    /// Takes the first job of a function that may go out of its line.
    pub(super) fn pop(&mut self, place: PartitionSlot) -> Option<JobSlot> {
        loop {
            let partition = &mut self.partitions[place];
            let Some((rank, bucket)) = partition.shown.first_key_value() else {
                return partition.ready.pop_first().map(|(_, slot)| slot);
            };
            if partition.ready.first_key_value().is_some_and(|(ready, _)| ready < rank) {
                return partition.ready.pop_first().map(|(_, slot)| slot);
            }
            let bucket = *bucket;
            let (_, line) = self.gates.stand(bucket, place).lines.first()?;
            match self.first_shut(line) {
                // Its own gate is open, or the stand would not be shown.
                Some(gate) => {
                    self.move_to(line, gate);
                    self.refresh(bucket);
                }
                None => return self.pass(line),
            }
        }
    }

    /// Takes the first job of a line through all its gates.
    fn pass(&mut self, slot: LineSlot) -> Option<JobSlot> {
        let (rank, job) = self.gates.lines[slot].jobs.pop_first()?;
        let place = self.gates.lines[slot].partition;
        self.leave_roll(place, &rank);
        self.stand_up(slot);
        for number in 0..self.gates.lines[slot].passes.len() {
            let pass = self.gates.lines[slot].passes[number];
            let limit = self.partitions[place].limits.of(pass.rule);
            let bucket = &mut self.gates.buckets[pass.bucket];
            if pass.kind != GateKind::Throttle {
                bucket.held += 1;
            } else if let Some(Limit::Rate(rate)) = limit {
                bucket.mark = rate.after_start(bucket.mark, self.now);
                self.turns_taken.insert(job, self.now);
            }
            self.refresh(pass.bucket);
        }
        if self.gates.lines[slot].passes[0].kind == GateKind::Throttle {
            // Once is enough: should it come back, it comes back elsewhere.
            let entry = &mut self.entries[job];
            entry.line = self.gates.join(place, &entry.gates.without_throttle());
            let function = self.partitions[place].function;
            self.gates.leave(slot, function, self.now);
        }
        Some(job)
    }

    /// A job gives back the turn that it took at its throttle at `since`.
    pub(super) fn return_turn(&mut self, job: JobSlot, since: Timestamp) {
        let (entry, now) = (&self.entries[job], self.now);
        let gate = entry.gates.as_slice().first();
        if let Some(gate) = gate.filter(|gate| gate.kind == GateKind::Throttle)
            && let Some(Limit::Rate(rate)) = self.partitions[entry.partition].limits.of(gate.rule)
            && let Some(bucket) = self
                .gates
                .revise_mark(gate.bucket, |mark| rate.after_return(mark, since, now))
        {
            self.refresh(bucket);
        }
    }

    /// The lease of a job of this line has ended.
    pub(super) fn give_slots_back(&mut self, line: LineSlot) {
        for number in 0..self.gates.lines[line].passes.len() {
            let pass = self.gates.lines[line].passes[number];
            if pass.kind != GateKind::Throttle {
                self.gates.buckets[pass.bucket].held -= 1;
                self.refresh(pass.bucket);
            }
        }
    }

    /// Puts a job that is due into its line.
    pub(super) fn line_up_at_gate(&mut self, line: LineSlot, slot: JobSlot) {
        let entry = &self.entries[slot];
        let (place, rank) = (entry.partition, entry.rank());
        let partition = &mut self.partitions[place];
        partition.gated += 1;
        if let Some((roll, _)) = &mut partition.roll {
            roll.insert(rank.clone(), slot);
        }
        self.gates.lines[line].jobs.insert(rank, slot);
        self.stand_up(line);
    }

    /// Takes a job that is due out of its line.
    pub(super) fn leave_ready(&mut self, slot: JobSlot) {
        let entry = &self.entries[slot];
        let (place, rank) = (entry.partition, entry.rank());
        self.ready -= 1;
        match entry.line {
            None => drop(self.partitions[place].ready.remove(&rank)),
            Some(line) => {
                self.gates.lines[line].jobs.remove(&rank);
                self.leave_roll(place, &rank);
                self.stand_up(line);
            }
        }
    }

    /// One job with gates less.
    fn leave_roll(&mut self, place: PartitionSlot, rank: &Rank) {
        let partition = &mut self.partitions[place];
        partition.gated -= 1;
        let is_over = partition.roll.as_mut().is_some_and(|(roll, at_first)| {
            roll.remove(rank);
            roll.len() <= *at_first / 2
        });
        if is_over {
            partition.roll = None;
        }
    }

    /// From now on the last job of a function is known, those with gates included.
    pub(super) fn call_roll(&mut self, place: PartitionSlot) {
        let gated = self.partitions[place].gated;
        if gated > 0 && self.partitions[place].roll.is_none() {
            let lines = self.gates.lines.iter().filter(|(_, line)| line.partition == place);
            let jobs = lines.flat_map(|(_, line)| line.jobs.iter());
            let roll = jobs.map(|(rank, slot)| (rank.clone(), slot)).collect();
            self.partitions[place].roll = Some((roll, gated));
        }
    }

    /// Brings the place of a line at its gate in line with its first job.
    fn stand_up(&mut self, slot: LineSlot) {
        let line = &self.gates.lines[slot];
        let first = line.jobs.first().map(|(rank, _)| rank);
        let (place, gate) = match (&line.standing, first) {
            (None, None) => return,
            (Some((_, at)), Some(rank)) if at == rank => return,
            (Some((gate, _)), _) => (line.partition, *gate),
            (None, Some(_)) => (line.partition, self.first_shut(slot).unwrap_or(0)),
        };
        let first = first.cloned();
        let line = &mut self.gates.lines[slot];
        let bucket = line.passes[gate].bucket;
        let before = std::mem::replace(&mut line.standing, first.clone().map(|rank| (gate, rank)));
        let stand = self.gates.stand(bucket, place);
        if let Some((_, rank)) = before {
            stand.lines.remove(&rank);
        }
        if let Some(rank) = first {
            stand.lines.insert(rank, slot);
        }
        self.refresh(bucket);
    }

    /// Moves a line to another of its gates. Whoever calls refreshes the one that it leaves.
    fn move_to(&mut self, slot: LineSlot, gate: usize) {
        let line = &mut self.gates.lines[slot];
        let place = line.partition;
        let to = line.passes[gate].bucket;
        let Some((old, rank)) = line.standing.take() else {
            return;
        };
        line.standing = Some((gate, rank.clone()));
        let from = line.passes[old].bucket;
        self.gates.stand(from, place).lines.remove(&rank);
        self.gates.stand(to, place).lines.insert(rank, slot);
        self.refresh(to);
    }

    /// The first gate of a line that is shut.
    pub(super) fn first_shut(&self, slot: LineSlot) -> Option<usize> {
        let line = &self.gates.lines[slot];
        let limits = &self.partitions[line.partition].limits;
        line.passes.iter().position(|pass| {
            let bucket = &self.gates.buckets[pass.bucket];
            !self.gates.is_open(bucket, pass.rule, limits, self.now)
        })
    }

    /// Shows or hides the stands at a bucket. Those of several functions come back in the order of their oldest runs.
    fn refresh(&mut self, slot: BucketSlot) {
        let mut timer = None;
        let mut newly_shown: Vec<(Rank, PartitionSlot)> = Vec::new();
        for number in 0..self.gates.buckets[slot].stands.len() {
            let bucket = &self.gates.buckets[slot];
            let stand = &bucket.stands[number];
            let (place, first) = (stand.partition, stand.lines.first().map(|(rank, _)| rank));
            let partition = &mut self.partitions[place];
            let is_open = || self.gates.is_open(bucket, stand.rule, &partition.limits, self.now);
            let shown = first.filter(|_| is_open());
            if shown.is_none()
                && first.is_some()
                && !partition.limits.is_shut()
                && let Some(Limit::Rate(rate)) = partition.limits.of(stand.rule)
            {
                timer = Some(rate.opens_at(bucket.mark));
            }
            if shown == stand.shown.as_ref() {
                continue;
            }
            let shown = shown.cloned();
            let stand = &mut self.gates.buckets[slot].stands[number];
            if let Some(rank) = std::mem::replace(&mut stand.shown, shown.clone()) {
                partition.shown.remove(&rank);
            }
            match shown {
                Some(rank) => {
                    partition.shown.insert(rank.clone(), slot);
                    newly_shown.push((rank, place));
                }
                None => self.settle_turns(place),
            }
        }
        self.gates.set_timer(slot, timer);
        newly_shown.sort_unstable();
        for (_, place) in newly_shown {
            self.settle_turns(place);
        }
    }

    /// Changes the marks of all throttles, given the numbers of their function.
    pub(super) fn revise_marks(&mut self, revise: impl Fn(i64, &Limits) -> i64) {
        let buckets: Vec<_> = self.gates.buckets.iter().map(|(slot, _)| slot).collect();
        for slot in buckets {
            let bucket = &mut self.gates.buckets[slot];
            if bucket.mark > Rate::RESTED {
                let limits = &self.partitions[bucket.stands[0].partition].limits;
                bucket.mark = revise(bucket.mark, limits);
            }
        }
        self.gates.revise_resting(revise);
    }

    /// Looks at all gates again: numbers have changed, or time has gone back.
    pub(super) fn check_gates(&mut self) {
        let buckets: Vec<_> = self.gates.buckets.iter().map(|(slot, _)| slot).collect();
        for bucket in buckets {
            self.refresh(bucket);
        }
    }

    /// Opens the throttles whose time has come.
    pub(super) fn open_gates(&mut self) {
        while let Some(&(at, bucket)) = self.gates.opens.first()
            && at <= self.now
        {
            self.gates.set_timer(bucket, None);
            self.refresh(bucket);
        }
        self.gates.forget_rested(self.now);
    }

    /// When the ready job of a function that was due first was due; looks at all of them.
    pub(super) fn oldest_due(&self, partition: &Partition) -> Option<Timestamp> {
        let ready = partition.ready.keys().map(Rank::due);
        let place = self.by_function.get(&partition.function).copied();
        let lines = self.gates.lines.iter().map(|(_, line)| line);
        let lines = lines.filter(|line| partition.gated > 0 && Some(line.partition) == place);
        let gated = lines.flat_map(|line| line.jobs.iter().map(|(rank, _)| rank.due()));
        ready.chain(gated).min()
    }

    /// Buckets, lines and throttles that rest.
    #[cfg(test)]
    pub(in crate::queue::embedded) fn gate_sizes(&self) -> (usize, usize, usize) {
        self.gates.sizes()
    }

    /// # Panics
    /// When the books contradict themselves.
    #[cfg(test)]
    pub(super) fn audit_gates(&self) {
        let (buckets, lines, _) = self.gates.sizes();
        let mut used = std::collections::BTreeSet::new();
        let mut shown = 0;
        for (slot, line) in self.gates.lines.iter() {
            let entries = || self.entries.iter().filter(|(_, entry)| entry.line == Some(slot));
            assert_eq!(line.members, entries().count());
            assert!(line.members > 0, "empty lines are dropped");
            assert_eq!(line.standing.is_some(), !line.jobs.is_empty());
            assert_eq!(
                line.standing.as_ref().map(|(_, rank)| rank),
                line.jobs.first().map(|(rank, _)| rank)
            );
            assert!(
                line.jobs
                    .iter()
                    .zip(line.jobs.iter().skip(1))
                    .all(|((a, _), (b, _))| a < b)
            );
            for (gate, pass) in line.passes.iter().enumerate() {
                used.insert(pass.bucket);
                let stands = &self.gates.buckets[pass.bucket].stands;
                let stand = stands
                    .iter()
                    .find(|stand| stand.partition == line.partition)
                    .expect("a stand");
                let here = stand.lines.iter().filter(|(_, found)| *found == slot).count();
                let expected = line.standing.as_ref().is_some_and(|(at, _)| *at == gate);
                assert_eq!(here, usize::from(expected));
            }
        }
        assert_eq!(used.len(), buckets, "unused buckets are dropped");
        for (slot, bucket) in self.gates.buckets.iter() {
            let passes = |line: &LineSlot| {
                let passes = &self.gates.lines[*line].passes;
                passes
                    .iter()
                    .any(|pass| pass.bucket == slot && pass.kind != GateKind::Throttle)
            };
            let held = self
                .entries
                .iter()
                .filter(|(_, entry)| entry.held.is_some() && entry.line.as_ref().is_some_and(passes));
            assert_eq!(bucket.held, held.count(), "slots are held by leases");
            for stand in &bucket.stands {
                let partition = &self.partitions[stand.partition];
                let is_open = self.gates.is_open(bucket, stand.rule, &partition.limits, self.now);
                let first = stand.lines.first().map(|(rank, _)| rank);
                assert_eq!(stand.shown.as_ref(), first.filter(|_| is_open), "shown if open");
                if let Some(rank) = &stand.shown {
                    assert_eq!(partition.shown.get(rank), Some(&slot));
                    shown += 1;
                }
            }
        }
        for (place, partition) in self.partitions.iter() {
            shown -= partition.shown.len();
            let of = self.gates.lines.iter().filter(|(_, line)| line.partition == place);
            let gated: usize = of.map(|(_, line)| line.jobs.len()).sum();
            assert_eq!(partition.gated, gated);
            if let Some((roll, _)) = &partition.roll {
                assert_eq!(roll.len(), gated);
            }
        }
        assert_eq!(shown, 0, "nothing else is shown");
        assert!(lines <= self.entries.len());
    }
}
