//! `/api/v1/functions`.

use actix_web::web::{Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::FunctionMode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{modes, reading, view};
use crate::error::{Code, Problem};
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::body;
use crate::http::state::State;
use crate::sdk::parse_own;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// An app's name.
    app: Option<String>,
    /// With the functions that a later registration has left out.
    archived: Option<bool>,
}

/// Functions.
#[derive(Serialize, ToSchema)]
pub(super) struct Functions {
    functions: Vec<view::Function>,
}

/// List functions.
#[utoipa::path(
    get, path = "/api/v1/functions", tag = "functions", params(ListQuery),
    responses((status = 200, body = Functions), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn list(query: Query<ListQuery>, state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let catalog = api.catalog();
    let app = reading::given(query.app.as_ref());
    if let Some(app) = app.filter(|app| !catalog.apps().iter().any(|view| *view.app.name == **app)) {
        return Err(Problem::new(Code::UnknownApp, format!("there is no app `{app}`")).into());
    }
    let archived = query.archived.unwrap_or(false);
    let functions = catalog
        .apps()
        .iter()
        .filter(|view| app.is_none_or(|app| *view.app.name == *app))
        .flat_map(|view| &view.functions)
        .filter(|function| archived || !function.archived);
    let functions: Vec<_> = functions.collect();
    let halted = functions
        .iter()
        .filter(|function| function.mode != FunctionMode::Active);
    let halted: Vec<_> = halted.map(|function| function.id).collect();
    let open = modes::open_runs(api, &halted).await?;
    let functions = functions
        .into_iter()
        .map(|function| view::Function::of(function).with_open_runs(open.get(&function.id).copied()));
    Ok(HttpResponse::Ok().json(Functions {
        functions: functions.collect(),
    }))
}

/// Functions to register.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a body that is read elsewhere")]
pub(super) struct NewFunctions {
    /// The app they belong to; its name then begins their slugs.
    #[schema(example = "shop")]
    app: Option<String>,
    /// Where the app serves them; `sdk.default_app_url` of the settings if left out.
    url: Option<String>,
    /// At least one. The other functions of the app stay as they are.
    functions: Vec<NewFunction>,
}

/// One function to register. Beyond these: `retries`, `concurrency`,
/// `batchEvents`, `rateLimit`, `throttle`, `debounce`, `priority`, `cancel`, `idempotency`, `timeouts`, `singleton`, `url`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is passed on as it is")]
pub(super) struct NewFunction {
    /// Unique within the app.
    #[schema(example = "hello-world")]
    id: String,
    /// For people.
    name: Option<String>,
    /// What starts it: `{"event","expression"?}` or `{"cron"}`. Without any it is invoked only.
    #[schema(value_type = Option<Vec<Object>>, example = json!([{"event": "user.signup"}]))]
    triggers: Option<Vec<Value>>,
}

/// What was registered.
#[derive(Serialize, ToSchema)]
pub(super) struct Registered {
    /// Whether anything changed.
    modified: bool,
    /// As they are now.
    functions: Vec<view::Function>,
}

/// Register functions by hand. SDKs do it themselves.
#[utoipa::path(
    post, path = "/api/v1/functions", tag = "functions", request_body = NewFunctions,
    responses(
        (status = 201, body = Registered),
        (status = 400, body = ErrorBody, description = "Nothing was registered; `details` lists every problem"),
    )
)]
pub(super) async fn register(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let body = body::read(&req, payload, &state).await?;
    let default_url = &state.options.default_app_url;
    let registration = parse_own(&body, default_url, api.clock().now()).map_err(Problem::from)?;
    let ids: Vec<_> = registration.functions.iter().map(|function| function.id).collect();
    let outcome = api.register(registration).await?;
    let catalog = api.catalog();
    let functions = ids.iter().filter_map(|id| catalog.function(*id));
    Ok(HttpResponse::Created().json(Registered {
        modified: outcome.modified,
        functions: functions.map(|function| view::Function::of(function)).collect(),
    }))
}
