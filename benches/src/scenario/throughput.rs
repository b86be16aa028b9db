//! Throughput with a fixed number of runs in flight, and what a run costs each part.

use std::time::Instant;

use actix_rt::time::sleep;
use anyhow::Context as _;

use super::Stage;
use crate::installation::Part;
use crate::ledger::Micros;
use crate::report::Figure;
use crate::workload::Workload;

pub(super) async fn measure(stage: &mut Stage<'_>, workload: Workload) -> anyhow::Result<()> {
    let (name, load, plan) = (workload.id(), stage.load, stage.plan);
    let first = load.ledger.borrow().len();
    let stop = Instant::now() + plan.warm_up + plan.window;
    let generator = {
        let (load, in_flight) = (load.clone(), plan.in_flight);
        actix_rt::spawn(async move { load.closed_loop(workload, in_flight, stop).await })
    };
    sleep(plan.warm_up).await;
    let backends = stage.installation.backends.as_ref().filter(|_| plan.shows_statistics);
    if let Some(backends) = backends {
        backends.reset_statistics()?;
    }
    let parts = stage.installation.parts();
    let cpu = || -> Vec<_> { parts.iter().map(Part::cpu_ms).collect() };
    let (opened, cpu_before) = (load.ledger.borrow().now(), cpu());
    sleep(plan.window).await;
    let (closed, cpu_after) = (load.ledger.borrow().now(), cpu());
    let memory: Vec<_> = parts.iter().map(Part::memory_mib).collect();
    if let Some(backends) = backends {
        eprintln!("{}", backends.statistics()?);
    }
    generator.await?.context(name)?;

    let range = first..load.ledger.borrow().len();
    {
        let ledger = load.ledger.borrow();
        let mut whole: Vec<Micros> = Vec::new();
        for run in ledger.runs(range.clone()) {
            if let Some(finished) = run.finished.filter(|finished| (opened..closed).contains(finished)) {
                whole.push(finished - run.sent);
            }
        }
        whole.sort_unstable();
        let seconds = (closed - opened) as f64 / 1e6;
        let runs = whole.len() as f64;
        let report = &mut *stage.report;
        let figure = Figure::new(name, "throughput", "runs/s", Some(runs / seconds));
        report.add(figure.limit(plan.goals.throughput(workload)));
        for ((part, before), after) in parts.iter().zip(cpu_before).zip(cpu_after) {
            let cpu = before
                .zip(after)
                .map(|(before, after)| (after - before) / runs.max(1.0));
            report.add(Figure::new(name, format!("{} CPU per run", part.name), "ms", cpu));
        }
        report.percentiles(name, "event sent -> run ended", &whole, [None, None]);
        if workload.steps() > 0 {
            report.percentiles(name, "step reply -> next call", &ledger.gaps(&range), [None, None]);
        }
        for (part, (kind, memory)) in parts.iter().zip(memory) {
            report.add(Figure::new(
                name,
                format!("{} {kind} under load", part.name),
                "MiB",
                memory,
            ));
        }
    }
    stage.counts(name, range).await
}
