//! What people ask of runs.

use super::Inner;
use crate::domain::{RunId, RunState, Timestamp};
use crate::ports::{Page, RunFilter, RunSummary, RunView, StepView, WaitView};

impl Inner {
    fn summary(&self, run: &RunState) -> RunSummary {
        RunSummary {
            id: run.id,
            function: run.function,
            function_version: 1,
            status: run.status,
            event_ids: run.event_ids.clone(),
            event_name: run.event_name.clone(),
            started_at: run.started_at,
            ended_at: None,
            output: self.outputs.get(&run.id).cloned(),
            original: run.original,
            batch: run.batch,
        }
    }

    pub(super) fn view(&self, id: RunId) -> Option<RunView> {
        let run = self.runs.get(&id)?;
        let jobs = self.jobs.values().filter(|job| job.id.run == id);
        let waits = self.waits.values().filter(|wait| wait.run == id);
        Some(RunView {
            summary: self.summary(run),
            steps: run.steps.values().cloned().map(StepView::from).collect(),
            history: Vec::new(),
            jobs: jobs.cloned().map(Into::into).collect(),
            waits: waits.cloned().map(WaitView::from).collect(),
            held: self
                .letters
                .values()
                .filter(|letter| letter.job.id.run == id)
                .cloned()
                .collect(),
            deferrals: run.deferrals.values().cloned().collect(),
        })
    }

    pub(super) fn list(&self, filter: &RunFilter) -> Page<RunSummary> {
        let is_meant = |run: &&RunState| {
            let created = run.id.at();
            (filter.statuses.is_empty() || filter.statuses.contains(&run.status))
                && filter.functions.as_ref().is_none_or(|of| of.contains(&run.function))
                && filter.from.is_none_or(|from: Timestamp| created >= from)
                && filter.until.is_none_or(|until| created < until)
                && filter.before.is_none_or(|before| run.id < before)
        };
        let mut items: Vec<_> = self
            .runs
            .values()
            .filter(is_meant)
            .map(|run| self.summary(run))
            .collect();
        items.sort_by_key(|run| std::cmp::Reverse(run.id));
        let has_more = items.len() > filter.limit;
        items.truncate(filter.limit);
        Page { items, has_more }
    }
}
