//! Opening a data directory: one process at a time, a database no newer than this program, and readable.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool};

use super::migrations::{self, MigrationError};

/// The database within its directory.
pub(super) const DATABASE: &str = "callboard.db";
/// Locked as long as a process uses the directory; holds its process id for people.
const LOCK: &str = "callboard.lock";

/// Readers beside the one writer.
const READERS: u32 = 2;
/// Page cache of the writer in KiB: the upper levels of all b-trees and whatever is hot.
const WRITER_CACHE_KIB: u32 = 12 * 1024;
/// Page cache of each reader in KiB.
const READER_CACHE_KIB: u32 = 2 * 1024;
/// Only a backup or an operator's shell ever holds the write lock beside us.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or its lock can't be made or read.
    #[error("the data directory {path} can't be used: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process uses it.
    #[error("the data directory {path} is in use by another process (pid {pid}); each instance needs its own")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other process's id as it noted it, or `unknown`.
        pid: String,
    },
    /// A newer version of this program has been here.
    #[error("the database {path} has schema version {found}, this program knows versions up to {known}")]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The database is to be looked at as it is, and its schema is an older one.
    #[error("the database {path} has schema version {found}, this program needs {known}")]
    Older {
        /// The database.
        path: PathBuf,
        /// Its version; 0 if it has none.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Not a database, or a damaged one.
    #[error("the database {path} is damaged: {reason}")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// Anything else SQLite says.
    #[error("the database {path} can't be opened: {source}")]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: sqlx::Error,
    },
}

/// What an open data directory consists of.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) options: SqliteConnectOptions,
    pub(super) writer: SqliteConnection,
    pub(super) readers: SqlitePool,
}

/// Opens a data directory, creating and migrating what has to be.
pub(super) async fn open(directory: &Path, adjust: &[(&'static str, String)]) -> Result<Opened, OpenError> {
    let lock = lock(directory)?;
    let path = directory.join(DATABASE);
    let base = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .busy_timeout(BUSY_TIMEOUT)
        // What a statement sets aside while it runs is small.
        .pragma("temp_store", "memory")
        // One connection per thread, so SQLite's own mutexes would only cost.
        .serialized(false)
        // A page of rows fits: SQLite's thread need not wait for whoever reads it.
        .row_buffer_size(512)
        .disable_statement_logging();
    let mut options = base
        .clone()
        .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
        .thread_name(|_| "sqlite-writer".to_owned());
    for (name, value) in adjust {
        options = options.pragma(*name, value.clone());
    }
    let classify = |source| classify(&path, source);
    let mut writer = SqliteConnection::connect_with(&options).await.map_err(classify)?;
    check(&mut writer)
        .await
        .map_err(classify)?
        .map_err(|reason| OpenError::Damaged {
            path: path.clone(),
            reason,
        })?;
    migrations::run(&mut writer).await.map_err(|error| match error {
        MigrationError::Newer { found, known } => OpenError::Newer {
            path: path.clone(),
            found,
            known,
        },
        MigrationError::Database(source) => classify(source),
    })?;
    let readers = base
        .create_if_missing(false)
        .pragma("cache_size", format!("-{READER_CACHE_KIB}"))
        .pragma("query_only", "on")
        .thread_name(|id| format!("sqlite-reader-{id}"));
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(Duration::from_secs(10))
        // A file does not hang up.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(readers);
    Ok(Opened {
        lock,
        options,
        writer,
        readers,
    })
}

/// Takes the directory for this process until the file is closed, as it is when the process ends in whatever way.
fn lock(directory: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Directory {
        path: directory.to_owned(),
        source,
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join(LOCK))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only for the message; on some systems a locked file can't be read.
            let _ = file.read_to_string(&mut pid);
            let pid = Some(pid.trim()).filter(|pid| !pid.is_empty()).unwrap_or("unknown");
            return Err(OpenError::InUse {
                path: directory.to_owned(),
                pid: pid.to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// Reads the schema and the first pages: enough to tell a database from something else without reading all of it.
async fn check(conn: &mut SqliteConnection) -> Result<Result<(), String>, sqlx::Error> {
    let found: Vec<String> = sqlx::query_scalar("PRAGMA quick_check('sqlite_schema')")
        .fetch_all(conn)
        .await?;
    Ok(match &found[..] {
        [only] if only == "ok" => Ok(()),
        problems => Err(problems.join("; ")),
    })
}

pub(super) fn classify(path: &Path, source: sqlx::Error) -> OpenError {
    use callboard_actors::ports::StoreError;
    let text = source.to_string();
    match super::error::from_sqlx(source) {
        StoreError::Corrupt(reason) => OpenError::Damaged {
            path: path.to_owned(),
            reason,
        },
        _ => OpenError::Database {
            path: path.to_owned(),
            source: sqlx::Error::Configuration(text.into()),
        },
    }
}
