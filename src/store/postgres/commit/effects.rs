//! What follows for the writes of a segment that win: the parameters of the function `effect`.
//!
//! Rows of a kind have different keys, for a statement changes no row twice; where two writes meet, the later one counts.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use callboard_actors::domain::{
    DeadLetter, Deferral, EventId, Fire, FunctionId, Job, JobKey, Json, NewRun, RunId, Skip, Step, StepId, StepState,
    Take, Wait, WaitKey, WaitKind,
};
use sqlx::postgres::PgArguments;
use uuid::Uuid;

use super::super::cells::{Id as _, NO_DIGEST, digest, text};
use super::columns::{Rows, rows};
use crate::store::batch::{Folded, place};

/// Where the places of skips begin that are recorded when an event is routed: behind all of those of accepting it.
pub(super) const ROUTED_SKIPS: i64 = 1 << 32;

rows! {
    Ended {
        run: Uuid,
    }
}

rows! {
    Gone {
        run: Uuid,
        key: String,
    }
}

rows! {
    Signal {
        run: Uuid,
        name_id: Uuid,
        /// What to lock while the signal changes hands.
        lock: i64,
    }
}

rows! {
    JobRow<'a> {
        run: Uuid,
        key: String,
        function: Uuid,
        attempt: i64,
        due: i64,
        priority: i32,
        payload: Option<&'a str>,
        /// The wait of whose end it tells.
        take: Option<String>,
    }
}

rows! {
    WaitRow<'a> {
        run: Uuid,
        key: String,
        function: Uuid,
        kind: &'static str,
        name: Cow<'a, str>,
        name_id: Uuid,
        path: Option<Cow<'a, str>>,
        path_id: Uuid,
        lookup_key: Option<Cow<'a, str>>,
        lookup_id: Uuid,
        condition: Option<Cow<'a, str>>,
        created_at: i64,
        expires_at: i64,
    }
}

rows! {
    StepRow<'a> {
        run: Uuid,
        id: Cow<'a, str>,
        seq: i64,
        op: &'static str,
        label: Cow<'a, str>,
        race: bool,
        started_at: i64,
        until: Option<i64>,
        position: Option<i64>,
        failed: Option<bool>,
        ended_at: Option<i64>,
        memo: Option<&'a str>,
    }
}

rows! {
    Line<'a> {
        run: Uuid,
        seq: i64,
        at: i64,
        kind: &'static str,
        step: Option<Cow<'a, str>>,
        attempt: i64,
        detail: Option<&'a str>,
    }
}

rows! {
    SkipRow<'a> {
        /// The event or gathering of the write it belongs to.
        owner: Uuid,
        event: Uuid,
        seq: i64,
        function: Option<Uuid>,
        reason: &'static str,
        detail: Cow<'a, str>,
    }
}

rows! {
    Further {
        event: Uuid,
        run: Uuid,
    }
}

rows! {
    LetterRow<'a> {
        run: Uuid,
        key: String,
        function: Uuid,
        attempt: i64,
        due: i64,
        priority: i32,
        payload: Option<&'a str>,
        id: Uuid,
        reason: Cow<'a, str>,
    }
}

rows! {
    DeferralRow<'a> {
        run: Uuid,
        id: Cow<'a, str>,
        seq: i64,
        name: Cow<'a, str>,
        function: Cow<'a, str>,
        status: &'static str,
        reason: Option<Cow<'a, str>>,
        input: Option<&'a str>,
        meta: Option<&'a str>,
        event: Option<Uuid>,
    }
}

/// The parameters.
#[derive(Default)]
pub(super) struct Effects<'a> {
    ended: BTreeSet<RunId>,
    jobs_gone: BTreeSet<(RunId, &'a JobKey)>,
    waits_gone: BTreeSet<(RunId, &'a WaitKey)>,
    letters_gone: BTreeSet<(RunId, &'a JobKey)>,
    signals: Vec<Signal>,
    jobs: BTreeMap<(RunId, &'a JobKey), (&'a Job, Option<&'a WaitKey>)>,
    waits: BTreeMap<(RunId, &'a WaitKey), &'a Wait>,
    steps: BTreeMap<(RunId, &'a StepId), (i64, &'a Step)>,
    lines: Vec<Line<'a>>,
    skips: Vec<SkipRow<'a>>,
    further: Vec<Further>,
    letters: BTreeMap<(RunId, &'a JobKey), &'a DeadLetter>,
    deferrals: BTreeMap<(RunId, &'a StepId), (i64, &'a Deferral)>,
}

impl<'a> Effects<'a> {
    pub(super) const COLUMNS: usize = <Vec<Ended>>::COLUMNS
        + 3 * <Vec<Gone>>::COLUMNS
        + <Vec<Signal>>::COLUMNS
        + <Vec<JobRow<'_>>>::COLUMNS
        + <Vec<WaitRow<'_>>>::COLUMNS
        + <Vec<StepRow<'_>>>::COLUMNS
        + <Vec<Line<'_>>>::COLUMNS
        + <Vec<SkipRow<'_>>>::COLUMNS
        + <Vec<Further>>::COLUMNS
        + <Vec<LetterRow<'_>>>::COLUMNS
        + <Vec<DeferralRow<'_>>>::COLUMNS;

    pub(super) fn skips(&mut self, skips: &'a [Skip], from: i64) {
        for (seq, skip) in (from..).zip(skips) {
            self.skip(skip.event.cell(), seq, skip);
        }
    }

    pub(super) fn fire(&mut self, fire: &'a Fire) {
        for skip in &fire.skips {
            self.skip(fire.gathering.cell(), skip.gathered_place(), skip);
        }
    }

    fn skip(&mut self, owner: Uuid, seq: i64, skip: &'a Skip) {
        self.skips.push(SkipRow {
            owner,
            event: skip.event.cell(),
            seq,
            function: skip.function.map(FunctionId::cell),
            reason: skip.reason.as_str(),
            detail: text(&skip.detail),
        });
    }

    pub(super) fn takes(&mut self, takes: &'a [Take]) {
        for take in takes {
            let key = (take.job.id.run, &take.job.id.key);
            self.jobs.insert(key, (&take.job, Some(&take.key)));
        }
    }

    pub(super) fn new_run(&mut self, run: &'a NewRun) {
        let id = run.state.id;
        for job in std::iter::once(&run.job).chain(&run.deadline) {
            self.jobs.insert((id, &job.id.key), (job, None));
        }
        for wait in &run.waits {
            if wait.kind == WaitKind::Signal {
                self.signal(id, &wait.name);
            }
            self.waits.insert((id, &wait.key), wait);
        }
        for (index, step) in run.state.steps.values().enumerate() {
            let seq = place(run.state.version, index);
            self.steps.insert((id, &step.id), (seq, step));
        }
        let events = run.state.event_ids.iter().enumerate();
        for (_, event) in events.filter(|(index, event)| *index > 0 || event.at() != id.at()) {
            self.further.push(Further {
                event: event.cell(),
                run: id.cell(),
            });
        }
    }

    pub(super) fn advance(&mut self, run: RunId, folded: &'a Folded<'a>) {
        self.ended.extend(folded.ended);
        for (key, job) in &folded.jobs {
            match job {
                Some(job) => drop(self.jobs.insert((run, key), (job, None))),
                None => drop(self.jobs_gone.insert((run, key))),
            }
        }
        for signal in &folded.signals {
            self.signal(run, signal);
        }
        for (key, wait) in &folded.waits {
            match wait {
                Some(wait) => drop(self.waits.insert((run, key), wait)),
                None => drop(self.waits_gone.insert((run, key))),
            }
        }
        for (id, step) in &folded.steps {
            self.steps.insert((run, id), *step);
        }
        for (seq, entry) in &folded.history {
            self.lines.push(Line {
                run: run.cell(),
                seq: *seq,
                at: entry.at.as_millis(),
                kind: entry.kind.as_str(),
                step: entry.step.as_ref().map(|step| text(step.as_str())),
                attempt: i64::from(entry.attempt),
                detail: entry.detail.as_ref().map(Json::as_str),
            });
        }
        for (key, letter) in &folded.letters {
            match letter {
                Some(letter) => drop(self.letters.insert((run, key), letter)),
                None => drop(self.letters_gone.insert((run, key))),
            }
        }
        for (id, (seq, deferral)) in &folded.deferrals {
            // The place is that of the first of the writes, the rest is the last one's.
            self.deferrals.entry((run, id)).or_insert((*seq, deferral)).1 = deferral;
        }
    }

    fn signal(&mut self, run: RunId, name: &str) {
        let name_id = digest(name);
        let (high, _) = name_id.as_u64_pair();
        self.signals.push(Signal {
            run: run.cell(),
            name_id,
            lock: i64::from_ne_bytes(high.to_ne_bytes()),
        });
    }

    /// Adds the parameters, sorted by key, so that transactions of several instances wait for each other in one order.
    pub(super) fn bind(mut self, arguments: &mut PgArguments) {
        self.signals.sort_by_key(|row| row.lock);
        let ended: Vec<_> = self.ended.iter().map(|run| Ended { run: run.cell() }).collect();
        ended.bind(arguments);
        let gone: Vec<_> = self.jobs_gone.iter().map(|(run, key)| gone(*run, key)).collect();
        gone.bind(arguments);
        let gone: Vec<_> = self.waits_gone.iter().map(|(run, key)| self::gone(*run, key)).collect();
        gone.bind(arguments);
        let gone: Vec<_> = self
            .letters_gone
            .iter()
            .map(|(run, key)| self::gone(*run, key))
            .collect();
        gone.bind(arguments);
        self.signals.bind(arguments);
        let jobs: Vec<_> = self.jobs.values().map(|(job, take)| job_row(job, *take)).collect();
        jobs.bind(arguments);
        let waits: Vec<_> = self.waits.values().map(|wait| wait_row(wait)).collect();
        waits.bind(arguments);
        let steps = self.steps.iter();
        let steps: Vec<_> = steps
            .map(|((run, _), (seq, step))| step_row(*run, *seq, step))
            .collect();
        steps.bind(arguments);
        self.lines.bind(arguments);
        self.skips.bind(arguments);
        self.further.bind(arguments);
        let letters: Vec<_> = self.letters.values().map(|letter| letter_row(letter)).collect();
        letters.bind(arguments);
        let deferrals = self.deferrals.iter();
        let deferrals: Vec<_> = deferrals
            .map(|((run, _), (seq, deferral))| deferral_row(*run, *seq, deferral))
            .collect();
        deferrals.bind(arguments);
    }
}

fn deferral_row(run: RunId, seq: i64, deferral: &Deferral) -> DeferralRow<'_> {
    DeferralRow {
        run: run.cell(),
        id: text(deferral.id.as_str()),
        seq,
        name: text(&deferral.name),
        function: text(&deferral.function),
        status: deferral.status.as_str(),
        reason: deferral.reason.as_deref().map(text),
        input: deferral.input.as_ref().map(Json::as_str),
        meta: deferral.meta.as_ref().map(Json::as_str),
        event: deferral.event.map(EventId::cell),
    }
}

fn gone(run: RunId, key: &impl ToString) -> Gone {
    Gone {
        run: run.cell(),
        key: text(&key.to_string()).into_owned(),
    }
}

fn job_row<'a>(job: &'a Job, take: Option<&WaitKey>) -> JobRow<'a> {
    JobRow {
        run: job.id.run.cell(),
        key: text(&job.id.key.to_string()).into_owned(),
        function: job.function.cell(),
        attempt: i64::from(job.attempt),
        due: job.due.as_millis(),
        priority: job.priority.seconds(),
        payload: job.payload.as_ref().map(Json::as_str),
        take: take.map(|key| text(&key.to_string()).into_owned()),
    }
}

fn letter_row(letter: &DeadLetter) -> LetterRow<'_> {
    let job = &letter.job;
    LetterRow {
        run: job.id.run.cell(),
        key: text(&job.id.key.to_string()).into_owned(),
        function: job.function.cell(),
        attempt: i64::from(job.attempt),
        due: job.due.as_millis(),
        priority: job.priority.seconds(),
        payload: job.payload.as_ref().map(Json::as_str),
        id: letter.id.cell(),
        reason: text(&letter.reason),
    }
}

fn wait_row(wait: &Wait) -> WaitRow<'_> {
    let lookup = wait.lookup.as_ref();
    WaitRow {
        run: wait.run.cell(),
        key: text(&wait.key.to_string()).into_owned(),
        function: wait.function.cell(),
        kind: wait.kind.as_str(),
        name: text(&wait.name),
        name_id: digest(&wait.name),
        path: lookup.map(|lookup| text(&lookup.path)),
        path_id: lookup.map_or(NO_DIGEST, |lookup| digest(&lookup.path)),
        lookup_key: lookup.map(|lookup| text(&lookup.key)),
        lookup_id: lookup.map_or(NO_DIGEST, |lookup| digest(&lookup.key)),
        condition: wait.condition.as_deref().map(text),
        created_at: wait.created_at.as_millis(),
        expires_at: wait.expires_at.as_millis(),
    }
}

fn step_row(run: RunId, seq: i64, step: &Step) -> StepRow<'_> {
    let row = StepRow {
        run: run.cell(),
        id: text(step.id.as_str()),
        seq,
        op: step.op.as_str(),
        label: text(&step.label),
        race: step.race,
        started_at: step.started_at.as_millis(),
        until: None,
        position: None,
        failed: None,
        ended_at: None,
        memo: None,
    };
    match &step.state {
        StepState::Planned => row,
        StepState::Parked { until } => StepRow {
            until: Some(until.as_millis()),
            ..row
        },
        StepState::Done {
            memo,
            failed,
            position,
            at,
        } => StepRow {
            position: Some(i64::from(*position)),
            failed: Some(*failed),
            ended_at: Some(at.as_millis()),
            memo: Some(memo.as_str()),
            ..row
        },
    }
}
