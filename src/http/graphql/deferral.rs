//! What runs have put off until their end, and which run has put another one off.

use async_graphql::{Enum, Result, SimpleObject};
use callboard_actors::domain::{Deferral, DeferralStatus, Event, EventId, RunId};
use callboard_actors::ports::RunSummary;
use serde_json::Value;

use super::asked::Asked;
use super::functions::Function;
use super::run::FunctionRunV2;
use super::scalars::Ulid;

/// A function that a run has put off until its end.
#[derive(Debug, SimpleObject)]
pub(super) struct RunDefer {
    #[graphql(name = "hashedDeferID")]
    hashed_defer_id: String,
    #[graphql(name = "userlandDeferID")]
    userland_defer_id: String,
    fn_slug: String,
    status: RunDeferStatus,
    function: Option<Function>,
    #[graphql(name = "runID")]
    run_id: Option<Ulid>,
    run: Option<FunctionRunV2>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
enum RunDeferStatus {
    Scheduled,
    Aborted,
    Rejected,
}

impl From<DeferralStatus> for RunDeferStatus {
    fn from(status: DeferralStatus) -> Self {
        match status {
            DeferralStatus::Pending | DeferralStatus::Scheduled => Self::Scheduled,
            DeferralStatus::Aborted => Self::Aborted,
            DeferralStatus::Rejected => Self::Rejected,
        }
    }
}

impl RunDefer {
    /// What a run has put off, in order.
    pub(super) async fn of_run(asked: &Asked, run: RunId) -> Result<Vec<Self>> {
        let viewed = asked.run(run).await?;
        let deferrals = &viewed.view.deferrals;
        let events: Vec<EventId> = deferrals.iter().filter_map(|deferral| deferral.event).collect();
        asked.load_runs_of(&events).await?;
        let mut defers = Vec::with_capacity(deferrals.len());
        for deferral in deferrals {
            defers.push(Self::of(asked, deferral).await?);
        }
        Ok(defers)
    }

    /// What was put off beside this run, by the run that has put it off.
    pub(super) async fn beside(asked: &Asked, run: &RunSummary) -> Result<Vec<Self>> {
        let Some((parent, _)) = parent(asked, run).await? else {
            return Ok(Vec::new());
        };
        let known = asked.find_run(parent).await?.is_some();
        let mut all = if known {
            Self::of_run(asked, parent).await?
        } else {
            Vec::new()
        };
        all.retain(|defer| defer.run.as_ref().is_none_or(|other| other.0.id != run.id));
        Ok(all)
    }

    async fn of(asked: &Asked, deferral: &Deferral) -> Result<Self> {
        let function = asked.catalog.find(&deferral.function).cloned();
        let runs = match deferral.event {
            Some(event) => asked.runs_of(event).await?,
            None => Vec::new(),
        };
        let is_its = |run: &&RunSummary| function.as_ref().is_none_or(|function| run.function == function.id);
        let run = runs.iter().find(is_its).cloned();
        Ok(Self {
            hashed_defer_id: deferral.id.to_string(),
            userland_defer_id: deferral.name.clone(),
            fn_slug: deferral.function.clone(),
            status: deferral.status.into(),
            function: function.map(Function),
            run_id: run.as_ref().map(|run| Ulid::of(run.id)),
            run: run.map(FunctionRunV2),
        })
    }
}

/// The run that has put another one off.
#[derive(Debug, SimpleObject)]
pub(super) struct RunDeferredFrom {
    #[graphql(name = "runID")]
    run_id: Ulid,
    function: Function,
    run: Option<FunctionRunV2>,
}

impl RunDeferredFrom {
    /// The run that has put this one off: there is one at the most, and it may have expired.
    pub(super) async fn of(asked: &Asked, run: &RunSummary) -> Result<Vec<Self>> {
        let Some((parent, function)) = parent(asked, run).await? else {
            return Ok(Vec::new());
        };
        let Some(function) = asked.catalog.find(&function).cloned() else {
            return Ok(Vec::new());
        };
        let run = asked.find_run(parent).await?;
        Ok(vec![Self {
            run_id: Ulid::of(parent),
            function: Function(function),
            run: run.map(|viewed| FunctionRunV2(viewed.view.summary.clone())),
        }])
    }
}

/// The run that has put this one off, and the slug of its function: the event says so.
async fn parent(asked: &Asked, run: &RunSummary) -> Result<Option<(RunId, String)>> {
    let Some(event) = run.event_ids.first().filter(|_| run.event_name == Event::DEFERRED) else {
        return Ok(None);
    };
    let event = asked.events(&[*event]).await?.pop();
    let body = event.map_or(Value::Null, |event| event.body.to_tree());
    let own = |key: &str| body.pointer("/data/_inngest")?.get(key)?.as_str();
    let run = own("parent_run_id").and_then(|id| id.parse().ok());
    Ok(run.zip(own("parent_fn_slug").map(str::to_owned)))
}
