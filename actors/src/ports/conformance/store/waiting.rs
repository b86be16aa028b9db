//! Waits and signals.

use super::fixtures::*;
use crate::domain::{Change, Job, JobKey, Joined, Route, StepId, Take, WaitKey, Write, Written};

/// A lookup finds its own waits and no others, `None` those without an index.
pub async fn waits_are_found_by_lookup(store: Shared) {
    let run = start(&store, 1).await;
    let all = [
        wait(run.id, "a", "paid", lookup("data.id", "n7")),
        wait(run.id, "b", "paid", lookup("data.id", "n8")),
        wait(run.id, "c", "paid", lookup("data.user", "n7")),
        wait(run.id, "d", "paid", None),
        wait(run.id, "e", "other", lookup("data.id", "n7")),
    ];
    set_waits(&store, run.id, all.to_vec()).await;
    let found = |lookups: Vec<_>| {
        let store = store.clone();
        async move { waits(&store, "paid", &lookups).await }
    };
    assert_eq!(found(vec![]).await, []);
    assert_eq!(found(vec![None]).await, [all[3].clone()]);
    assert_eq!(found(vec![lookup("data.id", "n7")]).await, [all[0].clone()]);
    assert_eq!(found(vec![lookup("data.id", "n9"), lookup("data", "n7")]).await, []);
    let both = vec![lookup("data.user", "n7"), None, lookup("data.id", "n7"), None];
    assert_eq!(found(both).await, [all[0].clone(), all[2].clone(), all[3].clone()]);
    let many = (0..50).map(|i| lookup("data.id", &format!("n{i}"))).collect();
    assert_eq!(found(many).await, [all[0].clone(), all[1].clone()]);
}

/// Pages over several lookups give every wait once, in the order of (run, key).
pub async fn waits_are_paged(store: Shared) {
    let mut expected = Vec::new();
    for millis in 0..7 {
        let run = start(&store, millis).await;
        let own = vec![
            wait(run.id, "a", "paid", lookup("data.id", "n7")),
            wait(run.id, "b", "paid", None),
            wait(run.id, "c", "paid", lookup("data.id", "n8")),
        ];
        set_waits(&store, run.id, own.clone()).await;
        expected.extend(own.into_iter().take(2));
    }
    expected.sort_by_key(|a| (a.run, a.key.to_string()));
    let lookups = [None, lookup("data.id", "n7")];
    for limit in [1, 3, 100] {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = store
                .waits("paid", &lookups, after.clone(), limit)
                .await
                .expect("reads");
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some((last.run, last.key.to_string()));
            found.extend(page);
        }
        assert_eq!(found, expected, "in pages of {limit}");
    }
}

/// Each path comes once, however many wait by it; `None` if there are waits without.
pub async fn paths_are_distinct(store: Shared) {
    assert_eq!(store.wait_paths("paid").await.expect("reads"), []);
    let run = start(&store, 1).await;
    let mut own: Vec<_> = (0..20)
        .map(|i| {
            wait(
                run.id,
                &format!("a{i}"),
                "paid",
                lookup(["data.id", "data.user"][i % 2], &i.to_string()),
            )
        })
        .collect();
    own.push(wait(run.id, "b", "other", lookup("data.other", "n7")));
    set_waits(&store, run.id, own).await;
    let paths = |name: &'static str| {
        let store = store.clone();
        async move {
            let mut paths = store.wait_paths(name).await.expect("reads");
            paths.sort();
            paths
        }
    };
    let (id, user) = (Some("data.id".to_owned()), Some("data.user".to_owned()));
    assert_eq!(paths("paid").await, [id.clone(), user.clone()]);
    assert_eq!(paths("other").await, [Some("data.other".to_owned())]);
    commit_all(
        &store,
        &[advance(
            run.id,
            1,
            vec![Change::WaitPut(wait(run.id, "c", "paid", None))],
        )],
    )
    .await;
    assert_eq!(paths("paid").await, [None, id, user]);
}

/// Who waits for a signal takes it over from whoever did before, and touches no other wait.
pub async fn a_signal_has_one_waiter(store: Shared) {
    let (a, b) = (start(&store, 1).await, start(&store, 2).await);
    let event = wait(a.id, "e", "go", None);
    let other = signal(a.id, "o", "other");
    set_waits(
        &store,
        a.id,
        vec![signal(a.id, "s", "go"), event.clone(), other.clone()],
    )
    .await;
    let newer = signal(b.id, "s", "go");
    commit_all(&store, &[advance(b.id, 0, vec![Change::WaitPut(newer.clone())])]).await;
    assert_eq!(waits(&store, "go", &[None]).await, [event.clone(), newer]);
    assert_eq!(waits(&store, "other", &[None]).await, [other]);

    let within = vec![
        Change::WaitPut(signal(a.id, "first", "go")),
        Change::WaitPut(signal(a.id, "second", "go")),
    ];
    commit_all(&store, &[advance(a.id, 1, within)]).await;
    assert_eq!(
        waits(&store, "go", &[None]).await,
        [event.clone(), signal(a.id, "second", "go")]
    );

    let batch = [
        advance(a.id, 2, vec![Change::WaitPut(signal(a.id, "third", "go"))]),
        advance(b.id, 1, vec![Change::WaitPut(signal(b.id, "fourth", "go"))]),
    ];
    commit_all(&store, &batch).await;
    assert_eq!(
        waits(&store, "go", &[None]).await,
        [event, signal(b.id, "fourth", "go")]
    );
}

/// A wait that was taken over earlier in a batch can't be taken any more.
pub async fn a_signal_is_taken_over_before_it_is_taken(store: Shared) {
    let (a, b) = (start(&store, 1).await, start(&store, 2).await);
    set_waits(&store, a.id, vec![signal(a.id, "s", "go")]).await;
    let event = event_named("go", 3);
    assert_eq!(
        commit(&store, accept(&event, Vec::new())).await,
        done_unrouted(&[event.id])
    );
    let key = WaitKey::Step(StepId::from("s"));
    let take = Take {
        run: a.id,
        key: key.clone(),
        job: Job {
            attempt: 0,
            ..job(a.id, JobKey::Resume(StepId::from("s")), 5)
        },
    };
    let batch = [
        advance(b.id, 0, vec![Change::WaitPut(signal(b.id, "s", "go"))]),
        Write::Route(Route {
            event: event.id,
            runs: Vec::new(),
            joins: Vec::new(),
            skips: Vec::new(),
            takes: vec![take],
            catalog: None,
        }),
    ];
    let missed = Written::Done {
        left_out: Vec::new(),
        missed: vec![(a.id, key)],
        unrouted: Vec::new(),
        evictions: Vec::new(),
        joined: Joined::default(),
    };
    assert_eq!(store.commit(&batch).await.expect("commits"), [Written::done(), missed]);
    assert_eq!(waits(&store, "go", &[None]).await, [signal(b.id, "s", "go")]);
    assert_eq!(job_keys(&store, a.id).await, ["start"]);
}
