//! What is old goes, what is open stays.

use super::fixtures::*;
use crate::domain::{Change, DeferralStatus, HistoryKind, RunStatus};
use crate::ports::Expiry;

/// Runs go by their end, with their steps; events by when they were received, once no run needs them; in portions.
pub async fn old_runs_and_events_are_purged(store: Shared) {
    let mut runs = Vec::new();
    for millis in 0..6 {
        let run = start(&store, millis).await;
        let changes = vec![
            Change::StepPut(step("a", done(0, "x"))),
            noted(HistoryKind::RunStarted, 0),
            Change::Deferred(super::deferrals::deferral("later", DeferralStatus::Pending)),
            ended(RunStatus::Completed, 100 + millis),
        ];
        commit_all(&store, &[advance(run.id, 0, changes)]).await;
        runs.push(run);
    }
    let lone = event_named("lone", 2);
    commit_all(&store, &[accept(&lone, Vec::new())]).await;

    assert_eq!(store.purge(&expiry(at(100), at(0)), 10).await.expect("purges"), 0);
    assert_eq!(store.purge(&expiry(at(103), at(0)), 2).await.expect("purges"), 2);
    assert_eq!(store.purge(&expiry(at(103), at(0)), 2).await.expect("purges"), 1);
    for (index, run) in runs.iter().enumerate() {
        let view = store.run_view(run.id).await.expect("reads");
        assert_eq!(view.is_none(), index < 3, "run {index}");
    }
    // The events of the first three and the lone one; that of the fourth is not old enough, those after have runs.
    assert_eq!(store.purge(&expiry(at(0), at(2)), 10).await.expect("purges"), 2);
    assert_eq!(store.purge(&expiry(at(0), at(1_000)), 1).await.expect("purges"), 1);
    assert_eq!(store.purge(&expiry(at(0), at(1_000)), 10).await.expect("purges"), 1);
    assert_eq!(store.purge(&expiry(at(0), at(1_000)), 10).await.expect("purges"), 0);
    assert_eq!(store.events_by_id(&[lone.id]).await.expect("reads"), []);
    let kept = runs[3].event_ids[0];
    assert_eq!(store.events_by_id(&[kept]).await.expect("reads").len(), 1);
    assert_eq!(
        store.purge(&expiry(at(9_000), at(9_000)), 10).await.expect("purges"),
        6,
        "all at once"
    );
}

/// Runs that failed have a time of their own.
pub async fn failed_runs_expire_apart(store: Shared) {
    let mut runs = Vec::new();
    for (millis, status) in [
        (1, RunStatus::Completed),
        (2, RunStatus::Cancelled),
        (3, RunStatus::Failed),
    ] {
        let run = start(&store, millis).await;
        commit_all(&store, &[advance(run.id, 0, vec![ended(status, 100)])]).await;
        runs.push(run.id);
    }
    let longer = Expiry {
        failed_runs: at(0),
        ..expiry(at(9_000), at(0))
    };
    assert_eq!(store.purge(&longer, 10).await.expect("purges"), 2);
    assert!(
        store.run_view(runs[2]).await.expect("reads").is_some(),
        "the failed one stays"
    );
    let shorter = Expiry {
        finished_runs: at(0),
        ..expiry(at(9_000), at(0))
    };
    assert_eq!(store.purge(&shorter, 10).await.expect("purges"), 1);
}

/// Open runs, their events, and events that are still to be routed stay however old they are.
pub async fn nothing_open_is_purged(store: Shared) {
    let run = start(&store, 1).await;
    let (first, second) = (event(2), event(70_000));
    let mut batch = new_run(&second, "batch");
    batch.state.event_ids = vec![first.id, second.id];
    batch.state.events = vec![first.body.clone(), second.body.clone()].into();
    commit_all(
        &store,
        &[accept(&first, Vec::new()), accept(&second, vec![batch.clone()])],
    )
    .await;
    let waiting = event_named("to be routed", 3);
    emit(&store, run.id, &waiting).await;

    assert_eq!(
        store
            .purge(&expiry(at(1_000_000), at(1_000_000)), 100)
            .await
            .expect("purges"),
        0
    );
    assert!(load(&store, run.id).await.is_some());
    assert_eq!(load(&store, batch.state.id).await.as_ref(), Some(&batch.state));
    assert_eq!(unrouted(&store).await, [waiting.id]);

    commit_all(
        &store,
        &[advance(batch.state.id, 0, vec![ended(RunStatus::Failed, 80_000)])],
    )
    .await;
    assert_eq!(
        store
            .purge(&expiry(at(1_000_000), at(1_000_000)), 100)
            .await
            .expect("purges"),
        3,
        "the run and both events"
    );
}
