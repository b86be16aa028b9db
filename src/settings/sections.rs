//! The sections of the settings, as the rest of the program sees them: checked, and in its own types. What they mean to an
//! operator, their units and ranges are in `config/default.toml`.

use std::path::PathBuf;
use std::time::Duration;

use callboard_actors::scheduler::catch_up::CatchUp;
use secrecy::SecretString;

use super::SecretUrl;
use crate::sdk::transport::guard::Network;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// An IP address, or `localhost`.
    pub addr: String,
    /// 0 for a free one.
    pub port: u16,
    /// Whether GraphQL is served.
    pub graphql: bool,
    /// Whether a server of developers has what only tests need.
    pub testing: bool,
}

/// Where data is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSettings {
    /// The directory.
    pub dir: PathBuf,
}

/// PostgreSQL. There is a URL here if and only if there is one in [`RedisSettings`].
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `None` for the database in the data directory.
    pub url: Option<SecretUrl>,
    /// Of this process, at most.
    pub max_connections: u32,
    /// Whether each transaction may be on another connection.
    pub pooler: bool,
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// For one answer, 1 s to 10 min.
    pub statement_timeout: Duration,
}

/// Redis or Valkey.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `None` for the queue in this process.
    pub url: Option<SecretUrl>,
    /// What all keys begin with.
    pub prefix: String,
    /// How long an instance may be silent until it counts as gone, 3 s to 15 s.
    pub session_ttl: Duration,
}

/// This instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// Its name, for people; need not be unique.
    pub name: String,
}

/// Workers that connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectSettings {
    /// Where they connect, beside the API's own port.
    pub port: GatewayPort,
    /// What they are told in its place; `None` for what follows from how they have reached us.
    pub url: Option<String>,
    /// How often they say that they live, whole seconds.
    pub heartbeat: Duration,
    /// How long one that is silent counts as at work.
    pub lease: Duration,
}

/// A port for workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayPort {
    /// The one after the API's, if that is a fixed one and it is free.
    Next,
    /// This one.
    Fixed(u16),
    /// None of its own.
    None,
}

/// Dealing with apps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdkSettings {
    /// Apps to sync at the start.
    pub urls: Vec<String>,
    /// Whether to look for apps.
    pub discovery: bool,
    /// Between polls; `None` for never.
    pub poll_interval: Option<Duration>,
    /// Of functions registered without one.
    pub default_app_url: String,
    /// For one call, 1 s to 2 h.
    pub call_timeout: Duration,
}

/// Requests that are made for functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSettings {
    /// Whether only public addresses are asked, and those of `allow`.
    pub guard: bool,
    /// Networks.
    pub allow: Vec<Network>,
}

/// Secrets.
#[derive(Debug, Clone)]
pub struct KeySettings {
    /// Signs calls and guards the API.
    pub signing: Option<SecretString>,
    /// Signing keys that count beside it; none without it.
    pub signing_fallbacks: Vec<SecretString>,
    /// What events may be sent with; any key if empty.
    pub event: Vec<SecretString>,
    /// What the API may be used with beside the signing key.
    pub api: Vec<SecretString>,
}

/// Retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySettings {
    /// Fixed, at least 1 s; `None` for growing ones.
    pub interval: Option<Duration>,
}

/// Waits for events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitSettings {
    /// How long before its wait an event may have come, 1 s to 1 h; `None` for not at all.
    pub look_back: Option<Duration>,
}

/// Circuit breakers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Whether there are any.
    pub enabled: bool,
    /// Names of apps that have none.
    pub except: Vec<String>,
    /// Over which failures are counted, 1 s to 1 h.
    pub window: Duration,
    /// With fewer calls than that in the window none opens.
    pub min_calls: u32,
    /// Percent of failures at which one opens, 1 to 100.
    pub failure_rate: u32,
    /// For how long one opens at first, 1 s to 1 h.
    pub open: Duration,
    /// For how long one opens at the most; not less than `open`.
    pub open_cap: Duration,
}

/// The log's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A level or a filter.
    pub level: String,
    /// Its form.
    pub format: LogFormat,
}

/// What is told to others of what the server does.
#[derive(Debug, Clone)]
pub struct TelemetrySettings {
    /// A collector of traces; `None` for nobody.
    pub otlp: Option<OtlpSettings>,
}

/// A collector of traces.
#[derive(Debug, Clone)]
pub struct OtlpSettings {
    /// Where traces go, the path included.
    pub url: SecretUrl,
    /// As JSON, rather than protobuf.
    pub is_json: bool,
    /// Headers of each request.
    pub headers: Vec<(String, SecretString)>,
    /// Of a million runs, how many are told of.
    pub per_million: u32,
    /// What the server calls itself.
    pub service: String,
}

/// What may be under way at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSettings {
    /// Events on their way in.
    pub intake_events: usize,
    /// Bytes on their way in.
    pub intake_bytes: usize,
    /// Bytes of one request.
    pub request_bytes: usize,
    /// Calls to apps.
    pub calls: usize,
    /// Calls to apps for one function.
    pub calls_per_function: usize,
}

/// The embedded queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    /// How far ahead timers are kept in memory.
    pub horizon: Duration,
    /// Jobs kept in memory.
    pub capacity: usize,
}

/// Crons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CronSettings {
    /// What to do about times that were missed.
    pub catch_up: CatchUp,
}

/// Restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SupervisionSettings {
    /// The first wait.
    pub backoff_base: Duration,
    /// From one wait to the next, 1 to 10.
    pub backoff_factor: u32,
    /// The longest wait.
    pub backoff_cap: Duration,
    /// Restarts within the window.
    pub max_restarts: u32,
    /// The window.
    pub window: Duration,
}

/// How long what is over is kept; `None` for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionSettings {
    /// Runs that completed or were cancelled.
    pub finished_runs: Option<Duration>,
    /// Runs that failed.
    pub failed_runs: Option<Duration>,
    /// Events.
    pub events: Option<Duration>,
}

/// Stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownSettings {
    /// For calls under way.
    pub grace: Duration,
}
