//! Finding apps, and asking them to register.
//!
//! The SDKs don't register on their own: a `PUT` to the URL they serve makes them send what they hold to us
//! ([`SyncClient`]). On a developer's machine nobody wants to tell us that URL ([`Scanner`]), and an app that was
//! changed and restarted must be asked again ([`Poller`]).
//!
//! Promises: a quiet machine costs next to nothing: a round is a few local connects, and it is told once when something
//! has changed, not every time it has not. Never registers anything itself: the SDK's own request does.

mod poller;
mod scan;

use std::sync::Arc;
use std::time::Duration;

use awc::http::Method;
use bytes::Bytes;
use callboard_actors::domain::Json;
use serde_json::{Value, json};
use url::Url;

use super::invoker::now_seconds;
use super::signing::{Keys, SigningKey};
use super::transport::{Bounds, Incoming, Outgoing, Redirects, Transport, TransportError};
use super::{ServerKind, USER_AGENT, headers};

pub use poller::{Apps, Poller, Watch};
pub use scan::{Scanner, ports};

/// For an app to register; it calls us back in that time.
const SYNC_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that is only looked at for a message.
const ANSWER_BYTES: usize = 1024 * 1024;

/// Why an app that was asked to register did not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// It refused our signature.
    #[error(
        "the app refused our signature: give it the same INNGEST_SIGNING_KEY as this server, or set INNGEST_DEV=1 in \
         the app if this server runs without keys"
    )]
    Unauthorized,
    /// It refuses this kind of server.
    #[error("the app refuses this server: one of them runs in dev mode, the other does not")]
    Forbidden,
    /// Nothing there.
    #[error("there is nothing at this URL: check the path that the app serves")]
    UrlNotFound,
    /// It failed.
    #[error("the app failed to register: {0}")]
    InternalServerError(String),
    /// It says why not, or repeats what we told it.
    #[error("{0}")]
    Refused(String),
    /// Something else answers.
    #[error("what answers at this URL is not an SDK")]
    NotSdk,
    /// Not http or https.
    #[error("only http and https URLs can be asked to register")]
    UnsupportedProtocol,
    /// Nobody answers.
    #[error("{0}")]
    Unreachable(String),
}

impl SyncError {
    /// A stable word for it, as the protocol's clients know it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::UrlNotFound => "url_not_found",
            Self::InternalServerError(_) => "internal_server_error",
            Self::Refused(_) => "invalid_function",
            Self::NotSdk => "not_sdk",
            Self::UnsupportedProtocol => "unsupported_protocol",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

/// Asks apps to register. Belongs to the thread that made it.
#[derive(Debug, Clone)]
pub struct SyncClient {
    transport: Transport,
    keys: Option<Arc<Keys>>,
    kind: ServerKind,
}

impl SyncClient {
    /// Signs with the current one of these keys, if there are any, and for an app that refuses that with the next.
    #[must_use]
    pub fn new(transport: Transport, keys: Option<Arc<Keys>>, kind: ServerKind) -> Self {
        Self { transport, keys, kind }
    }

    /// The client to look at apps with.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Asks the app that serves at this URL to register, and waits until it has.
    ///
    /// # Errors
    /// When it has not.
    pub async fn sync(&self, url: &str) -> Result<(), SyncError> {
        let keys = self.keys.as_deref();
        let mut outcome = self.ask(url, keys.map(Keys::current)).await;
        for key in keys.map_or(&[][..], Keys::fallbacks) {
            if outcome != Err(SyncError::Unauthorized) {
                break;
            }
            outcome = self.ask(url, Some(key)).await;
        }
        outcome
    }

    async fn ask(&self, url: &str, key: Option<&SigningKey>) -> Result<(), SyncError> {
        let parsed = Url::parse(url).map_err(|error| SyncError::Unreachable(format!("`{url}` is no URL: {error}")))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(SyncError::UnsupportedProtocol);
        }
        let body = Json::from_value(&json!({ "url": url })).expect("a text is representable");
        let mut headers = vec![
            ("user-agent".to_owned(), USER_AGENT.to_owned()),
            ("content-type".to_owned(), "application/json".to_owned()),
            (headers::SERVER_KIND.to_owned(), self.kind.as_str().to_owned()),
        ];
        if let Some(key) = key {
            let signature = key.sign(body.as_str().as_bytes(), now_seconds());
            headers.push((headers::SIGNATURE.to_owned(), signature));
        }
        let request = Outgoing {
            method: Method::PUT,
            url: parsed,
            headers,
            body: Some(Bytes::copy_from_slice(body.as_str().as_bytes())),
        };
        let bounds = Bounds {
            timeout: SYNC_TIMEOUT,
            body: ANSWER_BYTES,
            redirects: Redirects::Repeat,
        };
        match self.transport.exchange(request, bounds).await {
            Ok(answer) => judge(&answer),
            Err(TransportError::TooLarge { .. }) => Err(SyncError::NotSdk),
            Err(error) => Err(SyncError::Unreachable(error.to_string())),
        }
    }
}

/// What an answer to the request to register says.
fn judge(answer: &Incoming) -> Result<(), SyncError> {
    let message = || {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let texts = ["message", "error"].iter().filter_map(|key| body.get(key)?.as_str());
        texts.map(str::to_owned).find(|text| !text.is_empty())
    };
    match answer.status {
        400 => {
            Err(SyncError::Refused(message().unwrap_or_else(|| {
                "the app answered HTTP 400 without saying why".to_owned()
            })))
        }
        401 => Err(SyncError::Unauthorized),
        403 => Err(SyncError::Forbidden),
        404 => Err(SyncError::UrlNotFound),
        500 => Err(SyncError::InternalServerError(
            message().unwrap_or_else(|| "it answered HTTP 500".to_owned()),
        )),
        _ if is_sdk(answer) => Ok(()),
        _ => Err(SyncError::NotSdk),
    }
}

/// Whether an SDK answered; the TypeScript one may leave only its second mark.
fn is_sdk(answer: &Incoming) -> bool {
    let has = |name| answer.headers.get(name).is_some_and(|value| !value.is_empty());
    has(headers::SDK) || has(headers::SDK_HANDLED)
}

#[cfg(test)]
mod tests;
