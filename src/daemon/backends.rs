//! Which store and which queue the settings ask for: the one place that chooses.

use std::sync::Arc;

use anyhow::Context as _;
use callboard_actors::ports::{Queue, Store};

use crate::error::{Code, Problem};
use crate::queue::embedded::{Capacity, EmbeddedQueue};
use crate::settings::Settings;
use crate::store::sqlite::{OpenError, SqliteStore};

/// What keeps the truth, and what knows what is ready.
#[derive(Debug)]
pub(super) struct Backends {
    pub(super) store: Arc<dyn Store>,
    pub(super) queue: Arc<dyn Queue>,
    closing: Closing,
}

/// What has to be closed in the end.
#[derive(Debug)]
enum Closing {
    Sqlite(Arc<SqliteStore>),
}

impl Backends {
    /// Closes what was opened.
    ///
    /// # Errors
    /// When that fails; nothing is lost even then.
    pub(super) async fn close(&self) -> anyhow::Result<()> {
        match &self.closing {
            Closing::Sqlite(store) => store.close().await.context("the database could not be closed"),
        }
    }
}

/// Opens what the settings ask for.
///
/// # Errors
/// When it can't be opened.
pub(super) async fn backends(settings: &Settings) -> Result<Backends, Problem> {
    match (&settings.database.url, &settings.redis.url) {
        (None, None) => embedded(settings).await,
        (Some(database), Some(redis)) => {
            let message =
                format!("this version can't use {database} and {redis} yet: it has no store and queue for them");
            Err(Problem::new(Code::InvalidSettings, message))
        }
        (Some(_), None) | (None, Some(_)) => {
            let message = "`database.url` and `redis.url` are set both, or neither";
            Err(Problem::new(Code::InvalidSettings, message))
        }
    }
}

/// The store and the queue built in.
async fn embedded(settings: &Settings) -> Result<Backends, Problem> {
    let store = SqliteStore::open(&settings.data.dir).await;
    let store = Arc::new(store.map_err(|error| cannot_open(&error))?);
    let capacity = Capacity {
        total: settings.queue.capacity,
        per_function: settings.queue.capacity.div_ceil(4),
    };
    Ok(Backends {
        store: Arc::clone(&store) as Arc<dyn Store>,
        queue: Arc::new(EmbeddedQueue::new(capacity)),
        closing: Closing::Sqlite(store),
    })
}

fn cannot_open(error: &OpenError) -> Problem {
    let code = match error {
        OpenError::InUse { .. } => Code::DirectoryInUse,
        OpenError::Newer { .. } => Code::NewerDatabase,
        OpenError::Damaged { .. } => Code::DamagedDatabase,
        OpenError::Directory { .. } | OpenError::Database { .. } => Code::UnusableDirectory,
    };
    Problem::new(code, error.to_string())
}
