//! What SQLite says, in the words of the port.

use callboard_actors::ports::StoreError;

const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_NOMEM: i32 = 7;
const SQLITE_INTERRUPT: i32 = 9;
const SQLITE_IOERR: i32 = 10;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_CANTOPEN: i32 = 14;
const SQLITE_PROTOCOL: i32 = 15;
const SQLITE_NOTADB: i32 = 26;

/// Sorts an error of the driver by what the caller can do about it.
#[expect(clippy::needless_pass_by_value, reason = "so that it fits `map_err`")]
pub(super) fn from_sqlx(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(database) => {
            // The low byte is the primary code; the rest says more than a caller can act on.
            let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0) & 0xff;
            let text = database.message().to_owned();
            match code {
                SQLITE_FULL => StoreError::Full(text),
                SQLITE_BUSY | SQLITE_LOCKED | SQLITE_NOMEM | SQLITE_INTERRUPT | SQLITE_IOERR | SQLITE_CANTOPEN
                | SQLITE_PROTOCOL => StoreError::Unavailable(text),
                SQLITE_CORRUPT | SQLITE_NOTADB => StoreError::Corrupt(text),
                _ => StoreError::Refused(text),
            }
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            StoreError::Corrupt(error.to_string())
        }
        sqlx::Error::Encode(_) => StoreError::Refused(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// Something stored that does not parse.
pub(super) fn unreadable(what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("{what}: {error}"))
}
