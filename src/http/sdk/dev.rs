//! `GET /dev`: by which SDKs tell a development server, and tests wait for functions.

use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use callboard_actors::domain::{Function, Trigger};
use serde_json::{Map, Value, json};

use crate::http::answer::SdkError;
use crate::http::state::State;

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("").route(web::get().to(describe)));
}

async fn describe(state: State) -> Result<HttpResponse, SdkError> {
    let catalog = state.api()?.catalog();
    let functions = catalog.apps().iter().flat_map(|view| &view.functions);
    let functions: Vec<Value> = functions.filter(|function| !function.archived).map(document).collect();
    let options = &state.options;
    Ok(HttpResponse::Ok().json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "authed": false,
        "startOpts": {
            "dir": ".",
            "urls": options.start.urls,
            "autodiscover": options.start.discovery,
            "poll": options.start.poll_interval > 0,
            "poll_interval": options.start.poll_interval,
            // The queue is not polled.
            "tick": 0,
            "retry_interval": options.start.retry_interval,
            "queue_workers": options.start.calls,
            "require_keys": options.require_event_keys,
            "persist": true,
            "sqlite_dir": options.start.directory,
        },
        "functions": functions,
        "handlers": null,
        "isSingleNodeService": true,
        "isMissingSigningKey": options.signing_keys.is_none(),
        "isMissingEventKeys": options.event_keys.is_empty(),
        "features": {"enable-step-metadata": true},
    })))
}

/// A function as the original prints it: its configuration, and what the server knows beside that.
fn document(function: &Function) -> Value {
    let mut document: Map<String, Value> = function.config.to().unwrap_or_default();
    let own = json!({
        "name": function.name,
        "id": function.id,
        "slug": function.slug,
        "app": function.app,
        "fv": function.version,
        "triggers": function.triggers.iter().map(trigger).collect::<Vec<_>>(),
    });
    if let Value::Object(own) = own {
        document.extend(own);
    }
    Value::Object(document)
}

/// A trigger as it is registered.
pub(in crate::http) fn trigger(trigger: &Trigger) -> Value {
    match trigger {
        Trigger::Event {
            event,
            expression: None,
        } => json!({"event": event}),
        Trigger::Event { event, expression } => json!({"event": event, "expression": expression}),
        Trigger::Cron { cron, .. } => json!({"cron": cron}),
    }
}
