//! The keys that operators have made, as the database knows them.
//!
//! All of them are kept in memory for a moment, and read again when somebody shows a key after that: so a key that was revoked
//! at another instance is refused here [`KEPT`] later at the latest, keys cost a server nothing that nobody shows one, and a
//! flood of wrong ones costs one question in that time.
//!
//! Promises: when the database does not answer, nobody is let in by what was known before; and nobody waits longer than
//! [`PATIENCE`] to hear so. Never: a key in memory, only its digest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use callboard_actors::domain::{ApiKey, ApiKeyId, KeyDigest, KeyScope, Timestamp};
use callboard_actors::ports::{Random, StoreError};
use tokio::time::Instant;

use crate::error::Problem;
use crate::http::state::Api;

/// How long what the database has said counts.
const KEPT: Duration = Duration::from_secs(2);
/// How long it may take to say it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Uses of a key that come sooner after one another are noted once.
const ROUGHLY: Duration = Duration::from_secs(60);

/// What keys begin with, so that people and scanners of leaked secrets know them: those that send events, and the others.
const PREFIXES: [&str; 2] = ["cbe_", "cbk_"];
/// Characters after that: 256 random bits in hexadecimal digits.
const DIGITS: usize = 64;

type Keys = HashMap<KeyDigest, Arc<ApiKey>>;

/// The keys.
#[derive(Debug, Default)]
pub(in crate::http) struct KeyRing {
    known: Mutex<Option<(Arc<Keys>, Instant)>>,
    /// Held by whoever asks the database.
    asking: tokio::sync::Mutex<()>,
    /// The last use of each key that was noted here.
    noted: Mutex<HashMap<ApiKeyId, Timestamp>>,
}

/// A new key with this scope.
pub(in crate::http) fn generate(scope: KeyScope, random: &dyn Random) -> String {
    let [of_events, of_others] = PREFIXES;
    let prefix = match scope {
        KeyScope::Events => of_events,
        KeyScope::Read | KeyScope::Write | KeyScope::Admin => of_others,
    };
    format!("{prefix}{:032x}{:032x}", random.bits(), random.bits())
}

/// Whether this may be one of ours. Everything else is refused without a look at the database.
fn has_form(key: &str) -> bool {
    let digits = PREFIXES.iter().find_map(|prefix| key.strip_prefix(prefix));
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl KeyRing {
    /// The key that was shown, if it is one and counts.
    ///
    /// # Errors
    /// When the database has to be asked, and can't be.
    pub(in crate::http) async fn find(
        &self,
        api: Result<&Arc<dyn Api>, Problem>,
        shown: &str,
    ) -> Result<Option<Arc<ApiKey>>, Problem> {
        if !has_form(shown) {
            return Ok(None);
        }
        let api = api?;
        let keys = self.keys(api).await?;
        let now = api.clock().now();
        let found = keys.get(&KeyDigest::of(shown)).filter(|key| key.counts(now));
        if let Some(key) = found {
            self.note_use(api, key, now);
        }
        Ok(found.cloned())
    }

    /// The database has changed here: it is asked the next time.
    pub(in crate::http) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn fresh(&self) -> Option<Arc<Keys>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (keys, at) = known.as_ref()?;
        (at.elapsed() < KEPT).then(|| Arc::clone(keys))
    }

    async fn keys(&self, api: &Arc<dyn Api>) -> Result<Arc<Keys>, Problem> {
        if let Some(keys) = self.fresh() {
            return Ok(keys);
        }
        let _asking = self.asking.lock().await;
        // Somebody else may have asked meanwhile.
        if let Some(keys) = self.fresh() {
            return Ok(keys);
        }
        // What it says is as old as the question.
        let at = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, api.store().api_keys()).await;
        let silence = |_| StoreError::Unavailable("it does not say which keys there are".to_owned());
        let keys = answer.map_err(silence)??;
        let keys: Arc<Keys> = Arc::new(keys.into_iter().map(|key| (key.digest, Arc::new(key))).collect());
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(&keys), at));
        Ok(keys)
    }

    fn note_use(&self, api: &Arc<dyn Api>, key: &ApiKey, now: Timestamp) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let last = noted.get(&key.id).copied().max(key.last_used_at);
        if last.is_some_and(|last| now < last.after(ROUGHLY)) {
            return;
        }
        noted.insert(key.id, now);
        let (store, id) = (Arc::clone(api.store()), key.id);
        actix_rt::spawn(async move {
            if let Err(error) = store.note_api_key_use(id, now).await {
                tracing::debug!(%error, "the use of a key is not noted");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[derive(Debug)]
    struct Fixed;

    impl Random for Fixed {
        fn bits(&self) -> u128 {
            0xab
        }
    }

    #[rstest]
    #[case(KeyScope::Events, "cbe_")]
    #[case(KeyScope::Read, "cbk_")]
    #[case(KeyScope::Write, "cbk_")]
    #[case(KeyScope::Admin, "cbk_")]
    fn keys_are_known_by_their_form(#[case] scope: KeyScope, #[case] prefix: &str) {
        let key = generate(scope, &Fixed);
        let half = "000000000000000000000000000000ab";
        assert_eq!(key, format!("{prefix}{half}{half}"));
        assert!(has_form(&key));
        for other in [&key[1..], &key[..67], &format!("{key}0"), "", "undefined", "cbk_"] {
            assert!(!has_form(other), "{other}");
        }
    }
}
