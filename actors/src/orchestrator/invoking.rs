//! Runs of one particular function, asked for by name.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Orchestrator, Refusal};
use crate::domain::{Event, EventId, FunctionId, RunId, Timestamp};
use crate::engine;

/// The name of the event by which a key is remembered.
const KEY_EVENT: &str = "inngest/invoke.key";

/// Keys are looked for in this span of time and the one before.
const SPAN: Duration = Duration::from_secs(24 * 60 * 60);

/// What was asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invoked {
    /// The event that asks for it.
    pub event: EventId,
    /// The run it starts, if it starts one at once.
    pub run: RunId,
    /// False if it was asked for before, with the same key.
    pub is_new: bool,
}

impl Orchestrator {
    /// Starts a run of one function without an event from outside. `function` is its slug or UUID.
    ///
    /// # Errors
    /// When there is no such function, the payload makes no sense, the store can't, or the server is going down.
    pub async fn invoke(&self, function: &str, payload: Map<String, Value>) -> Result<EventId, Refusal> {
        Ok(self.invoke_once(function, payload, None).await?.event)
    }

    /// The same with a key of the caller's: asked again with the same key within a day it answers what was asked for then. What
    /// was cut off between remembering the key and starting the run is made up for.
    ///
    /// # Errors
    /// As for [`Self::invoke`].
    pub async fn invoke_once(
        &self,
        function: &str,
        payload: Map<String, Value>,
        key: Option<&str>,
    ) -> Result<Invoked, Refusal> {
        let catalog = self.catalog();
        let target = catalog
            .find(function)
            .ok_or_else(|| Refusal::UnknownFunction(function.to_owned()))?
            .id;
        let now = self.clock.now();
        let fresh = EventId::new(now, self.random.bits());
        let id = match key {
            Some(key) => self.remember(target, key, fresh, now).await?,
            None => fresh,
        };
        let is_new = id == fresh;
        if is_new || self.store.events_by_id(&[id]).await?.is_empty() {
            let own = json!({ "fn_id": target.to_string() });
            let event = engine::invoked_event(&payload, own, id, id.at());
            let event = event.map_err(|error| Refusal::Invalid(vec![error.to_string()]))?;
            self.accept(vec![event]).await?;
        }
        Ok(Invoked {
            event: id,
            run: RunId::derive(id, target),
            is_new,
        })
    }

    /// The event that a key stands for: this one, if it stands for none as yet.
    async fn remember(
        &self,
        function: FunctionId,
        key: &str,
        fresh: EventId,
        now: Timestamp,
    ) -> Result<EventId, Refusal> {
        let cause = format!("invoke/{function}/{key}");
        let span = i64::try_from(SPAN.as_millis()).unwrap_or(i64::MAX);
        let this_span = Timestamp::from_millis(now.as_millis() - now.as_millis().rem_euclid(span));
        let ids = [this_span, this_span.before(SPAN)].map(|at| EventId::derive(at, &cause));
        let known = |events: Vec<Event>| {
            let recent = events.iter().find(|event| now.since(event.received_at) < SPAN)?;
            let body = recent.body.to_tree();
            body.pointer("/data/event_id")?.as_str()?.parse::<EventId>().ok()
        };
        if let Some(id) = known(self.store.events_by_id(&ids).await?) {
            return Ok(id);
        }
        let data = json!({ "event_id": fresh }).to_string();
        let note = Event::glued(KEY_EVENT, ids[0], ids[0].to_string(), now, &data);
        self.accept(vec![note]).await?;
        // Who else has the key at this moment may have been faster.
        Ok(known(self.store.events_by_id(&ids[..1]).await?).unwrap_or(fresh))
    }
}
