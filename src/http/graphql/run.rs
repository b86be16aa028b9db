//! A run.

use async_graphql::{Context, Object, Result};
use callboard_actors::domain::{Event, FunctionId, RunStatus};
use callboard_actors::ports::RunSummary;

use super::apps::App;
use super::asked::{Asked, asked};
use super::deferral::{RunDefer, RunDeferredFrom};
use super::function_run::{FunctionRunStatus, status_of};
use super::functions::Function;
use super::scalars::{Bytes, Time, Ulid, Uuid};
use super::trace::{self, RunTraceSpan, View};

/// A run.
#[derive(Debug, Clone)]
pub(super) struct FunctionRunV2(pub(super) RunSummary);

/// Whether a run was started by its function's schedule.
pub(super) fn is_cron(run: &RunSummary) -> bool {
    run.event_name == Event::SCHEDULED
}

/// The schedule that started a run.
pub(super) async fn schedule(asked: &Asked, run: &RunSummary) -> Result<Option<String>> {
    let Some(event) = run.event_ids.first().filter(|_| is_cron(run)) else {
        return Ok(None);
    };
    let event = asked.events(&[*event]).await?.pop();
    Ok(event.and_then(|event| event.cron()))
}

#[Object]
impl FunctionRunV2 {
    async fn id(&self) -> Ulid {
        Ulid::of(self.0.id)
    }

    #[graphql(name = "appID")]
    async fn app_id(&self, ctx: &Context<'_>) -> Result<Uuid> {
        let function = asked(ctx).function(self.0.function)?;
        Ok(Uuid::of(FunctionId::app_uuid(&function.app)))
    }

    async fn app(&self, ctx: &Context<'_>) -> Result<App> {
        let asked = asked(ctx);
        App::of_function(&asked.catalog, &*asked.function(self.0.function)?)
    }

    #[graphql(name = "functionID")]
    async fn function_id(&self) -> Uuid {
        Uuid::of(self.0.function)
    }

    async fn function(&self, ctx: &Context<'_>) -> Result<Function> {
        asked(ctx).function(self.0.function).map(Function)
    }

    #[graphql(name = "traceID")]
    async fn trace_id(&self) -> String {
        trace::trace_id(self.0.id)
    }

    async fn queued_at(&self) -> Time {
        Time(self.0.id.at())
    }

    async fn started_at(&self) -> Option<Time> {
        self.0.started_at.map(Time)
    }

    async fn ended_at(&self) -> Option<Time> {
        self.0.ended_at.map(Time)
    }

    async fn status(&self, ctx: &Context<'_>) -> FunctionRunStatus {
        status_of(asked(ctx), &self.0).await
    }

    #[graphql(name = "sourceID")]
    async fn source_id(&self) -> Option<String> {
        None
    }

    /// The events that started it.
    #[graphql(name = "triggerIDs")]
    async fn trigger_ids(&self) -> Vec<Ulid> {
        self.0.event_ids.iter().map(Ulid::of).collect()
    }

    /// Null for a cron.
    async fn event_name(&self) -> Option<&str> {
        Some(self.0.event_name.as_str()).filter(|_| !is_cron(&self.0))
    }

    async fn is_batch(&self) -> bool {
        self.0.batch.is_some()
    }

    async fn batch_created_at(&self) -> Option<Time> {
        self.0.batch.map(|batch| Time(batch.at()))
    }

    async fn cron_schedule(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        schedule(asked(ctx), &self.0).await
    }

    /// What it returned, or its error.
    async fn output(&self) -> Option<Bytes> {
        let has_output = matches!(self.0.status, RunStatus::Completed | RunStatus::Failed);
        self.0.output.as_ref().filter(|_| has_output).map(Bytes::from)
    }

    #[graphql(complexity = "200 + child_complexity")]
    async fn trace(&self, ctx: &Context<'_>, preview: Option<bool>) -> Result<Option<RunTraceSpan>> {
        let root = RunTraceSpan::root(asked(ctx), self.0.id, View::of(preview)).await;
        root.map(Some)
    }

    #[graphql(name = "hasAI", complexity = 200)]
    async fn has_ai(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(trace::has_ai(&*asked(ctx).run(self.0.id).await?))
    }

    /// What it has put off until its end, in order.
    #[graphql(complexity = "100 + child_complexity")]
    async fn defers(&self, ctx: &Context<'_>) -> Result<Vec<RunDefer>> {
        RunDefer::of_run(asked(ctx), self.0.id).await
    }

    /// What the run that has put this one off has put off beside it.
    #[graphql(complexity = "100 + child_complexity")]
    async fn sibling_defers(&self, ctx: &Context<'_>) -> Result<Vec<RunDefer>> {
        RunDefer::beside(asked(ctx), &self.0).await
    }

    /// The run that has put this one off, if one has.
    #[graphql(complexity = "100 + child_complexity")]
    async fn deferred_from(&self, ctx: &Context<'_>) -> Result<Vec<RunDeferredFrom>> {
        RunDeferredFrom::of(asked(ctx), &self.0).await
    }

    async fn is_deferred(&self) -> bool {
        self.0.event_name == Event::DEFERRED
    }
}
