//! How a job gets in, and what gives way to it.

use callboard_actors::domain::{FunctionId, Job, Timestamp};
use callboard_actors::ports::Pushed;

use super::super::partition::{JobSlot, Partition, PartitionSlot, Rank};
use super::super::room;
use super::{Entry, State};

/// Which capacity is used up.
#[derive(Debug, Clone, Copy)]
enum Lack {
    Total,
    Function,
}

impl State {
    /// Takes in a job that is not known, or turns it away.
    pub(super) fn admit(&mut self, job: Job, not_before: Option<Timestamp>, pushed: &mut Pushed) {
        let function = job.function;
        let not_before = not_before.unwrap_or(job.due);
        let lack = self.lack(function);
        let mut fits = true;
        if let Some(lack) = lack {
            let victim = self.needed_last(lack, function, &Rank::new(&job.id, job.priority, not_before));
            fits = victim.is_some();
            pushed.spilled += 1;
            self.spilled += 1;
            if let Some(victim) = victim {
                self.remove(victim);
            }
        }
        if fits {
            let place = match self.by_function.get(&function) {
                Some(place) => *place,
                None => {
                    let partition = Partition::new(function, self.gates.limits_of(function));
                    let place = self.partitions.insert(partition);
                    self.by_function.insert(function, place);
                    place
                }
            };
            let line = self.gates.join(place, &job.gates);
            let slot = self.entries.insert(Entry {
                id: job.id.clone(),
                partition: place,
                attempt: job.attempt,
                due: job.due,
                not_before,
                priority: job.priority,
                payload: job.payload,
                gates: job.gates,
                line,
                held: None,
            });
            self.by_id.insert(job.id, slot);
            self.line_up(slot);
            pushed.accepted += 1;
        }
        // Last, or dropping the victim would look like the room that is waited for.
        match lack {
            None => {}
            Some(Lack::Total) => self.short = true,
            Some(Lack::Function) => {
                let place = self.by_function[&function];
                self.partitions[place].short = true;
            }
        }
    }

    /// What keeps one more job of this function out.
    fn lack(&self, function: FunctionId) -> Option<Lack> {
        let full = |place: &PartitionSlot| self.partitions[*place].len() >= self.capacity.per_function;
        if self.by_function.get(&function).is_some_and(full) {
            Some(Lack::Function)
        } else if self.entries.len() >= self.capacity.total {
            Some(Lack::Total)
        } else {
            None
        }
    }

    /// The job that may give way to one of this function and rank.
    fn needed_last(&mut self, lack: Lack, function: FunctionId, rank: &Rank) -> Option<JobSlot> {
        let longest = self.turns.longest().filter(|_| matches!(lack, Lack::Total));
        for place in longest.into_iter().chain(self.by_function.get(&function).copied()) {
            self.call_roll(place);
        }
        let own = self.by_function.get(&function).map(|place| &self.partitions[*place]);
        let longest = || self.turns.longest().map(|place| &self.partitions[place]);
        match lack {
            Lack::Total => room::needed_last(&self.delayed, longest(), own, rank, self.now),
            Lack::Function => room::needed_last(&own?.delayed, None, own, rank, self.now),
        }
    }
}
