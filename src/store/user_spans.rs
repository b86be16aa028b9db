//! How many spans of users' own a run may have, whatever the database.

use std::collections::HashSet;

use callboard_actors::domain::{SpanId, UserSpan, limits};

/// What a run has.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// How many, and of how many bytes.
    pub(super) count: usize,
    pub(super) bytes: usize,
    /// Those that are about to be added.
    pub(super) ids: HashSet<SpanId>,
}

/// Of spans that are to be added: those that are new and fit, with their texts, and how many don't fit.
pub(super) fn fitting(spans: &[UserSpan], mut known: Known) -> (Vec<(&UserSpan, String)>, usize) {
    let (mut new, mut refused) = (Vec::new(), 0);
    for span in spans {
        if known.ids.contains(&span.id) {
            continue;
        }
        let has_room = |text: &String| {
            known.count < limits::USER_SPANS_PER_RUN && known.bytes + text.len() <= limits::USER_SPANS_BYTES_PER_RUN
        };
        let Some(text) = span.to_text().filter(has_room) else {
            refused += 1;
            continue;
        };
        known.count += 1;
        known.bytes += text.len();
        known.ids.insert(span.id);
        new.push((span, text));
    }
    (new, refused)
}
