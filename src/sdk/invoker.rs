//! Calls apps over HTTP.
//!
//! One invoker per thread, each with connections of its own. Whatever goes wrong on the way, from a refused
//! connection to a body that is no JSON, is a [`Reply::Failed`], or [`Reply::Unanswered`] where nobody answered, with a
//! text that tells a developer what to look at.
//!
//! Calls are signed with the current key. An app that answers 401 has refused the signature and done nothing, so it is asked
//! at once with the next of the keys that count: whichever of app and server is given a new key first, no attempt fails. Not so
//! durable endpoints, whose own code may answer 401.
//!
//! Never retries otherwise (the engine does, with its own bookkeeping; see [`super::transport`] for the one case that is no
//! retry), never logs payloads or credentials.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::header::HeaderMap;
use async_trait::async_trait;
use callboard_actors::domain::{Call, Failure, FetchFailure, FetchRequest, FetchResponse, Reply, limits};
use callboard_actors::ports::{Invoker, InvokerFactory};
use chrono::Utc;

use super::call::{self, Request};
use super::publishing::Told;
use super::reply::{self, Head};
use super::signing::{Keys, SigningKey};
use super::transport::guard::Guard;
use super::transport::{Bounds, Incoming, Outgoing, Redirects, Transport, TransportError};
use super::{USER_AGENT, fetch};
use crate::realtime::Broadcaster;

/// What an invoker is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For a whole call, redirects and the body included.
    pub call_timeout: Duration,
    /// For a connection, and again for its TLS handshake.
    pub connect_timeout: Duration,
    /// Requests under way at most, per thread. Must exceed what the executors of a thread may have in flight, or
    /// calls wait for each other.
    pub connections: usize,
    /// Sign calls; `None` on a server without keys.
    pub keys: Option<Arc<Keys>>,
    /// Which addresses `step.fetch` and `step.ai.infer` may ask, redirects included. Apps may be anywhere.
    pub guard: Guard,
    /// Where the answers go that `step.fetch` and `step.ai.infer` ask to be published.
    pub broadcaster: Broadcaster,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_secs(2 * 60 * 60),
            connect_timeout: Duration::from_secs(10),
            connections: 4096,
            keys: None,
            guard: Guard::open(),
            broadcaster: Broadcaster::default(),
        }
    }
}

/// Calls apps over HTTP. Belongs to the thread that made it.
#[derive(Debug)]
pub struct HttpInvoker {
    transport: Transport,
    /// For requests that users have written: a connection that was made to an app must not serve them.
    guarded: Transport,
    settings: Settings,
}

impl HttpInvoker {
    /// With connections of its own.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            transport: Transport::new(settings.connect_timeout, settings.connections),
            guarded: Transport::guarded(settings.connect_timeout, settings.connections, settings.guard.clone()),
            settings,
        }
    }
}

#[async_trait(?Send)]
impl Invoker for HttpInvoker {
    async fn call(&self, call: Call) -> Reply {
        let keys = self.settings.keys.as_deref();
        let mut answer = self.ask(&call, keys.map(Keys::current)).await;
        for key in keys.map_or(&[][..], Keys::fallbacks) {
            let is_refused = matches!(&answer, Ok(answer) if answer.status == 401) && call.endpoint.is_none();
            if !is_refused {
                break;
            }
            answer = self.ask(&call, Some(key)).await;
        }
        match answer {
            Ok(answer) => reply::read(head(answer.status, &answer.headers), &answer.body),
            Err(reply) => reply,
        }
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, FetchFailure> {
        let kind = fetch::Kind::of(&request);
        let outgoing = fetch::build(&request)?;
        let bounds = Bounds {
            timeout: request.timeout,
            body: limits::STEP_OUTPUT_BYTES,
            redirects: Redirects::Browser,
        };
        let mut told = Told::new(&request, &self.settings.broadcaster);
        let outcome = self.guarded.exchange_aloud(outgoing, bounds, &mut told).await;
        drop(told);
        let memo = match outcome {
            Ok(answer) => fetch::memo(kind, &answer)?,
            Err(error) => return Err(fetch::transport_failure(kind, &error)),
        };
        Ok(FetchResponse {
            memo,
            at: callboard_actors::domain::Timestamp::from_datetime(Utc::now()),
        })
    }
}

impl HttpInvoker {
    /// Makes a call with a signature of this key. What is no answer is a reply.
    async fn ask(&self, call: &Call, key: Option<&SigningKey>) -> Result<Incoming, Reply> {
        let error = |error: String| Failure::new("Error", error);
        let request = call::build(call, key, now_seconds());
        let request = request.map_err(|problem| failed(None, error(problem.to_string())))?;
        let bounds = Bounds {
            timeout: self.settings.call_timeout,
            body: limits::REPLY_BYTES,
            redirects: Redirects::Repeat,
        };
        let answer = self.transport.exchange(outgoing(request), bounds).await;
        answer.map_err(|problem| match problem {
            TransportError::TooLarge { status, .. } => reply::too_large(Head::new(status, |_| None)),
            problem if problem.is_outage() => Reply::Unanswered(error(problem.to_string())),
            problem => failed(None, error(problem.to_string())),
        })
    }
}

/// Makes an [`HttpInvoker`] on each thread that asks.
#[derive(Debug, Clone)]
pub struct HttpInvokerFactory {
    settings: Settings,
}

impl HttpInvokerFactory {
    /// With these settings for all.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }
}

impl InvokerFactory for HttpInvokerFactory {
    fn build(&self) -> Rc<dyn Invoker> {
        Rc::new(HttpInvoker::new(self.settings.clone()))
    }
}

/// Seconds since the epoch; 0 on a machine whose clock stands before it.
pub(super) fn now_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn outgoing(request: Request) -> Outgoing {
    let mut headers: Vec<(String, String)> = vec![("user-agent".to_owned(), USER_AGENT.to_owned())];
    let own = request.headers.into_iter();
    headers.extend(own.map(|(name, value)| (name.to_owned(), value)));
    Outgoing {
        method: request.method,
        url: request.url,
        headers,
        body: Some(request.body),
    }
}

fn head(status: u16, headers: &HeaderMap) -> Head {
    Head::new(status, |name| headers.get(name)?.to_str().ok())
}

fn failed(status: Option<u16>, failure: Failure) -> Reply {
    Reply::Failed {
        failure,
        status,
        no_retry: false,
        retry_after: None,
    }
}

#[cfg(test)]
mod tests;
