//! Attributes as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Number, Value as Json};

use super::wire::{AnyValue, KeyValue, Value};

/// Attributes by name; of several of one name the last one counts.
pub(super) fn attributes(all: Vec<KeyValue>) -> Map<String, Json> {
    all.into_iter()
        .map(|attribute| (attribute.key, attribute.value.map_or(Json::Null, json)))
        .collect()
}

fn json(value: AnyValue) -> Json {
    match value.value {
        None => Json::Null,
        Some(Value::String(text)) => Json::String(text),
        Some(Value::Bool(is)) => Json::Bool(is),
        Some(Value::Int(number)) => Json::from(number),
        // JSON has no word for what is no number.
        Some(Value::Double(number)) => {
            Number::from_f64(number).map_or_else(|| Json::from(number.to_string()), Json::Number)
        }
        Some(Value::Array(array)) => array.values.into_iter().map(json).collect(),
        Some(Value::List(list)) => Json::Object(attributes(list.values)),
        Some(Value::Bytes(bytes)) => Json::from(BASE64.encode(bytes)),
    }
}
