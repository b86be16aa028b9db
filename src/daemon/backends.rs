//! Which store and which queue the settings ask for: the one place that chooses.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use callboard_actors::ports::{Queue, Store};

use crate::error::{Code, Problem};
use crate::queue::embedded::{Capacity, EmbeddedQueue};
use crate::queue::redis::{self, RedisQueue};
use crate::settings::{SecretUrl, Settings};
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::{self, SqliteStore};

/// First wait for a database that does not answer.
const PATIENCE_MIN: Duration = Duration::from_millis(500);
/// Longest such wait.
const PATIENCE_MAX: Duration = Duration::from_secs(10);

/// What keeps the truth, and what knows what is ready.
#[derive(Debug)]
pub(super) struct Backends {
    pub(super) store: Arc<dyn Store>,
    pub(super) queue: Arc<dyn Queue>,
    /// Whether other processes may use the same.
    pub(super) is_shared: bool,
    closing: Closing,
}

/// What has to be closed in the end.
#[derive(Debug)]
enum Closing {
    Sqlite(Arc<SqliteStore>),
    Postgres(Arc<PostgresStore>),
}

impl Backends {
    /// Closes what was opened: first what others wait for.
    ///
    /// # Errors
    /// When that fails; nothing is lost even then.
    pub(super) async fn close(&self) -> anyhow::Result<()> {
        self.queue.close().await;
        let closed = match &self.closing {
            Closing::Sqlite(store) => store.close().await,
            Closing::Postgres(store) => store.close().await,
        };
        closed.context("the database could not be closed")
    }
}

/// Opens what the settings ask for. `waiting` hears what is waited for.
///
/// # Errors
/// When it can't be opened, and it is of no use to try again.
pub(super) async fn open(settings: &Settings, waiting: impl Fn(Problem)) -> Result<Backends, Problem> {
    match (&settings.database.url, &settings.redis.url) {
        (Some(database), Some(redis)) => shared(settings, database, redis, waiting).await,
        // The settings name both or neither.
        _ => embedded(settings).await,
    }
}

/// Opens what is built in.
async fn embedded(settings: &Settings) -> Result<Backends, Problem> {
    let store = SqliteStore::open(&settings.data.dir).await;
    let store = Arc::new(store.map_err(|error| cannot_open(&error))?);
    Ok(Backends {
        store: Arc::clone(&store) as Arc<dyn Store>,
        queue: Arc::new(EmbeddedQueue::new(capacity(settings))),
        is_shared: false,
        closing: Closing::Sqlite(store),
    })
}

/// Connects to PostgreSQL, however long it takes to answer, and prepares to connect to Redis, which is not needed yet.
async fn shared(
    settings: &Settings,
    database: &SecretUrl,
    redis: &SecretUrl,
    waiting: impl Fn(Problem),
) -> Result<Backends, Problem> {
    let queue = RedisQueue::new(redis_options(settings, redis)).map_err(|error| {
        Problem::new(
            Code::InvalidSettings,
            format!("`redis.url` is no address of a Redis: {error}"),
        )
    })?;
    let store = Arc::new(connect(&database_options(settings, database), waiting).await?);
    if let Some(since) = store.new_since() {
        queue.nobody_was_at_work(since);
    }
    Ok(Backends {
        store: Arc::clone(&store) as Arc<dyn Store>,
        queue: Arc::new(queue),
        is_shared: true,
        closing: Closing::Postgres(store),
    })
}

/// How the settings want Redis to be used.
pub(super) fn redis_options(settings: &Settings, url: &SecretUrl) -> redis::Options {
    redis::Options {
        prefix: settings.redis.prefix.clone(),
        capacity: capacity(settings),
        ttl: settings.redis.session_ttl,
        ..redis::Options::new(url.expose())
    }
}

/// How the settings want the database to be used.
pub(crate) fn database_options(settings: &Settings, url: &SecretUrl) -> postgres::Options {
    postgres::Options {
        // One of them writes.
        max_connections: settings.database.max_connections.saturating_sub(1).max(1),
        pooler: settings.database.pooler,
        connect_timeout: settings.database.connect_timeout,
        statement_timeout: settings.database.statement_timeout,
        routes_all: settings.waits.look_back.is_some(),
        ..postgres::Options::new(url.expose())
    }
}

async fn connect(options: &postgres::Options, waiting: impl Fn(Problem)) -> Result<PostgresStore, Problem> {
    let mut patience = PATIENCE_MIN;
    let mut said = String::new();
    loop {
        let error = match PostgresStore::open(options).await {
            Ok(store) => return Ok(store),
            Err(error) if error.is_passing() => error,
            Err(error) => return Err(cannot_use(&error)),
        };
        let problem = cannot_use(&error);
        let text = error.to_string();
        // The same thing once, not every time.
        if text != said {
            tracing::error!(code = %problem.code, "{text}; it is tried again until it does");
            said = text;
        }
        waiting(problem);
        tokio::time::sleep(patience).await;
        patience = (patience * 2).min(PATIENCE_MAX);
    }
}

fn capacity(settings: &Settings) -> Capacity {
    Capacity {
        total: settings.queue.capacity,
        per_function: settings.queue.capacity.div_ceil(4),
    }
}

pub(super) fn cannot_open(error: &sqlite::OpenError) -> Problem {
    use sqlite::OpenError;
    let code = match error {
        OpenError::InUse { .. } => Code::DirectoryInUse,
        OpenError::Newer { .. } => Code::NewerDatabase,
        OpenError::Older { .. } => Code::OlderDatabase,
        OpenError::Damaged { .. } => Code::DamagedDatabase,
        OpenError::Directory { .. } | OpenError::Database { .. } => Code::UnusableDirectory,
    };
    Problem::new(code, error.to_string())
}

/// What an operator is told of a PostgreSQL that can't be used.
pub(crate) fn cannot_use(error: &postgres::OpenError) -> Problem {
    use postgres::OpenError;
    let code = match error {
        OpenError::Url(_) => Code::InvalidSettings,
        OpenError::Unreachable { .. } => Code::DatabaseUnreachable,
        OpenError::Credentials { .. } | OpenError::NoDatabase { .. } | OpenError::Rights { .. } => Code::DatabaseAccess,
        OpenError::Newer { .. } => Code::NewerDatabase,
        OpenError::Older { .. } => Code::OlderDatabase,
        OpenError::OldServer { .. } | OpenError::Encoding { .. } | OpenError::Database { .. } => {
            Code::UnsuitableDatabase
        }
    };
    Problem::new(code, error.to_string())
}
