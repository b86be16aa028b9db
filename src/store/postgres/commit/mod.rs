//! One round trip for many writes.
//!
//! A batch is cut into segments of writes that have nothing to do with each other ([`batch::split`]); nearly always there is
//! one. A segment is one statement, `claim` and then `effect` (`migrations/postgres/0002_create_functions.sql`), and its
//! parameters are the [`claims`] and [`effects`] of all its writes, an array for each column. The first function finds out
//! who has won and answers it to the second one, which leaves out what belongs to the others. A statement is a
//! transaction by itself; several segments are several statements in one.
//!
//! Promises: the outcome is that of executing the writes one after another, but that an event may be reported as unrouted
//! although the wait that it might have met is gone; all of a batch is written, or, after an error, nothing. After a
//! connection broke in between, either may be true: tried again, what was written loses its claim.

mod claims;
mod columns;
mod effects;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::LazyLock;

use callboard_actors::domain::{
    Accept, Event, EventId, GatheringId, Route, RunId, SkipReason, Timestamp, Write, Written,
};
use callboard_actors::ports::StoreError;
use sqlx::postgres::{PgArguments, PgRow};
use uuid::Uuid;

use self::claims::Claims;
use self::effects::Effects;
use super::cells::{Id, plain};
use super::error::unreadable;
use super::rows::get;
use super::writer::Writer;
use crate::store::batch::{self, Folded, Outcome};

/// The statement of a segment.
static COMMIT: LazyLock<String> = LazyLock::new(|| {
    let parameters = |from: usize, count: usize| {
        let names: Vec<_> = (from..from + count).map(|number| format!("${number}")).collect();
        names.join(", ")
    };
    format!(
        "SELECT claimed.lost_runs, claimed.lost_events, claimed.left_out, claimed.missed_run, claimed.missed_key,
            claimed.unrouted, claimed.outdated, claimed.duplicates, claimed.limited, claimed.locked_out,
            claimed.evicted, claimed.evicted_by, claimed.unjoined, claimed.late_joins, claimed.replaced,
            claimed.replaced_by, claimed.next_due
        FROM callboard.claim({}) AS claimed CROSS JOIN LATERAL callboard.effect(claimed.dropped, claimed.missed_run,
            claimed.missed_key, claimed.lost_events, {}) AS done",
        parameters(1, Claims::COLUMNS),
        parameters(1 + Claims::COLUMNS, Effects::COLUMNS),
    )
});

/// See [`callboard_actors::ports::Store::commit`].
///
/// With `routes_all` every event goes to the outbox; see [`super::Options::routes_all`].
pub(super) async fn commit(writer: &Writer, routes_all: bool, batch: &[Write]) -> Result<Vec<Written>, StoreError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let folded: Vec<_> = batch.iter().map(Folded::of).collect();
    let segments = batch::split(batch);
    let calls = segments
        .iter()
        .map(|segment| {
            let mut arguments = PgArguments::default();
            let (writes, folded) = (&batch[segment.clone()], &folded[segment.clone()]);
            let (claims, effects) = collect(writes, folded, routes_all);
            claims.bind(&mut arguments);
            effects.bind(&mut arguments);
            arguments
        })
        .collect();
    let rows = writer.run(&COMMIT, calls).await?;
    let mut written = Vec::with_capacity(batch.len());
    for (segment, row) in segments.into_iter().zip(&rows) {
        let answer = Answer::read(row, &batch[segment.clone()])?;
        written.extend(batch[segment].iter().map(|write| answer.of(write)));
    }
    Ok(written)
}

/// What the writes of a segment claim and what follows.
fn collect<'a>(writes: &'a [Write], folded: &'a [Option<Folded<'a>>], routes_all: bool) -> (Claims<'a>, Effects<'a>) {
    let mut claims = Claims::new(routes_all);
    let mut effects = Effects::default();
    // Names for which waits are set by writes before the one at hand, but not yet in the database.
    let mut awaited: HashSet<&str> = HashSet::new();
    for (write, folded) in writes.iter().zip(folded) {
        match (write, folded) {
            (Write::Accept(accept), _) => {
                claims.accept(accept, &awaited);
                effects.skips(&accept.skips, 0);
            }
            (Write::Route(route), _) => {
                claims.route(route);
                effects.skips(&route.skips, effects::ROUTED_SKIPS);
                effects.takes(&route.takes);
            }
            (Write::Advance(advance), Some(folded)) => {
                claims.advance(advance, folded, &awaited);
                effects.advance(advance.run, folded);
                awaited.extend(folded.waits.values().flatten().map(|wait| wait.name.as_str()));
            }
            (Write::Fire(fire), _) => {
                claims.fire(fire);
                effects.fire(fire);
            }
            (Write::Advance(_), None) => unreachable!("advances have been folded"),
        }
        for run in batch::new_runs(write) {
            effects.new_run(run);
            awaited.extend(run.waits.iter().map(|wait| wait.name.as_str()));
        }
    }
    (claims, effects)
}

/// What the database says of a segment.
struct Answer {
    lost_runs: HashSet<RunId>,
    lost_events: HashSet<EventId>,
    outdated: HashSet<EventId>,
    outcome: Outcome,
}

impl Answer {
    fn read(row: &PgRow, writes: &[Write]) -> Result<Self, StoreError> {
        let mut missed = HashSet::new();
        let keys: Vec<String> = get(row, 4)?;
        for (run, key) in get::<Vec<Uuid>>(row, 3)?.into_iter().zip(keys) {
            let key = plain(&key).parse().map_err(|error| unreadable("a key", error))?;
            missed.insert((RunId::from_cell(run), key));
        }
        let evicted: Vec<Uuid> = get(row, 10)?;
        let evicted_by: Vec<Uuid> = get(row, 11)?;
        let runs = || writes.iter().flat_map(batch::new_runs);
        let mut evictions = HashMap::new();
        for (holder, by) in evicted.into_iter().zip(evicted_by) {
            let (holder, by) = (RunId::from_cell(holder), RunId::from_cell(by));
            let run = runs().find(|run| run.state.id == by);
            let job = run.and_then(|run| Some(run.lock.as_ref()?.eviction(run.state.function, holder, by)));
            evictions.extend(job.map(|job| (by, job)));
        }
        let mut left_out: HashMap<RunId, Option<SkipReason>> =
            ids(row, 2)?.into_iter().map(|run| (run, None)).collect();
        left_out.extend(ids(row, 7)?.into_iter().map(|run| (run, Some(SkipReason::Duplicate))));
        left_out.extend(ids(row, 9)?.into_iter().map(|run| (run, Some(SkipReason::Singleton))));
        let late = |join: GatheringId| (join, SkipReason::Debounced);
        let mut unjoined: HashMap<_, _> = ids(row, 13)?.into_iter().map(late).collect();
        unjoined.extend(ids(row, 12)?.into_iter().map(|join| (join, SkipReason::Duplicate)));
        // Runs and joins.
        let limited: HashSet<Uuid> = get::<Vec<Uuid>>(row, 8)?.into_iter().collect();
        if !limited.is_empty() {
            let of_runs = runs().filter(|run| limited.contains(&run.state.id.cell()));
            let reasons = of_runs.filter_map(|run| Some((run.state.id, Some(run.rate.as_ref()?.reason))));
            left_out.extend(reasons);
            let joins = writes.iter().flat_map(batch::joins);
            let of_joins = joins.filter(|join| limited.contains(&join.id.cell()));
            unjoined.extend(of_joins.filter_map(|join| Some((join.id, join.rate.as_ref()?.reason))));
        }
        let replaced: Vec<Uuid> = get(row, 14)?;
        let replaced_by: Vec<Uuid> = get(row, 15)?;
        let replaced = replaced_by.into_iter().map(GatheringId::from_cell).zip(replaced);
        Ok(Self {
            lost_runs: ids(row, 0)?,
            lost_events: ids(row, 1)?,
            outdated: ids(row, 6)?,
            outcome: Outcome {
                unrouted: ids(row, 5)?,
                left_out,
                missed,
                evictions,
                unjoined,
                replaced: replaced
                    .map(|(join, event)| (join, EventId::from_cell(event)))
                    .collect(),
                due: get::<Option<i64>>(row, 16)?.map(Timestamp::from_millis),
            },
        })
    }

    fn of(&self, write: &Write) -> Written {
        let (is_lost, is_outdated) = match write {
            Write::Accept(Accept {
                event: Event { id, .. },
                ..
            })
            | Write::Route(Route { event: id, .. }) => (self.lost_events.contains(id), self.outdated.contains(id)),
            Write::Fire(fire) => {
                // Named beside events, in the same sixteen bytes.
                let id = EventId::from_cell(fire.gathering.cell());
                (self.lost_events.contains(&id), self.outdated.contains(&id))
            }
            Write::Advance(advance) => (self.lost_runs.contains(&advance.run), false),
        };
        if is_outdated {
            Written::Outdated
        } else if is_lost {
            Written::Lost
        } else {
            self.outcome.of(write)
        }
    }
}

fn ids<T: Id + Eq + Hash>(row: &PgRow, column: usize) -> Result<HashSet<T>, StoreError> {
    let cells: Vec<Uuid> = get(row, column)?;
    Ok(cells.into_iter().map(T::from_cell).collect())
}
