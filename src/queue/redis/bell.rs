//! The two tasks beside the driver that live where the consumer lives: the heartbeat and the bell.
//!
//! The heartbeat is there so that a process whose consumer's thread stands still loses its leases, whatever its other
//! threads do. The bell is how another process says that there is work: a list of this process's own, read by a blocking
//! command on a connection of its own, because everything behind such a command on a shared one would wait with it.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};

use super::Shared;
use super::driver::Backoff;
use super::link::Link;

/// How long one blocking command waits.
const LISTEN: Duration = Duration::from_secs(5);

/// Renews the session, three times within its time to live, until it is aborted.
pub(super) async fn beat(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shared.options.ttl / 3).await;
        shared.desk().outbox.beat = true;
        shared.work.notify_one();
    }
}

/// Listens for others, until it is aborted. What it misses while the connection is away is found by the next nap's end.
pub(super) async fn listen(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    let mut command = Cmd::new();
    command
        .arg("BLPOP")
        .arg(shared.key(&format!("wake:{}", shared.process)))
        .arg(LISTEN.as_secs());
    loop {
        let patience = LISTEN + shared.options.response_timeout;
        if let Ok(mut link) = Link::open(&shared.options, patience).await {
            while let Ok(answer) = link.send(&command).await {
                backoff.reset();
                if answer != Value::Nil {
                    shared.changed.notify_one();
                }
            }
        }
        // The driver says what is wrong with Redis.
        backoff.wait().await;
    }
}
