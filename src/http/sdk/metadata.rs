//! `POST /v1/runs/{id}/metadata`: what apps note about their runs and steps outside a step's result.

use actix_web::web::{self, Path, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::{MetadataError, MetadataTarget, MetadataUpdate, RunId};
use callboard_actors::orchestrator::MetadataOutcome;
use serde::Deserialize;

use crate::error::{Code, Problem};
use crate::http::answer::{SdkError, parameter};
use crate::http::body;
use crate::http::state::State;
use crate::sdk::step_id;

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/runs/{id}/metadata").route(web::post().to(write)));
}

#[derive(Deserialize)]
struct Wish {
    #[serde(default)]
    target: Option<Target>,
    #[serde(default)]
    metadata: Vec<MetadataUpdate>,
}

/// A run in here counts for nothing: the path says which.
#[derive(Default, Deserialize)]
struct Target {
    step_id: Option<String>,
    step_index: Option<u32>,
    /// -1 stands for the step as a whole.
    step_attempt: Option<i64>,
    span_id: Option<String>,
}

impl Target {
    fn read(self) -> Result<MetadataTarget, Problem> {
        let attempt = self.step_attempt.filter(|attempt| *attempt != -1);
        let span = self.span_id.filter(|span| !span.is_empty());
        let Some(step) = self.step_id.filter(|step| !step.is_empty()) else {
            if self.step_index.is_some() || attempt.is_some() || span.is_some() {
                let message = "`step_index`, `step_attempt` and `span_id` need a `step_id`";
                return Err(Problem::new(Code::InvalidParameter, message));
            }
            return Ok(MetadataTarget::default());
        };
        let attempt = attempt.map(u32::try_from).transpose();
        let invalid = |_| Problem::new(Code::InvalidParameter, "`step_attempt` counts from 0");
        Ok(MetadataTarget {
            step: Some(step_id(&step, self.step_index.unwrap_or(0))),
            attempt: attempt.map_err(invalid)?,
            span,
        })
    }
}

/// A problem with an update, in the codes that SDKs know.
pub(in crate::http) fn refused(error: &MetadataError) -> Problem {
    let code = match error {
        MetadataError::TooLarge => Code::TooLarge,
        _ => Code::InvalidData,
    };
    Problem::new(code, error.to_string())
}

/// The run's metadata has grown too large.
pub(in crate::http) fn full() -> Problem {
    Problem::new(Code::TooLarge, "a run's metadata is at most 1 MiB")
}

async fn write(id: Path<String>, req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, SdkError> {
    let run: RunId = parameter(&id, || format!("Invalid run ID: {id}"))?;
    let body = body::read(&req, payload, &state).await?;
    let Wish { target, metadata } = body::parse(&body)?;
    let target = target.unwrap_or_default().read()?;
    let updates = metadata
        .into_iter()
        .map(|update| Ok((target.clone(), update.accept()?)));
    let updates: Result<Vec<_>, MetadataError> = updates.collect();
    let updates = updates.map_err(|error| refused(&error))?;
    match state.api()?.write_metadata(run, updates).await? {
        // As with steps, what is about nothing is nobody's mistake.
        MetadataOutcome::Written | MetadataOutcome::UnknownRun => Ok(HttpResponse::Ok().finish()),
        MetadataOutcome::TooLarge => Err(full().into()),
    }
}
