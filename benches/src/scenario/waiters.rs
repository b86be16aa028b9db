//! A million runs that wait for one name of event: what an event costs that one of them waits for, and what they cost an
//! installation that starts, or has nothing to do.

use std::time::{Duration, Instant};

use actix_rt::time::sleep;
use anyhow::{Context as _, bail};

use super::Stage;
use crate::goals::Goals;
use crate::installation::Part;
use crate::ledger::Micros;
use crate::report::Figure;
use crate::seed;
use crate::workload::Workload;

const NAME: &str = "waiters";
/// Runs that are woken, one after another.
const WOKEN: usize = 500;
/// How long one may take to be called.
const DEADLINE: Duration = Duration::from_secs(10);
/// An audit runs every minute; its share of the processor is taken over two of them.
const WATCHED: Duration = Duration::from_secs(125);

pub(super) async fn measure(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let load = stage.load;
    let first = load.ledger.borrow().len();
    let numbers: Vec<usize> = (0..WOKEN.min(stage.plan.waiters))
        .map(|_| load.ledger.borrow_mut().begin(Workload::Wait).0)
        .collect();
    stage.installation.stop();
    let seeded = seed::waiters(stage.installation.place()?, stage.plan.waiters, &numbers)
        .await
        .context(NAME)?;
    for (number, run) in numbers.iter().zip(&seeded.runs) {
        let mut ledger = load.ledger.borrow_mut();
        ledger.acknowledge(*number);
        ledger.call(*number, run, 0, 0);
    }
    let report = &mut *stage.report;
    let rate = stage.plan.waiters as f64 / seeded.writing;
    report.add(Figure::new(NAME, "written by the store", "runs/s", Some(rate)));
    let first_lookup = Some(seeded.first_lookup as f64 / 1_000.0);
    report.add(Figure::new(NAME, "first lookup", "ms", first_lookup));
    report.percentiles(NAME, "lookup", &seeded.lookups, [None, Some(Goals::lookup())]);

    let begun = Instant::now();
    stage.installation.restart(&load.client).await?;
    let ready = begun.elapsed().as_secs_f64();
    let report = &mut *stage.report;
    report.add(Figure::new(NAME, "start until ready", "s", Some(ready)));
    let woken = wake(stage, &numbers).await?;
    stage
        .report
        .percentiles(NAME, "event -> run called", &woken, [None, None]);
    idle(stage).await;
    stage.counts(NAME, first..first + numbers.len()).await
}

/// Sends the events one after another. Answers the times until their runs were called, sorted.
async fn wake(stage: &Stage<'_>, numbers: &[usize]) -> anyhow::Result<Vec<Micros>> {
    let load = stage.load;
    let mut took = Vec::with_capacity(numbers.len());
    for &number in numbers {
        let sent = load.ledger.borrow().now();
        load.post(Workload::wake(number)).await?;
        let called = |ledger: &crate::ledger::Ledger| ledger.runs(number..number + 1)[0].finished;
        let deadline = Instant::now() + DEADLINE;
        let finished = loop {
            if let Some(finished) = called(&load.ledger.borrow()) {
                break finished;
            }
            if Instant::now() > deadline {
                bail!("run {number} was not called");
            }
            sleep(Duration::from_micros(500)).await;
        };
        took.push(finished - sent);
        sleep(Duration::from_millis(5)).await;
    }
    took.sort_unstable();
    Ok(took)
}

/// What each part uses when nothing happens but what happens every minute.
async fn idle(stage: &mut Stage<'_>) {
    let parts = stage.installation.parts();
    let before: Vec<_> = parts.iter().map(Part::precise_cpu_ms).collect();
    let begun = Instant::now();
    sleep(WATCHED).await;
    let seconds = begun.elapsed().as_secs_f64();
    for (part, before) in parts.iter().zip(before) {
        let used = before.zip(part.precise_cpu_ms());
        let percent = used.map(|(before, after)| (after - before) / seconds / 10.0);
        let figure = Figure::new(NAME, format!("{} idle CPU", part.name), "%", percent);
        stage.report.add(figure);
        let (kind, memory) = part.memory_mib();
        stage
            .report
            .add(Figure::new(NAME, format!("{} {kind}", part.name), "MiB", memory));
    }
}
