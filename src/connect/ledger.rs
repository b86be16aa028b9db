//! Writes down who is connected to this instance and how connections have ended, so that every instance can show all of them.
//!
//! Promises: what begins, ends or changes its status is written within moments, signs of life at every heartbeat; what the
//! database does not take is tried again. What is heard of last longer than [`KEPT`] ago is forgotten. Nothing depends on what
//! is written: it is for people.

use std::sync::Arc;
use std::time::Duration;

use callboard_actors::domain::Connection;
use callboard_actors::ports::{Clock, Store, StoreError};
use callboard_actors::workers::Workers;
use tokio::time::{Instant, sleep, timeout};

/// How long connections that have ended are kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Between two looks at what may be forgotten.
const FORGET: Duration = Duration::from_secs(60 * 60);
/// Changes that come within this time are written together.
const GATHER: Duration = Duration::from_millis(200);
/// Between two tries after one that has failed.
const RETRY: Duration = Duration::from_secs(5);
/// Connections in one write, at the most.
const BATCH: usize = 500;
/// What the database has not taken yet, at the most; of more the oldest are dropped.
const PENDING: usize = 10_000;

/// Writes down connections to the instance that is called `node`, until the thread ends.
pub(crate) async fn run(store: Arc<dyn Store>, clock: Arc<dyn Clock>, node: String, workers: Workers) {
    let (changed, heartbeat) = (workers.changed(), workers.settings().heartbeat);
    let mut pending: Vec<Connection> = Vec::new();
    let mut next_look = Instant::now();
    loop {
        let _ = timeout(heartbeat, changed.notified()).await;
        sleep(GATHER).await;
        // A heartbeat may come a little early.
        pending.extend(workers.take_changes(&node, heartbeat / 2));
        let is_time = next_look <= Instant::now();
        let written = write(&*store, &mut pending).await;
        let written = match written {
            Ok(()) if is_time => store.forget_connections(clock.now().before(KEPT)).await,
            written => written,
        };
        match written {
            Ok(()) if is_time => next_look = Instant::now() + FORGET,
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(%error, "connections of workers could not be written down");
                let surplus = pending.len().saturating_sub(PENDING);
                pending.drain(..surplus);
                sleep(RETRY).await;
            }
        }
    }
}

/// Writes what is there, and leaves what could not be written.
async fn write(store: &dyn Store, pending: &mut Vec<Connection>) -> Result<(), StoreError> {
    while !pending.is_empty() {
        let batch = pending.len().min(BATCH);
        store.put_connections(&pending[..batch]).await?;
        pending.drain(..batch);
    }
    Ok(())
}
