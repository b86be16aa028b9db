//! The claims of a segment: who was first?
//!
//! Every claim is an insert, update or delete that finds its row only if nobody was faster, so that taking it and
//! checking it are one. What a row keeps anyway (an event's body, the fields of a run) is written along with it.

use std::collections::HashSet;
use std::ops::Range;

use callboard_actors::domain::{
    Event, EventId, GatheringId, NewRun, RunId, RunStatus, SkipReason, Timestamp, WaitKey, Write, limits,
};
use callboard_actors::ports::StoreError;
use sqlx::sqlite::SqliteRow;

use super::super::super::batch::{Folded, Starts, new_runs, takes};
use super::super::jsonb::Rows;
use super::super::rows::{get_id, get_key};
use super::super::writer::{Outcome, Script, Session};
use super::starts::Decided;
use super::{Claimed, Commit};

/// What the claims of a segment came to.
pub(super) enum Verdict {
    /// Every write has won, but for the runs and waits named.
    Clear(Claimed),
    /// Not every claim has won; which, was not asked.
    Unclear,
    /// These writes have lost.
    Lost {
        writes: Vec<usize>,
        /// Whether one of them has won other claims, which it must not keep.
        kept: bool,
        claimed: Claimed,
    },
}

/// Events that may concern somebody go to the outbox. This runs before the events themselves are inserted, for an event
/// that is known already must not come back to the outbox.
pub(super) const INSERT_UNROUTED: &str = "INSERT INTO unrouted (event_id) SELECT value->>0 FROM jsonb_each(?) AS new
    WHERE (new.value->>2 OR EXISTS (SELECT 1 FROM waits WHERE name = new.value->>1))
      AND NOT EXISTS (SELECT 1 FROM events WHERE id = new.value->>0)
    ON CONFLICT (event_id) DO NOTHING RETURNING event_id";

/// A statement that only counts what it claims, and the same one telling.
macro_rules! claim {
    ($name:ident, $sql:literal, $returning:literal) => {
        pub(super) const $name: [&str; 2] = [$sql, concat!($sql, " RETURNING ", $returning)];
    };
}

claim!(
    CLAIM_EVENTS,
    "INSERT INTO events (id, external_id, has_own_id, name, ts, received_at, body)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6 FROM jsonb_each(?) WHERE true
    ON CONFLICT (id) DO NOTHING",
    "id"
);

claim!(
    CLAIM_VERSIONS,
    "UPDATE runs SET version = version + 1,
        status = coalesce(new.value->>2, status), started_at = coalesce(new.value->>3, started_at),
        request_version = coalesce(new.value->>4, request_version), plan_only = coalesce(new.value->>5, plan_only),
        step_group = coalesce(new.value->>6, step_group), output = coalesce(new.value->>7, output),
        ended_at = coalesce(new.value->>8, ended_at), reporter = coalesce(new.value->>9, reporter)
    FROM jsonb_each(?) AS new WHERE runs.id = new.value->>0 AND runs.version = new.value->>1",
    "id"
);

claim!(
    CLAIM_ROUTES,
    "DELETE FROM unrouted WHERE event_id IN (SELECT value FROM jsonb_each(?))",
    "event_id"
);

claim!(
    CLAIM_FIRES,
    "DELETE FROM gatherings WHERE (id, version) IN (SELECT value->>0, value->>1 FROM jsonb_each(?))",
    "id"
);

/// Whoever has held an idempotency key for longer than the window loses it to the next one.
const RELEASE_KEYS: &str = "UPDATE runs SET idempotency = NULL FROM jsonb_each(?) AS new
    WHERE runs.function_id = new.value->>0 AND runs.idempotency = new.value->>1 AND runs.id < new.value->>2";

claim!(
    CLAIM_RUNS,
    "INSERT INTO runs (id, function_id, function_version, status, version, event_id, event_ids, event_name,
        request_version, plan_only, step_group, priority, idempotency, started_at, singleton, gates,
        original_id, edited, batch_id)
    SELECT value->>0, value->>1, coalesce((SELECT version FROM functions WHERE id = new.value->>1), 0), value->>2,
        value->>3, value->>4, value->>5, value->>6, value->>7, value->>8, value->>9, value->>10, value->>11,
        value->>12, value->>13, value->>14, value->>15, value->>16, value->>17
    FROM jsonb_each(?) AS new WHERE true
    ON CONFLICT DO NOTHING",
    "id"
);

claim!(
    CLAIM_WAITS,
    "DELETE FROM waits WHERE (run_id, key) IN (SELECT value->>0, value->>1 FROM jsonb_each(?))",
    "run_id, key"
);

const EXISTING_RUNS: &str = "SELECT id FROM runs WHERE id IN (SELECT value FROM jsonb_each(?))";

/// For a look at their plans.
#[cfg(test)]
pub(super) const STATEMENTS: [(&str, &str); 9] = [
    ("insert_unrouted", INSERT_UNROUTED),
    ("claim_events", CLAIM_EVENTS[1]),
    ("claim_versions", CLAIM_VERSIONS[1]),
    ("claim_routes", CLAIM_ROUTES[1]),
    ("claim_fires", CLAIM_FIRES[1]),
    ("release_keys", RELEASE_KEYS),
    ("claim_runs", CLAIM_RUNS[1]),
    ("claim_waits", CLAIM_WAITS[1]),
    ("existing_runs", EXISTING_RUNS),
];

/// The rows of a segment's claims, and where their statements stand in the script.
struct Claims {
    script: Script,
    unrouted: Option<usize>,
    events: Place,
    versions: Place,
    routes: Place,
    fires: Place,
    runs: Place,
    waits: Place,
}

/// Where a statement stands in the script and how many rows it must change for all of its claims to have won.
#[derive(Default)]
struct Place(Option<(usize, u64)>);

impl Place {
    fn add(script: &mut Script, sql: [&'static str; 2], in_detail: bool, rows: Rows) -> Self {
        let expected = rows.count();
        Self(
            script
                .with_rows(sql[usize::from(in_detail)], rows)
                .map(|index| (index, expected)),
        )
    }

    fn all_won(&self, outcomes: &[Outcome]) -> bool {
        self.0
            .is_none_or(|(index, expected)| outcomes[index].changes == expected)
    }

    fn winners<T: std::hash::Hash + Eq>(
        &self,
        outcomes: &[Outcome],
        read: impl Fn(&SqliteRow) -> Result<T, StoreError>,
    ) -> Result<HashSet<T>, StoreError> {
        let rows = self.0.map_or(&[][..], |(index, _)| &outcomes[index].rows);
        rows.iter().map(read).collect()
    }
}

/// Makes the claims of a segment; with `first`, in a new transaction.
pub(super) async fn run(
    session: &mut Session<'_>,
    commit: &Commit<'_>,
    segment: Range<usize>,
    first: bool,
    Decided { starts, joins }: Decided,
) -> Result<Verdict, StoreError> {
    let claims = Claims::of(commit, segment.clone(), first, &starts);
    let places = [
        claims.events,
        claims.versions,
        claims.routes,
        claims.fires,
        claims.runs,
        claims.waits,
    ];
    let outcomes = if claims.script.is_empty() {
        Vec::new()
    } else {
        session.run(claims.script, false).await?
    };
    let mut claimed = Claimed {
        starts,
        joins,
        ..Claimed::default()
    };
    let outcome = &mut claimed.outcome;
    outcome.unjoined.clone_from(&claimed.joins.left_out);
    let refused = claimed.starts.refused_joins.iter();
    outcome
        .unjoined
        .extend(refused.map(|(join, refused)| (*join, refused.reason)));
    outcome.replaced.clone_from(&claimed.joins.replaced);
    outcome.due = claimed.joins.due;
    for (run, refused) in &claimed.starts.refused {
        claimed.outcome.left_out.insert(*run, Some(refused.reason));
    }
    claimed.outcome.evictions = std::mem::take(&mut claimed.starts.evictions);
    for row in claims.unrouted.map_or(&[][..], |index| &outcomes[index].rows) {
        claimed.outcome.unrouted.insert(get_id(row, 0)?);
    }
    if places.iter().all(|place| place.all_won(&outcomes)) {
        return Ok(Verdict::Clear(claimed));
    }
    if !commit.in_detail {
        return Ok(Verdict::Unclear);
    }
    let [events, versions, routes, fires, runs, waits] = places;
    let winners = Winners {
        events: events.winners(&outcomes, |row| get_id(row, 0))?,
        versions: versions.winners(&outcomes, |row| get_id(row, 0))?,
        routes: routes.winners(&outcomes, |row| get_id(row, 0))?,
        fires: fires.winners(&outcomes, |row| get_id(row, 0))?,
        runs: runs.winners(&outcomes, |row| get_id(row, 0))?,
        waits: waits.winners(&outcomes, |row| Ok((get_id(row, 0)?, get_key(row, 1)?)))?,
    };
    winners.verdict(session, commit, segment, claimed).await
}

impl Claims {
    fn of(commit: &Commit<'_>, segment: Range<usize>, first: bool, starts: &Starts) -> Self {
        let [mut unrouted, mut events, mut versions, mut routes] = std::array::from_fn(|_| Rows::new());
        let [mut keys, mut runs, mut waits, mut fires] = std::array::from_fn(|_| Rows::new());
        // Names for which waits are set by writes before the one at hand, but not yet in the database.
        let mut awaited = HashSet::new();
        let mut seen_waits = HashSet::new();
        for (_, write, folded) in commit.alive(segment) {
            match write {
                Write::Accept(accept) => {
                    unrouted_row(
                        &mut unrouted,
                        &accept.event,
                        awaited.contains(accept.event.name.as_str()),
                    );
                    event_row(&mut events, &accept.event);
                }
                Write::Route(route) => {
                    routes.item(route.event);
                    for take in &route.takes {
                        if seen_waits.insert((take.run, &take.key)) {
                            waits.row().shown(take.run).shown(&take.key);
                        }
                    }
                }
                Write::Fire(fire) => {
                    let version = i64::try_from(fire.version).unwrap_or(i64::MAX);
                    fires.row().shown(fire.gathering).int(version);
                }
                Write::Advance(advance) => {
                    let folded = folded.expect("advances have been folded");
                    version_row(&mut versions, advance.run, advance.expected, folded);
                    awaited.extend(folded.waits.values().flatten().map(|wait| wait.name.as_str()));
                }
            }
            for run in new_runs(write) {
                if starts.refused.contains_key(&run.state.id) {
                    continue;
                }
                if let Some(key) = &run.idempotency {
                    keys.row().shown(run.state.function).text(key).shown(oldest_holder(run));
                }
                run_row(&mut runs, run);
                awaited.extend(run.waits.iter().map(|wait| wait.name.as_str()));
            }
        }
        let mut script = Script::default();
        if first {
            script.add("BEGIN IMMEDIATE");
        }
        let unrouted = script.with_rows(INSERT_UNROUTED, unrouted);
        let in_detail = commit.in_detail;
        let events = Place::add(&mut script, CLAIM_EVENTS, in_detail, events);
        let versions = Place::add(&mut script, CLAIM_VERSIONS, in_detail, versions);
        let routes = Place::add(&mut script, CLAIM_ROUTES, in_detail, routes);
        let fires = Place::add(&mut script, CLAIM_FIRES, in_detail, fires);
        script.with_rows(RELEASE_KEYS, keys);
        let runs = Place::add(&mut script, CLAIM_RUNS, in_detail, runs);
        let waits = Place::add(&mut script, CLAIM_WAITS, in_detail, waits);
        Self {
            script,
            unrouted,
            events,
            versions,
            routes,
            fires,
            runs,
            waits,
        }
    }
}

/// Who won.
struct Winners {
    events: HashSet<EventId>,
    versions: HashSet<RunId>,
    routes: HashSet<EventId>,
    fires: HashSet<GatheringId>,
    runs: HashSet<RunId>,
    waits: HashSet<(RunId, WaitKey)>,
}

impl Winners {
    async fn verdict(
        self,
        session: &mut Session<'_>,
        commit: &Commit<'_>,
        segment: Range<usize>,
        mut claimed: Claimed,
    ) -> Result<Verdict, StoreError> {
        let mut writes = Vec::new();
        let mut kept = false;
        let mut keyed = Rows::new();
        for (index, write, _) in commit.alive(segment) {
            let won = match write {
                Write::Accept(accept) => self.events.contains(&accept.event.id),
                Write::Route(route) => self.routes.contains(&route.event),
                Write::Fire(fire) => self.fires.contains(&fire.gathering),
                Write::Advance(advance) => self.versions.contains(&advance.run),
            };
            if !won {
                writes.push(index);
                kept |= new_runs(write).iter().any(|run| self.runs.contains(&run.state.id));
                kept |= takes(write).any(|wait| self.waits.contains(&wait));
                continue;
            }
            let is_refused = |run: &&NewRun| claimed.starts.refused.contains_key(&run.state.id);
            let known = new_runs(write).iter().filter(|run| !self.runs.contains(&run.state.id));
            for run in known.filter(|run| !is_refused(run)) {
                let mut reason = None;
                if run.idempotency.is_some() {
                    keyed.item(run.state.id);
                    reason = Some(SkipReason::Duplicate);
                }
                claimed.outcome.left_out.insert(run.state.id, reason);
            }
            claimed
                .outcome
                .missed
                .extend(takes(write).filter(|wait| !self.waits.contains(wait)));
        }
        if !keyed.is_empty() && !kept {
            let mut script = Script::default();
            script.with_rows(EXISTING_RUNS, keyed);
            for row in session
                .run(script, false)
                .await?
                .iter()
                .flat_map(|outcome| &outcome.rows)
            {
                claimed.outcome.left_out.insert(get_id(row, 0)?, None);
            }
        }
        Ok(if writes.is_empty() {
            Verdict::Clear(claimed)
        } else {
            Verdict::Lost { writes, kept, claimed }
        })
    }
}

/// The first run that may still hold an idempotency key when this one wants it.
pub(super) fn oldest_holder(run: &NewRun) -> RunId {
    let oldest = run.state.created_at().before(limits::IDEMPOTENCY_WINDOW).as_millis() + 1;
    RunId::first_at(Timestamp::from_millis(oldest))
}

pub(super) fn unrouted_row(rows: &mut Rows, event: &Event, in_any_case: bool) {
    rows.row().shown(event.id).text(&event.name).int(in_any_case);
}

pub(super) fn event_row(rows: &mut Rows, event: &Event) {
    rows.row()
        .shown(event.id)
        .text(&event.external_id)
        .int(event.has_own_id)
        .text(&event.name)
        .int(event.ts.as_millis())
        .int(event.received_at.as_millis())
        .text(event.body.as_str());
}

fn version_row(rows: &mut Rows, run: RunId, expected: u64, folded: &Folded<'_>) {
    rows.row()
        .shown(run)
        .int(i64::try_from(expected).unwrap_or(i64::MAX))
        .text_or_null(folded.status.map(RunStatus::as_str))
        .int_or_null(folded.started_at.map(Timestamp::as_millis))
        .int_or_null(folded.request_version.map(i64::from))
        .int_or_null(folded.plan_only.map(i64::from))
        .text_or_null(folded.group.as_deref())
        .text_or_null(folded.output.map(callboard_actors::domain::Json::as_str))
        .int_or_null(folded.ended_at.map(Timestamp::as_millis))
        .text_or_null(folded.reporter.as_deref());
}

fn run_row(rows: &mut Rows, run: &NewRun) {
    let state = &run.state;
    let group = if state.group.is_empty() {
        "[]".to_owned()
    } else {
        serde_json::to_string(&state.group).expect("a set of texts serialises")
    };
    let row = rows
        .row()
        .shown(state.id)
        .shown(state.function)
        .text(state.status.as_str())
        .int(i64::try_from(state.version).unwrap_or(i64::MAX));
    let row = match &state.event_ids[..] {
        [only] => row.shown(only).null(),
        [first, ..] => row
            .shown(first)
            .text(&serde_json::to_string(&state.event_ids).expect("ids serialise")),
        [] => row.text("").text("[]"),
    };
    let edited = state.edited.as_ref();
    let edited = edited.map(|edited| serde_json::to_string(edited).expect("texts serialise"));
    row.text(&state.event_name)
        .int(state.request_version)
        .int(state.plan_only)
        .text(&group)
        .int(state.priority.seconds())
        .text_or_null(run.idempotency.as_deref())
        .int_or_null(state.started_at.map(Timestamp::as_millis))
        .text_or_null(state.lock.map(|lock| lock.to_string()).as_deref())
        .text_or_null((!state.gates.is_empty()).then(|| state.gates.to_text()).as_deref())
        .text_or_null(state.original.map(|run| run.to_string()).as_deref())
        .text_or_null(edited.as_deref())
        .text_or_null(state.batch.map(|batch| batch.to_string()).as_deref());
}
