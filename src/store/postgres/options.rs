//! What an operator says about the database.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

/// How to reach the database and how much of it to use.
#[derive(Clone)]
pub struct Options {
    /// `postgres://user:password@host:port/database?sslmode=…`; what it leaves out is taken from the environment, as
    /// `psql` does.
    pub url: SecretString,
    /// Connections for questions, at most; one more writes.
    pub max_connections: u32,
    /// Whether a transaction pooler (PgBouncer, say) stands between: no statement is prepared for longer than a
    /// transaction then, and no session setting is made. Costs two round trips for each question and commit.
    pub pooler: bool,
    /// How long to wait for a connection, to the server or from the pool.
    pub connect_timeout: Duration,
    /// How long to wait for a commit or a question until the connection counts as cut.
    pub statement_timeout: Duration,
    /// Whether every event is looked at again after its commit for waits that it ends. Without, one that is committed at
    /// the same moment as its wait, by another instance, misses it; for waits that look back that must not be.
    pub routes_all: bool,
}

impl Options {
    /// The defaults for this URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretString::from(url.into()),
            max_connections: 4,
            pooler: false,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            routes_all: false,
        }
    }

    /// The URL with its password.
    pub(super) fn exposed_url(&self) -> &str {
        self.url.expose_secret()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("max_connections", &self.max_connections)
            .field("pooler", &self.pooler)
            .finish_non_exhaustive()
    }
}
