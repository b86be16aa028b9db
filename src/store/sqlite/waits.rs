//! Finding the waits that an event may end, at a cost that follows the matches and not the waiters.

use callboard_actors::domain::{Lookup, RunId, Wait};
use callboard_actors::ports::StoreError;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqlitePool};

use super::error::from_sqlx;
use super::rows::{get, get_id, wait};
use crate::store::paging::sql_limit;

/// The distinct paths of a name by jumping from one to the next in the index. The first row stands for no path.
pub(super) const PATHS: &str = "WITH RECURSIVE paths (path) AS (
        SELECT (SELECT path FROM waits WHERE name = ?1 AND path IS NOT NULL ORDER BY path LIMIT 1)
        UNION ALL
        SELECT (SELECT path FROM waits WHERE name = ?1 AND path > paths.path ORDER BY path LIMIT 1)
        FROM paths WHERE paths.path IS NOT NULL
    )
    SELECT NULL WHERE EXISTS (SELECT 1 FROM waits WHERE name = ?1 AND path IS NULL)
    UNION ALL SELECT path FROM paths WHERE path IS NOT NULL";

/// The waits of one lookup, in order. For several, the statement is repeated: its parameters are anonymous, since a gap
/// in numbered ones is bound to NULL without a word.
pub(super) const FIND: &str =
    "SELECT run_id, key, function_id, kind, name, path, lookup_key, condition, created_at, expires_at
    FROM waits WHERE name = ? AND path IS ? AND lookup_key IS ? AND (run_id, key) > (?, ?)
    ORDER BY run_id, key LIMIT ?;";

/// Lookups in one text. An event has one per path that waits use, so more are rare.
const LOOKUPS_AT_ONCE: usize = 8;

pub(super) async fn paths(readers: &SqlitePool, name: &str) -> Result<Vec<Option<String>>, StoreError> {
    let query = sqlx::query(PATHS).bind(name);
    let rows = query.fetch_all(readers).await.map_err(from_sqlx)?;
    rows.iter().map(|row| get(row, 0)).collect()
}

pub(super) async fn find(
    readers: &SqlitePool,
    name: &str,
    lookups: &[Option<Lookup>],
    after: Option<(RunId, String)>,
    limit: usize,
) -> Result<Vec<Wait>, StoreError> {
    let (run, key) = after.map_or_else(Default::default, |(run, key)| (run.to_string(), key));
    let mut found: Vec<SqliteRow> = Vec::new();
    for lookups in lookups.chunks(LOOKUPS_AT_ONCE) {
        let mut query = sqlx::query(AssertSqlSafe(FIND.repeat(lookups.len())));
        for lookup in lookups {
            query = query
                .bind(name)
                .bind(lookup.as_ref().map(|lookup| lookup.path.as_str()))
                .bind(lookup.as_ref().map(|lookup| lookup.key.as_str()))
                .bind(run.as_str())
                .bind(key.as_str())
                .bind(sql_limit(limit));
        }
        found.extend(query.fetch_all(readers).await.map_err(from_sqlx)?);
    }
    // Each lookup gave its first ones; the first ones of all are among them.
    let mut keyed = Vec::with_capacity(found.len());
    for row in &found {
        keyed.push((get_id::<RunId>(row, 0)?, get::<&str>(row, 1)?, row));
    }
    keyed.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    keyed.dedup_by(|a, b| (a.0, a.1) == (b.0, b.1));
    keyed.into_iter().take(limit).map(|(_, _, row)| wait(row)).collect()
}
