//! Realtime: what is published on a topic of a channel reaches whoever is subscribed to it at that moment.
//!
//! ```text
//!   publisher ── POST /v1/realtime/publish ─────► [`message`], or a [`stream`] of them ─┐
//!   app ──────── POST /v1/realtime/publish/tee ─► bytes as they are ────────────────────┤
//!   step.fetch, step.ai.infer that publish ─────► a stream ─────────────────────────────┤
//!                                                                                       ▼
//!   other instances ◄──────── [`carrier`], [`relay`] ◄───────────────────────── [`Broadcaster`]
//!                                    │                                                  ▲ │
//!                                    └──────────────────────────────────────────────────┘ ▼
//!   subscriber ◄─ WebSocket /v1/realtime/connect ([`socket`]) ◄───────────────── [`Subscription`]
//!              ◄─ SSE /v1/realtime/sse ([`sse`]) ◄──────────────────────────────────────┘
//! ```
//!
//! | part | what it is |
//! |---|---|
//! | [`grant`] | what a token allows: the topics to read, and whether to publish. Pure |
//! | [`message`] | what subscribers read. Pure |
//! | [`stream`] | a text that is told piece by piece while it comes |
//! | [`broadcaster`] | who is subscribed to what in this process, and what waits for them |
//! | [`carrier`] | what takes messages to other processes; here: nothing |
//! | [`relay`] | the same between instances: pub/sub of Redis |
//! | [`socket`], [`sse`] | a subscriber's connection |
//!
//! Nothing is kept: a message that nobody is subscribed to is gone, and nobody can ask for it later. Runs don't depend on
//! any of it.
//!
//! Promises: a subscriber reads what its token names and nothing else, in the order of each publisher, from the moment its
//! connection is answered. A publisher waits for nobody: a subscriber that does not keep up is disconnected, so it knows
//! that it has missed something. What waits is bounded (P6). Who publishes or subscribes costs something, nobody else does
//! (P7). Without Redis, messages between instances are lost for as long as it is away.
//!
//! Never: a store, a queue, a decision about a run.

mod broadcaster;
mod carrier;
mod grant;
mod message;
mod relay;
mod socket;
mod sse;
mod stream;
mod subscription;

use std::sync::Arc;

pub use broadcaster::{Broadcaster, Counts};
pub(crate) use broadcaster::{OF_SUBSCRIBER, Refused};
pub(crate) use grant::{Grant, read_topics};
pub(crate) use message::{About, data, one_line};
pub(crate) use relay::{Relay, Work, run as relay};
pub(crate) use socket::{Connection, SAID_BYTES, serve};
pub(crate) use sse::{Pace, events};
pub(crate) use stream::Datastream;
pub(crate) use subscription::Frame;

/// The topic on which the bytes of a run's own stream are told; its channel is the run's id.
pub(crate) const STREAM: &str = "$stream";
/// Bytes of a message, before it is wrapped.
pub(crate) const MESSAGE_BYTES: usize = 512 * 1024;
/// Bytes of a stream.
pub(crate) const STREAM_BYTES: usize = 1_024_000;

/// What is published on, and subscribed to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Topic {
    /// Any text.
    pub(crate) channel: Arc<str>,
    /// Any text; unique in its channel.
    pub(crate) name: Arc<str>,
}

impl Topic {
    pub(crate) fn new(channel: &str, name: &str) -> Self {
        Self {
            channel: channel.into(),
            name: name.into(),
        }
    }
}
