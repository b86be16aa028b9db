//! What an unfinished run is waiting for, and who sees to it (P4: there is always somebody).

use callboard_actors::domain::{DeadLetter, Function, FunctionMode, GateKind, JobKey, StepId, Timestamp};
use callboard_actors::ports::{JobView, Lease, PARKED, Place, RunView, SlotPlace, WaitView};
use callboard_actors::workers::Workers;
use serde::Serialize;
use utoipa::ToSchema;

use super::rfc3339;
use crate::http::own::limits::name_of;

/// One thing that an unfinished run is waiting for.
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
pub(in crate::http::own) struct Pending {
    /// `call` (the app's answer), `retry`, `start`, `slot` (one of so many runs at a time), `sleep`, `event`, `signal`,
    /// `invoke`, `resume`, `cancel` or `deadline` (when it will be cancelled).
    pub(super) what: &'static str,
    /// Who sees to it: `lease` (an executor, now), `queue`, `timer`, `wait`, `slot` (whoever holds one and ends), `hold`
    /// (you: the job was given up, and is a dead letter), `pause` (you: the function is paused, and the app is not called), or
    /// `worker` (none that has the function is connected).
    pub(super) owner: &'static str,
    /// The step concerned, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step_id: Option<String>,
    /// The event or signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// What the event has to fulfil.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) condition: Option<String>,
    /// The attempt, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attempt: Option<u32>,
    /// Since when somebody is at work on it, it is held or, in the queue, its time has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
    /// The dead letter to decide about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dead_letter: Option<String>,
    /// When it goes on at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<String>,
    /// The limit that holds a call up: `concurrency`, `run_concurrency` or `throttle`. Absent if it waits for its turn only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<&'static str>,
    /// The value of that limit's key, shortened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// Its place in the line there, from `1`; `1001+` is the thousand-first or a later one. Absent if nobody can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "17")]
    pub(super) position: Option<String>,
    /// When a throttle lets the next start of the line through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) opens_at: Option<String>,
}

/// What the queue knows of a run, and the store of its wait for a slot.
#[derive(Debug, Default)]
pub(in crate::http::own) struct Queued {
    pub(in crate::http::own) leases: Vec<Lease>,
    pub(in crate::http::own) places: Vec<Place>,
    pub(in crate::http::own) slot: Option<SlotPlace>,
}

/// Why an app is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// The function is paused, since then.
    Pause(Timestamp),
    /// No worker has it.
    NoWorker,
}

impl Hold {
    /// Why this function's app is not called, if it is not.
    pub(super) fn of(function: &Function, workers: &Workers) -> Option<Self> {
        if let FunctionMode::Paused { since } = function.mode {
            return Some(Self::Pause(since));
        }
        (function.is_connected() && !workers.may_be_served(&function.slug)).then_some(Self::NoWorker)
    }
}

impl Pending {
    pub(super) fn all(view: &RunView, queued: &Queued, hold: Option<Hold>, now: Timestamp) -> Vec<Self> {
        let jobs = view.jobs.iter().filter_map(|job| of_job(job, view, queued, hold, now));
        let waits = view.waits.iter().filter(|wait| wait.kind != "cancel");
        let held = view.held.iter().map(|letter| of_letter(letter, view));
        jobs.chain(waits.map(|wait| of_wait(wait, view))).chain(held).collect()
    }
}

fn label(view: &RunView, id: &StepId) -> Option<String> {
    let step = view.steps.iter().find(|step| step.id == *id);
    step.map(|step| step.label.clone())
}

/// A place of which so many are before it, for people.
fn position(ahead: usize) -> String {
    let more = if ahead < Place::MOST { "" } else { "+" };
    format!("{}{more}", ahead + 1)
}

fn of_job(job: &JobView, view: &RunView, queued: &Queued, hold: Option<Hold>, now: Timestamp) -> Option<Pending> {
    let key: JobKey = job.key.parse().ok()?;
    let lease = queued.leases.iter().find(|lease| lease.job.id.key == key);
    let is_later = job.due > now;
    let hold = hold.filter(|_| key.is_call() && lease.is_none());
    let paused_since = match hold {
        Some(Hold::Pause(since)) => Some(since),
        Some(Hold::NoWorker) | None => None,
    };
    // For one of those that hold the run slots of its key to end.
    let is_parked = job.due == PARKED;
    let (what, step) = match &key {
        JobKey::Start | JobKey::Discover(_) | JobKey::Step(_) if job.attempt > 0 && is_later => {
            ("retry", key_step(&key))
        }
        JobKey::Start if is_parked => ("slot", None),
        JobKey::Start if is_later => ("start", None),
        JobKey::Start | JobKey::Discover(_) | JobKey::Step(_) => ("call", key_step(&key)),
        JobKey::Wake(step) => ("sleep", Some(step)),
        // The wait itself is listed, with this as its end.
        JobKey::Timeout(step) if view.waits.iter().any(|wait| wait.step.as_ref() == Some(step)) => return None,
        JobKey::Timeout(step) | JobKey::Resume(step) => ("resume", Some(step)),
        JobKey::Cancel => ("cancel", None),
        JobKey::Deadline(_) => ("deadline", None),
    };
    let since = match lease {
        Some(lease) => Some(lease.since),
        None => paused_since.or((!is_later).then_some(job.due)),
    };
    let owner = match lease {
        Some(_) => "lease",
        None if paused_since.is_some() => "pause",
        None if is_parked => "slot",
        None if is_later => "timer",
        None if hold == Some(Hold::NoWorker) => "worker",
        None => "queue",
    };
    let place = queued
        .places
        .iter()
        .find(|place| owner == "queue" && place.job.key == key);
    let gate = place.and_then(|place| place.gate.as_ref());
    let slot = queued.slot.as_ref().filter(|_| owner == "slot");
    let shown = |key: &str| (!key.is_empty()).then(|| key.to_owned());
    Some(Pending {
        what,
        owner,
        limit: gate
            .map(|gate| gate.kind)
            .or(slot.map(|_| GateKind::RunSlot))
            .map(name_of),
        key: gate
            .map(|gate| &*gate.key)
            .or(slot.map(|slot| &*slot.key))
            .and_then(shown),
        position: place
            .and_then(|place| place.ahead)
            .or(slot.map(|slot| slot.ahead))
            .map(position),
        opens_at: place.and_then(|place| place.opens).map(rfc3339),
        step: step.and_then(|step| label(view, step)),
        step_id: step.map(ToString::to_string),
        attempt: key.is_call().then_some(job.attempt),
        since: since.map(rfc3339),
        until: (lease.is_none() && is_later && !is_parked).then(|| rfc3339(job.due)),
        ..Pending::default()
    })
}

/// The step that a call runs; a discovery runs none.
fn key_step(key: &JobKey) -> Option<&StepId> {
    match key {
        JobKey::Step(step) => Some(step),
        _ => None,
    }
}

fn of_letter(letter: &DeadLetter, view: &RunView) -> Pending {
    let key = &letter.job.id.key;
    let (what, step) = match key {
        JobKey::Start | JobKey::Discover(_) => ("call", None),
        JobKey::Step(step) => ("call", Some(step)),
        JobKey::Wake(step) => ("sleep", Some(step)),
        JobKey::Timeout(step) | JobKey::Resume(step) => ("resume", Some(step)),
        JobKey::Cancel => ("cancel", None),
        JobKey::Deadline(_) => ("deadline", None),
    };
    Pending {
        what,
        owner: "hold",
        step: step.and_then(|step| label(view, step)),
        step_id: step.map(ToString::to_string),
        attempt: key.is_call().then_some(letter.job.attempt),
        since: Some(rfc3339(letter.at())),
        dead_letter: Some(letter.id.to_string()),
        ..Pending::default()
    }
}

fn of_wait(wait: &WaitView, view: &RunView) -> Pending {
    Pending {
        what: wait.kind,
        owner: "wait",
        step: wait.step.as_ref().and_then(|step| label(view, step)),
        step_id: wait.step.as_ref().map(ToString::to_string),
        name: Some(wait.name.clone()),
        condition: wait.condition.clone(),
        until: Some(rfc3339(wait.expires_at)),
        ..Pending::default()
    }
}
