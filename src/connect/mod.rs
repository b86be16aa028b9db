//! Connect: workers that open a WebSocket to us, and are called over it.
//!
//! ```text
//!   worker ── POST /v0/connect/start ──► where to, and with which token
//!          ── WebSocket /v0/connect ───► [`socket`]: a task for each connection
//!                                          │ what it hears          ▲ orders
//!                                          ▼                        │
//!                                 callboard_actors::workers ────────┘
//!                                          ▲
//!   executor ──► [`invoker`] ── a call ────┘         an answer that found no connection: POST /v0/connect/flush
//! ```
//!
//! | part | what it is |
//! |---|---|
//! | [`wire`] | the protocol's messages, by hand; unknown fields are passed over |
//! | [`token`] | what a worker gets at the start and shows when it connects |
//! | [`handshake`] | what a worker says first: a worker with its apps, or a reason to close. Pure |
//! | [`hearing`] | what it says after that. Pure |
//! | [`socket`] | the task of a connection: reads, writes, watches the heartbeat |
//! | [`relay`] | what instances tell each other of workers |
//! | [`places`] | how much a worker is given by all instances together |
//! | [`ledger`] | writes down who is connected, and who was |
//! | [`invoker`] | calls apps over HTTP or over connections, by the function's URL |
//!
//! Which worker gets a call, by which lease it is at work, and what becomes of calls nobody can take is decided in
//! `callboard_actors::workers`; its page says how work waits. A connection belongs to the HTTP server's thread and is no
//! child of the supervisor: a task that panics closes one connection, as a network would. The supervisor's part is the
//! `gateway`, which begins the end of all of them.
//!
//! Apps that connect are registered like those that are called by URL, through the same reader, with a `ws:` URL of their
//! own: that is how everybody knows that nobody is to be asked at it. A group of workers (same app, same functions, same
//! version) registers once, so a worker of an older version that connects again does not bring its version back.
//!
//! Promises: whatever bytes a worker sends, its own connection is closed with the protocol's code and reason at the worst, and
//! nobody else's is touched; an answer is acknowledged however late it comes, or workers would send it for ever. Frames
//! are not compressed. Never: a decision about a run.

mod handshake;
mod hearing;
mod invoker;
pub(crate) mod ledger;
pub(crate) mod places;
pub(crate) mod relay;
mod socket;
#[cfg(test)]
pub(crate) mod testing;
mod token;
mod wire;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use callboard_actors::domain::Timestamp;
use callboard_actors::workers::{RequestId, Workers};
use prost::Message as _;

use crate::sdk::signing::Keys;
pub use invoker::{ConnectedInvoker, ConnectedInvokerFactory};
pub(crate) use socket::{MESSAGE_BYTES, Opened, Registrar, serve};
pub use token::Tokens;

/// The WebSocket sub-protocol.
pub const PROTOCOL: &str = "v0.connect.inngest.com";
/// What the one group of gateways that there is is called.
const GATEWAY_GROUP: &str = "gw-dev";
/// Apps that one connection may have.
const APPS: usize = 100;
/// Groups of workers that are remembered as registered.
const GROUPS: usize = 4_096;

/// What connections share.
#[derive(Debug, Clone)]
pub struct Gateway {
    workers: Workers,
    tokens: Tokens,
    registered: Arc<Mutex<HashSet<String>>>,
}

/// Why what a worker sent by HTTP is no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body is not the message it should be: {0}")]
pub struct Malformed(String);

impl Gateway {
    /// For these workers. Tokens are signed with a key that all instances with these signing keys have.
    #[must_use]
    pub fn new(workers: Workers, keys: Option<&Keys>) -> Self {
        Self {
            workers,
            tokens: Tokens::new(keys),
            registered: Arc::default(),
        }
    }

    /// The workers that are connected.
    #[must_use]
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// The answer to a worker that wants to connect to the gateway at `endpoint`. `connection` is a fresh id, `bearer` what
    /// it has shown.
    ///
    /// # Errors
    /// When the body is not the message it should be.
    pub fn start(
        &self,
        body: &[u8],
        endpoint: String,
        connection: String,
        bearer: &str,
        now: Timestamp,
    ) -> Result<Vec<u8>, Malformed> {
        wire::StartRequest::decode(body).map_err(|error| Malformed(error.to_string()))?;
        let answer = wire::StartResponse {
            session_token: self.tokens.issue(&connection, now),
            connection_id: connection,
            gateway_endpoint: endpoint,
            gateway_group: GATEWAY_GROUP.to_owned(),
            sync_token: bearer.to_owned(),
        };
        Ok(answer.encode_to_vec())
    }

    /// Takes an answer that found no connection; answers what tells the worker so.
    ///
    /// # Errors
    /// When the body is not the message it should be.
    pub fn flush(&self, body: &[u8]) -> Result<Vec<u8>, Malformed> {
        if body.is_empty() {
            return Err(Malformed("it is empty".to_owned()));
        }
        let answer = wire::SdkResponse::decode(body).map_err(|error| Malformed(error.to_string()))?;
        // What is not ours is acknowledged all the same: nobody can do anything about it.
        if let Ok(id) = answer.request_id.parse::<RequestId>() {
            self.workers.answer(id, body.to_vec());
        }
        let acknowledged = wire::FlushResponse {
            request_id: answer.request_id,
        };
        Ok(acknowledged.encode_to_vec())
    }

    /// Whether this group of workers has registered.
    fn is_registered(&self, hash: &str) -> bool {
        self.groups().contains(hash)
    }

    fn note_registered(&self, hash: String) {
        let mut groups = self.groups();
        // Forgetting all costs a registration each that changes nothing.
        if groups.len() >= GROUPS {
            groups.clear();
        }
        groups.insert(hash);
    }

    fn groups(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A duration as workers read it: whole seconds, at least one.
fn in_seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs().max(1))
}
