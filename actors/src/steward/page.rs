//! One page of an operation: what is next, written down; done; and what came of it, written down.

use std::collections::HashMap;
use std::time::Duration;

use super::{Parts, count};
use crate::domain::{EventId, Item, Operation, OperationKind, OperationState, Progress, RunId, RunStatus, Timestamp};
use crate::engine::Input;
use crate::orchestrator::{Cancelled, Refusal};
use crate::ports::{DeadLetterFilter, RunSummary, StoreError};
use crate::rerun::RerunError;

/// Runs of a page, at the most.
const PAGE: usize = 100;

/// How long after the beginning of a page of so many items the next one may begin.
pub(super) fn pause(kind: OperationKind, rate: u32, items: usize) -> Duration {
    if kind == OperationKind::Cancel {
        return Duration::ZERO;
    }
    let items = u32::try_from(items).unwrap_or(u32::MAX);
    Duration::from_secs(1) * items / rate.max(1)
}

/// How many items a page has: those of a second, if that is less.
fn page_size(operation: &Operation) -> usize {
    match operation.kind {
        OperationKind::Cancel => PAGE,
        OperationKind::Replay | OperationKind::RetryFailed => {
            usize::try_from(operation.rate.max(1)).unwrap_or(PAGE).min(PAGE)
        }
    }
}

/// Does the next page of an operation, or ends it. Answers how many items it had.
pub(super) async fn work(parts: &Parts, mut operation: Operation) -> Result<usize, StoreError> {
    let mut counted = operation.progress;
    if operation.page.is_empty() {
        list(parts, &mut operation).await?;
        if !note(parts, &mut operation, &mut counted).await? {
            // Somebody has stopped it, or is at it.
            return Ok(0);
        }
    }
    let at = operation.page_at.unwrap_or(operation.id.at());
    let items = std::mem::take(&mut operation.page);
    for item in &items {
        match act(parts, &operation, at, *item).await? {
            Done::Yes => operation.progress.done += 1,
            Done::Skipped(why) => {
                operation.progress.skipped += 1;
                operation.last_error = why.or(operation.last_error);
            }
            Done::Failed(error) => {
                operation.progress.failed += 1;
                operation.last_error = Some(error);
            }
        }
    }
    if !items.is_empty() {
        operation.page_at = None;
        note(parts, &mut operation, &mut counted).await?;
    }
    Ok(items.len())
}

/// Writes an operation down as it is now, and counts how far it has come beyond what was `counted`. Answers whether it was as
/// it was known.
async fn note(parts: &Parts, operation: &mut Operation, counted: &mut Progress) -> Result<bool, StoreError> {
    let expected = operation.version;
    operation.version += 1;
    let is_noted = parts.outside.store.update_operation(operation, expected).await?;
    if is_noted {
        let from = std::mem::replace(counted, operation.progress);
        let metrics = &parts.outside.metrics.operations;
        metrics.progressed(operation.kind, from, operation.progress);
    }
    Ok(is_noted)
}

/// Makes out what is next.
async fn list(parts: &Parts, operation: &mut Operation) -> Result<(), StoreError> {
    let now = parts.outside.clock.now();
    operation.page_at = Some(now);
    if operation.kind == OperationKind::RetryFailed && !operation.cursor.letters_done {
        letters(parts, operation).await?;
        if !operation.page.is_empty() {
            return Ok(());
        }
    }
    let mut filter = count::run_filter(operation.kind, &operation.filter);
    filter.before = operation.cursor.run;
    filter.limit = page_size(operation);
    let page = parts.outside.store.list_runs(&filter).await?;
    let Some(last) = page.items.last() else {
        operation.state = OperationState::Finished;
        operation.ended_at = Some(now);
        operation.page_at = None;
        return Ok(());
    };
    operation.cursor.run = Some(last.id);
    let store = &*parts.outside.store;
    let meant = count::matching(store, operation.filter.condition.as_deref(), page.items, now).await?;
    let (meant, superseded) = if operation.kind == OperationKind::RetryFailed {
        count::without_repetitions(store, meant).await?
    } else {
        (meant, 0)
    };
    operation.progress.skipped += superseded;
    operation.page = meant.iter().map(|run: &RunSummary| Item::Run(run.id)).collect();
    Ok(())
}

async fn letters(parts: &Parts, operation: &mut Operation) -> Result<(), StoreError> {
    let filter = DeadLetterFilter {
        functions: operation.filter.functions.clone(),
        from: operation.filter.from,
        until: operation.filter.until,
        before: operation.cursor.letter,
        limit: page_size(operation),
    };
    let page = parts.outside.store.dead_letters(&filter).await?;
    operation.cursor.letter = page.items.last().map(|letter| letter.id).or(operation.cursor.letter);
    operation.cursor.letters_done = !page.has_more;
    let meant = match operation.filter.condition.as_deref() {
        None => page.items,
        condition => {
            let mut of_runs = HashMap::new();
            for letter in &page.items {
                let run = letter.job.id.run;
                let view = parts.outside.store.run_view(run).await?;
                of_runs.extend(view.map(|view| (run, view.summary)));
            }
            let runs = of_runs.into_values().collect();
            let now = parts.outside.clock.now();
            let runs = count::matching(&*parts.outside.store, condition, runs, now).await?;
            let is_meant = |run: RunId| runs.iter().any(|summary| summary.id == run);
            page.items
                .into_iter()
                .filter(|letter| is_meant(letter.job.id.run))
                .collect()
        }
    };
    operation.page = meant.iter().map(|letter| Item::Letter(letter.id)).collect();
    Ok(())
}

/// What came of an item.
enum Done {
    Yes,
    /// It was left as it is, with the reason if that is worth telling.
    Skipped(Option<String>),
    Failed(String),
}

/// Does what is to be done to an item, which may have been done already. What is passing is an error of the store: the
/// page is begun again.
async fn act(parts: &Parts, operation: &Operation, at: Timestamp, item: Item) -> Result<Done, StoreError> {
    match item {
        Item::Letter(id) => match parts.outside.settle(id, &Input::Revived(id)).await {
            Ok(Some(_)) => Ok(Done::Yes),
            Ok(None) => Ok(Done::Skipped(None)),
            Err(refusal) => failed(refusal),
        },
        Item::Run(run) if operation.kind == OperationKind::Cancel => {
            let reason = format!("cancelled by operation {}", operation.id);
            match parts.outside.cancel(run, &reason).await {
                Ok(Cancelled::Now) => Ok(Done::Yes),
                Ok(Cancelled::AlreadyEnded) => was_cancelled_since(parts, run, at).await,
                Ok(Cancelled::Unknown) => Ok(Done::Skipped(None)),
                Err(refusal) => failed(refusal),
            }
        }
        Item::Run(run) => {
            let wish = EventId::derive(at, &format!("operation:{}:{run}", operation.id));
            match parts.reruns.rerun(run, None, wish).await {
                Ok(_) => Ok(Done::Yes),
                Err(error @ (RerunError::UnknownRun(_) | RerunError::Archived | RerunError::Skipped(..))) => {
                    Ok(Done::Skipped(Some(format!("run {run}: {error}"))))
                }
                Err(RerunError::Store(error @ StoreError::Corrupt(_))) => {
                    Ok(Done::Failed(format!("run {run}: {error}")))
                }
                Err(RerunError::Store(error)) => Err(error),
                Err(RerunError::Unavailable(name)) => Err(StoreError::Unavailable(format!("the {name} is down"))),
                Err(error) => Ok(Done::Failed(format!("run {run}: {error}"))),
            }
        }
    }
}

/// A run that has ended: by this very page, begun before, or by itself.
async fn was_cancelled_since(parts: &Parts, run: RunId, at: Timestamp) -> Result<Done, StoreError> {
    let view = parts.outside.store.run_view(run).await?;
    let by_us = view.is_some_and(|view| {
        let summary = view.summary;
        summary.status == RunStatus::Cancelled && summary.ended_at.is_some_and(|ended| ended >= at)
    });
    Ok(if by_us { Done::Yes } else { Done::Skipped(None) })
}

fn failed(refusal: Refusal) -> Result<Done, StoreError> {
    match refusal {
        Refusal::Store(error @ StoreError::Corrupt(_)) => Ok(Done::Failed(error.to_string())),
        Refusal::Store(error) => Err(error),
        Refusal::Overloaded | Refusal::Unavailable(_) => Err(StoreError::Unavailable(refusal.to_string())),
        other => Ok(Done::Failed(other.to_string())),
    }
}
