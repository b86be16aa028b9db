//! Gatherings: which events join one, what it holds, and its end.

mod histories;

use std::time::Duration;

pub use histories::*;

use super::fixtures::*;
use crate::domain::{
    Accept, Cadence, ClaimId, DueBy, Event, EventId, Fire, Gather, Gathered, Gathering, GatheringId, Join, Joined,
    NewRun, RateClaim, Route, RunId, RunStatus, Skip, SkipReason, Timestamp, Write, Written,
};
use crate::ports::{AuditScope, Check, Except};

const BATCH: Gather = Gather::Batch {
    max_size: 3,
    timeout: Duration::from_millis(1_000),
};
const DEBOUNCE: Gather = Gather::Debounce {
    period: Duration::from_millis(100),
    timeout: Some(Duration::from_millis(250)),
};

fn bucket(name: &str, gather: Gather) -> ClaimId {
    let key = json(&serde_json::json!(name));
    let key = Some(("event.data.id", &key));
    match gather {
        Gather::Batch { .. } => ClaimId::of_batch(function("one"), key),
        Gather::Debounce { .. } => ClaimId::of_debounce(function("one"), key),
    }
}

/// This event joins a gathering of the function `one` when it is received.
pub(super) fn join(event: &Event, name: &str, gather: Gather) -> Join {
    Join {
        id: GatheringId::derive(event.received_at, event.id, function("one")),
        function: function("one"),
        event: event.id,
        bucket: bucket(name, gather),
        gather,
        key: Some(format!("\"{name}\"")),
        at: event.received_at,
        ts: event.ts,
        bytes: 100,
        idempotency: None,
        is_awaited: false,
        rate: None,
    }
}

pub(super) fn joining(event: &Event, joins: Vec<Join>) -> Write {
    Write::Accept(Accept {
        event: event.clone(),
        runs: Vec::new(),
        joins,
        skips: Vec::new(),
        catalog: None,
    })
}

/// The end of a gathering in a run of all its events.
fn firing(gathered: &Gathered) -> Fire {
    let gathering = &gathered.gathering;
    let mut run = new_run(gathered.events.last().expect("holds events"), "one");
    let id = RunId::of_gathering(gathering.id, at(5_000));
    let events = if gathering.is_batch {
        &gathered.events[..]
    } else {
        &gathered.events[gathered.events.len() - 1..]
    };
    run.state.event_ids = events.iter().map(|event| event.id).collect();
    run.state.events = events.iter().map(|event| event.body.clone()).collect();
    run.state.batch = gathering.is_batch.then_some(gathering.id);
    run.state.id = id;
    run.job.id.run = id;
    Fire {
        gathering: gathering.id,
        bucket: gathering.bucket,
        is_batch: gathering.is_batch,
        due_by: gathering.standing.due_by,
        version: gathering.version,
        runs: vec![run],
        skips: Vec::new(),
        answers: Vec::new(),
        catalog: None,
    }
}

async fn all(store: &Shared) -> Vec<Gathering> {
    store.gatherings(function("one"), None, 10_000).await.expect("reads")
}

async fn holding(store: &Shared, id: GatheringId) -> Gathered {
    store.gathering(id).await.expect("reads").expect("has not fired")
}

async fn skips(store: &Shared, event: EventId) -> Vec<Skip> {
    store.event_view(event).await.expect("reads").expect("is known").skips
}

fn joined(written: &Written) -> &Joined {
    match written {
        Written::Done { joined, .. } => joined,
        other => panic!("{other:?}"),
    }
}

/// Each batch of events is whole, in order, and no event is in two or in none.
pub async fn hundreds_of_joins_fit_one_batch(store: Shared) {
    let gather = Gather::Batch {
        max_size: 100,
        timeout: Duration::from_secs(60),
    };
    let events: Vec<_> = (0..450).map(|n| event_named(&format!("n{n}"), 1_000)).collect();
    let writes: Vec<_> = events
        .iter()
        .map(|event| joining(event, vec![join(event, "a", gather)]))
        .collect();
    let written = store.commit(&writes).await.expect("commits");
    assert!(written.iter().all(|written| joined(written).due == Some(at(1_000))));
    // The first four are due at once.
    let due = store.due_gatherings(at(1_000), 10).await.expect("reads");
    let mut ids: Vec<EventId> = Vec::new();
    for gathered in &due {
        assert_eq!(
            (gathered.gathering.standing.due_by, gathered.events.len()),
            (DueBy::Full, 100)
        );
        ids.extend(gathered.events.iter().map(|event| event.id));
    }
    let open = store.due_gatherings(at(61_000), 10).await.expect("reads");
    let rest = open.last().expect("the last one is open");
    assert_eq!((due.len(), open.len(), rest.events.len()), (4, 5, 50));
    ids.extend(rest.events.iter().map(|event| event.id));
    // Opened at one instant, they have no order among each other.
    let mut chunks: Vec<_> = ids.chunks(100).map(<[_]>::to_vec).collect();
    chunks.sort_by_key(|chunk| events.iter().position(|event| event.id == chunk[0]));
    let expected: Vec<_> = events.iter().map(|event| event.id).collect();
    assert_eq!(chunks.concat(), expected);
}

/// By the id that their sender chose, events join once a day.
pub async fn an_event_is_gathered_once(store: Shared) {
    let keyed = |event: &Event| Join {
        idempotency: Some("order-7".to_owned()),
        ..join(event, "a", BATCH)
    };
    const DAY: i64 = 24 * 60 * 60 * 1_000;
    let events = [event(0), event(10), event(DAY - 1), event(DAY)];
    let writes = events.each_ref().map(|event| joining(event, vec![keyed(event)]));
    let written = store.commit(&writes).await.expect("commits");
    let left_out: Vec<_> = written.iter().map(|written| joined(written).left_out.clone()).collect();
    let duplicate = vec![(function("one"), SkipReason::Duplicate)];
    assert_eq!(left_out, [vec![], duplicate.clone(), duplicate, vec![]]);
    assert_eq!(joined(&written[1]).due, None);
    let skips = skips(&store, events[1].id).await;
    assert_eq!((skips.len(), skips[0].function), (1, Some(function("one"))));
    assert_eq!(skips[0].detail, keyed(&events[1]).duplicate());
    // What has been purged by then may join again.
    store
        .purge(&expiry(at(3 * DAY), at(3 * DAY)), 100)
        .await
        .expect("purges");
    let last = event(3 * DAY);
    let written = commit(&store, joining(&last, vec![keyed(&last)])).await;
    assert_eq!(joined(&written).left_out, []);
}

/// An event that is known, or an unknown one that is routed, joins nothing.
pub async fn what_is_lost_joins_nothing(store: Shared) {
    let event = event(1);
    commit_all(&store, &[accept(&event, Vec::new())]).await;
    let keyed = Join {
        idempotency: Some("key".to_owned()),
        ..join(&event, "a", BATCH)
    };
    let again = joining(&event, vec![keyed.clone(), join(&event, "a", DEBOUNCE)]);
    assert_eq!(commit(&store, again).await, Written::Lost);
    let route = Write::Route(Route {
        event: event.id,
        runs: Vec::new(),
        joins: vec![keyed.clone()],
        skips: Vec::new(),
        takes: Vec::new(),
        catalog: None,
    });
    assert_eq!(commit(&store, route).await, Written::Lost);
    assert_eq!(all(&store).await, []);
    let other = event_named("other", 2);
    let join = Join {
        event: other.id,
        ..keyed
    };
    let written = commit(&store, joining(&other, vec![join])).await;
    assert_eq!(joined(&written).left_out, [], "nor is its key taken");
}

/// An event whose place is taken says by whom; one that comes late says so too.
pub async fn what_a_debounce_does_not_start_with_is_recorded(store: Shared) {
    let [first, second] = [event(0), event(10)];
    let mut late = event(20);
    late.ts = at(5);
    let due = at(110);
    for (event, replaced) in [(&first, vec![]), (&second, vec![first.id])] {
        let written = commit(&store, joining(event, vec![join(event, "a", DEBOUNCE)])).await;
        assert_eq!(joined(&written).replaced, replaced);
    }
    let written = commit(&store, joining(&late, vec![join(&late, "a", DEBOUNCE)])).await;
    assert_eq!(joined(&written).left_out, [(function("one"), SkipReason::Debounced)]);
    let skip = |event: &Event, detail: String| Skip {
        event: event.id,
        function: Some(function("one")),
        reason: SkipReason::Debounced,
        detail,
    };
    let of_first = skip(&first, crate::domain::replaced_by(second.id));
    assert_eq!(skips(&store, first.id).await, [of_first]);
    let of_late = skip(&late, crate::domain::LATE_TO_DEBOUNCE.to_owned());
    assert_eq!(skips(&store, late.id).await, [of_late]);
    assert_eq!(store.next_gathering().await.expect("reads"), Some(due));
    assert_eq!(store.due_gatherings(at(109), 10).await.expect("reads"), []);
    let found = store.due_gatherings(due, 10).await.expect("reads");
    let gathering = &found[0].gathering;
    assert_eq!((found.len(), &found[0].events), (1, &vec![second.clone()]));
    assert_eq!((gathering.standing.count, gathering.key.as_deref()), (2, Some("\"a\"")));
    let view = store.event_view(second.id).await.expect("reads").expect("is known");
    assert_eq!((view.gatherings, view.skips), (vec![gathering.clone()], vec![]));
    // Joined by several in one commit, it is the same.
    let events: Vec<_> = (30..60).map(event).collect();
    let writes: Vec<_> = events
        .iter()
        .map(|event| joining(event, vec![join(event, "b", DEBOUNCE)]))
        .collect();
    let written = store.commit(&writes).await.expect("commits");
    let replaced: Vec<_> = written
        .iter()
        .flat_map(|written| joined(written).replaced.clone())
        .collect();
    let expected: Vec<_> = events[..29].iter().map(|event| event.id).collect();
    assert_eq!(replaced, expected);
    let found = store.due_gatherings(at(159), 10).await.expect("reads");
    assert_eq!(found[1].events, events[29..]);
}

/// For whom somebody waits is held until the end, before the one that a debounce starts with.
pub async fn an_awaited_event_stays_in_a_debounce(store: Shared) {
    let events: Vec<_> = (0..5).map(event).collect();
    let write = |event: &Event, is_awaited| {
        let join = Join {
            is_awaited,
            ..join(event, "a", DEBOUNCE)
        };
        joining(event, vec![join])
    };
    // Alone, and several together.
    commit(&store, write(&events[0], true)).await;
    let batch = [
        write(&events[1], false),
        write(&events[2], true),
        write(&events[3], false),
    ];
    store.commit(&batch).await.expect("commits");
    let held = |found: &[Gathered]| found[0].events.iter().map(|event| event.id).collect::<Vec<_>>();
    let found = store.due_gatherings(at(1_000), 10).await.expect("reads");
    assert_eq!(held(&found), [events[0].id, events[2].id, events[3].id]);
    commit(&store, write(&events[4], false)).await;
    let found = store.due_gatherings(at(1_000), 10).await.expect("reads");
    assert_eq!(held(&found), [events[0].id, events[2].id, events[4].id]);
    commit_all(&store, &[Write::Fire(firing(&found[0]))]).await;
    let view = store.event_view(events[2].id).await.expect("reads").expect("is known");
    assert_eq!((view.gatherings.len(), view.runs.len(), view.skips.len()), (0, 0, 1));
}

/// The run has all events, each of which tells of it; a second attempt, or one with what has been read before another
/// event joined, changes nothing at all.
pub async fn a_gathering_fires_once(store: Shared) {
    let events: Vec<_> = (0..2).map(event).collect();
    for event in &events {
        commit(&store, joining(event, vec![join(event, "a", BATCH)])).await;
    }
    let id = all(&store).await[0].id;
    let stale = holding(&store, id).await;
    let further = event(2);
    commit(&store, joining(&further, vec![join(&further, "a", BATCH)])).await;
    let answer = event_named("inngest/function.finished", 9);
    let with_all = |mut fire: Fire| {
        fire.answers = vec![answer.clone()];
        fire.skips = vec![Skip {
            event: events[0].id,
            function: Some(function("two")),
            reason: SkipReason::Archived,
            detail: "gone".to_owned(),
        }];
        Write::Fire(fire)
    };
    assert_eq!(commit(&store, with_all(firing(&stale))).await, Written::Lost);
    let run = firing(&holding(&store, id).await).runs[0].clone();
    assert!(load(&store, run.state.id).await.is_none());
    assert_eq!(skips(&store, events[0].id).await, []);
    assert_eq!(unrouted(&store).await, []);

    let fresh = holding(&store, id).await;
    assert_eq!(fresh.events.len(), 3);
    let fire = with_all(firing(&fresh));
    let written = store.commit(&[fire.clone(), fire.clone()]).await.expect("commits");
    assert_eq!(written, [done_unrouted(&[answer.id]), Written::Lost]);
    assert_eq!(commit(&store, fire).await, Written::Lost);
    assert_eq!(
        (store.gathering(id).await.expect("reads"), all(&store).await),
        (None, vec![])
    );
    assert_eq!(store.next_gathering().await.expect("reads"), None);
    let state = load(&store, run.state.id).await.expect("was created");
    assert_eq!(state, run.state);
    assert_eq!(state.batch, Some(id));
    for event in events.iter().chain([&further]) {
        let view = store.event_view(event.id).await.expect("reads").expect("is known");
        assert_eq!(
            (view.runs.len(), view.runs[0].id, view.runs[0].batch),
            (1, state.id, Some(id))
        );
        assert_eq!(view.gatherings, []);
    }
    assert_eq!(skips(&store, events[0].id).await[0].reason, SkipReason::Archived);
    assert_eq!(unrouted(&store).await, [answer.id]);
    let due = store
        .jobs_due(at(9_000), None, Except::default(), 10)
        .await
        .expect("reads");
    assert_eq!(due, [run.job]);
}

/// With a catalog that is no longer the newest nothing joins and nothing fires.
pub async fn what_gathers_by_an_older_catalog_is_outdated(store: Shared) {
    let first = event(1);
    commit(&store, joining(&first, vec![join(&first, "a", BATCH)])).await;
    let found = all(&store).await;
    let before = store.catalog().await.expect("reads").revision;
    super::catalog::register(&store).await;
    let matched = |catalog| {
        let fire = Fire {
            catalog: Some(catalog),
            ..firing(&Gathered {
                gathering: found[0].clone(),
                events: vec![first.clone()],
            })
        };
        let late = event(2);
        let accept = Accept {
            joins: vec![join(&late, "b", BATCH)],
            event: late,
            runs: Vec::new(),
            skips: Vec::new(),
            catalog: Some(catalog),
        };
        [Write::Fire(fire), Write::Accept(accept)]
    };
    let written = store.commit(&matched(before)).await.expect("commits");
    assert_eq!(written, [Written::Outdated, Written::Outdated]);
    assert_eq!(all(&store).await, found);
    let revision = store.catalog().await.expect("reads").revision;
    let written = store.commit(&matched(revision)).await.expect("commits");
    assert!(
        written.iter().all(|written| matches!(written, Written::Done { .. })),
        "{written:?}"
    );
    let left = all(&store).await;
    assert_eq!((left.len(), left[0].bucket), (1, bucket("b", BATCH)));
}

/// What the run of a debounce is refused for its key is recorded of its event.
pub async fn a_fired_run_may_be_a_duplicate(store: Shared) {
    let first = event(0);
    commit_all(&store, &[accept(&first, vec![keyed_run(&first, "one", "order-7")])]).await;
    let second = event(10);
    commit(&store, joining(&second, vec![join(&second, "a", DEBOUNCE)])).await;
    let found = store.due_gatherings(at(1_000), 10).await.expect("reads");
    let mut fire = firing(&found[0]);
    fire.runs[0].idempotency = Some("order-7".to_owned());
    let written = commit(&store, Write::Fire(fire)).await;
    let Written::Done { left_out, .. } = written else {
        panic!("{written:?}")
    };
    assert_eq!((left_out.len(), left_out[0].reason), (1, Some(SkipReason::Duplicate)));
    let skips = skips(&store, second.id).await;
    assert_eq!((skips.len(), skips[0].reason), (1, SkipReason::Duplicate));
    assert_eq!(all(&store).await, []);
}

/// A rate limit comes before the gathering, and tells whoever has invoked.
pub async fn a_rate_limit_keeps_events_from_joining(store: Shared) {
    let refusal = event_named("inngest/function.finished", 9);
    let limited = |event: &Event| Join {
        rate: Some(RateClaim {
            bucket: ClaimId::of_rate(function("one"), None),
            rate: Cadence {
                interval: 1_000_000_000,
                tolerance: 0,
            },
            at: event.received_at,
            reason: SkipReason::RateLimited,
            rule: "not before ".to_owned(),
            refusal: Some(Box::new(refusal.clone())),
        }),
        ..join(event, "a", DEBOUNCE)
    };
    let events = [event(0), event(10)];
    let writes = events.each_ref().map(|event| joining(event, vec![limited(event)]));
    let written = store.commit(&writes).await.expect("commits");
    assert_eq!(joined(&written[0]).left_out, []);
    assert_eq!(
        joined(&written[1]).left_out,
        [(function("one"), SkipReason::RateLimited)]
    );
    assert_eq!(
        skips(&store, events[1].id).await[0].detail,
        "not before 2025-06-15T15:06:41.000Z"
    );
    assert_eq!(unrouted(&store).await, [refusal.id]);
    let found = store.due_gatherings(at(1_000), 10).await.expect("reads");
    assert_eq!((found.len(), found[0].events.len()), (1, 1));
}

/// The first due come first; large ones come a few at a time.
pub async fn due_gatherings_come_in_portions(store: Shared) {
    for (millis, name) in [(0, "a"), (1, "b"), (2, "c")] {
        let event = event(millis);
        let join = Join {
            bytes: crate::ports::DUE_BYTES / 2,
            ..join(&event, name, DEBOUNCE)
        };
        commit(&store, joining(&event, vec![join])).await;
    }
    let due = |until, limit| {
        let store = &store;
        async move {
            let due = store.due_gatherings(at(until), limit).await.expect("reads");
            due.iter()
                .map(|one| one.gathering.standing.opened_at)
                .collect::<Vec<Timestamp>>()
        }
    };
    assert_eq!(due(1_000, 10).await, [at(0), at(1)], "by their bytes");
    assert_eq!(due(1_000, 1).await, [at(0)]);
    assert_eq!(due(100, 10).await, [at(0)]);
    assert_eq!(due(99, 10).await, []);
    let first = all(&store).await[0].id;
    let rest = store.gatherings(function("one"), Some(first), 1).await.expect("reads");
    assert_eq!(rest[0].standing.opened_at, at(1));
    assert_eq!(store.gatherings(function("two"), None, 10).await.expect("reads"), []);
}

/// However old it is.
pub async fn what_is_gathered_is_not_purged(store: Shared) {
    let [replaced, kept] = [event(0), event(1)];
    for event in [&replaced, &kept] {
        commit(&store, joining(event, vec![join(event, "a", DEBOUNCE)])).await;
    }
    let expiry = expiry(at(1_000_000_000), at(1_000_000_000));
    assert_eq!(store.purge(&expiry, 100).await.expect("purges"), 1);
    assert_eq!(store.event_view(replaced.id).await.expect("reads"), None);
    let found = store.due_gatherings(at(1_000), 10).await.expect("reads");
    assert_eq!(found[0].events, std::slice::from_ref(&kept));
    commit_all(&store, &[Write::Fire(firing(&found[0]))]).await;
    assert_eq!(store.purge(&expiry, 100).await.expect("purges"), 0, "its run is open");
    let run = store.event_view(kept.id).await.expect("reads").expect("is there").runs[0].id;
    commit_all(&store, &[advance(run, 0, vec![ended(RunStatus::Completed, 10)])]).await;
    assert_eq!(store.purge(&expiry, 100).await.expect("purges"), 2);
}

/// One that nobody fires, and one that has lost its events.
pub async fn stray_gatherings_are_found(store: Shared) {
    let [early, late] = [event(0), event(10)];
    for (event, name) in [(&early, "a"), (&late, "b")] {
        commit(&store, joining(event, vec![join(event, name, DEBOUNCE)])).await;
    }
    let scope = |now| AuditScope {
        now: at(now),
        overdue_after: Duration::from_secs(1),
        rows: 100,
    };
    assert_eq!(store.audit(&scope(1_100)).await.expect("reads"), []);
    let found = store.audit(&scope(1_105)).await.expect("reads");
    let first = all(&store).await[0].id.to_string();
    assert_eq!((found.len(), found[0].check), (1, Check::OverdueGathering));
    assert_eq!(found[0].samples, [first]);
    // An event that was never there.
    let unknown = event_named("unknown", 20);
    let write = Write::Accept(Accept {
        event: event(30),
        runs: Vec::<NewRun>::new(),
        joins: vec![join(&unknown, "c", DEBOUNCE)],
        skips: Vec::new(),
        catalog: None,
    });
    commit(&store, write).await;
    let found = store.audit(&scope(1_000)).await.expect("reads");
    assert_eq!(
        (found.len(), found[0].check, found[0].count),
        (1, Check::EmptyGathering, 1)
    );
}
