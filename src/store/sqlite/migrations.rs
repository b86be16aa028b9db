//! The schema and its history, compiled in.
//!
//! A database's version is the number of its last migration, in `user_version`. Promises: each migration is one
//! transaction together with its number; a database with a higher number than this program knows is not touched.

use sqlx::{AssertSqlSafe, SqliteConnection};

/// All migrations in order; the first has number 1, as in its file's name.
const MIGRATIONS: [&str; 1] = [include_str!("../../../migrations/sqlite/0001_create_tables.sql")];

pub(super) enum MigrationError {
    Newer { found: i64, known: i64 },
    Database(sqlx::Error),
}

/// Brings the database up to date.
pub(super) async fn run(conn: &mut SqliteConnection) -> Result<(), MigrationError> {
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *conn)
        .await
        .map_err(MigrationError::Database)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
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
