//! What the app and the generator saw of every run, by the number in its event.
//!
//! Promises: each call is booked once, so that a lost or repeated execution shows in the counts; times are microseconds since
//! the ledger was opened, on a monotonic clock.
//! Never: asks the server anything; what it holds is the view from outside.

use std::ops::Range;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::workload::Workload;

/// Microseconds since the ledger was opened.
pub(crate) type Micros = u64;

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) workload: Workload,
    /// Known from the first call on.
    pub(crate) run_id: Option<Box<str>>,
    pub(crate) sent: Micros,
    pub(crate) acked: Option<Micros>,
    pub(crate) first_call: Option<Micros>,
    pub(crate) finished: Option<Micros>,
    /// The first call after the ledger was marked, of a run that was sent before.
    pub(crate) resumed: Option<Micros>,
    last_reply: Option<Micros>,
    /// Executions per step; the last place counts final answers.
    executed: Vec<u16>,
    done: Option<oneshot::Sender<()>>,
}

/// What the app answers to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// 206 with the operation of this step.
    Step(usize),
    /// 200.
    Final,
    /// The event's number was never handed out, or the call holds more memos than the workload has steps.
    Unknown,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    opened: Instant,
    sleep: Duration,
    runs: Vec<Run>,
    /// Time between a step's reply and the run's next call, with the run's number. Sleeps are kept apart.
    gaps: Vec<(usize, Micros)>,
    lateness: Vec<(usize, Micros)>,
    /// Calls with an attempt above 0: the server retried something that did not fail.
    pub(crate) retried: u64,
    /// Calls for an event that already has a run with another id.
    pub(crate) twins: u64,
    /// Calls that made no sense.
    pub(crate) unknown: u64,
    /// Calls without a signature.
    pub(crate) unsigned: u64,
    mark: Option<Micros>,
}

/// Exact counts over some runs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) finished: u64,
    /// Acknowledged but not finished.
    pub(crate) lost: u64,
    /// Executions beyond the first, of any step or of the end.
    pub(crate) repeated: u64,
    /// Steps of finished runs that were never executed.
    pub(crate) skipped: u64,
}

impl Ledger {
    pub(crate) fn open(sleep: Duration) -> Self {
        Self {
            opened: Instant::now(),
            sleep,
            runs: Vec::new(),
            gaps: Vec::new(),
            lateness: Vec::new(),
            retried: 0,
            twins: 0,
            unknown: 0,
            unsigned: 0,
            mark: None,
        }
    }

    pub(crate) fn now(&self) -> Micros {
        u64::try_from(self.opened.elapsed().as_micros()).expect("a bench ends within 500,000 years")
    }

    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn runs(&self, range: Range<usize>) -> &[Run] {
        &self.runs[range]
    }

    /// Books a run that is about to be sent. The receiver fires when the app has given the final answer.
    pub(crate) fn begin(&mut self, workload: Workload) -> (usize, oneshot::Receiver<()>) {
        let (done, finished) = oneshot::channel();
        let number = self.runs.len();
        let sent = self.now();
        self.runs.push(Run {
            workload,
            run_id: None,
            sent,
            acked: None,
            first_call: None,
            finished: None,
            resumed: None,
            last_reply: None,
            executed: vec![0; workload.steps() + 1],
            done: Some(done),
        });
        (number, finished)
    }

    /// Books the server's acknowledgement of the event.
    pub(crate) fn acknowledge(&mut self, number: usize) {
        let now = self.now();
        self.runs[number].acked = Some(now);
    }

    /// Notes from now on when runs that are under way are called again. Answers when that is.
    pub(crate) fn mark(&mut self) -> Micros {
        let now = self.now();
        self.mark = Some(now);
        now
    }

    /// Books one call and decides its answer: the step after the memos it came with, or the end.
    pub(crate) fn call(&mut self, number: usize, run_id: &str, attempt: u32, memos: usize) -> Reply {
        let now = self.now();
        let Some(run) = self.runs.get_mut(number).filter(|run| memos <= run.workload.steps()) else {
            self.unknown += 1;
            return Reply::Unknown;
        };
        match &run.run_id {
            None => run.run_id = Some(run_id.into()),
            Some(known) if **known != *run_id => self.twins += 1,
            Some(_) => {}
        }
        if attempt > 0 {
            self.retried += 1;
        }
        run.first_call.get_or_insert(now);
        if self.mark.is_some_and(|mark| run.sent < mark) {
            run.resumed.get_or_insert(now);
        }
        if let Some(replied) = run.last_reply.take() {
            let waited = now - replied;
            if run.workload == Workload::Sleep {
                let asked = u64::try_from(self.sleep.as_micros()).expect("a sleep is short");
                self.lateness.push((number, waited.saturating_sub(asked)));
            } else {
                self.gaps.push((number, waited));
            }
        }
        run.executed[memos] = run.executed[memos].saturating_add(1);
        if memos < run.workload.steps() {
            run.last_reply = Some(now);
            return Reply::Step(memos);
        }
        run.finished.get_or_insert(now);
        if let Some(done) = run.done.take() {
            // The generator may have given up on this run.
            let _ = done.send(());
        }
        Reply::Final
    }

    pub(crate) fn counts(&self, range: Range<usize>) -> Counts {
        let mut counts = Counts::default();
        for run in self.runs(range) {
            counts.sent += 1;
            counts.acked += u64::from(run.acked.is_some());
            counts.finished += u64::from(run.finished.is_some());
            counts.lost += u64::from(run.acked.is_some() && run.finished.is_none());
            for times in &run.executed {
                counts.repeated += u64::from(times.saturating_sub(1));
                counts.skipped += u64::from(*times == 0 && run.finished.is_some());
            }
        }
        counts
    }

    /// How many runs of this range are inside a step that was answered, and not called again.
    pub(crate) fn parked(&self, range: Range<usize>) -> usize {
        self.runs(range).iter().filter(|run| run.last_reply.is_some()).count()
    }

    /// Sorted times from a step's reply to the next call.
    pub(crate) fn gaps(&self, range: &Range<usize>) -> Vec<Micros> {
        sorted(&self.gaps, range)
    }

    /// Sorted times by which sleepers were called too late.
    pub(crate) fn lateness(&self, range: &Range<usize>) -> Vec<Micros> {
        sorted(&self.lateness, range)
    }
}

fn sorted(samples: &[(usize, Micros)], range: &Range<usize>) -> Vec<Micros> {
    let mut picked: Vec<_> = samples
        .iter()
        .filter(|(number, _)| range.contains(number))
        .map(|(_, time)| *time)
        .collect();
    picked.sort_unstable();
    picked
}

/// The value below which `percent` of the sorted samples lie (nearest rank), in milliseconds; None without samples.
pub(crate) fn percentile_ms(sorted: &[Micros], percent: f64) -> Option<f64> {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).map(|micros| *micros as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_driven_step_by_step() {
        let mut ledger = Ledger::open(Duration::ZERO);
        let (number, mut finished) = ledger.begin(Workload::OneStep);
        ledger.acknowledge(number);
        assert_eq!(ledger.call(number, "run", 0, 0), Reply::Step(0));
        assert_eq!(ledger.parked(0..1), 1);
        assert!(finished.try_recv().is_err());
        assert_eq!(ledger.call(number, "run", 0, 1), Reply::Final);
        assert!(finished.try_recv().is_ok());
        assert_eq!(ledger.gaps(&(0..1)).len(), 1);
        let expected = Counts {
            sent: 1,
            acked: 1,
            finished: 1,
            ..Counts::default()
        };
        assert_eq!(ledger.counts(0..1), expected);
    }

    #[test]
    fn loss_repetition_and_twins_show() {
        let mut ledger = Ledger::open(Duration::ZERO);
        let (lost, _) = ledger.begin(Workload::NoStep);
        ledger.acknowledge(lost);
        let (twice, _) = ledger.begin(Workload::OneStep);
        ledger.acknowledge(twice);
        ledger.call(twice, "run", 0, 0);
        ledger.call(twice, "run", 1, 0);
        ledger.call(twice, "other", 0, 1);
        let counts = ledger.counts(0..2);
        assert_eq!((counts.lost, counts.repeated, counts.skipped), (1, 1, 0));
        assert_eq!((ledger.retried, ledger.twins), (1, 1));
    }

    #[test]
    fn runs_that_were_under_way_are_seen_to_move_on() {
        let mut ledger = Ledger::open(Duration::ZERO);
        let (before, _) = ledger.begin(Workload::OneStep);
        ledger.call(before, "run", 0, 0);
        // Time passes, by the ledger's own measure.
        while ledger.now() == ledger.runs[before].sent {}
        let mark = ledger.mark();
        let (after, _) = ledger.begin(Workload::OneStep);
        ledger.call(after, "other", 0, 0);
        assert_eq!(ledger.runs[before].resumed, None);
        ledger.call(before, "run", 0, 0);
        assert!(ledger.runs[before].resumed >= Some(mark));
        assert_eq!(ledger.runs[after].resumed, None);
    }

    #[test]
    fn a_run_that_ends_without_its_step_is_noticed() {
        let mut ledger = Ledger::open(Duration::ZERO);
        let (number, _) = ledger.begin(Workload::OneStep);
        assert_eq!(ledger.call(number, "run", 0, 1), Reply::Final);
        assert_eq!(ledger.counts(0..1).skipped, 1);
    }

    #[test]
    fn calls_that_make_no_sense_are_counted() {
        let mut ledger = Ledger::open(Duration::ZERO);
        assert_eq!(ledger.call(7, "run", 0, 0), Reply::Unknown);
        let (number, _) = ledger.begin(Workload::NoStep);
        assert_eq!(ledger.call(number, "run", 0, 1), Reply::Unknown);
        assert_eq!(ledger.unknown, 2);
    }

    #[test]
    fn percentiles_take_the_nearest_rank() {
        let samples: Vec<Micros> = (1..=100).map(|n| n * 1000).collect();
        assert_eq!(percentile_ms(&samples, 50.0), Some(50.0));
        assert_eq!(percentile_ms(&samples, 99.0), Some(99.0));
        assert_eq!(percentile_ms(&samples[..1], 99.0), Some(1.0));
        assert_eq!(percentile_ms(&[], 50.0), None);
    }
}
