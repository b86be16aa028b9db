//! What a run's history says: its steps and the executions of its body, each with its attempts, in the order in which they
//! were first heard of.
//!
//! A discovery that fails belongs to what the next attempt of it brings: to the step that was found and run at once, to the
//! end of the run, or to nothing but itself.

use std::collections::HashMap;

use callboard_actors::domain::{EventId, HistoryEntry, HistoryKind, StepId, StepOp, Timestamp};
use callboard_actors::ports::{RunView, StepView};
use serde::Deserialize;
use serde_json::Value;

/// The particulars of a line of history; see [`HistoryKind`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Particulars {
    pub(super) started_at: Option<i64>,
    pub(super) ended_at: Option<i64>,
    pub(super) retry_at: Option<i64>,
    pub(super) error: Option<Value>,
    pub(super) name: Option<String>,
    /// HTTP status.
    pub(super) status: Option<Value>,
    pub(super) until: Option<i64>,
    pub(super) event: Option<String>,
    #[serde(rename = "if")]
    pub(super) condition: Option<String>,
    pub(super) signal: Option<String>,
    pub(super) function: Option<String>,
    pub(super) event_id: Option<String>,
    #[serde(rename = "type")]
    pub(super) run_type: Option<String>,
}

impl Particulars {
    fn of(entry: &HistoryEntry) -> Self {
        entry
            .detail
            .as_ref()
            .and_then(|detail| detail.to().ok())
            .unwrap_or_default()
    }

    pub(super) fn event_id(&self) -> Option<EventId> {
        self.event_id.as_deref()?.parse().ok()
    }
}

/// One attempt that is over.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    /// Its place in the history, which only grows.
    pub(super) place: usize,
    /// From 0.
    pub(super) number: u32,
    pub(super) failed: bool,
    pub(super) started_at: Timestamp,
    pub(super) ended_at: Timestamp,
    /// When it is made again.
    pub(super) retry_at: Option<Timestamp>,
    /// HTTP status of the app's answer, where a failed one had any.
    pub(super) http_status: Option<u16>,
}

impl Attempt {
    fn of(place: usize, entry: &HistoryEntry, particulars: &Particulars) -> Self {
        let ended_at = particulars.ended_at.map_or(entry.at, Timestamp::from_millis);
        let started_at = particulars.started_at.map_or(ended_at, Timestamp::from_millis);
        let status = particulars.status.as_ref().and_then(Value::as_u64);
        Self {
            place,
            number: entry.attempt,
            failed: entry.kind != HistoryKind::StepCompleted,
            started_at: started_at.min(ended_at),
            ended_at,
            retry_at: particulars.retry_at.map(Timestamp::from_millis),
            http_status: status.and_then(|status| u16::try_from(status).ok()),
        }
    }
}

/// A step, or an execution of the function's body.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// `None` for the body.
    pub(super) step: Option<StepId>,
    /// When it was first heard of.
    pub(super) since: Timestamp,
    pub(super) attempts: Vec<Attempt>,
    /// What it was set out to do, where it had to wait.
    pub(super) scheduled: Option<Particulars>,
    /// What became of it.
    pub(super) outcome: Option<Particulars>,
    /// The name that its history knows.
    pub(super) name: Option<String>,
    /// What its SDK calls this kind of step, if it is more than one that runs.
    pub(super) run_type: Option<String>,
}

impl Group {
    fn new(step: Option<StepId>, since: Timestamp) -> Self {
        Self {
            step,
            since,
            attempts: Vec::new(),
            scheduled: None,
            outcome: None,
            name: None,
            run_type: None,
        }
    }

    fn body(attempts: Vec<Attempt>) -> Self {
        let since = attempts.first().map_or(Timestamp::MIN, |first| first.started_at);
        Self {
            attempts,
            ..Self::new(None, since)
        }
    }
}

/// A run's history in groups.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) groups: Vec<Group>,
    /// Attempts at the body that failed, since anything else happened: they belong to what comes next.
    pub(super) body: Vec<Attempt>,
}

/// Whether a step of this kind is waited for rather than called.
pub(super) fn is_parked(op: StepOp) -> bool {
    matches!(
        op,
        StepOp::Sleep | StepOp::WaitForEvent | StepOp::WaitForSignal | StepOp::Invoke
    )
}

pub(super) fn groups(view: &RunView) -> Groups {
    let steps: HashMap<&StepId, &StepView> = view.steps.iter().map(|step| (&step.id, step)).collect();
    let mut places: HashMap<StepId, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    let mut body: Vec<Attempt> = Vec::new();
    for (line, entry) in view.history.iter().enumerate() {
        let is_attempt = match entry.kind {
            HistoryKind::StepCompleted | HistoryKind::StepFailed | HistoryKind::AttemptFailed => true,
            HistoryKind::StepScheduled => false,
            HistoryKind::RunScheduled
            | HistoryKind::RunStarted
            | HistoryKind::RunEnded
            | HistoryKind::JobBuried
            | HistoryKind::MetadataWritten
            | HistoryKind::JobRevived => continue,
        };
        let particulars = Particulars::of(entry);
        let attempt = Attempt::of(line, entry, &particulars);
        let Some(step) = &entry.step else {
            body.push(attempt);
            continue;
        };
        let is_parked = steps.get(step).is_some_and(|step| is_parked(step.op));
        let place = *places.entry(step.clone()).or_insert_with(|| {
            // Discoveries that failed and whose next attempt ran this step are attempts at it.
            let is_theirs = is_attempt && !is_parked && entry.attempt > 0 && body.len() == entry.attempt as usize;
            let since = if is_attempt && !is_parked {
                attempt.started_at
            } else {
                entry.at
            };
            let mut group = Group::new(Some(step.clone()), since);
            let before = std::mem::take(&mut body);
            match before.first() {
                Some(first) if is_theirs => {
                    group.since = first.started_at.min(since);
                    group.attempts = before;
                }
                Some(_) => groups.push(Group::body(before)),
                None => {}
            }
            groups.push(group);
            groups.len() - 1
        });
        let group = &mut groups[place];
        group.name = group.name.take().or_else(|| particulars.name.clone());
        let run_type = particulars.run_type.clone().filter(|run_type| run_type != "step.run");
        group.run_type = group.run_type.take().or(run_type);
        if !is_attempt {
            group.scheduled.get_or_insert(particulars);
            continue;
        }
        if !is_parked {
            // A last failure may be told twice, as a failed attempt and as the step's failure.
            let is_told = |told: &Attempt| told.number == attempt.number && told.failed == attempt.failed;
            if !group.attempts.last().is_some_and(is_told) {
                group.attempts.push(attempt);
            }
        }
        if entry.kind != HistoryKind::AttemptFailed {
            group.outcome = Some(particulars);
        }
    }
    Groups { groups, body }
}

/// The events by which a run has invoked other functions.
pub(in crate::http::graphql) fn invokes(view: &RunView) -> Vec<EventId> {
    let scheduled = view
        .history
        .iter()
        .filter(|entry| entry.kind == HistoryKind::StepScheduled);
    let has_invoke = view.steps.iter().any(|step| step.op == StepOp::Invoke);
    let causes = scheduled.filter_map(|entry| {
        let particulars = Particulars::of(entry);
        particulars.function.as_ref()?;
        particulars.event_id()
    });
    if has_invoke { causes.collect() } else { Vec::new() }
}

/// The error of an attempt that failed, by its place in the history.
pub(super) fn error_at(view: &RunView, place: usize) -> Option<Value> {
    let entry = view
        .history
        .get(place)
        .filter(|entry| entry.kind == HistoryKind::AttemptFailed);
    Particulars::of(entry?).error
}
