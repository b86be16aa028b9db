//! Events find their functions and waits.

use super::fixtures::*;
use crate::domain::{Change, Job, JobId, JobKey, Joined, Route, RunId, StepId, Take, WaitKey, Write, Written};
use crate::ports::Except;

fn route(event: crate::domain::EventId, takes: Vec<Take>) -> Route {
    Route {
        event,
        runs: Vec::new(),
        joins: Vec::new(),
        skips: Vec::new(),
        takes,
        catalog: None,
    }
}

fn take(run: RunId, step: &str) -> Take {
    Take {
        run,
        key: WaitKey::Step(StepId::from(step)),
        job: Job {
            payload: Some(json(&serde_json::json!({"data": [1, "x"]}))),
            ..job(run, JobKey::Resume(StepId::from(step)), 9)
        },
    }
}

/// An accepted event is unrouted if, and only if, somebody waits for its name.
pub async fn an_event_that_may_meet_a_wait_is_unrouted(store: Shared) {
    let run = start(&store, 1).await;
    set_waits(
        &store,
        run.id,
        vec![wait(run.id, "a", "shop/paid", lookup("data.id", "7"))],
    )
    .await;
    let (met, other) = (event_named("shop/paid", 2), event_named("shop/paid2", 3));
    let written = store
        .commit(&[accept(&met, vec![new_run(&met, "two")]), accept(&other, Vec::new())])
        .await;
    assert_eq!(written.expect("commits"), [done_unrouted(&[met.id]), Written::done()]);
    assert_eq!(store.unrouted(10).await.expect("reads"), [met]);
}

/// Who routes second has lost: neither runs nor takes of theirs happen.
pub async fn an_event_is_routed_once(store: Shared) {
    let run = start(&store, 1).await;
    let later = event_named("shop/ended", 5);
    let event = event_named("shop/paid", 2);
    let changes = vec![
        Change::WaitPut(wait(run.id, "a", "shop/ended", None)),
        Change::Emit {
            event: event.clone(),
            has_listeners: true,
        },
    ];
    let written = commit(&store, advance(run.id, 0, changes)).await;
    assert_eq!(written, done_unrouted(&[event.id]));

    commit_all(&store, &[Write::Route(route(event.id, Vec::new()))]).await;
    assert_eq!(unrouted(&store).await, []);
    let again = Route {
        runs: vec![new_run(&event, "two")],
        ..route(event.id, vec![take(run.id, "a")])
    };
    assert_eq!(commit(&store, Write::Route(again.clone())).await, Written::Lost);
    assert_eq!(load(&store, again.runs[0].state.id).await, None);
    assert_eq!(waits(&store, "shop/ended", &[None]).await.len(), 1);
    assert_eq!(job_keys(&store, run.id).await, ["start"]);

    let unknown = route(later.id, Vec::new());
    assert_eq!(
        commit(&store, Write::Route(unknown)).await,
        Written::Lost,
        "not stored at all"
    );
}

/// A wait that is taken is over, and the job that tells its run is there.
pub async fn taking_a_wait_leaves_a_job(store: Shared) {
    let run = start(&store, 1).await;
    let kept = wait(run.id, "b", "shop/paid", None);
    set_waits(&store, run.id, vec![wait(run.id, "a", "shop/paid", None), kept.clone()]).await;
    let event = event_named("shop/paid", 2);
    assert_eq!(
        commit(&store, accept(&event, Vec::new())).await,
        done_unrouted(&[event.id])
    );
    let taken = take(run.id, "a");
    commit_all(&store, &[Write::Route(route(event.id, vec![taken.clone()]))]).await;
    assert_eq!(waits(&store, "shop/paid", &[None]).await, [kept]);
    let due = store
        .jobs_due(at(1_000), None, Except::default(), 10)
        .await
        .expect("reads");
    assert!(due.contains(&taken.job), "{due:?}");
    let state = load(&store, run.id).await.expect("is open");
    assert!(state.jobs.contains_key(&JobKey::Resume(StepId::from("a"))));
    assert_eq!(state.version, 1, "the run itself has not moved");
}

/// Of two events that find the same wait, one gets it; the other is routed all the same.
pub async fn a_wait_is_taken_once(store: Shared) {
    let run = start(&store, 1).await;
    set_waits(&store, run.id, vec![wait(run.id, "a", "shop/paid", None)]).await;
    let events = [event_named("shop/paid", 2), event_named("shop/paid", 3)];
    for event in &events {
        assert_eq!(
            commit(&store, accept(event, Vec::new())).await,
            done_unrouted(&[event.id])
        );
    }
    let missed = |step: &str| Written::Done {
        left_out: Vec::new(),
        missed: vec![(run.id, WaitKey::Step(StepId::from(step)))],
        unrouted: Vec::new(),
        evictions: Vec::new(),
        joined: Joined::default(),
    };
    let late = Take {
        job: Job {
            id: JobId {
                run: run.id,
                key: JobKey::Cancel,
            },
            ..take(run.id, "a").job
        },
        ..take(run.id, "a")
    };
    let batch = [
        Write::Route(route(events[0].id, vec![take(run.id, "a")])),
        Write::Route(route(events[1].id, vec![late])),
    ];
    let written = store.commit(&batch).await.expect("commits");
    assert_eq!(written, [Written::done(), missed("a")]);
    assert_eq!(job_keys(&store, run.id).await, ["resume:a", "start"]);
    assert_eq!(unrouted(&store).await, []);
}

/// An emitted event is stored; it is unrouted if functions listen to it, or somebody waits for it by then.
pub async fn emitted_events_are_stored_and_unrouted_if_meant_for_somebody(store: Shared) {
    let run = start(&store, 1).await;
    let emit = |event: &crate::domain::Event, has_listeners| Change::Emit {
        event: event.clone(),
        has_listeners,
    };
    let (heard, awaited, neither) = (
        event_named("heard", 2),
        event_named("awaited", 3),
        event_named("neither", 4),
    );
    let too_early = event_named("awaited", 5);
    let changes = vec![
        emit(&heard, true),
        emit(&too_early, false),
        Change::WaitPut(wait(run.id, "a", "awaited", None)),
        emit(&awaited, false),
        emit(&neither, false),
    ];
    let written = commit(&store, advance(run.id, 0, changes)).await;
    assert_eq!(written, done_unrouted(&[heard.id, awaited.id]));
    assert_eq!(unrouted(&store).await, [heard.id, awaited.id]);
    let ids = [too_early.id, neither.id];
    assert_eq!(
        store.events_by_id(&ids).await.expect("reads"),
        [too_early, neither.clone()]
    );
    let again = event_named("awaited", 6);
    let changes = vec![emit(&again, false), emit(&neither, true)];
    let written = commit(&store, advance(run.id, 1, changes)).await;
    assert_eq!(
        written,
        done_unrouted(&[again.id]),
        "an event that is known stays as it is"
    );
}
