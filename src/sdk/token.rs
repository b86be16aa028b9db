//! JSON web tokens that this server gives out and takes back: HS256, and nothing else.
//!
//! The secret follows from the signing key, so every instance of an installation takes what another gave out, also while keys are
//! exchanged: those of fallbacks are taken. A server without a key is a developer's, and uses a text that is no secret.
//!
//! Promises: comparisons take the same time whatever they are given; a token of another algorithm, another secret or
//! another purpose, or one that has expired, is none. Never reads a clock: the time is an argument, in seconds since the
//! epoch.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretBox};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::signing::{Keys, SigningKey};

/// What tokens are signed with where there is no key.
const DEVELOPER: &[u8] = b"dev-mode-is-not-secret";

/// Makes and checks tokens.
pub struct Tokens {
    /// Makes tokens.
    secret: SecretBox<Vec<u8>>,
    /// Takes them, too.
    fallbacks: Vec<SecretBox<Vec<u8>>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// Tokens of a server with these signing keys.
    #[must_use]
    pub fn new(keys: Option<&Keys>) -> Self {
        let boxed = |secret: Vec<u8>| SecretBox::new(Box::new(secret));
        // What SDKs send as a bearer must not do to make tokens.
        let derived = |key: &SigningKey| boxed(key.derive(b"tokens"));
        match keys {
            Some(keys) => Self {
                secret: derived(keys.current()),
                fallbacks: keys.fallbacks().iter().map(derived).collect(),
            },
            None => Self {
                secret: boxed(DEVELOPER.to_vec()),
                fallbacks: Vec::new(),
            },
        }
    }

    /// A token for this purpose, good until then.
    #[must_use]
    pub fn issue(&self, subject: &str, claims: Map<String, Value>, now: u64, until: u64) -> String {
        let mut claims = claims;
        claims.insert("sub".to_owned(), json!(subject));
        claims.insert("iat".to_owned(), json!(now));
        claims.insert("exp".to_owned(), json!(until));
        let head = BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let signed = format!("{head}.{}", BASE64.encode(Value::Object(claims).to_string()));
        let mac = mac(&self.secret, &signed).finalize().into_bytes();
        format!("{signed}.{}", BASE64.encode(mac))
    }

    /// The claims of a token for this purpose.
    #[must_use]
    pub fn verify(&self, token: &str, subject: &str, now: u64) -> Option<Map<String, Value>> {
        let (signed, shown) = token.rsplit_once('.')?;
        let shown = BASE64.decode(shown).ok()?;
        let mut secrets = std::iter::once(&self.secret).chain(&self.fallbacks);
        if !secrets.any(|secret| mac(secret, signed).verify_slice(&shown).is_ok()) {
            return None;
        }
        let (head, claims) = signed.split_once('.')?;
        let head: Value = serde_json::from_slice(&BASE64.decode(head).ok()?).ok()?;
        let claims: Map<String, Value> = serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()?;
        let is_good = head["alg"] == "HS256"
            && claims.get("sub").and_then(Value::as_str) == Some(subject)
            && claims
                .get("exp")
                .and_then(Value::as_u64)
                .is_some_and(|until| now < until);
        is_good.then_some(claims)
    }
}

fn mac(secret: &SecretBox<Vec<u8>>, signed: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret()).expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Map<String, Value> {
        json!({"RunID": "r"}).as_object().expect("an object").clone()
    }

    #[test]
    fn a_token_is_good_for_its_purpose_and_time() {
        let tokens = Tokens::new(None);
        let token = tokens.issue("run-claim", claims(), 100, 200);
        let found = tokens.verify(&token, "run-claim", 199).expect("good");
        assert_eq!(found["RunID"], "r");
        assert_eq!(tokens.verify(&token, "run-claim", 200), None, "expired");
        assert_eq!(tokens.verify(&token, "other", 199), None, "for something else");
        let key = SigningKey::parse("signkey-test-12345678").expect("a key");
        let current = Keys::from(key.clone());
        assert_eq!(
            Tokens::new(Some(&current)).verify(&token, "run-claim", 199),
            None,
            "of another server"
        );
        // Of before the key was exchanged.
        let token = Tokens::new(Some(&current)).issue("run-claim", claims(), 100, 200);
        let next = SigningKey::parse("0011").expect("a key");
        let exchanged = Tokens::new(Some(&Keys::new(next.clone(), vec![key])));
        assert!(exchanged.verify(&token, "run-claim", 199).is_some());
        assert_eq!(Tokens::new(Some(&next.into())).verify(&token, "run-claim", 199), None);
    }

    #[test]
    fn what_others_made_is_no_token() {
        let tokens = Tokens::new(None);
        let token = tokens.issue("run-claim", claims(), 100, 200);
        let (signed, _) = token.rsplit_once('.').expect("three parts");
        let (_, body) = signed.split_once('.').expect("three parts");
        let none = format!("{}.{body}.", BASE64.encode(r#"{"alg":"none"}"#));
        let mut changed = token.clone().into_bytes();
        changed[40] ^= 1;
        let changed = String::from_utf8_lossy(&changed).into_owned();
        for other in ["", ".", "..", "a.b.c", signed, &none, &changed] {
            assert_eq!(tokens.verify(other, "run-claim", 150), None, "{other}");
        }
    }

    /// Made with `openssl dgst -sha256 -hmac dev-mode-is-not-secret`.
    #[test]
    fn the_form_is_that_of_everybody() {
        let token = Tokens::new(None).issue("s", Map::new(), 1, 2);
        assert!(token.starts_with("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."), "{token}");
        let parts: Vec<&str> = token.split('.').collect();
        let body = BASE64.decode(parts[1]).expect("base64");
        assert_eq!(body, br#"{"exp":2,"iat":1,"sub":"s"}"#);
        assert_eq!(parts[2], "UPCKNHhdaWcLSeNaCM9R0iJXqoqaQ68R7zxuTN1s-1E");
    }
}
