//! What our own API shows of events, runs, functions and apps.
//!
//! Built from the store's views and the queue's leases; nothing is asked here and nothing decided.

mod breaker;
mod deferral;
mod pending;

use std::time::Duration;

use callboard_actors::catalog::Catalog;
use callboard_actors::domain::{
    Event as StoredEvent, Function as StoredFunction, FunctionId, HistoryEntry, HistoryKind, JobKey, Json, RunStatus,
    StepId, StepOp, Timestamp,
};
use callboard_actors::ports::{AppView, Lease, RunSummary, RunView, StepView};
use callboard_actors::workers::Workers;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::http::sdk::dev::trigger;

pub(in crate::http) use breaker::Breaker;
use deferral::Deferral;
use pending::Hold;
pub(super) use pending::{Pending, Queued};

fn rfc3339(at: Timestamp) -> String {
    at.to_rfc3339()
}

fn millis_between(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<u64> {
    Some(millis(to?.since(from?)))
}

/// A length of time in milliseconds.
pub(super) fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// An event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Event {
    /// The server's id.
    id: String,
    /// The sender's id, or the server's where the sender gave none.
    external_id: String,
    name: String,
    #[schema(value_type = Object)]
    data: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    v: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Value>,
    /// When it happened, as the sender says.
    ts: String,
    received_at: String,
}

impl Event {
    pub(super) fn of(event: &StoredEvent) -> Self {
        let mut body: Map<String, Value> = event.body.to().unwrap_or_default();
        let mut take = |key: &str| body.remove(key).filter(|value| !value.is_null());
        Self {
            id: event.id.to_string(),
            external_id: event.external_id.clone(),
            name: event.name.clone(),
            data: take("data").unwrap_or_default(),
            user: take("user").filter(|user| user.as_object().is_some_and(|user| !user.is_empty())),
            v: take("v"),
            meta: take("meta"),
            ts: rfc3339(event.ts),
            received_at: rfc3339(event.received_at),
        }
    }
}

/// A function, in short.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FunctionRef {
    id: String,
    /// Absent if the function is not known any more.
    slug: Option<String>,
    name: Option<String>,
    app: Option<String>,
}

impl FunctionRef {
    pub(super) fn of(catalog: &Catalog, id: FunctionId) -> Self {
        let function = catalog.function(id);
        Self {
            id: id.to_string(),
            slug: function.map(|function| function.slug.to_string()),
            name: function.map(|function| function.name.clone()),
            app: function.map(|function| function.app.to_string()),
        }
    }
}

/// A run in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Run {
    id: String,
    function: FunctionRef,
    /// The function's version when the run was created.
    function_version: u32,
    #[schema(example = "running")]
    status: &'static str,
    event_name: String,
    /// The events that started it.
    event_ids: Vec<String>,
    /// The batch that they were, if the function gathers events in batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_id: Option<String>,
    created_at: String,
    /// When the function was first called.
    started_at: Option<String>,
    ended_at: Option<String>,
    /// From the first call to the end.
    duration_ms: Option<u64>,
    /// What it returned, or its error.
    #[schema(value_type = Option<Value>)]
    output: Option<Json>,
    /// The first run of those of which it is a repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    original_id: Option<String>,
}

impl Run {
    pub(super) fn of(catalog: &Catalog, run: &RunSummary) -> Self {
        Self {
            id: run.id.to_string(),
            function: FunctionRef::of(catalog, run.function),
            function_version: run.function_version,
            status: run.status.as_str(),
            event_name: run.event_name.clone(),
            event_ids: run.event_ids.iter().map(ToString::to_string).collect(),
            batch_id: run.batch.map(|batch| batch.to_string()),
            created_at: rfc3339(run.id.at()),
            started_at: run.started_at.map(rfc3339),
            ended_at: run.ended_at.map(rfc3339),
            duration_ms: millis_between(run.started_at, run.ended_at),
            output: run.output.clone(),
            original_id: run.original.map(|run| run.to_string()),
        }
    }
}

/// One attempt at a step, or at the function's body.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Attempt {
    /// From 0.
    attempt: u32,
    /// `completed` or `failed`.
    status: &'static str,
    started_at: Option<String>,
    ended_at: String,
    duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
    /// HTTP status of the app's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<String>,
}

/// The particulars of a line of history; see [`HistoryKind`].
#[derive(Default, Deserialize)]
#[serde(default)]
struct Particulars {
    started_at: Option<i64>,
    ended_at: Option<i64>,
    retry_at: Option<i64>,
    error: Option<Value>,
    name: Option<String>,
    status: Option<u16>,
}

impl Attempt {
    fn of(entry: &HistoryEntry) -> Option<Self> {
        let status = match entry.kind {
            HistoryKind::StepCompleted => "completed",
            HistoryKind::StepFailed | HistoryKind::AttemptFailed => "failed",
            HistoryKind::RunScheduled
            | HistoryKind::RunStarted
            | HistoryKind::RunEnded
            | HistoryKind::StepScheduled
            | HistoryKind::JobBuried
            | HistoryKind::MetadataWritten
            | HistoryKind::JobRevived => return None,
        };
        let detail: Particulars = entry
            .detail
            .as_ref()
            .and_then(|json| json.to().ok())
            .unwrap_or_default();
        let started_at = detail.started_at.map(Timestamp::from_millis);
        let ended_at = detail.ended_at.map_or(entry.at, Timestamp::from_millis);
        Some(Self {
            attempt: entry.attempt,
            status,
            started_at: started_at.map(rfc3339),
            ended_at: rfc3339(ended_at),
            duration_ms: millis_between(started_at, Some(ended_at)),
            error: detail.error,
            http_status: detail.status,
            retry_at: detail.retry_at.map(|at| rfc3339(Timestamp::from_millis(at))),
        })
    }

    /// The attempts at a step (`None`: at the function's body), in order. A last failure may be told twice, as a failed
    /// attempt and as the step's failure; the first of the two has the error.
    fn all(history: &[HistoryEntry], step: Option<&StepId>) -> Vec<Self> {
        let mut attempts: Vec<Self> = Vec::new();
        for attempt in history
            .iter()
            .filter(|entry| entry.step.as_ref() == step)
            .filter_map(Self::of)
        {
            let is_told = |told: &&mut Self| told.attempt == attempt.attempt && told.status == attempt.status;
            match attempts.last_mut().filter(is_told) {
                Some(told) => told.error = told.error.take().or(attempt.error),
                None => attempts.push(attempt),
            }
        }
        attempts
    }
}

/// A step.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Step {
    /// As the SDK computed it.
    id: String,
    name: String,
    /// What kind of step.
    #[schema(example = "run")]
    op: &'static str,
    /// `planned`, `running`, `retrying`, `parked`, `completed` or `failed`.
    status: &'static str,
    started_at: String,
    ended_at: Option<String>,
    duration_ms: Option<u64>,
    /// When a sleep ends or a wait gives up.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    attempts: Vec<Attempt>,
    /// What the app is given back: `{"data"}` or `{"error"}`, an event, or null.
    #[schema(value_type = Option<Value>)]
    output: Option<Json>,
}

impl Step {
    /// A step of which nothing is known but failed attempts: the app ran it without planning it, and the next attempt has
    /// not come yet.
    fn unfinished(id: &StepId, status: &'static str, history: &[HistoryEntry]) -> Self {
        let attempts = Attempt::all(history, Some(id));
        let name = history
            .iter()
            .filter(|entry| entry.step.as_ref() == Some(id))
            .find_map(|entry| entry.detail.as_ref()?.to::<Particulars>().ok()?.name);
        let began = attempts.first();
        Self {
            id: id.to_string(),
            name: name.unwrap_or_else(|| id.to_string()),
            op: StepOp::Run.as_str(),
            status,
            started_at: began
                .map(|first| first.started_at.clone().unwrap_or_else(|| first.ended_at.clone()))
                .unwrap_or_default(),
            ended_at: None,
            duration_ms: None,
            until: None,
            attempts,
            output: None,
        }
    }

    /// The steps of a run, in the order in which they were first heard of.
    fn all(view: &RunView, leases: &[Lease]) -> Vec<Self> {
        let known = view.steps.iter().map(|step| Self::of(step, &view.history, leases));
        let mut steps: Vec<Self> = known.collect();
        let is_over = view.summary.status.is_final();
        for id in view.history.iter().filter_map(|entry| entry.step.as_ref()) {
            if !steps.iter().any(|step| step.id == id.as_str()) {
                let status = if is_over { "failed" } else { "retrying" };
                steps.push(Self::unfinished(id, status, &view.history));
            }
        }
        steps
    }

    fn of(step: &StepView, history: &[HistoryEntry], leases: &[Lease]) -> Self {
        let is_called = |lease: &Lease| matches!(&lease.job.id.key, JobKey::Step(id) if *id == step.id);
        let status = match step.status {
            "planned" if leases.iter().any(is_called) => "running",
            status => status,
        };
        Self {
            id: step.id.to_string(),
            name: step.label.clone(),
            op: step.op.as_str(),
            status,
            started_at: rfc3339(step.started_at),
            ended_at: step.ended_at.map(rfc3339),
            duration_ms: millis_between(Some(step.started_at), step.ended_at),
            until: step.until.filter(|_| step.ended_at.is_none()).map(rfc3339),
            attempts: Attempt::all(history, Some(&step.id)),
            output: step.memo.clone(),
        }
    }
}

/// An event that would cancel a run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CancelledBy {
    event: String,
    condition: Option<String>,
    until: String,
}

/// A run with everything that is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunDetail {
    #[serde(flatten)]
    run: Run,
    /// In the order in which the app reported them.
    steps: Vec<Step>,
    /// Attempts at the function's body that failed.
    failed_attempts: Vec<Attempt>,
    /// What it is waiting for, and who sees to it. Never empty while the run is unfinished, but for the instant between
    /// two looks.
    waiting_for: Vec<Pending>,
    /// The events that would cancel it.
    cancelled_by: Vec<CancelledBy>,
    /// The functions that it has put off until its end, in that order.
    deferrals: Vec<Deferral>,
}

impl RunDetail {
    pub(super) fn of(catalog: &Catalog, workers: &Workers, view: &RunView, queued: &Queued, now: Timestamp) -> Self {
        let leases = &queued.leases[..];
        let mut run = Run::of(catalog, &view.summary);
        // That a call has gone out is recorded with its outcome only; until then the lease tells.
        let is_called = leases.iter().any(|lease| lease.job.id.key.is_call());
        if view.summary.status == RunStatus::Queued && is_called {
            run.status = RunStatus::Running.as_str();
            run.started_at = leases.iter().map(|lease| lease.since).min().map(rfc3339);
        }
        let is_over = view.summary.status.is_final();
        let function = catalog.function(view.summary.function);
        let hold = function.and_then(|function| Hold::of(function, workers));
        let cancelled_by = view.waits.iter().filter(|wait| wait.kind == "cancel");
        Self {
            run,
            steps: Step::all(view, leases),
            failed_attempts: Attempt::all(&view.history, None),
            waiting_for: if is_over {
                Vec::new()
            } else {
                Pending::all(view, queued, hold, now)
            },
            cancelled_by: cancelled_by
                .map(|wait| CancelledBy {
                    event: wait.name.clone(),
                    condition: wait.condition.clone(),
                    until: rfc3339(wait.expires_at),
                })
                .collect(),
            deferrals: view.deferrals.iter().map(Deferral::of).collect(),
        }
    }
}

/// A function.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Function {
    id: String,
    slug: String,
    name: String,
    app: String,
    version: u32,
    url: String,
    /// `{"event","expression"?}` or `{"cron"}`.
    #[schema(value_type = Vec<Object>)]
    triggers: Vec<Value>,
    /// After the first attempt.
    retries: u32,
    /// As it was registered.
    #[schema(value_type = Object)]
    config: Json,
    /// Whether a later registration has left it out.
    archived: bool,
    /// `active`; `paused`, when triggers start no runs and the app is not called; `draining`, when triggers start no runs
    /// and those there are go on.
    #[schema(example = "active")]
    mode: &'static str,
    /// Since when, unless it is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode_since: Option<String>,
    /// How many of its runs have not ended. In lists only of functions that are not active.
    #[serde(skip_serializing_if = "Option::is_none")]
    open_runs: Option<u64>,
}

impl Function {
    pub(super) fn of(function: &StoredFunction) -> Self {
        Self {
            id: function.id.to_string(),
            slug: function.slug.to_string(),
            name: function.name.clone(),
            app: function.app.to_string(),
            version: function.version,
            url: function.url.clone(),
            triggers: function.triggers.iter().map(trigger).collect(),
            retries: function.retries,
            config: function.config.clone(),
            archived: function.archived,
            mode: function.mode.as_str(),
            mode_since: function.mode.since().map(rfc3339),
            open_runs: None,
        }
    }

    /// With how many of its runs have not ended.
    pub(super) fn with_open_runs(self, open_runs: Option<u64>) -> Self {
        Self { open_runs, ..self }
    }
}

/// An app.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct App {
    id: String,
    name: String,
    url: String,
    sdk: String,
    framework: Option<String>,
    version: Option<String>,
    /// Why the last sync that was asked for failed.
    error: Option<String>,
    synced_at: String,
    /// Its functions, by slug.
    functions: Vec<String>,
    /// Whether it is called at present, as this instance sees it.
    breaker: Breaker,
}

impl App {
    pub(super) fn of(view: &AppView, breaker: Breaker) -> Self {
        let app = &view.app;
        let functions = view.functions.iter().filter(|function| !function.archived);
        Self {
            id: FunctionId::app_uuid(&app.name).to_string(),
            name: app.name.to_string(),
            url: app.url.clone(),
            sdk: app.sdk.clone(),
            framework: app.framework.clone(),
            version: app.version.clone(),
            error: app.error.clone(),
            synced_at: rfc3339(app.synced_at),
            functions: functions.map(|function| function.slug.to_string()).collect(),
            breaker,
        }
    }
}
