//! What an expression can see: its variables and the current time.
//!
//! Promises to be cheap to build (event data is borrowed) and to be usable for any number of
//! expressions. Never reads a clock.

use super::value::Value;
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use std::borrow::Cow;

/// The variables of an evaluation, built once per event and used for every expression about it.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    now: DateTime<Utc>,
    variables: Vec<(&'static str, Cow<'a, Json>)>,
}

impl<'a> Scope<'a> {
    /// A scope without variables. `now` is what `now()` gives.
    #[must_use]
    pub fn new(now: DateTime<Utc>) -> Self {
        Self {
            now,
            variables: Vec::new(),
        }
    }

    /// The scope of triggers, keys and conditions: `event` alone.
    #[must_use]
    pub fn of_event(event: &'a Json, now: DateTime<Utc>) -> Self {
        Self::new(now).with("event", event)
    }

    /// The scope of a bound wait or cancellation: the newly arrived event as `async`.
    #[must_use]
    pub fn of_async(event: &'a Json, now: DateTime<Utc>) -> Self {
        Self::new(now).with("async", event)
    }

    /// Adds a variable; the first of a name wins.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &'a Json) -> Self {
        self.variables.push((name, Cow::Borrowed(value)));
        self
    }

    /// Adds a variable from JSON text.
    ///
    /// # Errors
    ///
    /// If the text is not JSON.
    pub fn with_text(mut self, name: &'static str, text: &str) -> Result<Self, serde_json::Error> {
        self.variables.push((name, Cow::Owned(serde_json::from_str(text)?)));
        Ok(self)
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.now
    }

    pub(super) fn variable(&self, name: &str) -> Value<'_> {
        self.variables
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(Value::Missing, |(_, json)| Value::from_json(json))
    }
}
