//! The spans of a run, by view.
//!
//! | | legacy | preview |
//! |---|---|---|
//! | root | named after the function | `Run` |
//! | the body's end | `function success`, `function error`, or `execute` after several attempts | `Finalization` |
//! | the body as it is called | `execute` | not shown |
//! | a step that is to be called | running | queued |
//! | attempts of a step that failed for good | as many as it may have | the last one's number |
//! | one attempt, which failed | no child | `Attempt 0` |
//! | parent of an attempt | the root | its step |

use std::sync::Arc;

use callboard_actors::domain::{
    Function, JobKey, MetadataTarget, RunStatus, SpanId, StepId, StepOp, Timestamp, UserSpan,
};
use callboard_actors::ports::{RunSummary, RunView, StepView};
use serde_json::Value;

use super::super::asked::Viewed;
use super::attempts::{Attempt, Group, Groups, groups, is_parked};
use super::info::{self, StepInfo, has_timed_out};
use super::output::{OutputId, RunTraceSpanOutput, Source};
use super::{Op, SpanStatus, View};

/// A span with those below it.
#[derive(Debug, Clone)]
pub(in crate::http) struct Node {
    pub(in crate::http) id: String,
    pub(in crate::http) name: String,
    pub(in crate::http) status: SpanStatus,
    pub(super) attempts: u32,
    pub(in crate::http) queued_at: Timestamp,
    pub(in crate::http) started_at: Option<Timestamp>,
    pub(in crate::http) ended_at: Option<Timestamp>,
    pub(super) op: Option<Op>,
    pub(in crate::http) step_id: Option<String>,
    /// Which attempt at the step it is, if it is one.
    pub(super) attempt: Option<u32>,
    pub(super) step_type: String,
    pub(super) info: Option<StepInfo>,
    pub(super) output: Option<String>,
    pub(super) http_status: Option<u16>,
    /// The span that an app has sent, if it is one.
    pub(super) userland: Option<Arc<UserSpan>>,
    pub(in crate::http) children: Vec<Self>,
}

impl Node {
    /// A span that has only begun to wait.
    pub(super) fn new(id: SpanId, name: String, status: SpanStatus, queued_at: Timestamp) -> Self {
        Self {
            id: id.to_string(),
            name,
            status,
            attempts: 0,
            queued_at,
            started_at: None,
            ended_at: None,
            op: None,
            step_id: None,
            attempt: None,
            step_type: String::new(),
            info: None,
            output: None,
            http_status: None,
            userland: None,
            children: Vec::new(),
        }
    }
}

/// What spans are made from.
struct Builder<'a> {
    viewed: &'a Viewed,
    view: View,
    max_attempts: u32,
}

/// The tree of a run. `function` names its root in the legacy view.
pub(super) fn build(viewed: &Viewed, view: View, function: &str, max_attempts: u32) -> Node {
    let builder = Builder {
        viewed,
        view,
        max_attempts,
    };
    builder.root(function)
}

fn op(kind: StepOp) -> Op {
    match kind {
        // A request of the app's own is one more step that runs.
        StepOp::Run | StepOp::Gateway => Op::Run,
        StepOp::Sleep => Op::Sleep,
        StepOp::WaitForEvent => Op::WaitForEvent,
        StepOp::WaitForSignal => Op::WaitForSignal,
        StepOp::Invoke => Op::Invoke,
        StepOp::AiGateway => Op::AiGateway,
    }
}

impl Builder<'_> {
    fn run(&self) -> &RunSummary {
        &self.viewed.view.summary
    }

    fn is_over(&self) -> bool {
        self.run().status.is_final()
    }

    fn output(&self, of: Source) -> Option<String> {
        Some(OutputId::encode(self.run().id, of, self.view))
    }

    fn node(&self, name: impl Into<String>, id: &str, status: SpanStatus, queued_at: Timestamp) -> Node {
        let id = SpanId::of_call(self.run().id, id, 0);
        Node::new(id, name.into(), status, queued_at)
    }

    fn root(&self, function: &str) -> Node {
        let run = self.run();
        // That a call has gone out is recorded with its outcome only; until then the lease tells.
        let called = self.viewed.leases.iter().filter(|lease| lease.job.id.key.is_call());
        let called_at = called.map(|lease| lease.since).min();
        let status = match run.status {
            RunStatus::Queued if called_at.is_some() => SpanStatus::Running,
            RunStatus::Queued => SpanStatus::Queued,
            RunStatus::Running => SpanStatus::Running,
            RunStatus::Completed => SpanStatus::Completed,
            RunStatus::Failed => SpanStatus::Failed,
            RunStatus::Cancelled => SpanStatus::Cancelled,
        };
        let name = if self.view == View::Preview { "Run" } else { function };
        let mut root = self.node(name, "root", status, run.id.at());
        root.id = SpanId::of_run(run.id).to_string();
        root.started_at = run.started_at.or(called_at);
        root.ended_at = run.ended_at;
        if matches!(run.status, RunStatus::Completed | RunStatus::Failed) {
            root.output = self.output(Source::Run);
        }
        let Groups { groups, body } = groups(&self.viewed.view);
        for (place, group) in groups.iter().enumerate() {
            root.children.push(match &group.step {
                Some(_) => self.step(group),
                None => self.discovery(group, place),
            });
        }
        let has_failed_step = root.children.iter().any(|child| child.status == SpanStatus::Failed);
        root.children.extend(self.end(&groups, &body, has_failed_step));
        root.tidy();
        root
    }

    /// A discovery that succeeded after failures, and found steps that it did not run.
    fn discovery(&self, group: &Group, place: usize) -> Node {
        let mut node = self.node(
            "execute",
            &format!("discovery/{place}"),
            SpanStatus::Completed,
            group.since,
        );
        node.started_at = Some(group.since);
        node.ended_at = group.attempts.last().map(|last| last.ended_at);
        node.attempts = u32::try_from(group.attempts.len()).unwrap_or(u32::MAX);
        node.children = self.attempts(group, &format!("discovery/{place}"));
        node
    }

    fn step(&self, group: &Group) -> Node {
        let view = &self.viewed.view;
        let id = group.step.as_ref().expect("the body has no step");
        let known = view.steps.iter().find(|step| step.id == *id);
        let kind = known.map_or(StepOp::Run, |step| step.op);
        let name = known.map(|step| step.label.clone()).or_else(|| group.name.clone());
        let status = self.status_of(known, group);
        let mut node = self.node(
            name.unwrap_or_else(|| id.to_string()),
            &format!("step/{id}"),
            status,
            group.since,
        );
        node.id = SpanId::of_step(id).to_string();
        node.op = Some(op(kind));
        let run_type = group.run_type.clone().filter(|_| kind == StepOp::Run);
        node.step_type = run_type.unwrap_or_else(|| op(kind).as_str().to_owned());
        node.step_id = Some(id.to_string());
        node.ended_at = known.and_then(|step| step.ended_at);
        node.info = known.and_then(|step| info::of(self.viewed, step, group));
        let is_done = node.ended_at.is_some();
        if is_parked(kind) {
            node.started_at = Some(group.since);
            let step = known.filter(|step| is_done && step.op != StepOp::Sleep);
            // A wait that nothing came to has no output; an invoke that took too long has an error.
            let has_output = step.is_some_and(|step| step.op == StepOp::Invoke || has_timed_out(step) == Some(false));
            node.output = has_output.then(|| self.output(Source::Step(id.to_string()))).flatten();
            if self.is_over() && !is_done {
                node.ended_at = self.run().ended_at;
            }
            return node;
        }
        let is_this = |key: &JobKey| matches!(key, JobKey::Step(step) if step == id);
        let lease = self.viewed.leases.iter().find(|lease| is_this(&lease.job.id.key));
        node.started_at = group.attempts.first().map(|first| first.started_at);
        node.started_at = node
            .started_at
            .or(lease.map(|lease| lease.since))
            .or(known.and_then(|step| step.ended_at));
        if is_done {
            node.output = self.output(Source::Step(id.to_string()));
        } else if self.is_over() {
            node.ended_at = self.run().ended_at;
            let last = group.attempts.last();
            let source = last.map(|last| Source::Attempt(last.place));
            node.output = source.and_then(|source| self.output(source));
        }
        node.http_status = group.attempts.last().and_then(|last| last.http_status);
        self.add_attempts(&mut node, group, &format!("step/{id}"));
        node
    }

    fn status_of(&self, step: Option<&StepView>, group: &Group) -> SpanStatus {
        let has_failed = group.attempts.iter().any(|attempt| attempt.failed);
        match step.map(|step| (step.status, step.op)) {
            Some(("completed", _)) => SpanStatus::Completed,
            Some(("failed", _)) => SpanStatus::Failed,
            _ if self.run().status == RunStatus::Failed && has_failed => SpanStatus::Failed,
            _ if self.is_over() => SpanStatus::Cancelled,
            Some((_, StepOp::WaitForEvent | StepOp::WaitForSignal)) => SpanStatus::Waiting,
            Some((_, kind)) if !is_parked(kind) && !has_failed => {
                let is_this = |key: &JobKey| matches!((key, step), (JobKey::Step(id), Some(step)) if *id == step.id);
                let is_called = self.viewed.leases.iter().any(|lease| is_this(&lease.job.id.key));
                if is_called || self.view == View::Legacy {
                    SpanStatus::Running
                } else {
                    SpanStatus::Queued
                }
            }
            _ => SpanStatus::Running,
        }
    }

    /// The attempts below a step or body, and how many there were, as the view has it.
    fn add_attempts(&self, node: &mut Node, group: &Group, id: &str) {
        let Some(last) = group.attempts.last() else { return };
        let is_one = group.attempts.len() == 1 && node.ended_at.is_some();
        node.attempts = last.number;
        if self.view == View::Legacy && node.status == SpanStatus::Failed && !is_one {
            node.attempts = self.max_attempts;
        }
        let is_bare = is_one && (self.view == View::Legacy || !last.failed);
        if !is_bare {
            node.children = self.attempts(group, id);
        }
    }

    fn attempts(&self, group: &Group, id: &str) -> Vec<Node> {
        let step = group.step.as_ref().map(ToString::to_string);
        let is_done = group.outcome.is_some();
        let mut nodes = Vec::with_capacity(group.attempts.len() + 1);
        for (place, attempt) in group.attempts.iter().enumerate() {
            let is_last = place + 1 == group.attempts.len();
            let status = if attempt.failed {
                SpanStatus::Failed
            } else {
                SpanStatus::Completed
            };
            let before = place.checked_sub(1).and_then(|place| group.attempts[place].retry_at);
            let queued_at = before.unwrap_or(attempt.started_at).min(attempt.started_at);
            let mut node = self.attempt(group, attempt.number, status, queued_at, id);
            node.started_at = Some(attempt.started_at);
            node.ended_at = Some(attempt.ended_at);
            node.http_status = attempt.http_status;
            node.output = match &step {
                Some(step) if is_last && is_done => self.output(Source::Step(step.clone())),
                _ if attempt.failed => self.output(Source::Attempt(attempt.place)),
                _ => None,
            };
            nodes.push(node);
        }
        let next = group
            .attempts
            .last()
            .filter(|last| last.retry_at.is_some() && !is_done && !self.is_over());
        if let (Some(last), true) = (next, group.step.is_some() || id == BODY) {
            let due = last.retry_at.unwrap_or(last.ended_at);
            let is_this = |key: &JobKey| match (key, &group.step) {
                (JobKey::Step(id), Some(step)) => id == step,
                (JobKey::Start | JobKey::Discover(_), _) => true,
                _ => false,
            };
            let lease = self.viewed.leases.iter().find(|lease| is_this(&lease.job.id.key));
            let status = lease.map_or(SpanStatus::Queued, |_| SpanStatus::Running);
            let mut node = self.attempt(group, last.number + 1, status, due, id);
            node.started_at = lease.map(|lease| lease.since);
            nodes.push(node);
        }
        nodes
    }

    fn attempt(&self, group: &Group, number: u32, status: SpanStatus, queued_at: Timestamp, id: &str) -> Node {
        let mut node = self.node(
            format!("Attempt {number}"),
            &format!("{id}/{number}"),
            status,
            queued_at,
        );
        node.attempts = number;
        node.attempt = Some(number);
        node.step_id = group.step.as_ref().map(ToString::to_string);
        if let Some(step) = &group.step {
            node.id = SpanId::of_attempt(step, number).to_string();
            node.op = Some(Op::Run);
            node.step_type = Op::Run.as_str().to_owned();
        }
        node
    }

    /// The body's last execution: how the run ended, or what it is at.
    fn end(&self, groups: &[Group], failures: &[Attempt], has_failed_step: bool) -> Option<Node> {
        let run = self.run();
        let calls = self
            .viewed
            .leases
            .iter()
            .filter(|lease| matches!(lease.job.id.key, JobKey::Start | JobKey::Discover(_)));
        let called_at = calls.map(|lease| lease.since).min();
        let status = match run.status {
            RunStatus::Completed => SpanStatus::Completed,
            RunStatus::Failed if failures.is_empty() && has_failed_step => return None,
            RunStatus::Failed => SpanStatus::Failed,
            RunStatus::Cancelled if failures.is_empty() => return None,
            RunStatus::Cancelled => SpanStatus::Cancelled,
            RunStatus::Queued | RunStatus::Running if !failures.is_empty() => SpanStatus::Running,
            RunStatus::Queued | RunStatus::Running if called_at.is_some() && self.view == View::Legacy => {
                SpanStatus::Running
            }
            RunStatus::Queued | RunStatus::Running => return None,
        };
        let name = match (status, self.view) {
            (SpanStatus::Completed | SpanStatus::Failed, View::Preview) => "Finalization",
            (SpanStatus::Completed, View::Legacy) => "function success",
            (SpanStatus::Failed, View::Legacy) if failures.len() < 2 => "function error",
            _ => "execute",
        };
        let steps = groups.iter().filter_map(|group| group.step.as_ref());
        let ends = steps.filter_map(|id| self.viewed.view.steps.iter().find(|step| step.id == *id)?.ended_at);
        let after_steps = ends
            .max()
            .or(run.started_at)
            .or(called_at)
            .unwrap_or_else(|| run.id.at());
        let mut body = Group {
            attempts: failures.to_vec(),
            ..Group::clone(&BODY_GROUP)
        };
        let since = failures.first().map_or(after_steps, |first| first.started_at);
        let mut node = self.node(name, BODY, status, since);
        node.started_at = Some(since);
        node.ended_at = run.ended_at;
        if name == "Finalization" {
            node.step_type = "FINALIZATION".to_owned();
        }
        if matches!(run.status, RunStatus::Completed | RunStatus::Failed) {
            node.output = self.output(Source::Run);
        }
        if let (RunStatus::Completed, Some(last)) = (run.status, failures.last()) {
            let ended_at = run.ended_at.unwrap_or(last.ended_at);
            body.attempts.push(Attempt {
                place: usize::MAX,
                number: last.number + 1,
                failed: false,
                started_at: last.retry_at.unwrap_or(last.ended_at).min(ended_at),
                ended_at,
                retry_at: None,
                http_status: None,
            });
        }
        self.add_attempts(&mut node, &body, BODY);
        if let (RunStatus::Completed, Some(last)) = (run.status, node.children.last_mut()) {
            last.output = self.output(Source::Run);
        }
        Some(node)
    }
}

/// Names the spans of the body's last execution.
const BODY: &str = "body";

const BODY_GROUP: Group = Group {
    step: None,
    since: Timestamp::MIN,
    attempts: Vec::new(),
    scheduled: None,
    outcome: None,
    name: None,
    run_type: None,
};

impl Node {
    /// The root of a run, in the preview view.
    pub(in crate::http) fn root(viewed: &Viewed, function: &Function) -> Self {
        build(viewed, View::Preview, &function.name, function.max_attempts())
    }

    /// What kind of step it is, if it is one.
    pub(in crate::http) fn step_op(&self) -> Option<&'static str> {
        self.op.map(Op::as_str)
    }

    /// What it gave or threw, if it did.
    pub(in crate::http) fn output(&self, view: &RunView) -> Option<Value> {
        let id = OutputId::decode(self.output.as_deref()?).ok()?;
        RunTraceSpanOutput::find(view, &id).ok()?.into_value()
    }

    /// Whether metadata about this is shown here. What is about an attempt without a span of its own is shown at its step.
    pub(in crate::http) fn is_meant(&self, target: &MetadataTarget, is_root: bool) -> bool {
        if self.userland.is_some() || target.span.is_some() {
            return self.userland.is_some() && target.span.as_ref() == Some(&self.id);
        }
        let step = target.step.as_ref().map(StepId::as_str);
        if step != self.step_id.as_deref() || (step.is_none() && !is_root) {
            return false;
        }
        let has_span = |number| self.children.iter().any(|child| child.attempt == Some(number));
        match (self.attempt, target.attempt) {
            (None, Some(number)) => !has_span(number),
            (of, about) => of == about,
        }
    }

    /// Sees to it that times are in order, here and below: apps and servers have clocks of their own.
    fn tidy(&mut self) {
        if let Some(ended_at) = self.ended_at {
            self.started_at = Some(self.started_at.unwrap_or(ended_at).min(ended_at));
        }
        if let Some(started_at) = self.started_at {
            self.queued_at = self.queued_at.min(started_at);
        }
        self.children.iter_mut().for_each(Self::tidy);
    }
}
