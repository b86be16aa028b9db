//! Accepting events with the runs they start.

use std::time::Duration;

use super::fixtures::*;
use crate::domain::{
    Accept, Event, EventId, Joined, Json, LeftOut, NewRun, Route, RunId, Skip, SkipReason, Write, Written, limits,
};
use crate::ports::Except;

fn left_out(run: RunId, reason: Option<SkipReason>) -> Written {
    Written::Done {
        left_out: vec![LeftOut { run, reason }],
        missed: Vec::new(),
        unrouted: Vec::new(),
        evictions: Vec::new(),
        joined: Joined::default(),
    }
}

/// What was accepted can be read: the event, the run's state, its job.
pub async fn an_accepted_event_is_there_with_its_run(store: Shared) {
    let event = event(1);
    let run = new_run(&event, "one");
    commit_all(&store, &[accept(&event, vec![run.clone()])]).await;
    assert_eq!(store.events_by_id(&[event.id]).await.expect("reads"), [event]);
    assert_eq!(load(&store, run.state.id).await, Some(run.state));
    let due = store
        .jobs_due(at(100), None, Except::default(), 10)
        .await
        .expect("reads");
    assert_eq!(due, [run.job]);
}

/// The second event with an id is lost: neither its content nor the runs it would start are kept.
pub async fn a_known_event_is_lost_and_changes_nothing(store: Shared) {
    let first = event(1);
    commit_all(&store, &[accept(&first, vec![new_run(&first, "one")])]).await;
    let second = Event {
        body: Json::from_canonical(r#"{"other":true}"#),
        ..first.clone()
    };
    let runs = vec![new_run(&second, "one"), new_run(&second, "two")];
    let write = Write::Accept(Accept {
        event: second,
        runs: runs.clone(),
        joins: Vec::new(),
        skips: vec![skip(first.id, "three", SkipReason::ExpressionFalse)],
        catalog: None,
    });
    assert_eq!(commit(&store, write).await, Written::Lost);
    let view = store.event_view(first.id).await.expect("reads").expect("is known");
    assert_eq!((view.event, view.skips), (first, Vec::new()));
    assert_eq!(view.runs.len(), 1);
    assert_eq!(load(&store, runs[1].state.id).await, None);
    assert_eq!(store.counts().await.expect("reads").jobs, 1);
}

/// A run and a key that a lost write would have had are there for the next one, even in the same batch.
pub async fn what_a_lost_event_claimed_is_free(store: Shared) {
    let (known, next) = (event(1), event(2));
    commit_all(&store, &[accept(&known, Vec::new())]).await;
    let written = store
        .commit(&[
            accept(&known, vec![keyed_run(&known, "one", "k")]),
            accept(&next, vec![keyed_run(&next, "one", "k")]),
        ])
        .await;
    assert_eq!(written.expect("commits"), [Written::Lost, Written::done()]);
    assert_eq!(store.counts().await.expect("reads").open_runs, 1);
}

/// A run that exists is left out, without a skip, and the rest of the write stands.
pub async fn a_known_run_is_left_out(store: Shared) {
    let (first, second) = (event(1), event(2));
    let run = keyed_run(&first, "one", "k");
    commit_all(&store, &[accept(&first, vec![run.clone()])]).await;
    let other = new_run(&second, "two");
    let written = commit(&store, accept(&second, vec![run.clone(), other.clone()])).await;
    assert_eq!(written, left_out(run.state.id, None));
    assert_eq!(load(&store, other.state.id).await, Some(other.state));
    let view = store.event_view(second.id).await.expect("reads").expect("is known");
    assert_eq!(view.skips, []);
}

/// Within the window a key starts one run of a function; the others are left out and recorded as skips. After it, the key
/// is free again, and belongs to the newer run.
pub async fn an_idempotency_key_is_taken_for_a_day(store: Shared) {
    let window = i64::try_from(limits::IDEMPOTENCY_WINDOW.as_millis()).expect("fits");
    let first = event(0);
    commit_all(&store, &[accept(&first, vec![keyed_run(&first, "one", "k")])]).await;

    let second = event(window - 1);
    let runs = vec![
        keyed_run(&second, "one", "k"),
        keyed_run(&second, "two", "k"),
        keyed_run(&second, "three", "other"),
    ];
    let duplicate = runs[0].state.id;
    assert_eq!(
        commit(&store, accept(&second, runs)).await,
        left_out(duplicate, Some(SkipReason::Duplicate))
    );
    assert_eq!(duplicates_of(&store, second.id).await, [function("one")]);
    assert_eq!(load(&store, duplicate).await, None);

    let third = event(window);
    let run = keyed_run(&third, "one", "k");
    commit_all(&store, &[accept(&third, vec![run])]).await;
    let fourth = event_named("other", window + 5);
    let run = keyed_run(&fourth, "one", "k");
    let id = run.state.id;
    assert_eq!(
        commit(&store, accept(&fourth, vec![run])).await,
        left_out(id, Some(SkipReason::Duplicate))
    );
    assert!(
        limits::IDEMPOTENCY_WINDOW >= Duration::from_secs(60),
        "the cases above are distinct"
    );
}

/// The first of a batch has the key.
pub async fn an_idempotency_key_counts_within_a_batch(store: Shared) {
    let events = [event(1), event(2), event(3)];
    let runs: Vec<NewRun> = events.iter().map(|event| keyed_run(event, "one", "k")).collect();
    let writes: Vec<_> = events
        .iter()
        .zip(&runs)
        .map(|(event, run)| accept(event, vec![run.clone()]))
        .collect();
    let written = store.commit(&writes).await.expect("commits");
    let expected = [
        Written::done(),
        left_out(runs[1].state.id, Some(SkipReason::Duplicate)),
        left_out(runs[2].state.id, Some(SkipReason::Duplicate)),
    ];
    assert_eq!(written, expected);
    assert_eq!(duplicates_of(&store, events[0].id).await, []);
    assert_eq!(duplicates_of(&store, events[1].id).await, [function("one")]);
    assert_eq!(duplicates_of(&store, events[2].id).await, [function("one")]);
}

/// Skips come back with their event, those of accepting as well as those of routing.
pub async fn skips_are_recorded(store: Shared) {
    let event = event(1);
    let accepted = vec![
        skip(event.id, "one", SkipReason::ExpressionFalse),
        skip(event.id, "two", SkipReason::ExpressionError),
    ];
    let write = Write::Accept(Accept {
        event: event.clone(),
        runs: Vec::new(),
        joins: Vec::new(),
        skips: accepted.clone(),
        catalog: None,
    });
    commit_all(&store, &[write]).await;
    let view = store.event_view(event.id).await.expect("reads").expect("is known");
    assert_eq!(view.skips, accepted);

    let run = start(&store, 2).await;
    let emitted = event_named("inngest/function.invoked", 3);
    emit(&store, run.id, &emitted).await;
    let unknown = Skip {
        function: None,
        ..skip(emitted.id, "", SkipReason::UnknownFunction)
    };
    let route = Write::Route(Route {
        event: emitted.id,
        runs: Vec::new(),
        joins: Vec::new(),
        skips: vec![unknown.clone()],
        takes: Vec::new(),
        catalog: None,
    });
    commit_all(&store, &[route]).await;
    let view = store.event_view(emitted.id).await.expect("reads").expect("is known");
    assert_eq!(view.skips, [unknown]);
}

fn skip(event: EventId, name: &str, reason: SkipReason) -> Skip {
    Skip {
        event,
        function: Some(function(name)),
        reason,
        detail: format!("because of {name}"),
    }
}

async fn duplicates_of(store: &Shared, event: EventId) -> Vec<crate::domain::FunctionId> {
    let view = store.event_view(event).await.expect("reads").expect("is known");
    let duplicates = view.skips.iter().filter(|skip| skip.reason == SkipReason::Duplicate);
    duplicates.filter_map(|skip| skip.function).collect()
}
