//! What the database and the app's books say when everything has settled.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::load::Sent;
use super::workflow::Workflow;
use crate::support::server::Server;

/// The server's database, read from outside.
#[derive(Debug)]
pub(super) struct Database(PathBuf);

impl Database {
    pub(super) fn of(server: &Server) -> Self {
        Self(server.data_dir().join("callboard.db"))
    }

    /// The rows of a query, each as what `read` makes of it.
    pub(super) fn rows<T>(&self, sql: &'static str, read: impl Fn(&SqliteRow) -> T) -> Vec<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let options = SqliteConnectOptions::new().filename(&self.0).read_only(true);
            let mut connection = options.connect().await.expect("the database opens");
            let rows = sqlx::query(sql).fetch_all(&mut connection).await;
            let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
            connection.close().await.expect("the database closes");
            rows.iter().map(read).collect()
        })
    }

    pub(super) fn count(&self, sql: &'static str) -> i64 {
        self.rows(sql, |row| row.get(0))[0]
    }

    /// Whether nothing is under way.
    pub(super) fn is_quiet(&self) -> bool {
        let under_way = "SELECT (SELECT count(*) FROM runs WHERE ended_at IS NULL) + (SELECT count(*) FROM unrouted)";
        self.count(under_way) == 0
    }

    /// What is still under way, for people.
    pub(super) fn leftovers(&self) -> String {
        let sql = "SELECT runs.id, runs.status, runs.event_name, group_concat(jobs.key || ' at ' || jobs.due, ', ')
            FROM runs LEFT JOIN jobs ON jobs.run_id = runs.id WHERE ended_at IS NULL GROUP BY runs.id LIMIT 20";
        let lines = self.rows(sql, |row| {
            let text = |index| row.get::<Option<String>, usize>(index).unwrap_or_default();
            format!("{} {} of {}: {}", text(0), text(1), text(2), text(3))
        });
        format!(
            "{} unrouted; {}",
            self.count("SELECT count(*) FROM unrouted"),
            lines.join("; ")
        )
    }
}

/// The outcome.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) acknowledged: usize,
    pub(super) runs: i64,
    pub(super) steps: usize,
    pub(super) repeated: usize,
    pub(super) violations: Vec<String>,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events acknowledged, {} runs, {} steps of user code, {} executions repeated, {} violations",
            self.acknowledged,
            self.runs,
            self.steps,
            self.repeated,
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
            ..Self::default()
        };
        account.violations.append(&mut workflow.book().violations);
        account.events(database, workflow, sent);
        account.rules(database);
        account.invokes(database, workflow);
        account.steps(database, workflow);
        account
    }

    fn blame(&mut self, violation: String) {
        self.violations.push(violation);
    }

    /// P1 and P2: every acknowledged event is there, with one run of each function, or the reason why not.
    fn events(&mut self, database: &Database, workflow: &Workflow, sent: &[Sent]) {
        let known = database.rows("SELECT id, external_id FROM events WHERE name = 'load/go'", |row| {
            (row.get::<String, _>(0), row.get::<String, _>(1))
        });
        let starts = database.rows(
            "SELECT events.external_id, functions.slug, count(*) FROM runs JOIN functions ON functions.id = function_id
                JOIN events ON events.id = event_id WHERE events.name = 'load/go' GROUP BY 1, 2",
            |row| ((row.get::<String, _>(0), row.get::<String, _>(1)), row.get::<i64, _>(2)),
        );
        let starts: HashMap<(String, String), i64> = starts.into_iter().collect();
        let skips = database.rows(
            "SELECT event_id, slug, reason FROM skips JOIN functions ON functions.id = function_id",
            |row| {
                let key = (row.get::<String, _>(0), row.get::<String, _>(1));
                (key, row.get::<String, _>(2))
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
        const RULES: [(&str, &str); 10] = [
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
            ("events left in the outbox", "SELECT count(*) FROM unrouted"),
            ("dead letters", "SELECT count(*) FROM dead_letters"),
            (
                "steps that are not done",
                "SELECT count(*) FROM steps WHERE position IS NULL",
            ),
            (
                "steps that completed twice in a history",
                "SELECT count(*) FROM (SELECT 1 FROM history WHERE kind IN ('step.completed', 'step.failed')
                    GROUP BY run_id, step_id HAVING count(*) <> 1)",
            ),
            (
                "steps without their line of history, or the reverse",
                "SELECT abs((SELECT count(*) FROM steps)
                    - (SELECT count(*) FROM history WHERE kind IN ('step.completed', 'step.failed')))",
            ),
            (
                "runs that did not end once in their history",
                "SELECT count(*) FROM runs WHERE 1 <>
                    (SELECT count(*) FROM history WHERE run_id = runs.id AND kind = 'run.ended')",
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
            |row| (row.get::<String, _>(0), row.get::<i64, _>(1)),
        );
        let children = runs
            .iter()
            .find(|(known, _)| *known == slug)
            .map_or(0, |(_, count)| *count);
        if children != invokes {
            self.blame(format!("P2: {invokes} invokes started {children} runs"));
        }
    }

    /// P3: no code of a step ran after its result was recorded, and what the app was told is what is recorded.
    fn steps(&mut self, database: &Database, workflow: &Workflow) {
        let recorded = database.rows("SELECT run_id, step_id, ended_at, memo FROM steps", |row| {
            let key = (row.get::<String, _>(0), row.get::<String, _>(1));
            (key, (row.get::<i64, _>(2), row.get::<String, _>(3)))
        });
        let recorded: HashMap<_, _> = recorded.into_iter().collect();
        let book = workflow.book();
        let mut violations = Vec::new();
        for (key, times) in &book.executions {
            self.steps += 1;
            let allowed = if key.1 == "flaky" { 2 } else { 1 };
            self.repeated += times.len().saturating_sub(allowed);
            let Some((ended_at, _)) = recorded.get(key) else {
                violations.push(format!("P3: {key:?} was run and is not recorded"));
                continue;
            };
            let last = times.last().copied().and_then(|at| i64::try_from(at).ok());
            if last.is_some_and(|last| last > *ended_at) {
                violations.push(format!(
                    "P3: {key:?} ran at {last:?}, after it was recorded at {ended_at}"
                ));
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
}
