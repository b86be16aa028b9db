//! A look at a data directory that changes nothing in it, also while a server uses it.
//!
//! Takes no part in the server's lock, and never writes to the database: the connection is one that can't. Beside a
//! running server it reads what was committed last, as every other reader does.

use std::io;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use callboard_actors::ports::{Audit, AuditScope, Finding, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, SqlitePool};

use super::migrations;
use super::open::{DATABASE, OpenError, classify};

/// A server that checkpoints its log holds readers up for an instant.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The database in a data directory, to be looked at.
#[derive(Debug)]
pub struct SqliteInspector {
    reader: SqlitePool,
}

impl SqliteInspector {
    /// Opens the database in this directory, which has to exist and to be of this program's version.
    ///
    /// # Errors
    /// See [`OpenError`], with [`OpenError::Older`] among them.
    pub async fn open(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(DATABASE);
        if !path.is_file() {
            return Err(OpenError::Directory {
                path: directory.to_owned(),
                source: io::Error::new(io::ErrorKind::NotFound, "there is no database in it"),
            });
        }
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(false)
            .read_only(true)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("query_only", "on")
            .pragma("temp_store", "memory")
            .disable_statement_logging();
        let failed = |source| classify(&path, source);
        let reader = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(failed)?;
        let found = migrations::version(&reader).await.map_err(failed)?;
        let known = migrations::known();
        if found > known {
            return Err(OpenError::Newer { path, found, known });
        }
        if found < known {
            return Err(OpenError::Older { path, found, known });
        }
        Ok(Self { reader })
    }
}

#[async_trait]
impl Audit for SqliteInspector {
    async fn audit(&self, scope: &AuditScope) -> Result<Vec<Finding>, StoreError> {
        super::audit::run(&self.reader, scope).await
    }
}
