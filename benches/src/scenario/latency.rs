//! Latencies at ten runs a second.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Stage;
use crate::ledger::Micros;
use crate::workload::Workload;

const NAME: &str = "low-load";
/// Runs a second.
const LOW_LOAD: u32 = 10;

pub(super) async fn measure(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let load = stage.load;
    let first = load.ledger.borrow().len();
    // At ten a second a short window gives no p99 worth the name.
    let window = stage.plan.window.max(Duration::from_secs(2)) * 2;
    load.open_loop(Workload::OneStep, LOW_LOAD, Instant::now() + window)
        .await
        .context(NAME)?;
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
        let (report, goals) = (&mut *stage.report, stage.plan.goals);
        report.percentiles(NAME, "event sent -> ack", &acks, [None, None]);
        report.percentiles(NAME, "ack -> first call", &first_calls, goals.first_call());
        report.percentiles(NAME, "step reply -> next call", &ledger.gaps(&range), goals.gap());
    }
    stage.counts(NAME, range).await
}
