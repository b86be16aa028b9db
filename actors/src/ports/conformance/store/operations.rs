//! Operations on many runs, and what they ask.

use super::fixtures::*;
use crate::domain::{
    Cursor, Estimate, Item, Operation, OperationFilter, OperationId, OperationKind, OperationState, Precision,
    Progress, RunId, RunStatus,
};
use crate::ports::RunFilter;

fn operation(millis: i64) -> Operation {
    Operation {
        id: OperationId::new(at(millis), 7),
        kind: OperationKind::RetryFailed,
        filter: OperationFilter {
            functions: Some(vec![function("one")]),
            statuses: vec![RunStatus::Failed],
            from: Some(at(1)),
            until: None,
            condition: Some("event.data.a == 'a\u{0}b'".to_owned()),
        },
        rate: 50,
        total: Estimate {
            count: 7,
            precision: Precision::AtLeast,
        },
        state: OperationState::Running,
        progress: Progress::default(),
        cursor: Cursor::default(),
        page: Vec::new(),
        page_at: None,
        last_error: None,
        ended_at: None,
        version: 0,
    }
}

/// An operation comes back as it was written down, and moves on from the version that is named only.
pub async fn operations_are_kept_as_they_are(store: Shared) {
    let (old, new) = (operation(10), operation(20));
    for operation in [&new, &old, &new] {
        store.put_operation(operation).await.expect("writes");
    }
    assert_eq!(store.operation(old.id).await.expect("reads").as_ref(), Some(&old));
    assert_eq!(
        store.open_operations().await.expect("reads"),
        [old.clone(), new.clone()]
    );

    let mut moved = old.clone();
    moved.version = 1;
    moved.progress.done = 3;
    moved.cursor.run = Some(RunId::new(at(5), 1));
    moved.page = vec![Item::Run(RunId::new(at(4), 2))];
    moved.page_at = Some(at(30));
    assert!(store.update_operation(&moved, 0).await.expect("writes"));
    let mut late = moved.clone();
    late.progress.done = 9;
    assert!(
        !store.update_operation(&late, 0).await.expect("writes"),
        "it is at version 1"
    );
    assert_eq!(store.operation(old.id).await.expect("reads").as_ref(), Some(&moved));
    // Writing it down again as new changes nothing.
    store.put_operation(&old).await.expect("writes");
    assert_eq!(store.operation(old.id).await.expect("reads").as_ref(), Some(&moved));

    let mut ended = moved.clone();
    ended.version = 2;
    ended.state = OperationState::Finished;
    ended.ended_at = Some(at(40));
    assert!(store.update_operation(&ended, 1).await.expect("writes"));
    assert_eq!(
        store.open_operations().await.expect("reads"),
        std::slice::from_ref(&new)
    );
    let first = store.operations(None, 1).await.expect("reads");
    assert_eq!((first.items, first.has_more), (vec![new.clone()], true));
    let rest = store.operations(Some(new.id), 1).await.expect("reads");
    assert_eq!((rest.items, rest.has_more), (vec![ended], false));
    let unknown = OperationId::new(at(1), 1);
    assert_eq!(store.operation(unknown).await.expect("reads"), None);
    assert!(!store.update_operation(&operation(99), 0).await.expect("writes"));

    // A new one takes those along that ended long ago.
    const QUARTER: i64 = 91 * 24 * 60 * 60 * 1_000;
    store.put_operation(&operation(QUARTER)).await.expect("writes");
    assert_eq!(store.operation(old.id).await.expect("reads"), None);
    assert_eq!(store.open_operations().await.expect("reads").len(), 2);
}

/// Runs are counted as they are listed, up to a limit.
pub async fn runs_are_counted_up_to_a_limit(store: Shared) {
    for (number, name) in (0..).zip(["one", "two", "one", "two", "one"]) {
        let run = start_of(&store, name, number).await;
        if number < 2 {
            commit_all(&store, &[advance(run.id, 0, vec![ended(RunStatus::Failed, 9)])]).await;
        }
    }
    let all = RunFilter {
        limit: 100,
        ..RunFilter::default()
    };
    let of = |filter: RunFilter| {
        let store = &store;
        async move { store.count_up_to(&filter).await.expect("reads") }
    };
    assert_eq!(of(all.clone()).await, 5);
    assert_eq!(
        of(RunFilter {
            limit: 3,
            ..all.clone()
        })
        .await,
        3
    );
    let failed = vec![RunStatus::Failed];
    assert_eq!(
        of(RunFilter {
            statuses: failed.clone(),
            ..all.clone()
        })
        .await,
        2
    );
    let open = vec![RunStatus::Queued, RunStatus::Running];
    assert_eq!(
        of(RunFilter {
            statuses: open,
            ..all.clone()
        })
        .await,
        3
    );
    let ones = Some(vec![function("one"), function("three")]);
    assert_eq!(
        of(RunFilter {
            functions: ones.clone(),
            ..all.clone()
        })
        .await,
        3
    );
    let both = RunFilter {
        statuses: failed,
        functions: ones,
        from: Some(at(0)),
        until: Some(at(1)),
        ..all.clone()
    };
    assert_eq!(of(both).await, 1);
    assert_eq!(
        of(RunFilter {
            functions: Some(Vec::new()),
            ..all
        })
        .await,
        0
    );
}

/// Of the repetitions of a run the newest one is told.
pub async fn the_newest_repetition_is_found(store: Shared) {
    let (first, other) = (start(&store, 1).await, start(&store, 2).await);
    let mut newest = first.id;
    for number in 3..6 {
        let wish = event_named("again", number);
        let mut run = new_run(&wish, "one");
        run.state.original = Some(first.id);
        newest = run.state.id;
        commit_all(&store, &[accept(&wish, vec![run])]).await;
    }
    let found = store
        .newest_repetitions(&[other.id, first.id, newest])
        .await
        .expect("reads");
    assert_eq!(found, [(first.id, newest)]);
    assert_eq!(store.newest_repetitions(&[]).await.expect("reads"), []);
}
