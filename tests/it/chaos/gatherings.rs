//! Functions that gather events, a batch and a debounce, and what has to be true of them whatever befell the servers: every
//! event is in exactly one batch, no batch is too large, and each topic ran with its newest event once it was quiet.
//!
//! Counted on both sides: by the numbers of the events that the app was called with, and by the rows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use callboard_actors::domain::RunId;
use serde_json::{Value, json};

use super::audit::Account;
use super::database::Database;
use super::load::Sent;
use super::workflow::{Book, Workflow};

/// The function that has batches.
pub(super) const BATCHED: &str = "batched";
/// The function that starts when a topic has been quiet.
pub(super) const SETTLED: &str = "settled";

/// Events of a batch, at the most.
const SIZE: usize = 5;
/// How long a topic has to be quiet.
const QUIET: Duration = Duration::from_secs(1);

/// Both functions, each made by `function` from its name and its event.
pub(super) fn functions(function: impl Fn(&str, &str) -> Value) -> [Value; 2] {
    let mut batched = function(BATCHED, "load/go");
    batched["batchEvents"] = json!({ "maxSize": SIZE, "timeout": "2s", "key": "event.data.lane" });
    let mut settled = function(SETTLED, "load/go");
    let period = format!("{}s", QUIET.as_secs());
    settled["debounce"] = json!({ "period": period, "key": "event.data.topic" });
    [batched, settled]
}

/// What a run of one of them stands for, as the app was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gathered {
    pub(super) is_batch: bool,
    /// The numbers of its events.
    pub(super) numbers: Vec<u64>,
}

impl Book {
    /// Notes the events of a call. They are the same in every call of a run, and have the same key.
    pub(super) fn gather(&mut self, run: &str, is_batch: bool, body: &Value) {
        let events = || body["events"].as_array().into_iter().flatten();
        let numbers = events().map(number_of).collect();
        let gathered = Gathered { is_batch, numbers };
        let lanes: HashSet<_> = events().map(|event| event["data"]["lane"].as_u64()).collect();
        if is_batch && lanes.len() > 1 {
            let violation = format!("P2: batch {run} has events of lanes {lanes:?}");
            self.violations.push(violation);
        }
        let known = self.gathered.entry(run.to_owned()).or_insert_with(|| gathered.clone());
        if *known != gathered {
            let violation = format!("P3: run {run} was for {known:?} and is now for {gathered:?}");
            self.violations.push(violation);
        }
    }
}

/// An event's number.
fn number_of(event: &Value) -> u64 {
    event["data"]["n"].as_u64().unwrap_or(u64::MAX)
}

/// A row of an event of the load. One that was sent twice may have two.
struct Stored {
    id: String,
    external: String,
    received_at: i64,
    number: u64,
    topic: u64,
}

impl Account {
    /// P1 and P2 for what is gathered.
    pub(super) fn gatherings(&mut self, database: &Database, workflow: &Workflow, sent: &[Sent]) {
        let stored = stored(database);
        self.batches(database, workflow, sent, &stored);
        self.debounces(database, workflow, &stored);
    }

    fn batches(&mut self, database: &Database, workflow: &Workflow, sent: &[Sent], stored: &[Stored]) {
        let called: HashMap<String, Vec<u64>> = of_app(workflow, true).collect();
        let mut rows: HashMap<String, Vec<String>> = HashMap::new();
        let slug = workflow.slug(BATCHED);
        for (of, run, event) in database.rows(
            "SELECT slug, runs.id, run_events.event_id FROM runs JOIN functions ON functions.id = function_id
                JOIN run_events ON run_id = runs.id",
            |row| (row.text(0), row.text(1), row.text(2)),
        ) {
            if of == slug {
                rows.entry(run).or_default().push(event);
            }
        }
        self.batches = rows.len();
        self.full_batches = called.values().filter(|numbers| numbers.len() == SIZE).count();

        // The app's side.
        let mut times: HashMap<u64, usize> = HashMap::new();
        for (run, numbers) in &called {
            if numbers.is_empty() || numbers.len() > SIZE {
                self.blame(format!("P2: batch {run} has {} events: {numbers:?}", numbers.len()));
            }
            numbers.iter().for_each(|n| *times.entry(*n).or_default() += 1);
        }
        let acknowledged = sent.iter().map(|event| event.n);
        let all: HashSet<u64> = acknowledged.chain(stored.iter().map(|event| event.number)).collect();
        for n in all {
            let times = times.remove(&n).unwrap_or(0);
            if times != 1 {
                self.blame(format!("P2: the app was given event number {n} in {times} batches"));
            }
        }
        for n in times.keys() {
            self.blame(format!("P2: a batch has event number {n}, which is not there"));
        }

        // The rows.
        for (run, events) in &rows {
            let count = called.get(run).map(Vec::len);
            if events.len() > SIZE || count != Some(events.len()) {
                let rows = events.len();
                self.blame(format!(
                    "P2: batch {run} has {rows} rows, and the app got {count:?} events"
                ));
            }
        }
        let mut held: HashMap<&str, usize> = HashMap::new();
        rows.values().flatten().for_each(|id| *held.entry(id).or_default() += 1);
        let batched: HashSet<&str> = stored
            .iter()
            .filter(|event| held.contains_key(&*event.id))
            .map(|event| &*event.external)
            .collect();
        let skips = skips(database, &slug);
        for event in stored {
            let count = held.get(&*event.id).copied().unwrap_or(0);
            let reason = skips.get(&event.id).map(String::as_str);
            let is_right = match (count, reason) {
                (1, None) => true,
                // What has the same id was there before it.
                (0, Some("duplicate")) => batched.contains(&*event.external),
                _ => false,
            };
            if !is_right {
                self.blame(format!(
                    "P2: event {} is in {count} batches, recorded: {reason:?}",
                    event.id
                ));
            }
        }
    }

    fn debounces(&mut self, database: &Database, workflow: &Workflow, stored: &[Stored]) {
        let called: HashMap<String, Vec<u64>> = of_app(workflow, false).collect();
        let slug = workflow.slug(SETTLED);
        let runs = database.rows(
            "SELECT slug, runs.id, event_id FROM runs JOIN functions ON functions.id = function_id",
            |row| (row.text(0), row.text(1), row.text(2)),
        );
        let runs: Vec<(String, String)> = runs
            .into_iter()
            .filter(|(of, ..)| *of == slug)
            .map(|(_, run, event)| (run, event))
            .collect();
        self.settled = runs.len();

        // The app's side: the newest event of a topic has run.
        let given: HashSet<u64> = called.values().flatten().copied().collect();
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for event in stored {
            let newest = newest.entry(event.topic).or_default();
            *newest = event.number.max(*newest);
        }
        for (topic, n) in newest {
            if !given.contains(&n) {
                self.blame(format!(
                    "P2: topic {topic} did not run with its newest event, number {n}"
                ));
            }
        }

        // The rows: a run or a reason for each event, and no run before its time.
        let mut started: HashMap<&str, usize> = HashMap::new();
        let by_id: HashMap<&str, &Stored> = stored.iter().map(|event| (&*event.id, event)).collect();
        for (run, event) in &runs {
            *started.entry(event).or_default() += 1;
            let Some(event) = by_id.get(&**event) else {
                self.blame(format!("P2: run {run} is of event {event}, which is not there"));
                continue;
            };
            if called.get(run) != Some(&vec![event.number]) {
                let told = called.get(run);
                self.blame(format!(
                    "P2: run {run} is of event number {}, the app was told {told:?}",
                    event.number
                ));
            }
            let created = run.parse::<RunId>().map_or(0, |run| run.at().as_millis());
            let quiet = i64::try_from(QUIET.as_millis()).unwrap_or(i64::MAX);
            if created < event.received_at + quiet {
                let after = created - event.received_at;
                self.blame(format!(
                    "P2: run {run} started {after} ms after its event, before it was quiet"
                ));
            }
        }
        let settled: HashSet<&str> = started
            .keys()
            .filter_map(|id| by_id.get(id))
            .map(|event| &*event.external)
            .collect();
        let skips = skips(database, &slug);
        for event in stored {
            let count = started.get(&*event.id).copied().unwrap_or(0);
            let reason = skips.get(&event.id).map(String::as_str);
            let is_right = match (count, reason) {
                (1, None) | (0, Some("debounced")) => true,
                // What has the same id has run before it.
                (0, Some("duplicate")) => settled.contains(&*event.external),
                _ => false,
            };
            if !is_right {
                self.blame(format!(
                    "P2: event {} has settled {count} times, recorded: {reason:?}",
                    event.id
                ));
            }
        }
    }
}

/// What the app knows of the runs of one of the functions.
fn of_app(workflow: &Workflow, is_batch: bool) -> impl Iterator<Item = (String, Vec<u64>)> {
    let gathered = workflow.book().gathered.clone();
    let of_it = gathered.into_iter().filter(move |(_, of)| of.is_batch == is_batch);
    of_it.map(|(run, of)| (run, of.numbers))
}

fn stored(database: &Database) -> Vec<Stored> {
    let sql = "SELECT id, external_id, received_at, body FROM events WHERE name = 'load/go'";
    database.rows(sql, |row| {
        let body: Value = serde_json::from_str(&row.text(3)).unwrap_or(Value::Null);
        Stored {
            id: row.text(0),
            external: row.text(1),
            received_at: row.number(2),
            number: number_of(&body),
            topic: body["data"]["topic"].as_u64().unwrap_or(u64::MAX),
        }
    })
}

/// Why events of the load did not start this function, by event.
fn skips(database: &Database, slug: &str) -> HashMap<String, String> {
    let skips = database.rows(
        "SELECT slug, event_id, reason FROM skips JOIN functions ON functions.id = function_id",
        |row| (row.text(0), row.text(1), row.text(2)),
    );
    let of_it = skips.into_iter().filter(|(of, ..)| of == slug);
    of_it.map(|(_, event, reason)| (event, reason)).collect()
}
