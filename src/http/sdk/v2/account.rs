//! What there is one of here: the account, the environment, the server's keys.

use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::Timestamp;
use secrecy::ExposeSecret as _;

use super::answer::{Answer, Message, Page, Refused};
use super::reading::Asked;
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

/// Only the end of each: whoever may ask need not be able to sign, or to send events.
fn keys(req: &HttpRequest, state: &State, keys: &[String]) -> Result<HttpResponse, Refused> {
    let asked = Asked::of(req);
    let limit = asked.limit(20, 100)?;
    let (keys, page) = Page::cut(keys.iter(), |key| (*key).clone(), asked.one("cursor"), limit)?;
    let keys = keys.into_iter().map(|key| {
        Message::new()
            .with("environment", "dev")
            .with("key", key.as_str())
            .at("createdAt", Some(CREATED))
    });
    Ok(Answer::list(keys.collect(), page, state.api()?.clock().now()).into())
}

pub(super) async fn event_keys(req: HttpRequest, state: State) -> Result<HttpResponse, Refused> {
    let shown: Vec<String> = state
        .options
        .event_keys
        .iter()
        .map(|key| masked(key.expose_secret()))
        .collect();
    keys(&req, &state, &shown)
}

pub(super) async fn signing_keys(req: HttpRequest, state: State) -> Result<HttpResponse, Refused> {
    let all = state.options.signing_keys.iter().flat_map(|keys| keys.all());
    let shown: Vec<String> = all.map(|_| masked("")).collect();
    keys(&req, &state, &shown)
}
