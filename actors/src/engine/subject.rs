//! The event that a function's expressions are about when it is started: its keys, conditions and priority.
//!
//! Promises: the event's body, which may be large, is parsed once for all of them, and not at all if there are none.

use std::cell::OnceCell;

use serde_json::Value;

use crate::domain::{Event, Function, Json, Skip, SkipReason};
use crate::expression::{Expression, Scope};

/// An event, with its body as far as it has been parsed.
pub(super) struct Subject<'a> {
    pub(super) event: &'a Event,
    body: OnceCell<Value>,
}

/// What a key comes to.
pub(super) enum Key {
    /// There is none.
    None,
    Value(Json),
    Failed(String),
}

impl<'a> Subject<'a> {
    pub(super) fn new(event: &'a Event) -> Self {
        Self {
            event,
            body: OnceCell::new(),
        }
    }

    /// The event's body.
    pub(super) fn body(&self) -> &Value {
        self.body.get_or_init(|| self.event.body.to_tree())
    }

    /// What expressions see.
    pub(super) fn scope(&self) -> Scope<'_> {
        Scope::of_event(self.body(), self.event.received_at.to_datetime())
    }

    /// The value of a key.
    pub(super) fn key(&self, source: Option<&str>) -> Key {
        let Some(source) = source else { return Key::None };
        let value = Expression::remembered(source, &["event"])
            .map_err(|error| error.to_string())
            .and_then(|expression| expression.value(&self.scope()).map_err(|error| error.to_string()))
            .and_then(|value| Json::from_value(&value).map_err(|error| error.to_string()));
        value.map_or_else(Key::Failed, Key::Value)
    }

    /// Why it starts nothing of this function.
    pub(super) fn skip(&self, function: &Function, reason: SkipReason, detail: String) -> Skip {
        Skip {
            event: self.event.id,
            function: Some(function.id),
            reason,
            detail,
        }
    }
}
