//! `/v1/checkpoint`: what apps report while they are at work. `/v1/http/runs` is an older name of the same.
//!
//! A 200 says that all of a report is durable, or was before. 409 says that the call it comes from does not count any more;
//! the SDK then ends that call. Anything else the SDK tries again, and in the end answers the call with what it would have
//! reported.

mod endpoints;

use actix_web::web::{self, Path, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::{FunctionId, Opcode, OpcodeError, Report, ReportRefused, RunId, Ticket, limits};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::error::{Code, Problem};
use crate::http::answer::{SdkError, parameter};
use crate::http::body;
use crate::http::state::State;

pub(super) fn routes(cfg: &mut ServiceConfig) {
    for prefix in ["/checkpoint", "/http/runs"] {
        endpoints::routes(cfg, prefix);
        cfg.service(web::resource(format!("{prefix}/{{run}}/async")).route(web::post().to(report)));
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    /// As the call named it; missing or foreign, the run is loaded to find out.
    #[serde(default)]
    fn_id: Option<String>,
    /// The call's ticket.
    #[serde(default)]
    qi_id: Option<String>,
    #[serde(borrow)]
    steps: &'a RawValue,
}

/// Steps that a call has done which is still under way.
async fn report(run: Path<String>, req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, SdkError> {
    let run: RunId = parameter(&run, || format!("Invalid run ID: {run}"))?;
    let api = state.api()?;
    let mut permit = state.options.intake.permit();
    // As much as an answer to the call may have.
    let limit = limits::REPLY_BYTES.max(state.options.request_bytes);
    let body = body::read_with(&req, payload, limit, &mut permit).await?;
    let of_run = |problem: Problem| problem.with(json!({ "run_id": run }));
    let invalid = |message: String| of_run(Problem::new(Code::InvalidReport, message));
    let wire: Wire<'_> = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    let ticket = wire.qi_id.unwrap_or_default().parse::<Ticket>();
    let ticket = ticket.map_err(|_| invalid("`qi_id` is not what the call brought".to_owned()))?;
    let ops = Opcode::parse_reply(wire.steps.get().as_bytes()).map_err(|error| match error {
        OpcodeError::TooLarge(_) => of_run(Problem::new(Code::StateTooLarge, error.to_string())),
        error => invalid(error.to_string()),
    })?;
    if let Some(op) = ops.iter().find(|op| !op.is_reportable()) {
        let message = format!("step `{}` can't be reported while the call is under way", op.label);
        return Err(invalid(message).into());
    }
    let function = wire.fn_id.and_then(|id| id.parse::<FunctionId>().ok());
    let call = ticket.call.clone();
    let taken = api.report(run, function, ticket, Report { call, ops }).await?;
    match taken {
        Ok(()) => Ok(HttpResponse::Ok().finish()),
        Err(why) => {
            let code = match why {
                ReportRefused::Stale => Code::StaleCall,
                ReportRefused::TooLarge => Code::StateTooLarge,
            };
            Err(of_run(Problem::new(code, why.to_string())).into())
        }
    }
}
