//! What is kept of crons.

use async_trait::async_trait;

use super::{FakeStore, Fault, error};
use crate::domain::{EventId, FunctionId, RunId, Skip, Timestamp};
use crate::ports::{CronGap, CronMark, SlotBook, StoreError, TickView};

impl FakeStore {
    /// Has the run of this event never come into being, for that reason.
    pub(crate) fn skip_run(&self, skip: Skip) {
        let mut inner = self.lock();
        inner.runs.retain(|_, run| run.event_ids[0] != skip.event);
        inner.skips.push(skip);
    }

    /// All that has ended is too old to be kept; `with_events`: and so are all events.
    pub(crate) fn expire(&self, with_events: bool) {
        let mut inner = self.lock();
        inner.runs.retain(|_, run| !run.status.is_final());
        if with_events {
            inner.events.clear();
        }
    }

    /// So many notes about crons are lost.
    pub(crate) fn fail_cron_notes(&self, times: usize) {
        self.lock().cron_faults = times;
    }

    /// How often something was noted about crons.
    pub(crate) fn cron_notes(&self) -> usize {
        self.lock().cron_notes
    }
}

#[async_trait]
impl SlotBook for FakeStore {
    async fn cron_marks(&self, function: Option<FunctionId>) -> Result<Vec<CronMark>, StoreError> {
        let inner = self.lock();
        let marks = inner.cron_marks.values();
        let of = |mark: &&CronMark| function.is_none_or(|function| mark.function == function);
        Ok(marks.filter(of).cloned().collect())
    }

    async fn note_crons(&self, marks: &[CronMark], gaps: &[CronGap]) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.cron_faults > 0 {
            inner.cron_faults -= 1;
            return Err(error(Fault::Unavailable));
        }
        inner.cron_notes += 1;
        for mark in marks {
            let key = (mark.function, mark.schedule.clone());
            inner.cron_marks.insert(key, mark.clone());
        }
        for gap in gaps {
            if !inner.cron_gaps.contains(gap) {
                inner.cron_gaps.push(gap.clone());
            }
        }
        Ok(())
    }

    async fn cron_gaps(
        &self,
        function: FunctionId,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<CronGap>, StoreError> {
        let inner = self.lock();
        let gaps = inner.cron_gaps.iter();
        let touches = |gap: &&CronGap| gap.function == function && gap.last >= from && gap.first <= until;
        Ok(gaps.filter(touches).cloned().collect())
    }

    async fn ticks(&self, ids: &[(EventId, RunId)]) -> Result<Vec<TickView>, StoreError> {
        let inner = self.lock();
        let tick = |(event, run): &(EventId, RunId)| {
            let event = inner.events.get(event)?;
            let skip = inner.skips.iter().find(|skip| skip.event == event.id);
            Some(TickView {
                event: event.id,
                due_at: event.ts,
                fired_at: event.received_at,
                status: inner.runs.get(run).map(|run| run.status),
                skip: skip.map(|skip| (skip.reason, skip.detail.clone())),
            })
        };
        Ok(ids.iter().filter_map(tick).collect())
    }
}
