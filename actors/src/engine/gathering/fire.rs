//! What a gathering starts.

use serde_json::Value;

use crate::domain::{
    Event, Failure, Fire, Function, FunctionId, Gathered, Gathering, Json, NewRun, Skip, SkipReason, Timestamp,
};
use crate::engine::finish::refused_invoke;
use crate::engine::start;

/// Ends a gathering, as its function is registered now: one that has been changed meanwhile starts all the same; one that
/// is archived, unknown, paused or being drained does not, which is recorded of each event.
#[must_use]
pub fn fire(gathered: &Gathered, function: Option<&Function>, now: Timestamp) -> Fire {
    let Gathered { gathering, events } = gathered;
    let (superseded, events) = match events.len() {
        len if gathering.is_batch || len < 2 => (&[][..], &events[..]),
        len => events.split_at(len - 1),
    };
    let failure = Failure::new("Error", "a later event has taken its place (debounce)");
    let mut answers: Vec<Event> = superseded
        .iter()
        .filter_map(|event| refused_invoke(event, &failure, now))
        .collect();
    let mut fire = Fire {
        gathering: gathering.id,
        bucket: gathering.bucket,
        is_batch: gathering.is_batch,
        due_by: gathering.standing.due_by,
        version: gathering.version,
        runs: Vec::new(),
        skips: Vec::new(),
        answers: Vec::new(),
        catalog: None,
    };
    match run(gathering, function, events, now) {
        Ok(run) => fire.runs.extend(run),
        Err((reason, detail)) => {
            let failure = Failure::new("Error", &*detail);
            let is_awaited =
                |event: &&Event| function.is_none_or(|function| correlation_id(&event.body, function).is_some());
            let awaited = events.iter().filter(is_awaited);
            answers.extend(awaited.filter_map(|event| refused_invoke(event, &failure, now)));
            fire.skips = events
                .iter()
                .map(|event| skip(event, gathering.function, reason, &detail))
                .collect();
        }
    }
    fire.answers = answers;
    fire
}

/// The run; none if no event is left.
fn run(
    gathering: &Gathering,
    function: Option<&Function>,
    events: &[Event],
    now: Timestamp,
) -> Result<Option<NewRun>, (SkipReason, String)> {
    let Some(function) = function else {
        let detail = format!("there is no function {}", gathering.function);
        return Err((SkipReason::UnknownFunction, detail));
    };
    if function.archived {
        return Err((SkipReason::Archived, format!("function {} is archived", function.slug)));
    }
    if let Some(standstill) = start::standstill(function.mode) {
        return Err(standstill);
    }
    Ok(start::gathered(function, gathering, events, now))
}

fn skip(event: &Event, function: FunctionId, reason: SkipReason, detail: &str) -> Skip {
    Skip {
        event: event.id,
        function: Some(function),
        reason,
        detail: detail.to_owned(),
    }
}

/// Who waits for the end of what this event, given by its body, starts of a function: the step of a run that invokes just
/// that one. Other functions may listen to invokes, and nobody waits for them.
pub(in crate::engine) fn correlation_id(body: &Json, function: &Function) -> Option<String> {
    if !body.as_str().contains("\"correlation_id\"") {
        return None;
    }
    let body = body.to_tree();
    if body.get("name").and_then(Value::as_str) != Some("inngest/function.invoked") {
        return None;
    }
    let own = body.pointer("/data/_inngest")?;
    let target = own.get("fn_id")?.as_str()?;
    if *target != *function.slug && target.parse() != Ok(function.id) {
        return None;
    }
    own.get("correlation_id")?.as_str().map(str::to_owned)
}
