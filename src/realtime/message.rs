//! What subscribers read: one JSON object for each message, on one line.
//!
//! Promises: data that is JSON stays what it is, number for number; anything else is told as a text. Every message names its
//! channel and topic, by which SDKs tell what it is for.

use bytestring::ByteString;
use callboard_actors::domain::{RunId, Timestamp};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{Frame, Topic};

/// The environment there is.
const ENVIRONMENT: &str = "00000000-0000-4000-b000-000000000000";

/// What a message is about, besides its data.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// Where it is published.
    pub(crate) topic: Topic,
    /// The run it comes from, if its publisher says so.
    pub(crate) run: Option<RunId>,
    /// Whatever its publisher adds.
    pub(crate) metadata: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Written<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    created_at: String,
    env_id: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_id: Option<&'a str>,
}

/// Something was published: bytes of JSON, or of a text.
pub(crate) fn data(about: &About, body: &[u8], at: Timestamp) -> Frame {
    Frame::Message(tell(about, "data", Some(&json_of(body)), None, at))
}

/// A stream begins.
pub(super) fn stream_start(about: &About, stream: &str, at: Timestamp) -> ByteString {
    tell(about, "datastream-start", text(stream).as_deref(), None, at)
}

/// More of a stream.
pub(super) fn chunk(about: &About, stream: &str, piece: &str, at: Timestamp) -> ByteString {
    tell(about, "chunk", text(piece).as_deref(), Some(stream), at)
}

/// A stream has ended, well or not.
pub(super) fn stream_end(about: &About, stream: &str, at: Timestamp) -> ByteString {
    tell(about, "datastream-end", text(stream).as_deref(), None, at)
}

/// The server goes away; another one may be connected to.
pub(super) fn closing(at: Timestamp) -> ByteString {
    write(&Written {
        kind: "closing",
        channel: None,
        topic: None,
        data: None,
        metadata: None,
        created_at: at.to_rfc3339(),
        env_id: ENVIRONMENT,
        run_id: None,
        stream_id: None,
    })
}

fn tell(about: &About, kind: &'static str, data: Option<&RawValue>, stream: Option<&str>, at: Timestamp) -> ByteString {
    write(&Written {
        kind,
        channel: Some(&about.topic.channel),
        topic: Some(&about.topic.name),
        data,
        metadata: about.metadata.as_deref(),
        created_at: at.to_rfc3339(),
        env_id: ENVIRONMENT,
        run_id: about.run,
        stream_id: stream,
    })
}

fn write(message: &Written<'_>) -> ByteString {
    let written = serde_json::to_string(message);
    written.expect("texts and JSON can be written as JSON").into()
}

/// A body as JSON: itself, or the text that it is.
fn json_of(body: &[u8]) -> Box<RawValue> {
    let whole = String::from_utf8_lossy(body);
    match one_line(&whole) {
        Some(json) => json,
        None => text(&whole).unwrap_or_else(null),
    }
}

/// JSON on one line, if it is any: an event of SSE ends at an empty one. A line break within JSON stands between two tokens
/// and means nothing.
pub(crate) fn one_line(json: &str) -> Option<Box<RawValue>> {
    let parsed: &RawValue = serde_json::from_str(json).ok()?;
    let parsed = parsed.get();
    let parsed = if parsed.contains(['\n', '\r']) {
        parsed.replace(['\n', '\r'], "")
    } else {
        parsed.to_owned()
    };
    RawValue::from_string(parsed).ok()
}

fn text(text: &str) -> Option<Box<RawValue>> {
    to_raw_value(text).ok()
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_750_000_000_000);

    fn about() -> About {
        About {
            topic: Topic::new("user:1", "ai"),
            run: None,
            metadata: None,
        }
    }

    fn parsed(message: &str) -> Value {
        serde_json::from_str(message).unwrap_or_else(|error| panic!("{error}: {message}"))
    }

    fn told(about: &About, body: &[u8]) -> ByteString {
        match data(about, body, NOW) {
            Frame::Message(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_says_where_it_was_published() {
        let run = RunId::new(NOW, 7);
        let about = About {
            run: Some(run),
            metadata: one_line(r#"{"a": 1}"#),
            ..about()
        };
        assert_eq!(
            parsed(&told(&about, br#"{"n":1}"#)),
            json!({
                "kind": "data", "channel": "user:1", "topic": "ai", "data": {"n": 1}, "metadata": {"a": 1},
                "created_at": "2025-06-15T15:06:40.000Z", "env_id": ENVIRONMENT, "run_id": run,
            })
        );
    }

    #[rstest]
    #[case("12345678901234567890.5", "12345678901234567890.5")]
    #[case(" {\n  \"a\":\r\n [1,\n2] } ", r#"{  "a": [1,2] }"#)]
    #[case("hello", "\"hello\"")]
    #[case("", "\"\"")]
    #[case("{\"a\":", r#""{\"a\":""#)]
    #[case("two\nlines", r#""two\nlines""#)]
    #[case("null", "null")]
    fn json_stays_and_all_else_is_a_text(#[case] body: &str, #[case] told: &str) {
        assert_eq!(json_of(body.as_bytes()).get(), told);
    }

    #[test]
    fn a_stream_is_told_by_its_id() {
        let told = |message: ByteString| parsed(&message);
        let start = told(stream_start(&about(), "S", NOW));
        assert_eq!(
            (&start["kind"], &start["data"]),
            (&json!("datastream-start"), &json!("S"))
        );
        let chunk = told(chunk(&about(), "S", "pie\"ce", NOW));
        assert_eq!(
            (&chunk["kind"], &chunk["data"], &chunk["stream_id"]),
            (&json!("chunk"), &json!("pie\"ce"), &json!("S"))
        );
        let end = told(stream_end(&about(), "S", NOW));
        assert_eq!((&end["kind"], &end["data"]), (&json!("datastream-end"), &json!("S")));
        for message in [start, chunk, end] {
            assert_eq!(
                (&message["channel"], &message["topic"]),
                (&json!("user:1"), &json!("ai"))
            );
        }
        assert_eq!(told(closing(NOW))["kind"], "closing");
    }

    proptest! {
        /// Whatever is published, a reader of lines gets one object that says the same.
        #[test]
        fn any_bytes_make_one_line(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let message = told(&about(), &body);
            prop_assert!(!message.contains(['\n', '\r']));
            let text = String::from_utf8_lossy(&body);
            let expected = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
            prop_assert_eq!(&parsed(&message)["data"], &expected);
        }
    }
}
