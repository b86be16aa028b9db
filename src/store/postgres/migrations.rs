//! The schema and its history, compiled in.
//!
//! A database's version is the number of its last migration, in `callboard.schema_version`. Promises: all that is missing is
//! one transaction together with its number, under a lock that several instances started at once pass one by one, and
//! that needs no session; a database with a higher number than this program knows is not touched.

use sqlx::{AssertSqlSafe, PgConnection};

/// All migrations in order; the first has number 1, as in its file's name.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../../migrations/postgres/0001_create_tables.sql"),
    include_str!("../../../migrations/postgres/0002_create_functions.sql"),
];

/// The newest version that this program knows.
pub(super) const KNOWN: i64 = MIGRATIONS.len() as i64;

pub(super) enum MigrationError {
    Newer { found: i64 },
    Database(sqlx::Error),
}

impl From<sqlx::Error> for MigrationError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// Brings the database up to date. Answers the version it had before. The connection is of no use after an error.
pub(super) async fn run(conn: &mut PgConnection) -> Result<i64, MigrationError> {
    let found = version(conn).await?;
    if found == KNOWN {
        return Ok(found);
    }
    // A role that may use the schema need not be allowed to make one.
    sqlx::raw_sql(
        "BEGIN;
        SELECT pg_advisory_xact_lock(hashtextextended('callboard.schema_version', 0));
        DO $$ BEGIN
            IF to_regnamespace('callboard') IS NULL THEN
                CREATE SCHEMA callboard;
            END IF;
        END $$;
        CREATE TABLE IF NOT EXISTS callboard.schema_version (version bigint NOT NULL)",
    )
    .execute(&mut *conn)
    .await?;
    // Asked again: somebody may have been faster.
    let found = version(conn).await?;
    for (number, migration) in (1_i64..).zip(MIGRATIONS).skip_while(|(number, _)| *number <= found) {
        let script = format!(
            "{migration}\n;DELETE FROM callboard.schema_version; INSERT INTO callboard.schema_version VALUES ({number});"
        );
        sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut *conn).await?;
    }
    sqlx::raw_sql("COMMIT").execute(&mut *conn).await?;
    Ok(found)
}

/// The version of the database; 0 if it is empty. By the simple protocol, which prepares nothing.
pub(super) async fn version(conn: &mut PgConnection) -> Result<i64, MigrationError> {
    use sqlx::Row as _;
    let exists = sqlx::raw_sql("SELECT to_regclass('callboard.schema_version')::text")
        .fetch_one(&mut *conn)
        .await?;
    if exists.try_get::<Option<String>, _>(0)?.is_none() {
        return Ok(0);
    }
    let row = sqlx::raw_sql("SELECT coalesce(max(version), 0)::text FROM callboard.schema_version")
        .fetch_one(&mut *conn)
        .await?;
    let found = row.try_get::<String, _>(0)?;
    let found = found.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    if found > KNOWN {
        return Err(MigrationError::Newer { found });
    }
    Ok(found)
}
