//! Operations on many runs, as they may be asked for.

use super::{Orchestrator, Refusal};
use crate::domain::{
    Cursor, Estimate, Operation, OperationFilter, OperationId, OperationKind, OperationState, Progress, RunStatus,
    Timestamp,
};
use crate::expression::Expression;
use crate::outside::TRIES;
use crate::steward::count;

/// The most runs that an operation may have done again in a second.
pub const MOST_PER_SECOND: u32 = 1_000;

/// What is to be done to many runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationWish {
    /// What.
    pub kind: OperationKind,
    /// To which runs.
    pub filter: OperationFilter,
    /// Runs done again per second, 1 to [`MOST_PER_SECOND`].
    pub rate: u32,
}

impl OperationWish {
    /// All that makes no sense about it.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let possible = self.kind.statuses();
        for status in self.filter.statuses.iter().filter(|status| !possible.contains(status)) {
            let names: Vec<&str> = possible.iter().copied().map(RunStatus::as_str).collect();
            problems.push(format!(
                "{} is about runs that are {}, not {}",
                self.kind.as_str(),
                names.join(", "),
                status.as_str()
            ));
        }
        if let Some(condition) = &self.filter.condition
            && let Err(error) = Expression::compile(condition, &["event"])
        {
            problems.push(format!("the expression does not compile: {error}"));
        }
        if !(1..=MOST_PER_SECOND).contains(&self.rate) {
            problems.push(format!("the rate is 1 to {MOST_PER_SECOND} runs per second"));
        }
        problems
    }

    /// The same about runs of before `now` only.
    fn until(mut self, now: Timestamp) -> Self {
        self.filter.until = Some(self.filter.until.map_or(now, |until| until.min(now)));
        self
    }
}

impl Orchestrator {
    /// How many runs an operation would be about now.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] if the wish makes no sense, and when the store can't.
    pub async fn preview_operation(&self, wish: OperationWish) -> Result<Estimate, Refusal> {
        let problems = wish.problems();
        if !problems.is_empty() {
            return Err(Refusal::Invalid(problems));
        }
        let now = self.clock.now();
        let wish = wish.until(now);
        let counted = count::estimate(&*self.store, wish.kind, &wish.filter, now).await;
        Ok(self.metrics.store_errors.watch(counted)?)
    }

    /// Begins an operation: when this returns it is durable, and goes on until it has ended.
    ///
    /// # Errors
    /// As for [`Self::preview_operation`].
    pub async fn begin_operation(&self, wish: OperationWish) -> Result<Operation, Refusal> {
        let total = self.preview_operation(wish.clone()).await?;
        let now = self.clock.now();
        let OperationWish { kind, filter, rate } = wish.until(now);
        let operation = Operation {
            id: OperationId::new(now, self.random.bits()),
            kind,
            filter,
            rate,
            total,
            state: OperationState::Running,
            progress: Progress::default(),
            cursor: Cursor::default(),
            page: Vec::new(),
            page_at: None,
            last_error: None,
            ended_at: None,
            version: 0,
        };
        self.store.put_operation(&operation).await?;
        tracing::info!(operation = %operation.id, kind = kind.as_str(), total = total.count, "an operation begins");
        self.metrics.operations.begun(kind, total);
        self.operations_changed.notify_one();
        Ok(operation)
    }

    /// Stops an operation: no further page is begun. Answers it as it is then; `None` if there is none.
    ///
    /// # Errors
    /// When the store can't.
    pub async fn cancel_operation(&self, id: OperationId) -> Result<Option<Operation>, Refusal> {
        for _ in 0..TRIES {
            let Some(mut operation) = self.store.operation(id).await? else {
                return Ok(None);
            };
            if operation.state != OperationState::Running {
                return Ok(Some(operation));
            }
            let expected = operation.version;
            operation.version += 1;
            operation.state = OperationState::Cancelled;
            operation.ended_at = Some(self.clock.now());
            operation.page.clear();
            if self.store.update_operation(&operation, expected).await? {
                return Ok(Some(operation));
            }
        }
        Err(Refusal::Overloaded)
    }
}
