//! What finding a wait costs among many, and which events look for waits.

use callboard_actors::domain::{Accept, Event, EventId, Timestamp, Write, Written};
use callboard_actors::ports::Store as _;
use callboard_backends::postgres::Server;

use super::super::cells::digest;
use super::super::open::LOCAL_SESSION;
use super::super::{Options, PostgresStore, waits};
use super::options;

/// As many that the index has three levels; a million have no more.
const WAITERS: u32 = 100_000;
/// Pages that a walk down the index and a look at the table take, twice over.
const FEW: u64 = 12;

/// Pages of shared memory that a statement looks at.
fn pages(database: &str, sql: &str, arguments: &str) -> u64 {
    let script = format!(
        "BEGIN; {LOCAL_SESSION}; SET LOCAL plan_cache_mode = force_generic_plan; PREPARE question AS {sql};
        EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE question({arguments}); ROLLBACK"
    );
    let plan = Server::shared().sql(database, &script).expect("is valid");
    let line = plan.lines().find(|line| line.contains("Buffers: shared"));
    let line = line.unwrap_or_else(|| panic!("no buffers in\n{plan}"));
    let counts = line.split([' ', ',']).filter_map(|word| word.split_once('='));
    let counts = counts.filter(|(what, _)| matches!(*what, "hit" | "read"));
    counts.map(|(_, count)| count.parse::<u64>().expect("a number")).sum()
}

#[tokio::test]
async fn an_event_looks_at_few_pages_however_many_wait_for_its_name() {
    let options = options();
    PostgresStore::open(&options).await.expect("opens");
    let url = options.exposed_url().to_owned();
    let database = url.rsplit('/').next().expect("a URL has a database");
    let (name, path) = (digest("shop/paid"), digest("data.id"));
    let fill = format!(
        "INSERT INTO callboard.waits (run_id, function_id, name_id, path_id, lookup_id, created_at, expires_at, key, kind,
            name, path, lookup_key, condition)
        SELECT md5('run' || n)::uuid, md5('function')::uuid, '{name}', '{path}', md5('n:' || n)::uuid, n, n, 'step:a',
            'event', 'shop/paid', 'data.id', 'n:' || n, 'async.data.id == ' || n
        FROM generate_series(1, {WAITERS}) AS n"
    );
    Server::shared().sql(database, &fill).expect("runs");
    let nil = "'00000000-0000-0000-0000-000000000000'";
    // Digests of the fixture are those of MD5; what matters is that one of many is asked for.
    let lookup = "md5('n:77777')::uuid";
    let found = format!("'{name}', ARRAY['{path}'::uuid], ARRAY[{lookup}], {nil}, '', 1000");
    let find = pages(database, waits::FIND, &found);
    assert!((3..=FEW).contains(&find), "{find} pages to find one");
    let paths = pages(database, waits::PATHS, &format!("'{name}'"));
    assert!(paths <= FEW, "{paths} pages to find the paths");
}

fn event(number: u8) -> Event {
    let at = Timestamp::from_millis(1_750_000_000_000);
    let id = EventId::new(at, number.into());
    Event::glued("nobody/waits", id, id.to_string(), at, "{}")
}

fn accept(number: u8) -> Write {
    Write::Accept(Accept {
        event: event(number),
        runs: Vec::new(),
        skips: Vec::new(),
        joins: Vec::new(),
        catalog: None,
    })
}

#[tokio::test]
async fn where_waits_look_back_every_event_looks_for_them() {
    let quiet = options();
    let store = PostgresStore::open(&quiet).await.expect("opens");
    assert_eq!(store.commit(&[accept(1)]).await.expect("commits"), [Written::done()]);
    let all = Options {
        routes_all: true,
        ..quiet
    };
    let store = PostgresStore::open(&all).await.expect("opens");
    store.commit(&[accept(1), accept(2)]).await.expect("commits");
    let unrouted = store.unrouted(10).await.expect("reads");
    assert_eq!(unrouted, [event(2)], "not what was known");
}
