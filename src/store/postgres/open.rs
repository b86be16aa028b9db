//! Opening a database: reachable, new enough, no newer than this program, and in UTF-8.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};

use super::Options;
use super::migrations::{self, KNOWN, MigrationError};

/// The oldest server that is supported, as in `server_version_num`.
const OLDEST_SERVER: i32 = 150_000;

/// What every connection asks of its session, unless a pooler stands between. A program that was frozen holds locks
/// only until it times out. Questions look rows up one by one, in the order of an index: right while tables are empty,
/// or have grown since they were analysed.
const SESSION: [(&str, &str); 7] = [
    ("idle_in_transaction_session_timeout", "10s"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("jit", "off"),
];

/// The same for one transaction.
pub(super) const LOCAL_SESSION: &str = "SET LOCAL idle_in_transaction_session_timeout = '10s';
    SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
    SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; SET LOCAL jit = off";

/// Why a database can't be used. No text holds a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL makes no sense.
    #[error("the database URL is not valid: {0}; expected postgres://user:password@host:port/database")]
    Url(String),
    /// Nobody answers, or not now. Worth another try.
    #[error("no PostgreSQL server answers at {at}: {reason}")]
    Unreachable {
        /// Host and port.
        at: String,
        /// Why.
        reason: String,
    },
    /// User or password are wrong, or the server does not let us in.
    #[error("the PostgreSQL server at {at} refuses the user `{user}`: {reason}")]
    Credentials {
        /// Host and port.
        at: String,
        /// Who.
        user: String,
        /// What it says.
        reason: String,
    },
    /// There is no such database.
    #[error("the PostgreSQL server at {at} has no database `{database}`; create it with `CREATE DATABASE`")]
    NoDatabase {
        /// Host and port.
        at: String,
        /// Which.
        database: String,
    },
    /// The server is too old.
    #[error("the PostgreSQL server at {at} has version {found}; version 15 or newer is needed")]
    OldServer {
        /// Host and port.
        at: String,
        /// Its version.
        found: String,
    },
    /// The database can't hold every text.
    #[error("the database at {at} has the encoding {found}; create one with `ENCODING 'UTF8'`")]
    Encoding {
        /// Host and port.
        at: String,
        /// Its encoding.
        found: String,
    },
    /// A newer version of this program has been here.
    #[error("the database at {at} has schema version {found}, this program knows versions up to {known}")]
    Newer {
        /// Host and port.
        at: String,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The database is to be looked at as it is, and its schema is an older one.
    #[error("the database at {at} has schema version {found}, this program needs {known}")]
    Older {
        /// Host and port.
        at: String,
        /// Its version; 0 if it has none.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The user may not do what has to be done.
    #[error(
        "the user `{user}` lacks a right in the database at {at}: {reason}; it needs to create the schema `callboard`, \
             or to own it"
    )]
    Rights {
        /// Host and port.
        at: String,
        /// Who.
        user: String,
        /// What the server says.
        reason: String,
    },
    /// Anything else the server says.
    #[error("the database at {at} can't be used: {reason}")]
    Database {
        /// Host and port.
        at: String,
        /// What it says.
        reason: String,
    },
}

impl OpenError {
    /// Whether it may work a moment later without anybody doing anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// How to connect, and what to call the place.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) connect: PgConnectOptions,
    at: String,
}

impl Target {
    pub(super) fn of(options: &Options) -> Result<Self, OpenError> {
        let connect = PgConnectOptions::from_str(options.exposed_url()).map_err(|error| match error {
            // The text of other errors might quote the URL.
            sqlx::Error::Configuration(reason) => OpenError::Url(reason.to_string()),
            _ => OpenError::Url("it can't be parsed".to_owned()),
        })?;
        let mut connect = connect
            .application_name("callboard")
            // A setting that poolers refuse; no column holds a float.
            .extra_float_digits(None)
            .disable_statement_logging();
        if !options.pooler {
            connect = connect.options(SESSION);
        }
        let at = match connect.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", connect.get_host(), connect.get_port()),
        };
        Ok(Self { connect, at })
    }

    fn explain_migration(&self, error: &MigrationError) -> OpenError {
        match error {
            MigrationError::Newer { found } => OpenError::Newer {
                at: self.at.clone(),
                found: *found,
                known: KNOWN,
            },
            MigrationError::Database(error) => self.explain(error),
        }
    }

    /// What an error says of this place.
    fn explain(&self, error: &sqlx::Error) -> OpenError {
        let at = self.at.clone();
        let user = self.connect.get_username().to_owned();
        let sqlx::Error::Database(database) = error else {
            return match error {
                sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => {
                    OpenError::Unreachable {
                        at,
                        reason: error.to_string(),
                    }
                }
                _ => OpenError::Database {
                    at,
                    reason: error.to_string(),
                },
            };
        };
        let reason = database.message().to_owned();
        match database.code().unwrap_or_default().as_bytes() {
            [b'2', b'8', ..] => OpenError::Credentials { at, user, reason },
            b"3D000" => OpenError::NoDatabase {
                at,
                database: self.connect.get_database().unwrap_or(&user).to_owned(),
            },
            b"42501" => OpenError::Rights { at, user, reason },
            [b'5', b'7' | b'3', ..] | [b'0', b'8', ..] | [b'4', b'0', ..] => OpenError::Unreachable { at, reason },
            _ => OpenError::Database { at, reason },
        }
    }
}

/// Checks the server and migrates its database if it has to be, with a connection of its own. Answers the version the
/// schema had before.
pub(super) async fn prepare(options: &Options, target: &Target) -> Result<i64, OpenError> {
    let mut conn = connect(options, target).await?;
    let found = migrations::run(&mut conn).await;
    let found = found.map_err(|error| target.explain_migration(&error))?;
    let partitions = sqlx::raw_sql("SELECT callboard.make_history_partitions(2)");
    partitions
        .execute(&mut conn)
        .await
        .map_err(|error| target.explain(&error))?;
    // What was asked has been answered; that the server did not hear us leave is its own matter.
    let _ = conn.close().await;
    Ok(found)
}

/// Checks the server, and that its database is of this program's version, changing nothing.
pub(super) async fn verify(options: &Options, target: &Target) -> Result<(), OpenError> {
    let mut conn = connect(options, target).await?;
    let found = migrations::version(&mut conn).await;
    let found = found.map_err(|error| target.explain_migration(&error))?;
    let _ = conn.close().await;
    if found < KNOWN {
        return Err(OpenError::Older {
            at: target.at.clone(),
            found,
            known: KNOWN,
        });
    }
    Ok(())
}

/// A connection to a server that will do.
async fn connect(options: &Options, target: &Target) -> Result<PgConnection, OpenError> {
    // Migrations of large databases take their time; only the way there has a limit.
    let connect = tokio::time::timeout(options.connect_timeout, PgConnection::connect_with(&target.connect));
    let mut conn = match connect.await {
        Ok(conn) => conn.map_err(|error| target.explain(&error))?,
        Err(_) => {
            return Err(OpenError::Unreachable {
                at: target.at.clone(),
                reason: format!("no answer within {:?}", options.connect_timeout),
            });
        }
    };
    check(&mut conn, target).await?;
    Ok(conn)
}

async fn check(conn: &mut PgConnection, target: &Target) -> Result<(), OpenError> {
    let explain = |error| target.explain(&error);
    let row = sqlx::raw_sql(
        "SELECT current_setting('server_version_num'), current_setting('server_version'),
            current_setting('server_encoding'), current_setting('fsync'), current_setting('synchronous_commit')",
    )
    .fetch_one(conn)
    .await
    .map_err(explain)?;
    let text = |column: usize| row.try_get::<String, _>(column).map_err(explain);
    let at = target.at.clone();
    if text(0)?.parse::<i32>().unwrap_or(0) < OLDEST_SERVER {
        return Err(OpenError::OldServer { at, found: text(1)? });
    }
    if text(2)? != "UTF8" {
        return Err(OpenError::Encoding { at, found: text(2)? });
    }
    if text(3)? == "off" || text(4)? == "off" {
        tracing::warn!(
            fsync = text(3)?,
            synchronous_commit = text(4)?,
            "the database acknowledges commits before they are on disk: a crash of its server may lose events"
        );
    }
    Ok(())
}
