//! The one connection that commits.
//!
//! It is opened on the runtime that commits, beside the actors that feed it: a further thread between would cost more than
//! it gives. Promises: a connection whose transaction may not have ended (an error, a future that was dropped half-way,
//! no answer in time) is never used again, which ends the transaction; the next commit opens another one.

use std::time::Duration;

use callboard_actors::ports::StoreError;
use sqlx::postgres::PgArguments;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::runtime::{self, Handle};
use tokio::sync::{Mutex, MutexGuard};

use super::Options;
use super::error::{from_sqlx, leaves_connection_usable};
use super::open::Target;

/// The connection, one commit at a time.
pub(super) struct Writer {
    target: Target,
    pooler: bool,
    connect_timeout: Duration,
    timeout: Duration,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    conn: Option<(runtime::Id, PgConnection)>,
    is_closed: bool,
}

impl Writer {
    pub(super) fn new(options: &Options, target: Target) -> Self {
        Self {
            target,
            pooler: options.pooler,
            connect_timeout: options.connect_timeout,
            timeout: options.statement_timeout,
            slot: Mutex::default(),
        }
    }

    /// Runs one statement for each of these parameters, in order and in one transaction. Answers a row each.
    pub(super) async fn run(&self, sql: &'static str, calls: Vec<PgArguments>) -> Result<Vec<PgRow>, StoreError> {
        let mut slot = self.slot.lock().await;
        let conn = self.take(&mut slot).await?;
        let mut open = Open {
            conn,
            is_in_transaction: false,
        };
        let run = open.run(sql, calls, self.pooler);
        match tokio::time::timeout(self.timeout, run).await {
            Ok(Ok(rows)) => {
                slot.conn = Some((Handle::current().id(), open.conn));
                Ok(rows)
            }
            Ok(Err(error)) => {
                if !open.is_in_transaction && leaves_connection_usable(&error) {
                    slot.conn = Some((Handle::current().id(), open.conn));
                }
                Err(from_sqlx(error))
            }
            Err(_) => Err(StoreError::Unavailable(format!(
                "the database has not answered within {:?}",
                self.timeout
            ))),
        }
    }

    /// The connection of this runtime, out of its slot: who does not bring it back leaves none behind.
    async fn take(&self, slot: &mut MutexGuard<'_, Slot>) -> Result<PgConnection, StoreError> {
        if slot.is_closed {
            return Err(StoreError::Unavailable("the store is closed".to_owned()));
        }
        match slot.conn.take() {
            Some((runtime, conn)) if runtime == Handle::current().id() => Ok(conn),
            _ => {
                let connect = PgConnection::connect_with(&self.target.connect);
                match tokio::time::timeout(self.connect_timeout, connect).await {
                    Ok(conn) => conn.map_err(from_sqlx),
                    Err(_) => Err(StoreError::Unavailable(format!(
                        "no connection within {:?}",
                        self.connect_timeout
                    ))),
                }
            }
        }
    }

    /// Closes the connection for good.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let mut slot = self.slot.lock().await;
        slot.is_closed = true;
        match slot.conn.take() {
            Some((_, conn)) => conn.close().await.map_err(from_sqlx),
            None => Ok(()),
        }
    }
}

/// A connection in use.
struct Open {
    conn: PgConnection,
    is_in_transaction: bool,
}

impl Open {
    async fn run(
        &mut self,
        sql: &'static str,
        calls: Vec<PgArguments>,
        pooler: bool,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        // One statement is a transaction by itself. A pooler may hand out another server between its preparation and
        // its execution, but not within a transaction.
        let framed = pooler || calls.len() > 1;
        if framed {
            self.is_in_transaction = true;
            self.simple("BEGIN; SET LOCAL idle_in_transaction_session_timeout = '10s'")
                .await?;
        }
        let mut rows = Vec::with_capacity(calls.len());
        for arguments in calls {
            let query = sqlx::query_with(sql, arguments).persistent(!pooler);
            rows.push(query.fetch_one(&mut self.conn).await?);
        }
        if framed {
            self.simple("COMMIT").await?;
            self.is_in_transaction = false;
        }
        Ok(rows)
    }

    async fn simple(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut self.conn)
            .await
            .map(drop)
    }
}
