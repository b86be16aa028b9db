//! Around every request: who may, the server's kind on each answer, CORS, and JSON for what no handler answered.

use actix_web::body::{BodySize, EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, ResponseError as _, web};

use super::answer::{own_error, sdk_error};
use super::auth;
use super::sdk::connect;
use super::sdk::v2::Refused;
use super::state::{AppState, Options};
use crate::error::{Code, Problem};
use crate::sdk::headers;

/// SDKs read it from every answer, refusals included.
static SERVER_KIND: HeaderName = HeaderName::from_static(headers::SERVER_KIND);

/// The outermost layer.
pub(super) async fn surround<B: MessageBody>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let state = req.app_data::<web::Data<AppState>>().cloned();
    let state = state.as_ref().expect("the state is mounted with the routes");
    let options = &state.options;
    let kind = options.kind.as_str();
    let is_cross_origin = req.headers().contains_key(header::ORIGIN);
    let is_preflight = is_cross_origin
        && req.method() == Method::OPTIONS
        && req.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut res = if is_elsewhere(&req, options) {
        req.into_response(not_found_here()).map_into_right_body()
    } else if is_preflight {
        let answer = preflight(&req);
        req.into_response(answer).map_into_right_body()
    } else if let Err(problem) = auth::check(&req, state).await {
        let answer = locked(&req, &problem);
        req.into_response(answer).map_into_right_body()
    } else {
        let res = next.call(req).await?;
        // The framework answers a wrong method with an `Allow` header and nothing else.
        let is_bare_405 = res.status() == StatusCode::METHOD_NOT_ALLOWED
            && matches!(res.response().body().size(), BodySize::None | BodySize::Sized(0));
        if is_bare_405 {
            let allow = res.headers().get(header::ALLOW).cloned();
            let req = res.into_parts().0;
            let mut answer = in_the_style_of(req.path(), &Problem::from(Code::MethodNotAllowed));
            if let Some(allow) = allow {
                answer.headers_mut().insert(header::ALLOW, allow);
            }
            ServiceResponse::new(req, answer).map_into_right_body()
        } else {
            res.map_into_left_body()
        }
    };
    let headers = res.headers_mut();
    headers.insert(SERVER_KIND.clone(), HeaderValue::from_static(kind));
    if is_cross_origin {
        share(headers);
    }
    Ok(res)
}

/// Who sent this may not.
fn locked(req: &ServiceRequest, problem: &Problem) -> HttpResponse {
    if problem.code != Code::Unauthorized {
        return in_the_style_of(req.path(), problem);
    }
    let has_header = req.headers().contains_key(header::AUTHORIZATION);
    let mut answer = if is_v2(req.path()) {
        Refused::unauthorized(has_header, problem).error_response()
    } else {
        in_the_style_of(req.path(), problem)
    };
    let scheme = HeaderValue::from_static("Bearer");
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    answer
}

/// Whether this came in at the workers' own port, where nothing is but what they and probes ask for.
fn is_elsewhere(req: &ServiceRequest, options: &Options) -> bool {
    let at = req.app_config().local_addr().port();
    options.gateway_port == Some(at) && !matches!(req.path(), connect::PATH | "/ready" | "/health" | "/health/ready")
}

fn not_found_here() -> HttpResponse {
    own_error(&Problem::new(
        Code::UnknownRoute,
        "this is the port of workers; the API has another",
    ))
}

fn share(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    // Some answers have others.
    if !headers.contains_key(header::ACCESS_CONTROL_EXPOSE_HEADERS) {
        let exposed = HeaderValue::from_static("Link, Mcp-Session-Id");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// Any origin, any header, no credentials; good for an hour.
fn preflight(req: &ServiceRequest) -> HttpResponse {
    let asked = req.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let headers = asked.cloned().unwrap_or(HeaderValue::from_static("*"));
    HttpResponse::NoContent()
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE, OPTIONS"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, headers))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "3600"))
        .finish()
}

/// Nothing is mounted at this path. Without the slash at its end, something may be.
pub(super) async fn not_found(req: HttpRequest) -> HttpResponse {
    let bare = req.path().trim_end_matches('/');
    // A path that begins with two slashes would lead to another host.
    let leads_home = bare.starts_with('/') && !bare.starts_with("//");
    if req.method() == Method::GET && bare != req.path() && leads_home {
        let question = if req.query_string().is_empty() { "" } else { "?" };
        let location = format!("{bare}{question}{}", req.query_string());
        return HttpResponse::SeeOther()
            .insert_header((header::LOCATION, location))
            .finish();
    }
    let message = format!("There is nothing at {}", req.path());
    in_the_style_of(req.path(), &Problem::new(Code::UnknownRoute, message))
}

fn is_v2(path: &str) -> bool {
    ["/v2/", "/api/v2/"].iter().any(|prefix| path.starts_with(prefix))
}

/// SDKs read one shape of error, users of our own API another.
fn in_the_style_of(path: &str, problem: &Problem) -> HttpResponse {
    let is_sdk = ["/v0/", "/v1/", "/fn/", "/e/", "/dev", "/invoke/", "/test/"]
        .iter()
        .any(|prefix| path.starts_with(prefix));
    if is_v2(path) {
        return Refused::from(problem.clone()).error_response();
    }
    if is_sdk { sdk_error(problem) } else { own_error(problem) }
}

/// What an extractor could not take.
pub(super) fn refuse(req: &HttpRequest, problem: &Problem) -> Error {
    let answer = in_the_style_of(req.path(), problem);
    actix_web::error::InternalError::from_response(problem.message.clone(), answer).into()
}
