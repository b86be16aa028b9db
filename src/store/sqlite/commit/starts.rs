//! Rate limits, locks and gatherings: read, decided upon in [`Starts`] and [`Joins`], and written with the effects.
//!
//! One more trip to SQLite, made only for segments with runs that claim some, or events that join one. The transaction is open by then and nobody
//! else writes, so what is read stays true.

use std::collections::HashSet;
use std::ops::Range;

use callboard_actors::domain::{ClaimId, EventId, GatheringId, Level, RunId, Write};
use callboard_actors::ports::StoreError;

use super::super::super::batch::{Buckets, Joins, Starts, has_claims, joins, new_runs};
use super::super::jsonb::Rows;
use super::super::rows::{get, get_id};
use super::super::writer::{Outcome, Script, Session};
use super::Commit;
use super::claims::oldest_holder;
use super::gatherings::Questions;

const KNOWN_EVENTS: &str = "SELECT id FROM events WHERE id IN (SELECT value FROM jsonb_each(?))";
const STILL_UNROUTED: &str = "SELECT event_id FROM unrouted WHERE event_id IN (SELECT value FROM jsonb_each(?))";
const KNOWN_RUNS: &str = "SELECT id FROM runs WHERE id IN (SELECT value FROM jsonb_each(?))";
const TAKEN_KEYS: &str = "SELECT new.value->>3 FROM jsonb_each(?) AS new CROSS JOIN runs
    ON runs.function_id = new.value->>0 AND runs.idempotency = new.value->>1 AND runs.id >= new.value->>2";
const LEVELS: &str = "SELECT id, next, last FROM rate_limits WHERE id IN (SELECT value FROM jsonb_each(?))";
const HOLDERS: &str = "SELECT id, run_id FROM singletons WHERE id IN (SELECT value FROM jsonb_each(?))";
const LIVE_GATHERINGS: &str =
    "SELECT id FROM gatherings WHERE (id, version) IN (SELECT value->>0, value->>1 FROM jsonb_each(?))";
/// Runs that give a lock up and have not moved on meanwhile.
const RELEASING: &str = "SELECT runs.id FROM jsonb_each(?) AS moved CROSS JOIN runs
    ON runs.id = moved.value->>0 AND runs.version = moved.value->>1";

pub(super) const PUT_LEVELS: &str = "INSERT INTO rate_limits (id, next, last)
    SELECT value->>0, value->>1, value->>2 FROM jsonb_each(?) WHERE true
    ON CONFLICT (id) DO UPDATE SET next = excluded.next, last = excluded.last";
pub(super) const PUT_HOLDERS: &str = "INSERT INTO singletons (id, run_id)
    SELECT value->>0, value->>1 FROM jsonb_each(?) WHERE true
    ON CONFLICT (id) DO UPDATE SET run_id = excluded.run_id";
pub(super) const RELEASE: &str =
    "DELETE FROM singletons WHERE (id, run_id) IN (SELECT value->>0, value->>1 FROM jsonb_each(?))";

/// For a look at their plans.
#[cfg(test)]
pub(super) const STATEMENTS: [(&str, &str); 11] = [
    ("known_events", KNOWN_EVENTS),
    ("still_unrouted", STILL_UNROUTED),
    ("known_runs", KNOWN_RUNS),
    ("taken_keys", TAKEN_KEYS),
    ("levels", LEVELS),
    ("holders", HOLDERS),
    ("live_gatherings", LIVE_GATHERINGS),
    ("releasing", RELEASING),
    ("put_levels", PUT_LEVELS),
    ("put_holders", PUT_HOLDERS),
    ("release", RELEASE),
];

/// What comes of a segment's claims.
#[derive(Default)]
pub(super) struct Decided {
    pub(super) starts: Starts,
    pub(super) joins: Joins,
}

/// Decides on a segment's claims; `None` if it has none. With `first`, in a new transaction.
pub(super) async fn run(
    session: &mut Session<'_>,
    commit: &Commit<'_>,
    segment: Range<usize>,
    first: bool,
) -> Result<Option<Decided>, StoreError> {
    let writes: Vec<_> = commit.alive(segment).collect();
    let runs = || writes.iter().flat_map(|(_, write, _)| new_runs(write));
    let all_joins = || writes.iter().flat_map(|(_, write, _)| joins(write));
    if !runs().any(has_claims) && all_joins().next().is_none() {
        return Ok(None);
    }
    let [
        mut events,
        mut routes,
        mut ids,
        mut keys,
        mut levels,
        mut locks,
        mut moved,
        mut fires,
    ] = std::array::from_fn(|_| Rows::new());
    for (_, write, folded) in &writes {
        match write {
            Write::Accept(accept) => events.item(accept.event.id),
            Write::Route(route) => routes.item(route.event),
            Write::Fire(fire) => {
                let version = i64::try_from(fire.version).unwrap_or(i64::MAX);
                fires.row().shown(fire.gathering).int(version);
            }
            Write::Advance(advance) => {
                if folded.is_some_and(|folded| folded.released.is_some()) {
                    let expected = i64::try_from(advance.expected).unwrap_or(i64::MAX);
                    moved.row().shown(advance.run).int(expected);
                }
            }
        }
    }
    for run in runs().filter(|run| has_claims(run)) {
        ids.item(run.state.id);
        if let Some(key) = &run.idempotency {
            let row = keys.row().shown(run.state.function).text(key);
            row.shown(oldest_holder(run)).shown(run.state.id);
        }
        run.rate.iter().for_each(|claim| levels.item(claim.bucket));
        run.lock.iter().for_each(|claim| locks.item(claim.bucket));
    }
    for join in all_joins() {
        join.rate.iter().for_each(|claim| levels.item(claim.bucket));
    }
    let mut script = Script::default();
    if first {
        script.add("BEGIN IMMEDIATE");
    }
    let events = script.with_rows(KNOWN_EVENTS, events);
    let routes = script.with_rows(STILL_UNROUTED, routes);
    let ids = script.with_rows(KNOWN_RUNS, ids);
    let keys = script.with_rows(TAKEN_KEYS, keys);
    let levels = script.with_rows(LEVELS, levels);
    let holders = script.with_rows(HOLDERS, locks);
    let moved = script.with_rows(RELEASING, moved);
    let fires = script.with_rows(LIVE_GATHERINGS, fires);
    let questions = Questions::ask(all_joins(), &mut script);
    let outcomes = session.run(script, false).await?;

    let known_events: HashSet<EventId> = read(&outcomes, events)?;
    let unrouted: HashSet<EventId> = read(&outcomes, routes)?;
    let live: HashSet<GatheringId> = read(&outcomes, fires)?;
    let mut lost: HashSet<GatheringId> = HashSet::new();
    let mut known: HashSet<RunId> = read(&outcomes, ids)?;
    known.extend(read::<RunId>(&outcomes, keys)?);
    for (_, write, _) in &writes {
        let has_lost = match write {
            Write::Accept(accept) => known_events.contains(&accept.event.id),
            Write::Route(route) => !unrouted.contains(&route.event),
            Write::Fire(fire) => !live.contains(&fire.gathering),
            Write::Advance(_) => false,
        };
        if has_lost {
            lost.extend(joins(write).iter().map(|join| join.id));
            known.extend(new_runs(write).iter().map(|run| run.state.id));
        }
    }
    let mut buckets = Buckets::default();
    for row in rows(&outcomes, levels) {
        let level = Level {
            next: get(row, 1)?,
            last: get(row, 2)?,
        };
        buckets.levels.insert(get_id(row, 0)?, level);
    }
    let releasing: HashSet<RunId> = read(&outcomes, moved)?;
    for row in rows(&outcomes, holders) {
        let (lock, holder): (ClaimId, RunId) = (get_id(row, 0)?, get_id(row, 1)?);
        if !releasing.contains(&holder) {
            buckets.holders.insert(lock, holder);
        }
    }
    let starts = Starts::decide(writes.iter().map(|(_, write, _)| *write), &known, &lost, buckets);
    let passing = all_joins().filter(|join| !lost.contains(&join.id) && !starts.refused_joins.contains_key(&join.id));
    let joins = Joins::decide(passing, questions.answer(&outcomes)?);
    Ok(Some(Decided { starts, joins }))
}

fn rows(outcomes: &[Outcome], place: Option<usize>) -> &[sqlx::sqlite::SqliteRow] {
    place.map_or(&[], |index| &outcomes[index].rows)
}

fn read<T>(outcomes: &[Outcome], place: Option<usize>) -> Result<HashSet<T>, StoreError>
where
    T: std::str::FromStr + Eq + std::hash::Hash,
    T::Err: std::fmt::Display,
{
    rows(outcomes, place).iter().map(|row| get_id(row, 0)).collect()
}
