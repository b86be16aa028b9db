//! The scenarios: what is done to the server, and the figures taken. One file each.
//!
//! Promises: each scenario leaves no run behind that was not waited for or given up.
//! Never: mixes the figures of two scenarios; each looks only at the runs it started.

mod fairness;
mod idle;
mod latency;
mod recovery;
mod sleepers;
mod throughput;
mod waiters;

use std::ops::Range;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use crate::goals::Goals;
use crate::installation::Installation;
use crate::load::Load;
use crate::report::Report;
use crate::workload::Workload;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    Idle,
    NoStep,
    OneStep,
    TenSteps,
    /// Like `one-step`, with 10,000 concurrency keys.
    Keyed,
    /// Like `one-step`, with every option of flow control on.
    EveryOption,
    Latency,
    Sleepers,
    /// A hundred functions beside one with a hundred thousand runs waiting.
    Fairness,
    /// Only when asked for: it takes minutes.
    Waiters,
    /// One of two instances is killed; only with `--backend production`.
    Recovery,
}

impl Scenario {
    /// In this order: the idle server has to be fresh, what the sleepers leave behind must not disturb the others, and after
    /// the recovery an instance is missing.
    pub(crate) const ALL: [Self; 11] = [
        Self::Idle,
        Self::Latency,
        Self::NoStep,
        Self::OneStep,
        Self::TenSteps,
        Self::Keyed,
        Self::EveryOption,
        Self::Sleepers,
        Self::Fairness,
        Self::Waiters,
        Self::Recovery,
    ];
}

/// How the scenarios are run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) in_flight: usize,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    pub(crate) sleepers: usize,
    pub(crate) waiters: usize,
    pub(crate) sleep: Duration,
    pub(crate) goals: Goals,
    /// Whether to print what took the databases' time.
    pub(crate) shows_statistics: bool,
}

/// What all scenarios work with.
pub(crate) struct Stage<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) installation: &'a mut Installation,
    pub(crate) load: &'a Load,
    pub(crate) report: &'a mut Report,
}

impl Stage<'_> {
    pub(crate) async fn play(&mut self, scenario: Scenario) -> anyhow::Result<()> {
        match scenario {
            Scenario::Idle => idle::measure(self).await,
            Scenario::Latency => latency::measure(self).await,
            Scenario::NoStep => throughput::measure(self, Workload::NoStep).await,
            Scenario::OneStep => throughput::measure(self, Workload::OneStep).await,
            Scenario::TenSteps => throughput::measure(self, Workload::TenSteps).await,
            Scenario::Keyed => throughput::measure(self, Workload::Keyed).await,
            Scenario::EveryOption => throughput::measure(self, Workload::EveryOption).await,
            Scenario::Fairness => fairness::measure(self).await,
            Scenario::Sleepers => sleepers::measure(self).await,
            Scenario::Waiters => waiters::measure(self).await,
            Scenario::Recovery => recovery::measure(self).await,
        }
    }

    /// Notes the exact counts of a scenario. Any run that is not accounted for makes the bench fail.
    async fn counts(&mut self, name: &'static str, range: Range<usize>) -> anyhow::Result<()> {
        let counts = self.load.ledger.borrow().counts(range.clone());
        let completed = self.load.completed(range).await.context(name)?;
        self.report.counts(name, counts, completed);
        Ok(())
    }
}
