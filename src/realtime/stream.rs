//! A text that is told piece by piece while it comes: a start, pieces, an end.
//!
//! Promises: the pieces make the text, byte for byte where it is UTF-8; a piece is at most [`PIECE_BYTES`] long, and nothing
//! is held back but the beginning of a character whose end has not come yet. Whatever becomes of its publisher, a stream
//! that has begun has an end.

use std::sync::Arc;

use callboard_actors::ports::Clock;
use ulid::Ulid;

use super::{About, Broadcaster, Frame, STREAM_BYTES, message};

/// Bytes of a piece.
const PIECE_BYTES: usize = 1_024;

/// There was more than a stream may have; the rest is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stream has at most {STREAM_BYTES} bytes")]
pub(crate) struct TooLong;

/// A stream that has begun; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Datastream {
    broadcaster: Broadcaster,
    clock: Arc<dyn Clock>,
    about: About,
    id: String,
    /// The beginning of a character.
    rest: Vec<u8>,
    bytes: usize,
}

impl Datastream {
    /// Begins one under this id.
    pub(crate) fn begin(broadcaster: Broadcaster, clock: Arc<dyn Clock>, about: About, id: Ulid) -> Self {
        let stream = Self {
            broadcaster,
            clock,
            about,
            id: id.to_string(),
            rest: Vec::new(),
            bytes: 0,
        };
        let at = stream.clock.now();
        stream.publish(message::stream_start(&stream.about, &stream.id, at));
        stream
    }

    /// Tells more of it.
    ///
    /// # Errors
    /// When it is too long; what fits is told.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let room = STREAM_BYTES - self.bytes;
        let told = &bytes[..bytes.len().min(room)];
        self.bytes += told.len();
        self.rest.extend_from_slice(told);
        let (text, rest) = decode(std::mem::take(&mut self.rest));
        self.rest = rest;
        self.tell(&text);
        if told.len() < bytes.len() { Err(TooLong) } else { Ok(()) }
    }

    fn tell(&self, text: &str) {
        let at = self.clock.now();
        for piece in pieces(text) {
            self.publish(message::chunk(&self.about, &self.id, piece, at));
        }
    }

    fn publish(&self, message: bytestring::ByteString) {
        self.broadcaster.publish(&self.about.topic, &Frame::Message(message));
    }
}

impl Drop for Datastream {
    fn drop(&mut self) {
        let rest = String::from_utf8_lossy(&self.rest).into_owned();
        self.tell(&rest);
        self.publish(message::stream_end(&self.about, &self.id, self.clock.now()));
    }
}

/// Bytes as text, and those at their end that may be the beginning of a character.
fn decode(mut bytes: Vec<u8>) -> (String, Vec<u8>) {
    let begun = bytes.utf8_chunks().last().map_or(0, |last| {
        let invalid = last.invalid();
        // What is wrong at the very end may still become right.
        let may_go_on = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if may_go_on { invalid.len() } else { 0 }
    });
    let rest = bytes.split_off(bytes.len() - begun);
    let text = String::from_utf8(bytes);
    let text = text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    (text, rest)
}

/// A text in pieces that end where a character does.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use callboard_actors::domain::Timestamp;
    use futures_util::FutureExt as _;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::realtime::Topic;
    use crate::realtime::subscription::Subscription;

    #[derive(Debug)]
    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(1_750_000_000_000)
        }
    }

    fn begin() -> (Datastream, Subscription) {
        let broadcaster = Broadcaster::default();
        let topic = Topic::new("c", "t");
        let subscribed = broadcaster.subscribe(vec![topic.clone()]).now_or_never();
        let subscription = subscribed.expect("at once").expect("room");
        let about = About {
            topic,
            run: None,
            metadata: None,
        };
        let stream = Datastream::begin(broadcaster, Arc::new(Stopped), about, Ulid(7));
        (stream, subscription)
    }

    /// What has come: kind and data.
    fn told(subscription: &Subscription) -> Vec<(String, String)> {
        let next = || subscription.next().now_or_never()?.ok();
        std::iter::from_fn(next)
            .map(|frame| {
                let Frame::Message(text) = frame else {
                    panic!("{frame:?}")
                };
                let message: Value = serde_json::from_str(&text).expect("JSON");
                let text = |name: &str| message[name].as_str().expect("a text").to_owned();
                (text("kind"), text("data"))
            })
            .collect()
    }

    #[test]
    fn a_stream_has_a_start_pieces_and_an_end() {
        let (mut stream, subscription) = begin();
        let id = Ulid(7).to_string();
        let say = |kind: &str, data: &str| (kind.to_owned(), data.to_owned());
        assert_eq!(told(&subscription), [say("datastream-start", &id)]);
        stream.push("grü".as_bytes()).expect("short");
        assert_eq!(told(&subscription), [say("chunk", "grü")], "at once");
        stream.push(&"ß".as_bytes()[..1]).expect("short");
        assert_eq!(told(&subscription), [], "half a character");
        stream.push(&"ß".as_bytes()[1..]).expect("short");
        assert_eq!(told(&subscription), [say("chunk", "ß")]);
        stream.push(b"\xc3").expect("short");
        drop(stream);
        assert_eq!(
            told(&subscription),
            [say("chunk", "\u{fffd}"), say("datastream-end", &id)]
        );
    }

    #[test]
    fn a_stream_is_so_long_and_no_longer() {
        let (mut stream, subscription) = begin();
        let most = vec![b'a'; STREAM_BYTES - 1];
        stream.push(&most).expect("it fits");
        let length = |told: &[(String, String)]| told.iter().skip(1).map(|(_, data)| data.len()).sum::<usize>();
        let so_far = told(&subscription);
        assert_eq!(length(&so_far), STREAM_BYTES - 1);
        assert_eq!(stream.push(b"bc"), Err(TooLong));
        assert_eq!(stream.push(b"d"), Err(TooLong));
        assert_eq!(told(&subscription), [("chunk".to_owned(), "b".to_owned())]);
    }

    proptest! {
        #[test]
        fn the_pieces_make_the_text(text in "[a-zßé漢😀\n]{0,3000}", cuts in prop::collection::vec(any::<usize>(), 0..8)) {
            let (mut stream, subscription) = begin();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
            cuts.push(0);
            cuts.push(text.len());
            cuts.sort_unstable();
            for part in cuts.windows(2) {
                stream.push(&text.as_bytes()[part[0]..part[1]]).expect("short");
            }
            drop(stream);
            let told = told(&subscription);
            let pieces: Vec<&str> = told[1..told.len() - 1].iter().map(|(_, data)| data.as_str()).collect();
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE_BYTES));
            prop_assert_eq!(pieces.concat(), text);
        }

        #[test]
        fn any_bytes_make_what_can_be_read_of_them(bytes in prop::collection::vec(any::<u8>(), 0..300), cut: usize) {
            let (mut stream, subscription) = begin();
            let (one, two) = bytes.split_at(cut % (bytes.len() + 1));
            stream.push(one).expect("short");
            stream.push(two).expect("short");
            drop(stream);
            let told: String = told(&subscription).iter().filter(|(kind, _)| kind == "chunk").map(|(_, data)| data.as_str()).collect();
            prop_assert_eq!(told, String::from_utf8_lossy(&bytes));
        }
    }
}
