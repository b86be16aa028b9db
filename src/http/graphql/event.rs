//! An event, in the forms of two generations of clients.

use async_graphql::{Context, Enum, ID, Object, Result, SimpleObject};
use callboard_actors::domain::{Event as Stored, RunStatus};
use callboard_actors::ports::RunSummary;
use serde_json::Value;

use super::asked::asked;
use super::function_run::FunctionRun;
use super::run::FunctionRunV2;
use super::scalars::{Time, Ulid, Uuid};
use crate::http::sdk::ENVIRONMENT;

/// The whole event as its sender would write it: without a `user` that is empty, and with a `v` in any case.
pub(super) fn raw(event: &Stored) -> String {
    let mut body = event.body.to_tree();
    if let Value::Object(members) = &mut body {
        if members
            .get("user")
            .and_then(Value::as_object)
            .is_some_and(serde_json::Map::is_empty)
        {
            members.remove("user");
        }
        members.entry("v").or_insert(Value::Null);
    }
    body.to_string()
}

/// The data of an event as text.
fn data(event: &Stored) -> String {
    event
        .body
        .to_tree()
        .get("data")
        .map_or_else(|| "{}".to_owned(), Value::to_string)
}

/// An event, in the oldest form.
#[derive(Debug, Clone)]
pub(super) struct Event(pub(super) Stored);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
enum EventStatus {
    Running,
    Completed,
    Paused,
    Failed,
    PartiallyFailed,
    NoFunctions,
}

impl EventStatus {
    fn of(runs: &[RunSummary]) -> Self {
        let is = |status| runs.iter().filter(move |run| run.status == status).count();
        let failed = is(RunStatus::Failed);
        if runs.is_empty() {
            Self::NoFunctions
        } else if failed == runs.len() {
            Self::Failed
        } else if failed > 0 {
            Self::PartiallyFailed
        } else if runs.iter().any(|run| !run.status.is_final()) {
            Self::Running
        } else {
            Self::Completed
        }
    }
}

impl Event {
    async fn runs(&self, ctx: &Context<'_>) -> Result<Vec<RunSummary>> {
        asked(ctx).runs_of(self.0.id).await
    }
}

#[Object]
impl Event {
    async fn id(&self) -> Ulid {
        Ulid::of(self.0.id)
    }

    #[graphql(name = "externalID")]
    async fn external_id(&self) -> Option<&str> {
        Some(&self.0.external_id)
    }

    async fn name(&self) -> Option<&str> {
        Some(&self.0.name)
    }

    async fn created_at(&self) -> Option<Time> {
        Some(Time(self.0.ts))
    }

    /// Its data, as JSON text.
    async fn payload(&self) -> Option<String> {
        Some(data(&self.0))
    }

    async fn schema(&self) -> Option<String> {
        None
    }

    async fn status(&self, ctx: &Context<'_>) -> Result<Option<EventStatus>> {
        Ok(Some(EventStatus::of(&self.runs(ctx).await?)))
    }

    async fn pending_runs(&self, ctx: &Context<'_>) -> Result<Option<i32>> {
        let runs = self.runs(ctx).await?;
        let pending = runs.iter().filter(|run| !run.status.is_final());
        Ok(i32::try_from(pending.count()).ok())
    }

    async fn total_runs(&self, ctx: &Context<'_>) -> Result<Option<i32>> {
        Ok(i32::try_from(self.runs(ctx).await?.len()).ok())
    }

    /// All of it, as JSON text.
    async fn raw(&self) -> Option<String> {
        Some(raw(&self.0))
    }

    async fn function_runs(&self, ctx: &Context<'_>) -> Result<Option<Vec<FunctionRun>>> {
        Ok(Some(self.runs(ctx).await?.into_iter().map(FunctionRun::of).collect()))
    }
}

/// An event.
#[derive(Debug, Clone)]
pub(super) struct EventV2(pub(super) Stored);

/// Where an event came from, which is not kept.
#[derive(Debug, SimpleObject)]
struct EventSource {
    id: ID,
    name: Option<String>,
    source_kind: String,
}

#[Object]
impl EventV2 {
    #[graphql(name = "envID")]
    async fn env_id(&self) -> Uuid {
        Uuid::of(ENVIRONMENT)
    }

    async fn id(&self) -> Ulid {
        Ulid::of(self.0.id)
    }

    /// The id that its sender gave it.
    async fn idempotency_key(&self) -> Option<&str> {
        Some(&self.0.external_id)
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn occurred_at(&self) -> Time {
        Time(self.0.ts)
    }

    async fn raw(&self) -> String {
        raw(&self.0)
    }

    async fn received_at(&self) -> Time {
        Time(self.0.received_at)
    }

    async fn runs(&self, ctx: &Context<'_>) -> Result<Vec<FunctionRunV2>> {
        let runs = asked(ctx).runs_of(self.0.id).await?;
        Ok(runs.into_iter().map(FunctionRunV2).collect())
    }

    async fn source(&self) -> Option<EventSource> {
        None
    }

    async fn version(&self) -> Option<String> {
        self.0.body.to_tree().get("v")?.as_str().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use callboard_actors::domain::{EventId, Json, Timestamp};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_text_of_an_event_has_a_version_and_no_empty_user() {
        let at = Timestamp::from_millis(1_750_000_000_000);
        let id = EventId::new(at, 1);
        let mut event = Stored::glued("a", id, id.to_string(), at, "{\"n\":1}");
        let expected = format!(r#"{{"data":{{"n":1}},"id":"{id}","name":"a","ts":1750000000000,"v":null}}"#);
        assert_eq!(raw(&event), expected);
        assert_eq!(data(&event), r#"{"n":1}"#);
        event.body = Json::from_value(&json!({"name": "a", "user": {"id": 1}, "v": "2"})).expect("JSON");
        assert_eq!(raw(&event), r#"{"name":"a","user":{"id":1},"v":"2"}"#);
    }
}
