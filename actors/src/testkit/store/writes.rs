//! What writes do to the rows, and what is read back of a run.

use super::*;

impl Inner {
    pub(super) fn is_refused(&self, write: &Write) -> bool {
        let name = match write {
            Write::Accept(accept) => Some(&accept.event.name),
            Write::Route(route) => self.events.get(&route.event).map(|event| &event.name),
            Write::Advance(_) | Write::Fire(_) => None,
        };
        // Two records of one skip are what a primary key refuses.
        let is_double = |skip: &Skip| {
            let mut known = self.skips.iter();
            known.any(|known| known.event == skip.event && known.function == skip.function)
        };
        let skips = match write {
            Write::Route(route) => &route.skips[..],
            _ => &[],
        };
        if let Write::Route(route) = write
            && self.refused_events.contains(&route.event)
        {
            return true;
        }
        name.is_some_and(|name| self.refused.contains(name)) || skips.iter().any(is_double)
    }

    pub(super) fn write(&mut self, write: &Write) -> Written {
        let matched = match write {
            Write::Accept(accept) => accept.catalog,
            Write::Route(route) => route.catalog,
            Write::Fire(fire) => fire.catalog,
            Write::Advance(_) => None,
        };
        if matched.is_some_and(|matched| matched < self.revision) {
            return Written::Outdated;
        }
        match write {
            Write::Accept(accept) => self.accept(accept),
            Write::Route(route) => self.route(route),
            Write::Advance(advance) => self.advance(advance),
            Write::Fire(fire) => self.fire(fire),
        }
    }

    pub(super) fn put_event(&mut self, event: &Event, in_any_case: bool) -> Vec<EventId> {
        let is_awaited = self.waits.values().any(|wait| wait.name == event.name);
        let is_unrouted = (is_awaited || in_any_case) && !self.events.contains_key(&event.id);
        if is_unrouted {
            self.unrouted.insert(event.id);
        }
        self.events.entry(event.id).or_insert_with(|| event.clone());
        is_unrouted.then_some(event.id).into_iter().collect()
    }

    pub(super) fn accept(&mut self, accept: &Accept) -> Written {
        if self.events.contains_key(&accept.event.id) {
            return Written::Lost;
        }
        let unrouted = self.put_event(&accept.event, false);
        self.skips.extend(accept.skips.iter().cloned());
        let mut created = self.create(&accept.runs);
        self.join(&accept.joins, &mut created);
        created.unrouted.extend(unrouted);
        created.into_written(Vec::new())
    }

    pub(super) fn route(&mut self, route: &Route) -> Written {
        if !self.unrouted.remove(&route.event) {
            return Written::Lost;
        }
        self.skips.extend(route.skips.iter().cloned());
        let mut created = self.create(&route.runs);
        self.join(&route.joins, &mut created);
        let mut missed = Vec::new();
        for take in &route.takes {
            if self.waits.remove(&(take.run, take.key.to_string())).is_some() {
                self.jobs.insert(take.job.id.clone(), take.job.clone());
            } else {
                missed.push((take.run, take.key.clone()));
            }
        }
        created.into_written(missed)
    }

    pub(super) fn advance(&mut self, advance: &Advance) -> Written {
        let id = advance.run;
        match self.runs.get_mut(&id) {
            Some(run) if run.version == advance.expected => run.version += 1,
            _ => return Written::Lost,
        }
        let mut unrouted = Vec::new();
        for change in &advance.changes {
            self.runs.get_mut(&id).expect("it is there").apply(change);
            match change {
                Change::JobPut(job) => drop(self.jobs.insert(job.id.clone(), job.clone())),
                Change::JobDone(key) => drop(self.jobs.remove(&JobId {
                    run: id,
                    key: key.clone(),
                })),
                Change::WaitPut(wait) => drop(self.waits.insert((id, wait.key.to_string()), wait.clone())),
                Change::WaitDone(key) => drop(self.waits.remove(&(id, key.to_string()))),
                Change::Emit { event, has_listeners } => unrouted.extend(self.put_event(event, *has_listeners)),
                Change::Ended { output, .. } => {
                    self.outputs.insert(id, output.clone());
                    self.jobs.retain(|job, _| job.run != id);
                    self.waits.retain(|(run, _), _| *run != id);
                    self.letters.retain(|(run, _), _| *run != id);
                }
                Change::Buried(letter) => {
                    self.jobs.remove(&letter.job.id);
                    self.letters.insert((id, letter.job.id.key.clone()), letter.clone());
                }
                Change::Released(lock) => self.release(*lock, id),
                Change::Unburied(key) => drop(self.letters.remove(&(id, key.clone()))),
                _ => {}
            }
        }
        Written::Done {
            left_out: Vec::new(),
            missed: Vec::new(),
            unrouted,
            evictions: Vec::new(),
            joined: Joined::default(),
        }
    }

    /// As the database would give it back: its jobs are what the table of jobs holds.
    pub(super) fn load(&self, id: RunId) -> Option<RunState> {
        let mut run = self.runs.get(&id).filter(|run| !run.status.is_final())?.clone();
        let jobs = self.jobs.values().filter(|job| job.id.run == id);
        run.jobs = jobs.map(|job| (job.id.key.clone(), job.attempt)).collect();
        let letters = self.letters.iter().filter(|((run, _), _)| *run == id);
        run.held = letters
            .map(|((_, key), letter)| (key.clone(), letter.clone()))
            .collect();
        Some(run)
    }
}
