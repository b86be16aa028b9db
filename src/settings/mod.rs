//! Settings: what an operator may change, from where it may come, and what it may be.
//!
//! Layers: `config/default.toml` (compiled in; it also says which keys there are), the defaults of the [`Mode`], an
//! optional file, the environment, flags. All problems are reported together. Secrets never print.

mod inherited;
mod layers;
mod reader;
mod reference;
mod secret_url;
mod sections;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use callboard_actors::scheduler::catch_up::{CatchUp, Policy};

use crate::error::{Code, Problem};
use layers::Layers;
pub use layers::{Effective, Origin};
pub(crate) use layers::{FILE_VARIABLE, INHERITED_FILE_VARIABLE};
use reader::Reader;
pub use reference::page;
pub use secret_url::SecretUrl;
pub use sections::*;

/// What `config/default.toml` says.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// What `config/start.toml` says: the defaults of [`Mode::Start`], where they differ.
pub const START_DEFAULTS: &str = include_str!("../../config/start.toml");

/// Keys whose values never print.
pub(crate) const SECRETS: &[&str] = &[
    "keys.signing",
    "keys.signing_fallbacks",
    "keys.event",
    "keys.api",
    "telemetry.otlp.headers",
];

/// What a server is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// A developer's machine: no keys needed, apps are looked for.
    #[default]
    Dev,
    /// Production: keys are required, and apps are told of.
    Start,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dev => "dev",
            Self::Start => "start",
        })
    }
}

/// Everything an operator may change.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the server is for. Not a setting: the command says it.
    pub mode: Mode,
    /// Where to listen.
    pub api: ApiSettings,
    /// Where data is kept.
    pub data: DataSettings,
    /// What several instances share.
    pub database: DatabaseSettings,
    /// What several instances share their work by.
    pub redis: RedisSettings,
    /// This instance.
    pub node: NodeSettings,
    /// Dealing with apps.
    pub sdk: SdkSettings,
    /// Workers that connect.
    pub connect: ConnectSettings,
    /// Requests that are made for functions.
    pub fetch: FetchSettings,
    /// Secrets.
    pub keys: KeySettings,
    /// Retries.
    pub retry: RetrySettings,
    /// Waits for events.
    pub waits: WaitSettings,
    /// Circuit breakers.
    pub breaker: BreakerSettings,
    /// The log.
    pub log: LogSettings,
    /// What is told to others of what the server does.
    pub telemetry: TelemetrySettings,
    /// What may be under way at one time.
    pub limits: LimitSettings,
    /// The embedded queue.
    pub queue: QueueSettings,
    /// Crons.
    pub cron: CronSettings,
    /// Restarts.
    pub supervision: SupervisionSettings,
    /// How long what is over is kept.
    pub retention: RetentionSettings,
    /// Stopping.
    pub shutdown: ShutdownSettings,
}

/// A flag that was given.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The flag, such as `--port`.
    pub name: &'static str,
    /// The key it sets; empty for a flag of the original server that sets none.
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
    /// What was given and is ignored, and why. For the log.
    pub warnings: Vec<String>,
}

/// Loads the settings.
///
/// `environment` is that of the process; variables that are not ours are ignored.
///
/// # Errors
/// [`Code::UnreadableSettings`] for a file that can't be read, [`Code::InvalidSettings`] with all other problems together,
/// each on a line and in `details`.
pub fn load(
    mode: Mode,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[Flag],
) -> Result<Loaded, Problem> {
    let mut layers = Layers::defaults(mode);
    if let Some(file) = file {
        layers.add_file(file)?;
    }
    layers.add_environment(environment);
    layers.add_flags(flags);
    let mut reader = Reader::new(&layers);
    let settings = read(mode, &mut reader);
    let problems = [layers.problems.as_slice(), &reader.problems].concat();
    if problems.is_empty() {
        Ok(Loaded {
            settings,
            effective: layers.effective(),
            warnings: layers.warnings,
        })
    } else {
        let message = format!("the settings are invalid:\n  - {}", problems.join("\n  - "));
        Err(Problem::new(Code::InvalidSettings, message).with(problems))
    }
}

impl Settings {
    /// Whether there are the keys that the mode asks for.
    ///
    /// # Errors
    /// [`Code::KeysRequired`], with all that is missing.
    pub fn check_keys(&self) -> Result<(), Problem> {
        if self.mode == Mode::Dev {
            return Ok(());
        }
        let signing = self.keys.signing.is_none();
        let event = self.keys.event.is_empty();
        let missing: Vec<&str> = [
            (
                signing,
                "a signing key (`--signing-key`, INNGEST_SIGNING_KEY or `keys.signing`)",
            ),
            (event, "an event key (`--event-key`, INNGEST_EVENT_KEY or `keys.event`)"),
        ]
        .into_iter()
        .filter_map(|(is_missing, what)| is_missing.then_some(what))
        .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!("`callboard start` needs {}", missing.join(" and "));
        Err(Problem::new(Code::KeysRequired, message))
    }

    /// Whether there is all that a server needs of the services it is told to use.
    ///
    /// # Errors
    /// [`Code::InvalidSettings`] if there is a database without a queue, or a queue without a database.
    pub fn check_services(&self) -> Result<(), Problem> {
        let (given, missing) = match (&self.database.url, &self.redis.url) {
            (Some(_), None) => ("database.url", "redis.url"),
            (None, Some(_)) => ("redis.url", "database.url"),
            _ => return Ok(()),
        };
        let message = format!(
            "`{given}` is set and `{missing}` is not: instances keep what is true in PostgreSQL, and divide the work by \
             Redis; set both, or neither for the database and the queue built in"
        );
        Err(Problem::new(Code::InvalidSettings, message))
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CENTURY: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

fn read(mode: Mode, from: &mut Reader<'_>) -> Settings {
    let settings = Settings {
        mode,
        api: ApiSettings {
            addr: from.address("api.addr"),
            port: from.integer("api.port", 0, u16::MAX.into()),
            graphql: from.boolean("api.graphql"),
            testing: from.boolean("api.testing"),
        },
        data: DataSettings {
            dir: PathBuf::from(from.text("data.dir")),
        },
        database: DatabaseSettings {
            url: from.service(
                "database.url",
                &["postgres", "postgresql"],
                "postgres://user:password@host:5432/database",
            ),
            max_connections: from.integer("database.max_connections", 2, 1_000),
            pooler: from.boolean("database.pooler"),
            connect_timeout: from.duration("database.connect_timeout", SECOND, MINUTE),
            statement_timeout: from.duration("database.statement_timeout", SECOND, 10 * MINUTE),
        },
        redis: RedisSettings {
            url: from.service(
                "redis.url",
                &["redis", "rediss", "redis+unix", "redis+cluster", "rediss+cluster"],
                "redis://user:password@host:6379/0",
            ),
            prefix: from.word("redis.prefix"),
            session_ttl: from.duration("redis.session_ttl", 3 * SECOND, 15 * SECOND),
        },
        node: NodeSettings {
            name: from.name_or("node.name", host_name),
        },
        sdk: SdkSettings {
            urls: from.urls("sdk.urls"),
            discovery: from.boolean("sdk.discovery"),
            poll_interval: from.optional_duration("sdk.poll_interval", SECOND, DAY),
            default_app_url: from.url("sdk.default_app_url"),
            call_timeout: from.duration("sdk.call_timeout", SECOND, 2 * HOUR),
        },
        connect: ConnectSettings {
            port: from.gateway_port("connect.port"),
            url: from
                .service("connect.url", &["ws", "wss"], "wss://callboard.example.com/v0/connect")
                .map(|url| url.expose().to_owned()),
            heartbeat: from.duration("connect.heartbeat", SECOND, MINUTE),
            lease: from.duration("connect.lease", 3 * SECOND, 10 * MINUTE),
        },
        fetch: FetchSettings {
            guard: from.boolean("fetch.guard"),
            allow: from.networks("fetch.allow"),
        },
        keys: KeySettings {
            signing: from.signing_key("keys.signing"),
            signing_fallbacks: from.signing_keys("keys.signing_fallbacks"),
            event: from.secrets("keys.event"),
            api: from.api_keys("keys.api"),
        },
        retry: RetrySettings {
            interval: from.optional_duration("retry.interval", SECOND, DAY),
        },
        waits: WaitSettings {
            look_back: from.optional_duration("waits.look_back", SECOND, HOUR),
        },
        breaker: BreakerSettings {
            enabled: from.boolean("breaker.enabled"),
            except: from.names("breaker.except"),
            window: from.duration("breaker.window", SECOND, HOUR),
            min_calls: from.integer("breaker.min_calls", 1, 1_000_000),
            failure_rate: from.integer("breaker.failure_rate", 1, 100),
            open: from.duration("breaker.open", SECOND, HOUR),
            open_cap: from.duration("breaker.open_cap", SECOND, DAY),
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
        telemetry: TelemetrySettings {
            otlp: from.collector("telemetry.otlp.endpoint").map(|url| OtlpSettings {
                url,
                is_json: from.choice(
                    "telemetry.otlp.protocol",
                    &[("http/protobuf", false), ("http/json", true)],
                ),
                headers: from.headers("telemetry.otlp.headers"),
                per_million: from.ratio("telemetry.otlp.sampling"),
                service: from.text("telemetry.otlp.service"),
            }),
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
        cron: CronSettings {
            catch_up: CatchUp {
                policy: from.choice(
                    "cron.catch_up",
                    &[("none", Policy::Nothing), ("last", Policy::Last), ("all", Policy::All)],
                ),
                window: from.duration("cron.catch_up_window", MINUTE, DAY),
            },
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
        "keys.signing_fallbacks",
        settings.keys.signing.is_some() || settings.keys.signing_fallbacks.is_empty(),
        "given together with `keys.signing`",
    );
    from.require(
        "limits.intake_bytes",
        settings.limits.intake_bytes >= settings.limits.request_bytes,
        "at least `limits.request_bytes`",
    );
    from.require(
        "breaker.open_cap",
        settings.breaker.open_cap >= settings.breaker.open,
        "at least `breaker.open`",
    );
    from.require(
        "supervision.backoff_cap",
        settings.supervision.backoff_cap >= settings.supervision.backoff_base,
        "at least `supervision.backoff_base`",
    );
    settings
}

/// The machine's name.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
