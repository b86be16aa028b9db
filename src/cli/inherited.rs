//! Flags that users of the original server have in their scripts, and that are none of ours: they are understood or, with a
//! warning, ignored, and not shown in the help. What the other flags of the original are called here is what they are called there.

use clap::Args;

use crate::settings::Flag;

/// Flags of the original server.
#[derive(Debug, Clone, Default, Args)]
pub struct InheritedArgs {
    /// As `--log-format json`
    #[arg(long, hide = true)]
    pub json: bool,
    /// As `--log-level debug`
    #[arg(long, hide = true)]
    pub verbose: bool,
    /// Ignored: everything is kept, always
    #[arg(long, hide = true)]
    pub persist: bool,
    /// Sets `database.max_connections`
    #[arg(long, hide = true, value_name = "NUMBER")]
    pub postgres_max_open_conns: Option<String>,
    /// Sets `connect.port`
    #[arg(long, hide = true, value_name = "PORT")]
    pub connect_gateway_port: Option<String>,
    /// Ignored
    #[arg(long, hide = true, value_name = "NUMBER")]
    pub queue_workers: Option<String>,
    /// Ignored
    #[arg(long, hide = true, value_name = "MILLISECONDS")]
    pub tick: Option<String>,
    /// Ignored
    #[arg(long, hide = true, value_name = "NUMBER")]
    pub postgres_max_idle_conns: Option<String>,
    /// Ignored
    #[arg(long, hide = true, value_name = "MINUTES")]
    pub postgres_conn_max_idle_time: Option<String>,
    /// Ignored
    #[arg(long, hide = true, value_name = "MINUTES")]
    pub postgres_conn_max_lifetime: Option<String>,
    /// Ignored
    #[arg(long, hide = true, value_name = "HOST")]
    pub connect_gateway_host: Option<String>,
    /// Ignored
    #[arg(long, hide = true, value_name = "PORT")]
    pub connect_gateway_grpc_port: Option<String>,
    /// Ignored
    #[arg(long, hide = true, value_name = "IP")]
    pub connect_gateway_grpc_ip: Option<String>,
    /// Ignored
    #[arg(long, hide = true, value_name = "PORT")]
    pub connect_executor_grpc_port: Option<String>,
    /// Ignored
    #[arg(long, hide = true, value_name = "IP")]
    pub connect_executor_grpc_ip: Option<String>,
    /// Ignored
    #[arg(long, hide = true, value_name = "PORT")]
    pub debug_api_port: Option<String>,
    /// Ignored
    #[arg(long, hide = true, value_name = "URL")]
    pub system_trace_endpoint: Option<String>,
    /// Ignored
    #[arg(long, hide = true, value_name = "PATH")]
    pub system_trace_url_path: Option<String>,
}

impl InheritedArgs {
    /// Those that were given: with the key that they set, or with none.
    pub(super) fn flags(&self) -> Vec<Flag> {
        let flag = |name, key, value: Option<&str>| {
            let values = value.into_iter().map(str::to_owned).collect();
            Flag { name, key, values }
        };
        let flags = [
            flag("--json", "log.format", self.json.then_some("json")),
            flag("--verbose", "log.level", self.verbose.then_some("debug")),
            flag("--persist", "", self.persist.then_some("true")),
            flag(
                "--postgres-max-open-conns",
                "database.max_connections",
                self.postgres_max_open_conns.as_deref(),
            ),
            flag(
                "--connect-gateway-port",
                "connect.port",
                self.connect_gateway_port.as_deref(),
            ),
            flag("--queue-workers", "", self.queue_workers.as_deref()),
            flag("--tick", "", self.tick.as_deref()),
            flag("--postgres-max-idle-conns", "", self.postgres_max_idle_conns.as_deref()),
            flag(
                "--postgres-conn-max-idle-time",
                "",
                self.postgres_conn_max_idle_time.as_deref(),
            ),
            flag(
                "--postgres-conn-max-lifetime",
                "",
                self.postgres_conn_max_lifetime.as_deref(),
            ),
            flag("--connect-gateway-host", "", self.connect_gateway_host.as_deref()),
            flag(
                "--connect-gateway-grpc-port",
                "",
                self.connect_gateway_grpc_port.as_deref(),
            ),
            flag("--connect-gateway-grpc-ip", "", self.connect_gateway_grpc_ip.as_deref()),
            flag(
                "--connect-executor-grpc-port",
                "",
                self.connect_executor_grpc_port.as_deref(),
            ),
            flag(
                "--connect-executor-grpc-ip",
                "",
                self.connect_executor_grpc_ip.as_deref(),
            ),
            flag("--debug-api-port", "", self.debug_api_port.as_deref()),
            flag("--system-trace-endpoint", "", self.system_trace_endpoint.as_deref()),
            flag("--system-trace-url-path", "", self.system_trace_url_path.as_deref()),
        ];
        flags.into_iter().filter(|flag| !flag.values.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::{Cli, Command};
    use crate::settings::{LogFormat, Mode};

    /// All that the original's `dev` and `start` take, hidden ones included.
    const ALL: &[&str] = &[
        "--config=f",
        "--host=h",
        "--port=1",
        "-p=1",
        "--sdk-url=u",
        "-u=u",
        "--no-discovery",
        "--no-poll",
        "--persist",
        "--no-ui",
        "--retry-interval=1",
        "--queue-workers=1",
        "--tick=1",
        "--connect-gateway-port=1",
        "--connect-gateway-host=h",
        "--connect-gateway-grpc-port=1",
        "--connect-gateway-grpc-ip=::1",
        "--connect-executor-grpc-port=1",
        "--connect-executor-grpc-ip=::1",
        "--signing-key=k",
        "--event-key=k",
        "--sqlite-dir=d",
        "--redis-uri=u",
        "--postgres-uri=u",
        "--postgres-max-idle-conns=1",
        "--postgres-max-open-conns=1",
        "--postgres-conn-max-idle-time=1",
        "--postgres-conn-max-lifetime=1",
        "--debug-api-port=1",
        "--system-trace-endpoint=u",
        "--system-trace-url-path=p",
        "--poll-interval=1",
        "--json",
        "--verbose",
        "--log-level=info",
        "-l=info",
    ];

    #[test]
    fn every_flag_of_the_original_is_taken_by_both_commands() {
        for command in ["dev", "start"] {
            for flag in ALL {
                let parsed = Cli::try_parse_from(["callboard", command, flag]);
                assert!(parsed.is_ok(), "{command} {flag}: {}", parsed.expect_err("an error"));
            }
        }
    }

    #[test]
    fn they_are_understood_or_ignored_with_a_warning() {
        let arguments = [
            "callboard",
            "dev",
            "--tick",
            "10",
            "--persist",
            "--json",
            "--verbose",
            "--connect-gateway-port",
            "9000",
        ];
        let Command::Dev(args) = Cli::try_parse_from(arguments).expect("flags").command else {
            panic!("another command");
        };
        let flags = [args.inherited.flags(), args.settings.flags()].concat();
        let loaded = crate::settings::load(Mode::Dev, None, [], &flags).expect("valid");
        assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
        for (warning, mentions) in loaded.warnings.iter().zip(["`--persist`", "`--tick`"]) {
            assert!(warning.contains(mentions), "{warning}");
        }
        let log = &loaded.settings.log;
        assert_eq!((log.format, log.level.as_str()), (LogFormat::Json, "debug"));
        assert_eq!(loaded.settings.connect.port, crate::settings::GatewayPort::Fixed(9000));
    }
}
