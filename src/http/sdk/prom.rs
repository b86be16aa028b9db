//! `GET /v1/prom/{env}`: metrics of one environment, which the original's hosted service has. `/metrics` has ours.

use actix_web::web::{self, ServiceConfig};

use crate::error::{Code, Problem};
use crate::http::answer::SdkError;

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/prom/{env}").route(web::get().to(not_implemented)));
}

async fn not_implemented() -> Result<&'static str, SdkError> {
    Err(Problem::new(Code::NotImplemented, "not implemented").into())
}
