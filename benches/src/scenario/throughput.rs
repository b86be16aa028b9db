//! Throughput with a fixed number of runs in flight, and what a run costs each part.

use std::time::Instant;

use actix_rt::time::sleep;
use anyhow::Context as _;

use super::Stage;
use crate::goals::Goals;
use crate::installation::Part;
use crate::ledger::Micros;
use crate::process::{ProcessId, machine_cpu_ms};
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
    let cpu = || Cpu::of(&parts);
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
        let used = cpu_after.since(&cpu_before);
        let whole_cost = used.parts.iter().copied().sum::<Option<f64>>();
        report.cost(name, whole_cost.map(|used| used / runs.max(1.0)));
        for (part, used) in parts.iter().zip(&used.parts) {
            let cpu = used.map(|used| used / runs.max(1.0));
            report.add(Figure::new(name, format!("{} CPU per run", part.name), "ms", cpu));
        }
        if let Some(ratio) = report.cost_against(name, Workload::OneStep.id()) {
            let figure = Figure::new(name, "CPU per run against one-step", "x", Some(ratio));
            report.add(figure.limit(Goals::cost(workload)));
        }
        let cpu = used.own.map(|used| used / runs.max(1.0));
        report.add(Figure::new(name, "app and load CPU per run", "ms", cpu));
        let others = used.others().map(|used| used / seconds / 10.0);
        report.add(Figure::new(name, "CPU used by others", "%", others));
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

/// CPU time in milliseconds.
struct Cpu {
    parts: Vec<Option<f64>>,
    /// Of this program, which is the app and sends the events.
    own: Option<f64>,
    machine: Option<f64>,
}

impl Cpu {
    /// So far.
    fn of(parts: &[Part]) -> Self {
        Self {
            parts: parts.iter().map(Part::cpu_ms).collect(),
            own: ProcessId(std::process::id()).own_cpu_ms(),
            machine: machine_cpu_ms(),
        }
    }

    /// Between `before` and this one.
    fn since(&self, before: &Self) -> Self {
        let used = |before: Option<f64>, after: Option<f64>| Some(after? - before?);
        let parts = before.parts.iter().zip(&self.parts);
        Self {
            parts: parts.map(|(before, after)| used(*before, *after)).collect(),
            own: used(before.own, self.own),
            machine: used(before.machine, self.machine),
        }
    }

    /// What neither the installation nor this program has used.
    fn others(&self) -> Option<f64> {
        let parts = self.parts.iter().copied().sum::<Option<f64>>()?;
        Some((self.machine? - self.own? - parts).max(0.0))
    }
}
