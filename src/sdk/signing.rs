//! Signing keys: signatures over requests, and the bearer tokens that SDKs derive from the same key.
//!
//! One key is used in two ways that must not be mixed up: signatures take the *text* of the key (without its
//! prefix) as the HMAC secret, bearer tokens are the hash of the *bytes* that text stands for.
//!
//! Promises: comparisons take the same time whatever they are given; a key never prints. Never reads a clock: the
//! time is an argument, in seconds since the epoch.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How far a signature's time may be from now, in seconds: what the SDKs allow as well.
pub const TOLERANCE_SECONDS: u64 = 300;

/// Why a text is not a signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing there.
    #[error("the signing key is empty")]
    Empty,
    /// Something other than hexadecimal digits behind the prefix.
    #[error("a signing key is an even number of hexadecimal digits, perhaps after `signkey-<name>-`")]
    NotHex,
}

/// Why a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not of the form `t=<seconds>&s=<hex>`.
    #[error("the signature is malformed")]
    Malformed,
    /// Too old, or from the future.
    #[error("the signature has expired")]
    Expired,
    /// Made with another key, or over another body.
    #[error("the signature does not match")]
    Mismatch,
}

/// A signing key.
#[derive(Clone)]
pub struct SigningKey {
    /// `signkey-<name>-`, or nothing.
    prefix: String,
    /// The text behind the prefix.
    text: SecretString,
    /// SHA-256 of the bytes the text stands for, in lower-case hex: what SDKs send as bearer.
    hash: SecretString,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

impl SigningKey {
    /// Reads a key, with or without `signkey-<name>-` before its digits.
    ///
    /// # Errors
    /// When there is nothing, or something else than an even number of hexadecimal digits.
    pub fn parse(key: &str) -> Result<Self, KeyError> {
        let key = key.trim();
        let text = without_prefix(key);
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        let bytes = hex::decode(text).map_err(|_| KeyError::NotHex)?;
        Ok(Self {
            prefix: key[..key.len() - text.len()].to_owned(),
            text: SecretString::from(text.to_owned()),
            hash: SecretString::from(hex::encode(Sha256::digest(bytes))),
        })
    }

    /// The value of the signature header for this body at this time.
    ///
    /// The body must be canonical JSON: the SDKs canonicalise before they verify.
    #[must_use]
    pub fn sign(&self, body: &[u8], at: u64) -> String {
        let mac = self.mac(body, &at.to_string()).finalize().into_bytes();
        format!("t={at}&s={}", hex::encode(mac))
    }

    /// Checks a signature over exactly these bytes.
    ///
    /// # Errors
    /// When it is not ours, or its time is more than [`TOLERANCE_SECONDS`] from `now`.
    pub fn verify(&self, header: &str, body: &[u8], now: u64) -> Result<(), SignatureError> {
        let (mut time, mut signature) = (None, None);
        for pair in header.split('&') {
            match pair.split_once('=') {
                Some(("t", value)) => time = Some(value),
                Some(("s", value)) => signature = Some(value),
                _ => {}
            }
        }
        let (time, signature) = time.zip(signature).ok_or(SignatureError::Malformed)?;
        let at: u64 = time.parse().map_err(|_| SignatureError::Malformed)?;
        let signature = hex::decode(signature).map_err(|_| SignatureError::Malformed)?;
        self.mac(body, time)
            .verify_slice(&signature)
            .map_err(|_| SignatureError::Mismatch)?;
        if at.abs_diff(now) > TOLERANCE_SECONDS {
            return Err(SignatureError::Expired);
        }
        Ok(())
    }

    fn mac(&self, body: &[u8], time: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.text.expose_secret().as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(body);
        mac.update(time.as_bytes());
        mac
    }

    /// A secret for a purpose of our own, which nobody can make who does not hold the key.
    pub(super) fn derive(&self, purpose: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.text.expose_secret().as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(b"callboard ");
        mac.update(purpose);
        mac.finalize().into_bytes().to_vec()
    }

    /// The bearer token that the TypeScript and Go SDKs send: with the key's prefix.
    #[must_use]
    pub fn bearer(&self) -> String {
        format!("{}{}", self.prefix, self.hash.expose_secret())
    }

    /// Whether an `Authorization` header proves that its sender holds this key: by its hash, with or without any
    /// prefix, or by the key itself.
    #[must_use]
    pub fn accepts(&self, authorization: &str) -> bool {
        let token = without_prefix(bearer(authorization)).as_bytes();
        let by_hash = token.ct_eq(self.hash.expose_secret().as_bytes());
        let by_key = token.ct_eq(self.text.expose_secret().as_bytes());
        (by_hash | by_key).into()
    }
}

/// A key, and others that count while apps are moved from one to another.
///
/// What is sent is signed with the current one; what others send may be proved by any. An app that has only one of the others
/// is no worse off: see [`super::invoker`].
#[derive(Debug, Clone)]
pub struct Keys {
    current: SigningKey,
    fallbacks: Vec<SigningKey>,
}

impl Keys {
    /// A key, and those that count beside it.
    #[must_use]
    pub fn new(current: SigningKey, fallbacks: Vec<SigningKey>) -> Self {
        Self { current, fallbacks }
    }

    /// The key that signs.
    #[must_use]
    pub fn current(&self) -> &SigningKey {
        &self.current
    }

    /// The others, in the order in which they are to be tried.
    #[must_use]
    pub fn fallbacks(&self) -> &[SigningKey] {
        &self.fallbacks
    }

    /// All of them, the current one first.
    pub fn all(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.current).chain(&self.fallbacks)
    }

    /// Whether an `Authorization` header holds any of them.
    #[must_use]
    pub fn accept(&self, authorization: &str) -> bool {
        // No shortcut: which of them matched is nobody's business.
        self.all().fold(false, |found, key| found | key.accepts(authorization))
    }
}

impl From<SigningKey> for Keys {
    fn from(key: SigningKey) -> Self {
        Self::new(key, Vec::new())
    }
}

/// The token of an `Authorization` header; all of it, if it names no scheme.
#[must_use]
pub fn bearer(authorization: &str) -> &str {
    let token = match authorization.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token,
        _ => authorization,
    };
    token.trim()
}

/// The part behind `signkey-<name>-`.
fn without_prefix(key: &str) -> &str {
    let Some((name, rest)) = key.strip_prefix("signkey-").and_then(|rest| rest.split_once('-')) else {
        return key;
    };
    let is_word = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_word { rest } else { key }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const BODY: &[u8] = br#"{"url":"http://localhost:3000/api/inngest"}"#;
    /// Computed with Python's hmac module.
    const SIGNED: &str = "t=1750000000&s=6313c92af6a30ff21d3ccfa0f437cc5c546e46c98a605cb4c6c7f1fe49d7af40";
    const HASH: &str = "b2ed992186a5cb19f6668aade821f502c1d00970dfd0e35128d51bac4649916c";

    fn key(text: &str) -> SigningKey {
        SigningKey::parse(text).expect("valid key")
    }

    #[rstest]
    #[case("signkey-test-12345678")]
    #[case("12345678")]
    #[case(" signkey-prod_2-12345678\n")]
    fn signs_with_the_text_of_the_key(#[case] text: &str) {
        assert_eq!(key(text).sign(BODY, 1_750_000_000), SIGNED);
    }

    #[test]
    fn bearers_are_the_hash_of_the_bytes() {
        assert_eq!(key("signkey-test-12345678").bearer(), format!("signkey-test-{HASH}"));
        assert_eq!(key("12345678").bearer(), HASH);
    }

    #[rstest]
    #[case(format!("Bearer signkey-test-{HASH}"), true)]
    #[case(format!("bearer {HASH}"), true)]
    #[case(format!("Bearer signkey-other-{HASH}"), true)]
    #[case("Bearer signkey-test-12345678".to_owned(), true)]
    #[case("Bearer undefined".to_owned(), false)]
    #[case("Bearer ".to_owned(), false)]
    #[case(String::new(), false)]
    #[case(format!("Bearer {}", &HASH[1..]), false)]
    fn recognises_who_holds_the_key(#[case] header: String, #[case] accepted: bool) {
        assert_eq!(key("signkey-test-12345678").accepts(&header), accepted);
    }

    #[test]
    fn any_key_is_accepted_while_keys_are_exchanged() {
        let keys = Keys::new(key("abcd"), vec![key("12345678"), key("0011")]);
        for key in keys.all() {
            assert!(keys.accept(&key.bearer()));
        }
        assert!(keys.accept(&format!("Bearer {HASH}")));
        assert!(!keys.accept("Bearer beef"));
    }

    #[rstest]
    #[case(SIGNED, BODY, 1_750_000_000, Ok(()))]
    #[case(SIGNED, BODY, 1_750_000_300, Ok(()))]
    #[case(SIGNED, BODY, 1_750_000_301, Err(SignatureError::Expired))]
    #[case(SIGNED, BODY, 1_749_999_699, Err(SignatureError::Expired))]
    #[case(SIGNED, b"{}", 1_750_000_000, Err(SignatureError::Mismatch))]
    #[case("t=1750000000&s=00", BODY, 1_750_000_000, Err(SignatureError::Mismatch))]
    #[case("t=x&s=00", BODY, 0, Err(SignatureError::Malformed))]
    #[case("t=1750000000", BODY, 0, Err(SignatureError::Malformed))]
    #[case("", BODY, 0, Err(SignatureError::Malformed))]
    fn verifies(
        #[case] header: &str,
        #[case] body: &[u8],
        #[case] now: u64,
        #[case] verdict: Result<(), SignatureError>,
    ) {
        assert_eq!(key("12345678").verify(header, body, now), verdict);
    }

    #[rstest]
    #[case("", KeyError::Empty)]
    #[case("signkey-test-", KeyError::Empty)]
    #[case("signkey-test-123", KeyError::NotHex)]
    #[case("secret", KeyError::NotHex)]
    #[case("signkey--12345678", KeyError::NotHex)]
    fn refuses_keys(#[case] text: &str, #[case] error: KeyError) {
        assert_eq!(SigningKey::parse(text).map(|_| ()), Err(error));
    }

    #[test]
    fn a_key_does_not_print() {
        assert!(!format!("{:?}", key("12345678")).contains("1234"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = SigningKey::parse(&text);
            let key = key("12345678");
            let _ = key.verify(&text, b"", 0);
            prop_assert!(!key.accepts(&text));
        }
    }
}
