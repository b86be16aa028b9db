//! Members of a JSON object as SDKs spell them.
//!
//! Keys are found in any case (the Python SDK writes `appname`, the Go SDK `Singleton`); null counts as missing, and so
//! does an empty text. A member of the wrong type is a problem, reported with its path, and counts as missing too, so
//! that the rest can be looked at.

use serde_json::{Map, Value};

use super::Problems;

/// An object with the path to it, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: &'a str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>, path: &'a str) -> Self {
        Self { map, path }
    }

    /// A member, whatever it is; null is none.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        let exact = self.map.get(name).filter(|value| !value.is_null());
        exact.or_else(|| {
            let mut others = self
                .map
                .iter()
                .filter(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null());
            others.next().map(|(_, value)| value)
        })
    }

    /// A text, trimmed by nobody; empty is none.
    pub(super) fn text(&self, name: &str, problems: &mut Problems) -> Option<&'a str> {
        match self.get(name)? {
            Value::String(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            _ => self.wrong(name, "a string", problems),
        }
    }

    /// An object.
    pub(super) fn object(&self, name: &str, problems: &mut Problems) -> Option<&'a Map<String, Value>> {
        match self.get(name)? {
            Value::Object(map) => Some(map),
            _ => self.wrong(name, "an object", problems),
        }
    }

    /// An array; missing is empty.
    pub(super) fn array(&self, name: &str, problems: &mut Problems) -> &'a [Value] {
        match self.get(name) {
            None => &[],
            Some(Value::Array(items)) => items,
            Some(_) => self.wrong(name, "an array", problems).unwrap_or_default(),
        }
    }

    /// A whole number.
    pub(super) fn integer(&self, name: &str, problems: &mut Problems) -> Option<i64> {
        match self.get(name)? {
            Value::Number(number) => match whole(number) {
                Some(number) => Some(number),
                None => self.wrong(name, "a whole number", problems),
            },
            _ => self.wrong(name, "a whole number", problems),
        }
    }

    fn wrong<T>(&self, name: &str, expected: &str, problems: &mut Problems) -> Option<T> {
        let dot = if self.path.is_empty() { "" } else { "." };
        problems.add(format!("`{}{dot}{name}` must be {expected}", self.path));
        None
    }
}

/// A number without a fraction, `5.0` included.
pub(super) fn whole(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        let fits = float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0;
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 53 bits")]
        fits.then_some(float as i64)
    })
}

/// What an optional text may be: an empty expression is none.
pub(super) fn present(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty()).map(str::to_owned)
}
