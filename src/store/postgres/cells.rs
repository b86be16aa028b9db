//! What a column holds: ids as UUIDs, texts without U+0000, digests of texts that an index can't hold.

use std::borrow::Cow;

use callboard_actors::domain::{
    ApiKeyId, EventId, FunctionId, GatheringId, LetterId, NodeId, OperationId, RunId, Timestamp,
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The digest of nothing: a wait without an indexed part.
pub(super) const NO_DIGEST: Uuid = Uuid::nil();

/// Stands before a character that PostgreSQL can't hold, and before itself.
const ESCAPE: char = '\u{1a}';

/// An id, as sixteen bytes in the same order.
pub(super) trait Id: Copy {
    fn cell(self) -> Uuid;
    fn from_cell(cell: Uuid) -> Self;
}

macro_rules! ulid {
    ($name:ident) => {
        impl Id for $name {
            fn cell(self) -> Uuid {
                Uuid::from_bytes(self.to_bytes())
            }

            fn from_cell(cell: Uuid) -> Self {
                let bits = cell.as_u128();
                let millis = i64::try_from(bits >> 80).expect("48 bits are left");
                Self::new(Timestamp::from_millis(millis), bits)
            }
        }
    };
}
ulid!(ApiKeyId);
ulid!(EventId);
ulid!(RunId);
ulid!(NodeId);
ulid!(LetterId);
ulid!(OperationId);
ulid!(GatheringId);

impl Id for FunctionId {
    fn cell(self) -> Uuid {
        self.as_uuid()
    }

    fn from_cell(cell: Uuid) -> Self {
        Self::from_uuid(cell)
    }
}

/// Any text as PostgreSQL takes it, which holds everything but U+0000. JSON needs none of this: it has no raw control
/// characters.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => escaped.extend([ESCAPE, '0']),
            ESCAPE => escaped.extend([ESCAPE, '1']),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

/// The text that [`text`] was given.
pub(super) fn plain(cell: &str) -> Cow<'_, str> {
    if !cell.contains(ESCAPE) {
        return Cow::Borrowed(cell);
    }
    let mut plain = String::with_capacity(cell.len());
    let mut rest = cell.chars();
    while let Some(character) = rest.next() {
        plain.push(match character {
            ESCAPE => match rest.next() {
                Some('0') => '\0',
                _ => ESCAPE,
            },
            other => other,
        });
    }
    Cow::Owned(plain)
}

/// A text of any length for an index: equal for equal texts, and for no others that anybody will ever find.
pub(super) fn digest(text: &str) -> Uuid {
    let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let (first, _) = digest.split_at(16);
    Uuid::from_slice(first).expect("sixteen bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_their_cells() {
        for odd in ["", "plain", "\0", "\u{1a}", "a\0\u{1a}0\u{1a}1\0é", "\u{1a}\u{1a}"] {
            let cell = text(odd);
            assert!(!cell.contains('\0'));
            assert_eq!(plain(&cell), odd);
        }
    }

    #[test]
    fn ids_survive_their_cells_in_order() {
        let ids = [
            RunId::new(Timestamp::from_millis(0), 0),
            RunId::new(Timestamp::from_millis(1), u128::MAX),
            RunId::new(Timestamp::from_millis(1_750_000_000_000), 42),
            RunId::new(Timestamp::from_millis((1 << 48) - 1), u128::MAX),
        ];
        assert!(ids.is_sorted_by_key(|id| id.cell()));
        for id in ids {
            assert_eq!(RunId::from_cell(id.cell()), id);
        }
        let function = FunctionId::derive("a", "b");
        assert_eq!(FunctionId::from_cell(function.cell()), function);
    }
}
