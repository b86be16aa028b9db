//! The effects of a segment: what follows for the writes that have won their claims.
//!
//! Effects can't be lost; where two of them meet, the later one counts, except that a step's recorded result stays.

use std::collections::HashSet;
use std::ops::Range;

use callboard_actors::domain::{
    Deferral, Event, Job, Join, Json, NewRun, RunId, Skip, Step, StepId, StepState, Wait, WaitKind, Write, Written,
};
use callboard_actors::ports::StoreError;

use super::super::super::batch::{Folded, joins, new_runs, place};
use super::super::jsonb::{Row, Rows};
use super::super::rows::get_id;
use super::super::writer::{Script, Session};
use super::claims::{CLAIM_EVENTS, INSERT_UNROUTED, event_row, unrouted_row};
use super::gatherings::{self, DELETE_MEMBERS_OF};
use super::starts::{PUT_HOLDERS, PUT_LEVELS, RELEASE};
use super::{Claimed, Commit};

const DELETE_JOBS_OF: &str = "DELETE FROM jobs WHERE run_id IN (SELECT value FROM jsonb_each(?))";
const DELETE_WAITS_OF: &str = "DELETE FROM waits WHERE run_id IN (SELECT value FROM jsonb_each(?))";
const DELETE_LETTERS_OF: &str = "DELETE FROM dead_letters WHERE run_id IN (SELECT value FROM jsonb_each(?))";
const DELETE_JOBS: &str = "DELETE FROM jobs WHERE (run_id, key) IN (SELECT value->>0, value->>1 FROM jsonb_each(?))";
const DELETE_WAITS: &str = "DELETE FROM waits WHERE (run_id, key) IN (SELECT value->>0, value->>1 FROM jsonb_each(?))";
const DELETE_LETTERS: &str =
    "DELETE FROM dead_letters WHERE (run_id, key) IN (SELECT value->>0, value->>1 FROM jsonb_each(?))";
const DELETE_SIGNALS: &str = "DELETE FROM waits
    WHERE name IN (SELECT value FROM jsonb_each(?)) AND path IS NULL AND kind = 'signal'";

const PUT_JOBS: &str = "INSERT INTO jobs (run_id, key, function_id, attempt, due, priority, payload)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6 FROM jsonb_each(?) WHERE true
    ON CONFLICT (run_id, key) DO UPDATE SET function_id = excluded.function_id, attempt = excluded.attempt,
        due = excluded.due, priority = excluded.priority, payload = excluded.payload";

const PUT_WAITS: &str = "INSERT INTO waits
        (run_id, key, function_id, kind, name, path, lookup_key, condition, created_at, expires_at)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8, value->>9
    FROM jsonb_each(?) WHERE true
    ON CONFLICT (run_id, key) DO UPDATE SET function_id = excluded.function_id, kind = excluded.kind, name = excluded.name, path = excluded.path,
        lookup_key = excluded.lookup_key, condition = excluded.condition, created_at = excluded.created_at,
        expires_at = excluded.expires_at";

/// `position` is set when a step is done, and a step that is done stays as it is (P3).
const PUT_STEPS: &str = "INSERT INTO steps
        (run_id, step_id, seq, op, label, race, started_at, until, position, failed, ended_at, memo)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8,
        value->>9, value->>10, value->>11
    FROM jsonb_each(?) WHERE true
    ON CONFLICT (run_id, step_id) DO UPDATE SET op = excluded.op, label = excluded.label, race = excluded.race,
        started_at = excluded.started_at, until = excluded.until, position = excluded.position,
        failed = excluded.failed, ended_at = excluded.ended_at, memo = excluded.memo
    WHERE steps.position IS NULL";

const INSERT_HISTORY: &str = "INSERT INTO history (run_id, seq, at, kind, step_id, attempt, detail)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6 FROM jsonb_each(?)";

const INSERT_SKIPS: &str = "INSERT INTO skips (event_id, seq, function_id, reason, detail)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM jsonb_each(?)";

const INSERT_RUN_EVENTS: &str = "INSERT INTO run_events (event_id, run_id)
    SELECT value->>0, value->>1 FROM jsonb_each(?) WHERE true ON CONFLICT DO NOTHING";

const PUT_LETTERS: &str =
    "INSERT INTO dead_letters (run_id, key, function_id, attempt, due, priority, payload, id, reason)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8
    FROM jsonb_each(?) WHERE true
    ON CONFLICT (run_id, key) DO UPDATE SET function_id = excluded.function_id, attempt = excluded.attempt,
        due = excluded.due, priority = excluded.priority, payload = excluded.payload, id = excluded.id,
        reason = excluded.reason";

const PUT_DEFERRALS: &str =
    "INSERT INTO deferrals (run_id, id, seq, name, function, status, reason, input, meta, event_id)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8, value->>9
    FROM jsonb_each(?) WHERE true
    ON CONFLICT (run_id, id) DO UPDATE SET status = excluded.status, reason = excluded.reason,
        input = excluded.input, meta = excluded.meta, event_id = excluded.event_id";

/// For a look at their plans.
#[cfg(test)]
pub(super) const STATEMENTS: [(&str, &str); 15] = [
    ("delete_jobs_of", DELETE_JOBS_OF),
    ("delete_waits_of", DELETE_WAITS_OF),
    ("delete_letters_of", DELETE_LETTERS_OF),
    ("delete_jobs", DELETE_JOBS),
    ("delete_waits", DELETE_WAITS),
    ("delete_letters", DELETE_LETTERS),
    ("delete_signals", DELETE_SIGNALS),
    ("put_jobs", PUT_JOBS),
    ("put_waits", PUT_WAITS),
    ("put_steps", PUT_STEPS),
    ("insert_history", INSERT_HISTORY),
    ("insert_skips", INSERT_SKIPS),
    ("insert_run_events", INSERT_RUN_EVENTS),
    ("put_letters", PUT_LETTERS),
    ("put_deferrals", PUT_DEFERRALS),
];

/// Rows by statement.
struct Effects {
    unrouted: Rows,
    events: Rows,
    ended: Rows,
    jobs_gone: Rows,
    waits_gone: Rows,
    letters_gone: Rows,
    signals: Rows,
    jobs: Rows,
    waits: Rows,
    steps: Rows,
    history: Rows,
    skips: Rows,
    run_events: Rows,
    letters: Rows,
    deferrals: Rows,
    released: Rows,
    levels: Rows,
    holders: Rows,
    fired: Rows,
}

/// Writes the effects of a segment and, with `last`, commits. Answers what came of each of its writes.
pub(super) async fn run(
    session: &mut Session<'_>,
    commit: &Commit<'_>,
    segment: Range<usize>,
    claimed: &mut Claimed,
    last: bool,
) -> Result<Vec<Written>, StoreError> {
    let mut script = Script::default();
    let emitted = Effects::of(commit, segment.clone(), claimed).write(&mut script);
    gatherings::write(&claimed.joins, &mut script);
    if last {
        script.add("COMMIT");
    }
    if !script.is_empty() {
        let outcomes = session.run(script, last).await?;
        for row in emitted.map_or(&[][..], |index| &outcomes[index].rows) {
            claimed.outcome.unrouted.insert(get_id(row, 0)?);
        }
    }
    Ok(segment
        .map(|index| match commit.lost[index] {
            true => Written::Lost,
            false => claimed.outcome.of(&commit.batch[index]),
        })
        .collect())
}

impl Effects {
    fn of(commit: &Commit<'_>, segment: Range<usize>, claimed: &Claimed) -> Self {
        let mut effects = Self::new();
        // As in the claims: names awaited by then, though not yet in the database.
        let mut awaited = HashSet::new();
        for (_, write, folded) in commit.alive(segment) {
            match write {
                Write::Accept(accept) => effects.skips(&accept.skips, 0, &accept.runs, claimed),
                Write::Fire(fire) => {
                    effects.fired.item(fire.gathering);
                    effects.told(&fire.answers);
                    for skip in &fire.skips {
                        effects.skip(skip.gathered_place(), skip);
                    }
                    for run in &fire.runs {
                        let place = Join::skip_place(run.state.function);
                        effects.skips(&[], place, std::slice::from_ref(run), claimed);
                    }
                }
                Write::Route(route) => {
                    effects.skips(&route.skips, 0, &route.runs, claimed);
                    let taken = route.takes.iter();
                    for take in taken.filter(|take| !claimed.outcome.missed.contains(&(take.run, take.key.clone()))) {
                        effects.job(&take.job);
                    }
                }
                Write::Advance(advance) => {
                    let folded = folded.expect("advances have been folded");
                    effects.advance(advance.run, folded, &awaited);
                    awaited.extend(folded.waits.values().flatten().map(|wait| wait.name.as_str()));
                }
            }
            effects.joins(joins(write), claimed);
            for run in new_runs(write) {
                if !claimed.outcome.left_out.contains_key(&run.state.id) {
                    effects.new_run(run);
                    awaited.extend(run.waits.iter().map(|wait| wait.name.as_str()));
                }
            }
        }
        effects.starts(claimed);
        effects
    }

    /// What rate limits remember, who holds locks, and what is told to those concerned.
    fn starts(&mut self, claimed: &Claimed) {
        for (id, level) in &claimed.starts.levels {
            self.levels.row().shown(id).int(level.next).int(level.last);
        }
        for (id, holder) in &claimed.starts.holders {
            self.holders.row().shown(id).shown(holder);
        }
        let refused = claimed.starts.refused.values();
        let refused = refused.chain(claimed.starts.refused_joins.values());
        self.told(refused.filter_map(|refused| refused.refusal.as_deref()));
        for skip in &claimed.joins.skips {
            self.skip(skip.gathered_place(), skip);
        }
        for job in claimed.outcome.evictions.values() {
            self.job(job);
        }
    }

    fn new() -> Self {
        let [unrouted, events, ended, jobs_gone, waits_gone, signals, jobs] = std::array::from_fn(|_| Rows::new());
        let [waits, steps, history, skips, run_events, letters, letters_gone] = std::array::from_fn(|_| Rows::new());
        let [released, levels, holders, fired, deferrals] = std::array::from_fn(|_| Rows::new());
        Self {
            unrouted,
            events,
            ended,
            jobs_gone,
            waits_gone,
            letters_gone,
            signals,
            jobs,
            waits,
            steps,
            history,
            skips,
            run_events,
            letters,
            deferrals,
            released,
            levels,
            holders,
            fired,
        }
    }

    /// Adds the statements, what goes before what comes. Answers the place of the one that names unrouted events.
    fn write(self, script: &mut Script) -> Option<usize> {
        let emitted = script.with_rows(INSERT_UNROUTED, self.unrouted);
        script.with_rows(CLAIM_EVENTS[0], self.events);
        if !self.ended.is_empty() {
            let ended = self.ended.into_bytes();
            script.with(DELETE_JOBS_OF, ended.clone());
            script.with(DELETE_WAITS_OF, ended.clone());
            script.with(DELETE_LETTERS_OF, ended);
        }
        script.with_rows(DELETE_JOBS, self.jobs_gone);
        script.with_rows(DELETE_WAITS, self.waits_gone);
        script.with_rows(DELETE_LETTERS, self.letters_gone);
        script.with_rows(DELETE_SIGNALS, self.signals);
        script.with_rows(PUT_JOBS, self.jobs);
        script.with_rows(PUT_WAITS, self.waits);
        script.with_rows(PUT_STEPS, self.steps);
        script.with_rows(INSERT_HISTORY, self.history);
        script.with_rows(INSERT_SKIPS, self.skips);
        script.with_rows(INSERT_RUN_EVENTS, self.run_events);
        script.with_rows(PUT_LETTERS, self.letters);
        script.with_rows(PUT_DEFERRALS, self.deferrals);
        script.with_rows(RELEASE, self.released);
        script.with_rows(PUT_LEVELS, self.levels);
        script.with_rows(PUT_HOLDERS, self.holders);
        script.with_rows(DELETE_MEMBERS_OF, self.fired);
        emitted
    }

    fn advance(&mut self, run: RunId, folded: &Folded<'_>, awaited: &HashSet<&str>) {
        for (event, in_any_case) in &folded.emits {
            unrouted_row(
                &mut self.unrouted,
                event,
                *in_any_case || awaited.contains(event.name.as_str()),
            );
            event_row(&mut self.events, event);
        }
        if let Some(run) = folded.ended {
            self.ended.item(run);
        }
        if let Some(lock) = folded.released {
            self.released.row().shown(lock).shown(run);
        }
        for (key, job) in &folded.jobs {
            match job {
                Some(job) => self.job(job),
                None => drop(self.jobs_gone.row().shown(run).shown(key)),
            }
        }
        for signal in &folded.signals {
            self.signals.item(signal);
        }
        for (key, wait) in &folded.waits {
            match wait {
                Some(wait) => self.wait(wait),
                None => drop(self.waits_gone.row().shown(run).shown(key)),
            }
        }
        for (seq, step) in folded.steps.values() {
            self.step(run, *seq, step);
        }
        for (seq, entry) in &folded.history {
            self.history
                .row()
                .shown(run)
                .int(*seq)
                .int(entry.at.as_millis())
                .text(entry.kind.as_str())
                .text_or_null(entry.step.as_ref().map(StepId::as_str))
                .int(entry.attempt)
                .text_or_null(entry.detail.as_ref().map(Json::as_str));
        }
        for (key, letter) in &folded.letters {
            match letter {
                Some(letter) => drop(
                    job_row(&mut self.letters, &letter.job)
                        .shown(letter.id)
                        .text(&letter.reason),
                ),
                None => drop(self.letters_gone.row().shown(run).shown(key)),
            }
        }
        for (seq, deferral) in folded.deferrals.values() {
            self.deferral(run, *seq, deferral);
        }
    }

    fn deferral(&mut self, run: RunId, seq: i64, deferral: &Deferral) {
        self.deferrals
            .row()
            .shown(run)
            .text(deferral.id.as_str())
            .int(seq)
            .text(&deferral.name)
            .text(&deferral.function)
            .text(deferral.status.as_str())
            .text_or_null(deferral.reason.as_deref())
            .text_or_null(deferral.input.as_ref().map(Json::as_str))
            .text_or_null(deferral.meta.as_ref().map(Json::as_str))
            .text_or_null(deferral.event.map(|event| event.to_string()).as_deref());
    }

    fn new_run(&mut self, run: &NewRun) {
        let id = run.state.id;
        self.job(&run.job);
        run.deadline.iter().for_each(|job| self.job(job));
        for wait in &run.waits {
            if wait.kind == WaitKind::Signal {
                self.signals.item(&wait.name);
            }
            self.wait(wait);
        }
        for (index, step) in run.state.steps.values().enumerate() {
            self.step(id, place(run.state.version, index), step);
        }
        let foreign = run.state.event_ids.iter().enumerate();
        for (_, event) in foreign.filter(|(index, event)| *index > 0 || event.at() != id.at()) {
            self.run_events.row().shown(event).shown(id);
        }
    }

    fn job(&mut self, job: &Job) {
        job_row(&mut self.jobs, job);
    }

    fn wait(&mut self, wait: &Wait) {
        self.waits
            .row()
            .shown(wait.run)
            .shown(&wait.key)
            .shown(wait.function)
            .text(wait.kind.as_str())
            .text(&wait.name)
            .text_or_null(wait.lookup.as_ref().map(|lookup| lookup.path.as_str()))
            .text_or_null(wait.lookup.as_ref().map(|lookup| lookup.key.as_str()))
            .text_or_null(wait.condition.as_deref())
            .int(wait.created_at.as_millis())
            .int(wait.expires_at.as_millis());
    }

    fn step(&mut self, run: RunId, seq: i64, step: &Step) {
        let row = self
            .steps
            .row()
            .shown(run)
            .text(step.id.as_str())
            .int(seq)
            .text(step.op.as_str())
            .text(&step.label)
            .int(step.race)
            .int(step.started_at.as_millis());
        match &step.state {
            StepState::Planned => row.null().null().null().null().null(),
            StepState::Parked { until } => row.int(until.as_millis()).null().null().null().null(),
            StepState::Done {
                memo,
                failed,
                position,
                at,
            } => row
                .null()
                .int(*position)
                .int(*failed)
                .int(at.as_millis())
                .text(memo.as_str()),
        };
    }

    /// What is recorded of functions that an event did not start, from that place on: those named, and those whose run did
    /// not get all it claims.
    fn skips(&mut self, named: &[Skip], from: i64, runs: &[NewRun], claimed: &Claimed) {
        let mut seq = from;
        for skip in named {
            self.skip(seq, skip);
            seq += 1;
        }
        for run in runs {
            let Some(Some(reason)) = claimed.outcome.left_out.get(&run.state.id) else {
                continue;
            };
            let detail = match claimed.starts.refused.get(&run.state.id) {
                Some(refused) => refused.detail.clone(),
                None => format!(
                    "an event with the id `{}` has started a run within the last 24 hours",
                    run.idempotency.as_deref().unwrap_or_default()
                ),
            };
            let skip = Skip {
                event: run.cause(),
                function: Some(run.state.function),
                reason: *reason,
                detail,
            };
            self.skip(seq, &skip);
            seq += 1;
        }
    }

    fn skip(&mut self, seq: i64, skip: &Skip) {
        self.skips
            .row()
            .shown(skip.event)
            .int(seq)
            .text_or_null(skip.function.map(|id| id.to_string()).as_deref())
            .text(skip.reason.as_str())
            .text(&skip.detail);
    }

    /// What is recorded of events that join no gathering, or whose place in one is taken.
    fn joins(&mut self, joins: &[Join], claimed: &Claimed) {
        for join in joins {
            if let Some(refused) = claimed.starts.refused_joins.get(&join.id) {
                let skip = Skip {
                    event: join.event,
                    function: Some(join.function),
                    reason: refused.reason,
                    detail: refused.detail.clone(),
                };
                self.skip(Join::skip_place(join.function), &skip);
            }
        }
    }

    /// Events that somebody waits for.
    fn told<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) {
        for event in events {
            unrouted_row(&mut self.unrouted, event, true);
            event_row(&mut self.events, event);
        }
    }
}

/// A job, as its table and that of the dead letters begin.
fn job_row<'a>(rows: &'a mut Rows, job: &Job) -> Row<'a> {
    rows.row()
        .shown(job.id.run)
        .shown(&job.id.key)
        .shown(job.function)
        .int(job.attempt)
        .int(job.due.as_millis())
        .int(job.priority.seconds())
        .text_or_null(job.payload.as_ref().map(Json::as_str))
}
