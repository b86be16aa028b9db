//! The keys that operators hand out.

use std::time::Duration;

use super::fixtures::*;
use crate::domain::{ApiKey, ApiKeyId, KeyDigest, KeyScope};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn key(millis: i64, scope: KeyScope) -> ApiKey {
    ApiKey {
        id: ApiKeyId::new(at(millis), 7),
        name: format!("key \u{0} of {millis}"),
        scope,
        digest: KeyDigest::of(&millis.to_string()),
        hint: "a1b2".to_owned(),
        expires_at: None,
        last_used_at: None,
        revoked_at: None,
    }
}

/// Keys come back as they were written, from new to old.
pub async fn keys_are_kept_as_they_are(store: Shared) {
    assert_eq!(store.api_keys().await.expect("answers"), []);
    let mut keys: Vec<ApiKey> = KeyScope::ALL
        .into_iter()
        .zip([1, 2, 3, 4])
        .map(|(scope, millis)| key(millis, scope))
        .collect();
    keys[1].expires_at = Some(at(9));
    for key in [&keys[2], &keys[0], &keys[3], &keys[1]] {
        store.put_api_key(key).await.expect("writes");
    }
    keys.reverse();
    assert_eq!(store.api_keys().await.expect("answers"), keys);
}

/// A revoked key stays in the list, and stays revoked since the first time.
pub async fn a_key_is_revoked_once(store: Shared) {
    let (one, other) = (key(1, KeyScope::Write), key(2, KeyScope::Write));
    for key in [&one, &other] {
        store.put_api_key(key).await.expect("writes");
    }
    assert!(store.revoke_api_key(one.id, at(10)).await.expect("writes"));
    assert!(store.revoke_api_key(one.id, at(20)).await.expect("writes"));
    let unknown = ApiKeyId::new(at(3), 7);
    assert!(!store.revoke_api_key(unknown, at(10)).await.expect("writes"));
    let revoked = ApiKey {
        revoked_at: Some(at(10)),
        ..one
    };
    assert_eq!(store.api_keys().await.expect("answers"), [other, revoked]);
}

/// The latest use counts, in whatever order uses are told.
pub async fn the_last_use_of_a_key_is_noted(store: Shared) {
    let one = key(1, KeyScope::Read);
    store.put_api_key(&one).await.expect("writes");
    let other = key(2, KeyScope::Read);
    store.put_api_key(&other).await.expect("writes");
    for (id, millis) in [(one.id, 30), (one.id, 20), (ApiKeyId::new(at(3), 7), 40)] {
        store.note_api_key_use(id, at(millis)).await.expect("writes");
    }
    let used = ApiKey {
        last_used_at: Some(at(30)),
        ..one
    };
    assert_eq!(store.api_keys().await.expect("answers"), [other, used]);
}

/// What has been good for nothing for long is forgotten when a new key is made.
pub async fn old_keys_are_forgotten(store: Shared) {
    let [lasting, expiring, revoked] = [1, 2, 3].map(|millis| key(millis, KeyScope::Admin));
    let expiring = ApiKey {
        expires_at: Some(at(50)),
        ..expiring
    };
    for key in [&lasting, &expiring, &revoked] {
        store.put_api_key(key).await.expect("writes");
    }
    store.revoke_api_key(revoked.id, at(60)).await.expect("writes");
    let ids = || async {
        let keys = store.api_keys().await.expect("answers");
        keys.into_iter().map(|key| key.id).collect::<Vec<_>>()
    };
    let days = |days: u32, millis| {
        let id = ApiKeyId::new(at(millis).after(DAY * days), 7);
        ApiKey {
            id,
            digest: KeyDigest::of(&id.to_string()),
            ..key(0, KeyScope::Admin)
        }
    };
    let before = days(90, 50);
    store.put_api_key(&before).await.expect("writes");
    assert_eq!(ids().await, [before.id, revoked.id, expiring.id, lasting.id]);
    let after = days(90, 60);
    store.put_api_key(&after).await.expect("writes");
    assert_eq!(ids().await, [after.id, before.id, revoked.id, lasting.id]);
    let later = days(91, 60);
    store.put_api_key(&later).await.expect("writes");
    assert_eq!(ids().await, [later.id, after.id, before.id, lasting.id]);
}
