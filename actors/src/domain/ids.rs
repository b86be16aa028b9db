//! Identifiers. Each is its own type, so that a run can't be looked up by an event's id.
//!
//! Events and runs carry ULIDs: they sort by creation time, which is what lists page by. A run's id is *derived* from
//! its event and function, which makes starting a run idempotent: routing the same event again, after a crash or a
//! retried request, arrives at the same id and the second insert changes nothing.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ulid::Ulid;
use uuid::Uuid;

use super::textual::textual;
use super::{JobId, Timestamp};

/// A text that is not an identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {kind} id")]
pub struct IdError {
    kind: &'static str,
    text: String,
}

impl IdError {
    pub(super) fn new(kind: &'static str, text: &str) -> Self {
        Self {
            kind,
            text: text.to_owned(),
        }
    }
}

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// From a time and 80 random bits (the upper 48 bits of `entropy` are ignored).
            #[must_use]
            pub fn new(at: Timestamp, entropy: u128) -> Self {
                let millis = u64::try_from(at.as_millis()).unwrap_or(0);
                Self(Ulid::from_parts(millis, entropy & ((1 << 80) - 1)))
            }

            /// When it was made, in milliseconds precision.
            #[must_use]
            pub fn at(self) -> Timestamp {
                Timestamp::from_millis(i64::try_from(self.0.timestamp_ms()).unwrap_or(i64::MAX))
            }

            /// The smallest id of that instant: a bound for ranges over time.
            #[must_use]
            pub fn first_at(at: Timestamp) -> Self {
                Self::new(at, 0)
            }

            /// The sixteen bytes, in sort order.
            #[must_use]
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Ulid::from_string(text).map(Self).map_err(|_| IdError { kind: $kind, text: text.to_owned() })
            }
        }

        textual!($name);
    };
}

ulid_id! {
    /// The server's own id of an accepted event (the user's `id` is [`super::Event::external_id`]).
    EventId, "event"
}

ulid_id! {
    /// A run: one start of one function.
    RunId, "run"
}

ulid_id! {
    /// One call of an app; sorts by when it was made.
    RequestId, "request"
}

ulid_id! {
    /// One running process of an installation.
    NodeId, "node"
}

ulid_id! {
    /// A dead letter; sorts by when the job was given up.
    LetterId, "dead letter"
}

ulid_id! {
    /// An operation on many runs; sorts by when it was asked for.
    OperationId, "operation"
}

ulid_id! {
    /// A key that an operator has made; sorts by when.
    ApiKeyId, "key"
}

ulid_id! {
    /// A gathering of events; its time part is when it was opened.
    GatheringId, "gathering"
}

impl RequestId {
    /// This id or, if the earlier one is not below it (clocks differ), the next one after that.
    #[must_use]
    pub fn after(self, earlier: Self) -> Self {
        self.max(Self(Ulid(earlier.0.0.saturating_add(1))))
    }
}

impl GatheringId {
    /// The id of the gathering that this event opens for a function.
    #[must_use]
    pub fn derive(at: Timestamp, event: EventId, function: FunctionId) -> Self {
        Self::new(at, digest80(&[&event.to_bytes(), function.0.as_bytes()]))
    }
}

impl LetterId {
    /// The id of the letter about this job of a run in this version: the same however often the decision is made.
    #[must_use]
    pub fn derive(at: Timestamp, job: &JobId, version: u64) -> Self {
        let key = job.key.to_string();
        Self::new(
            at,
            digest80(&[&job.run.to_bytes(), key.as_bytes(), &version.to_be_bytes()]),
        )
    }
}

impl RunId {
    /// The id of the run that `event` starts of `function`: always the same one.
    ///
    /// Its time part is the event's, so runs sort like the events that started them.
    #[must_use]
    pub fn derive(event: EventId, function: FunctionId) -> Self {
        let entropy = digest80(&[&event.to_bytes(), function.0.as_bytes()]);
        Self(Ulid::from_parts(event.0.timestamp_ms(), entropy))
    }
}

impl RunId {
    /// The id of the run that a gathering starts at that time.
    #[must_use]
    pub fn of_gathering(gathering: GatheringId, at: Timestamp) -> Self {
        Self::new(at, digest80(&[&gathering.to_bytes()]))
    }
}

impl EventId {
    /// An id for an event that must come into being once, however often its cause is looked at: a cron tick, an invoke.
    #[must_use]
    pub fn derive(at: Timestamp, cause: &str) -> Self {
        Self::new(at, digest80(&[cause.as_bytes()]))
    }
}

/// The first 80 bits of a SHA-256.
fn digest80(parts: &[&[u8]]) -> u128 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    let digest = hasher.finalize();
    digest
        .iter()
        .take(10)
        .fold(0, |bits, byte| (bits << 8) | u128::from(*byte))
}

/// What an SDK sends so that a retried request gets the same ids: a time and ten random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventIdSeed {
    millis: u64,
    entropy: [u8; 10],
}

impl EventIdSeed {
    /// Parses the header `x-inngest-event-id-seed`: `<millis>,<base64 of ten bytes>`. Anything else is no seed.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let (millis, entropy) = header.split_once(',')?;
        let millis = millis
            .trim()
            .parse::<u64>()
            .ok()
            .filter(|millis| (1..1 << 48).contains(millis))?;
        let entropy = base64::engine::general_purpose::STANDARD.decode(entropy.trim()).ok()?;
        Some(Self {
            millis,
            entropy: entropy.try_into().ok()?,
        })
    }

    /// The id of the `position`-th event of the request, counted from 1: the position is added to the last four bytes,
    /// read as a big-endian number, wrapping.
    #[must_use]
    pub fn event_id(&self, position: u32) -> EventId {
        let mut bytes = [0; 16];
        bytes[6..].copy_from_slice(&self.entropy);
        let [.., a, b, c, d] = bytes;
        let counted = u32::from_be_bytes([a, b, c, d]).wrapping_add(position);
        bytes[12..].copy_from_slice(&counted.to_be_bytes());
        EventId(Ulid::from_parts(self.millis, u128::from_be_bytes(bytes)))
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// As a UUID.
            #[must_use]
            pub fn as_uuid(self) -> Uuid {
                self.0
            }

            /// From the UUID that [`Self::as_uuid`] gave.
            #[must_use]
            pub fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError::new($kind, text))
            }
        }

        textual!($name);
    };
}

uuid_id! {
    /// A function's stable identity, derived from its app and its slug, so that it survives a new URL or a restart.
    FunctionId, "function"
}

uuid_id! {
    /// What a claim is on: a function's rate limit or lock, for one value of its key.
    ClaimId, "claim"
}

impl FunctionId {
    /// Name space of the ids derived here (an arbitrary constant; changing it orphans every stored function).
    const NAMESPACE: Uuid = Uuid::from_u128(0x9c6c_6b1e_6f0a_4d0c_9a55_ca11_b0a2_d000);

    /// The id of the function `slug` of `app`.
    #[must_use]
    pub fn derive(app: &str, slug: &str) -> Self {
        Self(Uuid::new_v5(&Self::NAMESPACE, format!("{app}\u{0}{slug}").as_bytes()))
    }

    /// The UUID an app is known by on the wire.
    #[must_use]
    pub fn app_uuid(app: &str) -> Uuid {
        Uuid::new_v5(&Self::NAMESPACE, app.as_bytes())
    }
}

/// A step's id as the SDK computed it (a SHA-1 in hex, today): opaque to us, unique within its run.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(Arc<str>);

impl StepId {
    /// Longest id accepted, in bytes. SDKs send 40.
    pub const MAX_LEN: usize = 256;

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for StepId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_seed_counts_from_one_in_the_last_four_bytes() {
        let seed = EventIdSeed::parse("1750000000000,AAAAAAAAAAAAAA==").expect("valid seed");
        let first = seed.event_id(1);
        assert_eq!(first.at(), Timestamp::from_millis(1_750_000_000_000));
        assert_eq!(first.to_bytes()[6..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(seed.event_id(2).to_bytes()[6..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn the_counter_of_a_seed_wraps_without_a_carry() {
        let seed = EventIdSeed::parse("1,AAAAAAAA/////w==").expect("valid seed");
        assert_eq!(seed.event_id(2).to_bytes()[6..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[rstest]
    #[case("")]
    #[case("1750000000000")]
    #[case("0,AAAAAAAAAAAAAA==")]
    #[case("-5,AAAAAAAAAAAAAA==")]
    #[case("1750000000000,AAAA")]
    #[case("1750000000000,not base64")]
    #[case("1,AAAAAAAAAAAAAA==,x")]
    #[case("999999999999999999,AAAAAAAAAAAAAA==")]
    fn a_malformed_seed_is_no_seed(#[case] header: &str) {
        assert_eq!(EventIdSeed::parse(header), None);
    }

    #[test]
    fn a_run_id_is_derived_from_event_and_function() {
        let event = EventId::new(Timestamp::from_millis(1_750_000_000_000), 7);
        let one = FunctionId::derive("shop", "shop-one");
        let two = FunctionId::derive("shop", "shop-two");
        assert_eq!(RunId::derive(event, one), RunId::derive(event, one));
        assert_ne!(RunId::derive(event, one), RunId::derive(event, two));
        assert_eq!(RunId::derive(event, one).at(), event.at());
    }

    #[test]
    fn ids_survive_their_text() {
        let id = RunId::new(Timestamp::from_millis(1_750_000_000_000), 42);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("not-a-ulid".parse::<RunId>().is_err());
    }
}
