//! What runs put off until their end.

use serde_json::json;

use super::fixtures::*;
use crate::domain::{Change, Deferral, DeferralStatus, EventId, RunStatus, StepId};

/// One that would start the function `mail`.
pub(super) fn deferral(id: &str, status: DeferralStatus) -> Deferral {
    let is_pending = status == DeferralStatus::Pending;
    Deferral {
        id: StepId::from(id),
        name: format!("the {id}"),
        function: "conformance-mail".to_owned(),
        status,
        reason: None,
        input: is_pending.then(|| json(&json!({ "id": id }))),
        meta: None,
        event: (status == DeferralStatus::Scheduled).then(|| EventId::derive(at(9), id)),
    }
}

/// They are shown in the order in which they were put off, without their inputs, also when the run has ended; and go with it.
pub async fn deferrals_outlive_the_end_and_go_with_their_run(store: Shared) {
    let run = start(&store, 1).await;
    let put = |id, status| Change::Deferred(deferral(id, status));
    let pending = ["b", "a", "c"].map(|id| put(id, DeferralStatus::Pending));
    commit_all(&store, &[advance(run.id, 0, pending.to_vec())]).await;
    let loaded = load(&store, run.id).await.expect("it is open");
    let inputs: Vec<_> = loaded.deferrals.values().map(|known| known.input.clone()).collect();
    let expected = ["b", "a", "c"].map(|id| Some(json(&json!({ "id": id }))));
    assert_eq!(inputs, expected);

    let end = vec![
        put("a", DeferralStatus::Aborted),
        put("b", DeferralStatus::Scheduled),
        put("c", DeferralStatus::Scheduled),
        ended(RunStatus::Failed, 9),
    ];
    commit_all(&store, &[advance(run.id, 1, end)]).await;
    let view = store.run_view(run.id).await.expect("reads").expect("it is there");
    let expected = [
        deferral("b", DeferralStatus::Scheduled),
        deferral("a", DeferralStatus::Aborted),
        deferral("c", DeferralStatus::Scheduled),
    ];
    assert_eq!(view.deferrals, expected);

    assert_eq!(store.purge(&expiry(at(100), at(100)), 10).await.expect("purges"), 2);
    // The same run once more: nothing is left of the first one.
    let again = start(&store, 1).await;
    assert_eq!(again.id, run.id);
    let view = store.run_view(run.id).await.expect("reads").expect("it is there");
    assert_eq!(view.deferrals, []);
}

/// A stale decision puts nothing off.
pub async fn a_lost_decision_puts_nothing_off(store: Shared) {
    let run = start(&store, 1).await;
    let put = |id| vec![Change::Deferred(deferral(id, DeferralStatus::Pending))];
    let written = store
        .commit(&[advance(run.id, 0, put("a")), advance(run.id, 0, put("b"))])
        .await;
    assert_eq!(written.expect("commits")[1], crate::domain::Written::Lost);
    let loaded = load(&store, run.id).await.expect("it is open");
    assert_eq!(loaded.deferrals.keys().collect::<Vec<_>>(), [&StepId::from("a")]);
}
