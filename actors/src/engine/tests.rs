//! The engine's tests: tables of what each reply leads to, and properties over random histories.

#![allow(clippy::needless_pass_by_value, reason = "the tables read better with values")]

mod admission;
mod deadlines;
mod deferrals;
mod endpoints;
mod gates;
mod gatherings;
mod holds;
mod life;
mod metadata;
mod parallel;
mod properties;
mod reports;
mod waits;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::domain::{
    Caps, Event, EventId, FlowControl, FunctionId, FunctionMode, Gates, JobId, Opcode, RunId, Step, StepState,
};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_750_000_000_000);

/// Listens to nothing, or to everything.
#[derive(Debug)]
pub(super) struct Ears(bool);

impl Listeners for Ears {
    fn listens(&self, _: &str) -> bool {
        self.0
    }
}

pub(super) fn function(retries: u32) -> Function {
    Function {
        id: FunctionId::derive("shop", "shop-charge"),
        slug: "shop-charge".into(),
        app: "shop".into(),
        name: "Charge".to_owned(),
        version: 1,
        url: "http://localhost:3000/api/inngest?fnId=shop-charge&stepId=step".to_owned(),
        triggers: Vec::new(),
        retries,
        flow: FlowControl::default(),
        config: Json::null(),
        endpoint: None,
        archived: false,
        mode: FunctionMode::Active,
        caps: Caps::default(),
    }
}

pub(super) fn event(data: Value) -> Event {
    let incoming = serde_json::from_value(json!({"name": "shop/order.paid", "data": data})).expect("an event");
    Event::accept(incoming, EventId::new(NOW, 7), NOW).expect("a valid event")
}

/// A run under test: every input goes through [`decide`], and every decision is checked against the promises.
pub(super) struct Case {
    pub(super) function: Function,
    pub(super) run: RunState,
    pub(super) now: Timestamp,
    /// The run's jobs with what they carry.
    pub(super) jobs: HashMap<JobKey, Job>,
    pub(super) events: Vec<Event>,
    pub(super) output: Option<Json>,
    pub(super) listens: bool,
    pub(super) look_back: Option<std::time::Duration>,
}

impl Case {
    pub(super) fn new() -> Self {
        Self::with(function(4), &event(json!({"id": 7})))
    }

    pub(super) fn with(function: Function, event: &Event) -> Self {
        let new = start(&function, event, NOW).expect("starts");
        let jobs = [Some(new.job), new.deadline].into_iter().flatten();
        let jobs = jobs.map(|job| (job.id.key.clone(), job)).collect();
        Self {
            function,
            run: new.state,
            now: NOW,
            jobs,
            events: Vec::new(),
            output: None,
            listens: false,
            look_back: None,
        }
    }

    pub(super) fn keys(&self) -> BTreeSet<String> {
        self.run.jobs.keys().map(ToString::to_string).collect()
    }

    pub(super) fn give(&mut self, input: Input) -> Vec<Change> {
        let ears = Ears(self.listens);
        let context = Context {
            look_back: self.look_back,
            now: self.now,
            dice: 0.0,
            retry: RetryPolicy::default(),
            listeners: &ears,
        };
        let before = self.run.clone();
        let (next, changes) = decide(before.clone(), &self.function, &input, &context);
        self.check(&before, &next, &changes);
        self.run = next;
        for change in &changes {
            match change {
                Change::JobPut(job) => drop(self.jobs.insert(job.id.key.clone(), job.clone())),
                Change::JobDone(key) => drop(self.jobs.remove(key)),
                Change::Buried(letter) => drop(self.jobs.remove(&letter.job.id.key)),
                Change::Emit { event, .. } => self.events.push(event.clone()),
                Change::Ended { output, .. } => {
                    self.output = Some(output.clone());
                    self.jobs.clear();
                }
                _ => {}
            }
        }
        changes
    }

    /// The promises, after every decision.
    fn check(&self, before: &RunState, next: &RunState, changes: &[Change]) {
        let mut replayed = before.clone();
        changes.iter().for_each(|change| replayed.apply(change));
        replayed.version = next.version;
        assert_eq!(&replayed, next, "the changes lead to the next state");
        assert_eq!(
            next.version,
            before.version + u64::from(!changes.is_empty()),
            "one decision, one version"
        );
        assert_eq!(
            next.status.is_final(),
            !next.is_owned(),
            "P4: an open run has a job or is held, an ended one neither"
        );
        for (id, step) in &before.steps {
            if step.is_done() {
                assert_eq!(next.steps.get(id), Some(step), "P3: what is recorded stays");
            }
        }
        let done: BTreeSet<_> = next
            .steps
            .values()
            .filter(|step| Step::is_done(step))
            .map(|step| step.id.clone())
            .collect();
        assert_eq!(
            next.stack.iter().cloned().collect::<BTreeSet<_>>(),
            done,
            "the stack is what is done"
        );
        assert_eq!(next.stack.len(), done.len(), "the stack holds each step once");
        for (id, deferral) in &before.deferrals {
            if !deferral.is_pending() {
                assert_eq!(next.deferrals.get(id), Some(deferral), "what is settled stays");
            }
        }
        let scheduled: Vec<_> = next.deferrals.values().filter_map(|deferral| deferral.event).collect();
        let emitted = changes.iter().filter_map(|change| match change {
            Change::Emit { event, .. } if event.name == Event::DEFERRED => Some(event.id),
            _ => None,
        });
        if before.status.is_final() {
            assert_eq!(emitted.count(), 0, "what was put off starts once");
        } else {
            assert_eq!(
                emitted.collect::<Vec<_>>(),
                scheduled,
                "what was put off starts with the end"
            );
        }
        let is_pending = next.deferrals.values().any(crate::domain::Deferral::is_pending);
        assert!(!(is_pending && next.status.is_final()), "nothing is put off for ever");
        if before.status.is_final() {
            assert!(changes.is_empty(), "nothing happens to a run that has ended");
        }
        if !next.status.is_final() {
            for id in &next.group {
                let is_open = !next.steps.get(id).is_some_and(Step::is_done);
                assert!(is_open, "a group waits for open steps only: {id}");
            }
        }
        for step in next
            .steps
            .values()
            .filter(|step| !step.is_done() && !next.status.is_final())
        {
            let owner = match (&step.state, step.op) {
                (StepState::Planned, _) => JobKey::Step(step.id.clone()),
                (_, StepOp::Sleep) => JobKey::Wake(step.id.clone()),
                _ => JobKey::Timeout(step.id.clone()),
            };
            let owners = [JobKey::Resume(step.id.clone()), owner];
            let has = |key: &JobKey| next.jobs.contains_key(key) || next.held.contains_key(key);
            assert!(owners.iter().any(has), "an open step has its job: {owners:?}");
        }
    }

    pub(super) fn replied(&self, key: &str, reply: Reply) -> Replied {
        let key: JobKey = key.parse().expect("a job key");
        let job = self
            .jobs
            .get(&key)
            .cloned()
            .unwrap_or_else(|| panic!("no job {key}, only {:?}", self.keys()));
        // The call that counts.
        let call = CallRef::new(&job, RequestId::first_at(self.now));
        let reporter = self.run.reporter.as_ref().filter(|reporter| reporter.is_beside(&call));
        let request = reporter.map_or(call.request, |reporter| reporter.request);
        Replied {
            job,
            request,
            reply,
            called_at: self.now,
            fetched: HashMap::new(),
            signals_taken: HashSet::new(),
        }
    }

    pub(super) fn reply(&mut self, key: &str, reply: Reply) -> Vec<Change> {
        let replied = self.replied(key, reply);
        self.give(Input::Replied(Box::new(replied)))
    }

    /// A 206 with these opcodes, in request version 2.
    pub(super) fn ops(&mut self, key: &str, ops: Value) -> Vec<Change> {
        self.reply(key, steps(2, &ops))
    }

    pub(super) fn returns(&mut self, key: &str, output: &Value) -> Vec<Change> {
        self.reply(key, Reply::Returned(Json::from_value(output).expect("JSON")))
    }

    pub(super) fn fails(&mut self, key: &str, no_retry: bool) -> Vec<Change> {
        let failure = Failure::new("TypeError", "boom");
        self.reply(
            key,
            Reply::Failed {
                failure,
                status: Some(500),
                no_retry,
                retry_after: None,
            },
        )
    }

    pub(super) fn memo(&self, step: &str) -> Option<String> {
        Some(self.run.steps.get(&StepId::from(step))?.memo()?.to_string())
    }

    pub(super) fn attempt(&self, key: &str) -> u32 {
        self.jobs[&key.parse::<JobKey>().expect("a job key")].attempt
    }
}

pub(super) fn steps(request_version: i32, ops: &Value) -> Reply {
    let ops = Opcode::parse_reply(ops.to_string().as_bytes()).expect("valid opcodes");
    Reply::Steps {
        ops,
        request_version,
        no_retry: false,
        retry_after: None,
    }
}

pub(super) fn keys<const N: usize>(keys: [&str; N]) -> BTreeSet<String> {
    keys.into_iter().map(str::to_owned).collect()
}

pub(super) fn job_of(case: &Case, key: &str) -> Job {
    let key: JobKey = key.parse().expect("a job key");
    case.jobs.get(&key).cloned().unwrap_or(Job {
        id: JobId { run: case.run.id, key },
        function: case.function.id,
        attempt: 0,
        due: case.now,
        priority: case.run.priority,
        payload: None,
        gates: Gates::NONE,
    })
}

pub(super) fn dispatched(case: &Case, key: &str) -> Next {
    dispatch(
        &case.run,
        &case.function,
        &job_of(case, key),
        RequestId::first_at(case.now),
        1,
    )
}

#[test]
fn a_runs_state_is_shared_not_copied() {
    let case = Case::new();
    assert_eq!(Arc::strong_count(&case.run.events), 1);
    let Next::Call(call) = dispatched(&case, "start") else {
        panic!("a call")
    };
    assert!(Arc::ptr_eq(&call.events, &case.run.events));
    assert_eq!(call.run, RunId::derive(EventId::new(NOW, 7), case.function.id));
}
