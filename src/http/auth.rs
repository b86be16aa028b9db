//! Who may.
//!
//! Without a signing key everybody may. With one, what SDKs call (`/fn`, `/v0`, `/v1`, `/dev`) needs it as a bearer, and
//! so does what changes something: `/invoke` and the writes of `/api/v1`. Event keys guard `/e`, and nothing else.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{Error, web};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::answer::{own_error, sdk_error};
use super::state::AppState;
use crate::error::{Code, Problem};

fn is_allowed(req: &ServiceRequest) -> bool {
    let Some(state) = req.app_data::<web::Data<AppState>>() else {
        return false;
    };
    let Some(key) = &state.options.signing_key else {
        return true;
    };
    let header = req.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    header.is_some_and(|header| key.accepts(header))
}

/// Around the routes of SDKs.
pub(super) async fn sdk_routes<B: MessageBody>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    if is_allowed(&req) {
        return Ok(next.call(req).await?.map_into_left_body());
    }
    let refusal = sdk_error(&Problem::from(Code::Unauthorized));
    Ok(req.into_response(refusal).map_into_right_body())
}

/// Around our own API: reading is free.
pub(super) async fn own_writes<B: MessageBody>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    if matches!(*req.method(), Method::GET | Method::HEAD) || is_allowed(&req) {
        return Ok(next.call(req).await?.map_into_left_body());
    }
    let refusal = own_error(&Problem::from(Code::Unauthorized));
    Ok(req.into_response(refusal).map_into_right_body())
}

/// Whether events may be sent with this key.
///
/// # Errors
/// [`Code::EventKeysMissing`] if keys are required and none is configured, [`Code::EventKeyUnknown`] otherwise.
pub(super) fn check_event_key(given: &str, known: &[SecretString], required: bool) -> Result<(), Problem> {
    if known.is_empty() {
        return if required {
            let message = "Event keys are required to process events securely";
            Err(Problem::new(Code::EventKeysMissing, message))
        } else {
            Ok(())
        };
    }
    if given.is_empty() {
        return Err(Problem::new(Code::EventKeyUnknown, "Event key is required"));
    }
    let matches = |key: &SecretString| bool::from(key.expose_secret().as_bytes().ct_eq(given.as_bytes()));
    // All are compared, so that the time taken does not tell which one is near.
    let found = known.iter().fold(false, |found, key| found | matches(key));
    if found {
        Ok(())
    } else {
        Err(Problem::new(Code::EventKeyUnknown, "Event key not found"))
    }
}
