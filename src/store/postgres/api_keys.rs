//! Keys that operators hand out: a row each, with the digest and never the key.

use std::time::Duration;

use callboard_actors::domain::{ApiKey, ApiKeyId, KeyScope, Timestamp};
use callboard_actors::ports::StoreError;
use sqlx::postgres::PgRow;

use super::cells::{Id as _, text};
use super::readers::Readers;
use super::rows::{get_id, get_key, get_named, get_text, get_time_or_null};

/// How long keys are kept that are good for nothing any more.
const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

const PUT: &str = "WITH forgotten AS (DELETE FROM callboard.api_keys WHERE least(revoked_at, expires_at) < $9)
    INSERT INTO callboard.api_keys (id, name, scope, digest, hint, expires_at, last_used_at, revoked_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

const ALL: &str = "SELECT id, name, scope, digest, hint, expires_at, last_used_at, revoked_at
    FROM callboard.api_keys ORDER BY id DESC";

const REVOKE: &str = "UPDATE callboard.api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1";

const USE: &str = "UPDATE callboard.api_keys SET last_used_at = greatest(last_used_at, $2) WHERE id = $1";

pub(super) async fn put(readers: &Readers, key: &ApiKey) -> Result<(), StoreError> {
    let query = sqlx::query(PUT)
        .bind(key.id.cell())
        .bind(text(&key.name).into_owned())
        .bind(key.scope.as_str())
        .bind(key.digest.to_string())
        .bind(text(&key.hint).into_owned())
        .bind(key.expires_at.map(Timestamp::as_millis))
        .bind(key.last_used_at.map(Timestamp::as_millis))
        .bind(key.revoked_at.map(Timestamp::as_millis))
        .bind(key.id.at().before(KEPT).as_millis());
    readers
        .single(|session| Box::pin(session.execute(query)))
        .await
        .map(drop)
}

pub(super) async fn all(readers: &Readers) -> Result<Vec<ApiKey>, StoreError> {
    let rows = readers
        .single(|session| Box::pin(session.all(sqlx::query(ALL))))
        .await?;
    rows.iter().map(key).collect()
}

pub(super) async fn revoke(readers: &Readers, id: ApiKeyId, at: Timestamp) -> Result<bool, StoreError> {
    let query = sqlx::query(REVOKE).bind(id.cell()).bind(at.as_millis());
    let revoked = readers.single(|session| Box::pin(session.execute(query))).await?;
    Ok(revoked > 0)
}

pub(super) async fn note_use(readers: &Readers, id: ApiKeyId, at: Timestamp) -> Result<(), StoreError> {
    let query = sqlx::query(USE).bind(id.cell()).bind(at.as_millis());
    readers
        .single(|session| Box::pin(session.execute(query)))
        .await
        .map(drop)
}

fn key(row: &PgRow) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: get_id(row, 0)?,
        name: get_text(row, 1)?,
        scope: get_named(row, 2, KeyScope::parse)?,
        digest: get_key(row, 3)?,
        hint: get_text(row, 4)?,
        expires_at: get_time_or_null(row, 5)?,
        last_used_at: get_time_or_null(row, 6)?,
        revoked_at: get_time_or_null(row, 7)?,
    })
}
