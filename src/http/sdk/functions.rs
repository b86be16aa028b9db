//! `GET /v1/apps/{app}/functions`.

use actix_web::HttpResponse;
use actix_web::web::{self, Path, ServiceConfig};
use callboard_actors::domain::FunctionId;
use serde_json::{Value, json};

use super::ENVIRONMENT;
use crate::error::{Code, Problem};
use crate::http::answer::SdkError;
use crate::http::state::State;

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/apps/{app}/functions").route(web::get().to(list)));
}

/// A bare array, by the app's name.
async fn list(name: Path<String>, state: State) -> Result<HttpResponse, SdkError> {
    let catalog = state.api()?.catalog();
    let view = catalog.apps().iter().find(|view| *view.app.name == **name);
    let view = view.ok_or_else(|| Problem::new(Code::UnknownApp, format!("App not found: {name}")))?;
    let synced_at = view.app.synced_at.to_rfc3339();
    let functions = view.functions.iter().map(|function| {
        json!({
            "internal_id": function.id,
            "env_id": ENVIRONMENT,
            "app_id": FunctionId::app_uuid(&view.app.name),
            "id": function.slug,
            "name": function.name,
            "config": function.config,
            "created_at": synced_at,
            "archived_at": function.archived.then_some(&synced_at),
        })
    });
    Ok(HttpResponse::Ok().json(functions.collect::<Vec<Value>>()))
}
