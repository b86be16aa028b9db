//! Overrides of limits: part of the catalog until they end.

use std::time::Duration;

use super::fixtures::*;
use crate::domain::{GateKind, LimitOverride, RuleId, Scope};

fn numbers(name: &str, key: Option<&str>, limit: u32, until: i64) -> LimitOverride {
    LimitOverride {
        function: function(name),
        rule: RuleId::derive(GateKind::Throttle, Scope::Fn, key),
        limit,
        period: (limit > 5).then_some(Duration::from_millis(90_001)),
        burst: (limit > 5).then_some(0),
        until: at(until),
    }
}

/// An override counts until it is replaced, ended or over, and each time the catalog is another one.
pub async fn overrides_are_part_of_the_catalog(store: Shared) {
    let shown = || async {
        let view = store.catalog().await.expect("answers");
        let mut overrides = view.overrides;
        overrides.sort_by_key(|of| (of.limit, of.until));
        (view.revision, overrides)
    };
    let (first, none) = shown().await;
    assert_eq!(none, []);
    let old = numbers("one", None, 1, 100);
    let [new, other, keyed] = [
        numbers("one", None, 9, 200),
        numbers("two", None, 2, 300),
        numbers("one", Some("event.data.k"), 3, 300),
    ];
    for numbers in [&old, &other, &keyed, &new] {
        store.put_override(numbers).await.expect("writes");
    }
    let (second, all) = shown().await;
    assert!(second > first);
    assert_eq!(
        all,
        [other.clone(), keyed.clone(), new.clone()],
        "the later one replaces"
    );

    assert!(!store.expire_overrides(at(199)).await.expect("writes"));
    assert!(!store.end_overrides(function("three"), None).await.expect("writes"));
    assert_eq!(shown().await.0, second, "nothing has changed");
    assert!(store.expire_overrides(at(200)).await.expect("writes"));
    let (third, rest) = shown().await;
    assert!(third > second);
    assert_eq!(rest, [other.clone(), keyed.clone()]);
    store.put_override(&new).await.expect("writes");
    assert!(
        store
            .end_overrides(function("one"), Some(keyed.rule))
            .await
            .expect("writes")
    );
    assert_eq!(shown().await.1, [other.clone(), new]);
    assert!(store.end_overrides(function("one"), None).await.expect("writes"));
    let (fourth, rest) = shown().await;
    assert!(fourth > third);
    assert_eq!(rest, [other]);
}
