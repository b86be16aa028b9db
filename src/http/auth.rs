//! Who may.
//!
//! Without keys everybody may. With a signing key or API keys, a request needs one of them as a bearer (the signing key's
//! hash, as SDKs send it, will do), unless its path is in the table [`OPEN`]. Event keys guard `/e`, and nothing else.
//!
//! Promises: what is not in the table is closed, whether or not anything is mounted there. All keys are compared, each in
//! the same time whatever it is compared with.

use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::http::header::AUTHORIZATION;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::state::Options;
use crate::error::{Code, Problem};
use crate::sdk::{ServerKind, signing};

/// Which requests an entry of the table is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Methods {
    All,
    /// GET and HEAD.
    Reads,
}

/// On which servers a path is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Servers {
    All,
    /// Those of developers, who have keys because their apps do.
    Dev,
}

/// What needs no key on a server that has some. `/*` at the end of a path stands for everything below it, and within one for
/// one part of it.
const OPEN: &[(&str, Methods, Servers)] = &[
    ("/", Methods::Reads, Servers::All),
    ("/health", Methods::Reads, Servers::All),
    ("/health/ready", Methods::Reads, Servers::All),
    ("/v2/health", Methods::Reads, Servers::All),
    ("/api/v2/health", Methods::Reads, Servers::All),
    // What probes ask at the workers' own port.
    ("/ready", Methods::Reads, Servers::All),
    // Asks for the token of a start instead.
    ("/v0/connect", Methods::Reads, Servers::All),
    // Asks for an event key instead.
    ("/e/*", Methods::All, Servers::All),
    ("/metrics", Methods::Reads, Servers::Dev),
    ("/api/v1/*", Methods::Reads, Servers::Dev),
    ("/dev/traces", Methods::All, Servers::Dev),
    ("/v0/gql", Methods::All, Servers::Dev),
    ("/v0/connect/envs/*", Methods::Reads, Servers::Dev),
    // Asks for the run's token instead.
    ("/v1/checkpoint/*/output", Methods::All, Servers::All),
    ("/v1/http/runs/*/output", Methods::All, Servers::All),
    // Ask for a token that names what to subscribe to.
    ("/v1/realtime/connect", Methods::Reads, Servers::All),
    ("/v1/realtime/sse", Methods::Reads, Servers::All),
];

fn is_open(path: &str, method: &Method, kind: ServerKind) -> bool {
    // A slash too many is redirected to where it is missing.
    let bare = match path.trim_end_matches('/') {
        "" => "/",
        bare => bare,
    };
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    OPEN.iter().any(|(pattern, methods, servers)| {
        let is_here = match pattern.split_once('*') {
            Some((prefix, "")) => path.starts_with(prefix),
            Some((prefix, rest)) => {
                let part = bare.strip_prefix(prefix).and_then(|path| path.strip_suffix(rest));
                part.is_some_and(|part| !part.is_empty() && !part.contains('/'))
            }
            None => bare == *pattern,
        };
        let is_method = *methods == Methods::All || is_read;
        let is_server = *servers == Servers::All || kind == ServerKind::Dev;
        is_here && is_method && is_server
    })
}

/// Checks that whoever sent this request may.
///
/// # Errors
/// [`Code::Unauthorized`].
pub(super) fn check(req: &ServiceRequest, options: &Options) -> Result<(), Problem> {
    let has_keys = options.signing_key.is_some() || !options.api_keys.is_empty();
    if !has_keys || is_open(req.path(), req.method(), options.kind) {
        return Ok(());
    }
    let header = req.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if header.is_some_and(|header| is_known(header, options)) {
        Ok(())
    } else {
        Err(Problem::from(Code::Unauthorized))
    }
}

/// Whether an `Authorization` header holds one of the keys.
fn is_known(header: &str, options: &Options) -> bool {
    // No shortcuts: which key is near is nobody's business.
    let by_signing_key = options.signing_key.as_ref().is_some_and(|key| key.accepts(header));
    let by_api_key = is_one_of(signing::bearer(header), &options.api_keys);
    by_signing_key | by_api_key
}

fn is_one_of(given: &str, keys: &[SecretString]) -> bool {
    let matches = |key: &SecretString| bool::from(key.expose_secret().as_bytes().ct_eq(given.as_bytes()));
    // All are compared, so that the time taken does not tell which one is near.
    keys.iter().fold(false, |found, key| found | matches(key))
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
    if is_one_of(given, known) {
        Ok(())
    } else {
        Err(Problem::new(Code::EventKeyUnknown, "Event key not found"))
    }
}
