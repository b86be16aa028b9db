//! The queue on Redis against the port's suite, and what only it promises, each on a real server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use callboard_actors::ports::Queue;
use callboard_backends::redis::Redis;

use super::{Options, RedisQueue};

/// The server of all tests that don't hurt theirs.
fn server() -> &'static Redis {
    static SERVER: OnceLock<Redis> = OnceLock::new();
    SERVER.get_or_init(|| Redis::start().expect("a server starts"))
}

/// A prefix that no other test uses.
fn prefix() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("test-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn on(server: &Redis, prefix: &str) -> RedisQueue {
    RedisQueue::new(Options {
        prefix: prefix.to_owned(),
        ..Options::new(server.url())
    })
    .expect("the URL is valid")
}

fn fresh() -> Arc<dyn Queue> {
    Arc::new(on(server(), &prefix()))
}

callboard_actors::queue_conformance!(fresh);
