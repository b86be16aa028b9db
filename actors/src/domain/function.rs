//! A function as it is registered, with everything its configuration asks for.
//!
//! Built by the registration parser, which reports every problem at once; a value of these types has passed it. What a
//! later version of the engine will act on is kept here already, so that nothing has to be registered again.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{FunctionId, Json, Timestamp, Trigger, limits};

/// A registered function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Function {
    /// Stable identity.
    pub id: FunctionId,
    /// The composite id on the wire, `<app>-<function>` by custom; opaque.
    pub slug: Arc<str>,
    /// The name of the app it belongs to.
    pub app: Arc<str>,
    /// For people.
    pub name: String,
    /// 1 at first, one more with every sync that changed its app.
    pub version: u32,
    /// Where it is called, with its query parameters. `ws:` and `wss:` name a worker connection.
    pub url: String,
    /// What starts it; empty for functions that are only invoked.
    pub triggers: Vec<Trigger>,
    /// Retries after the first attempt of each step and of the function body, at most [`limits::MAX_RETRIES`].
    pub retries: u32,
    /// When and how often it may run.
    pub flow: FlowControl,
    /// The configuration as it was received, for `GET /dev` and for people.
    pub config: Json,
    /// Set if it is a durable endpoint: called as the request that began its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Whether a later sync left it out. Its open runs go on; events no longer start it.
    pub archived: bool,
    /// What an operator lets it do. Syncs don't change it: it is filled in when the function is read.
    #[serde(skip)]
    pub mode: FunctionMode,
    /// What a run of it may grow to. Neither registered nor stored.
    #[serde(skip)]
    pub caps: Caps,
}

/// What a run may grow to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Steps; the run fails rather than have its app called once it has so many.
    pub steps: usize,
    /// Bytes of all step outputs.
    pub state_bytes: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            steps: limits::STEPS_PER_RUN,
            state_bytes: limits::RUN_STATE_BYTES,
        }
    }
}

/// One of the [`Caps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cap {
    /// [`Caps::steps`].
    Steps,
    /// [`Caps::state_bytes`].
    StateBytes,
}

/// A durable endpoint: a handler of HTTP requests that runs as a function. The app begins its runs by itself, and tells
/// the server of each; the request is in the run's event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Whether the bodies of requests come in base64.
    pub has_encoded_bodies: bool,
}

/// What an operator lets a function do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FunctionMode {
    /// Everything.
    #[default]
    Active,
    /// Nothing: triggers start no run, and the app is not called. What comes to its runs meanwhile (events they wait for,
    /// the ends of sleeps, cancellations, deadlines) counts.
    Paused {
        /// Since when.
        since: Timestamp,
    },
    /// To bring its runs to their ends: nothing starts a new one.
    Draining {
        /// Since when.
        since: Timestamp,
    },
}

impl FunctionMode {
    /// Its name, as stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused { .. } => "paused",
            Self::Draining { .. } => "draining",
        }
    }

    /// Since when, unless it is [`Self::Active`].
    #[must_use]
    pub const fn since(self) -> Option<Timestamp> {
        match self {
            Self::Active => None,
            Self::Paused { since } | Self::Draining { since } => Some(since),
        }
    }

    /// From what is stored.
    #[must_use]
    pub fn parse(name: &str, since: Option<Timestamp>) -> Option<Self> {
        match (name, since) {
            ("active", None) => Some(Self::Active),
            ("paused", Some(since)) => Some(Self::Paused { since }),
            ("draining", Some(since)) => Some(Self::Draining { since }),
            _ => None,
        }
    }

    /// Whether the app is not to be called.
    #[must_use]
    pub const fn is_paused(self) -> bool {
        matches!(self, Self::Paused { .. })
    }
}

impl Function {
    /// Attempts, the first one included.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.retries.min(limits::MAX_RETRIES) + 1
    }

    /// Whether it is called over connections that its app's workers hold, rather than at a URL.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        is_connection(&self.url)
    }
}

/// Whether a URL names connections of workers rather than a place to call.
#[must_use]
pub fn is_connection(url: &str) -> bool {
    url.starts_with("ws:") || url.starts_with("wss:")
}

/// An app: one SDK client at one URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// Its identity.
    pub name: Arc<str>,
    /// Where it serves its functions, `ws:` for an app whose workers connect; empty once it has been removed.
    pub url: String,
    /// Such as `js:v4.18.1`; empty when the functions were registered by hand.
    pub sdk: String,
    /// Such as `express`.
    pub framework: Option<String>,
    /// The app's own version label.
    pub version: Option<String>,
    /// SHA-256 of the last registration, to see whether the next one changes anything.
    pub checksum: String,
    /// Why the last sync that we asked for failed.
    pub error: Option<String>,
    /// When it last registered successfully.
    pub synced_at: Timestamp,
}

/// What a function asks of the scheduler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowControl {
    /// Limits on calls in flight, at most two, the smallest first.
    pub concurrency: Vec<ConcurrencyLimit>,
    /// A limit on open runs.
    pub run_concurrency: Option<ConcurrencyLimit>,
    /// Delays starts.
    pub throttle: Option<Throttle>,
    /// Drops starts. `idempotency` of the configuration arrives here as one per key and day.
    pub rate_limit: Option<RateLimit>,
    /// Starts once, after a quiet period.
    pub debounce: Option<Debounce>,
    /// Starts once for many events.
    pub batch: Option<Batch>,
    /// An expression for a head start in seconds.
    pub priority: Option<String>,
    /// One run at a time.
    pub singleton: Option<Singleton>,
    /// Events that cancel its runs.
    pub cancel: Vec<CancelRule>,
    /// Deadlines of its runs.
    pub timeouts: Timeouts,
}

/// At most `limit` at a time, for each value of `key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConcurrencyLimit {
    /// 0 means no limit of its own.
    pub limit: u32,
    /// An expression over `event`.
    pub key: Option<String>,
    /// Who shares the limit.
    pub scope: Scope,
}

/// Who shares a concurrency limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The function alone.
    #[default]
    Fn,
    /// All functions of the environment that use the same key.
    Env,
    /// All functions of the account that use the same key.
    Account,
}

/// `limit` starts per `period`, the rest later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// At least 1.
    pub limit: u32,
    /// At least a second.
    pub period: Duration,
    /// Starts allowed on top at once.
    pub burst: u32,
    /// An expression over `event`.
    pub key: Option<String>,
}

/// `limit` starts per `period`, the rest never.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// At least 1.
    pub limit: u32,
    /// At most a day.
    pub period: Duration,
    /// An expression over `event`.
    pub key: Option<String>,
    /// Whether it is the function's `idempotency` in another form.
    #[serde(default)]
    pub idempotency: bool,
}

/// One start for a burst of events, with the last of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debounce {
    /// 1 s to 7 d.
    pub period: Duration,
    /// An expression over `event`.
    pub key: Option<String>,
    /// The longest a burst may hold a start back.
    pub timeout: Option<Duration>,
}

/// One start for up to `max_size` events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// At least 2.
    pub max_size: u32,
    /// At least a second.
    pub timeout: Duration,
    /// An expression over `event`.
    pub key: Option<String>,
    /// Events for which this is false run alone.
    pub condition: Option<String>,
}

/// One run at a time, for each value of `key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Singleton {
    /// Who gives way.
    pub mode: SingletonMode,
    /// An expression over `event`.
    pub key: Option<String>,
}

/// Who gives way to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SingletonMode {
    /// The new run is not started.
    Skip,
    /// The old run is cancelled.
    Cancel,
}

/// An event that cancels open runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRule {
    /// Its exact name.
    pub event: String,
    /// A condition over `event` (the run's) and `async` (the cancelling one).
    pub condition: Option<String>,
    /// How long after its start a run can be cancelled so: a duration or a date.
    pub timeout: Option<String>,
}

/// Deadlines of a run; it is cancelled when it misses one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// From its creation to its first call.
    pub start: Option<Duration>,
    /// From its first call to its end.
    pub finish: Option<Duration>,
}
