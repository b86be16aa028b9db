//! What each backend has to reach on the machine that the goals were set for (2 cores, shared by everything), and what it
//! aims at.

use crate::installation::Backend;
use crate::report::Limit;
use crate::workload::Workload;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Goals(pub(crate) Backend);

impl Goals {
    /// Runs a second with 200 in flight.
    pub(crate) fn throughput(self, workload: Workload) -> Option<Limit> {
        let (must, aim) = match (self.0, workload) {
            (Backend::Embedded, Workload::NoStep) => (3000.0, 6000.0),
            (Backend::Embedded, Workload::OneStep | Workload::EveryOption) => (2000.0, 4000.0),
            (Backend::Embedded, Workload::TenSteps) => (700.0, 1300.0),
            (Backend::Production, Workload::NoStep) => (2500.0, 5000.0),
            (Backend::Production, Workload::OneStep | Workload::EveryOption) => (1800.0, 3500.0),
            (Backend::Production, Workload::TenSteps) => (550.0, 1100.0),
            _ => return None,
        };
        Some(Limit::at_least(must).aim(aim))
    }

    /// What a run costs all parts together against one of [`Workload::OneStep`] in the same bench.
    pub(crate) fn cost(workload: Workload) -> Option<Limit> {
        (workload == Workload::Keyed).then(|| Limit::at_most(1.3))
    }

    /// Milliseconds from an acknowledgement to the first call while another function has a hundred thousand runs waiting.
    pub(crate) fn fairness() -> Limit {
        Limit::at_most(1_000.0)
    }

    /// Milliseconds from an acknowledgement to the first call at low load, p50 and p99.
    pub(crate) fn first_call(self) -> [Option<Limit>; 2] {
        match self.0 {
            Backend::Embedded => [Some(Limit::at_most(2.0).aim(0.5)), Some(Limit::at_most(10.0).aim(3.0))],
            Backend::Production => [None, None],
        }
    }

    /// Milliseconds from a step's reply to the next call at low load, p50 and p99.
    pub(crate) fn gap(self) -> [Option<Limit>; 2] {
        match self.0 {
            Backend::Embedded => [Some(Limit::at_most(3.0).aim(1.0)), Some(Limit::at_most(15.0).aim(3.0))],
            Backend::Production => [Some(Limit::at_most(3.0).aim(1.5)), None],
        }
    }

    /// MiB of an instance that has nothing to do.
    pub(crate) fn idle_memory(self) -> Limit {
        Limit::at_most(match self.0 {
            Backend::Embedded => 20.0,
            Backend::Production => 25.0,
        })
    }

    /// Percent of one core that an instance uses when it has nothing to do.
    pub(crate) fn idle_cpu(self) -> Option<Limit> {
        (self.0 == Backend::Embedded).then(|| Limit::at_most(0.2))
    }

    /// Questions a second to PostgreSQL, and to Redis, by an instance that has nothing to do.
    pub(crate) fn idle_questions() -> Limit {
        Limit::at_most(5.0)
    }

    /// MiB that 10,000 sleepers cost the server.
    pub(crate) fn sleepers_memory() -> Limit {
        Limit::at_most(40.0)
    }

    /// Milliseconds that sleepers are woken late, p99.
    pub(crate) fn lateness() -> Limit {
        Limit::at_most(200.0)
    }

    /// Milliseconds that it takes to find the one of a million waits that an event ends, p99.
    pub(crate) fn lookup() -> Limit {
        Limit::at_most(5.0).aim(1.0)
    }

    /// Seconds until the leases of a killed instance expire.
    pub(crate) fn expiry() -> Limit {
        Limit::at_most(15.0)
    }

    /// Seconds from there until its last run moves again.
    pub(crate) fn recovery() -> Limit {
        Limit::at_most(2.0)
    }
}
