//! What the tests stand on: servers, apps, an HTTP client, and waiting.

#![allow(dead_code, reason = "a toolbox; not every tool is in use at all times")]

pub(crate) mod command;
pub(crate) mod fake;
pub(crate) mod graphql;
pub(crate) mod http;
pub(crate) mod installation;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod sdk;
pub(crate) mod server;
pub(crate) mod stage;
pub(crate) mod websocket;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest that anything may take. Generous, for it is waited for in failing tests only.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Between two questions to an API that can't be waited on.
const PAUSE: Duration = Duration::from_millis(20);

/// A word that no other test uses.
pub(crate) fn unique(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Asks until there is an answer.
///
/// # Panics
/// When there is none by the deadline; `what` says what was waited for.
pub(crate) fn wait_for<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
        std::thread::sleep(PAUSE);
    }
}
