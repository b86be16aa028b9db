//! Spans of what the server does, for whoever wants to see them elsewhere: a run, its steps, and the calls that were made for it.
//!
//! They are told when they are over and durable, to a [`Sink`] if there is one; without one nothing is worked out. Their ids
//! follow from what they are of ([`SpanId`]), so the spans that an app makes within a call hang below the call's.
//!
//! Never: a wait. A sink that is full loses what it is told.

use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use crate::domain::{
    Call, Change, FunctionId, HistoryEntry, HistoryKind, Json, Reply, RunId, RunStatus, SpanId, StepId, Target,
    Timestamp, TraceId,
};
use crate::metrics::Counter;

/// Where spans go.
pub trait Sink: std::fmt::Debug + Send + Sync {
    /// Whether those of this run are wanted: all of them or none.
    fn wants(&self, run: RunId) -> bool;

    /// Takes spans, or loses them. Never waits.
    fn take(&self, spans: Vec<Span>);
}

/// A span that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The run's trace.
    pub trace: TraceId,
    /// Its id.
    pub id: SpanId,
    /// What it is part of.
    pub parent: Option<SpanId>,
    /// What it is of.
    pub of: Of,
    /// What people call it.
    pub name: String,
    /// The run.
    pub run: RunId,
    /// The run's function.
    pub function: FunctionId,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What came of it; nobody says of a run that was cancelled.
    pub outcome: Option<Result<(), String>>,
}

/// What a span is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// A run, from its creation to its end.
    Run(RunStatus),
    /// A step, from its last attempt's beginning or, of one that waits, from when it was reported.
    Step(StepId),
    /// A call of the app, for a step or for the function as a whole, in an attempt counted from 0.
    Call(Option<StepId>, u32),
}

/// The sink, if there is one, and what has become of the spans that it was told.
#[derive(Debug, Default)]
pub struct Outlet {
    sink: OnceLock<Arc<dyn Sink>>,
    /// Taken by whoever wants them.
    pub exported: Counter,
    /// Lost.
    pub dropped: Counter,
}

impl Outlet {
    /// From now on spans go there. The first one counts.
    pub fn connect(&self, sink: Arc<dyn Sink>) {
        let _ = self.sink.set(sink);
    }

    /// The sink, if it wants this run's.
    pub(crate) fn of(&self, run: RunId) -> Option<&Arc<dyn Sink>> {
        self.sink.get().filter(|sink| sink.wants(run))
    }
}

/// The particulars of a line of history; see [`HistoryKind`].
#[derive(Default, Deserialize)]
#[serde(default)]
struct Particulars {
    name: Option<String>,
    started_at: Option<i64>,
    ended_at: Option<i64>,
}

/// The spans that are over with these changes of a run.
pub(crate) fn of_changes(run: RunId, function: FunctionId, changes: &[Change]) -> Vec<Span> {
    let trace = TraceId::of_run(run);
    let mut spans = Vec::new();
    for change in changes {
        match change {
            Change::Noted(entry) => spans.extend(step(run, function, trace, entry)),
            Change::Ended { status, output, at } => spans.push(Span {
                trace,
                id: SpanId::of_run(run),
                parent: None,
                of: Of::Run(*status),
                name: "run".to_owned(),
                run,
                function,
                started_at: run.at(),
                ended_at: *at,
                outcome: match status {
                    RunStatus::Completed => Some(Ok(())),
                    RunStatus::Failed => Some(Err(message(output))),
                    RunStatus::Queued | RunStatus::Running | RunStatus::Cancelled => None,
                },
            }),
            _ => {}
        }
    }
    spans
}

fn step(run: RunId, function: FunctionId, trace: TraceId, entry: &HistoryEntry) -> Option<Span> {
    let outcome = match entry.kind {
        HistoryKind::StepCompleted => Ok(()),
        HistoryKind::StepFailed => Err("the step failed".to_owned()),
        _ => return None,
    };
    let step = entry.step.clone()?;
    let told: Particulars = entry
        .detail
        .as_ref()
        .and_then(|detail| detail.to().ok())
        .unwrap_or_default();
    let ended_at = told.ended_at.map_or(entry.at, Timestamp::from_millis);
    Some(Span {
        trace,
        id: SpanId::of_step(&step),
        parent: Some(SpanId::of_run(run)),
        name: told.name.unwrap_or_else(|| step.to_string()),
        of: Of::Step(step),
        run,
        function,
        started_at: told.started_at.map_or(ended_at, Timestamp::from_millis).min(ended_at),
        ended_at,
        outcome: Some(outcome),
    })
}

/// The message of a failed run's output.
fn message(output: &Json) -> String {
    let tree = output.to_tree();
    let found = ["/message", "/error/message"]
        .iter()
        .find_map(|place| tree.pointer(place)?.as_str());
    found.unwrap_or("the run failed").to_owned()
}

/// The span of a call, before its answer is there.
#[derive(Debug)]
pub(crate) struct Calling {
    sink: Arc<dyn Sink>,
    span: Span,
}

impl Calling {
    /// A call that is about to be made, if anybody wants its span.
    pub(crate) fn begin(outlet: &Outlet, call: &Call, now: Timestamp) -> Option<Self> {
        let sink = Arc::clone(outlet.of(call.run)?);
        let (trace, id) = call.span();
        let step = match &call.target {
            Target::Step(step) => Some(step.clone()),
            Target::Discovery => None,
        };
        let parent = step.as_ref().map_or_else(|| SpanId::of_run(call.run), SpanId::of_step);
        let span = Span {
            trace,
            id,
            parent: Some(parent),
            of: Of::Call(step, call.attempt),
            name: "call".to_owned(),
            run: call.run,
            function: call.function,
            started_at: now,
            ended_at: now,
            outcome: None,
        };
        Some(Self { sink, span })
    }

    /// It was answered.
    pub(crate) fn end(self, reply: &Reply, now: Timestamp) {
        let outcome = match reply {
            Reply::Returned(_) | Reply::Steps { .. } => Ok(()),
            Reply::Failed { failure, .. } | Reply::Unanswered(failure) => Err(failure.message().to_owned()),
        };
        self.sink.take(vec![Span {
            ended_at: now,
            outcome: Some(outcome),
            ..self.span
        }]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_750_000_000_000);

    fn noted(kind: HistoryKind, step: Option<&str>) -> Change {
        let detail = json!({"name": "charge", "started_at": AT.as_millis() + 5, "ended_at": AT.as_millis() + 9});
        Change::Noted(HistoryEntry {
            at: AT,
            kind,
            step: step.map(StepId::from),
            attempt: 0,
            detail: Json::from_value(&detail).ok(),
        })
    }

    #[test]
    fn a_run_and_its_steps_have_spans_within_one_another() {
        let (run, function) = (RunId::new(AT, 7), FunctionId::derive("shop", "charge"));
        let output = Json::from_value(&json!({"name": "E", "message": "no"})).expect("JSON");
        let changes = [
            noted(HistoryKind::RunStarted, None),
            noted(HistoryKind::StepCompleted, Some("a")),
            noted(HistoryKind::StepScheduled, Some("b")),
            noted(HistoryKind::StepFailed, Some("c")),
            Change::Ended {
                status: RunStatus::Failed,
                output,
                at: AT.after(std::time::Duration::from_secs(1)),
            },
        ];
        let spans = of_changes(run, function, &changes);
        let [a, c, root] = &spans[..] else { panic!("{spans:#?}") };
        assert_eq!((a.id, a.parent), (SpanId::of_step(&StepId::from("a")), Some(root.id)));
        assert_eq!((&*a.name, a.outcome.clone()), ("charge", Some(Ok(()))));
        assert_eq!(
            (a.started_at.as_millis(), a.ended_at.as_millis()),
            (AT.as_millis() + 5, AT.as_millis() + 9)
        );
        assert!(matches!(c.outcome, Some(Err(_))));
        assert_eq!((root.id, root.parent, root.started_at), (SpanId::of_run(run), None, AT));
        assert_eq!(root.outcome, Some(Err("no".to_owned())));
        assert!(spans.iter().all(|span| span.trace == TraceId::of_run(run)));
    }
}
