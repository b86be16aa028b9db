//! The log: for people on a terminal, one JSON object a line elsewhere. One panic hook, so that a panic is a line of the
//! log like any other.
//!
//! Whatever a line is about has the same field everywhere: `run`, `function` and `event` are ids, `slug` is a function's
//! name, `child` a part of the process, `error` what went wrong.

use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::{LogFormat, LogSettings};

/// Starts the log and installs the panic hook. To be called once, first thing; later calls change nothing.
///
/// The log goes to the standard error, the output of commands to the standard output.
pub fn start(settings: &LogSettings) {
    let filter = EnvFilter::try_new(filter(&settings.level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let is_json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if is_json {
        let lines = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr);
        registry.with(lines).try_init()
    } else {
        let lines = tracing_subscriber::fmt::layer()
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        registry.with(lines).try_init()
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// At the usual level, the HTTP server's own account of its threads is left out: the daemon says when it is up.
fn filter(level: &str) -> &str {
    if level.eq_ignore_ascii_case("info") {
        "info,actix_server=warn"
    } else {
        level
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(
        panic.message = text(panic),
        panic.location = location,
        panic.thread = thread.name().unwrap_or("unnamed"),
        "panic"
    );
}

/// What was panicked with, where it is a text.
fn text<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    panic.payload_as_str().unwrap_or("(not a text)")
}
