//! A deferral: a function that a run has put off until its own end, whatever that end is.
//!
//! A deferral is taken down once, by its id, with the input that the function is to be given. When the run ends, what is
//! still pending becomes an event each, in the same commit; only functions whose trigger asks for that slug start by it.

use super::{EventId, Json, StepId};

/// A function that a run has put off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferral {
    /// The SDK's digest of the id that the function's author gave: unique within the run. Steps have ids of the same kind, of
    /// their own.
    pub id: StepId,
    /// The id as the author gave it.
    pub name: String,
    /// Slug of the function.
    pub function: String,
    /// What has become of it.
    pub status: DeferralStatus,
    /// Why it was refused, for people.
    pub reason: Option<String>,
    /// What the function is to be given, an object; while it is pending.
    pub input: Option<Json>,
    /// The `meta` of the event to be; while it is pending.
    pub meta: Option<Json>,
    /// The event that starts the function, once the run has ended.
    pub event: Option<EventId>,
}

impl Deferral {
    /// Whether it can still be taken back.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.status == DeferralStatus::Pending
    }

    /// Bytes of what the function is to be given.
    #[must_use]
    pub fn input_bytes(&self) -> usize {
        self.input.as_ref().map_or(0, Json::len)
    }

    /// The same, settled: what it was to be given is not needed any more.
    #[must_use]
    pub fn settled(&self, status: DeferralStatus, event: Option<EventId>) -> Self {
        Self {
            id: self.id.clone(),
            name: self.name.clone(),
            function: self.function.clone(),
            status,
            reason: None,
            input: None,
            meta: None,
            event,
        }
    }
}

/// What has become of a deferral.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeferralStatus {
    /// The function starts when the run ends.
    Pending,
    /// The run has ended, and the event is there.
    Scheduled,
    /// The run has taken it back.
    Aborted,
    /// It broke a limit, and is remembered so that nobody tries again.
    Rejected,
}

impl DeferralStatus {
    const ALL: [Self; 4] = [Self::Pending, Self::Scheduled, Self::Aborted, Self::Rejected];

    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Scheduled => "scheduled",
            Self::Aborted => "aborted",
            Self::Rejected => "rejected",
        }
    }

    /// From the stored name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}
