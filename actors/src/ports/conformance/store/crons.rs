//! What is kept of crons.

use super::fixtures::*;
use crate::domain::{EventId, RunId, RunStatus, Skip, SkipReason};
use crate::ports::{CronEnd, CronGap, CronMark, GapReason, TickView};

fn mark(name: &str, schedule: &str, through: i64) -> CronMark {
    CronMark {
        function: function(name),
        schedule: schedule.to_owned(),
        since: at(1),
        through: at(through),
        ended: None,
    }
}

fn gap(name: &str, first: i64, last: i64, reason: GapReason) -> CronGap {
    CronGap {
        function: function(name),
        schedule: "* * * * *".to_owned(),
        first: at(first),
        last: at(last),
        reason,
    }
}

async fn marks(store: &Shared, name: Option<&str>) -> Vec<CronMark> {
    store.cron_marks(name.map(function)).await.expect("reads")
}

async fn gaps(store: &Shared, name: &str, from: i64, until: i64) -> Vec<CronGap> {
    let gaps = store.cron_gaps(function(name), at(from), at(until)).await;
    gaps.expect("reads")
}

/// A mark is what was last written for its function and schedule.
pub async fn marks_are_replaced(store: Shared) {
    assert_eq!(marks(&store, None).await, []);
    store.note_crons(&[], &[]).await.expect("writes");
    let daily = mark("one", "TZ=Europe/Paris 0 9 * * 1-5", 5);
    let mut all = vec![mark("one", "* * * * *", 3), daily.clone(), mark("two", "* * * * *", 4)];
    store.note_crons(&all, &[]).await.expect("writes");
    all.sort_by_key(|mark| (mark.function, mark.schedule.clone()));
    assert_eq!(marks(&store, None).await, all);
    let further = mark("one", "* * * * *", 9);
    let ended = CronMark {
        ended: Some(CronEnd {
            at: at(8),
            archived: true,
        }),
        ..daily.clone()
    };
    store
        .note_crons(&[ended.clone(), further.clone()], &[])
        .await
        .expect("writes");
    assert_eq!(marks(&store, Some("one")).await, [further.clone(), ended]);
    assert_eq!(marks(&store, Some("two")).await, [mark("two", "* * * * *", 4)]);
    // Back again, and back in time.
    store
        .note_crons(&[daily.clone(), mark("one", "* * * * *", 2)], &[])
        .await
        .expect("writes");
    assert_eq!(marks(&store, Some("one")).await, [mark("one", "* * * * *", 2), daily]);
    assert_eq!(marks(&store, Some("three")).await, []);
}

/// Gaps are found by the slots they have, and written once.
pub async fn gaps_are_found_by_time(store: Shared) {
    let all = [
        gap("one", 10, 20, GapReason::Down),
        gap("one", 21, 30, GapReason::Superseded),
        gap("one", 25, 30, GapReason::Archived),
        gap("two", 10, 40, GapReason::Removed),
    ];
    store.note_crons(&[], &all).await.expect("writes");
    let again = [gap("one", 12, 20, GapReason::Down), all[3].clone()];
    store
        .note_crons(&[mark("one", "* * * * *", 3)], &again)
        .await
        .expect("writes");
    let mut found = gaps(&store, "one", 0, 100).await;
    found.sort_by_key(|gap| gap.first);
    assert_eq!(found, all[..3]);
    assert_eq!(gaps(&store, "one", 11, 12).await, all[..1]);
    assert_eq!(gaps(&store, "one", 20, 20).await, all[..1]);
    assert_eq!(gaps(&store, "one", 0, 9).await, []);
    assert_eq!(gaps(&store, "one", 31, 99).await, []);
    assert_eq!(gaps(&store, "two", 40, 99).await, all[3..]);
}

/// A tick is shown with its run or with why there is none; unknown events are left out.
pub async fn ticks_are_shown_with_their_runs(store: Shared) {
    let run = start(&store, 1).await;
    let started = run.event_ids[0];
    let skipped = event_named("lone", 2);
    let skip = Skip {
        event: skipped.id,
        function: Some(function("one")),
        reason: SkipReason::Duplicate,
        detail: "of another".to_owned(),
    };
    let mut write = accept(&skipped, Vec::new());
    if let crate::domain::Write::Accept(accept) = &mut write {
        accept.skips.push(skip);
    }
    commit_all(&store, &[write]).await;
    let nobody = RunId::new(at(9), 9);
    let ids = [
        (skipped.id, nobody),
        (EventId::new(at(5), 5), nobody),
        (started, run.id),
    ];
    let mut ticks = store.ticks(&ids).await.expect("reads");
    ticks.sort_by_key(|tick| tick.event);
    let stored = store
        .events_by_id(&[started])
        .await
        .expect("reads")
        .pop()
        .expect("is there");
    let expected = [
        TickView {
            event: started,
            due_at: stored.ts,
            fired_at: stored.received_at,
            status: Some(RunStatus::Queued),
            skip: None,
        },
        TickView {
            event: skipped.id,
            due_at: skipped.ts,
            fired_at: skipped.received_at,
            status: None,
            skip: Some((SkipReason::Duplicate, "of another".to_owned())),
        },
    ];
    assert_eq!(ticks, expected);
    assert_eq!(store.ticks(&[]).await.expect("reads"), []);
    commit_all(&store, &[advance(run.id, 0, vec![ended(RunStatus::Failed, 7)])]).await;
    let ticks = store.ticks(&ids[2..]).await.expect("reads");
    assert_eq!(ticks[0].status, Some(RunStatus::Failed));
}

/// What was noted of slots goes with the events of their time; a schedule's mark stays while it is somebody's.
pub async fn notes_of_old_slots_are_purged(store: Shared) {
    let ended = |name: &str, millis: i64| CronMark {
        ended: Some(CronEnd {
            at: at(millis),
            archived: false,
        }),
        ..mark(name, "* * * * *", 2)
    };
    let all = [mark("one", "* * * * *", 2), ended("two", 50), ended("three", 60)];
    let old = gap("one", 10, 49, GapReason::Down);
    let young = gap("one", 10, 50, GapReason::Down);
    store.note_crons(&all, &[old, young.clone()]).await.expect("writes");
    // The run has gone nowhere, and its event is kept.
    start(&store, 1).await;
    assert_eq!(store.purge(&expiry(at(0), at(60)), 10).await.expect("purges"), 0);
    assert_eq!(gaps(&store, "one", 0, 100).await, []);
    let left: Vec<_> = marks(&store, None).await;
    assert_eq!(left.len(), 2);
    assert!(left.contains(&all[0]) && left.contains(&all[2]));
    store
        .note_crons(&[], std::slice::from_ref(&young))
        .await
        .expect("writes");
    store.purge(&expiry(at(0), at(50)), 10).await.expect("purges");
    assert_eq!(gaps(&store, "one", 0, 100).await, [young]);
}
