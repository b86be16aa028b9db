//! The schema's scalars, in the JSON forms that clients know.
//!
//! Ids are read as text and looked at where they are used, so that a wrong one is an error of its field.

use std::collections::BTreeMap;

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use callboard_actors::domain::{Json, Timestamp};
use serde_json::value::RawValue;

fn text(value: Value) -> Result<String, Value> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(other),
    }
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident, $spelled:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(super) struct $name(pub(super) String);

        #[Scalar(name = $spelled)]
        impl ScalarType for $name {
            fn parse(value: Value) -> InputValueResult<Self> {
                text(value).map(Self).map_err(InputValueError::expected_type)
            }

            fn to_value(&self) -> Value {
                Value::String(self.0.clone())
            }
        }
    )*};
}

texts! {
    /// 26 letters and digits.
    Ulid, "ULID";
    /// In hyphenated form.
    Uuid, "UUID";
    /// Text that is JSON itself.
    Bytes, "Bytes";
    /// Whom metadata is about.
    SpanMetadataScope, "SpanMetadataScope";
    /// What metadata is about.
    SpanMetadataKind, "SpanMetadataKind";
}

impl Ulid {
    pub(super) fn of(id: impl std::fmt::Display) -> Self {
        Self(id.to_string())
    }
}

impl Uuid {
    pub(super) fn of(id: impl std::fmt::Display) -> Self {
        Self(id.to_string())
    }
}

impl From<&Json> for Bytes {
    fn from(json: &Json) -> Self {
        Self(json.as_str().to_owned())
    }
}

impl From<&RawValue> for Bytes {
    fn from(json: &RawValue) -> Self {
        Self(json.get().to_owned())
    }
}

/// An instant, as RFC 3339 text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(pub(super) Timestamp);

#[Scalar(name = "Time")]
impl ScalarType for Time {
    fn parse(value: Value) -> InputValueResult<Self> {
        let text = text(value).map_err(InputValueError::expected_type)?;
        let at = chrono::DateTime::parse_from_rfc3339(&text);
        at.map(|at| Self(Timestamp::from_datetime(at.to_utc())))
            .map_err(|_| InputValueError::custom(format!("`{text}` is not an RFC 3339 time")))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_rfc3339())
    }
}

/// A JSON object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Map(pub(super) serde_json::Map<String, serde_json::Value>);

#[Scalar(name = "Map")]
impl ScalarType for Map {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value.into_json() {
            Ok(serde_json::Value::Object(map)) => Ok(Self(map)),
            _ => Err(InputValueError::custom("expected an object")),
        }
    }

    fn to_value(&self) -> Value {
        json(&serde_json::Value::Object(self.0.clone()))
    }
}

/// Any JSON.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unknown(pub(super) serde_json::Value);

#[Scalar(name = "Unknown")]
impl ScalarType for Unknown {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(Self(value.into_json()?))
    }

    fn to_value(&self) -> Value {
        json(&self.0)
    }
}

/// The values of metadata, by name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SpanMetadataValues(pub(super) serde_json::Map<String, serde_json::Value>);

#[Scalar(name = "SpanMetadataValues")]
impl ScalarType for SpanMetadataValues {
    fn parse(value: Value) -> InputValueResult<Self> {
        Map::parse(value)
            .map(|map| Self(map.0))
            .map_err(InputValueError::propagate)
    }

    fn to_value(&self) -> Value {
        Map(self.0.clone()).to_value()
    }
}

/// Headers by name, each with all its values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HttpHeaders(pub(super) BTreeMap<String, Vec<String>>);

#[Scalar(name = "HTTPHeaders")]
impl ScalarType for HttpHeaders {
    fn parse(value: Value) -> InputValueResult<Self> {
        let headers = serde_json::from_value(value.into_json()?);
        headers
            .map(Self)
            .map_err(|error| InputValueError::custom(error.to_string()))
    }

    fn to_value(&self) -> Value {
        serde_json::to_value(&self.0).map_or(Value::Null, |value| json(&value))
    }
}

fn json(value: &serde_json::Value) -> Value {
    Value::from_json(value.clone()).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_come_back_as_they_went_in() {
        let value = json!({"a": [1, "x", null], "b": {"c": 1.5}});
        assert_eq!(Unknown(value.clone()).to_value().into_json().ok(), Some(value.clone()));
        let map = Map::parse(Value::from_json(value.clone()).expect("JSON")).expect("an object");
        assert_eq!(map.to_value().into_json().ok(), Some(value));
        assert!(Map::parse(Value::from(1)).is_err());
    }

    #[test]
    fn times_are_rfc_3339_of_any_zone() {
        let at = Time::parse(Value::from("2026-01-02T04:04:05.678+01:00")).expect("a time");
        assert_eq!(at.to_value(), Value::from("2026-01-02T03:04:05.678Z"));
        assert!(Time::parse(Value::from("yesterday")).is_err());
        assert!(Time::parse(Value::from(5)).is_err());
    }
}
