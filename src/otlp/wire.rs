//! The messages of the trace service, in both encodings.
//!
//! JSON is read leniently where senders differ: whole numbers may be texts, enumerations may be names, `null` is nothing. Ids
//! are hexadecimal there, as the protocol says (other bytes are base64). Fields that nobody here looks at are left out: they
//! are passed over when they come.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost::{Message, Oneof};
use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Spans of several resources, as an exporter sends them.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExportTraceServiceRequest {
    /// By resource.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// The answer to an export.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExportTraceServiceResponse {
    /// Set if something was not taken.
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial_success: Option<ExportTracePartialSuccess>,
}

/// What of an export was not taken.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExportTracePartialSuccess {
    /// How many spans.
    #[prost(int64, tag = "1")]
    #[serde(with = "long")]
    pub rejected_spans: i64,
    /// Why.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// What is wrong with an export (`google.rpc.Status`).
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RpcStatus {
    /// As of gRPC.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// Spans of one resource.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResourceSpans {
    /// Who.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// By scope.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// A process that makes spans.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resource {
    /// What is known of it.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// Spans of one library.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ScopeSpans {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// The spans.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

/// A library that makes spans.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct InstrumentationScope {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// A span.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Span {
    /// Sixteen bytes.
    #[prost(bytes = "vec", tag = "1")]
    #[serde(with = "hexadecimal")]
    pub trace_id: Vec<u8>,
    /// Eight bytes.
    #[prost(bytes = "vec", tag = "2")]
    #[serde(with = "hexadecimal")]
    pub span_id: Vec<u8>,
    /// As in the header of this name.
    #[prost(string, tag = "3")]
    pub trace_state: String,
    /// Eight bytes, or none.
    #[prost(bytes = "vec", tag = "4")]
    #[serde(with = "hexadecimal")]
    pub parent_span_id: Vec<u8>,
    /// What it is about.
    #[prost(string, tag = "5")]
    pub name: String,
    /// See [`kind_name`].
    #[prost(int32, tag = "6")]
    #[serde(deserialize_with = "number_or_name")]
    pub kind: i32,
    /// In nanoseconds since 1970.
    #[prost(fixed64, tag = "7")]
    #[serde(with = "long")]
    pub start_time_unix_nano: u64,
    /// In nanoseconds since 1970.
    #[prost(fixed64, tag = "8")]
    #[serde(with = "long")]
    pub end_time_unix_nano: u64,
    /// What is known of it.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// What happened within it.
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
    /// What else it has to do with.
    #[prost(message, repeated, tag = "13")]
    pub links: Vec<Link>,
    /// What came of it.
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
}

/// Something that happened within a span.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Event {
    /// When, in nanoseconds since 1970.
    #[prost(fixed64, tag = "1")]
    #[serde(with = "long")]
    pub time_unix_nano: u64,
    /// What.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What is known of it.
    #[prost(message, repeated, tag = "3")]
    pub attributes: Vec<KeyValue>,
}

/// Another span that a span has to do with.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Link {
    /// Sixteen bytes.
    #[prost(bytes = "vec", tag = "1")]
    #[serde(with = "hexadecimal")]
    pub trace_id: Vec<u8>,
    /// Eight bytes.
    #[prost(bytes = "vec", tag = "2")]
    #[serde(with = "hexadecimal")]
    pub span_id: Vec<u8>,
    /// What is known of it.
    #[prost(message, repeated, tag = "4")]
    pub attributes: Vec<KeyValue>,
}

/// What came of a span.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// 0: nobody says, 1: well, 2: badly.
    #[prost(int32, tag = "3")]
    #[serde(deserialize_with = "number_or_name")]
    pub code: i32,
}

/// An attribute.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// A value of any kind, or none.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// The value.
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub value: Option<Value>,
}

/// See [`AnyValue`].
#[derive(Clone, PartialEq, Oneof)]
pub enum Value {
    /// A text.
    #[prost(string, tag = "1")]
    String(String),
    /// Yes or no.
    #[prost(bool, tag = "2")]
    Bool(bool),
    /// A whole number.
    #[prost(int64, tag = "3")]
    Int(i64),
    /// A number.
    #[prost(double, tag = "4")]
    Double(f64),
    /// Values.
    #[prost(message, tag = "5")]
    Array(ArrayValue),
    /// Values by name.
    #[prost(message, tag = "6")]
    List(KeyValueList),
    /// Bytes.
    #[prost(bytes = "vec", tag = "7")]
    Bytes(Vec<u8>),
}

/// Values.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub struct ArrayValue {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<AnyValue>,
}

/// Values by name.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyValueList {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<KeyValue>,
}

/// Names of kinds of spans, by number.
const KINDS: [&str; 6] = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];
/// Names of outcomes, by number.
const CODES: [&str; 3] = ["UNSET", "OK", "ERROR"];

/// What a kind of span is called.
#[must_use]
pub fn kind_name(kind: i32) -> &'static str {
    let known = usize::try_from(kind).ok().and_then(|kind| KINDS.get(kind));
    known.unwrap_or(&KINDS[0])
}

impl Serialize for AnyValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.value {
            None => {}
            Some(Value::String(text)) => map.serialize_entry("stringValue", text)?,
            Some(Value::Bool(is)) => map.serialize_entry("boolValue", is)?,
            Some(Value::Int(number)) => map.serialize_entry("intValue", &number.to_string())?,
            Some(Value::Double(number)) => map.serialize_entry("doubleValue", number)?,
            Some(Value::Array(array)) => map.serialize_entry("arrayValue", array)?,
            Some(Value::List(list)) => map.serialize_entry("kvlistValue", list)?,
            Some(Value::Bytes(bytes)) => map.serialize_entry("bytesValue", &BASE64.encode(bytes))?,
        }
        map.end()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonValue {
    string_value: Option<String>,
    bool_value: Option<bool>,
    int_value: Option<Number>,
    double_value: Option<Number>,
    array_value: Option<ArrayValue>,
    kvlist_value: Option<KeyValueList>,
    bytes_value: Option<String>,
}

/// A number, or its text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(serde_json::Number),
    Text(String),
}

impl Number {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.trim().to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(json) = Option::<JsonValue>::deserialize(deserializer)? else {
            return Ok(Self { value: None });
        };
        let value = if let Some(text) = json.string_value {
            Some(Value::String(text))
        } else if let Some(is) = json.bool_value {
            Some(Value::Bool(is))
        } else if let Some(number) = json.int_value {
            Some(Value::Int(number.text().parse().map_err(D::Error::custom)?))
        } else if let Some(number) = json.double_value {
            Some(Value::Double(number.text().parse().map_err(D::Error::custom)?))
        } else if let Some(bytes) = json.bytes_value {
            Some(Value::Bytes(BASE64.decode(bytes).map_err(D::Error::custom)?))
        } else {
            let array = json.array_value.map(Value::Array);
            array.or(json.kvlist_value.map(Value::List))
        };
        Ok(Self { value })
    }
}

/// Whole numbers of 64 bits, which JSON holds as text.
mod long {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Number;

    pub(super) fn serialize<T: Display, S: Serializer>(number: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display> + Default,
        D: Deserializer<'de>,
    {
        match Option::<Number>::deserialize(deserializer)? {
            None => Ok(T::default()),
            Some(number) => number.text().parse().map_err(D::Error::custom),
        }
    }
}

/// Ids.
mod hexadecimal {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        hex::decode(text).map_err(D::Error::custom)
    }
}

/// An enumeration's number, or its name with the enumeration's own before it.
fn number_or_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let Some(number) = Option::<Number>::deserialize(deserializer)? else {
        return Ok(0);
    };
    let text = number.text();
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let names = KINDS.iter().map(|name| format!("SPAN_KIND_{name}")).zip(0..);
    let mut all = names.chain(CODES.iter().map(|name| format!("STATUS_CODE_{name}")).zip(0..));
    let known = all.find(|(name, _)| *name == text);
    known
        .map(|(_, number)| number)
        .ok_or_else(|| D::Error::custom(format!("`{text}` is not known")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_read_as_exporters_write_it() {
        let json = json!({"resourceSpans": [{"resource": {"attributes": [
                {"key": "service.name", "value": {"stringValue": "shop"}}], "droppedAttributesCount": 0},
            "scopeSpans": [{"scope": {"name": "inngest", "version": "4"}, "spans": [{
                "traceId": "71eeab122c16e2337e13aa425bc51912", "spanId": "b5c2db5b06a644c5", "parentSpanId": null,
                "name": "work", "kind": "SPAN_KIND_CLIENT", "startTimeUnixNano": "1750000000000000001",
                "endTimeUnixNano": 1_750_000_000_000_000_002_u64, "status": {"code": 2, "message": "m"},
                "attributes": [
                    {"key": "a", "value": {"intValue": "18"}}, {"key": "b", "value": {"intValue": 18}},
                    {"key": "c", "value": {"doubleValue": 1.5}}, {"key": "d", "value": {"bytesValue": "AQI="}},
                    {"key": "e", "value": {"arrayValue": {"values": [{"boolValue": true}]}}},
                    {"key": "f", "value": {}}, {"key": "g", "value": null}],
                "events": [{"timeUnixNano": "7", "name": "e", "attributes": []}]}]}]}]});
        let request: ExportTraceServiceRequest = serde_json::from_value(json).expect("valid");
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(hex::encode(&span.span_id), "b5c2db5b06a644c5");
        assert_eq!((span.parent_span_id.len(), span.kind), (0, 3));
        assert_eq!(span.start_time_unix_nano, 1_750_000_000_000_000_001);
        assert_eq!(span.end_time_unix_nano, 1_750_000_000_000_000_002);
        let value = |at: usize| span.attributes[at].value.clone().and_then(|value| value.value);
        assert_eq!((value(0), value(1)), (Some(Value::Int(18)), Some(Value::Int(18))));
        assert_eq!(
            (value(3), value(5), value(6)),
            (Some(Value::Bytes(vec![1, 2])), None, None)
        );
        // What is written is read again, in both encodings.
        let text = serde_json::to_string(&request).expect("JSON");
        assert_eq!(
            serde_json::from_str::<ExportTraceServiceRequest>(&text).expect("valid"),
            request
        );
        let bytes = request.encode_to_vec();
        assert_eq!(ExportTraceServiceRequest::decode(&*bytes).expect("valid"), request);
    }

    #[test]
    fn answers_are_written_as_the_protocol_says() {
        let all_well = ExportTraceServiceResponse::default();
        assert_eq!(serde_json::to_value(&all_well).expect("JSON"), json!({}));
        assert!(all_well.encode_to_vec().is_empty());
        let some = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 2,
                error_message: "why".to_owned(),
            }),
        };
        let expected = json!({"partialSuccess": {"rejectedSpans": "2", "errorMessage": "why"}});
        assert_eq!(serde_json::to_value(&some).expect("JSON"), expected);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = ExportTraceServiceRequest::decode(&*bytes);
            let _ = serde_json::from_slice::<ExportTraceServiceRequest>(&bytes);
        }
    }
}
