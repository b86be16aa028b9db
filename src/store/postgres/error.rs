//! What PostgreSQL and the driver say, in the words of the port.

use callboard_actors::ports::StoreError;

/// Sorts an error by what the caller can do about it.
#[expect(clippy::needless_pass_by_value, reason = "so that it fits `map_err`")]
pub(super) fn from_sqlx(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            let text = format!("{} ({code})", database.message());
            match (code.get(..2).unwrap_or_default(), &*code) {
                (_, "53100") => StoreError::Full(text),
                (_, "XX001" | "XX002") => StoreError::Corrupt(text),
                // Lost connections; a transaction that was rolled back for the sake of another; out of connections, memory
                // or locks; interrupted, shutting down, starting up; a file that can't be read or written; no longer let
                // in, which an operator can mend while we wait.
                ("08" | "40" | "53" | "57" | "58" | "28", _)
                // A lock that was not to be had; a server that only reads (it was the primary until a moment ago); a
                // transaction that was idle for too long; a database that is gone for a restore; a statement that the
                // server behind the pooler does not know, for it was prepared on another one.
                | (_, "55P03" | "55006" | "25006" | "25P03" | "3D000" | "26000") => StoreError::Unavailable(text),
                _ => StoreError::Refused(text),
            }
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            StoreError::Corrupt(error.to_string())
        }
        sqlx::Error::Encode(_) => StoreError::Refused(error.to_string()),
        sqlx::Error::PoolTimedOut => StoreError::Unavailable("no connection was to be had in time".to_owned()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// Whether the connection is as good as before this error.
pub(super) fn leaves_connection_usable(error: &sqlx::Error) -> bool {
    use sqlx::postgres::{PgDatabaseError, PgSeverity};
    match error {
        sqlx::Error::Database(database) => database
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|error| !matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => true,
        _ => false,
    }
}

/// Something stored that does not parse.
pub(super) fn unreadable(what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("{what}: {error}"))
}
