//! What is going on at gates, for people: who holds what, who waits, and in which place. Looks at all lines.

use std::collections::BTreeMap;

use callboard_actors::domain::{FunctionId, GateKind, Limit, RuleId, RunId};
use callboard_actors::ports::{Flow, KeyFlow, Place, RuleFlow};

use super::State;
use crate::queue::embedded::gatehouse::{BucketSlot, Line};
use crate::queue::embedded::partition::JobSlot;

impl State {
    pub(in crate::queue::embedded) fn flow(&self, function: FunctionId) -> Flow {
        let Some(&place) = self.by_function.get(&function) else {
            return Flow::default();
        };
        let limits = &self.partitions[place].limits;
        let mut rules: BTreeMap<(RuleId, GateKind), BTreeMap<BucketSlot, KeyFlow>> = BTreeMap::new();
        for (_, line) in self.gates.lines.iter().filter(|(_, line)| line.partition == place) {
            let oldest = line.jobs.iter().map(|(rank, _)| rank.created_at()).min();
            for pass in &line.passes {
                let bucket = &self.gates.buckets[pass.bucket];
                if bucket.held == 0 && line.jobs.is_empty() {
                    continue;
                }
                let keys = rules.entry((pass.rule, pass.kind)).or_default();
                let flow = keys.entry(pass.bucket).or_insert_with(|| KeyFlow {
                    key: bucket.key.to_string(),
                    in_use: bucket.held,
                    waiting: 0,
                    oldest: None,
                    next: None,
                });
                flow.waiting += line.jobs.len();
                flow.oldest = flow.oldest.into_iter().chain(oldest).min();
                if let Some(Limit::Rate(rate)) = limits.of(pass.rule)
                    && !line.jobs.is_empty()
                    && !limits.is_shut()
                {
                    flow.next = Some(rate.opens_at(bucket.mark)).filter(|next| *next > self.now);
                }
            }
        }
        let rules = rules.into_iter();
        Flow {
            rules: rules
                .map(|((rule, kind), keys)| RuleFlow::of_keys(rule, kind, keys.into_values().collect()))
                .collect(),
        }
    }

    pub(in crate::queue::embedded) fn places_of(&self, run: RunId) -> Vec<Place> {
        self.slots_of(run).filter_map(|slot| self.place_of(slot)).collect()
    }

    /// Where a job stands, if it is due and waits.
    fn place_of(&self, slot: JobSlot) -> Option<Place> {
        let entry = &self.entries[slot];
        if entry.held.is_some() || entry.not_before > self.now {
            return None;
        }
        let (rank, partition) = (entry.rank(), &self.partitions[entry.partition]);
        let mut place = Place {
            job: entry.id.clone(),
            gate: None,
            opens: None,
            ahead: None,
        };
        let Some(line) = entry.line else {
            place.ahead = Some(partition.ready.range(..&rank).take(Place::MOST).count());
            return Some(place);
        };
        let Some(shut) = self.first_shut(line) else {
            place.ahead = Some(self.gates.lines[line].jobs.before(&rank).take(Place::MOST).count());
            return Some(place);
        };
        let pass = self.gates.lines[line].passes[shut];
        let mut gates = entry.gates.as_slice().iter();
        place.gate = gates
            .find(|gate| (gate.kind, gate.rule) == (pass.kind, pass.rule))
            .cloned();
        if let Some(Limit::Rate(rate)) = partition.limits.of(pass.rule)
            && !partition.limits.is_shut()
        {
            let opens = rate.opens_at(self.gates.buckets[pass.bucket].mark);
            place.opens = Some(opens).filter(|opens| *opens > self.now);
        }
        if pass.kind != GateKind::SharedSlot {
            let is_there = |other: &&Line| {
                let mut passes = other.passes.iter();
                other.partition == entry.partition && passes.any(|other| other.bucket == pass.bucket)
            };
            let lines = self.gates.lines.iter().map(|(_, line)| line).filter(is_there);
            let before = lines.flat_map(|line| line.jobs.before(&rank));
            place.ahead = Some(before.take(Place::MOST).count());
        }
        Some(place)
    }
}
