//! A channel between instances: two connections to a Redis, one to speak and one to listen.
//!
//! Never tries again: who talks over it knows what was lost with it.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, RedisError, RedisResult};
use tokio::time::timeout;

/// For a connection, and for each answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries to open a channel.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// Opens both on the runtime of the caller, which must outlive them.
///
/// # Errors
/// When that is not possible, or takes longer than [`PATIENCE`].
pub(crate) async fn open(server: &ConnectionInfo) -> RedisResult<(MultiplexedConnection, PubSub)> {
    let client = Client::open(server.clone())?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let speaking = client.get_multiplexed_async_connection_with_config(&config).await?;
    let listening = within(client.get_async_pubsub()).await?;
    Ok((speaking, listening))
}

/// The outcome, if there is one in time.
pub(crate) async fn within<T>(what: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match timeout(PATIENCE, what).await {
        Ok(outcome) => outcome,
        Err(_) => Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
    }
}
