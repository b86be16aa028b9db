//! The connections for questions and for the rare writes that are no commits, in a thread of their own.
//!
//! A connection belongs to the runtime that opened it and stands still when that one is busy; here nothing else runs.
//! Promises: a caller that goes away leaves no question half done; a connection that has failed, or is in an unknown
//! state, is not used again.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use callboard_actors::ports::StoreError;
use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{Connection as _, PgPool, Postgres};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::Options;
use super::error::{from_sqlx, leaves_connection_usable};
use super::open::{LOCAL_SESSION, OpenError, Target};

/// A connection that was not used for so long is asked whether it still stands.
const DOUBTFUL_AFTER: Duration = Duration::from_secs(1);
/// A connection that was not used for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// The pool and its thread.
pub(super) struct Readers {
    pool: PgPool,
    runtime: Handle,
    pooler: bool,
    timeout: Duration,
    last_break: LastBreak,
    /// Dropping it ends the thread.
    _running: oneshot::Sender<()>,
}

/// When a connection was last found broken. What broke one may have broken those that have not been used since.
#[derive(Clone, Default)]
struct LastBreak(Arc<Mutex<Option<Instant>>>);

impl LastBreak {
    fn set(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn age(&self) -> Duration {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(Duration::MAX, |last| last.elapsed())
    }
}

/// What a question is asked through.
pub(super) struct Session {
    conn: PoolConnection<Postgres>,
    persistent: bool,
    /// Set by an error after which the connection can't be trusted.
    is_broken: bool,
}

/// A statement with its parameters.
pub(super) type Statement = Query<'static, Postgres, PgArguments>;

/// In what a question is asked.
#[derive(Clone, Copy)]
enum Frame {
    /// Every statement for itself.
    Single,
    /// All statements see the same instant.
    Snapshot,
    /// A transaction that may write.
    Write,
}

impl Readers {
    /// Starts the thread; connections are opened when they are needed.
    pub(super) fn start(options: &Options, target: &Target) -> Result<Self, OpenError> {
        let failed = |error: std::io::Error| OpenError::Database {
            at: "this machine".to_owned(),
            reason: error.to_string(),
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        let last_break = LastBreak::default();
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections.max(1))
            .acquire_timeout(options.connect_timeout)
            .idle_timeout(IDLE_TIMEOUT)
            .max_lifetime(None)
            .test_before_acquire(false)
            .before_acquire({
                let last_break = last_break.clone();
                move |conn, meta| {
                    let is_doubtful = meta.idle_for >= DOUBTFUL_AFTER.min(last_break.age());
                    Box::pin(async move {
                        if is_doubtful {
                            conn.ping().await?;
                        }
                        Ok(true)
                    })
                }
            });
        let pool = {
            let _guard = handle.enter();
            pool.connect_lazy_with(target.connect.clone())
        };
        let thread = thread::Builder::new().name("postgres".to_owned());
        let started = thread.spawn(move || {
            // Ends with the sender; whatever is still being asked then has nobody to hear the answer.
            let _ = runtime.block_on(ended);
        });
        started.map_err(failed)?;
        Ok(Self {
            pool,
            runtime: handle,
            pooler: options.pooler,
            timeout: options.statement_timeout,
            last_break,
            _running: running,
        })
    }

    /// Each statement for itself.
    pub(super) async fn single<T: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Session) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(Frame::Single, work).await
    }

    /// Asks with statements that see the same instant.
    pub(super) async fn snapshot<T: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Session) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(Frame::Snapshot, work).await
    }

    /// Writes in one transaction.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Session) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(Frame::Write, work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        frame: Frame,
        work: impl for<'c> FnOnce(&'c mut Session) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (pool, pooler, timeout) = (self.pool.clone(), self.pooler, self.timeout);
        let last_break = self.last_break.clone();
        let task = self.runtime.spawn(async move {
            let mut session = Session {
                conn: pool.acquire().await.map_err(from_sqlx)?,
                persistent: !pooler,
                is_broken: false,
            };
            let outcome = tokio::time::timeout(timeout, session.frame(frame, pooler, work)).await;
            let outcome = outcome.unwrap_or_else(|_| {
                session.is_broken = true;
                Err(StoreError::Unavailable(format!(
                    "the database has not answered within {timeout:?}"
                )))
            });
            if session.is_broken {
                last_break.set();
                drop(session.conn.detach());
            }
            outcome
        });
        task.await
            .unwrap_or_else(|error| Err(StoreError::Unavailable(format!("the question was dropped: {error}"))))
    }

    /// Closes all connections.
    pub(super) async fn close(&self) {
        let pool = self.pool.clone();
        // Fails only when the thread has ended, and the connections with it.
        let _ = self.runtime.spawn(async move { pool.close().await }).await;
    }
}

impl Session {
    async fn frame<T>(
        &mut self,
        frame: Frame,
        pooler: bool,
        work: impl for<'c> FnOnce(&'c mut Self) -> BoxFuture<'c, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begin = match frame {
            Frame::Single if !pooler => None,
            Frame::Single | Frame::Write => Some("BEGIN"),
            Frame::Snapshot => Some("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
        };
        let Some(begin) = begin else { return work(self).await };
        if pooler {
            self.simple(format!("{begin}; {LOCAL_SESSION}")).await?;
        } else {
            self.simple(begin.to_owned()).await?;
        }
        match work(self).await {
            Ok(answer) => {
                self.simple("COMMIT".to_owned()).await?;
                Ok(answer)
            }
            Err(error) => {
                if !self.is_broken {
                    self.simple("ROLLBACK".to_owned()).await?;
                }
                Err(error)
            }
        }
    }

    async fn simple(&mut self, sql: String) -> Result<(), StoreError> {
        let outcome = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *self.conn).await;
        // A transaction that can't be ended must not go back to the pool.
        outcome.map(drop).map_err(|error| {
            self.is_broken = true;
            from_sqlx(error)
        })
    }

    fn note(&mut self, error: sqlx::Error) -> StoreError {
        self.is_broken |= !leaves_connection_usable(&error);
        from_sqlx(error)
    }

    /// All rows.
    pub(super) async fn all(&mut self, statement: Statement) -> Result<Vec<PgRow>, StoreError> {
        let rows = statement.persistent(self.persistent).fetch_all(&mut *self.conn).await;
        rows.map_err(|error| self.note(error))
    }

    /// The first row, if there is one.
    pub(super) async fn optional(&mut self, statement: Statement) -> Result<Option<PgRow>, StoreError> {
        let row = statement
            .persistent(self.persistent)
            .fetch_optional(&mut *self.conn)
            .await;
        row.map_err(|error| self.note(error))
    }

    /// How many rows it changed.
    pub(super) async fn execute(&mut self, statement: Statement) -> Result<u64, StoreError> {
        let done = statement.persistent(self.persistent).execute(&mut *self.conn).await;
        done.map(|done| done.rows_affected()).map_err(|error| self.note(error))
    }
}
