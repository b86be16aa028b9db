//! JSON text in canonical form (RFC 8785), checked once and then passed on untouched.
//!
//! Everything users give us (event bodies, step results, outputs) is canonicalised when it comes in. From then on it is
//! text: it is stored, embedded in calls and signed without being parsed again. A call body glued together from
//! canonical parts with sorted keys is canonical itself, and that is what a signature must cover (the SDKs canonicalise
//! before they verify).
//!
//! Canonical form passes numbers through `f64`, as the protocol demands: `9007199254740993` becomes `9007199254740992`.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Canonical JSON text; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

/// Why a text is not accepted as JSON.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, or nested deeper than 127 levels.
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
    /// A number that no double can hold, such as `1e400`.
    #[error("a number is out of range")]
    Number,
}

impl Json {
    /// Parses any JSON text and brings it into canonical form.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        Self::from_value(&value)
    }

    /// Parses bytes that should be UTF-8 JSON.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, JsonError> {
        let value: serde_json::Value = serde_json::from_slice(bytes)?;
        Self::from_value(&value)
    }

    /// The canonical text of anything that serialises.
    ///
    /// # Errors
    /// When a number is not finite, or `value` does not serialise to JSON.
    pub fn from_value<T: Serialize>(value: &T) -> Result<Self, JsonError> {
        serde_json_canonicalizer::to_string(value)
            .map(|text| Self(text.into()))
            .map_err(|_| JsonError::Number)
    }

    /// `null`.
    #[must_use]
    pub fn null() -> Self {
        Self("null".into())
    }

    /// Takes a text that this type has printed before, for instance into the database.
    ///
    /// Nothing is checked: calling this with other text breaks the promise of the type.
    #[must_use]
    pub fn from_canonical(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// `{"<member>":<self>}`; `member` is one of the protocol's own names and needs no escape.
    #[must_use]
    pub fn wrapped(&self, member: &'static str) -> Self {
        Self(format!("{{\"{member}\":{}}}", self.0).into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    #[must_use]
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// Bytes of text.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: the shortest JSON text has one byte. Present because clippy expects it beside `len`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is the literal `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        &*self.0 == "null"
    }

    /// The value, parsed. The text is valid JSON, so this fails only where the target type asks for another shape.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// The value as a tree.
    #[must_use]
    pub fn to_tree(&self) -> serde_json::Value {
        self.to().unwrap_or(serde_json::Value::Null)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        match self.0.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "{}… ({} bytes)", &self.0[..end], self.0.len()),
            None => f.write_str(&self.0),
        }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Self::from_value(&value).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(r#"{"b":1.0,"a":[1e21,-0,"<\u00e9>"]}"#, r#"{"a":[1e+21,0,"<é>"],"b":1}"#)]
    #[case("9007199254740993", "9007199254740992")]
    #[case(" null ", "null")]
    #[case(r#""\/""#, r#""/""#)]
    fn canonical_form(#[case] text: &str, #[case] canonical: &str) {
        assert_eq!(Json::parse(text).expect("valid").as_str(), canonical);
    }

    #[rstest]
    #[case("")]
    #[case("{")]
    #[case("1e400")]
    #[case("{\"a\":1}x")]
    fn refused(#[case] text: &str) {
        assert!(Json::parse(text).is_err());
    }

    #[test]
    fn deep_nesting_is_an_error_not_an_overflow() {
        let deep = "[".repeat(100_000);
        assert!(Json::parse(&deep).is_err());
    }

    #[test]
    fn serialises_as_itself() {
        let json = Json::parse(r#"{"z":null,"a":"x"}"#).expect("valid");
        assert_eq!(
            serde_json::to_string(&vec![json]).expect("serialises"),
            r#"[{"a":"x","z":null}]"#
        );
    }
}
