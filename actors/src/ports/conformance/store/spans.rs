//! Spans that apps have sent.

use serde_json::json;

use super::fixtures::*;
use crate::domain::{RunId, RunStatus, SpanId, UserSpan, limits};

fn span(name: &str, nanos: i64, bytes: usize) -> UserSpan {
    let span = json!({"id": SpanId::derive(name.as_bytes()), "name": name, "kind": "INTERNAL", "started_at": nanos,
        "ended_at": nanos + 1, "outcome": "ok", "scope": "\0", "attributes": {"text": "\0".repeat(bytes / 6)}});
    serde_json::from_value(span).expect("a span")
}

/// They come back in the order in which they began, each once, also of a run that has ended; and go with it.
pub async fn spans_are_kept_with_their_run(store: Shared) {
    let run = start(&store, 1).await.id;
    let nanos = 1_750_000_000_000_000_001;
    let [early, late, later] = [("b", 0), ("a", 1), ("c", 2)].map(|(name, after)| span(name, nanos + after, 12));
    let sent = [later.clone(), early.clone(), early.clone()];
    assert_eq!(store.add_spans(run, &sent).await.expect("writes"), 0);
    commit_all(&store, &[advance(run, 0, vec![ended(RunStatus::Completed, 9)])]).await;
    let changed = UserSpan {
        name: "changed".to_owned(),
        ..early.clone()
    };
    assert_eq!(store.add_spans(run, &[changed, late.clone()]).await.expect("writes"), 0);
    assert_eq!(store.spans(run).await.expect("reads"), [early.clone(), late, later]);

    let stranger = RunId::new(at(1), 99);
    assert_eq!(
        store
            .add_spans(stranger, &[early.clone(), early])
            .await
            .expect("writes"),
        2
    );
    assert_eq!(store.spans(stranger).await.expect("reads"), []);

    assert_eq!(store.purge(&expiry(at(100), at(0)), 10).await.expect("purges"), 1);
    assert_eq!(store.spans(run).await.expect("reads"), []);
}

/// A run has a number of them and a number of bytes; what does not fit is left out, and what is known takes no room.
pub async fn spans_of_a_run_are_bounded(store: Shared) {
    let [many, large] = [start(&store, 1).await.id, start(&store, 2).await.id];
    let name = |number: usize| format!("span {number}");
    let all = |count: usize| (0..count).map(|number| span(&name(number), 5, 0)).collect::<Vec<_>>();
    assert_eq!(store.add_spans(many, &all(10)).await.expect("writes"), 0);
    let refused = store.add_spans(many, &all(limits::USER_SPANS_PER_RUN + 3)).await;
    assert_eq!(refused.expect("writes"), 3);
    assert_eq!(
        store.spans(many).await.expect("reads").len(),
        limits::USER_SPANS_PER_RUN
    );

    let half = limits::USER_SPAN_BYTES / 2;
    let fit = limits::USER_SPANS_BYTES_PER_RUN / half;
    let all: Vec<_> = (0..fit).map(|number| span(&name(number), 5, half)).collect();
    let refused = store.add_spans(large, &all).await.expect("writes");
    assert!((1..10).contains(&refused), "each is a little larger: {refused}");
    assert_eq!(
        store
            .add_spans(large, &[span("huge", 5, 2 * limits::USER_SPAN_BYTES)])
            .await
            .expect("writes"),
        1
    );
    assert_eq!(store.spans(large).await.expect("reads").len(), fit - refused);
}
