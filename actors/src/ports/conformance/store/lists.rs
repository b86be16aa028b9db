//! What people, the scheduler and the auditor ask.

use super::fixtures::*;
use crate::domain::{
    Accept, Change, Deadline, Event, EventId, HistoryKind, Job, JobKey, RunId, RunStatus, Skip, SkipReason, StepId,
    StepState, Write,
};
use crate::ports::{Counts, EventFilter, Except, JobView, RunFilter, RunSummary, StepView, WaitView};

/// Jobs come by due time, each once however they are paged, and from before `until` only.
pub async fn jobs_come_by_due_time(store: Shared) {
    let mut expected = Vec::new();
    for millis in 0..5 {
        let run = start(&store, millis).await;
        let own = [
            job(run.id, JobKey::Wake(StepId::from("a")), 50),
            job(run.id, JobKey::Cancel, 40 - millis),
            job(run.id, JobKey::Discover(StepId::from("b")), 100),
        ];
        let mut changes: Vec<_> = own.iter().cloned().map(Change::JobPut).collect();
        changes.push(Change::JobDone(JobKey::Start));
        commit_all(&store, &[advance(run.id, 0, changes)]).await;
        expected.extend(own.into_iter().take(2));
    }
    let sorted = |mut jobs: Vec<Job>| {
        jobs.sort_by(|a, b| (a.due, &a.id).cmp(&(b.due, &b.id)));
        jobs
    };
    let expected = sorted(expected);
    for limit in [1, 3, 100] {
        let mut found: Vec<Job> = Vec::new();
        let mut after = None;
        loop {
            let page = store
                .jobs_due(at(100), after.clone(), Except::default(), limit)
                .await
                .expect("reads");
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some((last.due, last.id.clone()));
            found.extend(page);
        }
        assert!(found.is_sorted_by_key(|job| job.due), "in pages of {limit}");
        assert_eq!(sorted(found), expected, "in pages of {limit}");
    }
    assert_eq!(store.next_due(at(0)).await.expect("reads"), Some(at(36)));
    assert_eq!(store.next_due(at(36)).await.expect("reads"), Some(at(36)));
    assert_eq!(store.next_due(at(51)).await.expect("reads"), Some(at(100)));
    assert_eq!(store.next_due(at(101)).await.expect("reads"), None);
}

/// The jobs of some functions can be left out, and the pages are full of the others' nevertheless.
pub async fn jobs_of_some_functions_are_left_out(store: Shared) {
    for number in 0..6 {
        let event = event(number);
        let name = ["one", "two", "three"][usize::try_from(number % 3).expect("small")];
        let runs = vec![new_run(&event, name)];
        commit_all(&store, &[accept(&event, runs)]).await;
    }
    let except = Except {
        functions: &[function("one"), function("three")],
        calls_of: &[],
    };
    let page = store.jobs_due(at(100), None, except, 2).await.expect("reads");
    assert_eq!(page.len(), 2);
    assert!(page.iter().all(|job| job.function == function("two")), "{page:?}");
    let after = page.last().map(|job| (job.due, job.id.clone()));
    assert_eq!(store.jobs_due(at(100), after, except, 2).await.expect("reads"), []);
}

/// The calls of some functions can be left out. What else their runs have to do is not.
pub async fn calls_of_some_functions_are_left_out(store: Shared) {
    let step = StepId::from("a");
    let kinds = [
        JobKey::Discover(step.clone()),
        JobKey::Step(step.clone()),
        JobKey::Wake(step.clone()),
        JobKey::Timeout(step.clone()),
        JobKey::Resume(step),
        JobKey::Cancel,
        JobKey::Deadline(Deadline::Finish),
    ];
    for (number, name) in (0..).zip(["one", "two"]) {
        let event = event(number);
        let run = new_run(&event, name);
        let state = run.state.clone();
        commit_all(&store, &[accept(&event, vec![run])]).await;
        let puts = kinds.iter().map(|key| {
            Change::JobPut(Job {
                function: function(name),
                ..job(state.id, key.clone(), 20)
            })
        });
        commit_all(&store, &[advance(state.id, 0, puts.collect())]).await;
    }
    let except = Except {
        functions: &[],
        calls_of: &[function("one"), function("three")],
    };
    let due = store.jobs_due(at(100), None, except, 100).await.expect("reads");
    let of = |name: &str| due.iter().filter(|job| job.function == function(name)).count();
    assert_eq!((of("one"), of("two")), (5, 8), "{due:?}");
    let calls = due.iter().filter(|job| job.id.key.is_call());
    assert!(calls.clone().count() == 3 && calls.clone().all(|job| job.function == function("two")));
    // Beside functions that are left out as a whole, and in pages.
    let except = Except {
        functions: &[function("two")],
        ..except
    };
    let first = store.jobs_due(at(100), None, except, 3).await.expect("reads");
    let after = first.last().map(|job| (job.due, job.id.clone()));
    let rest = store.jobs_due(at(100), after, except, 3).await.expect("reads");
    assert_eq!((first.len(), rest.len()), (3, 2));
    assert!(
        first
            .iter()
            .chain(&rest)
            .all(|job| job.function == function("one") && !job.id.key.is_call())
    );
}

/// Events come in the order asked for, as often as asked for; unknown ones are left out.
pub async fn events_come_in_the_order_asked(store: Shared) {
    let events = [event(1), event(2), event(3)];
    for event in &events {
        commit_all(&store, &[accept(event, Vec::new())]).await;
    }
    let asked = [events[2].id, event(9).id, events[0].id, events[1].id];
    let found = store.events_by_id(&asked).await.expect("reads");
    assert_eq!(found, [events[2].clone(), events[0].clone(), events[1].clone()]);
}

/// The events of a name and of a time, in pages from old to new.
pub async fn events_of_a_name_come_from_old_to_new(store: Shared) {
    let events: Vec<Event> = (0..6)
        .map(|n| event_named(["a", "b"][n % 2], 10 * i64::try_from(n).expect("small")))
        .collect();
    let writes: Vec<_> = events.iter().map(|event| accept(event, Vec::new())).collect();
    commit_all(&store, &writes).await;
    let named = |from, until, after, limit| {
        let store = store.clone();
        async move {
            let found = store.events_named("a", at(from), at(until), after, limit).await;
            found.expect("reads")
        }
    };
    let expected = [events[0].clone(), events[2].clone(), events[4].clone()];
    assert_eq!(named(0, 100, None, 10).await, expected);
    assert_eq!(named(0, 40, None, 10).await, expected[..2], "before the end");
    assert_eq!(named(20, 100, None, 1).await, expected[1..2], "from the beginning on");
    assert_eq!(named(20, 100, Some(events[2].id), 10).await, expected[2..]);
    assert_eq!(named(41, 100, None, 10).await, []);
    // By when they were received, also where their sender's clock says otherwise.
    let slow = Event {
        received_at: at(240_000),
        ..event_named("a", 5)
    };
    commit_all(&store, &[accept(&slow, Vec::new())]).await;
    assert_eq!(named(100, 300_000, None, 10).await, [slow]);
}

/// Filters and pages of events.
pub async fn events_are_listed_from_new_to_old(store: Shared) {
    let mut events: Vec<Event> = Vec::new();
    for millis in 0..6 {
        events.push(event_named(
            ["a", "b", "inngest/function.finished"][millis % 3],
            10 * i64::try_from(millis).expect("small"),
        ));
    }
    let writes: Vec<_> = events.iter().map(|event| accept(event, Vec::new())).collect();
    commit_all(&store, &writes).await;
    let list = |filter: EventFilter| {
        let store = store.clone();
        async move {
            let page = store.list_events(&filter).await.expect("reads");
            let ids: Vec<EventId> = page.items.iter().map(|event| event.id).collect();
            (ids, page.has_more)
        }
    };
    let ids = |indices: &[usize]| indices.iter().map(|index| events[*index].id).collect::<Vec<_>>();
    let base = EventFilter {
        internal: true,
        limit: 10,
        ..EventFilter::default()
    };
    assert_eq!(list(base.clone()).await, (ids(&[5, 4, 3, 2, 1, 0]), false));
    let page = EventFilter {
        limit: 4,
        ..base.clone()
    };
    assert_eq!(list(page.clone()).await, (ids(&[5, 4, 3, 2]), true));
    let before = Some(events[2].id);
    assert_eq!(list(EventFilter { before, ..page }).await, (ids(&[1, 0]), false));
    let exact = EventFilter {
        limit: 6,
        ..base.clone()
    };
    assert!(!list(exact).await.1, "nothing behind the last one");
    let outside = EventFilter {
        internal: false,
        ..base.clone()
    };
    assert_eq!(list(outside).await.0, ids(&[4, 3, 1, 0]));
    let name = Some("b".to_owned());
    assert_eq!(list(EventFilter { name, ..base.clone() }).await.0, ids(&[4, 1]));
    let between = EventFilter {
        from: Some(at(20)),
        until: Some(at(40)),
        ..base
    };
    assert_eq!(list(between).await.0, ids(&[3, 2]));
}

/// Filters and pages of runs.
pub async fn runs_are_listed_from_new_to_old(store: Shared) {
    let names = ["one", "two", "three"];
    let outcomes = [
        None,
        Some(RunStatus::Completed),
        Some(RunStatus::Failed),
        Some(RunStatus::Cancelled),
    ];
    let mut runs: Vec<RunId> = Vec::new();
    for (index, millis) in (0..12).map(|index| (index, 10 * i64::try_from(index).expect("small"))) {
        let run = start_of(&store, names[index % 3], millis).await;
        let mut changes = vec![Change::Started { at: at(millis + 1) }];
        changes.extend(outcomes[index % 4].map(|status| ended(status, millis + 2)));
        commit_all(&store, &[advance(run.id, 0, changes)]).await;
        runs.push(run.id);
    }
    let list = |filter: RunFilter| {
        let store = store.clone();
        async move {
            let page = store.list_runs(&filter).await.expect("reads");
            let ids: Vec<RunId> = page.items.iter().map(|run| run.id).collect();
            (ids, page.has_more)
        }
    };
    let ids = |indices: &[usize]| indices.iter().map(|index| runs[*index]).collect::<Vec<_>>();
    let base = RunFilter {
        limit: 100,
        ..RunFilter::default()
    };
    let all: Vec<_> = (0..12).rev().collect();
    assert_eq!(list(base.clone()).await, (ids(&all), false));
    let page = RunFilter {
        limit: 5,
        ..base.clone()
    };
    assert_eq!(list(page.clone()).await, (ids(&[11, 10, 9, 8, 7]), true));
    let before = Some(runs[7]);
    assert_eq!(
        list(RunFilter { before, ..page.clone() }).await,
        (ids(&[6, 5, 4, 3, 2]), true)
    );
    let before = Some(runs[2]);
    assert_eq!(list(RunFilter { before, ..page }).await, (ids(&[1, 0]), false));

    let of = |functions: &[&str]| Some(functions.iter().map(|name| function(name)).collect());
    let some = |functions, statuses: &[RunStatus]| RunFilter {
        functions,
        statuses: statuses.to_vec(),
        ..base.clone()
    };
    use RunStatus::{Cancelled, Completed, Failed, Queued, Running};
    assert_eq!(list(some(of(&["two"]), &[])).await.0, ids(&[10, 7, 4, 1]));
    assert_eq!(
        list(some(of(&["two", "one"]), &[])).await.0,
        ids(&[10, 9, 7, 6, 4, 3, 1, 0])
    );
    assert_eq!(list(some(of(&[]), &[])).await, (vec![], false));
    assert_eq!(list(some(None, &[Running, Queued])).await.0, ids(&[8, 4, 0]));
    assert_eq!(list(some(None, &[Queued])).await.0, []);
    assert_eq!(
        list(some(None, &[Cancelled, Failed])).await.0,
        ids(&[11, 10, 7, 6, 3, 2])
    );
    assert_eq!(list(some(None, &[Completed])).await.0, ids(&[9, 5, 1]));
    assert_eq!(
        list(some(None, &[Completed, Running])).await.0,
        ids(&[9, 8, 5, 4, 1, 0])
    );
    assert_eq!(list(some(of(&["one", "two"]), &[Failed])).await.0, ids(&[10, 6]));
    let many: Vec<_> = (0..30)
        .map(|i| function(&format!("unknown-{i}")))
        .chain([function("three")])
        .collect();
    assert_eq!(list(some(Some(many), &[])).await.0, ids(&[11, 8, 5, 2]));
    let mut two = some(of(&["two", "one"]), &[]);
    two.limit = 3;
    two.before = Some(runs[9]);
    assert_eq!(list(two).await, (ids(&[7, 6, 4]), true));
    let between = RunFilter {
        from: Some(at(20)),
        until: Some(at(50)),
        ..base
    };
    assert_eq!(list(between).await.0, ids(&[4, 3, 2]));
}

/// An event's runs are found even where they were started by it only among others.
pub async fn an_event_is_shown_with_what_became_of_it(store: Shared) {
    let (first, second) = (event(1), event(60_000));
    let mut runs = vec![new_run(&first, "one"), new_run(&first, "two")];
    runs.sort_by_key(|run| run.state.id);
    let skips = vec![Skip {
        event: first.id,
        function: Some(function("three")),
        reason: SkipReason::ExpressionFalse,
        detail: "no".to_owned(),
    }];
    let write = Write::Accept(Accept {
        event: first.clone(),
        runs: runs.clone(),
        joins: Vec::new(),
        skips: skips.clone(),
        catalog: None,
    });
    commit_all(&store, &[write]).await;
    let mut batch = new_run(&second, "batch");
    batch.state.event_ids = vec![first.id, second.id];
    batch.state.events = vec![first.body.clone(), second.body.clone()].into();
    commit_all(&store, &[accept(&second, vec![batch.clone()])]).await;
    assert_eq!(load(&store, batch.state.id).await.as_ref(), Some(&batch.state));

    let view = store.event_view(first.id).await.expect("reads").expect("is known");
    assert_eq!((view.event, view.skips), (first, skips));
    let ids: Vec<_> = view.runs.iter().map(|run| run.id).collect();
    assert_eq!(ids, [runs[0].state.id, runs[1].state.id, batch.state.id]);
    let view = store.event_view(second.id).await.expect("reads").expect("is known");
    assert_eq!(view.runs.len(), 1);
    assert_eq!(view.runs[0].event_ids, batch.state.event_ids);
    assert_eq!(store.event_view(event(9).id).await.expect("reads"), None);
}

/// Everything that is known of a run.
pub async fn a_run_is_shown_with_all_of_it(store: Shared) {
    let run = start(&store, 1).await;
    let failed = StepState::Done {
        memo: json(&serde_json::json!({"error": {"name": "E", "message": "m"}})),
        failed: true,
        position: 1,
        at: at(8),
    };
    let changes = vec![
        Change::Started { at: at(2) },
        Change::StepPut(step("planned", StepState::Planned)),
        Change::StepPut(step("parked", StepState::Parked { until: at(90) })),
        Change::StepPut(step("done", done(0, "x"))),
        Change::StepPut(step("failed", failed)),
        Change::WaitPut(wait(run.id, "parked", "paid", lookup("data.id", "n7"))),
        Change::JobPut(Job {
            attempt: 2,
            ..job(run.id, JobKey::Timeout(StepId::from("parked")), 90)
        }),
        noted(HistoryKind::RunStarted, 0),
    ];
    commit_all(&store, &[advance(run.id, 0, changes)]).await;
    let view = store.run_view(run.id).await.expect("reads").expect("exists");
    let summary = RunSummary {
        id: run.id,
        function: function("one"),
        function_version: 0,
        status: RunStatus::Running,
        event_ids: run.event_ids.clone(),
        batch: None,
        event_name: run.event_name.clone(),
        started_at: Some(at(2)),
        ended_at: None,
        output: None,
        original: None,
    };
    assert_eq!(view.summary, summary);
    let base = |id: &str, status| StepView {
        id: StepId::from(id),
        op: crate::domain::StepOp::Run,
        label: format!("the step {id}"),
        status,
        started_at: at(3),
        ended_at: None,
        until: None,
        memo: None,
        position: None,
    };
    let expected = [
        base("planned", "planned"),
        StepView {
            until: Some(at(90)),
            ..base("parked", "parked")
        },
        StepView {
            ended_at: Some(at(7)),
            memo: Some(json(&serde_json::json!({"data": "x"}))),
            position: Some(0),
            ..base("done", "completed")
        },
        StepView {
            ended_at: Some(at(8)),
            memo: Some(json(&serde_json::json!({"error": {"name": "E", "message": "m"}}))),
            position: Some(1),
            ..base("failed", "failed")
        },
    ];
    assert_eq!(view.steps, expected);
    let job = |key: &str, attempt, due| JobView {
        key: key.to_owned(),
        attempt,
        due: at(due),
    };
    assert_eq!(view.jobs, [job("start", 0, 1), job("timeout:parked", 2, 90)]);
    let expected = WaitView {
        kind: "event",
        step: Some(StepId::from("parked")),
        name: "paid".to_owned(),
        condition: Some("async.data.id == 7".to_owned()),
        expires_at: at(1_000),
    };
    assert_eq!(view.waits, [expected]);
    assert_eq!(view.history.len(), 1);
    let unknown = new_run(&event(9), "one").state.id;
    assert_eq!(store.run_view(unknown).await.expect("reads"), None);
}

/// Open runs without a job are found; runs that have ended are none.
pub async fn runs_without_a_job_are_found(store: Shared) {
    let (orphan, ended_run, fine) = (start(&store, 1).await, start(&store, 2).await, start(&store, 3).await);
    assert_eq!(orphans(&store).await, []);
    let batch = [
        advance(orphan.id, 0, vec![Change::JobDone(JobKey::Start)]),
        advance(ended_run.id, 0, vec![ended(RunStatus::Completed, 5)]),
    ];
    commit_all(&store, &batch).await;
    assert_eq!(orphans(&store).await, [orphan.id]);
    // One run after another: the orphan is the first of the two that are open.
    let first = store.orphans(None, 1).await.expect("reads");
    assert_eq!((first.runs, first.next), (vec![orphan.id], Some(orphan.id)));
    let second = store.orphans(Some(orphan.id), 1).await.expect("reads");
    assert_eq!((second.runs, second.next), (vec![], Some(fine.id)));
    let rest = store.orphans(Some(fine.id), 1).await.expect("reads");
    assert_eq!((rest.runs, rest.next), (vec![], None));
    assert_eq!(store.orphans(None, 3).await.expect("reads").next, None, "there are two");
}

/// Every question has an answer when there is nothing.
pub async fn an_empty_store_has_nothing(store: Shared) {
    store.ping().await.expect("answers");
    assert_eq!(store.counts().await.expect("reads"), Counts::default());
    assert_eq!(store.load_runs(&[]).await.expect("reads"), []);
    assert_eq!(
        store.jobs_due(at(1), None, Except::default(), 10).await.expect("reads"),
        []
    );
    assert_eq!(store.next_due(at(0)).await.expect("reads"), None);
    assert_eq!(store.unrouted(10).await.expect("reads"), []);
    assert_eq!(store.events_by_id(&[]).await.expect("reads"), []);
    assert_eq!(store.catalog().await.expect("reads").apps, []);
    assert_eq!(store.nodes().await.expect("reads"), []);
    assert_eq!(letters(&store).await, []);
    assert_eq!(store.purge(&expiry(at(1), at(1)), 10).await.expect("purges"), 0);
    assert!(!store.remove_app("http://nowhere").await.expect("writes"));
}
