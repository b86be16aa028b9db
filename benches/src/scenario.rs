//! The scenarios: what is done to the server, and the figures taken.
//!
//! Promises: each scenario leaves no run behind that was not waited for or given up.
//! Never: mixes the figures of two scenarios; each looks only at the runs it started.

use std::ops::Range;
use std::time::{Duration, Instant};

use actix_rt::time::sleep;
use anyhow::Context as _;

use crate::ledger::Micros;
use crate::load::Load;
use crate::report::{Figure, Limit, Report};
use crate::server::{ProcessId, Server};
use crate::workload::Workload;

/// Runs a second of the latency scenario.
const LOW_LOAD: u32 = 10;

/// How the scenarios are run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) in_flight: usize,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    pub(crate) sleepers: usize,
    pub(crate) sleep: Duration,
}

/// CPU share and memory of a server that has an app and nothing to do.
pub(crate) async fn idle(server: &Server, plan: &Plan, report: &mut Report) {
    let name = "idle";
    // The registration just before is still being digested.
    sleep(Duration::from_secs(1)).await;
    let before = server.process.and_then(ProcessId::precise_cpu_ms);
    let begun = Instant::now();
    sleep(plan.window).await;
    let after = server.process.and_then(ProcessId::precise_cpu_ms);
    let memory = server.process.and_then(ProcessId::memory);
    let share = before
        .zip(after)
        .map(|(before, after)| (after - before) / begun.elapsed().as_secs_f64() / 10.0);
    report.add(Figure::new(name, "RSS", "MiB", memory.map(|memory| mib(memory.rss_kib))).limit(Limit::at_most(20.0)));
    report.add(Figure::new(
        name,
        "PSS",
        "MiB",
        memory.and_then(|memory| memory.pss_kib).map(mib),
    ));
    report.add(Figure::new(name, "CPU", "%", share).limit(Limit::at_most(0.2)));
}

/// Throughput with a fixed number of runs in flight.
pub(crate) async fn throughput(
    load: &Load,
    server: &Server,
    plan: &Plan,
    workload: Workload,
    limit: Limit,
    report: &mut Report,
) -> anyhow::Result<()> {
    let name = workload.id();
    let begun = Instant::now();
    let first = load.ledger.borrow().len();
    let stop = begun + plan.warm_up + plan.window;
    let generator = {
        let (load, in_flight) = (load.clone(), plan.in_flight);
        actix_rt::spawn(async move { load.closed_loop(workload, in_flight, stop).await })
    };
    sleep(plan.warm_up).await;
    let (opened, cpu_before) = (load.ledger.borrow().now(), server.process.and_then(ProcessId::cpu_ms));
    sleep(plan.window).await;
    let (closed, cpu_after) = (load.ledger.borrow().now(), server.process.and_then(ProcessId::cpu_ms));
    let memory = server.process.and_then(ProcessId::memory);
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
        let cpu = cpu_before
            .zip(cpu_after)
            .map(|(before, after)| (after - before) / runs.max(1.0));
        report.add(Figure::new(name, "throughput", "runs/s", Some(runs / seconds)).limit(limit));
        report.add(Figure::new(name, "server CPU per run", "ms", cpu));
        report.percentiles(name, "event sent -> run ended", &whole, None, None);
        if workload.steps() > 0 {
            report.percentiles(name, "step reply -> next call", &ledger.gaps(&range), None, None);
        }
        report.add(Figure::new(
            name,
            "RSS under load",
            "MiB",
            memory.map(|memory| mib(memory.rss_kib)),
        ));
    }
    counts(load, name, range, report).await
}

/// Latencies at ten runs a second.
pub(crate) async fn latency(load: &Load, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let name = "low-load";
    let first = load.ledger.borrow().len();
    // At ten a second a short window gives no p99 worth the name.
    let window = plan.window.max(Duration::from_secs(2)) * 2;
    load.open_loop(Workload::OneStep, LOW_LOAD, Instant::now() + window)
        .await
        .context(name)?;
    let range = first..load.ledger.borrow().len();
    {
        let ledger = load.ledger.borrow();
        let mut acks: Vec<Micros> = Vec::new();
        let mut first_calls: Vec<Micros> = Vec::new();
        for run in ledger.runs(range.clone()) {
            if let Some(acked) = run.acked {
                acks.push(acked - run.sent);
                // The call may overtake the acknowledgement.
                first_calls.extend(run.first_call.map(|called| called.saturating_sub(acked)));
            }
        }
        acks.sort_unstable();
        first_calls.sort_unstable();
        report.percentiles(name, "event sent -> ack", &acks, None, None);
        let (p50, p99) = (Limit::at_most(2.0).aim(0.5), Limit::at_most(10.0).aim(3.0));
        report.percentiles(name, "ack -> first call", &first_calls, Some(p50), Some(p99));
        let (p50, p99) = (Limit::at_most(3.0).aim(1.0), Limit::at_most(15.0).aim(3.0));
        report.percentiles(
            name,
            "step reply -> next call",
            &ledger.gaps(&range),
            Some(p50),
            Some(p99),
        );
    }
    counts(load, name, range, report).await
}

/// Many runs asleep at once: what they cost, and how late they are woken.
pub(crate) async fn sleepers(load: &Load, server: &Server, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let name = "sleepers";
    let first = load.ledger.borrow().len();
    let before = server.process.and_then(ProcessId::memory);
    let begun = Instant::now();
    load.burst(Workload::Sleep, plan.sleepers, plan.in_flight)
        .await
        .context(name)?;
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
    let during = server.process.and_then(ProcessId::memory);
    let growth = |pick: fn(crate::server::Memory) -> Option<u64>| {
        let (before, during) = (before.and_then(pick)?, during.and_then(pick)?);
        Some((during as f64 - before as f64) / 1024.0)
    };
    report.add(Figure::new(name, "accepted", "runs/s", Some(all as f64 / accepting)));
    report.add(Figure::new(name, "asleep at once", "runs", Some(asleep as f64)));
    report.add(
        Figure::new(
            name,
            "RSS growth while asleep",
            "MiB",
            growth(|memory| Some(memory.rss_kib)),
        )
        .limit(Limit::at_most(40.0)),
    );
    report.add(Figure::new(
        name,
        "PSS growth while asleep",
        "MiB",
        growth(|memory| memory.pss_kib),
    ));

    load.until(plan.sleep + Duration::from_secs(60), |ledger| {
        ledger.runs(range.clone()).iter().all(|run| run.finished.is_some())
    })
    .await;
    let lateness = load.ledger.borrow().lateness(&range);
    report.percentiles(name, "lateness", &lateness, None, Some(Limit::at_most(200.0)));
    counts(load, name, range, report).await
}

/// The exact counts of a scenario. Any run that is not accounted for makes the bench fail.
async fn counts(load: &Load, name: &'static str, range: Range<usize>, report: &mut Report) -> anyhow::Result<()> {
    let counts = load.ledger.borrow().counts(range.clone());
    let completed = load.completed(range).await.context(name)?;
    report.counts(name, counts, completed);
    Ok(())
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
