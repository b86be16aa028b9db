//! Who may.
//!
//! ```text
//! auth.rs         who asks, and whether that will do
//! auth/access.rs  what is open, and which scope the rest needs
//! auth/ring.rs    the keys that operators have made
//! ```
//!
//! Without keys in the settings everybody may do everything. With a signing key or API keys there, a request needs a key
//! as a bearer, unless its path is open: a signing key (or its hash, as SDKs send it) and the API keys of the settings do for
//! everything, those that operators have made ([`ring`]) for what their scope includes. Event keys guard `/e`, and nothing else.
//!
//! Promises: what is in no table is closed to all but the highest scope, whether or not anything is mounted there. All keys of
//! the settings are compared, each in the same time whatever it is compared with.

mod access;
mod ring;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{HttpMessage as _, HttpRequest};
use callboard_actors::domain::KeyScope;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::sdk::realtime;
use super::state::{AppState, Options};
use crate::error::{Code, Problem};
use crate::sdk::signing;

pub(super) use access::needed;
pub(super) use ring::{KeyRing, generate};

/// What whoever sent a request may do.
#[derive(Debug, Clone, Copy)]
struct Granted(KeyScope);

/// Checks that whoever sent this request may, and notes what else they may.
///
/// # Errors
/// [`Code::Unauthorized`] without a key, [`Code::Forbidden`] with one that is good for less, and [`Code::Unavailable`] and its like
/// if it can't be known.
pub(super) async fn check(req: &ServiceRequest, state: &AppState) -> Result<(), Problem> {
    let scope = grant(req, state).await?;
    req.extensions_mut().insert(Granted(scope));
    Ok(())
}

async fn grant(req: &ServiceRequest, state: &AppState) -> Result<KeyScope, Problem> {
    let options = &state.options;
    let has_keys = options.signing_keys.is_some() || !options.api_keys.is_empty();
    if !has_keys || access::is_open(req.path(), req.method(), options.kind) {
        return Ok(KeyScope::Admin);
    }
    let header = req.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let header = header.ok_or(Code::Unauthorized)?;
    if is_of_settings(header, options) {
        return Ok(KeyScope::Admin);
    }
    if realtime::may_publish(req.path(), header, state) {
        return Ok(KeyScope::Read);
    }
    let found = state.ring.find(state.api(), signing::bearer(header)).await?;
    let held = found.ok_or(Code::Unauthorized)?.scope;
    // As it is routed: another spelling of a path needs no less.
    let needed = needed(req.match_info().as_str(), req.method());
    require(held, needed).map(|()| held)
}

fn require(held: KeyScope, needed: KeyScope) -> Result<(), Problem> {
    if held.includes(needed) {
        return Ok(());
    }
    let message = format!(
        "this needs a key with the scope `{}`; this one has `{}`",
        needed.as_str(),
        held.as_str()
    );
    Err(Problem::new(Code::Forbidden, message))
}

/// Checks that whoever sent this request may do what only its body tells.
///
/// # Errors
/// [`Code::Forbidden`].
pub(super) fn demand(req: &HttpRequest, needed: KeyScope) -> Result<(), Problem> {
    let granted = req.extensions().get::<Granted>().copied();
    let Granted(held) = granted.expect("every request is checked before it is handled");
    require(held, needed)
}

/// Whether an `Authorization` header holds one of the keys of the settings.
fn is_of_settings(header: &str, options: &Options) -> bool {
    // No shortcuts: which key is near is nobody's business.
    let by_signing_keys = options.signing_keys.as_ref().is_some_and(|keys| keys.accept(header));
    let by_api_key = is_one_of(signing::bearer(header), &options.api_keys);
    by_signing_keys | by_api_key
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
pub(super) async fn check_event_key(given: &str, state: &AppState) -> Result<(), Problem> {
    let (known, required) = (&state.options.event_keys, state.options.require_event_keys);
    if known.is_empty() && !required {
        return Ok(());
    }
    if is_one_of(given, known) {
        return Ok(());
    }
    let found = state.ring.find(state.api(), given).await?;
    if found.is_some_and(|key| key.scope == KeyScope::Events) {
        return Ok(());
    }
    if known.is_empty() {
        let message = "Event keys are required to process events securely";
        return Err(Problem::new(Code::EventKeysMissing, message));
    }
    let message = if given.is_empty() {
        "Event key is required"
    } else {
        "Event key not found"
    };
    Err(Problem::new(Code::EventKeyUnknown, message))
}

/// The end of a key, by which it can be told from others.
pub(super) fn masked(key: &str) -> String {
    /// Characters that are shown, and never more than half of them.
    const SHOWN: usize = 4;
    let letters = key.chars().count();
    let end: String = key
        .chars()
        .skip(letters.saturating_sub(SHOWN).max(letters / 2))
        .collect();
    format!("***{end}")
}
