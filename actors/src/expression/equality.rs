//! The equality that a wait can be looked up by.
//!
//! Promises never to miss: whenever the evaluator finds `async.<path> == <literal>` true, the key
//! of the literal and the key of the event at that path are the same text. The other direction may
//! be wrong in theory (long strings are hashed); the expression itself always has the last word.

use super::ast::{Binary, Literal, Node};
use super::number::Number;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

/// Longest text that is its own key; index entries have to stay small.
const MAX_PLAIN_KEY: usize = 128;

/// An event can only match if its key at `path` is `key`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Equality {
    /// Fields from the event down, joined by dots: `data.id`.
    pub path: String,
    /// Canonical text of the value, at most some 140 bytes, without control characters.
    pub key: String,
}

impl Equality {
    /// The key of an incoming event at a path, to look waits up with.
    ///
    /// A path that does not exist has the key of null.
    #[must_use]
    pub fn key_of(event: &Json, path: &str) -> String {
        let found = path.split('.').try_fold(event, |json, field| json.get(field));
        match found {
            None | Some(Json::Null) => null_key(),
            Some(Json::Bool(truth)) => bool_key(*truth),
            Some(Json::Number(number)) => number_key(Number::from_json(number)),
            Some(Json::String(text)) => text_key(text),
            // Equal to no literal that is ever extracted.
            Some(Json::Array(_)) => "list".to_owned(),
            Some(Json::Object(_)) => "map".to_owned(),
        }
    }

    /// Finds the most selective equality that the expression implies.
    pub(super) fn implied_by(node: &Node, root: &str) -> Option<Self> {
        let operands = match node {
            Node::And(operands) => operands.as_slice(),
            single => std::slice::from_ref(single),
        };
        operands
            .iter()
            .filter_map(|operand| match operand {
                Node::Binary(Binary::Equal, left, right) => {
                    of_sides(left, right, root).or_else(|| of_sides(right, left, root))
                }
                _ => None,
            })
            // The first one of the highest rank.
            .reduce(|best, other| if other.0 > best.0 { other } else { best })
            .map(|(_, equality)| equality)
    }
}

/// The equality of a path and a literal, with its rank: what has more values tells more.
fn of_sides(path: &Node, literal: &Node, root: &str) -> Option<(u8, Equality)> {
    let Node::Literal(literal) = literal else {
        return None;
    };
    let (rank, key) = match literal {
        Literal::Text(text) => (3, text_key(text)),
        Literal::Number(Number::Double(double)) if double.is_nan() => return None,
        Literal::Number(number) => (2, number_key(*number)),
        Literal::Bool(truth) => (1, bool_key(*truth)),
        Literal::Null => (0, null_key()),
        Literal::Bytes(_) | Literal::Json(_) => return None,
    };
    let mut fields = Vec::new();
    collect_fields(path, root, &mut fields)?;
    // The root itself is an object, and a dot inside a name would be taken for a separator.
    if fields.is_empty() || fields.iter().any(|field| field.contains('.')) {
        return None;
    }
    let path = fields.join(".");
    Some((rank, Equality { path, key }))
}

fn collect_fields<'n>(node: &'n Node, root: &str, fields: &mut Vec<&'n str>) -> Option<()> {
    let (operand, field) = match node {
        Node::Root(name) => return (&**name == root).then_some(()),
        Node::Select(operand, field) => (operand, field),
        Node::Index(operand, index) => match &**index {
            Node::Literal(Literal::Text(field)) => (operand, field),
            _ => return None,
        },
        _ => return None,
    };
    collect_fields(operand, root, fields)?;
    fields.push(field);
    Some(())
}

fn null_key() -> String {
    "null".to_owned()
}

fn bool_key(truth: bool) -> String {
    truth.to_string()
}

fn number_key(number: Number) -> String {
    format!("n:{}", number.text())
}

fn text_key(text: &str) -> String {
    if text.len() <= MAX_PLAIN_KEY && !text.contains(char::is_control) {
        return format!("s:{text}");
    }
    format!("h:{}", hex::encode(Sha256::digest(text)))
}
