//! `/fn/step-limit` and `/fn/state-size-limit`: how large the runs of a function may grow, for tests that want to see what
//! happens then. On servers of developers only, and until they stop.

use actix_web::HttpResponse;
use actix_web::web::{self, Query, ServiceConfig};
use callboard_actors::domain::{Cap, FunctionId};
use serde::Deserialize;

use crate::error::{Code, Problem};
use crate::http::answer::{SdkError, parameter};
use crate::http::state::{AppState, State};

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(
        web::resource("/step-limit")
            .route(web::post().to(|query, state| put(query, state, Cap::Steps)))
            .route(web::delete().to(|query, state| end(query, state, Cap::Steps))),
    )
    .service(
        web::resource("/state-size-limit")
            .route(web::post().to(|query, state| put(query, state, Cap::StateBytes)))
            .route(web::delete().to(|query, state| end(query, state, Cap::StateBytes))),
    );
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Limit {
    #[serde(default)]
    function_id: String,
    #[serde(default)]
    limit: String,
}

impl Limit {
    fn function(&self, state: &AppState) -> Result<FunctionId, Problem> {
        let id = parameter(&self.function_id, || {
            format!("Invalid function ID: {}", self.function_id)
        })?;
        let is_known = state.api()?.catalog().function(id).is_some();
        let unknown = || Problem::new(Code::UnknownFunction, format!("Function not found: {id}"));
        is_known.then_some(id).ok_or_else(unknown)
    }
}

async fn put(query: Query<Limit>, state: State, cap: Cap) -> Result<HttpResponse, SdkError> {
    let number: usize = parameter(&query.limit, || format!("Invalid limit: {}", query.limit))?;
    let function = query.function(&state)?;
    state.api()?.cap(function, cap, Some(number));
    Ok(HttpResponse::Ok().finish())
}

async fn end(query: Query<Limit>, state: State, cap: Cap) -> Result<HttpResponse, SdkError> {
    let function = query.function(&state)?;
    if state.api()?.cap(function, cap, None) {
        Ok(HttpResponse::Ok().finish())
    } else {
        Err(Problem::new(
            Code::UnknownRoute,
            format!("There is no such limit for function {function}"),
        )
        .into())
    }
}
