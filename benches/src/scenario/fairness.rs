//! One function with a hundred thousand runs waiting, and a hundred functions with one each: how soon those are called.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::Stage;
use crate::goals::Goals;
use crate::ledger::Micros;
use crate::report::Figure;
use crate::workload::{LONERS, Workload};

const NAME: &str = "fairness";
/// Runs of the busy function.
const CROWD: usize = 100_000;
/// Events in one request.
const ARRAY: usize = 1_000;
/// Requests at a time.
const SENDERS: usize = 4;
/// How long all of it may take to end.
const DEADLINE: Duration = Duration::from_secs(300);

pub(super) async fn measure(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let load = stage.load;
    let first = load.ledger.borrow().len();
    load.arrays(Workload::Crowd, CROWD, ARRAY, SENDERS)
        .await
        .context(NAME)?;
    let crowd = first..load.ledger.borrow().len();
    let waiting = {
        let ledger = load.ledger.borrow();
        let runs = ledger.runs(crowd.clone());
        runs.iter().filter(|run| run.first_call.is_none()).count()
    };

    load.arrays(Workload::Alone, LONERS, LONERS, 1).await.context(NAME)?;
    let loners = crowd.end..load.ledger.borrow().len();
    let all = first..loners.end;
    let ended = load
        .until(DEADLINE, |ledger| {
            ledger.runs(all.clone()).iter().all(|run| run.finished.is_some())
        })
        .await;
    ensure!(ended, "{NAME}: the runs did not end within {} s", DEADLINE.as_secs());

    let delays = {
        let ledger = load.ledger.borrow();
        let runs = ledger.runs(loners).iter();
        let mut delays: Vec<Micros> = runs
            .filter_map(|run| Some(run.first_call?.saturating_sub(run.acked?)))
            .collect();
        delays.sort_unstable();
        delays
    };
    let report = &mut *stage.report;
    report.add(Figure::new(NAME, "waiting in front", "runs", Some(waiting as f64)));
    report.percentiles(
        NAME,
        "acknowledged -> first call",
        &delays,
        [None, Some(Goals::fairness())],
    );
    let last = delays.last().map(|delay| *delay as f64 / 1_000.0);
    report.add(Figure::new(NAME, "the last one", "ms", last).limit(Some(Goals::fairness())));
    stage.counts(NAME, all).await
}
