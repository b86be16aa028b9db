//! `/api/v1/keys`: the keys that open this server, but for what they are.
//!
//! A new key is shown once, in the answer to its making. Those of the settings are listed, too, so that it can be seen what
//! opens the server; they end with the settings.

use std::time::Duration;

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::{self, ApiKey, ApiKeyId, KeyDigest, KeyScope, Timestamp};
use callboard_actors::expression::duration;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::reading;
use crate::error::{Code, Problem};
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::auth::{self, masked};
use crate::http::body;
use crate::http::sdk::stored_events::instant;
use crate::http::state::{Options, State};

/// Keys that count, at the most: all of them are kept in memory.
const MOST: usize = 1_000;
/// Characters of a name, at the most.
const NAME_LENGTH: usize = 100;
/// Characters of a key that are shown ever after.
const HINT: usize = 4;
/// The shortest life of a key.
const SHORTEST: Duration = Duration::from_secs(1);

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// What to call it, 1 to 100 characters.
    #[schema(example = "deploy")]
    name: String,
    /// `events`: may send events, as an event key. `read`: may look at everything but keys. `write`: and change it.
    /// `admin`: and keys.
    #[schema(example = "read")]
    scope: String,
    /// When it ends: RFC 3339, or milliseconds since 1970. Never, if neither this nor `expires_in` is given.
    expires_at: Option<String>,
    /// In place of `expires_at`: how long it lasts, such as `90d`.
    expires_in: Option<String>,
}

/// A key, without what it is.
#[derive(Serialize, ToSchema)]
pub(super) struct Key {
    /// Absent for those of the settings, which can't be revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    name: String,
    /// `events`, `read`, `write` or `admin`.
    scope: &'static str,
    /// `active`, `expired` or `revoked`.
    state: &'static str,
    /// `database` or `settings`.
    source: &'static str,
    /// How it ends, to tell it from others by.
    hint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// To the minute, about.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
}

/// A new key.
#[derive(Serialize, ToSchema)]
pub(super) struct NewKey {
    /// What to send as a bearer, or as the event key. It is not shown again.
    key: String,
    #[serde(flatten)]
    shown: Key,
}

/// All keys.
#[derive(Serialize, ToSchema)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

impl Key {
    fn of(key: &ApiKey, now: Timestamp) -> Self {
        let state = match key.revoked_at {
            Some(_) => "revoked",
            None if key.counts(now) => "active",
            None => "expired",
        };
        Self {
            id: Some(key.id.to_string()),
            name: key.name.clone(),
            scope: key.scope.as_str(),
            state,
            source: "database",
            hint: format!("***{}", key.hint),
            created_at: Some(key.id.at().to_rfc3339()),
            expires_at: key.expires_at.map(domain::Timestamp::to_rfc3339),
            last_used_at: key.last_used_at.map(domain::Timestamp::to_rfc3339),
            revoked_at: key.revoked_at.map(domain::Timestamp::to_rfc3339),
        }
    }

    fn of_settings(name: &str, scope: KeyScope, hint: String) -> Self {
        Self {
            id: None,
            name: name.to_owned(),
            scope: scope.as_str(),
            state: "active",
            source: "settings",
            hint,
            created_at: None,
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
        }
    }
}

/// The keys that the settings name.
fn of_settings(options: &Options) -> impl Iterator<Item = Key> {
    let signing = options.signing_keys.iter().flat_map(|keys| keys.all()).enumerate();
    let signing = signing.map(|(position, _)| {
        let name = if position == 0 {
            "keys.signing"
        } else {
            "keys.signing_fallbacks"
        };
        Key::of_settings(name, KeyScope::Admin, masked(""))
    });
    let api = options.api_keys.iter().map(|key| {
        let hint = masked(key.expose_secret());
        Key::of_settings("keys.api", KeyScope::Admin, hint)
    });
    let event = options.event_keys.iter().map(|key| {
        let hint = masked(key.expose_secret());
        Key::of_settings("keys.event", KeyScope::Events, hint)
    });
    signing.chain(api).chain(event)
}

fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidParameter, message)
}

impl Wish {
    fn name(&self) -> Result<&str, Problem> {
        let name = self.name.trim();
        let is_fit = (1..=NAME_LENGTH).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        let message = || {
            invalid(format!(
                "name: 1 to {NAME_LENGTH} characters, none of them a control character"
            ))
        };
        is_fit.then_some(name).ok_or_else(message)
    }

    fn scope(&self) -> Result<KeyScope, Problem> {
        let message = || {
            invalid(format!(
                "scope: `{}` is none of events, read, write and admin",
                self.scope
            ))
        };
        KeyScope::parse(&self.scope).ok_or_else(message)
    }

    fn expires_at(&self, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
        let end = match (&self.expires_at, &self.expires_in) {
            (None, None) => return Ok(None),
            (Some(at), None) => instant(at, "expires_at")?,
            (None, Some(text)) => {
                let span = duration::parse(text).ok().and_then(|span| span.to_std().ok());
                let span = span.filter(|span| *span >= SHORTEST);
                now.after(span.ok_or_else(|| invalid(format!("expires_in: `{text}` is no duration of 1 s or more")))?)
            }
            (Some(_), Some(_)) => return Err(invalid("say either `expires_at` or `expires_in`")),
        };
        if end <= now {
            return Err(invalid(format!("expires_at: {} is over", end.to_rfc3339())));
        }
        Ok(Some(end))
    }
}

/// Make a key. What it is is shown in this answer, and never again.
#[utoipa::path(
    post, path = "/api/v1/keys", tag = "operations", request_body = Wish,
    responses(
        (status = 201, body = NewKey), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 409, body = ErrorBody)
    )
)]
pub(super) async fn create(req: HttpRequest, payload: Payload, state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let body = body::read(&req, payload, &state).await?;
    let wish: Wish = body::parse(&body)?;
    let now = api.clock().now();
    let (name, scope, expires_at) = (wish.name()?, wish.scope()?, wish.expires_at(now)?);
    let known = api.store().api_keys().await?;
    if known.iter().filter(|key| key.counts(now)).count() >= MOST {
        let message = format!("there are {MOST} keys already; revoke some");
        return Err(Problem::new(Code::TooManyKeys, message).into());
    }
    let text = auth::generate(scope, api.random().as_ref());
    let key = ApiKey {
        id: ApiKeyId::new(now, api.random().bits()),
        name: name.to_owned(),
        scope,
        digest: KeyDigest::of(&text),
        hint: text[text.len() - HINT..].to_owned(),
        expires_at,
        last_used_at: None,
        revoked_at: None,
    };
    api.store().put_api_key(&key).await?;
    state.ring.forget();
    tracing::info!(id = %key.id, name = key.name, scope = scope.as_str(), "a key was made");
    Ok(HttpResponse::Created().json(NewKey {
        key: text,
        shown: Key::of(&key, now),
    }))
}

/// List the keys, from new to old, and those of the settings. Keys that have ended are kept for 90 days.
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "operations",
    responses((status = 200, body = Keys), (status = 403, body = ErrorBody))
)]
pub(super) async fn list(state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let now = api.clock().now();
    let made = api.store().api_keys().await?;
    let made = made.iter().map(|key| Key::of(key, now));
    let keys = made.chain(of_settings(&state.options)).collect();
    Ok(HttpResponse::Ok().json(Keys { keys }))
}

/// Revoke a key, within seconds on all instances. It stays in the list for 90 days.
#[utoipa::path(
    delete, path = "/api/v1/keys/{id}", tag = "operations", params(("id" = String, Path)),
    responses(
        (status = 200, body = Key), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody)
    )
)]
pub(super) async fn revoke(id: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    let id: ApiKeyId = reading::id("id", &id)?;
    let api = state.api()?;
    let now = api.clock().now();
    let is_known = api.store().revoke_api_key(id, now).await?;
    state.ring.forget();
    let keys = api.store().api_keys().await?;
    let key = keys.iter().find(|key| key.id == id).filter(|_| is_known);
    let key = key.ok_or_else(|| Problem::new(Code::UnknownKey, format!("there is no key {id}")))?;
    tracing::info!(%id, name = key.name, "a key was revoked");
    Ok(HttpResponse::Ok().json(Key::of(key, now)))
}
