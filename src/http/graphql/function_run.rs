//! Runs in the form of the schema's older part.

use async_graphql::{Context, Enum, InputObject, Object, Result, SimpleObject};
use callboard_actors::domain::{RunId, RunStatus};
use callboard_actors::ports::RunSummary;

use super::asked::{Asked, asked, id, invalid};
use super::event::Event;
use super::functions::Function;
use super::run::schedule;
use super::scalars::{Bytes, Time, Ulid};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum FunctionRunStatus {
    Completed,
    Failed,
    Cancelled,
    Running,
    Queued,
    /// Never started.
    Skipped,
}

/// Where a run stands. A first call that is under way is recorded with its outcome only; until then the queue tells.
pub(super) async fn status_of(asked: &Asked, run: &RunSummary) -> FunctionRunStatus {
    match run.status {
        RunStatus::Queued if asked.is_called(run.id).await => FunctionRunStatus::Running,
        RunStatus::Queued => FunctionRunStatus::Queued,
        RunStatus::Running => FunctionRunStatus::Running,
        RunStatus::Completed => FunctionRunStatus::Completed,
        RunStatus::Failed => FunctionRunStatus::Failed,
        RunStatus::Cancelled => FunctionRunStatus::Cancelled,
    }
}

/// A run.
#[derive(Debug, Clone)]
pub(super) struct FunctionRun(RunSummary);

impl FunctionRun {
    pub(super) fn of(run: RunSummary) -> Self {
        Self(run)
    }
}

/// The event that a run waits for.
#[derive(Debug, SimpleObject)]
struct StepEventWait {
    event_name: Option<String>,
    expression: Option<String>,
    expiry_time: Time,
}

/// A line of the history in the older form, of which there is none.
#[derive(Debug, SimpleObject)]
struct RunHistoryItem {
    attempt: i32,
    created_at: Time,
    function_version: i32,
    #[graphql(name = "groupID")]
    group_id: Option<Ulid>,
    id: Ulid,
    step_name: Option<String>,
    step_type: Option<String>,
    #[graphql(name = "type")]
    kind: String,
    url: Option<String>,
}

#[Object]
impl FunctionRun {
    async fn id(&self) -> async_graphql::ID {
        self.0.id.to_string().into()
    }

    #[graphql(name = "functionID")]
    async fn function_id(&self) -> String {
        self.0.function.to_string()
    }

    async fn function(&self, ctx: &Context<'_>) -> Option<Function> {
        asked(ctx).function(self.0.function).map(Function).ok()
    }

    /// The first of its events.
    async fn event(&self, ctx: &Context<'_>) -> Result<Option<Event>> {
        let first = self.0.event_ids.get(..1).unwrap_or_default();
        Ok(asked(ctx).events(first).await?.pop().map(Event))
    }

    async fn events(&self, ctx: &Context<'_>) -> Result<Vec<Event>> {
        let events = asked(ctx).events(&self.0.event_ids).await?;
        Ok(events.into_iter().map(Event).collect())
    }

    #[graphql(name = "batchID")]
    async fn batch_id(&self) -> Option<Ulid> {
        self.0.batch.map(Ulid::of)
    }

    async fn batch_created_at(&self) -> Option<Time> {
        self.0.batch.map(|batch| Time(batch.at()))
    }

    async fn status(&self, ctx: &Context<'_>) -> Option<FunctionRunStatus> {
        Some(status_of(asked(ctx), &self.0).await)
    }

    /// The first event that it waits for.
    #[graphql(complexity = "200 + child_complexity")]
    async fn waiting_for(&self, ctx: &Context<'_>) -> Result<Option<StepEventWait>> {
        let viewed = asked(ctx).run(self.0.id).await?;
        let wait = viewed.view.waits.iter().find(|wait| wait.kind == "event");
        Ok(wait.map(|wait| StepEventWait {
            event_name: Some(wait.name.clone()),
            expression: wait.condition.clone(),
            expiry_time: Time(wait.expires_at),
        }))
    }

    /// Steps that are under way.
    #[graphql(complexity = 200)]
    async fn pending_steps(&self, ctx: &Context<'_>) -> Result<Option<i32>> {
        let viewed = asked(ctx).run(self.0.id).await?;
        let pending = viewed.view.steps.iter().filter(|step| step.ended_at.is_none());
        Ok(i32::try_from(pending.count()).ok())
    }

    async fn started_at(&self) -> Option<Time> {
        self.0.started_at.map(Time)
    }

    async fn finished_at(&self) -> Option<Time> {
        self.0.ended_at.map(Time)
    }

    /// JSON text.
    async fn output(&self) -> Option<String> {
        let has_output = matches!(self.0.status, RunStatus::Completed | RunStatus::Failed);
        let output = self.0.output.as_ref().filter(|_| has_output);
        output.map(|output| output.as_str().to_owned())
    }

    /// Always empty: a run's trace has it.
    async fn history(&self) -> Vec<RunHistoryItem> {
        Vec::new()
    }

    async fn history_item_output(&self, #[graphql(name = "id")] item: Ulid) -> Result<Option<Bytes>> {
        Err(invalid(format!("the history has no item {}", item.0)))
    }

    #[graphql(name = "eventID")]
    async fn event_id(&self) -> async_graphql::ID {
        let first = self.0.event_ids.first();
        first.map(ToString::to_string).unwrap_or_default().into()
    }

    async fn cron(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        schedule(asked(ctx), &self.0).await
    }
}

#[derive(Debug, InputObject)]
pub(super) struct FunctionRunQuery {
    #[graphql(name = "workspaceId", default_with = "\"local\".to_owned()")]
    workspace_id: String,
    function_run_id: async_graphql::ID,
}

/// The question about a run.
#[derive(Debug, Default)]
pub(super) struct Query;

#[Object(name = "QueryOfFunctionRuns")]
impl Query {
    /// A run.
    async fn function_run(&self, ctx: &Context<'_>, query: FunctionRunQuery) -> Result<Option<FunctionRun>> {
        // There is one workspace, whatever it is called.
        let FunctionRunQuery {
            workspace_id: _,
            function_run_id: run,
        } = query;
        let viewed = asked(ctx).run(id::<RunId>("a run", &run)?).await?;
        Ok(Some(FunctionRun(viewed.view.summary.clone())))
    }
}
