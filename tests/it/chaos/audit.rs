//! What the database and the app's books say when everything has settled.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Value, json};

use super::database::{Database, Row};
use super::load::Sent;
use super::workflow::{WIDTH, Workflow};

/// How old what a server knows of a run may be when it calls for a job that another has held before, in milliseconds.
const KNOWN_WITHIN: i64 = 250;

/// The outcome.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) acknowledged: usize,
    pub(super) runs: i64,
    pub(super) steps: usize,
    pub(super) repeated: usize,
    /// Calls that were begun before the result of their step was recorded, and came after it.
    pub(super) late: usize,
    /// Ticks of the cron.
    pub(super) ticks: i64,
    /// Runs of the function that has batches, and those of them that have as many events as may be.
    pub(super) batches: usize,
    pub(super) full_batches: usize,
    /// Runs of the function that is debounced.
    pub(super) settled: usize,
    pub(super) violations: Vec<String>,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events acknowledged, {} runs, {} steps of user code, {} ticks, {} batches ({} full), {} runs after quiet, {} executions repeated, {} of them late, {} violations",
            self.acknowledged,
            self.runs,
            self.steps,
            self.ticks,
            self.batches,
            self.full_batches,
            self.settled,
            self.repeated,
            self.late,
            self.violations.len()
        )?;
        self.violations
            .iter()
            .take(20)
            .try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

impl Account {
    pub(super) fn take(database: &Database, workflow: &Workflow, sent: &[Sent]) -> Self {
        let mut account = Self {
            acknowledged: sent.len(),
            runs: database.count("SELECT count(*) FROM runs"),
            ticks: database.count("SELECT count(*) FROM events WHERE name = 'inngest/scheduled.timer'"),
            ..Self::default()
        };
        account.violations.append(&mut workflow.book().violations);
        account.events(database, workflow, sent);
        account.gatherings(database, workflow, sent);
        account.rules(database);
        account.invokes(database, workflow);
        account.steps(database, workflow);
        account.outputs(database);
        account
    }

    /// Concurrency: of a key's calls no more than its limit were at work at the same time. Answers how many came close.
    ///
    /// Holds while leases outlive what the app does for a call, so not where a server that is killed takes the leases along.
    pub(super) fn lanes(&mut self, workflow: &Workflow) -> usize {
        let visits = workflow.book().visits.clone();
        let mut full = 0;
        for visit in &visits {
            let at_work = visits
                .iter()
                .filter(|other| other.lane == visit.lane && other.came <= visit.came && visit.came < other.left)
                .count();
            full += usize::from(at_work == WIDTH);
            if at_work > WIDTH {
                self.blame(format!(
                    "limit: {at_work} calls for lane {} at {}",
                    visit.lane, visit.came
                ));
            }
        }
        full
    }

    pub(super) fn blame(&mut self, violation: String) {
        self.violations.push(violation);
    }

    /// P1 and P2: every acknowledged event is there, with one run of each function, or the reason why not.
    fn events(&mut self, database: &Database, workflow: &Workflow, sent: &[Sent]) {
        let known = database.rows("SELECT id, external_id FROM events WHERE name = 'load/go'", |row| {
            (row.text(0), row.text(1))
        });
        let starts = database.rows(
            "SELECT events.external_id, functions.slug, count(*) FROM runs JOIN functions ON functions.id = function_id
                JOIN events ON events.id = event_id WHERE events.name = 'load/go' GROUP BY 1, 2",
            |row| ((row.text(0), row.text(1)), row.number(2)),
        );
        let starts: HashMap<(String, String), i64> = starts.into_iter().collect();
        let skips = database.rows(
            "SELECT event_id, slug, reason FROM skips JOIN functions ON functions.id = function_id",
            |row| {
                let key = (row.text(0), row.text(1));
                (key, row.text(2))
            },
        );
        let skips: HashMap<(String, String), String> = skips.into_iter().collect();
        let ids: HashMap<_, _> = known.iter().cloned().collect();
        for event in sent {
            let Some(external) = ids.get(&event.id) else {
                self.blame(format!("P1: event {} was acknowledged and is not there", event.id));
                continue;
            };
            if event.key.as_ref().is_some_and(|key| key != external) {
                self.blame(format!(
                    "P1: event {} has the id {external}, not {:?}",
                    event.id, event.key
                ));
            }
            for (slug, needs_even) in workflow.triggered() {
                // Events of one id share their runs, whichever of them got through first.
                let count = starts.get(&(external.clone(), slug.clone())).copied().unwrap_or(0);
                let expected = i64::from(event.even || !needs_even);
                if count != expected {
                    self.blame(format!("P2: event {} started {count} runs of {slug}", event.id));
                }
                let reason = skips.get(&(event.id.clone(), slug.clone()));
                if expected == 0 && reason.map(String::as_str) != Some("expression_false") {
                    self.blame(format!(
                        "P2: event {} did not start {slug}, recorded: {reason:?}",
                        event.id
                    ));
                }
            }
        }
        // Also what was not acknowledged is there wholly or not at all.
        for (id, external) in &known {
            if !starts.contains_key(&(external.clone(), workflow.slug("short"))) {
                self.blame(format!("P2: event {id} is there without its runs"));
            }
        }
    }

    /// What holds of every database at rest.
    fn rules(&mut self, database: &Database) {
        const RULES: [(&str, &str); 13] = [
            (
                "runs that never end",
                "SELECT count(*) FROM runs WHERE ended_at IS NULL",
            ),
            (
                "runs that failed",
                "SELECT count(*) FROM runs WHERE ended_at IS NOT NULL AND status <> 'completed'",
            ),
            ("jobs left over", "SELECT count(*) FROM jobs"),
            ("waits left over", "SELECT count(*) FROM waits"),
            ("gatherings left over", "SELECT count(*) FROM gatherings"),
            ("events left in the outbox", "SELECT count(*) FROM unrouted"),
            ("dead letters", "SELECT count(*) FROM dead_letters"),
            (
                "steps that are not done",
                "SELECT count(*) FROM steps WHERE position IS NULL",
            ),
            (
                "steps that completed twice in a history",
                "SELECT count(*) FROM (SELECT 1 FROM history WHERE kind IN ('step.completed', 'step.failed')
                    GROUP BY run_id, step_id HAVING count(*) <> 1) AS twice",
            ),
            (
                "steps without their line of history, or the reverse",
                "SELECT abs((SELECT count(*) FROM steps)
                    - (SELECT count(*) FROM history WHERE kind IN ('step.completed', 'step.failed')))",
            ),
            (
                "ticks that came twice",
                "SELECT count(*) FROM (SELECT 1 FROM events WHERE name = 'inngest/scheduled.timer'
                    GROUP BY ts HAVING count(*) <> 1) AS twice",
            ),
            (
                "ticks without exactly one run",
                "SELECT count(*) FROM events
                    LEFT JOIN (SELECT event_id, count(*) AS runs FROM runs GROUP BY event_id) AS started ON event_id = id
                    WHERE name = 'inngest/scheduled.timer' AND coalesce(runs, 0) <> 1",
            ),
            (
                "runs that did not end once in their history",
                "SELECT count(*) FROM runs
                    LEFT JOIN (SELECT run_id, count(*) AS ends FROM history WHERE kind = 'run.ended' GROUP BY run_id)
                        AS ended ON run_id = id
                    WHERE coalesce(ends, 0) <> 1",
            ),
        ];
        for (what, sql) in RULES {
            let count = database.count(sql);
            if count > 0 {
                self.blame(format!("{what}: {count}"));
            }
        }
    }

    /// Each invoke started its run once.
    fn invokes(&mut self, database: &Database, workflow: &Workflow) {
        let invokes = database.count("SELECT count(*) FROM steps WHERE op = 'invoke'");
        let slug = workflow.slug("child");
        let runs = database.rows(
            "SELECT slug, count(*) FROM runs JOIN functions ON functions.id = function_id GROUP BY 1",
            |row| (row.text(0), row.number(1)),
        );
        let children = runs
            .iter()
            .find(|(known, _)| *known == slug)
            .map_or(0, |(_, count)| *count);
        if children != invokes {
            self.blame(format!("P2: {invokes} invokes started {children} runs"));
        }
    }

    /// P3: no call for a step began after its result was recorded, the result is that of an execution, and what the app was
    /// told is what is recorded. Servers, app, database and audit are on one machine and read the same clock.
    ///
    /// One that wakes commits the result of a call that others have taken over; whoever has just read the run does not know
    /// of it for a moment. A server that is frozen between the beginning of a call and its last byte sends the rest when it
    /// thaws. Nobody but the app could refuse that; such calls are counted.
    fn steps(&mut self, database: &Database, workflow: &Workflow) {
        // SQLite's one writer decides and commits before anybody else can call the app. PostgreSQL says when it committed.
        let recorded = match database {
            Database::Sqlite(_) => "SELECT run_id, step_id, ended_at, memo FROM steps",
            Database::Postgres(_) => "SELECT run_id, step_id, committed_at, memo FROM steps",
        };
        let recorded = database.rows(recorded, |row| {
            let key = (row.text(0), row.text(1));
            (key, (row.number(2), row.text(3)))
        });
        let recorded: HashMap<_, _> = recorded.into_iter().collect();
        let book = workflow.book();
        let mut violations = Vec::new();
        for (key, times) in &book.executions {
            self.steps += 1;
            let allowed = if key.1 == "flaky" { 2 } else { 1 };
            self.repeated += times.len().saturating_sub(allowed);
            let Some((recorded_at, memo)) = recorded.get(key) else {
                violations.push(format!("P3: {key:?} was run and is not recorded"));
                continue;
            };
            if times
                .iter()
                .any(|execution| execution.begun > *recorded_at + KNOWN_WITHIN)
            {
                violations.push(format!(
                    "P3: {key:?} was run at {times:?}, and recorded at {recorded_at}"
                ));
            }
            self.late += times.iter().filter(|execution| execution.came > *recorded_at).count();
            let is_of_an_execution = (1..=times.len()).any(|count| {
                let memo: Option<Value> = serde_json::from_str(memo).ok();
                memo == Some(json!({ "data": { "execution": count } }))
            });
            if !is_of_an_execution {
                violations.push(format!("P3: {key:?} is recorded as {memo}, which no execution gave"));
            }
        }
        for (key, memo) in &book.memos {
            let known = recorded.get(key).and_then(|(_, memo)| serde_json::from_str(memo).ok());
            if known.as_ref() != Some(memo) {
                violations.push(format!("P3: the app was told {memo} of {key:?}, recorded is {known:?}"));
            }
        }
        drop(book);
        self.violations.append(&mut violations);
    }

    /// P3: what a run has put out, which is what it was told of its steps, is what is recorded.
    fn outputs(&mut self, database: &Database) {
        let mut recorded: HashMap<String, serde_json::Map<String, Value>> = HashMap::new();
        for (run, step, memo) in database.rows("SELECT run_id, step_id, memo FROM steps", |row| {
            (row.text(0), row.text(1), row.text(2))
        }) {
            let memo = serde_json::from_str(&memo).unwrap_or(Value::Null);
            recorded.entry(run).or_default().insert(step, memo);
        }
        let outputs = database.rows("SELECT id, output FROM runs WHERE status = 'completed'", |row: &Row| {
            (row.text(0), row.text(1))
        });
        for (run, output) in outputs {
            let steps = recorded.remove(&run).map_or(json!({}), Value::Object);
            if serde_json::from_str::<Value>(&output).ok() != Some(steps.clone()) {
                self.blame(format!("P3: run {run} has put out {output}, recorded is {steps}"));
            }
        }
    }
}
