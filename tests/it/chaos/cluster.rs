//! Two instances that share PostgreSQL and Redis, and all kinds of faults under load. `tests/chaos` is the command.
//!
//! ```text
//!   CHAOS_SEED=7             which faults strike when; any if not said, and printed in any case
//!   CHAOS_SECONDS=600        for how long; 60 if not said
//!   CHAOS_FAULTS=redis,kill  only faults whose names contain one of these; all if not said
//!   CHAOS_KEEP=/tmp/why      where to leave logs and tables if it fails; nowhere if not said
//! ```
//!
//! After that everything is made good, and all that was begun has to end by itself. Then the audit: the database, read from
//! outside, against what the senders and the app have written down.

use std::path::Path;
use std::time::Duration;

use super::audit::Account;
use super::database::Database;
use super::faults::{CALL_TIMEOUT, Weather};
use super::load::{Doors, Load};
use super::workflow::Workflow;
use super::{number, seed, wait_until_quiet};
use crate::support::command;
use crate::support::installation::Installation;

/// Attempts at the same thing that the app can do without: as many as the faults may cost.
const RETRIES: u32 = 20;

/// What is kept if the test fails.
struct Evidence<'a>(&'a Installation);

impl Drop for Evidence<'_> {
    fn drop(&mut self) {
        if let Some(dir) = std::env::var_os("CHAOS_KEEP")
            && std::thread::panicking()
        {
            println!("chaos: kept in {dir:?}: {:?}", self.0.keep(Path::new(&dir)));
        }
    }
}

#[test]
fn nothing_is_lost_and_nothing_done_twice_whatever_befalls_an_installation() {
    let seed = seed();
    let seconds = number("CHAOS_SECONDS").unwrap_or(60);
    println!("chaos: CHAOS_SEED={seed} CHAOS_SECONDS={seconds}");

    let mut installation = Installation::builder()
        .own_database()
        .env("CALLBOARD__SDK__CALL_TIMEOUT", &format!("{}s", CALL_TIMEOUT.as_secs()))
        .env("CALLBOARD__SHUTDOWN__GRACE", "2s")
        .start();
    let doors = Doors::all(&installation);
    let workflow = Workflow::start(&installation[0], doors.clone(), Duration::from_millis(40), RETRIES);
    let load = Load::start(&doors, seed, &(100..=500));
    let report = Weather::new(&mut installation, &workflow, seed).rage(Duration::from_secs(seconds));
    let refused = load.refused();
    let sent = load.stop();
    workflow.stop_the_clock(&installation[0]);
    let _evidence = Evidence(&installation);
    let database = Database::shared(&installation);
    let diagnosis = || format!("CHAOS_SEED={seed}\n{}{}", report.story, installation.diagnosis());
    wait_until_quiet(&database, diagnosis);

    let mut account = Account::take(&database, &workflow, &sent);
    let full = account.lanes(&workflow);
    print!("{}", report.story);
    println!("chaos: {account}");
    println!(
        "chaos: {refused} events refused with 503; {} faults: {}",
        report.total(),
        report.summary()
    );
    assert!(account.violations.is_empty(), "{account}\n{}", diagnosis());
    assert!(full > 0, "no lane was ever full, so no limit was tried: {account}");
    assert!(
        account.full_batches > 0,
        "no batch was ever full, so no size was tried: {account}"
    );
    // What operators have to look with must come to the same.
    let url = installation.database();
    let doctor = command::callboard(&["doctor", "--database-url", url, "--overdue-after", "0"]);
    assert!(command::stdout(&doctor).contains("All is well."), "{doctor:?}");
    let least = usize::try_from(seconds).unwrap_or(0);
    assert!(
        account.acknowledged > least,
        "hardly any load: {account}\n{}",
        report.story
    );
}

#[test]
fn a_rolling_restart_under_load_loses_nothing_and_repeats_no_step() {
    let mut installation = Installation::builder().own_database().start();
    let doors = Doors::all(&installation);
    // Calls that take a while, so that many are under way at any instant.
    let workflow = Workflow::start(&installation[0], doors.clone(), Duration::from_millis(400), RETRIES);
    let load = Load::start(&doors, 11, &(40..=240));
    for round in 0..4 {
        workflow.wait_for_executions_under_way(3);
        let server = &mut installation[round % 2];
        let ended = server.terminate();
        assert!(ended.success(), "{ended:?}\n{}", server.diagnosis());
        server.restart();
    }
    let sent = load.stop();
    workflow.stop_the_clock(&installation[0]);
    let database = Database::shared(&installation);
    wait_until_quiet(&database, || installation.diagnosis());

    let mut account = Account::take(&database, &workflow, &sent);
    account.lanes(&workflow);
    println!("rolling restart: {account}");
    assert!(account.violations.is_empty(), "{account}\n{}", installation.diagnosis());
    assert_eq!(account.repeated, 0, "every call under way could finish: {account}");
}
