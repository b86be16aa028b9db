//! The flags of a server, and the settings they make.

use std::path::PathBuf;

use clap::Args;

use super::inherited::InheritedArgs;
use crate::error::Problem;
use crate::settings::{self, FILE_VARIABLE, Flag, INHERITED_FILE_VARIABLE, Loaded, Mode};

/// Flags that are settings.
#[derive(Debug, Clone, Default, Args)]
pub struct SettingsArgs {
    /// Settings file, TOML, YAML or JSON
    #[arg(long, value_name = "FILE", env = FILE_VARIABLE)]
    pub config: Option<PathBuf>,
    /// Address to listen on [default: localhost; `start`: 0.0.0.0]
    #[arg(long)]
    pub host: Option<String>,
    /// Port to listen on, 0 for a free one [default: 8288]
    #[arg(long, short)]
    pub port: Option<String>,
    /// Directory of the built-in database [default: .callboard]
    #[arg(long, alias = "sqlite-dir", value_name = "DIR")]
    pub data_dir: Option<String>,
    /// PostgreSQL to share with other instances, with --redis-url [default: the built-in database]
    #[arg(long, visible_alias = "postgres-uri", value_name = "URL")]
    pub database_url: Option<String>,
    /// Redis to share with other instances, with --database-url [default: the built-in queue]
    #[arg(long, visible_alias = "redis-uri", value_name = "URL")]
    pub redis_url: Option<String>,
    /// URL at which an app serves its functions; may be repeated
    #[arg(long, short = 'u', value_name = "URL", value_delimiter = ',')]
    pub sdk_url: Vec<String>,
    /// Don't look for apps on local ports [default for `start`]
    #[arg(long)]
    pub no_discovery: bool,
    /// Don't serve GraphQL
    #[arg(long)]
    pub no_ui: bool,
    /// Seconds between questions to apps what functions they have, 0 for never [default: 5; `start`: 0]
    #[arg(long, value_name = "SECONDS")]
    pub poll_interval: Option<String>,
    /// Don't ask apps again what functions they have
    #[arg(long, conflicts_with = "poll_interval")]
    pub no_poll: bool,
    /// Key to sign calls to apps with, and to ask for in return; hex digits [`start` needs one]
    #[arg(long, value_name = "KEY")]
    pub signing_key: Option<String>,
    /// Signing key that counts beside it while apps are moved to another; may be repeated
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub signing_key_fallback: Vec<String>,
    /// Key that events may be sent with; may be repeated [default: any will do; `start` needs one]
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub event_key: Vec<String>,
    /// Seconds between attempts, always the same, 0 for growing ones [default: 0]
    #[arg(long, value_name = "SECONDS")]
    pub retry_interval: Option<String>,
    /// error, warn, info, debug, trace, or a filter [default: info]
    #[arg(long, short, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// human, json or auto [default: auto]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl SettingsArgs {
    /// The flags that were given.
    #[must_use]
    pub fn flags(&self) -> Vec<Flag> {
        let one = |name, key, value: Option<&str>| {
            let values = value.into_iter().map(str::to_owned).collect();
            Flag { name, key, values }
        };
        let many = |name, key, values: &[String]| Flag {
            name,
            key,
            values: values.to_vec(),
        };
        let flags = [
            one("--host", "api.addr", self.host.as_deref()),
            one("--port", "api.port", self.port.as_deref()),
            one("--data-dir", "data.dir", self.data_dir.as_deref()),
            one("--database-url", "database.url", self.database_url.as_deref()),
            one("--redis-url", "redis.url", self.redis_url.as_deref()),
            many("--sdk-url", "sdk.urls", &self.sdk_url),
            one("--no-discovery", "sdk.discovery", self.no_discovery.then_some("false")),
            one("--no-ui", "api.graphql", self.no_ui.then_some("false")),
            one("--poll-interval", "sdk.poll_interval", self.poll_interval.as_deref()),
            one("--no-poll", "sdk.poll_interval", self.no_poll.then_some("0")),
            one("--signing-key", "keys.signing", self.signing_key.as_deref()),
            many(
                "--signing-key-fallback",
                "keys.signing_fallbacks",
                &self.signing_key_fallback,
            ),
            many("--event-key", "keys.event", &self.event_key),
            one("--retry-interval", "retry.interval", self.retry_interval.as_deref()),
            one("--log-level", "log.level", self.log_level.as_deref()),
            one("--log-format", "log.format", self.log_format.as_deref()),
        ];
        flags.into_iter().filter(|flag| !flag.values.is_empty()).collect()
    }

    /// The settings that these flags, the environment and the file make.
    ///
    /// # Errors
    /// When they are no settings.
    pub fn load(&self, mode: Mode) -> Result<Loaded, Problem> {
        self.load_with(mode, &InheritedArgs::default())
    }

    /// The same with flags of the original server, over which our own win.
    ///
    /// # Errors
    /// When they are no settings.
    pub fn load_with(&self, mode: Mode, inherited: &InheritedArgs) -> Result<Loaded, Problem> {
        let flags = [inherited.flags(), self.flags()].concat();
        // A variable that is not UTF-8 can't be one of ours.
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let inherited = || std::env::var_os(INHERITED_FILE_VARIABLE).filter(|path| !path.is_empty());
        let file = self.config.clone().or_else(|| inherited().map(PathBuf::from));
        settings::load(mode, file.as_deref(), environment, &flags)
    }
}
