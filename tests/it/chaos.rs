//! Does to servers under load what befalls them in production, and audits the promises P1 to P5 when everything has settled.
//!
//! Here: one server on what is built in, killed. [`cluster`]: an installation that shares PostgreSQL and Redis, and all
//! kinds of faults. What is done when follows from a seed: `CHAOS_SEED=7 cargo test --test it chaos -- --nocapture`.
//! `CHAOS_KILLS` makes it longer here, `CHAOS_SECONDS` there. The audit reads the database itself and the app's own books;
//! what the server says of itself counts for nothing.

mod audit;
mod cluster;
mod database;
mod faults;
mod gatherings;
mod load;
mod workflow;

use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime};

use crate::support::server::Server;
use audit::Account;
use database::Database;
use load::{Doors, Load};
use workflow::Workflow;

/// The longest that what is under way may take once nothing kills the server any more: longer than the scheduler's sweep (60 s),
/// the net below every hint that a fault may have lost.
const SETTLED_WITHIN: Duration = Duration::from_secs(100);

/// Attempts at the same thing after which the app gives up.
const RETRIES: u32 = 3;
/// Milliseconds between two events of a sender.
const PAUSE: RangeInclusive<u64> = 40..=240;

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A small generator that gives the same numbers for the same seed, on every machine (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.roll() % (most - least + 1)
    }
}

fn server() -> Server {
    Server::builder()
        .switch("--no-poll")
        .flag("--retry-interval", "1")
        .start()
}

/// The seed that was asked for, or any.
fn seed() -> u64 {
    seed_in("CHAOS_SEED")
}

/// The seed in this variable, or any.
pub(crate) fn seed_in(name: &str) -> u64 {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    number(name).unwrap_or_else(|| clock.map_or(1, |now| u64::from(now.subsec_nanos())))
}

/// Waits until nothing is under way. `diagnosis` is for when that takes too long.
fn wait_until_quiet(database: &Database, diagnosis: impl Fn() -> String) {
    let start = Instant::now();
    while !database.is_quiet() {
        assert!(
            start.elapsed() < SETTLED_WITHIN,
            "still under way: {}\n{}",
            database.leftovers(),
            diagnosis()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("chaos: quiet after {:.1} s", start.elapsed().as_secs_f64());
}

/// Waits until nothing is under way, and stops the server, so that the database is whole.
fn settle(server: &mut Server, database: &Database) {
    wait_until_quiet(database, || server.diagnosis());
    assert!(server.terminate().success(), "{}", server.diagnosis());
}

#[test]
fn nothing_is_lost_and_nothing_done_twice_whenever_the_server_is_killed() {
    let seed = seed();
    let kills = number("CHAOS_KILLS").unwrap_or(6);
    println!("chaos: CHAOS_SEED={seed} CHAOS_KILLS={kills}");

    let mut server = server();
    let doors = Doors::of(&server);
    let workflow = Workflow::start(&server, doors.clone(), Duration::from_millis(40), RETRIES);
    let load = Load::start(&doors, seed, &PAUSE);
    let mut dice = Dice(seed);
    for _ in 0..kills {
        // The instant is what is tested.
        std::thread::sleep(Duration::from_millis(dice.between(100, 2_500)));
        server.kill();
        server.restart();
    }
    let sent = load.stop();
    workflow.stop_the_clock(&server);
    let database = Database::of(&server);
    settle(&mut server, &database);

    let account = Account::take(&database, &workflow, &sent);
    println!("chaos: {account}");
    assert!(
        account.violations.is_empty(),
        "CHAOS_SEED={seed}: {account}\n{}",
        server.diagnosis()
    );
    assert!(
        account.acknowledged > 20 && account.runs > 40,
        "hardly any load: {account}"
    );
}

#[test]
fn a_termination_under_load_loses_nothing_and_repeats_no_step() {
    let mut server = server();
    // Calls that take a while, so that many are under way at any instant.
    let doors = Doors::of(&server);
    let workflow = Workflow::start(&server, doors.clone(), Duration::from_millis(400), RETRIES);
    let load = Load::start(&doors, 11, &PAUSE);
    for _ in 0..2 {
        workflow.wait_for_executions_under_way(3);
        let ended = server.terminate();
        assert!(ended.success(), "{ended:?}\n{}", server.diagnosis());
        server.restart();
    }
    let sent = load.stop();
    workflow.stop_the_clock(&server);
    let database = Database::of(&server);
    settle(&mut server, &database);

    let account = Account::take(&database, &workflow, &sent);
    println!("termination: {account}");
    assert!(account.violations.is_empty(), "{account}\n{}", server.diagnosis());
    assert_eq!(account.repeated, 0, "every call under way could finish: {account}");
}
