//! What is known of a worker's connection, while it lasts and after it has ended.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// How a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionStatus {
    /// Its worker is not ready yet.
    Connected,
    /// Its worker takes requests.
    Ready,
    /// Its worker takes no more, and ends what it has begun.
    Draining,
    /// It has ended.
    Disconnected,
}

impl ConnectionStatus {
    /// Its name for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Disconnected => "disconnected",
        }
    }
}

/// An app of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectedApp {
    /// Its name.
    pub name: String,
    /// Its own version label.
    pub version: Option<String>,
    /// The same for all workers with the same functions in the same version.
    pub group: String,
    /// How many functions it has.
    pub functions: usize,
}

/// A connection of a worker to an instance of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Another one for each connection; sorts by when it was asked for.
    pub id: String,
    /// The instance of the server that has or had it.
    pub node: String,
    /// Which process the worker is, by its own account.
    pub instance: String,
    /// How it is, or was when it was written down.
    pub status: ConnectionStatus,
    /// What the worker has.
    pub apps: Vec<ConnectedApp>,
    /// Requests that the worker takes at one time; `None` for any number.
    pub room: Option<usize>,
    /// Requests that it is at work on.
    pub in_hand: usize,
    /// Such as `typescript`.
    pub sdk_language: String,
    /// Such as `v4.18.1`.
    pub sdk_version: String,
    /// Where the worker runs, if it knows.
    pub platform: Option<String>,
    /// Such as `linux`.
    pub os: String,
    /// Of its machine.
    pub cpu_cores: i32,
    /// Of its machine, in bytes.
    pub memory: i64,
    /// Where it comes from.
    pub address: String,
    /// When it began.
    pub connected_at: Timestamp,
    /// The worker's last sign of life.
    pub heard_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why: one of the protocol's words for it.
    pub end_reason: Option<String>,
}

impl Connection {
    /// Why a connection ends of which nobody has said so.
    pub const UNEXPECTED: &'static str = "UNEXPECTED";

    /// The same after it has ended.
    #[must_use]
    pub fn ended(self, at: Timestamp, reason: &str) -> Self {
        Self {
            status: ConnectionStatus::Disconnected,
            in_hand: 0,
            ended_at: Some(at),
            end_reason: Some(reason.to_owned()),
            ..self
        }
    }
}
