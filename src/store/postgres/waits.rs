//! Finding the waits that an event may end, at a cost that follows the matches and not the waiters.

use callboard_actors::domain::{Lookup, RunId, Wait};
use callboard_actors::ports::StoreError;
use uuid::Uuid;

use super::cells::{Id as _, NO_DIGEST, digest, text};
use super::readers::Readers;
use super::rows::{get_text_or_null, wait};
use crate::store::paging::sql_limit;

/// The distinct paths of a name by jumping from one to the next in the index.
pub(super) const PATHS: &str = "WITH RECURSIVE paths (path_id, path) AS (
        (SELECT path_id, path FROM callboard.waits WHERE name_id = $1 ORDER BY path_id LIMIT 1)
        UNION ALL
        SELECT next.path_id, next.path FROM paths CROSS JOIN LATERAL (
            SELECT path_id, path FROM callboard.waits WHERE name_id = $1 AND waits.path_id > paths.path_id
            ORDER BY path_id LIMIT 1) AS next
    )
    SELECT path FROM paths";

/// Each lookup gives its first ones; the first ones of all are among them.
pub(super) const FIND: &str =
    "SELECT found.* FROM (SELECT DISTINCT * FROM unnest($2::uuid[], $3::uuid[])) AS wanted (path_id, lookup_id)
    CROSS JOIN LATERAL (
        SELECT run_id, key, function_id, kind, name, path, lookup_key, condition, created_at, expires_at
        FROM callboard.waits
        WHERE name_id = $1 AND waits.path_id = wanted.path_id AND waits.lookup_id = wanted.lookup_id
            AND (run_id, key) > ($4, $5)
        ORDER BY run_id, key LIMIT $6) AS found
    ORDER BY run_id, key LIMIT $6";

pub(super) async fn paths(readers: &Readers, name: &str) -> Result<Vec<Option<String>>, StoreError> {
    let query = sqlx::query(PATHS).bind(digest(name));
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter().map(|row| get_text_or_null(row, 0)).collect()
}

pub(super) async fn find(
    readers: &Readers,
    name: &str,
    lookups: &[Option<Lookup>],
    after: Option<(RunId, String)>,
    limit: usize,
) -> Result<Vec<Wait>, StoreError> {
    if lookups.is_empty() {
        return Ok(Vec::new());
    }
    // Keys sort after the empty text, so this is before all waits.
    let (run, key) = after.map_or_else(|| (Uuid::nil(), String::new()), |(run, key)| (run.cell(), key));
    let (paths, keys): (Vec<Uuid>, Vec<Uuid>) = lookups
        .iter()
        .map(|lookup| match lookup {
            Some(lookup) => (digest(&lookup.path), digest(&lookup.key)),
            None => (NO_DIGEST, NO_DIGEST),
        })
        .unzip();
    let query = sqlx::query(FIND).bind(digest(name)).bind(paths).bind(keys).bind(run);
    let query = query.bind(text(&key).into_owned()).bind(sql_limit(limit));
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    rows.iter().map(wait).collect()
}
