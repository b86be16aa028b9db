//! Event names and the trigger patterns that match them (semantics 5).
//!
//! Promises that matching is a comparison of strings: an event's name gives a short list of
//! candidates, and a trigger matches if its text is one of them. Never scans patterns.

use thiserror::Error;

/// Longest trigger name, in bytes (protocol 2.4).
pub const MAX_TRIGGER_BYTES: usize = 255;
/// The trigger that our own registration accepts as "every event". SDKs never send it.
pub const CATCH_ALL: &str = "*";

/// Why a text is not a valid trigger name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    /// Nothing there.
    #[error("An event trigger must specify an event name")]
    Empty,
    /// Too long.
    #[error("the event name is longer than {MAX_TRIGGER_BYTES} bytes")]
    TooLong,
    /// A `*` that is not the end of `/*` or `.*`.
    #[error("the event name may contain '*' only at its end, after '/' or '.'")]
    Wildcard,
}

/// The trigger texts that match an event of this name: the name itself, then its `/` prefixes with
/// `/*`, then its `.` prefixes with `.*`, each from short to long, without repetitions.
///
/// The [`CATCH_ALL`] is not among them: whoever allows it adds it.
///
/// Names may be long and full of separators: the candidates beyond [`MAX_TRIGGER_BYTES`] are left
/// out (no trigger can have them), except for the name itself.
#[must_use]
pub fn candidates(name: &str) -> Vec<String> {
    let mut candidates = vec![name.to_owned()];
    for separator in ['/', '.'] {
        for (at, _) in name.match_indices(separator) {
            if at + 2 > MAX_TRIGGER_BYTES {
                break;
            }
            let candidate = format!("{}{separator}*", &name[..at]);
            // Only the name itself can be repeated: it may end in `/*`.
            if candidate != name {
                candidates.push(candidate);
            }
        }
    }
    candidates
}

/// Whether a trigger's text matches an event's name.
#[must_use]
pub fn matches(trigger: &str, name: &str) -> bool {
    if trigger == name || trigger == CATCH_ALL {
        return true;
    }
    trigger
        .strip_suffix('*')
        .is_some_and(|prefix| prefix.ends_with(['/', '.']) && name.starts_with(prefix))
}

/// Checks the name of a trigger.
///
/// # Errors
///
/// Empty, too long, or with a wildcard anywhere but at the end after `/` or `.`; a bare `*` is
/// allowed.
pub fn validate(trigger: &str) -> Result<(), PatternError> {
    if trigger.is_empty() {
        return Err(PatternError::Empty);
    }
    if trigger.len() > MAX_TRIGGER_BYTES {
        return Err(PatternError::TooLong);
    }
    let wildcard_at = trigger.find('*');
    let valid = match wildcard_at {
        None => true,
        Some(0) => trigger == CATCH_ALL,
        Some(at) => at == trigger.len() - 1 && trigger[..at].ends_with(['/', '.']),
    };
    if valid { Ok(()) } else { Err(PatternError::Wildcard) }
}
