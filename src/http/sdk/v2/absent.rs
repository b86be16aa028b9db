//! What the original's hosted service has beyond its open server, which answers as here: 501.

use actix_web::HttpResponse;

use super::answer::Refused;

pub(super) async fn not_implemented() -> Result<HttpResponse, Refused> {
    Err(Refused::new(501, "not_implemented", "Not implemented"))
}

/// The same in the words it has for what it does not know at all.
pub(super) async fn unknown_to_it() -> Result<HttpResponse, Refused> {
    Err(Refused::new(501, "api_error", "Not implemented"))
}
