//! Many writes in one transaction are as good as the writes one after another.

use super::fixtures::*;
use crate::domain::{Change, JobKey, Route, RunStatus, StepId, Write, Written};

/// No writes, no answers.
pub async fn an_empty_batch_is_nothing(store: Shared) {
    assert_eq!(store.commit(&[]).await.expect("commits"), []);
}

/// Writes of all kinds at once, answered in their order.
pub async fn a_batch_is_as_good_as_its_writes_one_by_one(store: Shared) {
    let (a, b) = (start(&store, 1).await, start(&store, 2).await);
    let emitted = event_named("emitted", 3);
    emit(&store, a.id, &emitted).await;
    let new = event(4);
    let batch = [
        advance(b.id, 0, vec![Change::Started { at: at(5) }]),
        accept(&new, vec![new_run(&new, "one")]),
        Write::Route(Route {
            event: emitted.id,
            runs: vec![new_run(&emitted, "two")],
            joins: Vec::new(),
            skips: Vec::new(),
            takes: Vec::new(),
            catalog: None,
        }),
        advance(a.id, 1, vec![ended(RunStatus::Cancelled, 6)]),
    ];
    commit_all(&store, &batch).await;
    assert_eq!(load(&store, a.id).await, None);
    assert_eq!(load(&store, b.id).await.expect("is open").status, RunStatus::Running);
    assert_eq!(unrouted(&store).await, []);
    assert_eq!(store.counts().await.expect("reads").open_runs, 3);
    let written = store.commit(&batch).await.expect("commits");
    assert_eq!(written, vec![Written::Lost; 4], "each has happened");
}

/// The first one wins, as it would in two batches; that goes for emitted events, too.
pub async fn the_same_event_twice_in_a_batch(store: Shared) {
    let run = start(&store, 1).await;
    let (twice, emitted) = (event(2), event_named("emitted", 3));
    let batch = [
        accept(&twice, vec![new_run(&twice, "one")]),
        advance(
            run.id,
            0,
            vec![Change::Emit {
                event: emitted.clone(),
                has_listeners: false,
            }],
        ),
        accept(&twice, vec![new_run(&twice, "two")]),
        accept(&emitted, Vec::new()),
    ];
    let written = store.commit(&batch).await.expect("commits");
    assert_eq!(
        written,
        [Written::done(), Written::done(), Written::Lost, Written::Lost]
    );
    assert_eq!(store.counts().await.expect("reads").open_runs, 2);
}

/// Consecutive versions go through, the same version does not.
pub async fn a_run_moves_twice_in_a_batch(store: Shared) {
    let run = start(&store, 1).await;
    let put = |key: &str| Change::JobPut(job(run.id, JobKey::Wake(StepId::from(key)), 5));
    let batch = [
        advance(run.id, 0, vec![put("a")]),
        advance(
            run.id,
            1,
            vec![Change::JobDone(JobKey::Wake(StepId::from("a"))), put("b")],
        ),
        advance(run.id, 1, vec![put("c")]),
        advance(run.id, 2, vec![put("d")]),
        advance(run.id, 4, vec![put("e")]),
    ];
    let written = store.commit(&batch).await.expect("commits");
    let done = Written::done;
    assert_eq!(written, [done(), done(), Written::Lost, done(), Written::Lost]);
    assert_eq!(job_keys(&store, run.id).await, ["start", "wake:b", "wake:d"]);
    assert_eq!(load(&store, run.id).await.expect("is open").version, 3);
}

/// A write may build on the one before it.
pub async fn a_run_is_created_and_moves_in_a_batch(store: Shared) {
    let event = event(1);
    let run = new_run(&event, "one");
    let id = run.state.id;
    let batch = [
        advance(id, 0, vec![Change::Started { at: at(5) }]),
        accept(&event, vec![run]),
        advance(id, 0, vec![Change::Started { at: at(6) }]),
        advance(id, 1, vec![ended(RunStatus::Completed, 7)]),
    ];
    let written = store.commit(&batch).await.expect("commits");
    let done = Written::done;
    assert_eq!(written, [Written::Lost, done(), done(), done()]);
    let view = store.run_view(id).await.expect("reads").expect("exists");
    assert_eq!(view.summary.started_at, Some(at(6)));
}

/// An event is unrouted for the sake of a wait that was set only just before it: by a decision, or with a new run.
pub async fn a_wait_set_earlier_in_the_batch_counts(store: Shared) {
    let (a, b) = (start(&store, 1).await, start(&store, 2).await);
    let (early, paid, cancelled) = (
        event_named("paid", 3),
        event_named("paid", 4),
        event_named("cancelled", 5),
    );
    let (start, emitted) = (event(6), event_named("cancelled", 7));
    let mut run = new_run(&start, "two");
    run.waits.push(wait(run.state.id, "x", "cancelled", None));
    let batch = [
        accept(&early, Vec::new()),
        advance(a.id, 0, vec![Change::WaitPut(wait(a.id, "a", "paid", None))]),
        accept(&paid, Vec::new()),
        accept(&start, vec![run]),
        accept(&cancelled, Vec::new()),
        advance(
            b.id,
            0,
            vec![Change::Emit {
                event: emitted.clone(),
                has_listeners: false,
            }],
        ),
    ];
    let written = store.commit(&batch).await.expect("commits");
    let expected = [
        Written::done(),
        Written::done(),
        done_unrouted(&[paid.id]),
        Written::done(),
        done_unrouted(&[cancelled.id]),
        done_unrouted(&[emitted.id]),
    ];
    assert_eq!(written, expected);
    assert_eq!(unrouted(&store).await, [paid.id, cancelled.id, emitted.id]);
}

/// Losers in a batch leave the others alone, whatever they had claimed beside.
pub async fn a_lost_write_does_not_hold_up_the_others(store: Shared) {
    let known = event(1);
    commit_all(&store, &[accept(&known, Vec::new())]).await;
    let stale = start(&store, 2).await;
    let mut batch = vec![
        accept(&known, vec![new_run(&known, "one")]),
        advance(stale.id, 5, vec![ended(RunStatus::Failed, 3)]),
    ];
    let mut expected = vec![Written::Lost, Written::Lost];
    for millis in 10..20 {
        let event = event(millis);
        batch.push(accept(&event, vec![new_run(&event, "one")]));
        expected.push(Written::done());
    }
    batch.push(advance(stale.id, 0, vec![Change::RequestVersion(2)]));
    expected.push(Written::done());
    assert_eq!(store.commit(&batch).await.expect("commits"), expected);
    assert_eq!(store.counts().await.expect("reads").open_runs, 11);
    assert_eq!(load(&store, stale.id).await.expect("is open").version, 1);
}

/// As many writes as may pile up while the database is slow.
pub async fn large_batches(store: Shared) {
    let events: Vec<_> = (0..1_000).map(event).collect();
    let accepts: Vec<_> = events
        .iter()
        .map(|event| accept(event, vec![new_run(event, "one")]))
        .collect();
    commit_all(&store, &accepts).await;
    let advances: Vec<_> = events
        .iter()
        .map(|event| {
            let changes = vec![Change::Started { at: at(1) }, Change::StepPut(step("a", done(0, "x")))];
            advance(new_run(event, "one").state.id, 0, changes)
        })
        .collect();
    commit_all(&store, &advances).await;
    let ids: Vec<_> = events.iter().map(|event| new_run(event, "one").state.id).collect();
    let states = store.load_runs(&ids).await.expect("reads");
    assert_eq!(states.len(), 1_000);
    assert!(states.iter().all(|state| state.version == 1 && state.stack.len() == 1));
    assert!(states.iter().map(|state| state.id).eq(ids), "in the order asked");
}
