//! What an operator may set about the queue on Redis.

use std::time::Duration;

use crate::queue::embedded::Capacity;

/// Where Redis is and how it is used.
///
/// `Debug` leaves the URL out, because it may hold a password.
#[derive(Clone)]
pub struct Options {
    /// `redis://…`, `rediss://…` for TLS, `redis+unix:///…`; for a cluster `redis+cluster://host:port,host:port` or
    /// `rediss+cluster://…`, with one or more of its nodes. A user, a password and (not on a cluster) the number of a
    /// database may be part of it.
    pub url: String,
    /// All keys begin with `{prefix}:`. Processes that name the same share their work.
    pub prefix: String,
    /// How many jobs may be held, by all processes together.
    pub capacity: Capacity,
    /// How long a process keeps its leases without being heard of. Renewed three times within it. At least 300 ms.
    pub ttl: Duration,
    /// How long to wait for an answer of Redis before the connection is given up.
    pub response_timeout: Duration,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
}

impl Options {
    /// The defaults, for a Redis at this address: room for 200,000 jobs and 50,000 of one function; 10 s until leases expire.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "callboard".to_owned(),
            capacity: Capacity {
                total: 200_000,
                per_function: 50_000,
            },
            ttl: Duration::from_secs(10),
            response_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("prefix", &self.prefix)
            .field("capacity", &self.capacity)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
