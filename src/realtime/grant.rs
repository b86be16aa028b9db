//! What a token allows: a JSON Web Token that names the topics its holder may read, and says whether it may publish.
//!
//! Promises: a token of another purpose, another key or another time is none. What is read from a token is what was written
//! into it. A token may be shown more than once until it expires, and a subscription outlives it.
//!
//! Never: a clock or chance of its own.

use callboard_actors::domain::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use ulid::Ulid;

use super::Topic;
use crate::sdk::Tokens;

const ISSUER: &str = "rt.inngest.com";
/// The account and the environment there are.
const ACCOUNT: &str = "00000000-0000-4000-a000-000000000000";
const ENVIRONMENT: &str = "00000000-0000-4000-b000-000000000000";
/// The one kind of topic that there is a use for.
const KIND: &str = "run";

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Grant {
    /// What may be read.
    pub(crate) topics: Vec<Topic>,
    /// Whether its holder may publish, on whatever topic.
    pub(crate) publishes: bool,
}

/// A topic as it is written down.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    env_id: String,
    channel: String,
    #[serde(alias = "topic")]
    name: String,
}

impl Grant {
    /// To read these.
    pub(crate) fn to_read(topics: Vec<Topic>) -> Self {
        Self {
            topics,
            publishes: false,
        }
    }

    /// A token for it, good for so many seconds from `now` on. `id` makes it unlike any other.
    pub(crate) fn issue(&self, tokens: &Tokens, id: Ulid, now: Timestamp, seconds: u64) -> String {
        let topics = self.topics.iter().map(
            |topic| json!({"kind": KIND, "env_id": ENVIRONMENT, "channel": &*topic.channel, "name": &*topic.name}),
        );
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), json!(ISSUER));
        claims.insert("jti".to_owned(), json!(id));
        claims.insert("env".to_owned(), json!(ENVIRONMENT));
        claims.insert("topics".to_owned(), topics.collect());
        claims.insert("publish".to_owned(), json!(self.publishes));
        let now = seconds_of(now);
        tokens.issue(ACCOUNT, claims, now, now.saturating_add(seconds))
    }

    /// What this token allows; `None` if it is no good.
    pub(crate) fn read(tokens: &Tokens, token: &str, now: Timestamp) -> Option<Self> {
        let mut claims = tokens.verify(token, ACCOUNT, seconds_of(now))?;
        if claims.get("iss").and_then(Value::as_str) != Some(ISSUER) {
            return None;
        }
        let topics = claims.remove("topics").unwrap_or(Value::Null);
        Some(Self {
            topics: read_topics(topics)?,
            publishes: claims.get("publish") == Some(&json!(true)),
        })
    }
}

/// Topics as somebody names them: an array of objects with `channel` and `name`. `None` if it is something else.
pub(crate) fn read_topics(written: Value) -> Option<Vec<Topic>> {
    let written: Option<Vec<Written>> = serde_json::from_value(written).ok()?;
    let written = written.unwrap_or_default();
    Some(written.iter().map(|one| Topic::new(&one.channel, &one.name)).collect())
}

fn seconds_of(at: Timestamp) -> u64 {
    u64::try_from(at.as_millis() / 1_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::sdk::SigningKey;

    const NOW: Timestamp = Timestamp::from_millis(1_750_000_000_000);

    fn later(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_token_is_good_for_its_time_and_its_server() {
        let (tokens, id) = (Tokens::new(None), Ulid(7));
        let grant = Grant::to_read(vec![Topic::new("user:1", "ai")]);
        let token = grant.issue(&tokens, id, NOW, 60);
        assert_eq!(Grant::read(&tokens, &token, later(59)), Some(grant.clone()));
        assert_eq!(Grant::read(&tokens, &token, later(60)), None, "expired");
        let key = SigningKey::parse("signkey-test-12345678").expect("a key");
        let others = Tokens::new(Some(&key.into()));
        assert_eq!(Grant::read(&others, &token, NOW), None, "of another server");
        assert_eq!(Grant::read(&tokens, &grant.issue(&others, id, NOW, 60), NOW), None);
    }

    #[test]
    fn a_token_for_something_else_is_none() {
        let tokens = Tokens::new(None);
        let now = seconds_of(NOW);
        let mut claims = Map::new();
        claims.insert("topics".to_owned(), json!([{"channel": "c", "name": "t"}]));
        for subject in [ACCOUNT, "run-claim"] {
            let token = tokens.issue(subject, claims.clone(), now, now + 60);
            assert_eq!(Grant::read(&tokens, &token, NOW), None, "{subject}");
        }
        claims.insert("iss".to_owned(), json!(ISSUER));
        let token = tokens.issue(ACCOUNT, claims.clone(), now, now + 60);
        assert_eq!(
            Grant::read(&tokens, &token, NOW),
            Some(Grant::to_read(vec![Topic::new("c", "t")]))
        );
        // Anything but `true` does not publish.
        claims.insert("publish".to_owned(), json!("true"));
        let token = tokens.issue(ACCOUNT, claims, now, now + 60);
        assert_eq!(
            Grant::read(&tokens, &token, NOW).map(|grant| grant.publishes),
            Some(false)
        );
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(
            topics in prop::collection::vec((any::<String>(), any::<String>()), 0..5),
            publishes: bool,
            id: u128,
        ) {
            let topics = topics.iter().map(|(channel, name)| Topic::new(channel, name)).collect();
            let grant = Grant { topics, publishes };
            let tokens = Tokens::new(None);
            let token = grant.issue(&tokens, Ulid(id), NOW, 60);
            prop_assert_eq!(Grant::read(&tokens, &token, NOW), Some(grant));
        }

        #[test]
        fn any_text_is_refused(text in ".{0,200}") {
            prop_assert_eq!(Grant::read(&Tokens::new(None), &text, NOW), None);
        }
    }
}
