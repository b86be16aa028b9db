//! The one connection that writes.
//!
//! A [`Script`] is several statements sent in one go, because each trip to SQLite's thread costs more than most
//! statements. Promise: no transaction outlives its [`Session`]: whatever was left open, by an error or because the future
//! was dropped half-way, is rolled back before the next session begins.

use futures_util::TryStreamExt as _;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{
    Arguments as _, AssertSqlSafe, Connection as _, Either, Encode, Executor as _, Sqlite, SqliteConnection, Type,
};
use tokio::sync::{Mutex, MutexGuard};

use callboard_actors::ports::StoreError;

use super::error::from_sqlx;
use super::jsonb::Rows;

/// Statements to be executed in one go, each with one anonymous parameter at most.
///
/// Numbered parameters are not for scripts: a gap in their numbers is bound to NULL without a word.
#[derive(Default)]
pub(super) struct Script {
    sql: String,
    arguments: SqliteArguments,
    statements: usize,
}

impl Script {
    /// Adds a statement without a parameter.
    pub(super) fn add(&mut self, sql: &'static str) -> usize {
        debug_assert!(!sql.contains('?'), "a parameter that nothing is bound to: {sql}");
        self.push(sql)
    }

    /// Adds a statement with one parameter. Answers its place among the [`Outcome`]s.
    pub(super) fn with<T>(&mut self, sql: &'static str, value: T) -> usize
    where
        T: for<'q> Encode<'q, Sqlite> + Type<Sqlite>,
    {
        debug_assert_eq!(sql.matches('?').count(), 1, "one parameter per statement: {sql}");
        self.arguments
            .add(value)
            .expect("texts, bytes and integers can always be bound");
        self.push(sql)
    }

    /// Adds a statement over rows, unless there are none.
    pub(super) fn with_rows(&mut self, sql: &'static str, rows: Rows) -> Option<usize> {
        (!rows.is_empty()).then(|| self.with(sql, rows.into_bytes()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.statements == 0
    }

    fn push(&mut self, sql: &'static str) -> usize {
        self.sql.push_str(sql);
        self.sql.push_str(";\n");
        self.statements += 1;
        self.statements - 1
    }

    pub(super) async fn run(self, conn: &mut SqliteConnection) -> Result<Vec<Outcome>, sqlx::Error> {
        let mut outcomes = Vec::with_capacity(self.statements);
        let mut rows = Vec::new();
        let query = sqlx::query_with(AssertSqlSafe(self.sql), self.arguments);
        let mut results = conn.fetch_many(query);
        while let Some(result) = results.try_next().await? {
            match result {
                Either::Right(row) => rows.push(row),
                Either::Left(done) => outcomes.push(Outcome {
                    changes: done.rows_affected(),
                    rows: std::mem::take(&mut rows),
                }),
            }
        }
        if outcomes.len() != self.statements {
            return Err(sqlx::Error::WorkerCrashed);
        }
        Ok(outcomes)
    }
}

/// What came of a statement.
pub(super) struct Outcome {
    /// Rows it changed. Means nothing for a statement that changes none.
    pub(super) changes: u64,
    /// Rows it returned.
    pub(super) rows: Vec<SqliteRow>,
}

/// The connection, one session at a time.
pub(super) struct Writer {
    options: SqliteConnectOptions,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    conn: Option<SqliteConnection>,
    /// Whether a transaction may be open.
    in_transaction: bool,
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions, conn: SqliteConnection) -> Self {
        Self {
            options,
            slot: Mutex::new(Slot {
                conn: Some(conn),
                in_transaction: false,
            }),
        }
    }

    /// The connection with no transaction open.
    pub(super) async fn session(&self) -> Result<Session<'_>, StoreError> {
        let mut slot = self.slot.lock().await;
        if slot.in_transaction {
            slot.rollback().await;
        }
        if slot.conn.is_none() {
            let conn = SqliteConnection::connect_with(&self.options).await.map_err(from_sqlx)?;
            slot.conn = Some(conn);
        }
        Ok(Session { slot })
    }

    /// Closes the connection, which writes the log back into the database.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        match self.slot.lock().await.conn.take() {
            Some(conn) => conn.close().await.map_err(from_sqlx),
            None => Ok(()),
        }
    }
}

impl Slot {
    /// Ends a transaction if there is one. A connection that can't is given up, which ends it as well.
    async fn rollback(&mut self) {
        let Some(conn) = &mut self.conn else {
            self.in_transaction = false;
            return;
        };
        // Some errors have rolled back already, so ask for what works in either case.
        let mut script = Script::default();
        script.add("ROLLBACK");
        let rolled_back = match script.run(conn).await {
            Ok(_) => true,
            Err(error) => error.to_string().contains("no transaction is active"),
        };
        if !rolled_back {
            self.conn = None;
        }
        self.in_transaction = false;
    }
}

/// Sole use of the connection that writes.
pub(super) struct Session<'a> {
    slot: MutexGuard<'a, Slot>,
}

impl Session<'_> {
    /// Runs a script that begins, goes on in, or (with `last`) ends a transaction. After an error there is none.
    pub(super) async fn run(&mut self, script: Script, last: bool) -> Result<Vec<Outcome>, StoreError> {
        let slot = &mut *self.slot;
        let conn = slot
            .conn
            .as_mut()
            .ok_or_else(|| StoreError::Unavailable("the connection that writes was given up".to_owned()))?;
        slot.in_transaction = true;
        match script.run(conn).await {
            Ok(outcomes) => {
                slot.in_transaction = !last;
                Ok(outcomes)
            }
            Err(error) => {
                slot.rollback().await;
                Err(from_sqlx(error))
            }
        }
    }

    /// Undoes what the open transaction did.
    pub(super) async fn rollback(&mut self) {
        self.slot.rollback().await;
    }
}
