//! What can be done by GraphQL. Each mutation is the orchestrator's or the sync client's; nothing is decided here.

use async_graphql::{Context, ID, InputObject, Object, Result};
use callboard_actors::domain::{Json, RunId, RunStatus};
use callboard_actors::orchestrator::Cancelled;
use callboard_actors::rerun::FromStep;

use super::apps::App;
use super::asked::{Asked, asked, failed, id, invalid};
use super::function_run::FunctionRun;
use super::scalars::{Bytes, Map, Ulid};
use crate::error::{Code, Problem};
use crate::sdk::registration::normalise;

#[derive(Debug, InputObject)]
pub(super) struct CreateAppInput {
    url: String,
}

#[derive(Debug, InputObject)]
pub(super) struct UpdateAppInput {
    id: ID,
    url: String,
}

/// The step to begin with. What had completed before it keeps its results.
#[derive(Debug, InputObject)]
pub(super) struct RerunFromStepInput {
    /// Its id, or its name if no other step of the run has it.
    #[graphql(name = "stepID")]
    step_id: String,
    /// Arguments in place of those that the function gives it: the text of a JSON array.
    input: Option<Bytes>,
}

impl RerunFromStepInput {
    fn read(self) -> Result<FromStep, Problem> {
        let input = self.input.map(|input| Json::parse(&input.0)).transpose();
        Ok(FromStep {
            step: self.step_id,
            input: input.map_err(|error| Problem::new(Code::InvalidStepInput, error.to_string()))?,
        })
    }
}

/// Everything that changes something.
#[derive(Debug, Default)]
pub(super) struct Mutation;

/// Has the app at a URL register, and answers it.
async fn sync(asked: &Asked, url: &str) -> Result<App> {
    let url = url.trim();
    if url.is_empty() {
        return Err(invalid("the app's URL is missing"));
    }
    let with_scheme = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    let url = normalise(&with_scheme);
    let at = url.clone();
    let synced = asked.here(|api, state| async move {
        let synced = state.options.syncer.sync(&at).await;
        api.note_sync(&at, synced.as_ref().err().map(ToString::to_string));
        synced.map_err(|error| Problem::new(Code::SyncFailed, format!("{at}: {error}")))?;
        Ok(api.catalog())
    });
    let catalog = synced.await?;
    let registered = App::by_url(&catalog, &url);
    registered.ok_or_else(|| invalid(format!("the app at {url} has registered under another URL")))
}

async fn remove(asked: &Asked, app: &App) -> Result<bool> {
    let url = app.url().to_owned();
    asked
        .here(|api, _| async move { Ok(api.remove_app(&url).await?) })
        .await
}

#[Object]
impl Mutation {
    /// Has the app at a URL register.
    #[graphql(complexity = "500 + child_complexity")]
    async fn create_app(&self, ctx: &Context<'_>, input: CreateAppInput) -> Result<App> {
        sync(asked(ctx), &input.url).await
    }

    /// Has an app register that is now at another URL.
    #[graphql(complexity = "500 + child_complexity")]
    async fn update_app(&self, ctx: &Context<'_>, input: UpdateAppInput) -> Result<App> {
        let asked = asked(ctx);
        App::by_id(&asked.catalog, &input.id)?;
        sync(asked, &input.url).await
    }

    /// Removes an app and archives its functions; whatever is under way goes on.
    #[graphql(complexity = 500)]
    async fn delete_app(&self, ctx: &Context<'_>, #[graphql(name = "id")] app: String) -> Result<String> {
        let asked = asked(ctx);
        remove(asked, &App::by_id(&asked.catalog, &app)?).await?;
        Ok(app)
    }

    /// The same by name. False if there is no such app.
    #[graphql(complexity = 500)]
    async fn delete_app_by_name(&self, ctx: &Context<'_>, name: String) -> Result<bool> {
        let asked = asked(ctx);
        match App::by_name(&asked.catalog, &name) {
            Some(app) => remove(asked, &app).await,
            None => Ok(false),
        }
    }

    /// Runs a function without an event of its own. What is for debugging is ignored.
    #[graphql(complexity = 500)]
    #[expect(clippy::too_many_arguments, reason = "they are the field's")]
    async fn invoke_function(
        &self,
        ctx: &Context<'_>,
        data: Option<Map>,
        function_slug: String,
        meta: Option<Map>,
        user: Option<Map>,
        #[graphql(name = "debugSessionID")] debug_session_id: Option<Ulid>,
        #[graphql(name = "debugRunID")] debug_run_id: Option<Ulid>,
    ) -> Result<Option<bool>> {
        let _ = (debug_session_id, debug_run_id);
        let members = [("data", data), ("meta", meta), ("user", user)];
        let payload = members
            .into_iter()
            .filter_map(|(key, map)| Some((key.to_owned(), serde_json::Value::Object(map?.0))));
        let payload = payload.collect();
        let invoked = asked(ctx).here(|api, _| async move { Ok(api.invoke(&function_slug, payload).await?) });
        invoked.await?;
        Ok(Some(true))
    }

    /// Cancels a run. A run that is cancelled already stays so.
    #[graphql(complexity = "500 + child_complexity")]
    async fn cancel_run(&self, ctx: &Context<'_>, #[graphql(name = "runID")] run_id: Ulid) -> Result<FunctionRun> {
        let asked = asked(ctx);
        let run: RunId = id("a run", &run_id.0)?;
        let cancelled = asked.here(|api, _| async move { Ok(api.cancel(run).await?) }).await?;
        asked.forget(run).await;
        let summary = asked.run(run).await?.view.summary.clone();
        if cancelled == Cancelled::AlreadyEnded && summary.status != RunStatus::Cancelled {
            return Err(invalid("cannot cancel an ended run"));
        }
        Ok(FunctionRun::of(summary))
    }

    /// Does a run again, as a whole or from one of its steps on. What is for debugging is ignored.
    #[graphql(complexity = 500)]
    async fn rerun(
        &self,
        ctx: &Context<'_>,
        #[graphql(name = "runID")] run_id: Ulid,
        from_step: Option<RerunFromStepInput>,
        #[graphql(name = "debugSessionID")] debug_session_id: Option<Ulid>,
        #[graphql(name = "debugRunID")] debug_run_id: Option<Ulid>,
    ) -> Result<Ulid> {
        let _ = (debug_session_id, debug_run_id);
        let run: RunId = id("a run", &run_id.0)?;
        let from = from_step.map(RerunFromStepInput::read).transpose().map_err(failed)?;
        let again = asked(ctx).here(|api, _| async move { Ok(api.rerun(run, from).await?) });
        Ok(Ulid::of(again.await?.run))
    }
}
