//! Runs that wait for an event, written into the store of an installation that is down: by the engine and the store
//! themselves, so that the rows are those that an app's reply makes.
//!
//! Promises: each run is begun by an event of its own and is inside one step that waits for the event `bench/wake` with its
//! number. Never: asks a server.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use callboard::store::postgres::{Options, PostgresStore};
use callboard::store::sqlite::SqliteStore;
use callboard_actors::domain::{
    Accept, Change, Event, EventId, Function, Lookup, NewRun, Opcode, Reply, RequestId, Timestamp, WaitKind, Write,
    Written,
};
use callboard_actors::engine::{self, Context, Input, Listeners, Replied, RetryPolicy};
use callboard_actors::ports::Store;
use serde_json::json;

use crate::ledger::Micros;
use crate::workload::Workload;

/// Runs of one commit.
const BATCH: usize = 512;
/// Numbers of runs that nobody wakes begin here.
const NOBODY: usize = 1_000_000_000;
/// Lookups that are timed.
const LOOKUPS: usize = 1_000;
/// The field that an event and its run have in common.
const PATH: &str = "data.n";

/// Where the rows go.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    /// The data directory.
    Sqlite(&'a Path),
    /// The URL.
    Postgres(String),
}

/// What writing and asking took.
#[derive(Debug)]
pub(crate) struct Seeded {
    /// Seconds for all rows.
    pub(crate) writing: f64,
    /// For each lookup: which waits does this event end? Sorted.
    pub(crate) lookups: Vec<Micros>,
    /// The very first one.
    pub(crate) first_lookup: Micros,
    /// The ids of the runs that are going to be woken, in the order of `wake`.
    pub(crate) runs: Vec<String>,
}

/// Writes `count` waiting runs, spread among them one for each number of `wake`.
pub(crate) async fn waiters(place: Place<'_>, count: usize, wake: &[usize]) -> anyhow::Result<Seeded> {
    match place {
        Place::Sqlite(directory) => {
            let store = SqliteStore::open(directory).await.context("the server is down")?;
            let seeded = seed(&store, count, wake).await?;
            store.close().await?;
            Ok(seeded)
        }
        Place::Postgres(url) => {
            let store = PostgresStore::open(&Options::new(url)).await?;
            let seeded = seed(&store, count, wake).await?;
            store.close().await?;
            Ok(seeded)
        }
    }
}

async fn seed(store: &dyn Store, count: usize, wake: &[usize]) -> anyhow::Result<Seeded> {
    ensure!(!wake.is_empty() && wake.len() <= count, "a few of many are woken");
    let catalog = store.catalog().await?;
    let slug = Workload::Wait.slug();
    let mut functions = catalog.apps.iter().flat_map(|app| &app.functions);
    let function = functions
        .find(|function| *function.slug == *slug)
        .context("the app has registered")?;
    let stride = count / wake.len();
    let (mut runs, mut batch) = (Vec::with_capacity(wake.len()), Vec::with_capacity(BATCH));
    let begun = Instant::now();
    for place in 0..count {
        let woken = (place % stride == 0).then(|| wake.get(place / stride)).flatten();
        let (event, run) = waiter(function, woken.copied().unwrap_or(NOBODY + place), place)?;
        if woken.is_some() {
            runs.push(run.state.id.to_string());
        }
        batch.push(Write::Accept(Accept {
            event,
            runs: vec![run],
            joins: Vec::new(),
            skips: Vec::new(),
            catalog: None,
        }));
        if batch.len() == BATCH || place + 1 == count {
            let written = store.commit(&batch).await?;
            let is_done = |written: &Written| matches!(written, Written::Done { left_out, .. } if left_out.is_empty());
            ensure!(written.iter().all(is_done), "not all runs were written: {written:?}");
            batch.clear();
        }
    }
    let writing = begun.elapsed().as_secs_f64();

    let mut lookups = Vec::with_capacity(LOOKUPS);
    for index in 0..LOOKUPS {
        // All over the place, and none of those that are woken later.
        let place = (index * 7_919 * stride.max(2) + 1) % count;
        let place = if place.is_multiple_of(stride) {
            (place + 1) % count
        } else {
            place
        };
        let begun = Instant::now();
        let found = look_up(store, NOBODY + place).await?;
        lookups.push(u64::try_from(begun.elapsed().as_micros())?);
        ensure!(stride == 1 || found == 1, "{found} runs wait for {place}");
    }
    let first_lookup = lookups[0];
    lookups.sort_unstable();
    Ok(Seeded {
        writing,
        lookups,
        first_lookup,
        runs,
    })
}

/// What the router asks about an event: by which fields are waits for its name indexed, and which have its values?
async fn look_up(store: &dyn Store, n: usize) -> anyhow::Result<usize> {
    let paths = store.wait_paths(Workload::WAKE).await?;
    ensure!(paths == [Some(PATH.to_owned())], "indexed by {paths:?}");
    let lookup = Lookup {
        path: PATH.to_owned(),
        key: format!("n:{n}"),
    };
    Ok(store.waits(Workload::WAKE, &[Some(lookup)], None, 1_000).await?.len())
}

#[derive(Debug)]
struct Deaf;

impl Listeners for Deaf {
    fn listens(&self, _: &str) -> bool {
        false
    }
}

/// A run as it is when the app's first reply has been decided upon.
fn waiter(function: &Function, n: usize, place: usize) -> anyhow::Result<(Event, NewRun)> {
    let now = now()?;
    let incoming = serde_json::from_value(json!({ "name": "bench/wait", "data": { "n": n } }))?;
    // The place makes ids unique within a millisecond; they sort as events do that come one after another.
    let event = Event::accept(incoming, EventId::new(now, (place as u128) << 40 | 1), now)?;
    let Ok(mut run) = engine::start(function, &event, now) else {
        bail!("the function starts by its event")
    };
    let operation = Workload::Wait.operation(0, std::time::Duration::ZERO);
    let replied = Replied {
        job: run.job.clone(),
        request: RequestId::first_at(now),
        reply: Reply::Steps {
            ops: Opcode::parse_reply(operation.as_bytes())?,
            request_version: 2,
            no_retry: false,
            retry_after: None,
        },
        called_at: now,
        fetched: HashMap::new(),
        signals_taken: HashSet::new(),
    };
    let context = Context {
        look_back: None,
        now,
        dice: 0.0,
        retry: RetryPolicy::default(),
        listeners: &Deaf,
    };
    let (state, changes) = engine::decide(run.state, function, &Input::Replied(Box::new(replied)), &context);
    run.state = state;
    for change in changes {
        match change {
            Change::JobPut(job) => run.job = job,
            Change::WaitPut(wait) => run.waits.push(wait),
            _ => {}
        }
    }
    let is_waiting = matches!(&run.waits[..], [wait] if wait.kind == WaitKind::Event && wait.lookup.is_some());
    ensure!(is_waiting, "the app waits for an event: {:?}", run.waits);
    Ok((event, run))
}

fn now() -> anyhow::Result<Timestamp> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Timestamp::from_millis(i64::try_from(since.as_millis())?))
}
