//! One thread's HTTP client: connections, redirects, limits, and errors in words a developer can act on.
//!
//! Built on awc, with what it leaves open decided here:
//!
//! * **Redirects** repeat method, body and headers (awc would turn a POST into a GET), and keep the query if the
//!   new location has none. What proves who we are (signature, credentials) is repeated to the same host only, and
//!   never from https down to http: with a signature, the next host could replay the call to the app.
//! * **Truncated bodies.** awc ends a body silently when the connection closes before its announced end. The
//!   connections are watched ([`connect`]), so that this is an error and never a shorter result.
//! * **Bodies without an announced end.** An HTTP/1.1 answer may simply end with its connection; awc takes its body for
//!   empty then. A success of that kind is an error here, instead of a result that is lost.
//! * **Connections that the app has just closed.** awc looks whether an idle connection is still open before it uses
//!   it, and idle ones are given up after [`IDLE`], before the servers in use (Node and uvicorn wait 5 s) do so. What
//!   is left is a close that crosses with our request. A request that could not be *sent* completely has not been
//!   executed (its body is sized, and incomplete): on a reused connection it is sent again, unseen. A request that was
//!   sent completely may have been executed: that is a failed attempt, for the engine to count.
//! * **Who may be asked**: connections are made to addresses that the [`guard`] permits, redirects included. They belong to
//!   one client and its guard, so none that another one made is used.
//! * **Encodings**: gzip, deflate and brotli are decoded, others are an error.
//!
//! Never retries what may have reached the app. Never logs: bodies and credentials pass through here.

mod connect;
pub mod guard;

use std::rc::Rc;
use std::time::Duration;

use actix_web::http::header::{self, HeaderMap};
use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::{Method, Version};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use url::Url;

use super::headers;
use crate::error::Code;
use connect::{Resolve, WATCH, Watch};
use guard::Guard;

/// How long an unused connection is kept.
pub const IDLE: Duration = Duration::from_secs(4);
/// Redirects followed in a row.
const REDIRECTS: usize = 10;
/// Connections tried for a request that could not be sent.
const CONNECTIONS: usize = 3;

/// How to treat a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redirects {
    /// As the protocol demands: the same request again.
    Repeat,
    /// As browsers do: a POST becomes a GET, unless 307 or 308 forbids it.
    Browser,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers in the order to be sent.
    pub headers: Vec<(String, String)>,
    /// Body; sent with its length.
    pub body: Option<Bytes>,
}

/// How far to go with a request.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For everything together.
    pub timeout: Duration,
    /// Bytes of the decoded body.
    pub body: usize,
    /// Redirects.
    pub redirects: Redirects,
}

/// An answer.
#[derive(Debug)]
pub struct Incoming {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Who answered, after redirects.
    pub url: Url,
    /// The decoded body.
    pub body: Bytes,
}

/// Hears of an answer while it comes.
pub trait Tap {
    /// An answer has begun that is no redirect.
    fn begin(&mut self, url: &Url, headers: &HeaderMap);
    /// More of its decoded body.
    fn more(&mut self, piece: &[u8]);
}

/// Nobody hears it.
impl Tap for () {
    fn begin(&mut self, _: &Url, _: &HeaderMap) {}
    fn more(&mut self, _: &[u8]) {}
}

/// Why there is no answer. The texts are for developers.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Nobody listens.
    #[error("Unable to reach {0}: the connection was refused. Is the app running there?")]
    Refused(String),
    /// The name is unknown.
    #[error("Unable to reach {0}: its host name could not be resolved")]
    Dns(String),
    /// No connection in time.
    #[error("Unable to reach {0}: no connection within {1:?}")]
    ConnectTimeout(String, Duration),
    /// Connecting failed otherwise.
    #[error("Unable to reach {0}: {1}")]
    Unreachable(String, String),
    /// No trusted connection.
    #[error("Unable to reach {0}: the TLS handshake failed: {1}")]
    Tls(String, String),
    /// No complete answer in time.
    #[error("Your server did not answer completely within {0:?}")]
    Timeout(Duration),
    /// The connection broke.
    #[error("Your server reset the connection while we were reading the reply")]
    Reset,
    /// The connection broke before the request was out.
    #[error("Your server reset the connection while we were sending the request")]
    Unsent,
    /// More bytes than allowed.
    #[error("the response body exceeds {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// HTTP status of the answer.
        status: u16,
    },
    /// Not decodable.
    #[error("the response has an unsupported or corrupt content encoding: {0}")]
    Encoding(String),
    /// Too many redirects, or one to nowhere.
    #[error("{0}")]
    Redirect(String),
    /// Not an address to be asked.
    #[error(
        "requests to {0} are not allowed: it has no public address, and none of the networks that the server's operator \
         allows ({code})",
        code = Code::AddressNotAllowed
    )]
    Forbidden(String),
    /// Not HTTP.
    #[error("the answer is not valid HTTP: {0}")]
    Protocol(String),
}

impl TransportError {
    /// Whether it says that nobody is there, or nobody who answers: not that the answer makes no sense.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        match self {
            Self::Refused(_)
            | Self::Dns(_)
            | Self::ConnectTimeout(..)
            | Self::Unreachable(..)
            | Self::Tls(..)
            | Self::Timeout(_)
            | Self::Reset
            | Self::Unsent => true,
            Self::TooLarge { .. } | Self::Encoding(_) | Self::Redirect(_) | Self::Forbidden(_) | Self::Protocol(_) => {
                false
            }
        }
    }
}

/// The client. Belongs to the thread that made it.
#[derive(Clone)]
pub struct Transport {
    client: awc::Client,
    connect_timeout: Duration,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

impl Transport {
    /// A client that connects within `connect_timeout` and has at most `connections` requests under way; further ones
    /// wait. It connects to whatever it is told to.
    #[must_use]
    pub fn new(connect_timeout: Duration, connections: usize) -> Self {
        Self::guarded(connect_timeout, connections, Guard::open())
    }

    /// The same, but it connects only where the guard permits it.
    #[must_use]
    pub fn guarded(connect_timeout: Duration, connections: usize, guard: Guard) -> Self {
        Self::with_resolver(connect_timeout, connections, guard, Rc::new(connect::System))
    }

    fn with_resolver(connect_timeout: Duration, connections: usize, guard: Guard, resolver: Rc<dyn Resolve>) -> Self {
        let connector = awc::Connector::new()
            .connector(connect::Watching { guard, resolver })
            .timeout(connect_timeout)
            .handshake_timeout(connect_timeout)
            .conn_keep_alive(IDLE)
            .limit(connections.max(1));
        let client = awc::Client::builder()
            .connector(connector)
            .max_http_version(Version::HTTP_11)
            .disable_timeout()
            .disable_redirects()
            .finish();
        Self {
            client,
            connect_timeout,
        }
    }

    /// Sends a request and reads the answer, following redirects. Dropping the future gives the request up.
    ///
    /// # Errors
    /// When there is no complete answer within the bounds; an HTTP error status is an answer.
    pub async fn exchange(&self, request: Outgoing, bounds: Bounds) -> Result<Incoming, TransportError> {
        self.exchange_aloud(request, bounds, &mut ()).await
    }

    /// The same, with somebody who hears the answer while it comes; it may break off.
    ///
    /// # Errors
    /// As [`Transport::exchange`].
    pub async fn exchange_aloud(
        &self,
        request: Outgoing,
        bounds: Bounds,
        tap: &mut dyn Tap,
    ) -> Result<Incoming, TransportError> {
        let followed = self.follow(request, bounds, tap);
        tokio::time::timeout(bounds.timeout, followed)
            .await
            .unwrap_or(Err(TransportError::Timeout(bounds.timeout)))
    }

    async fn follow(
        &self,
        mut request: Outgoing,
        bounds: Bounds,
        tap: &mut dyn Tap,
    ) -> Result<Incoming, TransportError> {
        for _ in 0..=REDIRECTS {
            let answer = self.deliver(&request, bounds, tap).await?;
            let Some(location) = location(answer.status, &answer.headers) else {
                return Ok(answer);
            };
            request = redirected(request, answer.status, location, bounds.redirects)?;
        }
        Err(TransportError::Redirect(format!(
            "more than {REDIRECTS} redirects in a row"
        )))
    }

    /// Sends a request, again where that can't be noticed, and reads the answer.
    async fn deliver(&self, request: &Outgoing, bounds: Bounds, tap: &mut dyn Tap) -> Result<Incoming, TransportError> {
        let mut tries = 1;
        loop {
            let watch = Rc::new(Watch::default());
            let outcome = WATCH
                .scope(Rc::clone(&watch), self.attempt(request, bounds, &watch, tap))
                .await;
            match outcome {
                Err(TransportError::Unsent) if !watch.is_fresh() && tries < CONNECTIONS => tries += 1,
                outcome => return outcome,
            }
        }
    }

    async fn attempt(
        &self,
        request: &Outgoing,
        bounds: Bounds,
        watch: &Watch,
        tap: &mut dyn Tap,
    ) -> Result<Incoming, TransportError> {
        let mut sending = self.client.request(request.method.clone(), request.url.as_str());
        for (name, value) in &request.headers {
            sending = sending.insert_header((name.as_str(), value.as_str()));
        }
        let sent = match &request.body {
            Some(body) => sending.send_body(body.clone()),
            None => sending.send(),
        };
        let mut response = sent.await.map_err(|error| self.explain(&request.url, error))?;
        // Whatever ended before now was another connection, or is an error already.
        watch.forget_end();
        let status = response.status().as_u16();
        check_encoding(response.headers())?;
        let too_large = TransportError::TooLarge {
            limit: bounds.body,
            status,
        };
        let announced = content_length(response.headers());
        if announced.is_some_and(|length| length > bounds.body as u64) {
            return Err(too_large);
        }
        let has_end = announced.is_some() || response.headers().contains_key(header::TRANSFER_ENCODING);
        let may_be_lost = matches!(status, 200..=203 | 206..=299) && request.method != Method::HEAD;
        if !has_end && may_be_lost && response.version() == Version::HTTP_11 {
            let problem = "it has neither a Content-Length nor chunks, so its body can't be read".to_owned();
            return Err(TransportError::Protocol(problem));
        }
        let is_answer = location(status, response.headers()).is_none();
        if is_answer {
            tap.begin(&request.url, response.headers());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.next().await {
            let chunk = chunk.map_err(explain_body)?;
            if body.len() + chunk.len() > bounds.body {
                return Err(too_large);
            }
            if is_answer {
                tap.more(&chunk);
            }
            body.extend_from_slice(&chunk);
        }
        if has_end && watch.has_ended() {
            return Err(TransportError::Reset);
        }
        Ok(Incoming {
            status,
            headers: response.headers().clone(),
            url: request.url.clone(),
            body: body.freeze(),
        })
    }

    fn explain(&self, url: &Url, error: SendRequestError) -> TransportError {
        let place = place(url);
        match error {
            SendRequestError::Connect(error) => match error {
                ConnectError::Disconnected => TransportError::Reset,
                ConnectError::Timeout => TransportError::ConnectTimeout(place, self.connect_timeout),
                ConnectError::Resolver(_) | ConnectError::NoRecords | ConnectError::Unresolved => {
                    TransportError::Dns(place)
                }
                ConnectError::Io(error) if connect::is_refused(&error) => TransportError::Forbidden(place),
                ConnectError::Io(error) => match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => TransportError::Refused(place),
                    std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => {
                        TransportError::Tls(place, error.to_string())
                    }
                    _ if url.scheme() == "https" && error.kind() == std::io::ErrorKind::UnexpectedEof => {
                        TransportError::Tls(place, error.to_string())
                    }
                    _ => TransportError::Unreachable(place, error.to_string()),
                },
                other => TransportError::Unreachable(place, other.to_string()),
            },
            SendRequestError::Send(_) => TransportError::Unsent,
            SendRequestError::Response(awc_parse) => explain_head(&awc_parse),
            SendRequestError::Timeout => TransportError::Timeout(self.connect_timeout),
            other => TransportError::Protocol(other.to_string()),
        }
    }
}

fn explain_head(error: &actix_http::error::ParseError) -> TransportError {
    match error {
        actix_http::error::ParseError::Io(_) => TransportError::Reset,
        other => TransportError::Protocol(other.to_string()),
    }
}

fn explain_body(error: PayloadError) -> TransportError {
    match error {
        PayloadError::EncodingCorrupted => TransportError::Encoding("corrupt data".to_owned()),
        // The decoders report corrupt data as I/O.
        PayloadError::Io(error) | PayloadError::Incomplete(Some(error)) => match error.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => {
                TransportError::Encoding(error.to_string())
            }
            _ => TransportError::Reset,
        },
        _ => TransportError::Reset,
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), TransportError> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(());
    };
    let encoding = value.to_str().unwrap_or("?").trim().to_ascii_lowercase();
    match encoding.as_str() {
        "" | "identity" | "gzip" | "deflate" | "br" => Ok(()),
        _ => Err(TransportError::Encoding(encoding)),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Where an answer redirects to, if it does.
fn location(status: u16, headers: &HeaderMap) -> Option<&str> {
    let is_redirect = matches!(status, 301 | 302 | 303 | 307 | 308);
    let location = headers.get(header::LOCATION).filter(|_| is_redirect)?;
    location.to_str().ok()
}

/// Scheme, host and port: what may be printed of a URL.
#[must_use]
pub fn place(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{}://{host}:{port}", url.scheme()),
        (Some(host), None) => format!("{}://{host}", url.scheme()),
        (None, _) => url.scheme().to_owned(),
    }
}

/// The request that a redirect asks for.
fn redirected(
    mut request: Outgoing,
    status: u16,
    location: &str,
    redirects: Redirects,
) -> Result<Outgoing, TransportError> {
    let wrong = |what: &str| TransportError::Redirect(format!("redirected to `{location}`, {what}"));
    let mut next = request.url.join(location).map_err(|_| wrong("which is no URL"))?;
    if !matches!(next.scheme(), "http" | "https") || next.host_str().is_none() {
        return Err(wrong("which is no address on the web"));
    }
    match redirects {
        Redirects::Repeat => {
            if next.query().is_none() {
                next.set_query(request.url.query());
            }
        }
        Redirects::Browser => {
            if status == 303 || (matches!(status, 301 | 302) && request.method == Method::POST) {
                if request.method != Method::HEAD {
                    request.method = Method::GET;
                }
                request.body = None;
                request
                    .headers
                    .retain(|(name, _)| !name.to_ascii_lowercase().starts_with("content-"));
            }
        }
    }
    if !may_know_us(&request.url, &next) {
        request.headers.retain(|(name, _)| !is_credential(name));
    }
    request.url = next;
    Ok(request)
}

/// Whether what proves who we are may go to the next place too: the same host, unless encryption ends.
fn may_know_us(from: &Url, to: &Url) -> bool {
    let upgraded = from.scheme() == "http" && to.scheme() == "https";
    let same_port = from.port_or_known_default() == to.port_or_known_default();
    from.host_str() == to.host_str() && (upgraded || (from.scheme() == to.scheme() && same_port))
}

fn is_credential(name: &str) -> bool {
    const NAMES: [&str; 5] = [
        headers::SIGNATURE,
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-api-key",
    ];
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests;
