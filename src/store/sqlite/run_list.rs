//! Lists of runs, from new to old.
//!
//! A page is a range of an index, read backwards: all runs by id, one function's, the open ones or the failed ones. What
//! the index does not tell is checked row by row.

use callboard_actors::domain::FunctionId;
use callboard_actors::ports::{Page, RunFilter, RunSummary, StoreError};
use sqlx::{AssertSqlSafe, SqlitePool};

use super::error::from_sqlx;
use super::jsonb::Rows;
use super::rows::summary;
use crate::store::paging::{Runs, sql_limit};

/// A page under a condition; the parameters are anonymous, for the text may be repeated.
macro_rules! page {
    ($condition:literal) => {
        concat!(
            "SELECT id, function_id, function_version, status, event_id, event_ids, event_name, started_at, ended_at, output,
                original_id, batch_id
            FROM runs WHERE id >= ? AND id < ? AND ",
            $condition,
            " AND status IN (SELECT value FROM jsonb_each(?)) ORDER BY id DESC LIMIT ?;"
        )
    };
}
/// The first parameters are the bounds, the last ones the statuses and the limit; in between, if any, the functions.
pub(super) const ALL: &str = page!("true");
pub(super) const OPEN: &str = page!("ended_at IS NULL");
pub(super) const FAILED: &str = page!("status IN ('failed', 'cancelled')");
pub(super) const OF_FUNCTION: &str = page!("function_id = ?");
/// All runs are looked at: the `+` keeps the index of functions out, which could not give them in order.
pub(super) const OF_FUNCTIONS: &str = page!("+function_id IN (SELECT value FROM jsonb_each(?))");

/// Functions whose pages are read one by one and merged; for more, all runs are looked at.
const FUNCTIONS_AT_ONCE: usize = 8;

pub(super) async fn list(readers: &SqlitePool, filter: &RunFilter) -> Result<Page<RunSummary>, StoreError> {
    let runs = Runs::of(filter);
    let (from, end) = (runs.from.to_string(), runs.end.to_string());
    let statuses_param = || Rows::of_texts(runs.status_names()).into_bytes();
    let limit = sql_limit(filter.limit.saturating_add(1));

    let functions: Option<&[FunctionId]> = filter.functions.as_deref();
    let rows = match functions {
        Some([]) => Vec::new(),
        Some(functions) if functions.len() <= FUNCTIONS_AT_ONCE => {
            let mut query = sqlx::query(AssertSqlSafe(OF_FUNCTION.repeat(functions.len())));
            for function in functions {
                query = query.bind(from.as_str()).bind(end.as_str()).bind(function.to_string());
                query = query.bind(statuses_param()).bind(limit);
            }
            query.fetch_all(readers).await.map_err(from_sqlx)?
        }
        functions => {
            let sql = match functions {
                Some(_) => OF_FUNCTIONS,
                None => runs.narrowest(ALL, OPEN, FAILED),
            };
            let mut query = sqlx::query(sql).bind(from.as_str()).bind(end.as_str());
            if let Some(functions) = functions {
                query = query.bind(Rows::of_texts(functions).into_bytes());
            }
            let query = query.bind(statuses_param()).bind(limit);
            query.fetch_all(readers).await.map_err(from_sqlx)?
        }
    };
    let mut items = rows.iter().map(summary).collect::<Result<Vec<_>, _>>()?;
    items.sort_unstable_by_key(|run| std::cmp::Reverse(run.id));
    items.dedup_by_key(|run| run.id);
    let has_more = items.len() > filter.limit;
    items.truncate(filter.limit);
    Ok(Page { items, has_more })
}
