//! Apps and their functions.

use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::catalog::Catalog;
use callboard_actors::domain::{Function, FunctionId, Trigger};
use callboard_actors::ports::AppView;
use serde_json::Value;

use super::answer::{Answer, Message, Page, Refused, without_zeros};
use super::reading::Asked;
use crate::http::graphql::FunctionConfiguration;
use crate::http::state::State;

/// Items of a page unless told otherwise, and at most.
const DEFAULT: usize = 20;
const MOST: usize = 100;

/// An app that is removed leaves its functions, whose runs may go on.
fn is_archived(view: &AppView) -> bool {
    view.app.url.is_empty()
}

/// # Errors
/// When there is no such app.
pub(super) fn find<'a>(catalog: &'a Catalog, app: &str) -> Result<&'a AppView, Refused> {
    let found = catalog.apps().iter().find(|view| *view.app.name == *app);
    found.ok_or_else(|| Refused::new(404, "not_found", "App not found"))
}

/// A function by its id within the app, or by its slug.
///
/// # Errors
/// When there is no such function.
pub(super) fn find_function<'a>(view: &'a AppView, id: &str) -> Result<&'a Function, Refused> {
    let full = format!("{}-{id}", view.app.name);
    let is_meant = |function: &&Function| *function.slug == *full || *function.slug == *id;
    let live = view
        .functions
        .iter()
        .filter(|function| !function.archived)
        .find(is_meant);
    let found = live.or_else(|| view.functions.iter().find(is_meant));
    found.ok_or_else(|| Refused::new(404, "not_found", "Function not found"))
}

/// A function's id within its app.
pub(super) fn id_within(function: &Function) -> &str {
    let rest = function.slug.strip_prefix(&*function.app);
    rest.and_then(|rest| rest.strip_prefix('-')).unwrap_or(&function.slug)
}

fn app(view: &AppView) -> Message {
    let app = &view.app;
    let (language, version) = app.sdk.split_once(':').unwrap_or((&app.sdk, ""));
    let method = match app.url.split_once(':').map(|(scheme, _)| scheme) {
        Some("ws" | "wss") => "CONNECT",
        _ if app.sdk.is_empty() => "API",
        _ => "SERVE",
    };
    let count = view.functions.iter().filter(|function| !function.archived).count();
    let sync = Message::new()
        .with("status", if app.error.is_some() { "error" } else { "success" })
        .at("syncedAt", Some(app.synced_at))
        .with("sdkLanguage", language)
        .with("sdkVersion", version)
        .with("framework", app.framework.clone())
        .with("url", app.url.as_str())
        .with("error", app.error.clone())
        .with("appVersion", app.version.clone());
    Message::new()
        .with("id", &*app.name)
        .with("name", &*app.name)
        .with("method", method)
        .with("appVersion", app.version.clone())
        .at("createdAt", Some(app.synced_at))
        .with("isArchived", is_archived(view))
        .at("archivedAt", is_archived(view).then_some(app.synced_at))
        .with("functionCount", count)
        .message("latestSync", sync)
}

pub(super) async fn list(req: HttpRequest, state: State) -> Result<HttpResponse, Refused> {
    let api = state.api()?;
    let asked = Asked::of(&req);
    let limit = asked.limit(DEFAULT, MOST)?;
    let archived = asked.switch("archived")?;
    let catalog = api.catalog();
    let apps = catalog.apps().iter();
    let apps = apps.filter(|view| is_archived(view) == archived.unwrap_or(false));
    let key = |view: &&AppView| FunctionId::app_uuid(&view.app.name).to_string();
    let (apps, page) = Page::cut(apps, key, asked.one("cursor"), limit)?;
    let apps = apps.into_iter().map(app).collect();
    Ok(Answer::list(apps, page, api.clock().now()).into())
}

pub(super) async fn get(name: Path<String>, state: State) -> Result<HttpResponse, Refused> {
    let api = state.api()?;
    let catalog = api.catalog();
    Ok(Answer::new(app(find(&catalog, &name)?), api.clock().now()).into())
}

fn function(catalog: &Catalog, function: &Function) -> Message {
    let triggers = function.triggers.iter().map(|trigger| {
        let message = match trigger {
            Trigger::Event { event, expression } => Message::new()
                .with("type", "EVENT")
                .with("value", event.as_str())
                .with("if", expression.clone()),
            Trigger::Cron { cron, .. } => Message::new().with("type", "CRON").with("value", cron.as_str()),
        };
        Value::from(message)
    });
    let handler = catalog.find(&format!("{}-failure", function.slug));
    let mut message = Message::new()
        .with("id", id_within(function))
        .with("name", function.name.as_str())
        .with("slug", &*function.slug)
        .with("isPaused", function.mode.is_paused())
        .with("isArchived", function.archived)
        .message("app", Message::new().with("id", &*function.app))
        .with("triggers", triggers.collect::<Vec<_>>());
    if let Some(handler) = handler {
        let handler = Message::new()
            .with("id", id_within(handler))
            .with("name", handler.name.as_str())
            .with("slug", &*handler.slug);
        message = message.message("failureHandler", handler);
    }
    let configuration = serde_json::to_value(FunctionConfiguration::of(function)).unwrap_or_default();
    message.raw("configuration", Some(without_zeros(configuration)))
}

pub(super) async fn functions(name: Path<String>, req: HttpRequest, state: State) -> Result<HttpResponse, Refused> {
    let api = state.api()?;
    let asked = Asked::of(&req);
    let limit = asked.limit(DEFAULT, MOST)?;
    let catalog = api.catalog();
    let functions = find(&catalog, &name)?.functions.iter();
    let live = functions.filter(|function| !function.archived);
    let key = |function: &&Function| function.id.to_string();
    let (functions, page) = Page::cut(live, key, asked.one("cursor"), limit)?;
    let functions = functions.into_iter().map(|one| function(&catalog, one)).collect();
    Ok(Answer::list(functions, page, api.clock().now()).into())
}

pub(super) async fn get_function(path: Path<(String, String)>, state: State) -> Result<HttpResponse, Refused> {
    let api = state.api()?;
    let catalog = api.catalog();
    let found = find_function(find(&catalog, &path.0)?, &path.1)?;
    Ok(Answer::new(function(&catalog, found), api.clock().now()).into())
}
