//! Traces of made-up histories, in both views.

use std::collections::HashMap;

use callboard_actors::domain::{
    EventId, HistoryEntry, HistoryKind, JobKey, Json, RunId, RunStatus, StepId, StepOp, Timestamp,
};
use callboard_actors::ports::{RunView, StepView};
use rstest::rstest;
use serde_json::{Value, json};

use super::super::asked::Viewed;
use super::View::{self, Legacy, Preview};
use super::output::{OutputId, RunTraceSpanOutput};
use super::tree::{self, Node};
use crate::http::tests::fake::NOW;
use crate::http::tests::sdk::{lease, view};

/// A run and its history, told line by line; a second passes with each.
struct Story {
    viewed: Viewed,
    now: Timestamp,
}

impl Story {
    fn new(status: RunStatus) -> Self {
        let mut view = view(status);
        view.jobs.clear();
        view.summary.started_at = (status != RunStatus::Queued).then_some(NOW);
        let viewed = Viewed {
            view,
            leases: Vec::new(),
            invoked: HashMap::new(),
        };
        Self { viewed, now: NOW }
    }

    fn view(&mut self) -> &mut RunView {
        &mut self.viewed.view
    }

    fn tell(mut self, kind: HistoryKind, step: Option<&str>, attempt: u32, detail: Value) -> Self {
        let started_at = self.now;
        self.now = Timestamp::from_millis(self.now.as_millis() + 1_000);
        let mut detail = detail;
        detail["started_at"] = json!(started_at.as_millis());
        let entry = HistoryEntry {
            at: self.now,
            kind,
            step: step.map(StepId::from),
            attempt,
            detail: Json::from_value(&detail).ok(),
        };
        self.view().history.push(entry);
        self
    }

    /// An attempt that failed and is made again, unless it was the last one.
    fn fails(self, step: Option<&str>, attempt: u32, is_last: bool) -> Self {
        let retry_at = self.now.as_millis() + 5_000;
        let retry_at = (!is_last).then_some(retry_at);
        let error = json!({"name": "Error", "message": format!("no {attempt}")});
        let detail = json!({"error": error, "retry_at": retry_at, "status": 500, "name": step});
        self.tell(HistoryKind::AttemptFailed, step, attempt, detail)
    }

    fn step(mut self, id: &str, op: StepOp, status: &'static str, memo: Option<Value>) -> Self {
        let ended_at = memo.is_some().then_some(self.now);
        let step = StepView {
            id: StepId::from(id),
            op,
            label: id.to_uppercase(),
            status,
            started_at: NOW,
            ended_at,
            until: None,
            position: None,
            memo: memo.and_then(|memo| Json::from_value(&memo).ok()),
        };
        self.view().steps.push(step);
        self
    }

    /// A step that ran.
    fn ran(self, id: &str, attempt: u32) -> Self {
        let done = self.tell(HistoryKind::StepCompleted, Some(id), attempt, json!({"name": id}));
        done.step(id, StepOp::Run, "completed", Some(json!({"data": id})))
    }

    fn waits(self, id: &str, op: StepOp, detail: Value) -> Self {
        self.tell(HistoryKind::StepScheduled, Some(id), 0, detail)
            .step(id, op, "parked", None)
    }

    fn comes(mut self, id: &str, memo: &Value, detail: Value) -> Self {
        self = self.tell(HistoryKind::StepCompleted, Some(id), 0, detail);
        let now = self.now;
        let step = self
            .view()
            .steps
            .iter_mut()
            .find(|step| step.id.as_str() == id)
            .expect("was told of");
        step.status = "completed";
        step.ended_at = Some(now);
        step.memo = Json::from_value(memo).ok();
        self
    }

    fn ends(mut self, output: &Value) -> Self {
        let now = self.now;
        let summary = &mut self.view().summary;
        summary.ended_at = Some(now);
        summary.output = Json::from_value(output).ok();
        self.tell(HistoryKind::RunEnded, None, 0, json!({}))
    }

    fn called(mut self, key: JobKey) -> Self {
        self.viewed.leases.push(lease(key));
        self
    }

    fn tree(&self, view: View) -> Node {
        tree::build(&self.viewed, view, "Charge", 2)
    }

    /// Below the root: name, status, attempts, and whether there is an output.
    fn shape(&self, view: View) -> Value {
        fn shape(node: &Node) -> Value {
            let below: Vec<Value> = node.children.iter().map(shape).collect();
            let status = format!("{:?}", node.status).to_uppercase();
            json!([node.name, status, node.attempts, node.output.is_some(), below])
        }
        let root = self.tree(view);
        for node in root
            .children
            .iter()
            .chain(root.children.iter().flat_map(|child| &child.children))
        {
            let is_in_order = node.started_at.is_none_or(|started_at| node.queued_at <= started_at)
                && node
                    .ended_at
                    .is_none_or(|ended_at| node.started_at.is_some_and(|at| at <= ended_at));
            assert!(is_in_order, "{node:#?}");
        }
        root.children.iter().map(shape).collect()
    }

    /// An output as it is printed for debugging.
    fn output(&self, id: Option<&String>) -> String {
        let id = OutputId::decode(id.expect("has an output")).expect("is an id");
        let output = RunTraceSpanOutput::find(&self.viewed.view, &id).expect("is found");
        format!("{output:?}")
    }
}

#[rstest]
#[case(Legacy, json!([["A", "COMPLETED", 0, true, []], ["function success", "COMPLETED", 0, true, []]]))]
#[case(Preview, json!([["A", "COMPLETED", 0, true, []], ["Finalization", "COMPLETED", 0, true, []]]))]
fn a_step_that_succeeds_at_once_has_no_attempts_below(#[case] view: View, #[case] expected: Value) {
    let story = Story::new(RunStatus::Completed).ran("a", 0).ends(&json!({"ok": true}));
    assert_eq!(story.shape(view), expected);
    let root = story.tree(view);
    assert_eq!(root.name, if view == Preview { "Run" } else { "Charge" });
    assert!(root.output.is_some());
    assert_eq!(
        root.children[1].step_type,
        if view == Preview { "FINALIZATION" } else { "" }
    );
    assert!(root.children[1].op.is_none());
}

#[rstest]
#[case(Legacy)]
#[case(Preview)]
fn a_step_that_is_tried_again_has_its_attempts_below(#[case] view: View) {
    let once = Story::new(RunStatus::Running).fails(Some("a"), 0, false);
    let expected = json!([[
        "a",
        "RUNNING",
        0,
        false,
        [
            ["Attempt 0", "FAILED", 0, true, []],
            ["Attempt 1", "QUEUED", 1, false, []],
        ]
    ]]);
    assert_eq!(once.shape(view), expected);
    let again = once.called(JobKey::Step(StepId::from("a")));
    assert_eq!(again.shape(view)[0][4][1][1], "RUNNING");

    let story = Story::new(RunStatus::Completed)
        .fails(Some("a"), 0, false)
        .ran("a", 1)
        .ends(&json!(1));
    let expected = json!([
        "A",
        "COMPLETED",
        1,
        true,
        [
            ["Attempt 0", "FAILED", 0, true, []],
            ["Attempt 1", "COMPLETED", 1, true, []],
        ]
    ]);
    assert_eq!(story.shape(view)[0], expected);
    let root = story.tree(view);
    assert!(
        story
            .output(root.children[0].children[0].output.as_ref())
            .contains("no 0")
    );
    assert_eq!(root.children[0].children[0].http_status, Some(500));
}

#[rstest]
#[case(Legacy, 2, 2)]
#[case(Preview, 1, 2)]
fn a_step_that_fails_for_good(#[case] view: View, #[case] attempts: u32, #[case] below: usize) {
    let story = Story::new(RunStatus::Failed)
        .fails(Some("a"), 0, false)
        .tell(HistoryKind::StepFailed, Some("a"), 1, json!({"name": "a"}))
        .step("a", StepOp::Run, "failed", Some(json!({"error": {"message": "no 1"}})))
        .fails(None, 0, true)
        .ends(&json!({"name": "Error", "message": "no 1"}));
    let root = story.tree(view);
    let step = &root.children[0];
    assert_eq!((step.attempts, step.children.len()), (attempts, below));
    assert!(story.output(step.output.as_ref()).contains("no 1"));
    let end = &story.shape(view)[1];
    assert_eq!(
        end[0],
        if view == Preview {
            "Finalization"
        } else {
            "function error"
        }
    );
    assert_eq!(end[1], "FAILED");
}

#[rstest]
#[case(Legacy, json!([["execute", "FAILED", 2, true, [
    ["Attempt 0", "FAILED", 0, true, []], ["Attempt 1", "FAILED", 1, true, []]]]]))]
#[case(Preview, json!([["Finalization", "FAILED", 1, true, [
    ["Attempt 0", "FAILED", 0, true, []], ["Attempt 1", "FAILED", 1, true, []]]]]))]
fn a_body_that_fails_for_good(#[case] view: View, #[case] expected: Value) {
    let story = Story::new(RunStatus::Failed)
        .fails(None, 0, false)
        .fails(None, 1, true)
        .ends(&json!({"message": "no 1"}));
    assert_eq!(story.shape(view), expected);
}

#[rstest]
#[case(Legacy, "function error", 0)]
#[case(Preview, "Finalization", 1)]
fn a_body_that_fails_at_its_only_attempt(#[case] view: View, #[case] name: &str, #[case] below: usize) {
    let story = Story::new(RunStatus::Failed)
        .fails(None, 0, true)
        .ends(&json!({"message": "no 0"}));
    let end = &story.shape(view)[0];
    assert_eq!((&end[0], &end[2]), (&json!(name), &json!(0)));
    assert_eq!(end[4].as_array().map(Vec::len), Some(below));
}

#[test]
fn a_body_that_succeeds_after_a_failure() {
    let story = Story::new(RunStatus::Completed)
        .ran("a", 0)
        .fails(None, 0, false)
        .ends(&json!(7));
    let expected = json!([
        "function success",
        "COMPLETED",
        1,
        true,
        [
            ["Attempt 0", "FAILED", 0, true, []],
            ["Attempt 1", "COMPLETED", 1, true, []],
        ]
    ]);
    assert_eq!(story.shape(Legacy)[1], expected);
    let waiting = Story::new(RunStatus::Running).fails(None, 0, false);
    let expected = json!([[
        "execute",
        "RUNNING",
        0,
        false,
        [
            ["Attempt 0", "FAILED", 0, true, []],
            ["Attempt 1", "QUEUED", 1, false, []],
        ]
    ]]);
    assert_eq!(waiting.shape(Legacy), expected);
}

#[test]
fn failed_discoveries_belong_to_the_step_that_the_next_one_ran() {
    let story = Story::new(RunStatus::Running)
        .ran("a", 0)
        .fails(None, 0, false)
        .ran("b", 1);
    let shape = story.shape(Legacy);
    assert_eq!(shape[1][0], "B");
    assert_eq!(shape[1][4][0], json!(["Attempt 0", "FAILED", 0, true, []]));
    assert_eq!(shape[1][4][1], json!(["Attempt 1", "COMPLETED", 1, true, []]));
    // One that found steps for others to run stands for itself.
    let story = Story::new(RunStatus::Running)
        .fails(None, 0, false)
        .waits("w", StepOp::Sleep, json!({"until": 1}));
    let shape = story.shape(Legacy);
    assert_eq!((&shape[0][0], &shape[0][1]), (&json!("execute"), &json!("COMPLETED")));
    assert_eq!(shape[1][0], "W");
}

#[rstest]
#[case(StepOp::WaitForEvent, "WAITING")]
#[case(StepOp::WaitForSignal, "WAITING")]
#[case(StepOp::Sleep, "RUNNING")]
#[case(StepOp::Invoke, "RUNNING")]
fn what_waits_has_no_attempts_and_no_end(#[case] op: StepOp, #[case] status: &str) {
    let story = Story::new(RunStatus::Running).waits("w", op, json!({"until": 1, "event": "x", "signal": "s"}));
    for view in [Legacy, Preview] {
        assert_eq!(story.shape(view), json!([["W", status, 0, false, []]]));
        assert!(story.tree(view).children[0].ended_at.is_none());
    }
    let mut cancelled = story;
    cancelled.view().summary.status = RunStatus::Cancelled;
    let cancelled = cancelled.ends(&Value::Null);
    assert_eq!(cancelled.shape(Legacy), json!([["W", "CANCELLED", 0, false, []]]));
    assert!(cancelled.tree(Legacy).output.is_none());
}

#[test]
fn what_was_waited_for_is_told() {
    let found = EventId::new(NOW, 4);
    let detail = json!({"until": NOW.as_millis(), "event": "x", "if": "async.data.n == event.data.n"});
    let waiting = Story::new(RunStatus::Running).waits("w", StepOp::WaitForEvent, detail);
    let info = format!("{:?}", waiting.tree(Legacy).children[0].info);
    assert!(
        info.contains("async.data.n == event.data.n") && info.contains("timed_out: None"),
        "{info}"
    );
    let matched = waiting.comes("w", &json!({"name": "x"}), json!({"event_id": found}));
    let node = matched.tree(Legacy).children.remove(0);
    let info = format!("{:?}", node.info);
    assert!(
        info.contains(&found.to_string()) && info.contains("timed_out: Some(false)"),
        "{info}"
    );
    assert!(node.output.is_some());

    let detail = json!({"until": NOW.as_millis(), "event": "x"});
    let late = Story::new(RunStatus::Running)
        .waits("w", StepOp::WaitForEvent, detail)
        .comes("w", &Value::Null, json!({}));
    let node = late.tree(Legacy).children.remove(0);
    assert!(format!("{:?}", node.info).contains("timed_out: Some(true)"));
    assert!(node.output.is_none(), "nothing came");
}

#[test]
fn an_invoke_tells_its_events_and_its_run() {
    let (cause, answer, run) = (EventId::new(NOW, 1), EventId::new(NOW, 2), RunId::new(NOW, 3));
    let detail = json!({"until": NOW.as_millis(), "function": "shop-other", "event_id": cause});
    let mut story = Story::new(RunStatus::Running).waits("i", StepOp::Invoke, detail);
    assert_eq!(super::invokes(&story.viewed.view), [cause]);
    story.viewed.invoked.insert(cause, run);
    let story = story.comes(
        "i",
        &json!({"error": {"name": "InngestInvokeTimeoutError"}}),
        json!({"event_id": answer}),
    );
    let info = format!("{:?}", story.tree(Legacy).children[0].info);
    for part in [
        cause.to_string(),
        answer.to_string(),
        run.to_string(),
        "timed_out: Some(true)".to_owned(),
    ] {
        assert!(info.contains(&part), "{part}: {info}");
    }
}

#[rstest]
#[case(json!({"type": "step.sendEvent"}), "step.sendEvent")]
#[case(json!({"type": "step.run"}), "RUN")]
#[case(json!({}), "RUN")]
fn a_step_may_have_a_type_of_its_own(#[case] detail: Value, #[case] expected: &str) {
    let planned = Story::new(RunStatus::Running).tell(HistoryKind::StepScheduled, Some("a"), 0, detail);
    let planned = planned.step("a", StepOp::Run, "planned", None);
    let node = planned.tree(Preview).children.remove(0);
    assert_eq!(
        (node.step_type.as_str(), node.status),
        (expected, super::SpanStatus::Queued)
    );
    assert_eq!(node.info.is_some(), expected != "RUN");
    assert_eq!(planned.tree(Legacy).children[0].status, super::SpanStatus::Running);
    let called = planned.called(JobKey::Step(StepId::from("a")));
    assert_eq!(called.tree(Preview).children[0].status, super::SpanStatus::Running);
}

#[test]
fn a_first_call_that_is_under_way() {
    let story = Story::new(RunStatus::Queued);
    assert_eq!(story.tree(Legacy).status, super::SpanStatus::Queued);
    let story = story.called(JobKey::Start);
    assert_eq!(story.tree(Preview).status, super::SpanStatus::Running);
    assert_eq!(story.shape(Legacy), json!([["execute", "RUNNING", 0, false, []]]));
    assert_eq!(story.shape(Preview), json!([]), "the body is not shown as it is called");
}

#[test]
fn spans_have_ids_of_their_own_and_keep_them() {
    let story = Story::new(RunStatus::Completed)
        .fails(Some("a"), 0, false)
        .ran("a", 1)
        .ran("b", 0)
        .ends(&json!(1));
    let ids = |root: &Node| {
        let children = root.children.iter();
        let mut ids = vec![root.id.clone()];
        ids.extend(children.flat_map(|child| {
            [&child.id]
                .into_iter()
                .chain(child.children.iter().map(|node| &node.id))
                .cloned()
        }));
        ids
    };
    let first = ids(&story.tree(Legacy));
    assert_eq!(first, ids(&story.tree(Preview)));
    let distinct: std::collections::BTreeSet<_> = first.iter().collect();
    assert_eq!((distinct.len(), first.len()), (6, 6));
    assert!(first.iter().all(|id| id.len() == 16));
}
