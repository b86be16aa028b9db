//! Jobs that are given up: whole, listed, and holding their runs.

use super::fixtures::*;
use crate::domain::{Change, Job, JobKey, RunStatus, StepId};
use crate::ports::{DeadLetterFilter, Except};

/// A job that is buried is no job any more and a letter, whole; its run is loaded with it and is no orphan. Unburied, it
/// is gone without a trace, and the job is what is put beside.
pub async fn what_is_buried_holds_its_run(store: Shared) {
    let mut run = start(&store, 1).await;
    let key = JobKey::Resume(StepId::from("a"));
    let resume = Job {
        attempt: 3,
        payload: Some(json(&serde_json::json!({ "data": [1, "two"] }))),
        ..job(run.id, key.clone(), 70)
    };
    let mut held = letter(run.id, key.clone(), 80);
    held.job = resume.clone();
    let decisions = [
        vec![Change::JobPut(resume.clone())],
        vec![Change::JobDone(JobKey::Start), Change::Buried(held.clone())],
    ];
    for changes in decisions {
        commit_all(&store, &[advance(run.id, run.version, changes.clone())]).await;
        changes.iter().for_each(|change| run.apply(change));
        run.version += 1;
        assert_eq!(load(&store, run.id).await.as_ref(), Some(&run));
    }
    assert_eq!(
        store
            .jobs_due(at(1_000), None, Except::default(), 10)
            .await
            .expect("reads"),
        []
    );
    assert_eq!(store.orphans(10).await.expect("reads"), []);
    assert_eq!(store.counts().await.expect("reads").dead_letters, 1);
    assert_eq!(letters(&store).await, [held.clone()]);
    assert_eq!(store.dead_letter(held.id).await.expect("reads"), Some(held.clone()));
    let view = store.run_view(run.id).await.expect("reads").expect("exists");
    assert_eq!((view.held, view.jobs), (vec![held.clone()], Vec::new()));

    let changes = vec![Change::Unburied(key), Change::JobPut(resume.clone())];
    commit_all(&store, &[advance(run.id, run.version, changes)]).await;
    assert_eq!(
        store
            .jobs_due(at(1_000), None, Except::default(), 10)
            .await
            .expect("reads"),
        [resume]
    );
    assert_eq!(letters(&store).await, []);
    assert_eq!(store.dead_letter(held.id).await.expect("reads"), None);
    assert_eq!(store.counts().await.expect("reads").dead_letters, 0);
}

/// There is one letter about a job, the latest, also within one decision and one batch.
pub async fn a_job_buried_again_has_a_new_letter(store: Shared) {
    let run = start(&store, 1).await;
    let [first, second, third, fourth] = [5, 6, 7, 8].map(|millis| letter(run.id, JobKey::Start, millis));
    let batch = [
        advance(run.id, 0, vec![Change::Buried(first.clone())]),
        advance(
            run.id,
            1,
            vec![
                Change::Unburied(JobKey::Start),
                Change::Buried(second.clone()),
                Change::Buried(third.clone()),
            ],
        ),
    ];
    commit_all(&store, &batch).await;
    assert_eq!(letters(&store).await, std::slice::from_ref(&third));
    commit_all(&store, &[advance(run.id, 2, vec![Change::Buried(fourth.clone())])]).await;
    assert_eq!(letters(&store).await, std::slice::from_ref(&fourth));
    for gone in [&first, &second, &third] {
        assert_eq!(store.dead_letter(gone.id).await.expect("reads"), None);
    }
    let state = load(&store, run.id).await.expect("is open");
    assert_eq!(state.held.values().collect::<Vec<_>>(), [&fourth]);
    // What a job put beside a letter does to the letter is the decision's business.
    let put = vec![Change::JobPut(job(run.id, JobKey::Start, 9))];
    commit_all(&store, &[advance(run.id, 3, put)]).await;
    let state = load(&store, run.id).await.expect("is open");
    assert_eq!((state.held.len(), state.jobs.len()), (1, 1));
}

/// A run that ends takes its letters along, and nobody else's.
pub async fn the_end_takes_letters_along(store: Shared) {
    let (run, bystander) = (start(&store, 1).await, start(&store, 2).await);
    let kept = letter(bystander.id, JobKey::Start, 5);
    let batch = [
        advance(run.id, 0, vec![Change::Buried(letter(run.id, JobKey::Start, 4))]),
        advance(bystander.id, 0, vec![Change::Buried(kept.clone())]),
    ];
    commit_all(&store, &batch).await;
    let changes = vec![
        Change::Buried(letter(run.id, JobKey::Cancel, 6)),
        ended(RunStatus::Cancelled, 7),
    ];
    commit_all(&store, &[advance(run.id, 1, changes)]).await;
    assert_eq!(letters(&store).await, [kept]);
    let view = store.run_view(run.id).await.expect("reads").expect("is remembered");
    assert_eq!(view.held, []);
}

/// From new to old, filtered by function and time, in pages.
pub async fn letters_are_listed_from_new_to_old(store: Shared) {
    let mut all = Vec::new();
    for (millis, name) in [(10, "one"), (11, "two"), (12, "one"), (13, "two"), (14, "three")] {
        let run = start_of(&store, name, millis).await;
        let mut letter = letter(run.id, JobKey::Start, 100 + millis);
        letter.job.function = function(name);
        commit_all(&store, &[advance(run.id, 0, vec![Change::Buried(letter.clone())])]).await;
        all.insert(0, letter);
    }
    assert_eq!(letters(&store).await, all);
    let listed = async |filter: DeadLetterFilter| {
        let page = store.dead_letters(&filter).await.expect("reads");
        (page.items, page.has_more)
    };
    let base = DeadLetterFilter {
        limit: 10,
        ..DeadLetterFilter::default()
    };
    let of_two = DeadLetterFilter {
        functions: Some(vec![function("two"), function("three")]),
        ..base.clone()
    };
    let expected = vec![all[0].clone(), all[1].clone(), all[3].clone()];
    assert_eq!(listed(of_two.clone()).await, (expected, false));
    let none = DeadLetterFilter {
        functions: Some(Vec::new()),
        ..base.clone()
    };
    assert_eq!(listed(none).await, (Vec::new(), false));
    let between = DeadLetterFilter {
        from: Some(at(111)),
        until: Some(at(113)),
        ..base.clone()
    };
    assert_eq!(listed(between).await, (all[2..4].to_vec(), false));
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let page = DeadLetterFilter {
            before,
            limit: 2,
            ..base.clone()
        };
        let (items, has_more) = listed(page).await;
        found.extend(items);
        before = found.last().map(|letter| letter.id);
        if !has_more {
            break;
        }
    }
    assert_eq!(found, all);
    let page = DeadLetterFilter {
        before: Some(all[1].id),
        limit: 1,
        ..of_two
    };
    assert_eq!(listed(page).await, (vec![all[3].clone()], false));
}
