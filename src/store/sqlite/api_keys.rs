//! Keys that operators hand out: a row each, with the digest and never the key.

use std::time::Duration;

use callboard_actors::domain::{ApiKey, ApiKeyId, KeyScope, Timestamp};
use callboard_actors::ports::StoreError;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use super::error::from_sqlx;
use super::jsonb::Rows;
use super::rows::{get, get_id, get_key, get_named, get_time_or_null};
use super::writer::{Script, Writer};

/// How long keys are kept that are good for nothing any more.
const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

const FORGET: &str =
    "DELETE FROM api_keys WHERE min(coalesce(revoked_at, expires_at), coalesce(expires_at, revoked_at)) < ?";

const PUT: &str = "INSERT INTO api_keys (id, name, scope, digest, hint, expires_at, last_used_at, revoked_at)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7
    FROM jsonb_each(?) WHERE true";

const ALL: &str = "SELECT id, name, scope, digest, hint, expires_at, last_used_at, revoked_at
    FROM api_keys ORDER BY id DESC";

const REVOKE: &str = "UPDATE api_keys SET revoked_at = coalesce(revoked_at, new.value->>1)
    FROM jsonb_each(?) AS new WHERE api_keys.id = new.value->>0";

const USE: &str = "UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, new.value->>1), new.value->>1)
    FROM jsonb_each(?) AS new WHERE api_keys.id = new.value->>0";

pub(super) async fn put(writer: &Writer, key: &ApiKey) -> Result<(), StoreError> {
    let millis = |time: Option<Timestamp>| time.map(Timestamp::as_millis);
    let mut rows = Rows::new();
    rows.row()
        .shown(key.id)
        .text(&key.name)
        .text(key.scope.as_str())
        .shown(key.digest)
        .text(&key.hint)
        .int_or_null(millis(key.expires_at))
        .int_or_null(millis(key.last_used_at))
        .int_or_null(millis(key.revoked_at));
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    script.with(FORGET, key.id.at().before(KEPT).as_millis());
    script.with_rows(PUT, rows);
    script.add("COMMIT");
    writer.session().await?.run(script, true).await?;
    Ok(())
}

pub(super) async fn all(readers: &SqlitePool) -> Result<Vec<ApiKey>, StoreError> {
    let rows = sqlx::query(ALL).fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter().map(key).collect()
}

pub(super) async fn revoke(writer: &Writer, id: ApiKeyId, at: Timestamp) -> Result<bool, StoreError> {
    update(writer, REVOKE, id, at).await
}

pub(super) async fn note_use(writer: &Writer, id: ApiKeyId, at: Timestamp) -> Result<(), StoreError> {
    update(writer, USE, id, at).await.map(drop)
}

/// Changes a key by a time; answers whether there is one.
async fn update(writer: &Writer, statement: &'static str, id: ApiKeyId, at: Timestamp) -> Result<bool, StoreError> {
    let mut rows = Rows::new();
    rows.row().shown(id).int(at.as_millis());
    let mut script = Script::default();
    let updated = script.with(statement, rows.into_bytes());
    let outcomes = writer.session().await?.run(script, true).await?;
    Ok(outcomes[updated].changes > 0)
}

fn key(row: &SqliteRow) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: get_id(row, 0)?,
        name: get(row, 1)?,
        scope: get_named(row, 2, KeyScope::parse)?,
        digest: get_key(row, 3)?,
        hint: get(row, 4)?,
        expires_at: get_time_or_null(row, 5)?,
        last_used_at: get_time_or_null(row, 6)?,
        revoked_at: get_time_or_null(row, 7)?,
    })
}
