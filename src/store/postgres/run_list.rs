//! Lists of runs, from new to old.
//!
//! A page is a range of an index, read backwards: all runs by id, one function's, the open ones or the unsuccessful ones.
//! What the index does not tell is checked row by row.

use callboard_actors::ports::{Page, RunFilter, RunSummary, StoreError};
use uuid::Uuid;

use super::cells::Id as _;
use super::readers::Readers;
use super::rows::summary;
use crate::store::paging::{Runs, page, sql_limit};

/// A page under a condition. The parameters are the bounds, the statuses and the limit; then, if any, the functions.
macro_rules! page {
    ($condition:literal) => {
        concat!(
            "SELECT id, function_id, function_version, status, event_id, event_ids, event_name, started_at, ended_at, output,
                original_id, batch_id
            FROM callboard.runs WHERE status = ANY ($3) AND ",
            $condition,
            " ORDER BY id DESC LIMIT $4"
        )
    };
}
pub(super) const ALL: &str = page!("id >= $1 AND id < $2");
pub(super) const OPEN: &str = page!("id >= $1 AND id < $2 AND ended_at IS NULL");
pub(super) const UNSUCCESSFUL: &str = page!("id >= $1 AND id < $2 AND unsuccessful");
/// All runs are looked at: as the condition is written, it keeps the index of functions out, which could not give them in
/// order.
pub(super) const OF_MANY: &str = page!("id >= $1 AND id < $2 AND (function_id = ANY ($5)) IS TRUE");
/// The pages of some functions, merged. As the bounds are written, they are of use for the index of functions only.
pub(super) const OF_SOME: &str = concat!(
    "SELECT page.* FROM (SELECT DISTINCT * FROM unnest($5::uuid[])) AS wanted (function_id) CROSS JOIN LATERAL (",
    page!(
        "runs.function_id = wanted.function_id AND (runs.function_id, id) >= (wanted.function_id, $1)
            AND (runs.function_id, id) < (wanted.function_id, $2)"
    ),
    ") AS page ORDER BY id DESC LIMIT $4"
);

/// Functions whose pages are read one by one and merged; for more, all runs are looked at.
const FUNCTIONS_AT_ONCE: usize = 8;

pub(super) async fn list(readers: &Readers, filter: &RunFilter) -> Result<Page<RunSummary>, StoreError> {
    let runs = Runs::of(filter);
    let sql = match &filter.functions {
        Some(functions) if functions.is_empty() => {
            return Ok(Page {
                items: Vec::new(),
                has_more: false,
            });
        }
        Some(functions) if functions.len() <= FUNCTIONS_AT_ONCE => OF_SOME,
        Some(_) => OF_MANY,
        None => runs.narrowest(ALL, OPEN, UNSUCCESSFUL),
    };
    let names: Vec<&str> = runs.status_names().collect();
    let mut query = sqlx::query(sql)
        .bind(runs.from.cell())
        .bind(runs.end.cell())
        .bind(names);
    query = query.bind(sql_limit(filter.limit.saturating_add(1)));
    if let Some(functions) = &filter.functions {
        let functions: Vec<Uuid> = functions.iter().map(|function| function.cell()).collect();
        query = query.bind(functions);
    }
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    page(&rows, filter.limit, summary)
}
