//! Pages of lists: cursors that clients pass back unread, and what a page says of itself.

use async_graphql::SimpleObject;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use callboard_actors::domain::{EventId, RunId, Timestamp};
use callboard_actors::ports::RunPlace;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::asked::invalid;

/// What a page says of itself.
#[derive(Debug, SimpleObject)]
pub(super) struct PageInfo {
    has_next_page: bool,
    has_previous_page: bool,
    start_cursor: Option<String>,
    end_cursor: Option<String>,
}

impl PageInfo {
    pub(super) fn of(cursors: &[String], has_next_page: bool, has_previous_page: bool) -> Self {
        Self {
            has_next_page,
            has_previous_page,
            start_cursor: cursors.first().cloned(),
            end_cursor: cursors.last().cloned(),
        }
    }
}

/// How many items a page has: as asked for within bounds, or else 40.
pub(super) fn page_size(first: i32, most: usize) -> usize {
    const DEFAULT: usize = 40;
    let first = usize::try_from(first).unwrap_or(0);
    if (1..=most).contains(&first) { first } else { DEFAULT }
}

fn encode(place: &impl Serialize) -> String {
    BASE64_STANDARD.encode(serde_json::to_vec(place).unwrap_or_default())
}

fn decode<T: DeserializeOwned>(cursor: &str) -> async_graphql::Result<T> {
    let bytes = BASE64_STANDARD.decode(cursor).unwrap_or_default();
    serde_json::from_slice(&bytes).map_err(|_| invalid("the cursor is none of this list"))
}

#[derive(Serialize, Deserialize)]
struct EventCursor {
    #[serde(rename = "ID")]
    id: EventId,
}

pub(super) fn event_cursor(id: EventId) -> String {
    encode(&EventCursor { id })
}

/// # Errors
/// When it is no cursor.
pub(super) fn event_place(cursor: &str) -> async_graphql::Result<EventId> {
    Ok(decode::<EventCursor>(cursor)?.id)
}

#[derive(Serialize, Deserialize)]
struct RunCursor {
    #[serde(rename = "ID")]
    id: RunId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<i64>,
}

pub(in crate::http) fn run_cursor(place: RunPlace) -> String {
    encode(&RunCursor {
        id: place.id,
        at: place.at.map(Timestamp::as_millis),
    })
}

/// # Errors
/// When it is no cursor.
pub(in crate::http) fn run_place(cursor: &str) -> async_graphql::Result<RunPlace> {
    let RunCursor { id, at } = decode(cursor)?;
    Ok(RunPlace {
        id,
        at: at.map(Timestamp::from_millis),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn places_survive_their_cursors() {
        let at = Timestamp::from_millis(1_750_000_000_000);
        let event = EventId::new(at, 3);
        assert_eq!(event_place(&event_cursor(event)).ok(), Some(event));
        for at in [Some(at), None] {
            let place = RunPlace {
                id: RunId::new(Timestamp::from_millis(5), 9),
                at,
            };
            assert_eq!(run_place(&run_cursor(place)).ok(), Some(place));
        }
        assert!(run_place("bm9uZQ==").is_err());
        assert!(event_place("not base64").is_err());
    }

    #[rstest]
    #[case(1, 1)]
    #[case(51, 51)]
    #[case(52, 40)]
    #[case(0, 40)]
    #[case(-1, 40)]
    fn sizes(#[case] first: i32, #[case] size: usize) {
        assert_eq!(page_size(first, 51), size);
    }
}
