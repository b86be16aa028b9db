//! `/api/v1/functions`.
//!
//! A registration by hand is turned into one as an SDK would send it, so that there is one parser and one set of rules.

use actix_web::web::{Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;
use utoipa::{IntoParams, ToSchema};

use super::{reading, view};
use crate::error::{Code, Problem};
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::body;
use crate::http::sdk::registration::registration_problem;
use crate::http::state::State;

/// The app that functions belong to which are registered without one.
const DEFAULT_APP: &str = "api";

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
    responses((status = 200, body = Functions), (status = 404, body = ErrorBody))
)]
pub(super) async fn list(query: Query<ListQuery>, state: State) -> Result<HttpResponse, OwnError> {
    let catalog = state.api()?.catalog();
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
    let functions = functions.map(view::Function::of).collect();
    Ok(HttpResponse::Ok().json(Functions { functions }))
}

/// Functions to register.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewFunctions {
    /// The app they belong to.
    #[schema(default = "api")]
    app: Option<String>,
    /// Where the app serves them; `sdk.default_app_url` of the settings if left out.
    url: Option<String>,
    /// At least one. The other functions of the app stay as they are.
    #[schema(value_type = Vec<NewFunction>)]
    functions: Vec<Map<String, Value>>,
}

/// One function to register. What SDKs can say of a function can be said here: `retries`, `concurrency`, `cancel` …
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is passed on as it is")]
pub(super) struct NewFunction {
    /// Unique within the app.
    #[schema(example = "hello-world")]
    id: String,
    /// For people.
    name: Option<String>,
    /// What starts it: `{"event","expression"?}` or `{"cron"}`.
    #[schema(value_type = Vec<Object>, example = json!([{"event": "user.signup"}]))]
    triggers: Vec<Value>,
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
    let wanted: NewFunctions = body::parse(&body)?;
    if wanted.functions.is_empty() {
        return Err(Problem::new(Code::InvalidRegistration, "`functions` is empty").into());
    }
    let as_sdk = as_an_sdk_would(wanted, &state.options.default_app_url)?;
    let text = serde_json::to_vec(&as_sdk).map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let parsed = (state.options.parse_registration)(&text, api.clock().now());
    let mut registration = parsed.map_err(registration_problem)?;
    registration.keep_others = true;
    let slugs: Vec<_> = registration.functions.iter().map(|function| function.id).collect();
    let outcome = api.register(registration).await?;
    let catalog = api.catalog();
    let functions = slugs.iter().filter_map(|id| catalog.function(*id));
    Ok(HttpResponse::Created().json(Registered {
        modified: outcome.modified,
        functions: functions.map(|function| view::Function::of(function)).collect(),
    }))
}

/// The same registration in the words of an SDK.
fn as_an_sdk_would(wanted: NewFunctions, default_url: &str) -> Result<Value, Problem> {
    let text = wanted.url.unwrap_or_else(|| default_url.to_owned());
    let url = Url::parse(&text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| reading::invalid("url", &text, "an http or https URL"))?;
    let functions = wanted.functions.into_iter().map(|mut function| {
        let id = function
            .get("id")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let mut called = url.clone();
        called
            .query_pairs_mut()
            .append_pair("fnId", &id)
            .append_pair("stepId", "step");
        let mut step = json!({"id": "step", "name": "step", "runtime": {"type": "http", "url": called.as_str()}});
        if let Some(retries) = function.remove("retries") {
            step["retries"] = if retries.is_object() {
                retries
            } else {
                json!({"attempts": retries})
            };
        }
        function.entry("name").or_insert_with(|| Value::String(id));
        function.entry("steps").or_insert_with(|| json!({"step": step}));
        Value::Object(function)
    });
    Ok(json!({
        "appName": wanted.app.unwrap_or_else(|| DEFAULT_APP.to_owned()),
        "url": url.as_str(),
        "v": "0.1",
        "deployType": "ping",
        "sdk": "",
        "framework": "",
        "functions": functions.collect::<Vec<_>>(),
    }))
}
