//! What a model costs: an estimate beside what apps tell of the models they have asked.
//!
//! The prices are the providers' public ones for plain use, without discounts for caches or batches, in US dollars for a million
//! tokens. Sources: openai.com/api/pricing, claude.com/pricing, ai.google.dev/gemini-api/docs/pricing. A model that is not
//! here has no estimate.

use serde_json::{Number, Value};

use super::MetadataValues;

/// Model, input, output.
const PRICES: &[(&str, f64, f64)] = &[
    ("gpt-5.4-nano", 0.2, 1.25),
    ("gpt-5.2", 1.75, 14.0),
    ("gpt-5.1", 1.25, 10.0),
    ("gpt-5", 1.25, 10.0),
    ("gpt-5-mini", 0.25, 2.0),
    ("gpt-5-nano", 0.05, 0.4),
    ("gpt-5-pro", 15.0, 120.0),
    ("gpt-4.1", 2.0, 8.0),
    ("gpt-4.1-mini", 0.4, 1.6),
    ("gpt-4.1-nano", 0.1, 0.4),
    ("gpt-4o", 2.5, 10.0),
    ("gpt-4o-mini", 0.15, 0.6),
    ("gpt-4-turbo", 10.0, 30.0),
    ("gpt-4", 30.0, 60.0),
    ("gpt-4-32k", 60.0, 120.0),
    ("gpt-3.5-turbo", 0.5, 1.5),
    ("o1", 15.0, 60.0),
    ("o1-mini", 1.1, 4.4),
    ("o1-pro", 150.0, 600.0),
    ("o3", 2.0, 8.0),
    ("o3-mini", 1.1, 4.4),
    ("o3-pro", 20.0, 80.0),
    ("o4-mini", 1.1, 4.4),
    ("text-embedding-3-small", 0.02, 0.0),
    ("text-embedding-3-large", 0.13, 0.0),
    ("claude-opus-4-6", 5.0, 25.0),
    ("claude-opus-4-5", 5.0, 25.0),
    ("claude-opus-4-1", 15.0, 75.0),
    ("claude-opus-4", 15.0, 75.0),
    ("claude-sonnet-4-6", 3.0, 15.0),
    ("claude-sonnet-4-5", 3.0, 15.0),
    ("claude-sonnet-4", 3.0, 15.0),
    ("claude-haiku-4-5", 1.0, 5.0),
    ("claude-3-7-sonnet", 3.0, 15.0),
    ("claude-3-5-sonnet", 3.0, 15.0),
    ("claude-3-5-haiku", 0.8, 4.0),
    ("claude-3-opus", 15.0, 75.0),
    ("claude-3-haiku", 0.25, 1.25),
    ("gemini-2.5-pro", 1.25, 10.0),
    ("gemini-2.5-flash", 0.3, 2.5),
    ("gemini-2.5-flash-lite", 0.1, 0.4),
    ("gemini-2.0-flash", 0.1, 0.4),
    ("gemini-2.0-flash-lite", 0.075, 0.3),
];

/// The prices of a model. What follows the last hyphen, such as a date, is dropped until a name is known.
fn prices(model: &str) -> Option<(f64, f64)> {
    let model = model.to_lowercase();
    let mut name = model.as_str();
    loop {
        if let Some((_, input, output)) = PRICES.iter().find(|(known, ..)| *known == name) {
            return Some((*input, *output));
        }
        name = name.rsplit_once('-')?.0;
    }
}

/// Adds `estimated_cost`, in dollars, where there is none and the model and its tokens are known.
pub(super) fn add_cost(values: &mut MetadataValues) {
    const COST: &str = "estimated_cost";
    if values.get(COST).is_some_and(|cost| !cost.is_null()) {
        return;
    }
    let text = |key: &str| values.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let tokens = |key: &str| values.get(key).and_then(Value::as_f64);
    let Some((input, output)) = text("response_model")
        .or_else(|| text("request_model"))
        .and_then(prices)
    else {
        return;
    };
    let (asked, answered) = (tokens("input_tokens"), tokens("output_tokens"));
    if asked.is_none() && answered.is_none() {
        return;
    }
    // A price is for a million tokens, so this is in millionths of a dollar: the digits that are kept.
    let millionths = (asked.unwrap_or_default() * input + answered.unwrap_or_default() * output).round();
    if let Some(cost) = Number::from_f64(millionths / 1e6) {
        values.insert(COST.to_owned(), Value::Number(cost));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("gpt-5.4-nano", Some((0.2, 1.25)))]
    #[case("GPT-4o-2024-08-06", Some((2.5, 10.0)))]
    #[case("gpt-4o-mini-2024-07-18", Some((0.15, 0.6)))]
    #[case("claude-opus-4-5-20251101", Some((5.0, 25.0)))]
    #[case("claude-opus-4-20250514", Some((15.0, 75.0)))]
    #[case("somebody-elses-model", None)]
    #[case("", None)]
    fn models_are_found_by_their_beginnings(#[case] model: &str, #[case] expected: Option<(f64, f64)>) {
        assert_eq!(prices(model), expected);
    }

    #[test]
    fn no_model_is_there_twice() {
        for (place, (model, input, output)) in PRICES.iter().enumerate() {
            assert!(PRICES[..place].iter().all(|(other, ..)| other != model), "{model}");
            assert!(*input > 0.0 && (*output >= *input || *output == 0.0), "{model}");
        }
    }

    #[rstest]
    #[case(json!({"response_model": "gpt-5.4-nano", "input_tokens": 100, "output_tokens": 50}), Some(0.000_083))]
    #[case(json!({"request_model": "gpt-5.4-nano", "response_model": "gpt-4o", "input_tokens": 1000, "output_tokens": 0}), Some(0.0025))]
    #[case(json!({"request_model": "gpt-4o", "input_tokens": 1000}), Some(0.0025))]
    #[case(json!({"request_model": "gpt-4o"}), None)]
    #[case(json!({"request_model": "unknown", "input_tokens": 1000}), None)]
    #[case(json!({"request_model": "gpt-4o", "input_tokens": 1000, "estimated_cost": 7.0}), Some(7.0))]
    fn costs(#[case] values: Value, #[case] cost: Option<f64>) {
        let Value::Object(mut values) = values else {
            panic!("an object")
        };
        add_cost(&mut values);
        assert_eq!(values.get("estimated_cost").and_then(Value::as_f64), cost);
    }
}
