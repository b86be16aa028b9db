//! Spans that apps send of what goes on in their runs, by way of OpenTelemetry.
//!
//! They are for people to see beside a trace; nothing of them bears on what becomes of a run. Where one hangs in the trace is
//! worked out when it is shown, from the ids it came with: it may come before its parent does.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{SpanId, StepId, Timestamp, limits};

/// The name and the library of the span that an SDK puts around everything within a call.
const WRAPPER: (&str, &str) = ("inngest.execution", "inngest");

/// A span that an app has sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserSpan {
    /// Its id, as the app made it up.
    pub id: SpanId,
    /// The span that it says it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SpanId>,
    /// The server's span of the step that was run at the time, if the SDK says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_step: Option<SpanId>,
    /// The server's span of the call within which it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_call: Option<SpanId>,
    /// The step that was run at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// The attempt at it, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// What it is about.
    pub name: String,
    /// `INTERNAL`, `SERVER`, `CLIENT`, `PRODUCER`, `CONSUMER` or `UNSPECIFIED`.
    pub kind: String,
    /// In nanoseconds since 1970.
    pub started_at: i64,
    /// In nanoseconds since 1970.
    pub ended_at: i64,
    /// What came of it.
    pub outcome: SpanOutcome,
    /// The same for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The library that made it.
    pub scope: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope_version: String,
    /// Attributes of the process that made it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub resource: Map<String, Value>,
    /// Its attributes, without those that the SDK adds for the server.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub attributes: Map<String, Value>,
    /// What happened within it: `{"name","at","attributes"}`, times in nanoseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Value>,
    /// Other spans that it has to do with: `{"trace_id","span_id","attributes"}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Value>,
}

/// What came of a span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanOutcome {
    /// Nobody says.
    #[default]
    Unset,
    /// It went well.
    Ok,
    /// It did not.
    Error,
}

impl UserSpan {
    /// Whether it is the one that an SDK puts around everything within a call. Nobody needs to see it.
    #[must_use]
    pub fn is_wrapper(&self) -> bool {
        (&*self.name, &*self.scope) == WRAPPER
    }

    /// When it began, in milliseconds precision.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        Timestamp::from_millis(self.started_at / 1_000_000)
    }

    /// When it ended, in milliseconds precision.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        Timestamp::from_millis(self.ended_at.max(self.started_at) / 1_000_000)
    }

    /// The process that made it, by the name it gives itself.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.resource.get("service.name")?.as_str()
    }

    /// As it is stored, if it is not too large. What happened within it is left out first, and what it has to do with.
    #[must_use]
    pub fn to_text(&self) -> Option<String> {
        let text = serde_json::to_string(self).ok()?;
        if text.len() <= limits::USER_SPAN_BYTES {
            return Some(text);
        }
        let bare = Self {
            events: Vec::new(),
            links: Vec::new(),
            ..self.clone()
        };
        let text = serde_json::to_string(&bare).ok()?;
        (text.len() <= limits::USER_SPAN_BYTES).then_some(text)
    }

    /// What a model was asked within it, as metadata has it: by the names that OpenTelemetry has for that.
    #[must_use]
    pub fn model_call(&self) -> Option<Map<String, Value>> {
        /// Members of the metadata, and the attributes that have them.
        const NAMES: [(&str, &[&str]); 10] = [
            ("provider", &["gen_ai.provider.name", "gen_ai.system"]),
            ("operation_name", &["gen_ai.operation.name"]),
            ("request_model", &["gen_ai.request.model"]),
            ("response_model", &["gen_ai.response.model"]),
            ("response_id", &["gen_ai.response.id"]),
            ("finish_reasons", &["gen_ai.response.finish_reasons"]),
            (
                "input_tokens",
                &["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"],
            ),
            (
                "output_tokens",
                &["gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"],
            ),
            ("temperature", &["gen_ai.request.temperature"]),
            ("max_tokens", &["gen_ai.request.max_tokens"]),
        ];
        let is_about = |name: &String| name.starts_with("gen_ai.");
        if !self.attributes.keys().any(is_about) {
            return None;
        }
        let mut values = Map::new();
        for (name, attributes) in NAMES {
            let value = attributes.iter().find_map(|attribute| self.attributes.get(*attribute));
            values.extend(value.map(|value| (name.to_owned(), value.clone())));
        }
        if !values.contains_key("request_model") && !values.contains_key("response_model") {
            return None;
        }
        let latency = (self.ended_at - self.started_at).max(0) / 1_000_000;
        values.insert("latency_ms".to_owned(), Value::from(latency));
        Some(values)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn span(attributes: &Value) -> UserSpan {
        let span = json!({"id": "b5c2db5b06a644c5", "name": "work", "kind": "CLIENT", "started_at": 1_750_000_000_000_000_001_i64,
            "ended_at": 1_750_000_000_250_000_000_i64, "outcome": "ok", "scope": "mine", "attributes": attributes,
            "events": [{"name": "x".repeat(1_000)}]});
        serde_json::from_value(span).expect("a span")
    }

    #[test]
    fn it_survives_its_text() {
        let span = span(&json!({"a": 1}));
        let text = span.to_text().expect("it fits");
        assert_eq!(serde_json::from_str::<UserSpan>(&text).expect("a span"), span);
    }

    #[test]
    fn what_is_too_large_loses_what_happened_within_it_first() {
        let large = span(&json!({"a": "x".repeat(limits::USER_SPAN_BYTES - 500)}));
        let text = large.to_text().expect("it fits");
        let kept: UserSpan = serde_json::from_str(&text).expect("a span");
        assert_eq!((kept.events.len(), kept.attributes), (0, large.attributes));
        assert_eq!(span(&json!({"a": "x".repeat(limits::USER_SPAN_BYTES)})).to_text(), None);
    }

    #[test]
    fn what_a_model_was_asked() {
        assert_eq!(span(&json!({"http.method": "GET"})).model_call(), None);
        assert_eq!(span(&json!({"gen_ai.system": "openai"})).model_call(), None, "no model");
        let asked =
            json!({"gen_ai.system": "openai", "gen_ai.request.model": "gpt-4o", "gen_ai.usage.prompt_tokens": 5});
        let expected = json!({"provider": "openai", "request_model": "gpt-4o", "input_tokens": 5, "latency_ms": 249});
        assert_eq!(span(&asked).model_call().map(Value::Object), Some(expected));
    }
}
