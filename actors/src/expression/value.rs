//! Values while an expression is evaluated.
//!
//! Promises to borrow event data instead of copying it: looking up a path in a large event costs
//! the path, not the event. [`Value::Missing`] is a value here, which is the heart of the dialect.
//! Never fails: what does not compare is `None`, and the evaluator decides what that means.

use super::ast::Literal;
use super::number::Number;
use super::{duration, time};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value as Json;
use std::cmp::Ordering;
use std::sync::Arc;

/// A value, borrowing from the scope or the expression for `'s`.
#[derive(Debug, Clone)]
pub(super) enum Value<'s> {
    /// What a path that does not exist gives.
    Missing,
    Null,
    Bool(bool),
    Number(Number),
    Text(Text<'s>),
    Bytes(Arc<[u8]>),
    List(List<'s>),
    Map(Map<'s>),
    Time(DateTime<Utc>),
    Span(TimeDelta),
    Type(&'static str),
}

/// A string, borrowed or shared.
#[derive(Debug, Clone)]
pub(super) enum Text<'s> {
    Borrowed(&'s str),
    Shared(Arc<str>),
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

/// A list, borrowed from event data or built by the expression.
#[derive(Debug, Clone)]
pub(super) enum List<'s> {
    Json(&'s [Json]),
    Built(Arc<[Value<'s>]>),
}

impl<'s> List<'s> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(items) => items.len(),
            Self::Built(items) => items.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Value<'s>> {
        match self {
            Self::Json(items) => items.get(index).map(Value::from_json),
            Self::Built(items) => items.get(index).cloned(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Value<'s>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// A map, borrowed from event data or built by the expression.
#[derive(Debug, Clone)]
pub(super) enum Map<'s> {
    Json(&'s serde_json::Map<String, Json>),
    /// In the order written; literals are small, so a lookup is a scan.
    Built(Arc<[(Value<'s>, Value<'s>)]>),
}

impl<'s> Map<'s> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(entries) => entries.len(),
            Self::Built(entries) => entries.len(),
        }
    }

    /// How many entries a lookup may have to look at.
    pub(super) fn lookup_cost(&self) -> usize {
        match self {
            Self::Json(_) => 1,
            Self::Built(entries) => entries.len(),
        }
    }

    pub(super) fn get(&self, key: &Value<'_>) -> Option<Value<'s>> {
        match (self, key) {
            (Self::Json(entries), Value::Text(text)) => entries.get(text.as_str()).map(Value::from_json),
            (Self::Json(_), _) => None,
            (Self::Built(entries), key) => entries
                .iter()
                .find(|(candidate, _)| candidate.equals(key))
                .map(|(_, value)| value.clone()),
        }
    }

    pub(super) fn field(&self, name: &str) -> Option<Value<'s>> {
        match self {
            Self::Json(entries) => entries.get(name).map(Value::from_json),
            Self::Built(_) => self.get(&Value::Text(Text::Shared(name.into()))),
        }
    }

    pub(super) fn keys(&self) -> Vec<Value<'s>> {
        match self {
            Self::Json(entries) => entries.keys().map(|key| Value::Text(Text::Borrowed(key))).collect(),
            Self::Built(entries) => entries.iter().map(|(key, _)| key.clone()).collect(),
        }
    }
}

impl<'s> Value<'s> {
    pub(super) fn from_json(json: &'s Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(truth) => Self::Bool(*truth),
            Json::Number(number) => Self::Number(Number::from_json(number)),
            Json::String(text) => Self::Text(Text::Borrowed(text)),
            Json::Array(items) => Self::List(List::Json(items)),
            Json::Object(entries) => Self::Map(Map::Json(entries)),
        }
    }

    /// The same, for JSON that lives nowhere else. Depth is bounded by the JSON parser.
    pub(super) fn from_owned_json(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(truth) => Self::Bool(truth),
            Json::Number(number) => Self::Number(Number::from_json(&number)),
            Json::String(text) => Self::text(text),
            Json::Array(items) => Self::List(List::Built(items.into_iter().map(Self::from_owned_json).collect())),
            Json::Object(entries) => Self::Map(Map::Built(
                entries
                    .into_iter()
                    .map(|(key, value)| (Self::text(key), Self::from_owned_json(value)))
                    .collect(),
            )),
        }
    }

    pub(super) fn from_literal(literal: &'s Literal) -> Self {
        match literal {
            Literal::Null => Self::Null,
            Literal::Bool(truth) => Self::Bool(*truth),
            Literal::Number(number) => Self::Number(*number),
            Literal::Text(text) => Self::Text(Text::Borrowed(text)),
            Literal::Bytes(bytes) => Self::Bytes(Arc::clone(bytes)),
            Literal::Json(json) => Self::from_json(json),
        }
    }

    pub(super) fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(Text::Shared(text.into()))
    }

    pub(super) fn int(int: usize) -> Self {
        Self::Number(Number::Int(i64::try_from(int).unwrap_or(i64::MAX)))
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Number(number) => number.type_name(),
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::Span(_) => "google.protobuf.Duration",
            Self::Type(_) => "type",
        }
    }

    /// Missing or null: what functions treat as "nothing there".
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Missing | Self::Null)
    }

    /// Truthiness (semantics 6.4): false for nothing, `false`, `""` and zero; true for all else.
    pub(super) fn truthy(&self) -> bool {
        match self {
            Self::Missing | Self::Null => false,
            Self::Bool(truth) => *truth,
            Self::Number(number) => !number.is_zero(),
            Self::Text(text) => !text.as_str().is_empty(),
            _ => true,
        }
    }

    /// Equality (semantics 6.3). Different types are different; that is never an error.
    pub(super) fn equals(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Self::Missing, Value::Null) | (Self::Null, Value::Missing | Value::Null) => true,
            (Self::Bool(left), Value::Bool(right)) => left == right,
            (Self::Number(left), Value::Number(right)) => left == right,
            (Self::Text(left), Value::Text(right)) => left.as_str() == right.as_str(),
            (Self::Bytes(left), Value::Bytes(right)) => left == right,
            (Self::Time(left), Value::Time(right)) => left == right,
            (Self::Span(left), Value::Span(right)) => left == right,
            (Self::Type(left), Value::Type(right)) => left == right,
            (Self::List(left), Value::List(right)) => {
                left.len() == right.len() && left.iter().zip(right.iter()).all(|(left, right)| left.equals(&right))
            }
            (Self::Map(left), Value::Map(right)) => {
                left.len() == right.len()
                    && left.keys().iter().all(|key| match (left.get(key), right.get(key)) {
                        (Some(left), Some(right)) => left.equals(&right),
                        _ => false,
                    })
            }
            _ => false,
        }
    }

    /// Order of two values that are both there: `Some(None)` for a comparison with "not a number",
    /// `None` if the types have no order.
    pub(super) fn order(&self, other: &Value<'_>) -> Option<Option<Ordering>> {
        Some(match (self, other) {
            (Self::Number(left), Value::Number(right)) => left.compare(*right),
            (Self::Text(left), Value::Text(right)) => Some(left.as_str().cmp(right.as_str())),
            (Self::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            (Self::Bytes(left), Value::Bytes(right)) => Some(left.cmp(right)),
            (Self::Time(left), Value::Time(right)) => Some(left.cmp(right)),
            (Self::Span(left), Value::Span(right)) => Some(left.cmp(right)),
            (Self::Null, Value::Null) => Some(Ordering::Equal),
            (Self::Null, right) => return right.zero()?.order(right),
            (left, Value::Null) => return left.order(&left.zero()?),
            _ => return None,
        })
    }

    /// What null stands for when it is ordered against this value.
    fn zero(&self) -> Option<Value<'static>> {
        Some(match self {
            Self::Number(_) => Value::Number(Number::Int(0)),
            Self::Text(_) => Value::Text(Text::Borrowed("")),
            Self::Bool(_) => Value::Bool(false),
            Self::Span(_) => Value::Span(TimeDelta::zero()),
            _ => return None,
        })
    }

    /// Roughly how many steps it costs to look at the whole value once.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.as_str().len() / 64,
            Self::Bytes(bytes) => bytes.len() / 64,
            Self::List(List::Json(items)) => items.iter().map(json_weight).sum(),
            Self::List(List::Built(items)) => items.iter().map(|item| 1 + item.weight()).sum(),
            Self::Map(Map::Json(entries)) => entries.values().map(json_weight).sum(),
            Self::Map(Map::Built(entries)) => {
                // Comparing two of them looks every key up by scanning.
                let entry = |(key, value): &(Value<'_>, Value<'_>)| entries.len() + key.weight() + value.weight();
                entries.iter().map(entry).sum()
            }
            _ => 0,
        }
    }

    /// The plain text: a string is itself, a composite is its JSON. Equal numbers have equal texts.
    pub(super) fn render(&self) -> String {
        match self {
            Self::Missing | Self::Null => "null".to_owned(),
            Self::Bool(truth) => truth.to_string(),
            Self::Number(number) => number.text(),
            Self::Text(text) => text.as_str().to_owned(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::List(_) | Self::Map(_) => {
                let mut out = String::new();
                self.render_json(&mut out);
                out
            }
            Self::Time(time) => time::render(*time),
            Self::Span(span) => duration::render(*span),
            Self::Type(name) => (*name).to_owned(),
        }
    }

    /// JSON text with sorted keys and one spelling per number, so that equal values render equally.
    fn render_json(&self, out: &mut String) {
        match self {
            Self::List(list) => {
                out.push('[');
                for (index, item) in list.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.render_json(out);
                }
                out.push(']');
            }
            Self::Map(map) => {
                let mut keys: Vec<_> = map.keys().into_iter().map(|key| (key.render(), key)).collect();
                keys.sort_by(|(left, _), (right, _)| left.cmp(right));
                out.push('{');
                for (index, (name, key)) in keys.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(&Json::from(name.as_str()).to_string());
                    out.push(':');
                    map.get(key).unwrap_or(Value::Null).render_json(out);
                }
                out.push('}');
            }
            Self::Missing | Self::Null | Self::Bool(_) | Self::Number(_) => {
                out.push_str(&self.render());
            }
            _ => out.push_str(&Json::from(self.render()).to_string()),
        }
    }

    pub(super) fn to_json(&self) -> Json {
        match self {
            Self::Missing | Self::Null => Json::Null,
            Self::Bool(truth) => (*truth).into(),
            Self::Number(number) => number.to_json(),
            Self::Bytes(bytes) => BASE64.encode(bytes).into(),
            Self::List(List::Json(items)) => Json::Array(items.to_vec()),
            Self::List(list) => list.iter().map(|item| item.to_json()).collect(),
            Self::Map(Map::Json(entries)) => Json::Object((*entries).clone()),
            Self::Map(Map::Built(entries)) => Json::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.render(), value.to_json()))
                    .collect(),
            ),
            Self::Text(_) | Self::Time(_) | Self::Span(_) | Self::Type(_) => self.render().into(),
        }
    }

    /// The value as a constant of an expression, if it can be spelled as one. Missing becomes null.
    pub(super) fn to_literal(&self) -> Option<Literal> {
        Some(match self {
            Self::Missing | Self::Null => Literal::Null,
            Self::Bool(truth) => Literal::Bool(*truth),
            Self::Number(Number::Double(double)) if !double.is_finite() => return None,
            Self::Number(number) => Literal::Number(*number),
            Self::Text(text) => Literal::Text(text.as_str().into()),
            Self::List(List::Json(_)) | Self::Map(Map::Json(_)) => Literal::Json(Arc::new(self.to_json())),
            // A built composite may hold what JSON cannot say.
            _ => return None,
        })
    }
}

fn json_weight(json: &Json) -> usize {
    1 + match json {
        Json::String(text) => text.len() / 64,
        Json::Array(items) => items.iter().map(json_weight).sum(),
        Json::Object(entries) => entries.values().map(json_weight).sum(),
        _ => 0,
    }
}
