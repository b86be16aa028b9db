//! Doing again what a run has done: as a whole, or from one of its steps on.
//!
//! The new run has the events of the first one of the chain and is its own in everything else. It gets past rate limits and
//! idempotency, which are about events that come in; a singleton is one all the same. From a step on, what had completed
//! before that step keeps its results and is not run again; the step and what follows is.

use indexmap::IndexMap;

use super::admission::Claims;
use super::start::{make_batch, new_run, standstill};
use super::subject::Subject;
use crate::domain::{
    EditedStep, Event, Function, GatheringId, NewRun, RunId, Skip, SkipReason, Step, StepId, StepState, Timestamp,
    limits,
};
use crate::ports::{RunView, StepView};

/// Why a run can't be done again from a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FromStepError {
    /// It has no such step.
    #[error("the run has no step `{0}`")]
    Unknown(String),
    /// It has several steps of this name.
    #[error("the run has several steps named `{0}`: give the id of one, {1}")]
    Ambiguous(String, String),
    /// The result of an earlier step is not kept.
    #[error("the result of the earlier step `{0}` is missing")]
    MissingOutput(String),
    /// What it is to be given is no array.
    #[error("the input of a step is a JSON array of its arguments")]
    NoArray,
    /// What it is to be given is too large.
    #[error("the input is larger than {} MiB", limits::STEP_OUTPUT_BYTES / 1024 / 1024)]
    TooLarge,
}

/// From where a run is done again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct From {
    /// What has been done before and keeps its results, in the order of reporting.
    kept: Vec<Step>,
    edited: Option<EditedStep>,
}

impl From {
    /// From a step of this run: its id, or its name if no other step has it. `input` are arguments in place of the
    /// function's.
    ///
    /// # Errors
    /// When that can't be done.
    pub fn step(run: &RunView, reference: &str, input: Option<crate::domain::Json>) -> Result<Self, FromStepError> {
        if let Some(input) = &input {
            if !input.as_str().starts_with('[') {
                return Err(FromStepError::NoArray);
            }
            if input.len() > limits::STEP_OUTPUT_BYTES {
                return Err(FromStepError::TooLarge);
            }
        }
        let step = resolve(run, reference)?;
        let known = run.steps.iter().find(|known| known.id == step);
        // A step that has not completed comes after all those that have.
        let end = known.and_then(|known| known.position).unwrap_or(u32::MAX);
        let mut before: Vec<&StepView> = run.steps.iter().filter(|step| is_before(step, end)).collect();
        let mut kept = Vec::with_capacity(before.len());
        let order = before.clone();
        before.sort_by_key(|step| step.position);
        for view in order {
            let position = before.iter().position(|other| other.id == view.id).unwrap_or_default();
            kept.push(keep(view, position)?);
        }
        let edited = input.map(|input| EditedStep { step, input });
        Ok(Self { kept, edited })
    }

    /// Whether a step is given other arguments.
    #[must_use]
    pub fn is_edited(&self) -> bool {
        self.edited.is_some()
    }
}

fn is_before(step: &StepView, end: u32) -> bool {
    step.position.is_some_and(|position| position < end)
}

/// A completed step as the new run has it.
fn keep(view: &StepView, position: usize) -> Result<Step, FromStepError> {
    let missing = || FromStepError::MissingOutput(view.label.clone());
    let memo = view.memo.clone().ok_or_else(missing)?;
    Ok(Step {
        id: view.id.clone(),
        op: view.op,
        label: view.label.clone(),
        race: false,
        started_at: view.started_at,
        state: StepState::Done {
            memo,
            failed: view.status == "failed",
            position: u32::try_from(position).unwrap_or(u32::MAX),
            at: view.ended_at.ok_or_else(missing)?,
        },
    })
}

/// The step that a text means. Steps of which only failed attempts are known count too.
fn resolve(run: &RunView, reference: &str) -> Result<StepId, FromStepError> {
    let mut known: IndexMap<StepId, String> = IndexMap::new();
    for step in &run.steps {
        known.insert(step.id.clone(), step.label.clone());
    }
    for entry in &run.history {
        if let Some(id) = entry.step.clone() {
            known.entry(id).or_insert_with(|| name_of(entry));
        }
    }
    let id = StepId::from(reference);
    if known.contains_key(&id) {
        return Ok(id);
    }
    let mut named = known.iter().filter(|(_, label)| *label == reference).map(|(id, _)| id);
    let ids: Vec<&StepId> = named.by_ref().collect();
    match &ids[..] {
        [] => Err(FromStepError::Unknown(reference.to_owned())),
        [only] => Ok((*only).clone()),
        several => {
            let ids: Vec<&str> = several.iter().map(|id| id.as_str()).collect();
            Err(FromStepError::Ambiguous(reference.to_owned(), ids.join(", ")))
        }
    }
}

fn name_of(entry: &crate::domain::HistoryEntry) -> String {
    let detail = entry.detail.as_ref().map(crate::domain::Json::to_tree);
    let name = detail.as_ref().and_then(|detail| detail.get("name")?.as_str());
    name.unwrap_or_default().to_owned()
}

/// The run `id` that does again what `original`, the first of its chain, has done with these events. They are those of the gathering
/// `batch`, if they are a batch.
///
/// # Errors
/// The reason why it may not: a function that is drained starts no runs (one that is paused has them wait).
///
/// # Panics
/// Never: a run has an event.
pub fn rerun(
    function: &Function,
    events: &[Event],
    original: RunId,
    batch: Option<GatheringId>,
    from: From,
    id: RunId,
    now: Timestamp,
) -> Result<NewRun, Skip> {
    let first = events.first().expect("a run has an event");
    let subject = Subject::new(first);
    if let Some((reason @ SkipReason::Draining, detail)) = standstill(function.mode) {
        return Err(subject.skip(function, reason, detail));
    }
    let claims = Claims::past_the_rate_limit(function, &subject);
    let mut run = new_run(function, id, &subject, events, claims, now, now);
    if let Some(batch) = batch {
        make_batch(&mut run, batch);
    }
    let state = &mut run.state;
    state.original = Some(original);
    state.edited = from.edited;
    let mut done: Vec<(u32, StepId)> = Vec::with_capacity(from.kept.len());
    for step in from.kept {
        if let StepState::Done { position, .. } = step.state {
            done.push((position, step.id.clone()));
        }
        state.steps.insert(step.id.clone(), step);
    }
    done.sort();
    state.stack = done.into_iter().map(|(_, step)| step).collect();
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EventId, FunctionId, Json, RunStatus, StepOp};
    use crate::ports::RunSummary;

    const AT: Timestamp = Timestamp::from_millis(1_750_000_000_000);

    fn step(id: &str, position: Option<u32>) -> StepView {
        StepView {
            id: id.into(),
            op: StepOp::Run,
            label: format!("the {id}"),
            status: if position.is_some() { "completed" } else { "planned" },
            started_at: AT,
            ended_at: position.map(|_| AT),
            until: None,
            memo: position.map(|_| Json::null()),
            position,
        }
    }

    /// Steps in the order of their reports, with their places in that of their completion.
    fn run(steps: &[(&str, Option<u32>)]) -> RunView {
        RunView {
            summary: RunSummary {
                id: RunId::new(AT, 1),
                function: FunctionId::derive("shop", "one"),
                function_version: 1,
                status: RunStatus::Failed,
                event_ids: vec![EventId::new(AT, 1)],
                event_name: "order/paid".to_owned(),
                started_at: None,
                ended_at: None,
                output: None,
                original: None,
                batch: None,
            },
            steps: steps.iter().map(|(id, position)| step(id, *position)).collect(),
            history: Vec::new(),
            jobs: Vec::new(),
            waits: Vec::new(),
            held: Vec::new(),
            deferrals: Vec::new(),
        }
    }

    /// What is kept, with its new places.
    fn kept(run: &RunView, reference: &str) -> Vec<(String, u32)> {
        let from = From::step(run, reference, None).expect("it can be begun with");
        let place = |step: Step| match step.state {
            StepState::Done { position, .. } => (step.id.to_string(), position),
            other => panic!("{other:?}"),
        };
        from.kept.into_iter().map(place).collect()
    }

    #[test]
    fn what_completed_before_is_kept_whatever_was_reported_first() {
        let run = run(&[("a", Some(2)), ("b", Some(0)), ("c", None), ("d", Some(1))]);
        let all = [("a".to_owned(), 2), ("b".to_owned(), 0), ("d".to_owned(), 1)];
        assert_eq!(kept(&run, "c"), all, "all but what has not completed");
        assert_eq!(kept(&run, "the a"), [("b".to_owned(), 0), ("d".to_owned(), 1)]);
        assert_eq!(kept(&run, "b"), []);
    }

    #[test]
    fn a_result_that_is_missing_is_said_so() {
        let mut run = run(&[("a", Some(0)), ("b", Some(1)), ("c", Some(2))]);
        run.steps[1].memo = None;
        let missing = FromStepError::MissingOutput("the b".to_owned());
        assert_eq!(From::step(&run, "c", None), Err(missing));
        assert_eq!(kept(&run, "b"), [("a".to_owned(), 0)], "it is not needed");
    }

    #[test]
    fn input_is_an_array_of_a_bounded_size() {
        let run = run(&[("a", Some(0))]);
        let of = |text: &str| From::step(&run, "a", Some(Json::parse(text).expect("JSON")));
        assert!(of("[1]").is_ok_and(|from| from.is_edited()));
        assert_eq!(of("{}"), Err(FromStepError::NoArray));
        let large = format!("[\"{}\"]", "x".repeat(limits::STEP_OUTPUT_BYTES));
        assert_eq!(of(&large), Err(FromStepError::TooLarge));
    }
}
