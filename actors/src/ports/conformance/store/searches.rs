//! What people look for in a list.

use super::fixtures::*;
use crate::domain::{Change, Event, EventId, RunId, RunStatus};
use crate::ports::{EventSearch, RunPlace, RunSearch, RunSummary, RunTime};

const TIMES: [RunTime; 3] = [RunTime::Queued, RunTime::Started, RunTime::Ended];

/// Eight runs of two functions, an hour and more apart, so that no two kinds of time are in the same order: later ones have
/// started and ended earlier. Two have not started, two more have not ended, and two ended at the same time.
async fn eight_runs(store: &Shared) -> Vec<RunSummary> {
    let mut runs = Vec::new();
    for place in 0..8_i64 {
        let name = if place % 2 == 0 { "one" } else { "two" };
        let run = start_of(store, name, place * 1_000).await;
        let mut changes = Vec::new();
        if place >= 2 {
            let at = at(60_000 - place * 1_000);
            changes.push(Change::Started { at });
        }
        if place >= 4 {
            let status = [RunStatus::Completed, RunStatus::Failed][usize::from(place == 5)];
            changes.push(ended(status, 100_000 - 1_000 * (place / 2)));
        }
        if !changes.is_empty() {
            commit_all(store, &[advance(run.id, 0, changes)]).await;
        }
        runs.push(run.id);
    }
    let mut found = Vec::new();
    for run in runs {
        let view = store.run_view(run).await.expect("reads").expect("exists");
        found.push(view.summary);
    }
    found
}

async fn find(store: &Shared, search: &RunSearch) -> Vec<RunId> {
    let page = store.find_runs(search).await.expect("reads");
    page.items.iter().map(|run| run.id).collect()
}

/// In the order of the search, as it is documented.
fn sorted(mut runs: Vec<RunSummary>, search: &RunSearch) -> Vec<RunId> {
    runs.sort_by(|a, b| {
        let (a_at, b_at) = (search.order.of(a), search.order.of(b));
        let by_time = if search.ascending {
            a_at.cmp(&b_at)
        } else {
            b_at.cmp(&a_at)
        };
        by_time.then(a.id.cmp(&b.id))
    });
    runs.iter().map(|run| run.id).collect()
}

/// Status, function and any of the times decide together; a count says how many there are.
pub async fn runs_are_found_by_any_of_their_times(store: Shared) {
    let runs = eight_runs(&store).await;
    let statuses: [&[RunStatus]; 3] = [&[], &[RunStatus::Completed, RunStatus::Queued], &[RunStatus::Failed]];
    let functions = [None, Some(vec![]), Some(vec![function("two")])];
    for time in TIMES {
        for (from, until) in [
            (None, None),
            (Some(2_000), None),
            (Some(54_000), Some(98_000)),
            (None, Some(57_000)),
        ] {
            for statuses in statuses {
                for functions in &functions {
                    let search = RunSearch {
                        statuses: statuses.to_vec(),
                        functions: functions.clone(),
                        time,
                        from: from.map(at),
                        until: until.map(at),
                        limit: 100,
                        ..RunSearch::default()
                    };
                    let is_bounded = from.is_some() || until.is_some();
                    let fits = |run: &&RunSummary| {
                        let is_in_time = time.of(run).map_or(!is_bounded, |time| {
                            from.is_none_or(|from| time >= at(from)) && until.is_none_or(|until| time < at(until))
                        });
                        // A time that has not come is within no bounds; without any, only `Queued` needs none.
                        (is_in_time && (time.of(run).is_some() || time == RunTime::Queued))
                            && (statuses.is_empty() || statuses.contains(&run.status))
                            && functions.as_ref().is_none_or(|all| all.contains(&run.function))
                    };
                    let expected: Vec<_> = runs.iter().filter(fits).cloned().collect();
                    assert_eq!(
                        store.count_runs(&search).await.expect("reads"),
                        expected.len() as u64,
                        "{search:?}"
                    );
                    assert_eq!(find(&store, &search).await, sorted(expected, &search), "{search:?}");
                }
            }
        }
    }
}

/// Runs that others have put off are told from the others, in lists of every kind.
pub async fn deferred_runs_are_found(store: Shared) {
    let (plain, deferred) = (event_named("plain", 1), event_named(Event::DEFERRED, 2));
    for event in [&plain, &deferred] {
        commit_all(&store, &[accept(event, vec![new_run(event, "one")])]).await;
    }
    for (wanted, expected) in [
        (None, vec![&deferred, &plain]),
        (Some(true), vec![&deferred]),
        (Some(false), vec![&plain]),
    ] {
        for (order, functions) in [(RunTime::Queued, None), (RunTime::Started, Some(vec![function("one")]))] {
            let search = RunSearch {
                deferred: wanted,
                order,
                functions,
                limit: 10,
                ..RunSearch::default()
            };
            let mut found: Vec<_> = store.find_runs(&search).await.expect("reads").items;
            found.sort_by_key(|run| std::cmp::Reverse(run.id));
            let names: Vec<_> = found.iter().map(|run| run.event_name.as_str()).collect();
            assert_eq!(
                names,
                expected.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(),
                "{search:?}"
            );
            assert_eq!(store.count_runs(&search).await.expect("reads"), names.len() as u64);
        }
    }
}

/// Pages of any size, by any time in either direction, hold each run once and in order.
pub async fn runs_are_found_page_by_page_in_any_order(store: Shared) {
    let runs = eight_runs(&store).await;
    for order in TIMES {
        for ascending in [true, false] {
            for limit in [1, 3, 8] {
                let mut search = RunSearch {
                    order,
                    ascending,
                    limit,
                    ..RunSearch::default()
                };
                let mut found = Vec::new();
                loop {
                    let page = store.find_runs(&search).await.expect("reads");
                    search.after = page.items.last().map(|run| RunPlace {
                        id: run.id,
                        at: order.of(run),
                    });
                    found.extend(page.items.iter().map(|run| run.id));
                    assert_eq!(page.has_more, found.len() < runs.len(), "{search:?}");
                    if !page.has_more {
                        break;
                    }
                }
                assert_eq!(found, sorted(runs.clone(), &search), "{search:?}");
                assert_eq!(
                    store.count_runs(&search).await.expect("reads"),
                    8,
                    "wherever the page begins"
                );
            }
        }
    }
}

/// No name, one or several; bounds by time and by id; and a count that does not depend on the page.
pub async fn events_are_found_by_names_and_places(store: Shared) {
    let names = ["a", "b", "inngest/function.finished", "c"];
    let events: Vec<_> = (0..8)
        .map(|place| event_named(names[place % 4], 10 * i64::try_from(place).expect("small")))
        .collect();
    let writes: Vec<_> = events.iter().map(|event| accept(event, Vec::new())).collect();
    commit_all(&store, &writes).await;
    let base = EventSearch {
        limit: 10,
        ..EventSearch::default()
    };
    let named = |names: &[&str]| EventSearch {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..base.clone()
    };
    let everything = EventSearch {
        internal: true,
        ..base.clone()
    };
    let between = EventSearch {
        from: Some(at(10)),
        until: Some(at(50)),
        ..base.clone()
    };
    let cases: [(EventSearch, &[usize], u64); 8] = [
        (everything.clone(), &[7, 6, 5, 4, 3, 2, 1, 0], 8),
        (base.clone(), &[7, 5, 4, 3, 1, 0], 6),
        (named(&["b"]), &[5, 1], 2),
        (named(&["c", "a", "unknown"]), &[7, 4, 3, 0], 4),
        (named(&["inngest/function.finished"]), &[], 0),
        (between, &[4, 3, 1], 3),
        (
            EventSearch {
                before: Some(events[6].id),
                after: Some(events[2].id),
                ..everything.clone()
            },
            &[5, 4, 3],
            8,
        ),
        (EventSearch { limit: 2, ..everything }, &[7, 6], 8),
    ];
    for (search, expected, count) in cases {
        let page = store.find_events(&search).await.expect("reads");
        let found: Vec<EventId> = page.items.iter().map(|event| event.id).collect();
        let expected: Vec<EventId> = expected.iter().map(|place| events[*place].id).collect();
        assert_eq!(found, expected, "{search:?}");
        assert_eq!(page.has_more, search.limit == 2, "{search:?}");
        assert_eq!(store.count_events(&search).await.expect("reads"), count, "{search:?}");
    }
}

/// The runs of events come together, oldest first, also where a run's id does not tell its event.
pub async fn the_runs_of_several_events_come_at_once(store: Shared) {
    let (first, second, third) = (event(1), event(2), event(3));
    let mut batch = new_run(&third, "two");
    batch.state.event_ids = vec![third.id, second.id];
    batch.state.events = vec![third.body.clone(), second.body.clone()].into();
    let (one, two) = (new_run(&first, "one"), new_run(&first, "two"));
    let ids = [one.state.id, two.state.id, batch.state.id];
    commit_all(&store, &[accept(&second, Vec::new())]).await;
    commit_all(&store, &[accept(&first, vec![one, two]), accept(&third, vec![batch])]).await;

    let asked = [third.id, event(9).id, first.id, second.id];
    let found = store.runs_of_events(&asked).await.expect("reads");
    let mut pairs: Vec<_> = found.iter().map(|(event, run)| (run.id, *event)).collect();
    let mut expected = vec![
        (ids[0], first.id),
        (ids[1], first.id),
        (ids[2], second.id),
        (ids[2], third.id),
    ];
    assert!(pairs.is_sorted_by_key(|(run, _)| *run), "{pairs:?}");
    pairs.sort_unstable();
    expected.sort_unstable();
    assert_eq!(pairs, expected);
    assert!(found.iter().any(|(_, run)| run.event_ids == [third.id, second.id]));
    assert!(store.runs_of_events(&[]).await.expect("reads").is_empty());
}
