//! Connections: to one server or to a cluster, opened with what the options say.
//!
//! Never: nothing here tries again; who asks knows what may be repeated.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, RedisResult,
    ServerErrorKind, Value,
};

use super::options::Options;

/// Attempts of the cluster client to follow a slot that has moved.
const CLUSTER_RETRIES: u32 = 3;

/// An open connection; clones share it.
#[derive(Clone)]
pub(crate) enum Link {
    /// To a server.
    Single(MultiplexedConnection),
    /// To a cluster.
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Single(_) => "Single",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl Link {
    /// Opens a connection on the runtime of the caller, which must outlive it. `patience` is for each answer.
    pub(crate) async fn open(options: &Options, patience: Duration) -> RedisResult<Self> {
        let tcp = TcpSettings::default().set_nodelay(true);
        match cluster_nodes(&options.url)? {
            None => {
                let info = options.url.as_str().into_connection_info()?.set_tcp_settings(tcp);
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(options.connect_timeout))
                    .set_response_timeout(Some(patience));
                let client = Client::open(info)?;
                let link = client.get_multiplexed_async_connection_with_config(&config);
                // The timeout of the crate covers the socket, not what is said on it first.
                let mut link = Self::Single(within(options.connect_timeout * 2, link).await?);
                // A server that wants a password says so in plain words only to a short command.
                link.send(&redis::cmd("PING")).await?;
                Ok(link)
            }
            Some(nodes) => {
                let client = ClusterClient::builder(nodes)
                    .connection_timeout(options.connect_timeout)
                    .response_timeout(patience)
                    .retries(CLUSTER_RETRIES)
                    .tcp_settings(tcp)
                    .build()?;
                let link = within(options.connect_timeout * 3, client.get_async_connection()).await?;
                Ok(Self::Cluster(link))
            }
        }
    }

    /// Sends a command.
    pub(crate) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Single(link) => command.query_async(link).await,
            Self::Cluster(link) => command.query_async(link).await,
        }
    }
}

/// Whether the connection is of no use after this error: broken, silent, or to a server that takes no writes any more.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
}

async fn within<T>(patience: Duration, future: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match tokio::time::timeout(patience, future).await {
        Ok(outcome) => outcome,
        Err(_) => Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
    }
}

/// The nodes in the URL of a cluster; `None` for any other URL.
fn cluster_nodes(url: &str) -> RedisResult<Option<Vec<ConnectionInfo>>> {
    let Some((scheme, rest)) = ["redis", "rediss"]
        .iter()
        .find_map(|scheme| Some((scheme, url.strip_prefix(scheme)?.strip_prefix("+cluster://")?)))
    else {
        return Ok(None);
    };
    let (user, hosts) = rest.rsplit_once('@').unwrap_or(("", rest));
    let at = if user.is_empty() { "" } else { "@" };
    let hosts = hosts.split(['/', '?']).next().unwrap_or(hosts);
    hosts
        .split(',')
        .map(|host| format!("{scheme}://{user}{at}{host}/").into_connection_info())
        .collect::<RedisResult<Vec<_>>>()
        .map(Some)
}

/// The server of a URL, or the nodes of a cluster.
///
/// # Errors
/// When it is no address of a Redis.
pub(crate) fn servers(url: &str) -> RedisResult<Vec<ConnectionInfo>> {
    match cluster_nodes(url)? {
        Some(nodes) => Ok(nodes),
        None => Ok(vec![url.into_connection_info()?]),
    }
}

/// Checks that a URL can be understood, without connecting.
pub(super) fn check(url: &str) -> RedisResult<()> {
    if cluster_nodes(url)?.is_none() {
        url.into_connection_info()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_named_by_its_scheme() {
        let nodes = cluster_nodes("rediss+cluster://user:pass@a:7000,b:7001/")
            .expect("valid")
            .expect("a cluster");
        let addresses: Vec<_> = nodes.iter().map(|node| node.addr().to_string()).collect();
        assert_eq!(addresses, ["a:7000", "b:7001"]);
        assert!(
            nodes
                .iter()
                .all(|node| node.redis_settings().password() == Some("pass"))
        );
        assert!(cluster_nodes("redis://a:7000").expect("valid").is_none());
        assert!(check("redis+cluster://").is_err());
        assert!(check("http://a").is_err());
        assert!(check("redis+unix:///run/redis.sock").is_ok());
    }
}
