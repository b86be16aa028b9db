//! The schema and its history, compiled in.
//!
//! A database's version is the number of its last migration, in `user_version`. Promises: each migration is one
//! transaction together with its number; a database with a higher number than this program knows is not touched.

use sqlx::{AssertSqlSafe, SqliteConnection, SqliteExecutor};

/// All migrations in order; the first has number 1, as in its file's name.
const MIGRATIONS: [&str; 1] = [include_str!("../../../migrations/sqlite/0001_create_tables.sql")];

pub(super) enum MigrationError {
    Newer { found: i64, known: i64 },
    Database(sqlx::Error),
}

/// The version this program knows.
pub(super) fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// The database's version.
pub(super) async fn version(database: impl SqliteExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("PRAGMA user_version").fetch_one(database).await
}

/// Brings the database up to date.
pub(super) async fn run(conn: &mut SqliteConnection) -> Result<(), MigrationError> {
    let found = version(&mut *conn).await.map_err(MigrationError::Database)?;
    let known = known();
    if found > known {
        return Err(MigrationError::Newer { found, known });
    }
    for (number, migration) in (1_i64..).zip(MIGRATIONS).skip_while(|(number, _)| *number <= found) {
        let script = format!("BEGIN IMMEDIATE;\n{migration}\n;PRAGMA user_version = {number};\nCOMMIT;");
        sqlx::raw_sql(AssertSqlSafe(script))
            .execute(&mut *conn)
            .await
            .map_err(MigrationError::Database)?;
    }
    Ok(())
}
