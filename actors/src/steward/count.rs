//! Which runs an operation is about, and how many: told before it is begun, at a bounded cost.
//!
//! Runs are counted up to [`MOST`]. Whether an expression is true of a run's event, or a failed run has been done again, is
//! looked at for the newest [`SAMPLE`]; if there are more, the number is an estimate.

use std::collections::HashMap;

use crate::domain::{Estimate, EventId, OperationFilter, OperationKind, Precision, RunId, Timestamp};
use crate::expression::{Expression, Scope};
use crate::ports::{DeadLetterFilter, RunFilter, RunSummary, Store, StoreError};

/// Runs counted, at the most.
pub const MOST: usize = 100_000;
/// Runs whose events are looked at to count, at the most.
pub const SAMPLE: usize = 1_000;
/// Runs read at a time.
const PAGE: usize = 250;

/// The runs that may be meant, but for the condition.
#[must_use]
pub fn run_filter(kind: OperationKind, filter: &OperationFilter) -> RunFilter {
    let possible = kind.statuses();
    let wanted = |status| filter.statuses.is_empty() || filter.statuses.contains(status);
    RunFilter {
        statuses: possible.iter().filter(|status| wanted(status)).copied().collect(),
        functions: filter.functions.clone(),
        from: filter.from,
        until: filter.until,
        before: None,
        limit: 0,
    }
}

/// How many runs an operation would be about now, and dead letters if it is about them.
///
/// # Errors
/// When the store can't.
pub async fn estimate(
    store: &dyn Store,
    kind: OperationKind,
    filter: &OperationFilter,
    now: Timestamp,
) -> Result<Estimate, StoreError> {
    let mut runs = run_filter(kind, filter);
    runs.limit = MOST + 1;
    let most = u64::try_from(MOST).unwrap_or(u64::MAX);
    let counted = store.count_up_to(&runs).await?;
    let mut estimate = Estimate {
        count: counted.min(most),
        precision: if counted > most {
            Precision::AtLeast
        } else {
            Precision::Exact
        },
    };
    if filter.condition.is_some() || kind == OperationKind::RetryFailed {
        let sample = sample(store, kind, filter, now).await?;
        estimate = sample.project(estimate);
    }
    if kind == OperationKind::RetryFailed {
        let letters = letters(store, filter).await?;
        estimate.count += letters.count;
        if estimate.precision == Precision::Exact {
            estimate.precision = letters.precision;
        }
    }
    Ok(estimate)
}

/// What looking at the newest runs has given.
struct Sample {
    looked_at: u64,
    meant: u64,
    is_all: bool,
}

impl Sample {
    fn project(&self, counted: Estimate) -> Estimate {
        if self.is_all {
            return Estimate {
                count: self.meant,
                precision: Precision::Exact,
            };
        }
        Estimate {
            count: counted.count.saturating_mul(self.meant) / self.looked_at.max(1),
            precision: Precision::Estimate,
        }
    }
}

async fn sample(
    store: &dyn Store,
    kind: OperationKind,
    filter: &OperationFilter,
    now: Timestamp,
) -> Result<Sample, StoreError> {
    let mut runs = run_filter(kind, filter);
    runs.limit = PAGE;
    let mut sample = Sample {
        looked_at: 0,
        meant: 0,
        is_all: false,
    };
    let most = u64::try_from(SAMPLE).unwrap_or(u64::MAX);
    while sample.looked_at < most {
        let page = store.list_runs(&runs).await?;
        runs.before = page.items.last().map(|run| run.id);
        sample.looked_at += u64::try_from(page.items.len()).unwrap_or(0);
        let mut meant = matching(store, filter.condition.as_deref(), page.items, now).await?;
        if kind == OperationKind::RetryFailed {
            (meant, _) = without_repetitions(store, meant).await?;
        }
        sample.meant += u64::try_from(meant.len()).unwrap_or(0);
        if !page.has_more {
            sample.is_all = true;
            break;
        }
    }
    Ok(sample)
}

/// Dead letters that may be meant. A condition is not looked at: there are few.
async fn letters(store: &dyn Store, filter: &OperationFilter) -> Result<Estimate, StoreError> {
    let page = store
        .dead_letters(&DeadLetterFilter {
            functions: filter.functions.clone(),
            from: filter.from,
            until: filter.until,
            before: None,
            limit: SAMPLE,
        })
        .await?;
    let count = u64::try_from(page.items.len()).unwrap_or(u64::MAX);
    let precision = match (page.has_more, filter.condition.is_some() && count > 0) {
        (true, _) => Precision::AtLeast,
        (false, true) => Precision::Estimate,
        (false, false) => Precision::Exact,
    };
    Ok(Estimate { count, precision })
}

/// The runs of whose first event the condition is true. Of one that can't be evaluated, or whose event is gone, it is not.
pub(super) async fn matching(
    store: &dyn Store,
    condition: Option<&str>,
    runs: Vec<RunSummary>,
    now: Timestamp,
) -> Result<Vec<RunSummary>, StoreError> {
    let Some(condition) = condition else { return Ok(runs) };
    // Conditions that don't compile are refused when the operation is asked for.
    let Ok(condition) = Expression::compile(condition, &["event"]) else {
        return Ok(Vec::new());
    };
    let firsts: Vec<EventId> = runs.iter().filter_map(|run| run.event_ids.first().copied()).collect();
    let mut is_true = HashMap::new();
    for event in store.events_by_id(&firsts).await? {
        let body = event.body.to_tree();
        let scope = Scope::of_event(&body, now.to_datetime());
        is_true.insert(event.id, condition.truth(&scope).unwrap_or(false));
    }
    let is_meant = |run: &RunSummary| run.event_ids.first().and_then(|event| is_true.get(event)) == Some(&true);
    Ok(runs.into_iter().filter(is_meant).collect())
}

/// The runs that are the newest of their chains of repetitions, and how many are not: doing those again would be doing twice
/// what has been done again since.
pub(super) async fn without_repetitions(
    store: &dyn Store,
    runs: Vec<RunSummary>,
) -> Result<(Vec<RunSummary>, u64), StoreError> {
    let original = |run: &RunSummary| run.original.unwrap_or(run.id);
    let originals: Vec<RunId> = runs.iter().map(original).collect();
    let newest: HashMap<RunId, RunId> = store.newest_repetitions(&originals).await?.into_iter().collect();
    let before = runs.len();
    let is_newest = |run: &RunSummary| newest.get(&original(run)).is_none_or(|newest| *newest <= run.id);
    let runs: Vec<_> = runs.into_iter().filter(is_newest).collect();
    let left_out = u64::try_from(before - runs.len()).unwrap_or(0);
    Ok((runs, left_out))
}
