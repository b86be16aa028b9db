//! Runs moving on.

use super::fixtures::*;
use crate::domain::{Change, HistoryKind, Job, JobKey, RunStatus, StepId, StepState, WaitKey, Written};
use crate::ports::Except;

/// A decision made from a version that is past, or not yet there, is lost with all its changes.
pub async fn a_stale_decision_changes_nothing(store: Shared) {
    let run = start(&store, 1).await;
    commit_all(&store, &[advance(run.id, 0, vec![Change::Started { at: at(2) }])]).await;
    let before = store.run_view(run.id).await.expect("reads");
    let state = load(&store, run.id).await;
    let emitted = event_named("emitted", 5);
    for expected in [0, 2, 7] {
        let changes = vec![
            Change::RequestVersion(2),
            Change::StepPut(step("a", done(0, "x"))),
            Change::JobPut(job(run.id, JobKey::Cancel, 5)),
            Change::JobDone(JobKey::Start),
            Change::WaitPut(wait(run.id, "a", "shop/paid", None)),
            Change::Emit {
                event: emitted.clone(),
                has_listeners: true,
            },
            noted(HistoryKind::RunStarted, 0),
            ended(RunStatus::Failed, 9),
        ];
        assert_eq!(commit(&store, advance(run.id, expected, changes)).await, Written::Lost);
    }
    assert_eq!(store.run_view(run.id).await.expect("reads"), before);
    assert_eq!(load(&store, run.id).await, state);
    assert_eq!(store.events_by_id(&[emitted.id]).await.expect("reads"), []);
    let unknown = new_run(&event(50), "one").state.id;
    assert_eq!(commit(&store, advance(unknown, 0, Vec::new())).await, Written::Lost);
}

/// Each committed decision raises the version by one, whatever it changes.
pub async fn decisions_bring_the_run_forward(store: Shared) {
    let mut expected = start(&store, 1).await;
    let decisions = [
        vec![Change::Started { at: at(2) }, Change::RequestVersion(2)],
        vec![],
        vec![
            Change::PlanOnly(true),
            Change::Group([StepId::from("b"), StepId::from("a")].into()),
            Change::StepPut(step("b", StepState::Planned)),
            Change::StepPut(step("a", StepState::Parked { until: at(50) })),
        ],
        vec![
            Change::StepPut(step("b", done(0, "b"))),
            Change::StepPut(step("c", done(1, "c"))),
            Change::StepPut(step("a", done(2, "a"))),
            Change::Group([].into()),
        ],
    ];
    for changes in decisions {
        commit_all(&store, &[advance(expected.id, expected.version, changes.clone())]).await;
        changes.iter().for_each(|change| expected.apply(change));
        expected.version += 1;
        assert_eq!(load(&store, expected.id).await.as_ref(), Some(&expected));
    }
    let order: Vec<_> = expected.steps.keys().map(StepId::as_str).collect();
    assert_eq!(order, ["b", "a", "c"], "in the order of reporting");
    let stack: Vec<_> = expected.stack.iter().map(StepId::as_str).collect();
    assert_eq!(stack, ["b", "c", "a"], "in the order of completion");
}

/// Of several changes of one thing the last one counts.
pub async fn changes_happen_in_order(store: Shared) {
    let run = start(&store, 1).await;
    let key = |step: &str| JobKey::Wake(StepId::from(step));
    let late = Job {
        attempt: 3,
        payload: Some(json(&serde_json::json!("why"))),
        ..job(run.id, key("a"), 70)
    };
    let changes = vec![
        Change::JobPut(job(run.id, key("a"), 60)),
        Change::JobPut(late.clone()),
        Change::JobPut(job(run.id, key("b"), 60)),
        Change::JobDone(key("b")),
        Change::JobDone(JobKey::Start),
        Change::JobPut(job(run.id, JobKey::Start, 80)),
        Change::JobDone(key("never there")),
        Change::WaitPut(wait(run.id, "a", "first", None)),
        Change::WaitPut(wait(run.id, "a", "second", None)),
        Change::WaitPut(wait(run.id, "b", "second", None)),
        Change::WaitDone(WaitKey::Step(StepId::from("b"))),
        Change::StepPut(step("a", StepState::Planned)),
        Change::StepPut(step("a", StepState::Parked { until: at(9) })),
        Change::RequestVersion(1),
        Change::RequestVersion(2),
    ];
    commit_all(&store, &[advance(run.id, 0, changes)]).await;
    let due = store
        .jobs_due(at(1_000), None, Except::default(), 10)
        .await
        .expect("reads");
    assert_eq!(due, [late, job(run.id, JobKey::Start, 80)]);
    assert_eq!(waits(&store, "first", &[None]).await, []);
    assert_eq!(
        waits(&store, "second", &[None]).await,
        [wait(run.id, "a", "second", None)]
    );
    let state = load(&store, run.id).await.expect("is open");
    assert_eq!(state.steps[0].state, StepState::Parked { until: at(9) });
    assert_eq!(state.request_version, 2);

    let again = vec![
        Change::JobDone(key("a")),
        Change::WaitDone(WaitKey::Step(StepId::from("a"))),
    ];
    commit_all(&store, &[advance(run.id, 1, again)]).await;
    assert_eq!(job_keys(&store, run.id).await, ["start"]);
    assert_eq!(waits(&store, "second", &[None]).await, []);
}

/// The first result of a step stays (P3), within a write, within a batch and later.
pub async fn a_recorded_result_never_changes(store: Shared) {
    let mut state = start(&store, 1).await;
    let first = Change::StepPut(step("a", done(0, "first")));
    let others = [
        Change::StepPut(step("a", done(1, "second"))),
        Change::StepPut(step("a", StepState::Planned)),
        Change::StepPut(step("a", StepState::Parked { until: at(9) })),
    ];
    let batch = [
        advance(state.id, 0, vec![first.clone(), others[0].clone()]),
        advance(state.id, 1, vec![others[0].clone(), others[1].clone()]),
    ];
    commit_all(&store, &batch).await;
    commit_all(&store, &[advance(state.id, 2, others.to_vec())]).await;
    state.apply(&first);
    others.iter().for_each(|change| state.apply(change));
    state.version = 3;
    assert_eq!(state.steps[0].state, done(0, "first"), "in memory, too");
    assert_eq!(state.stack.len(), 1);
    assert_eq!(load(&store, state.id).await, Some(state));
}

/// A run that has ended has no jobs and no waits, is not loaded any more, and keeps its steps and output.
pub async fn the_end_takes_jobs_and_waits_along(store: Shared) {
    let (run, bystander) = (start(&store, 1).await, start(&store, 2).await);
    set_waits(&store, bystander.id, vec![wait(bystander.id, "a", "shop/paid", None)]).await;
    let changes = vec![
        Change::Started { at: at(2) },
        Change::StepPut(step("a", done(0, "x"))),
        Change::JobPut(job(run.id, JobKey::Cancel, 5)),
        Change::WaitPut(wait(run.id, "b", "shop/paid", None)),
        Change::WaitPut(wait(run.id, "c", "shop/paid", None)),
    ];
    commit_all(&store, &[advance(run.id, 0, changes)]).await;
    let changes = vec![
        Change::JobPut(job(run.id, JobKey::Discover(StepId::from("a")), 6)),
        Change::WaitPut(wait(run.id, "d", "shop/paid", None)),
        ended(RunStatus::Completed, 9),
    ];
    commit_all(&store, &[advance(run.id, 1, changes)]).await;
    assert_eq!(load(&store, run.id).await, None);
    let view = store.run_view(run.id).await.expect("reads").expect("is remembered");
    assert_eq!((view.jobs, view.waits), (Vec::new(), Vec::new()));
    assert_eq!(view.steps.len(), 1);
    assert_eq!(view.summary.status, RunStatus::Completed);
    assert_eq!(view.summary.started_at, Some(at(2)));
    assert_eq!(view.summary.ended_at, Some(at(9)));
    assert_eq!(
        view.summary.output,
        Some(json(&serde_json::json!({"data": "the output"})))
    );
    assert_eq!(waits(&store, "shop/paid", &[None]).await.len(), 1);
    assert_eq!(job_keys(&store, bystander.id).await, ["start"]);
    let counts = store.counts().await.expect("reads");
    assert_eq!((counts.open_runs, counts.jobs, counts.waits), (1, 1, 1));
}

/// History comes back in the order in which it was noted, not by time.
pub async fn history_keeps_its_order(store: Shared) {
    let run = start(&store, 1).await;
    let mut expected = Vec::new();
    for version in 0..3 {
        let changes: Vec<_> = (0..20)
            .map(|i| noted(HistoryKind::AttemptFailed, version * 100 + 20 - i))
            .collect();
        expected.extend(changes.clone());
        commit_all(&store, &[advance(run.id, u64::from(version), changes)]).await;
    }
    let view = store.run_view(run.id).await.expect("reads").expect("exists");
    let found: Vec<_> = view.history.into_iter().map(Change::Noted).collect();
    assert_eq!(found, expected);
}
