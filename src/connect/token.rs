//! The token that a worker gets at the start and shows when it connects: a JSON Web Token, good for five minutes.
//!
//! Promises: a token of another key, another purpose or another time is refused, in the same time whatever it is. Instances
//! with the same signing key accept each other's.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use callboard_actors::domain::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;

use crate::sdk::signing::{Keys, SigningKey};

const ISSUER: &str = "connect.inngest.com";
const AUDIENCE: &str = "gateway.connect.inngest.com";
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// The account there is.
const ACCOUNT: &str = "00000000-0000-4000-a000-000000000000";
const LIFE_SECONDS: i64 = 300;
/// On servers without keys nothing is secret.
const NO_SECRET: &str = "this-does-not-need-to-be-secret";

/// Issues and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    /// Signs tokens.
    secret: Vec<u8>,
    /// Those of keys that count beside the current one.
    fallbacks: Vec<Vec<u8>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Vec<String>,
    exp: i64,
}

impl Tokens {
    /// Signed with a secret that follows from the current key.
    #[must_use]
    pub fn new(keys: Option<&Keys>) -> Self {
        // Signed as of the beginning of time, which no signature of a request is.
        let secret = |key: &SigningKey| key.sign(ISSUER.as_bytes(), 0).into_bytes();
        Self {
            secret: keys.map_or_else(|| NO_SECRET.into(), |keys| secret(keys.current())),
            fallbacks: keys.map_or_else(Vec::new, |keys| keys.fallbacks().iter().map(secret).collect()),
        }
    }

    /// A token for this connection.
    #[must_use]
    pub fn issue(&self, connection: &str, now: Timestamp) -> String {
        let at = now.as_millis() / 1_000;
        let claims = json!({
            "iss": ISSUER, "aud": [AUDIENCE], "sub": ACCOUNT, "iat": at, "exp": at + LIFE_SECONDS, "jti": connection,
        });
        let signed = format!("{}.{}", BASE64.encode(HEADER), BASE64.encode(claims.to_string()));
        let signature = mac(&self.secret, signed.as_bytes()).finalize().into_bytes();
        format!("{signed}.{}", BASE64.encode(signature))
    }

    /// Whether a token is one of these, and its time has not run out.
    #[must_use]
    pub fn accepts(&self, token: &str, now: Timestamp) -> bool {
        let check = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let signature = BASE64.decode(signature).ok()?;
            let is_known = |secret: &Vec<u8>| mac(secret, signed.as_bytes()).verify_slice(&signature).is_ok();
            // No shortcut: which key is near is nobody's business.
            let all = std::iter::once(&self.secret).chain(&self.fallbacks);
            all.fold(false, |found, secret| found | is_known(secret))
                .then_some(())?;
            let (header, claims) = signed.split_once('.')?;
            let claims: Claims = serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()?;
            let is_ours = BASE64.decode(header).ok()? == HEADER.as_bytes()
                && claims.iss == ISSUER
                && claims.aud.iter().any(|audience| audience == AUDIENCE);
            (is_ours && now.as_millis() / 1_000 < claims.exp).then_some(())
        };
        check().is_some()
    }
}

fn mac(secret: &[u8], bytes: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(bytes);
    mac
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_750_000_000_000);

    fn keyed(key: &str) -> Tokens {
        Tokens::new(Some(&SigningKey::parse(key).expect("a key").into()))
    }

    #[test]
    fn a_token_is_good_for_five_minutes_and_for_its_key() {
        let tokens = keyed("signkey-test-0123456789abcdef");
        let token = tokens.issue("01JZ0000000000000000000009", NOW);
        assert!(tokens.accepts(&token, NOW.after(Duration::from_secs(299))));
        assert!(!tokens.accepts(&token, NOW.after(Duration::from_secs(300))));
        assert!(!keyed("signkey-test-0123456789abcdee").accepts(&token, NOW));
        assert!(!Tokens::new(None).accepts(&token, NOW));
        let free = Tokens::new(None).issue("01JZ0000000000000000000009", NOW);
        assert!(Tokens::new(None).accepts(&free, NOW));
        assert!(!tokens.accepts(&free, NOW));
        let [next, before] =
            ["0011", "signkey-test-0123456789abcdef"].map(|key| SigningKey::parse(key).expect("a key"));
        assert!(Tokens::new(Some(&Keys::new(next, vec![before]))).accepts(&token, NOW));
    }

    proptest! {
        #[test]
        fn a_changed_token_is_refused(place in 0..200_usize, with in "[A-Za-z0-9._-]") {
            let tokens = keyed("0123456789abcdef");
            let token = tokens.issue("01JZ0000000000000000000009", NOW);
            let place = place % token.len();
            let mut changed = token.clone();
            changed.replace_range(place..=place, &with);
            // The last character of a signature has bits that say nothing.
            prop_assume!(changed != token && place + 1 < token.len());
            prop_assert!(!tokens.accepts(&changed, NOW));
        }

        #[test]
        fn any_text_is_refused(text in ".{0,200}") {
            prop_assert!(!Tokens::new(None).accepts(&text, NOW));
        }
    }
}
