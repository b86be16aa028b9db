//! A run put together from its rows, whichever database they come from.
//!
//! Rows come in by kind, for many runs at once, and go out by run. Within a run, steps and deferrals keep the order in which
//! they came, which is that of their first report.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use callboard_actors::domain::{DeadLetter, Deferral, EventId, JobKey, Json, RunId, RunState, Step, StepState};
use callboard_actors::ports::StoreError;

/// What belongs to runs beside their own rows.
#[derive(Default)]
pub(super) struct Parts {
    bodies: HashMap<EventId, Json>,
    steps: HashMap<RunId, Vec<Step>>,
    jobs: HashMap<RunId, BTreeMap<JobKey, u32>>,
    letters: HashMap<RunId, BTreeMap<JobKey, DeadLetter>>,
    deferrals: HashMap<RunId, Vec<Deferral>>,
}

impl Parts {
    /// The body of an event that started a run, or several.
    pub(super) fn body(&mut self, event: EventId, body: Json) {
        self.bodies.insert(event, body);
    }

    pub(super) fn step(&mut self, run: RunId, step: Step) {
        self.steps.entry(run).or_default().push(step);
    }

    /// A job and the attempts made before.
    pub(super) fn job(&mut self, run: RunId, key: JobKey, attempt: u32) {
        self.jobs.entry(run).or_default().insert(key, attempt);
    }

    pub(super) fn letter(&mut self, letter: DeadLetter) {
        let held = self.letters.entry(letter.job.id.run).or_default();
        held.insert(letter.job.id.key.clone(), letter);
    }

    pub(super) fn deferral(&mut self, run: RunId, deferral: Deferral) {
        self.deferrals.entry(run).or_default().push(deferral);
    }

    /// The bodies of the events that started a run, in order.
    pub(super) fn events_of(&self, run: RunId, events: &[EventId]) -> Result<Arc<[Json]>, StoreError> {
        let bodies = events.iter().map(|event| {
            let body = self.bodies.get(event).cloned();
            body.ok_or_else(|| StoreError::Corrupt(format!("run {run} has lost its event {event}")))
        });
        bodies.collect()
    }

    /// Gives a run what belongs to it; its own row says the rest.
    pub(super) fn complete(&mut self, state: &mut RunState) {
        let mut done = Vec::new();
        for step in self.steps.remove(&state.id).unwrap_or_default() {
            if let StepState::Done { position, .. } = step.state {
                done.push((position, step.id.clone()));
            }
            state.steps.insert(step.id.clone(), step);
        }
        done.sort();
        state.stack = done.into_iter().map(|(_, step)| step).collect();
        state.jobs = self.jobs.remove(&state.id).unwrap_or_default();
        let deferrals = self.deferrals.remove(&state.id).unwrap_or_default();
        state.deferrals = deferrals.into_iter().map(|known| (known.id.clone(), known)).collect();
        state.held = self.letters.remove(&state.id).unwrap_or_default();
    }
}
