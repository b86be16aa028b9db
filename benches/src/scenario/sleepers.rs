//! Many runs asleep at once: what they cost, and how late they are woken.

use std::time::{Duration, Instant};

use actix_rt::time::sleep;
use anyhow::Context as _;

use super::Stage;
use crate::goals::Goals;
use crate::report::Figure;
use crate::workload::Workload;

const NAME: &str = "sleepers";

pub(super) async fn measure(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let (load, plan) = (stage.load, stage.plan);
    let first = load.ledger.borrow().len();
    let parts = stage.installation.parts();
    let before: Vec<_> = parts.iter().map(|part| (part.memory_mib().1, part.pss_mib())).collect();
    let begun = Instant::now();
    load.burst(Workload::Sleep, plan.sleepers, plan.in_flight)
        .await
        .context(NAME)?;
    let accepting = begun.elapsed().as_secs_f64();
    let range = first..load.ledger.borrow().len();
    let all = range.len();

    // The first sleepers wake `plan.sleep` after the start: all asleep at once is possible only before.
    let patience = plan.sleep.saturating_sub(begun.elapsed());
    let all_parked = load.until(patience, |ledger| ledger.parked(range.clone()) == all).await;
    let asleep = load.ledger.borrow().parked(range.clone());
    if all_parked {
        // Let the last commits and their garbage settle, unless the first wake-ups are near.
        sleep(Duration::from_secs(2).min(plan.sleep.saturating_sub(begun.elapsed()) / 2)).await;
    }
    let report = &mut *stage.report;
    report.add(Figure::new(NAME, "accepted", "runs/s", Some(all as f64 / accepting)));
    report.add(Figure::new(NAME, "asleep at once", "runs", Some(asleep as f64)));
    let growth = |before: Option<f64>, during: Option<f64>| Some(during? - before?);
    for (index, (part, (memory, pss))) in parts.iter().zip(before).enumerate() {
        let is_server = index == 0;
        let (kind, during) = part.memory_mib();
        let figure = Figure::new(
            NAME,
            format!("{} {kind} growth asleep", part.name),
            "MiB",
            growth(memory, during),
        );
        report.add(figure.limit(is_server.then(Goals::sleepers_memory)));
        if is_server {
            let figure = growth(pss, part.pss_mib());
            report.add(Figure::new(NAME, "server PSS growth asleep", "MiB", figure));
        }
    }

    load.until(plan.sleep + Duration::from_secs(60), |ledger| {
        ledger.runs(range.clone()).iter().all(|run| run.finished.is_some())
    })
    .await;
    let lateness = load.ledger.borrow().lateness(&range);
    report.percentiles(NAME, "lateness", &lateness, [None, Some(Goals::lateness())]);
    stage.counts(NAME, range).await
}
