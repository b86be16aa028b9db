//! What a wait has brought, on its way to the run: the payload of the job that resumes it.

use super::{Event, EventId, Json};

/// What ended a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumption {
    /// The step's memo.
    pub memo: Json,
    /// The event that brought it; a memo does not always tell.
    pub event: Option<EventId>,
}

impl Resumption {
    const BEFORE_EVENT: &str = "{\"event\":\"";
    const BEFORE_MEMO: &str = "\",\"memo\":";

    /// By the event itself.
    #[must_use]
    pub fn by(event: &Event) -> Self {
        Self {
            memo: event.body.clone(),
            event: Some(event.id),
        }
    }

    /// The payload of the job for a wait that `event` has ended. The memo, which may be large, is copied and not parsed.
    #[must_use]
    pub fn payload(event: EventId, memo: &Json) -> Json {
        Json::from_canonical(format!("{}{event}{}{memo}}}", Self::BEFORE_EVENT, Self::BEFORE_MEMO))
    }

    /// From the payload of a job; a payload of another shape is a memo.
    #[must_use]
    pub fn of(payload: &Json) -> Self {
        let parts = || {
            let rest = payload.as_str().strip_prefix(Self::BEFORE_EVENT)?;
            let (event, rest) = rest.split_once(Self::BEFORE_MEMO)?;
            Some((event.parse().ok()?, rest.strip_suffix('}')?))
        };
        match parts() {
            Some((event, memo)) => Self {
                memo: Json::from_canonical(memo),
                event: Some(event),
            },
            None => Self {
                memo: payload.clone(),
                event: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn what_ended_a_wait_survives_its_payload() {
        let event = EventId::new(Timestamp::from_millis(1_750_000_000_000), 7);
        for memo in ["null", "{\"data\":{\"event\":\"x\",\"memo\":1}}"] {
            let memo = Json::parse(memo).expect("JSON");
            let payload = Resumption::payload(event, &memo);
            assert_eq!(Json::parse(payload.as_str()).expect("JSON"), payload, "is canonical");
            let expected = Resumption {
                memo: memo.clone(),
                event: Some(event),
            };
            assert_eq!(Resumption::of(&payload), expected);
            assert_eq!(Resumption::of(&memo), Resumption { memo, event: None });
        }
    }
}
