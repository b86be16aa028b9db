//! What is done: a function invoked, an event sent, a run cancelled, done again or scored.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::{
    FunctionId, Json, MetadataError, MetadataOp, MetadataTarget, MetadataUpdate, RunId, RunStatus, SkipReason,
};
use callboard_actors::orchestrator::{Cancelled, Invoked, MetadataOutcome};
use callboard_actors::rerun::FromStep;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::answer::{Answer, Message, Refused};
use super::apps::{find, find_function};
use super::reading;
use super::runs::{run_id, unknown};
use crate::http::body;
use crate::http::sdk::{events, metadata};
use crate::http::state::{Api, State};
use crate::sdk::step_id;

/// Bytes of a key of an invoke.
const KEY_BYTES: usize = 512;
/// Scores in one request.
const SCORES: usize = 100;

fn of_run(run: RunId) -> Message {
    Message::new().with("runId", run.to_string())
}

#[derive(Deserialize)]
struct Invoke {
    data: Option<Map<String, Value>>,
    #[serde(alias = "idempotency_key", rename = "idempotencyKey")]
    idempotency_key: Option<String>,
}

/// Runs a function, and says which run that is.
pub(super) async fn invoke(
    path: Path<(String, String)>,
    req: HttpRequest,
    payload: Payload,
    state: State,
) -> Result<HttpResponse, Refused> {
    let api = state.api()?;
    let catalog = api.catalog();
    let function = find_function(find(&catalog, &path.0)?, &path.1)?;
    if function.archived {
        return Err(Refused::new(404, "not_found", "Function not found"));
    }
    let wish: Option<Invoke> = reading::body(&req, payload, &state).await?;
    let wish = wish.ok_or_else(|| Refused::missing("data"))?;
    let data = wish.data.ok_or_else(|| Refused::missing("data"))?;
    let key = wish.idempotency_key.filter(|key| !key.is_empty());
    if key.as_ref().is_some_and(|key| key.len() > KEY_BYTES) {
        return Err(Refused::field(
            "idempotencyKey",
            format_args!("is at most {KEY_BYTES} bytes"),
        ));
    }
    let payload = Map::from_iter([("data".to_owned(), Value::Object(data))]);
    let invoked = api.invoke_once(&function.id.to_string(), payload, key).await?;
    let answer = Answer::new(of_run(invoked.run), api.clock().now());
    if !invoked.is_new {
        return Ok(answer.status(StatusCode::CONFLICT).into());
    }
    let outcome = outcome(api, function.id, invoked).await?;
    Ok(outcome.map_or_else(
        || answer.into(),
        |refused| actix_web::ResponseError::error_response(&refused),
    ))
}

/// Why there is no run, if there is none.
async fn outcome(api: &Arc<dyn Api>, function: FunctionId, invoked: Invoked) -> Result<Option<Refused>, Refused> {
    let Some(view) = api.store().event_view(invoked.event).await? else {
        return Ok(None);
    };
    if view.runs.iter().any(|run| run.id == invoked.run) {
        return Ok(None);
    }
    if !view.gatherings.is_empty() {
        let message = "the function debounces or batches: the run starts later, with others";
        return Ok(Some(Refused::new(422, "function_debounced", message)));
    }
    let skip = view.skips.iter().find(|skip| skip.function == Some(function));
    Ok(skip.map(|skip| {
        let code = match skip.reason {
            SkipReason::RateLimited => "rate_limited",
            SkipReason::Debounced => "function_debounced",
            _ => "function_skipped",
        };
        Refused::new(422, code, format!("{}: {}", skip.reason.as_str(), skip.detail))
    }))
}

/// Sends one event.
pub(super) async fn send(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, Refused> {
    let api = state.api()?;
    let mut permit = state.options.intake.permit();
    let body = body::read_with(&req, payload, state.options.request_bytes, &mut permit).await?;
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Refused::new(
            400,
            "invalid_request",
            "the body is an event, a JSON object",
        ));
    }
    let read = events::read_events(&body, &req, api.clock().now(), Arc::clone(api.random())).await?;
    if let Some((_, problem)) = read.failure {
        return Err(problem.into());
    }
    if !permit.add_events(read.events.len()) {
        return Err(Refused::new(
            503,
            "internal_error",
            "too many events are on their way in",
        ));
    }
    let ids: Vec<String> = read.events.iter().map(|event| event.id.to_string()).collect();
    api.accept(read.events).await?;
    let sent = Message::new().with("eventId", ids.into_iter().next());
    Ok(Answer::new(sent, api.clock().now()).into())
}

/// Cancels a run that has not ended.
pub(super) async fn cancel(id: Path<String>, state: State) -> Result<HttpResponse, Refused> {
    let api = state.api()?;
    let run = run_id(&id)?;
    match api.cancel(run).await? {
        Cancelled::Now => Ok(Answer::new(of_run(run), api.clock().now()).into()),
        Cancelled::Unknown => Err(unknown()),
        Cancelled::AlreadyEnded => {
            let view = api.store().run_view(run).await?;
            let is_cancelled = view.is_some_and(|view| view.summary.status == RunStatus::Cancelled);
            let (code, message) = if is_cancelled {
                ("run_already_cancelled", "Run is already cancelled")
            } else {
                ("run_already_ended", "Run has already ended")
            };
            Err(Refused::new(409, code, message))
        }
    }
}

#[derive(Default, Deserialize)]
struct Rerun {
    #[serde(alias = "from_step", rename = "fromStep")]
    from_step: Option<FirstStep>,
}

#[derive(Deserialize)]
struct FirstStep {
    #[serde(alias = "step_id", rename = "stepId", default)]
    step: String,
    input: Option<Value>,
}

impl FirstStep {
    fn read(self) -> Result<FromStep, Refused> {
        if self.step.is_empty() {
            return Err(Refused::missing("fromStep.stepId"));
        }
        let input = self.input.map(|input| Json::from_value(&input)).transpose();
        Ok(FromStep {
            step: self.step,
            input: input.map_err(|error| Refused::field("fromStep.input", error))?,
        })
    }
}

/// Does a run again.
pub(super) async fn rerun(
    id: Path<String>,
    req: HttpRequest,
    payload: Payload,
    state: State,
) -> Result<HttpResponse, Refused> {
    let api = state.api()?;
    let run = run_id(&id)?;
    let wish: Rerun = reading::body(&req, payload, &state).await?.unwrap_or_default();
    let from = wish.from_step.map(FirstStep::read).transpose()?;
    let again = api.rerun(run, from).await.map_err(|error| {
        use callboard_actors::engine::rerun::FromStepError::{Ambiguous, MissingOutput, Unknown};
        use callboard_actors::rerun::RerunError;
        match &error {
            RerunError::UnknownRun(_) => unknown(),
            RerunError::FromStep(Unknown(_) | Ambiguous(..) | MissingOutput(_)) => {
                Refused::new(400, "invalid_request", error.to_string())
            }
            _ => Refused::from(error),
        }
    })?;
    Ok(Answer::new(of_run(again.run), api.clock().now()).into())
}

#[derive(Deserialize)]
struct Score {
    #[serde(default)]
    name: String,
    #[serde(default)]
    value: Value,
    #[serde(alias = "step_id", rename = "stepId")]
    step: Option<String>,
    experiment: Option<Experiment>,
}

#[derive(Deserialize)]
struct Experiment {
    #[serde(default)]
    id: String,
    #[serde(default)]
    variant: String,
}

impl Score {
    /// What to note: the experiment first, as SDKs do.
    fn updates(&self) -> Result<Vec<(MetadataTarget, MetadataUpdate)>, Refused> {
        let step = self.step.as_deref().filter(|step| !step.is_empty());
        let target = step.map_or_else(MetadataTarget::default, |step| MetadataTarget::step(step_id(step, 0)));
        let mut updates = Vec::new();
        if let Some(Experiment { id, variant }) = &self.experiment {
            for (key, text) in [("experiment.id", id), ("experiment.variant", variant)] {
                if text.trim().is_empty() {
                    return Err(Refused::missing(key));
                }
            }
            updates.push(MetadataUpdate::experiment(MetadataOp::Merge, id, variant, None));
        }
        updates.push(MetadataUpdate::score(&self.name, self.value.clone()));
        let accepted = updates.into_iter().map(|update| Ok((target.clone(), update.accept()?)));
        let accepted: Result<_, MetadataError> = accepted.collect();
        accepted.map_err(|error| metadata::refused(&error).into())
    }

    fn print(&self) -> Message {
        let mut message = Message::new()
            .with("name", self.name.as_str())
            .raw("value", Some(self.value.clone()))
            .with("stepId", self.step.clone());
        if let Some(Experiment { id, variant }) = &self.experiment {
            let experiment = Message::new().with("id", id.as_str()).with("variant", variant.as_str());
            message = message.message("experiment", experiment);
        }
        message
    }
}

/// Scores a run and its steps, also when it is over.
pub(super) async fn score(
    id: Path<String>,
    req: HttpRequest,
    payload: Payload,
    state: State,
) -> Result<HttpResponse, Refused> {
    let api = state.api()?;
    let run = run_id(&id)?;
    let scores: Vec<Score> = reading::body(&req, payload, &state).await?.unwrap_or_default();
    if !(1..=SCORES).contains(&scores.len()) {
        let message = format!("the body is an array of 1 to {SCORES} scores");
        return Err(Refused::new(400, "invalid_request", message));
    }
    let updates: Result<Vec<_>, Refused> = scores.iter().map(Score::updates).collect();
    let updates = updates?.into_iter().flatten().collect();
    match api.write_metadata(run, updates).await? {
        MetadataOutcome::Written => {}
        MetadataOutcome::UnknownRun => return Err(unknown()),
        MetadataOutcome::TooLarge => return Err(metadata::full().into()),
    }
    let printed: Vec<Value> = scores.iter().map(|score| score.print().into()).collect();
    Ok(Answer::new(printed, api.clock().now()).into())
}
