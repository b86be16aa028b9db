//! What there is one of here: the account, the environment, the server's keys.

use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::{KeyScope, Timestamp};
use secrecy::ExposeSecret as _;

use super::answer::{Answer, Message, Page, Refused};
use super::reading::Asked;
use crate::error::Problem;
use crate::http::auth::masked;
use crate::http::sdk::{ACCOUNT, ENVIRONMENT};
use crate::http::state::State;

/// They have always been there.
const CREATED: Timestamp = Timestamp::from_millis(0);

pub(super) async fn health(state: State) -> Result<HttpResponse, Refused> {
    let now = state.api()?.clock().now();
    Ok(Answer::new(Message::new().with("status", "ok"), now).into())
}

pub(super) async fn account(state: State) -> Result<HttpResponse, Refused> {
    let now = state.api()?.clock().now();
    let account = Message::new()
        .with("id", ACCOUNT)
        .with("email", "dev@inngest.local")
        .with("name", "Dev Server")
        .at("createdAt", Some(CREATED))
        .at("updatedAt", Some(CREATED));
    Ok(Answer::new(account, now).into())
}

pub(super) async fn environments(req: HttpRequest, state: State) -> Result<HttpResponse, Refused> {
    let asked = Asked::of(&req);
    let limit = asked.limit(20, 250)?;
    let (ids, page) = Page::cut(
        std::iter::once(ENVIRONMENT),
        |id| (*id).to_owned(),
        asked.one("cursor"),
        limit,
    )?;
    let environments = ids.into_iter().map(|id| {
        Message::new()
            .with("id", id)
            .with("name", "dev")
            .with("type", "TEST")
            .at("createdAt", Some(CREATED))
    });
    Ok(Answer::list(environments.collect(), page, state.api()?.clock().now()).into())
}

/// A key, as it is listed.
struct Shown {
    /// Tells it from the others of its list.
    id: String,
    /// Only the end of it: whoever may ask need not be able to sign, or to send events.
    key: String,
    created_at: Timestamp,
}

impl Shown {
    /// One of the settings, in this place among them.
    fn of_settings(place: usize, key: String) -> Self {
        Self {
            id: place.to_string(),
            key,
            created_at: CREATED,
        }
    }
}

fn list(req: &HttpRequest, keys: impl Iterator<Item = Shown>, now: Timestamp) -> Result<HttpResponse, Refused> {
    let asked = Asked::of(req);
    let limit = asked.limit(20, 100)?;
    let (keys, page) = Page::cut(keys, |key| key.id.clone(), asked.one("cursor"), limit)?;
    let keys = keys.into_iter().map(|key| {
        Message::new()
            .with("environment", "dev")
            .with("key", key.key)
            .at("createdAt", Some(key.created_at))
    });
    Ok(Answer::list(keys.collect(), page, now).into())
}

/// Those that count: of the settings, and those that operators made.
pub(super) async fn event_keys(req: HttpRequest, state: State) -> Result<HttpResponse, Refused> {
    let api = state.api()?;
    let now = api.clock().now();
    let made = api.store().api_keys().await.map_err(Problem::from)?;
    let made = made
        .into_iter()
        .filter(|key| key.scope == KeyScope::Events && key.counts(now));
    let made = made.map(|key| Shown {
        id: key.id.to_string(),
        key: format!("***{}", key.hint),
        created_at: key.id.at(),
    });
    let set = state.options.event_keys.iter().enumerate();
    let set = set.map(|(place, key)| Shown::of_settings(place, masked(key.expose_secret())));
    list(&req, set.chain(made), now)
}

pub(super) async fn signing_keys(req: HttpRequest, state: State) -> Result<HttpResponse, Refused> {
    let all = state.options.signing_keys.iter().flat_map(|keys| keys.all());
    let shown = all.enumerate().map(|(place, _)| Shown::of_settings(place, masked("")));
    list(&req, shown, state.api()?.clock().now())
}
