//! Settings: what an operator may change, from where it may come, and what it may be.
//!
//! Layers: `config/default.toml` (compiled in; it also says which keys there are), an optional file, the environment,
//! flags. All problems are reported together. Secrets never print.

mod layers;
mod reader;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use crate::error::{Code, Problem};
pub(crate) use layers::FILE_VARIABLE;
use layers::Layers;
pub use layers::{Effective, Origin};
use reader::Reader;

/// What `config/default.toml` says.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Keys whose values never print.
pub(crate) const SECRETS: &[&str] = &["keys.signing", "keys.event"];

/// Everything an operator may change.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen.
    pub api: ApiSettings,
    /// Where data is kept.
    pub data: DataSettings,
    /// Dealing with apps.
    pub sdk: SdkSettings,
    /// Secrets.
    pub keys: KeySettings,
    /// Retries.
    pub retry: RetrySettings,
    /// The log.
    pub log: LogSettings,
    /// What may be under way at one time.
    pub limits: LimitSettings,
    /// The embedded queue.
    pub queue: QueueSettings,
    /// Restarts.
    pub supervision: SupervisionSettings,
    /// How long what is over is kept.
    pub retention: RetentionSettings,
    /// Stopping.
    pub shutdown: ShutdownSettings,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// An IP address, or `localhost`.
    pub addr: String,
    /// 0 for a free one.
    pub port: u16,
}

/// Where data is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSettings {
    /// The directory.
    pub dir: PathBuf,
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

/// Secrets.
#[derive(Debug, Clone)]
pub struct KeySettings {
    /// Signs calls and guards the API.
    pub signing: Option<SecretString>,
    /// What events may be sent with; any key if empty.
    pub event: Vec<SecretString>,
}

/// Retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySettings {
    /// Fixed, at least 1 s; `None` for growing ones.
    pub interval: Option<Duration>,
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

/// A flag that was given.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The flag, such as `--port`.
    pub name: &'static str,
    /// The key it sets.
    pub key: &'static str,
    /// The values; one but for lists.
    pub values: Vec<String>,
}

/// Settings, and where each came from.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Each key with its value and origin, by key; secrets masked.
    pub effective: Vec<Effective>,
}

/// Loads the settings.
///
/// `environment` is that of the process; variables that are not ours are ignored.
///
/// # Errors
/// [`Code::UnreadableSettings`] for a file that can't be read, [`Code::InvalidSettings`] with all other problems together,
/// each on a line and in `details`.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[Flag],
) -> Result<Loaded, Problem> {
    let mut problems = Vec::new();
    let mut layers = Layers::defaults();
    if let Some(file) = file {
        layers.add_file(file, &mut problems)?;
    }
    layers.add_environment(environment, &mut problems);
    layers.add_flags(flags);
    let mut reader = Reader::new(&layers, &mut problems);
    let settings = read(&mut reader);
    if problems.is_empty() {
        Ok(Loaded {
            settings,
            effective: layers.effective(),
        })
    } else {
        let message = format!("the settings are invalid:\n  - {}", problems.join("\n  - "));
        Err(Problem::new(Code::InvalidSettings, message).with(problems))
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CENTURY: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

fn read(from: &mut Reader<'_>) -> Settings {
    let settings = Settings {
        api: ApiSettings {
            addr: from.address("api.addr"),
            port: from.integer("api.port", 0, u16::MAX.into()),
        },
        data: DataSettings {
            dir: PathBuf::from(from.text("data.dir")),
        },
        sdk: SdkSettings {
            urls: from.urls("sdk.urls"),
            discovery: from.boolean("sdk.discovery"),
            poll_interval: from.optional_duration("sdk.poll_interval", SECOND, DAY),
            default_app_url: from.url("sdk.default_app_url"),
            call_timeout: from.duration("sdk.call_timeout", SECOND, 2 * HOUR),
        },
        keys: KeySettings {
            signing: from.signing_key("keys.signing"),
            event: from.secrets("keys.event"),
        },
        retry: RetrySettings {
            interval: from.optional_duration("retry.interval", SECOND, DAY),
        },
        log: LogSettings {
            level: from.log_filter("log.level"),
            format: from.choice(
                "log.format",
                &[
                    ("auto", LogFormat::Auto),
                    ("human", LogFormat::Human),
                    ("json", LogFormat::Json),
                ],
            ),
        },
        limits: LimitSettings {
            intake_events: from.integer("limits.intake_events", 1, 1_000_000),
            intake_bytes: from.integer("limits.intake_bytes", 65_536, 1 << 40),
            request_bytes: from.integer("limits.request_bytes", 65_536, 268_435_456),
            calls: from.integer("limits.calls", 1, 100_000),
            calls_per_function: from.integer("limits.calls_per_function", 1, 100_000),
        },
        queue: QueueSettings {
            horizon: from.duration("queue.horizon", SECOND, HOUR),
            capacity: from.integer("queue.capacity", 100, 10_000_000),
        },
        supervision: SupervisionSettings {
            backoff_base: from.duration("supervision.backoff_base", MILLISECOND, MINUTE),
            backoff_factor: from.integer("supervision.backoff_factor", 1, 10),
            backoff_cap: from.duration("supervision.backoff_cap", MILLISECOND, HOUR),
            max_restarts: from.integer("supervision.max_restarts", 1, 1_000),
            window: from.duration("supervision.window", SECOND, HOUR),
        },
        retention: RetentionSettings {
            finished_runs: from.optional_duration("retention.finished_runs", MINUTE, CENTURY),
            failed_runs: from.optional_duration("retention.failed_runs", MINUTE, CENTURY),
            events: from.optional_duration("retention.events", MINUTE, CENTURY),
        },
        shutdown: ShutdownSettings {
            grace: from.duration("shutdown.grace", Duration::ZERO, HOUR),
        },
    };
    from.require(
        "limits.intake_bytes",
        settings.limits.intake_bytes >= settings.limits.request_bytes,
        "at least `limits.request_bytes`",
    );
    from.require(
        "supervision.backoff_cap",
        settings.supervision.backoff_cap >= settings.supervision.backoff_base,
        "at least `supervision.backoff_base`",
    );
    settings
}
