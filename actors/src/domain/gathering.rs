//! A gathering: an open collection of events that one run of a function will stand for.
//!
//! A debounced function gathers events to keep the last one, a batching function to have them all. An event *joins* the
//! gathering that is open for its function and key, or opens one; the store decides which, in the commit that accepts or
//! routes the event. A gathering that is due or full *fires*: it goes, and its run comes, in one write.
//!
//! Promises: of the gatherings of a bucket at most one is open. Never: no decision, which is `engine::gathering`'s.

use std::time::Duration;

use super::{ClaimId, Event, EventId, FunctionId, GatheringId, Json, NewRun, RateClaim, Skip, SkipReason, Timestamp};

/// What a function gathers events for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gather {
    /// To start with the last one, once none has come for a `period`.
    Debounce {
        /// From the last event to the start.
        period: Duration,
        /// From the first event to the start, at the longest.
        timeout: Option<Duration>,
    },
    /// To start with all of them.
    Batch {
        /// Events of one run, at the most.
        max_size: u32,
        /// From the first event to the start, at the longest.
        timeout: Duration,
    },
}

/// Why a gathering is due when it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DueBy {
    /// No event has come for the period of a debounce.
    Period,
    /// It has been open for as long as it may.
    Timeout,
    /// It holds as much as it may.
    Full,
    /// Somebody has asked for its end, before it was due.
    Request,
}

impl DueBy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Period, Self::Timeout, Self::Full, Self::Request];

    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Period => "period",
            Self::Timeout => "timeout",
            Self::Full => "full",
            Self::Request => "request",
        }
    }

    /// From the stored name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.as_str() == text)
    }
}

/// An event is to join the gathering of a bucket. Its claims, in this order: its event's, which is the write's; with
/// `idempotency`, that no event with that key has joined a gathering of the function within the window; its rate limit;
/// and, of a debounce, that no event that happened later is held. A join that loses one is left out (the rest of the write
/// stands) and, unless its write has lost, recorded as a [`Skip`].
#[derive(Debug, Clone, PartialEq)]
pub struct Join {
    /// The id of the gathering, if it is opened by this event.
    pub id: GatheringId,
    /// For which function.
    pub function: FunctionId,
    /// Who joins.
    pub event: EventId,
    /// Stands for function, purpose and key.
    pub bucket: ClaimId,
    /// What for.
    pub gather: Gather,
    /// The key's value for people, shortened.
    pub key: Option<String>,
    /// When it joins.
    pub at: Timestamp,
    /// When the event happened, as its sender says.
    pub ts: Timestamp,
    /// Bytes of the event.
    pub bytes: u64,
    /// The event id its sender chose, where it must not join twice.
    pub idempotency: Option<String>,
    /// Whether somebody waits for the end of the run: the event is kept also when another one takes its place.
    pub is_awaited: bool,
    /// The rate limit to pass.
    pub rate: Option<RateClaim>,
}

/// Where a gathering stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// When its first event joined it.
    pub opened_at: Timestamp,
    /// When it fires. From then on no event joins it.
    pub due_at: Timestamp,
    /// Why then.
    pub due_by: DueBy,
    /// When the last one of its events happened: the one that a debounce starts with.
    pub newest: Timestamp,
    /// Events that have joined it.
    pub count: u32,
    /// Bytes of the events that it holds.
    pub bytes: u64,
}

/// A gathering as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Gathering {
    /// Which.
    pub id: GatheringId,
    /// Of which function.
    pub function: FunctionId,
    /// Stands for function, purpose and key.
    pub bucket: ClaimId,
    /// Whether its run has all of its events, and not the last one only.
    pub is_batch: bool,
    /// Rises when events join it: who fires it has to name the last one.
    pub version: u64,
    /// The key's value for people, shortened.
    pub key: Option<String>,
    /// Where it stands.
    pub standing: Standing,
}

/// A gathering with what it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Gathered {
    /// The gathering.
    pub gathering: Gathering,
    /// Its events in the order in which they joined. Those of a debounce are the one that it starts with, at the end, and
    /// before it those whose place was taken and for whose end somebody waits.
    pub events: Vec<Event>,
}

/// A gathering ends. Its claim is the gathering's version.
#[derive(Debug, Clone, PartialEq)]
pub struct Fire {
    /// Which.
    pub gathering: GatheringId,
    /// Its bucket.
    pub bucket: ClaimId,
    /// Whether it is a batch.
    pub is_batch: bool,
    /// Why it was due.
    pub due_by: DueBy,
    /// The version that was read.
    pub version: u64,
    /// The run it starts: one, or none.
    pub runs: Vec<NewRun>,
    /// Why it starts none, for each of its events.
    pub skips: Vec<Skip>,
    /// What is told to those who wait for the end of events that the run does not have.
    pub answers: Vec<Event>,
    /// As for [`super::Accept::catalog`].
    pub catalog: Option<u64>,
}

/// What came of a write's [`Join`]s.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joined {
    /// When one of the gatherings that were joined is due, or one that was joined in the same commit.
    pub due: Option<Timestamp>,
    /// Functions for which the event has not joined any, and why.
    pub left_out: Vec<(FunctionId, SkipReason)>,
    /// Events whose place in a debounce this one has taken.
    pub replaced: Vec<EventId>,
}

impl ClaimId {
    /// The bucket of a debounce. `key` is the key's expression and its value, if there is a key.
    #[must_use]
    pub fn of_debounce(function: FunctionId, key: Option<(&str, &Json)>) -> Self {
        Self::derive("debounce", function, key)
    }

    /// The bucket of a batch.
    #[must_use]
    pub fn of_batch(function: FunctionId, key: Option<(&str, &Json)>) -> Self {
        Self::derive("batch", function, key)
    }
}

impl Join {
    /// Whether it is for a batch.
    #[must_use]
    pub fn is_batch(&self) -> bool {
        matches!(self.gather, Gather::Batch { .. })
    }

    /// Where it is recorded for its event that this one, or another one in its place, starts no run of the function: the
    /// same place for whoever records it.
    #[must_use]
    pub fn skip_place(function: FunctionId) -> i64 {
        let (high, _) = function.as_uuid().as_u64_pair();
        i64::try_from(high >> 2 | 1 << 62).expect("63 bits")
    }

    /// What is recorded of an event that has been received before.
    #[must_use]
    pub fn duplicate(&self) -> String {
        let key = self.idempotency.as_deref().unwrap_or_default();
        format!("an event with the id `{key}` has been gathered within the last 24 hours")
    }
}

impl Skip {
    /// Where it is recorded if it is about an event that was gathered; see [`Join::skip_place`].
    #[must_use]
    pub fn gathered_place(&self) -> i64 {
        self.function.map_or(i64::MAX, Join::skip_place)
    }
}

/// What is recorded of a debounced event in whose place there is a later one.
#[must_use]
pub fn replaced_by(later: EventId) -> String {
    format!("event {later} has taken its place (debounce)")
}

/// What is recorded of an event that comes to a debounce behind one that happened later.
pub const LATE: &str = "an event that happened later had come before it (debounce)";
