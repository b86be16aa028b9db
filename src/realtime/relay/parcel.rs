//! What instances tell each other: a message with its topic, and who speaks.
//!
//! Promises: no two topics share a channel of Redis; what can't be read is passed over, as is what an instance has said
//! itself.

use bytes::Bytes;
use prost::Message;
use sha2::{Digest as _, Sha256};

use crate::realtime::{Frame, Topic};

/// One message of a channel.
#[derive(Clone, PartialEq, Eq, Message)]
struct Parcel {
    /// Who speaks.
    #[prost(string, tag = "1")]
    node: String,
    #[prost(string, tag = "2")]
    channel: String,
    #[prost(string, tag = "3")]
    topic: String,
    #[prost(string, optional, tag = "4")]
    message: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    raw: Option<Bytes>,
}

/// Who this is among the instances.
#[derive(Debug)]
pub(super) struct Own {
    /// The instance.
    pub(super) node: String,
    /// What all keys of the installation begin with.
    pub(super) prefix: String,
}

impl Own {
    /// The channel of Redis for a topic.
    pub(super) fn channel(&self, topic: &Topic) -> String {
        let mut digest = Sha256::new();
        // A length in between, so that no two topics are one.
        digest.update(topic.channel.len().to_le_bytes());
        digest.update(topic.channel.as_bytes());
        digest.update(topic.name.as_bytes());
        let digest = hex::encode(&digest.finalize()[..16]);
        format!("{{{}}}:realtime:{digest}", self.prefix)
    }

    /// The same for several.
    pub(super) fn channels<'a>(&self, topics: impl IntoIterator<Item = &'a Topic>) -> Vec<String> {
        topics.into_iter().map(|topic| self.channel(topic)).collect()
    }

    /// What others are told.
    pub(super) fn write(&self, topic: &Topic, frame: &Frame) -> Vec<u8> {
        let (message, raw) = match frame {
            Frame::Message(text) => (Some(text.to_string()), None),
            Frame::Raw(bytes) => (None, Some(bytes.clone())),
            // Each instance says so for itself.
            Frame::Closing => (None, None),
        };
        let parcel = Parcel {
            node: self.node.clone(),
            channel: topic.channel.to_string(),
            topic: topic.name.to_string(),
            message,
            raw,
        };
        parcel.encode_to_vec()
    }

    /// What somebody else says; `None` for what makes no sense, and for this instance's own words.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<(Topic, Frame)> {
        let parcel = Parcel::decode(bytes).ok()?;
        if parcel.node == self.node {
            return None;
        }
        let frame = match (parcel.message, parcel.raw) {
            (Some(text), _) => Frame::Message(text.into()),
            (None, Some(bytes)) => Frame::Raw(bytes),
            (None, None) => return None,
        };
        Some((Topic::new(&parcel.channel, &parcel.topic), frame))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn own(node: &str) -> Own {
        Own {
            node: node.to_owned(),
            prefix: "test".to_owned(),
        }
    }

    #[test]
    fn what_is_said_is_heard_by_others_and_not_by_oneself() {
        let topic = Topic::new("c", "t");
        for frame in [Frame::Message("{}".into()), Frame::Raw(Bytes::from_static(b"\xff\0"))] {
            let said = own("a").write(&topic, &frame);
            assert_eq!(own("b").read(&said), Some((topic.clone(), frame)));
            assert_eq!(own("a").read(&said), None);
        }
    }

    #[test]
    fn no_two_topics_share_a_channel() {
        let own = own("a");
        let topics = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")];
        let channels: HashSet<String> = topics
            .iter()
            .map(|(channel, name)| own.channel(&Topic::new(channel, name)))
            .collect();
        assert_eq!(channels.len(), topics.len());
        assert!(channels.iter().all(|channel| channel.starts_with("{test}:realtime:")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_passed_over_at_the_worst(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = own("a").read(&bytes);
        }
    }
}
