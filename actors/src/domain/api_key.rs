//! Keys that operators hand out: to send events, to look, to change something, or to hand out keys.
//!
//! What is kept of a key is its SHA-256, which is right for these and would be wrong for passwords: a key is 256 random bits, so
//! nobody finds it by trying texts, however fast, and there is nothing for a salt or a slow hash to make harder. Whoever reads
//! the database can't use what they find. Found keys are looked up by their digest, which needs no comparison in constant
//! time: whoever guesses can't choose the digest of a guess.
//!
//! Never: the key itself, once it has been shown.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use super::{ApiKeyId, IdError, Timestamp};

/// What a key is good for. All but [`Self::Events`] include the ones before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyScope {
    /// Events may be sent, at the one address that takes event keys, and nothing else.
    Events,
    /// Everything may be looked at but keys.
    Read,
    /// And changed: events, runs, functions, apps.
    Write,
    /// And keys.
    Admin,
}

impl KeyScope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Events, Self::Read, Self::Write, Self::Admin];

    /// Its name, as stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    /// From its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    /// Whether a key with this scope may do what needs that one.
    #[must_use]
    pub const fn includes(self, needed: Self) -> bool {
        match (self, needed) {
            (Self::Events, Self::Events) => true,
            // They are left in scripts and front ends, and no more than that.
            (Self::Events, _) | (_, Self::Events) => false,
            (held, needed) => held as u8 >= needed as u8,
        }
    }
}

/// The SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Of this key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest")
    }
}

impl FromStr for KeyDigest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut digest = [0; 32];
        match hex::decode_to_slice(text, &mut digest) {
            Ok(()) => Ok(Self(digest)),
            Err(_) => Err(IdError::new("key", text)),
        }
    }
}

/// A key, without what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Which; tells when it was made.
    pub id: ApiKeyId,
    /// What operators call it; need not be unique.
    pub name: String,
    /// What it is good for.
    pub scope: KeyScope,
    /// What it is known by.
    pub digest: KeyDigest,
    /// Its last characters, to tell it from others by.
    pub hint: String,
    /// From then on it is good for nothing.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, roughly.
    pub last_used_at: Option<Timestamp>,
    /// When an operator took it back.
    pub revoked_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether it is good for anything now.
    #[must_use]
    pub fn counts(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(KeyScope::Events, &[KeyScope::Events])]
    #[case(KeyScope::Read, &[KeyScope::Read])]
    #[case(KeyScope::Write, &[KeyScope::Read, KeyScope::Write])]
    #[case(KeyScope::Admin, &[KeyScope::Read, KeyScope::Write, KeyScope::Admin])]
    fn scopes_include_what_is_below_them(#[case] held: KeyScope, #[case] expected: &[KeyScope]) {
        let included: Vec<_> = KeyScope::ALL
            .into_iter()
            .filter(|needed| held.includes(*needed))
            .collect();
        assert_eq!(included, expected);
        assert_eq!(KeyScope::parse(held.as_str()), Some(held));
    }

    /// Computed with `sha256sum`.
    #[test]
    fn a_digest_is_that_of_the_text() {
        let digest = KeyDigest::of("abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert!("ba78".parse::<KeyDigest>().is_err());
        assert_eq!(format!("{digest:?}"), "KeyDigest");
    }

    #[rstest]
    #[case(None, None, true)]
    #[case(Some(100), None, false)]
    #[case(Some(101), None, true)]
    #[case(None, Some(200), false)]
    fn a_key_counts_until_it_ends(#[case] expires: Option<i64>, #[case] revoked: Option<i64>, #[case] counts: bool) {
        let at = Timestamp::from_millis;
        let key = ApiKey {
            id: ApiKeyId::new(at(1), 1),
            name: "k".to_owned(),
            scope: KeyScope::Read,
            digest: KeyDigest::of("k"),
            hint: "k".to_owned(),
            expires_at: expires.map(at),
            last_used_at: None,
            revoked_at: revoked.map(at),
        };
        assert_eq!(key.counts(at(100)), counts);
    }
}
