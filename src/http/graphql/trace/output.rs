//! What an output id stands for: the output of a run, of a step, or of an attempt that failed.
//!
//! Ids are opaque to clients and stay good as long as the run is kept.

use std::collections::BTreeMap;

use async_graphql::{Result, SimpleObject};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use callboard_actors::domain::{Json, RunId, RunStatus};
use callboard_actors::ports::RunView;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::asked::invalid;
use super::super::scalars::{Bytes, Unknown};
use super::View;
use super::attempts::error_at;

/// What an output id stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OutputId {
    run: RunId,
    of: Source,
    /// Which view it came from.
    preview: bool,
}

/// Whose output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    /// The run's.
    Run,
    /// A step's.
    Step(String),
    /// A failed attempt's, by its place in the run's history.
    Attempt(usize),
}

impl OutputId {
    pub(super) fn encode(run: RunId, of: Source, view: View) -> String {
        let preview = view == View::Preview;
        BASE64_STANDARD.encode(serde_json::to_vec(&Self { run, of, preview }).unwrap_or_default())
    }

    /// # Errors
    /// When it is no such id.
    pub(super) fn decode(text: &str) -> Result<Self> {
        let bytes = BASE64_STANDARD.decode(text).unwrap_or_default();
        serde_json::from_slice(&bytes).map_err(|_| invalid("the output's id is not known"))
    }

    pub(super) fn run(&self) -> RunId {
        self.run
    }
}

/// An output.
#[derive(Debug, Default, SimpleObject)]
pub(super) struct RunTraceSpanOutput {
    input: Option<Bytes>,
    data: Option<Bytes>,
    error: Option<StepError>,
}

/// An error that an app has sent, or that stands for an answer that never came.
#[derive(Debug, PartialEq, SimpleObject)]
pub(super) struct StepError {
    message: String,
    name: Option<String>,
    stack: Option<String>,
    cause: Option<Unknown>,
}

impl StepError {
    fn of(error: &Value) -> Self {
        let text = |key: &str| error.get(key).and_then(Value::as_str).map(str::to_owned);
        let Some(message) = text("message") else {
            return Self {
                message: String::new(),
                name: text("name"),
                stack: Some(error.to_string()),
                cause: None,
            };
        };
        Self {
            message,
            name: text("name"),
            stack: text("stack"),
            cause: error
                .get("cause")
                .filter(|cause| !cause.is_null())
                .cloned()
                .map(Unknown),
        }
    }
}

impl RunTraceSpanOutput {
    fn of_data(data: impl Into<Bytes>) -> Self {
        Self {
            data: Some(data.into()),
            ..Self::default()
        }
    }

    fn of_error(error: &Value) -> Self {
        Self {
            error: Some(StepError::of(error)),
            ..Self::default()
        }
    }

    /// The data, or the error as `{"error"}`.
    pub(super) fn into_value(self) -> Option<Value> {
        if let Some(error) = self.error {
            return Some(json!({"error": {
                "message": error.message,
                "name": error.name,
                "stack": error.stack,
                "cause": error.cause.map(|cause| cause.0),
            }}));
        }
        serde_json::from_str(&self.data?.0).ok()
    }

    /// Of a memo: `{"data"}`, `{"error"}`, or the value itself.
    fn of_memo(memo: &Json) -> Self {
        if memo.is_null() {
            return Self::default();
        }
        let members: BTreeMap<String, Box<RawValue>> = memo.to().unwrap_or_default();
        match (members.len(), members.get("data"), members.get("error")) {
            (1, Some(data), _) => Self::of_data(&**data),
            (_, None, Some(error)) => Self::of_error(&serde_json::from_str(error.get()).unwrap_or_default()),
            _ => Self::of_data(memo),
        }
    }

    /// # Errors
    /// When the run has no such output.
    pub(super) fn find(view: &RunView, id: &OutputId) -> Result<Self> {
        let gone = || invalid("there is no such output");
        match &id.of {
            Source::Run => {
                let output = view.summary.output.as_ref().ok_or_else(gone)?;
                if view.summary.status != RunStatus::Failed {
                    return Ok(Self::of_data(output));
                }
                let error = output.to_tree();
                let inner = error.get("error").filter(|inner| inner.is_object());
                Ok(Self::of_error(inner.unwrap_or(&error)))
            }
            Source::Step(step) => {
                let step = view.steps.iter().find(|known| known.id.as_str() == step);
                let memo = step.and_then(|step| step.memo.as_ref()).ok_or_else(gone)?;
                Ok(Self::of_memo(memo))
            }
            Source::Attempt(place) => Ok(Self::of_error(&error_at(view, *place).ok_or_else(gone)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(r#"{"data":{"a":1e+21}}"#, Some(r#"{"a":1e+21}"#))]
    #[case(r#"{"data":null}"#, Some("null"))]
    #[case(r#"{"data":{},"id":"e","name":"x"}"#, Some(r#"{"data":{},"id":"e","name":"x"}"#))]
    #[case("null", None)]
    fn memos_give_data_to_the_byte(#[case] memo: &str, #[case] data: Option<&str>) {
        let memo = Json::parse(memo).expect("JSON");
        let output = RunTraceSpanOutput::of_memo(&memo);
        assert_eq!(output.data.map(|data| data.0).as_deref(), data);
        assert_eq!(output.error, None);
    }

    #[rstest]
    #[case(json!({"name": "E", "message": "m", "stack": "s", "cause": {"name": "C"}}), "m", Some("s"), Some(json!({"name": "C"})))]
    #[case(json!({"message": "m", "cause": null}), "m", None, None)]
    #[case(json!({"code": 7}), "", Some("{\"code\":7}"), None)]
    fn errors(#[case] error: Value, #[case] message: &str, #[case] stack: Option<&str>, #[case] cause: Option<Value>) {
        let memo = Json::from_value(&json!({ "error": error })).expect("JSON");
        let error = RunTraceSpanOutput::of_memo(&memo).error.expect("is an error");
        assert_eq!((error.message.as_str(), error.stack.as_deref()), (message, stack));
        assert_eq!(error.cause, cause.map(Unknown));
    }

    #[test]
    fn ids_survive_their_text() {
        let run = RunId::new(callboard_actors::domain::Timestamp::from_millis(5), 1);
        for of in [Source::Run, Source::Step("a:b".into()), Source::Attempt(3)] {
            let id = OutputId::decode(&OutputId::encode(run, of.clone(), View::Preview)).ok();
            assert_eq!(id, Some(OutputId { run, of, preview: true }));
        }
        assert!(OutputId::decode("e30=").is_err());
    }
}
