//! How a child ended.
//!
//! An exit is a fact, not a judgement: whether it leads to a restart is decided by the child's
//! restart kind and policy.

use std::{any::Any, fmt};

use actix::Message;
use serde::{Deserialize, Serialize};

use super::{child::ChildName, generation::Generation};

/// The longest panic text kept, in bytes. Panics may quote user data of any size.
const MAX_TEXT: usize = 4096;

/// Why an incarnation is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Exit {
    /// The actor stopped itself, or wound down when told to.
    Normal,
    /// Its code panicked after it had started.
    Panicked {
        /// The panic's message, shortened.
        text: String,
    },
    /// The factory, `started`, or a future `started` waits for panicked or took too long.
    StartFailed {
        /// The panic's message or what took too long, shortened.
        text: String,
    },
    /// Aborted after it left this many probes in a row unanswered.
    Unresponsive {
        /// Heartbeats that passed without an answer.
        missed: u32,
    },
    /// Aborted because its grace to wind down was over.
    Aborted,
    /// The thread it lived on has ended; nothing can be built there again.
    ArbiterLost,
}

impl Exit {
    /// Whether a transient child stays down after it.
    #[must_use]
    pub fn is_normal(&self) -> bool {
        matches!(self, Self::Normal)
    }

    /// The panic's text, if there is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Panicked { text } | Self::StartFailed { text } => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("ended normally"),
            Self::Panicked { text } => write!(f, "panicked: {text}"),
            Self::StartFailed { text } => write!(f, "failed to start: {text}"),
            Self::Unresponsive { missed } => write!(f, "missed {missed} probes"),
            Self::Aborted => f.write_str("aborted after its grace"),
            Self::ArbiterLost => f.write_str("lost its thread"),
        }
    }
}

/// Report to those who asked for it: an incarnation has ended, whatever it held must be given back.
///
/// Sent for every exit, the wanted ones (rest, restart, drain) included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildExited {
    /// Whose incarnation.
    pub name: ChildName,
    /// Which incarnation.
    pub generation: Generation,
    /// How it ended.
    pub exit: Exit,
    /// When the supervisor learnt of it, Unix milliseconds.
    pub at_ms: i64,
}

impl Message for ChildExited {
    type Result = ();
}

/// The message of a panic, as far as its payload has one.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message");
    shorten(text)
}

fn shorten(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let end = (0..=MAX_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_text_is_taken_from_both_kinds_of_payload_and_shortened_on_a_character() {
        assert_eq!(panic_text(&"plain"), "plain");
        assert_eq!(panic_text(&String::from("formatted")), "formatted");
        assert_eq!(panic_text(&7_u8), "a panic without a message");
        let long = format!("x{}", "é".repeat(MAX_TEXT));
        let short = panic_text(&long);
        assert!(short.ends_with("é…"));
        assert_eq!(short.len(), MAX_TEXT - 1 + '…'.len_utf8());
    }

    #[test]
    fn exits_serialise_with_their_kind() {
        let json = serde_json::to_value(Exit::Panicked { text: "boom".into() }).expect("serialises");
        assert_eq!(json, serde_json::json!({"kind": "panicked", "text": "boom"}));
    }
}
