//! One of two instances is killed under load: how long its runs stand still.
//!
//! Its runs are those that nobody goes on with for a while: a call takes a tenth of a second, so a run that hears nothing for
//! [`STANDSTILL`] has lost whoever drove it.

use std::time::{Duration, Instant, SystemTime};

use actix_rt::time::sleep;
use anyhow::{Context as _, bail};

use super::Stage;
use crate::goals::Goals;
use crate::installation::Installation;
use crate::ledger::Micros;
use crate::report::Figure;
use crate::workload::Workload;

const NAME: &str = "recovery";
const INSTANCES: usize = 2;
/// After this long without a call, a run stands still.
const STANDSTILL: Duration = Duration::from_millis(1500);
/// How long the load goes on after the kill: longer than leases last.
const AFTERMATH: Duration = Duration::from_secs(20);
/// In this time every living instance renews its leases, and a dead one's are there still.
const RENEWAL: Duration = Duration::from_secs(5);

pub(super) async fn measure(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    while stage.installation.instances.len() < INSTANCES {
        stage.installation.add_instance(&stage.load.client).await?;
    }
    let slug = Workload::SlowStep.slug();
    stage.installation.has_function(&slug, &stage.load.client).await?;
    let mut load = stage.load.clone();
    load.servers = stage
        .installation
        .instances
        .iter()
        .map(|server| server.url.clone())
        .collect();
    load.fails_over = true;

    let first = load.ledger.borrow().len();
    let stop = Instant::now() + stage.plan.warm_up + AFTERMATH;
    let generator = {
        let (load, in_flight) = (load.clone(), stage.plan.in_flight);
        actix_rt::spawn(async move { load.closed_loop(Workload::SlowStep, in_flight, stop).await })
    };
    sleep(stage.plan.warm_up).await;

    let victim = stage.installation.instances.last_mut().context("there are two")?;
    victim.kill();
    let killed = load.ledger.borrow_mut().mark();
    let killed_at = SystemTime::now();
    let expiry = expiry(stage.installation, killed_at).await?;
    generator.await?.context(NAME)?;

    let range = first..load.ledger.borrow().len();
    let standstill = u64::try_from(STANDSTILL.as_micros()).context("a short time")?;
    let mut stood: Vec<Micros> = {
        let ledger = load.ledger.borrow();
        let resumed = ledger.runs(range.clone()).iter().filter_map(|run| run.resumed);
        let waited = resumed.map(|resumed| resumed - killed);
        waited.filter(|waited| *waited > standstill).collect()
    };
    stood.sort_unstable();
    let seconds = |micros: &Micros| *micros as f64 / 1e6;
    let last = stood.last().map(seconds);
    let report = &mut *stage.report;
    report.add(Figure::new(
        NAME,
        "runs of the killed instance",
        "",
        Some(stood.len() as f64),
    ));
    report.add(Figure::new(NAME, "kill -> leases expire", "s", Some(expiry)).limit(Some(Goals::expiry())));
    report.add(Figure::new(
        NAME,
        "kill -> first run moves",
        "s",
        stood.first().map(seconds),
    ));
    report.add(Figure::new(NAME, "kill -> all runs move", "s", last));
    let after = last.map(|last| last - expiry);
    report.add(Figure::new(NAME, "expiry -> all runs move", "s", after).limit(Some(Goals::recovery())));
    if stood.is_empty() {
        report.fault(NAME, 1, "instance killed that had nothing to do");
    }

    // What the killed instance could not record is executed again; nothing else may be.
    let mut counts = load.ledger.borrow().counts(range.clone());
    let in_hand = stood.len() as u64;
    report.add(Figure::new(
        NAME,
        "repeated executions",
        "",
        Some(counts.repeated as f64),
    ));
    counts.repeated = counts.repeated.saturating_sub(in_hand);
    let completed = load.completed(range).await.context(NAME)?;
    stage.report.counts(NAME, counts, completed);
    Ok(())
}

/// When the leases of the instance that was just killed expire, in seconds after that.
async fn expiry(installation: &Installation, killed_at: SystemTime) -> anyhow::Result<f64> {
    let backends = installation.backends.as_ref().context("leases are in Redis")?;
    let before = backends.sessions()?;
    sleep(RENEWAL).await;
    let Some(end) = backends.dead_session(&before)? else {
        bail!("no session of the killed instance in Redis")
    };
    let killed_at = killed_at.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
    Ok(end as f64 / 1e3 - killed_at)
}
