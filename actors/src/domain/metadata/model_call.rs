//! What a model was asked on an app's behalf, as far as its answer tells.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{AI, MetadataOp, MetadataScope, MetadataUpdate, StepMetadata};
use crate::domain::{GatewayOptions, Json};

/// A step's memo.
#[derive(Deserialize)]
struct Memo {
    data: Answer,
}

/// The members of answers that providers agree on, more or less.
#[derive(Deserialize)]
struct Answer {
    id: Option<String>,
    model: Option<String>,
    usage: Option<Usage>,
    #[serde(default)]
    choices: Vec<Choice>,
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(alias = "prompt_tokens")]
    input_tokens: Option<u64>,
    #[serde(alias = "completion_tokens")]
    output_tokens: Option<u64>,
    total_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Choice {
    finish_reason: Option<String>,
}

impl StepMetadata {
    /// What the answer to a request for a model tells; `None` for one of another shape.
    #[must_use]
    pub fn of_model(asked: &GatewayOptions, memo: &Json) -> Option<Self> {
        let Memo { data: answer } = memo.to().ok()?;
        let usage = answer.usage?;
        let provider = match asked.format.as_deref()? {
            "anthropic" => "anthropic",
            "azure-openai" => "azure.openai",
            format if format.starts_with("openai") => "openai",
            _ => return None,
        };
        let request_model = asked.body.as_ref().and_then(|body| body.get("model")?.as_str());
        let finished = answer.choices.into_iter().filter_map(|choice| choice.finish_reason);
        let finished: Vec<String> = finished.chain(answer.stop_reason).collect();
        let members = [
            ("operation_name", Some(Value::from("chat"))),
            ("provider", Some(provider.into())),
            ("request_model", request_model.map(Value::from)),
            ("response_model", answer.model.map(Value::from)),
            ("response_id", answer.id.map(Value::from)),
            ("input_tokens", usage.input_tokens.map(Value::from)),
            ("output_tokens", usage.output_tokens.map(Value::from)),
            ("total_tokens", usage.total_tokens.map(Value::from)),
            ("finish_reasons", (!finished.is_empty()).then(|| finished.into())),
        ];
        let values = members
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let update = MetadataUpdate {
            kind: AI.to_owned(),
            op: MetadataOp::Set,
            values: Map::from_iter(values),
        };
        Some(Self {
            scope: MetadataScope::Step,
            update: update.accept().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::openai(
        "openai-chat",
        json!({"id": "c1", "model": "gpt-4o-2024-08-06", "choices": [{"finish_reason": "stop", "message": {}}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}}),
        json!({"operation_name": "chat", "provider": "openai", "request_model": "gpt-4o", "response_model": "gpt-4o-2024-08-06",
            "response_id": "c1", "input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100,
            "finish_reasons": ["stop"], "estimated_cost": 0.0035})
    )]
    #[case::anthropic(
        "anthropic",
        json!({"id": "m1", "model": "claude-sonnet-4-5", "stop_reason": "end_turn", "usage": {"input_tokens": 1000, "output_tokens": 100}}),
        json!({"operation_name": "chat", "provider": "anthropic", "request_model": "gpt-4o", "response_model": "claude-sonnet-4-5",
            "response_id": "m1", "input_tokens": 1000, "output_tokens": 100, "finish_reasons": ["end_turn"], "estimated_cost": 0.0045})
    )]
    fn what_an_answer_tells(#[case] format: &str, #[case] answer: Value, #[case] expected: Value) {
        let asked = GatewayOptions {
            format: Some(format.to_owned()),
            body: Some(json!({"model": "gpt-4o"})),
            ..GatewayOptions::default()
        };
        let memo = Json::from_value(&json!({ "data": answer })).expect("JSON");
        let noted = StepMetadata::of_model(&asked, &memo).expect("tells something");
        assert_eq!(Value::Object(noted.update.values), expected);
    }

    #[rstest]
    #[case("gemini", json!({"usage": {"input_tokens": 1}}))]
    #[case("openai-chat", json!({"model": "gpt-4o"}))]
    #[case("openai-chat", json!("text"))]
    #[case("openai-chat", json!({"usage": {"prompt_tokens": "many"}}))]
    fn an_answer_of_another_shape_tells_nothing(#[case] format: &str, #[case] answer: Value) {
        let asked = GatewayOptions {
            format: Some(format.to_owned()),
            ..GatewayOptions::default()
        };
        let memo = Json::from_value(&json!({ "data": answer })).expect("JSON");
        assert_eq!(StepMetadata::of_model(&asked, &memo), None);
    }
}
