//! Traces and telemetry that SDKs send: taken and dropped, which keeps their exporters quiet.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::http::body;

/// Bytes of one export; what is longer is not read to its end.
const LIMIT: usize = 8 * 1024 * 1024;

pub(super) fn userland(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/traces/userland").route(web::post().to(drop_traces)));
}

pub(super) fn dev(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/dev/traces").route(web::post().to(drop_traces)));
}

pub(super) fn telemetry(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/telemetry").route(web::post().to(drop_traces)));
}

/// A full success, in the encoding of the request: an empty message.
async fn drop_traces(req: HttpRequest, payload: Payload) -> HttpResponse {
    body::discard(payload, LIMIT).await;
    let content_type = req.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|kind| kind.starts_with("application/x-protobuf")) {
        return HttpResponse::Ok().content_type("application/x-protobuf").finish();
    }
    HttpResponse::Ok().content_type("application/json").body("{}")
}
