//! What the changes of an [`Advance`] amount to.
//!
//! Changes happen in order, statements kind by kind. So what one change does and a later one undoes is settled here:
//! for every job, wait and step only the last word is left.

use std::collections::BTreeMap;

use callboard_actors::domain::{
    Advance, Change, ClaimId, DeadLetter, Deferral, Event, HistoryEntry, Job, JobKey, Json, RunId, RunStatus, Step,
    StepId, Timestamp, Wait, WaitKey, WaitKind, Write,
};

/// The sum of an advance.
#[derive(Default)]
pub(in crate::store) struct Folded<'a> {
    pub(in crate::store) status: Option<RunStatus>,
    pub(in crate::store) started_at: Option<Timestamp>,
    pub(in crate::store) request_version: Option<i32>,
    pub(in crate::store) plan_only: Option<bool>,
    /// As JSON.
    pub(in crate::store) group: Option<String>,
    /// As text.
    pub(in crate::store) reporter: Option<String>,
    pub(in crate::store) output: Option<&'a Json>,
    pub(in crate::store) ended_at: Option<Timestamp>,
    /// Runs whose jobs, waits and dead letters go, before any of those below come.
    pub(in crate::store) ended: Option<RunId>,
    /// Jobs that come (or change) or, `None`, go.
    pub(in crate::store) jobs: BTreeMap<&'a JobKey, Option<&'a Job>>,
    /// Waits that come or, `None`, go.
    pub(in crate::store) waits: BTreeMap<&'a WaitKey, Option<&'a Wait>>,
    /// Signals taken over.
    pub(in crate::store) signals: Vec<&'a str>,
    /// Steps with their places in the order of reporting.
    pub(in crate::store) steps: BTreeMap<&'a StepId, (i64, &'a Step)>,
    /// What is put off, or what has become of it, with its place in the order of putting off.
    pub(in crate::store) deferrals: BTreeMap<&'a StepId, (i64, &'a Deferral)>,
    pub(in crate::store) history: Vec<(i64, &'a HistoryEntry)>,
    /// Events with whether they have to be routed in any case.
    pub(in crate::store) emits: Vec<(&'a Event, bool)>,
    /// A lock that is given up, if the run still holds it.
    pub(in crate::store) released: Option<ClaimId>,
    /// Dead letters that come or, `None`, go.
    pub(in crate::store) letters: BTreeMap<&'a JobKey, Option<&'a DeadLetter>>,
}

impl<'a> Folded<'a> {
    /// The sum of a write's changes, if it is an advance.
    pub(in crate::store) fn of(write: &'a Write) -> Option<Self> {
        let Write::Advance(advance) = write else { return None };
        let mut folded = Self::default();
        for (index, change) in advance.changes.iter().enumerate() {
            folded.add(advance, index, change);
        }
        Some(folded)
    }

    fn add(&mut self, advance: &'a Advance, index: usize, change: &'a Change) {
        match change {
            Change::Started { at } => {
                self.status = Some(RunStatus::Running);
                self.started_at = Some(*at);
            }
            Change::RequestVersion(version) => self.request_version = Some(*version),
            Change::PlanOnly(on) => self.plan_only = Some(*on),
            Change::Group(group) => {
                self.group = Some(serde_json::to_string(group).expect("a set of texts serialises"));
            }
            Change::Reporter(call) => self.reporter = Some(call.to_string()),
            Change::StepPut(step) => {
                let seq = place(advance.expected + 1, index);
                let entry = self.steps.entry(&step.id).or_insert((seq, step));
                if !entry.1.is_done() {
                    entry.1 = step;
                }
            }
            Change::Deferred(deferral) => {
                let seq = place(advance.expected + 1, index);
                self.deferrals.entry(&deferral.id).or_insert((seq, deferral)).1 = deferral;
            }
            Change::JobPut(job) => {
                debug_assert_eq!(job.id.run, advance.run, "a run's decision concerns its own jobs");
                self.jobs.insert(&job.id.key, Some(job));
            }
            Change::JobDone(key) => {
                self.jobs.insert(key, None);
            }
            Change::WaitPut(wait) => {
                debug_assert_eq!(wait.run, advance.run, "a run's decision concerns its own waits");
                if wait.kind == WaitKind::Signal {
                    self.signals.push(&wait.name);
                    for put in self.waits.values_mut() {
                        if put.is_some_and(|put| put.kind == WaitKind::Signal && put.name == wait.name) {
                            *put = None;
                        }
                    }
                }
                self.waits.insert(&wait.key, Some(wait));
            }
            Change::WaitDone(key) => {
                self.waits.insert(key, None);
            }
            Change::Emit { event, has_listeners } => {
                let awaited = self.waits.values().flatten().any(|wait| wait.name == event.name);
                self.emits.push((event, *has_listeners || awaited));
            }
            Change::Ended { status, output, at } => {
                self.status = Some(*status);
                self.output = Some(output);
                self.ended_at = Some(*at);
                self.group = Some("[]".to_owned());
                self.ended = Some(advance.run);
                self.jobs.clear();
                self.waits.clear();
                self.letters.clear();
            }
            Change::Noted(entry) => self.history.push((place(advance.expected + 1, index), entry)),
            Change::Buried(letter) => {
                debug_assert_eq!(letter.job.id.run, advance.run, "a run's decision concerns its own jobs");
                self.jobs.insert(&letter.job.id.key, None);
                self.letters.insert(&letter.job.id.key, Some(letter));
            }
            Change::Released(lock) => self.released = Some(*lock),
            Change::Unburied(key) => {
                self.letters.insert(key, None);
            }
        }
    }
}

/// A number that grows from change to change and from version to version, without looking at what is stored.
pub(in crate::store) fn place(version: u64, index: usize) -> i64 {
    /// Far more changes than one decision has: a reply holds 1,000 opcodes.
    const CHANGES: u64 = 1 << 20;
    let index = u64::try_from(index).unwrap_or(CHANGES).min(CHANGES - 1);
    i64::try_from(version.saturating_mul(CHANGES).saturating_add(index)).unwrap_or(i64::MAX)
}
