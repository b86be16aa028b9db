//! What started a run.

use async_graphql::{Context, Object, Result, SimpleObject};
use callboard_actors::domain::{RunId, Timestamp};

use super::asked::{asked, id};
use super::event::raw;
use super::run::{is_cron, schedule};
use super::scalars::{Bytes, Time, Ulid};

/// What started a run.
#[derive(Debug, SimpleObject)]
pub(super) struct RunTraceTrigger {
    /// Of all events; null for a cron, and if they have not the same.
    event_name: Option<String>,
    #[graphql(name = "IDs")]
    ids: Vec<Ulid>,
    payloads: Vec<Bytes>,
    timestamp: Time,
    is_batch: bool,
    #[graphql(name = "batchID")]
    batch_id: Option<Ulid>,
    cron: Option<String>,
}

/// The question about what started a run.
#[derive(Debug, Default)]
pub(super) struct Query;

#[Object(name = "QueryOfTriggers")]
impl Query {
    /// What started a run.
    async fn run_trigger(
        &self,
        ctx: &Context<'_>,
        #[graphql(name = "runID")] run_id: String,
    ) -> Result<RunTraceTrigger> {
        let asked = asked(ctx);
        let viewed = asked.run(id::<RunId>("a run", &run_id)?).await?;
        let run = &viewed.view.summary;
        let events = asked.events(&run.event_ids).await?;
        let is_one_name = events.iter().all(|event| event.name == run.event_name);
        let first: Option<Timestamp> = run.event_ids.iter().map(|event| event.at()).min();
        Ok(RunTraceTrigger {
            event_name: (is_one_name && !is_cron(run)).then(|| run.event_name.clone()),
            ids: run.event_ids.iter().map(Ulid::of).collect(),
            payloads: events.iter().map(|event| Bytes(raw(event))).collect(),
            timestamp: Time(first.unwrap_or_else(|| run.id.at())),
            is_batch: run.batch.is_some(),
            batch_id: run.batch.map(Ulid::of),
            cron: schedule(asked, run).await?,
        })
    }
}
