//! What is asked in a query or a body: names in camel or snake case, lists with commas or one by one.

use actix_web::HttpRequest;
use actix_web::web::Payload;
use callboard_actors::domain::Timestamp;
use serde::de::DeserializeOwned;

use super::answer::Refused;
use crate::http::body;
use crate::http::sdk::stored_events::instant;
use crate::http::state::State;

/// The query of a request.
#[derive(Debug)]
pub(super) struct Asked(Vec<(String, String)>);

impl Asked {
    pub(super) fn of(req: &HttpRequest) -> Self {
        let pairs = url::form_urlencoded::parse(req.query_string().as_bytes());
        let plain = |key: &str| key.replace('_', "").to_lowercase();
        Self(
            pairs
                .filter(|(_, value)| !value.is_empty())
                .map(|(key, value)| (plain(&key), value.into_owned()))
                .collect(),
        )
    }

    /// The value of a parameter; `key` is in camel case.
    pub(super) fn one(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// All values of a parameter.
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        let key = key.to_lowercase();
        let values = self.0.iter().filter(move |(name, _)| *name == key);
        values
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .filter(|value| !value.is_empty())
    }

    /// How many items, within bounds.
    pub(super) fn limit(&self, default: usize, most: usize) -> Result<usize, Refused> {
        let Some(text) = self.one("limit") else {
            return Ok(default);
        };
        let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
        limit.ok_or_else(|| Refused::field("limit", format_args!("is a number from 1 to {most}")))
    }

    pub(super) fn switch(&self, key: &str) -> Result<Option<bool>, Refused> {
        match self.one(key) {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(Refused::field(key, "is true or false")),
        }
    }

    pub(super) fn time(&self, key: &str) -> Result<Option<Timestamp>, Refused> {
        let text = self.0.iter().find(|(name, _)| *name == key.to_lowercase());
        let at = text.map(|(_, text)| instant(text, key)).transpose();
        at.map_err(|_| Refused::field(key, "is an RFC 3339 time"))
    }
}

/// The body of a request; `None` if it has none.
///
/// # Errors
/// When it is not JSON of that shape.
pub(super) async fn body<T: DeserializeOwned>(
    req: &HttpRequest,
    payload: Payload,
    state: &State,
) -> Result<Option<T>, Refused> {
    let body = body::read(req, payload, state).await?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    Ok(Some(body::parse(&body)?))
}
