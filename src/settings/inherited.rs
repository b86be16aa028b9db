//! Names that deployments have already: those of OpenTelemetry for exporters, and those of the original server: its flags, which are also the keys of its settings
//! file and, behind `INNGEST_`, environment variables.
//!
//! Promises: a name that sets something here sets what it set there; one that has no counterpart is told, and never
//! passed over in silence. Variables of the SDKs, such as `INNGEST_DEV`, are none of ours, but for the keys that both sides
//! have.

use config::{Value, ValueKind};

/// Flags of the original server and the keys they set. Later ones win.
pub(super) const KNOWN: &[(&str, &str)] = &[
    ("host", "api.addr"),
    ("port", "api.port"),
    ("sqlite-dir", "data.dir"),
    ("postgres-uri", "database.url"),
    ("postgres-max-open-conns", "database.max_connections"),
    ("redis-uri", "redis.url"),
    ("sdk-url", "sdk.urls"),
    ("no-discovery", "sdk.discovery"),
    ("no-ui", "api.graphql"),
    ("poll-interval", "sdk.poll_interval"),
    ("no-poll", "sdk.poll_interval"),
    ("signing-key", "keys.signing"),
    ("event-key", "keys.event"),
    ("retry-interval", "retry.interval"),
    ("json", "log.format"),
    ("verbose", "log.level"),
    ("log-level", "log.level"),
    ("connect-gateway-port", "connect.port"),
];

/// Variables of the original server that are not named after a flag, and the keys they set. They win over [`KNOWN`].
pub(super) const VARIABLES: &[(&str, &str)] = &[
    // Of the SDKs: a deployment gives apps and server the same.
    ("INNGEST_SIGNING_KEY_FALLBACK", "keys.signing_fallbacks"),
    ("LOG_LEVEL", "log.level"),
    ("LOG_HANDLER", "log.format"),
    ("TEST_MODE", "api.testing"),
    // As OpenTelemetry names them; what is said of traces wins.
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp.endpoint"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "telemetry.otlp.endpoint"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "telemetry.otlp.protocol"),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "telemetry.otlp.protocol"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "telemetry.otlp.headers"),
    ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "telemetry.otlp.headers"),
    ("OTEL_TRACES_SAMPLER_ARG", "telemetry.otlp.sampling"),
    ("OTEL_SERVICE_NAME", "telemetry.otlp.service"),
];

/// Flags of the original server that set nothing here, and why.
pub(super) const IGNORED: &[(&str, &str)] = &[
    ("persist", "everything is kept, always"),
    ("queue-workers", "`limits.calls` bounds the calls under way"),
    ("tick", "the queue is not polled"),
    (
        "postgres-max-idle-conns",
        "`database.max_connections` is the one size of the pool",
    ),
    (
        "postgres-conn-max-idle-time",
        "connections are kept while they are good",
    ),
    ("postgres-conn-max-lifetime", "connections are kept while they are good"),
    (
        "connect-gateway-host",
        "`api.addr` says where workers may connect, `connect.url` what they are told",
    ),
    ("connect-gateway-grpc-port", "there is no such port"),
    ("connect-gateway-grpc-ip", "there is no such port"),
    ("connect-executor-grpc-port", "there is no such port"),
    ("connect-executor-grpc-ip", "there is no such port"),
    ("debug-api-port", "there is no such port"),
    (
        "system-trace-endpoint",
        "traces of the server itself are a matter of its own settings",
    ),
    (
        "system-trace-url-path",
        "traces of the server itself are a matter of its own settings",
    ),
];

/// Variables of the original server that are not named after a flag and set nothing here, and why.
pub(super) const IGNORED_VARIABLES: &[(&str, &str)] = &[
    (
        "INNGEST_FEATURE_FLAGS",
        "there are no features to be switched on or off",
    ),
    (
        "EXPERIMENTAL_KEY_QUEUES_ENABLE",
        "each key has a line of its own, always",
    ),
    ("EXPERIMENTAL_STEP_METADATA", "metadata is kept, always"),
    (
        "EXPERIMENTAL_ASYNC_DISPATCH_VALIDATION",
        "reports of stale calls are refused, always",
    ),
    (
        "EXPERIMENTAL_SPLIT_BATCH_PARTITION_BY_FUNCTION",
        "batches are of one function each, always",
    ),
    (
        "INNGEST_CONNECT_DISABLE_ENFORCE_LEASE_EXPIRY",
        "`connect.lease` says how long a silent worker counts as at work",
    ),
    ("CONNECT_PUBSUB_LOG_LEVEL", "`log.level` says what is logged"),
];

/// The variable for a flag: `INNGEST_SDK_URL` for `sdk-url`.
pub(super) fn variable(flag: &str) -> String {
    format!("INNGEST_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// What an inherited name (a flag, or one of [`VARIABLES`]) means by a value, where the key means something else by it;
/// `None` if it sets nothing.
pub(super) fn translate(name: &str, value: Value) -> Option<Value> {
    let with = |kind: ValueKind| Value::new(None, kind);
    // What is neither true nor false stays as it is, and is complained about.
    let switch = || value.clone().into_bool().ok();
    match name {
        "no-discovery" | "no-ui" => Some(switch().map_or(value, |off| with(ValueKind::Boolean(!off)))),
        "no-poll" => match switch() {
            Some(true) => Some(with(ValueKind::String("0".to_owned()))),
            Some(false) => None,
            None => Some(value),
        },
        "json" => switched(switch(), value, "json"),
        "verbose" => switched(switch(), value, "debug"),
        // Other programs have a variable of this name, too: what is no switch is not for us.
        "TEST_MODE" => switch().map(|on| with(ValueKind::Boolean(on))),
        // A base, below which traces have their place.
        "OTEL_EXPORTER_OTLP_ENDPOINT" => {
            let base = value.into_string().ok()?;
            Some(with(ValueKind::String(format!(
                "{}/v1/traces",
                base.trim_end_matches('/')
            ))))
        }
        // There is no gRPC here; a collector that takes it has a port for HTTP, too.
        "OTEL_EXPORTER_OTLP_PROTOCOL" | "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" => {
            matches!(&value.kind, ValueKind::String(text) if text.starts_with("http/")).then_some(value)
        }
        "LOG_HANDLER" => matches!(&value.kind, ValueKind::String(text) if text == "json").then_some(value),
        _ => Some(value),
    }
}

/// What a switch that is on sets; what is no switch is complained about.
fn switched(switch: Option<bool>, value: Value, to: &str) -> Option<Value> {
    match switch {
        Some(true) => Some(Value::new(None, ValueKind::String(to.to_owned()))),
        Some(false) => None,
        None => Some(value),
    }
}
