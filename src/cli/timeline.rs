//! A run as it happens, for people: one line for each thing that is new since the last look.
//!
//! ```text
//!     0 ms  run     started
//!    14 ms  step    charge card          done in 12 ms
//!    15 ms  step    wait an hour         sleeps until 2026-11-21T09:00:00.000Z
//! ```

use std::future::Future;
use std::io::Write;
use std::time::Duration;

use callboard_actors::domain::{HistoryEntry, HistoryKind, Json, Timestamp};
use callboard_actors::ports::{RunView, StoreError};
use serde_json::Value;

/// Between looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What of a run has been told.
#[derive(Debug, Default)]
pub struct Timeline {
    told: usize,
}

impl Timeline {
    /// The lines for what is new.
    pub fn news(&mut self, view: &RunView) -> Vec<String> {
        let new = view.history.iter().skip(self.told);
        let lines = new.map(|entry| line(view, entry)).collect();
        self.told = view.history.len();
        lines
    }
}

/// Looks at a run again and again, and prints what is new, until the run has ended. Answers its last view; `None` if
/// there is no such run.
///
/// # Errors
/// When the run can't be looked at, or nothing can be printed.
pub async fn follow<Look, Looking>(look: Look, out: &mut impl Write) -> anyhow::Result<Option<RunView>>
where
    Look: FnMut() -> Looking,
    Looking: Future<Output = Result<Option<RunView>, StoreError>>,
{
    follow_every(PAUSE, look, out).await
}

async fn follow_every<Look, Looking>(
    pause: Duration,
    mut look: Look,
    out: &mut impl Write,
) -> anyhow::Result<Option<RunView>>
where
    Look: FnMut() -> Looking,
    Looking: Future<Output = Result<Option<RunView>, StoreError>>,
{
    let mut timeline = Timeline::default();
    loop {
        let Some(view) = look().await? else {
            return Ok(None);
        };
        for line in timeline.news(&view) {
            writeln!(out, "{line}")?;
        }
        if view.summary.status.is_final() {
            if let Some(output) = &view.summary.output {
                writeln!(out, "{:>9}  output  {output}", "")?;
            }
            return Ok(Some(view));
        }
        tokio::time::sleep(pause).await;
    }
}

fn line(view: &RunView, entry: &HistoryEntry) -> String {
    let detail = entry.detail.as_ref().map(Json::to_tree).unwrap_or_default();
    let since = entry.at.since(view.summary.id.at()).as_millis();
    let (subject, what) = match entry.kind {
        HistoryKind::RunScheduled => ("run", "scheduled".to_owned()),
        HistoryKind::RunStarted => ("run", "started".to_owned()),
        HistoryKind::RunEnded => ("run", detail["status"].as_str().unwrap_or("ended").to_owned()),
        HistoryKind::StepCompleted => ("step", format!("done{}", took(&detail))),
        HistoryKind::StepFailed => ("step", format!("failed for good{}", took(&detail))),
        HistoryKind::StepScheduled => ("step", scheduled(&detail)),
        HistoryKind::AttemptFailed => ("attempt", failed(entry.attempt, &detail)),
        HistoryKind::JobBuried => ("job", buried(&detail)),
        HistoryKind::MetadataWritten => ("note", noted(&detail)),
        HistoryKind::JobRevived => ("job", format!("{} is tried again", text(&detail, "job"))),
    };
    let name = name(view, entry, &detail);
    let name = if name.is_empty() { name } else { format!("{name:<24} ") };
    format!("{since:>6} ms  {subject:<7} {name}{what}")
}

fn name(view: &RunView, entry: &HistoryEntry, detail: &Value) -> String {
    let Some(id) = &entry.step else {
        return String::new();
    };
    let known = view.steps.iter().find(|step| step.id == *id);
    let name = known.map(|step| step.label.clone());
    name.or_else(|| detail["name"].as_str().map(str::to_owned))
        .unwrap_or_else(|| id.to_string())
}

fn took(detail: &Value) -> String {
    let both = detail["started_at"].as_i64().zip(detail["ended_at"].as_i64());
    both.map(|(from, to)| format!(" in {} ms", (to - from).max(0)))
        .unwrap_or_default()
}

fn scheduled(detail: &Value) -> String {
    let until = detail["until"]
        .as_i64()
        .map(|at| format!(" until {}", Timestamp::from_millis(at)));
    let what = match detail["op"].as_str() {
        Some("sleep") => "sleeps",
        Some("wait_for_event") => "waits for an event",
        Some("wait_for_signal") => "waits for a signal",
        Some("invoke") => "waits for another function",
        _ => "planned",
    };
    format!("{what}{}", until.unwrap_or_default())
}

fn buried(detail: &Value) -> String {
    let (job, reason) = (text(detail, "job"), text(detail, "reason"));
    format!("{job} is given up: {reason}; see `callboard dead-letters`")
}

/// Which kinds of metadata.
fn noted(detail: &Value) -> String {
    let updates = detail["updates"].as_array().map(Vec::as_slice).unwrap_or_default();
    let kinds: Vec<&str> = updates.iter().filter_map(|update| update["kind"].as_str()).collect();
    kinds.join(", ")
}

fn text<'a>(detail: &'a Value, member: &str) -> &'a str {
    detail[member].as_str().unwrap_or("-")
}

fn failed(attempt: u32, detail: &Value) -> String {
    let said = detail["error"]["message"].as_str().unwrap_or("no message");
    let retry = detail["retry_at"]
        .as_i64()
        .map(|at| format!("; again at {}", Timestamp::from_millis(at)));
    format!("{} failed: {said}{}", attempt + 1, retry.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use callboard_actors::domain::{FunctionId, RunId, RunStatus, StepId, StepOp};
    use callboard_actors::ports::{RunSummary, StepView};
    use serde_json::json;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_750_000_000_000);

    fn view(status: RunStatus, history: Vec<HistoryEntry>) -> RunView {
        RunView {
            summary: RunSummary {
                id: RunId::new(START, 1),
                function: FunctionId::derive("app", "fn"),
                function_version: 1,
                status,
                event_ids: Vec::new(),
                batch: None,
                event_name: "demo/started".to_owned(),
                started_at: Some(START),
                ended_at: None,
                output: Some(Json::parse(r#"{"ok":true}"#).expect("valid")),
                original: None,
            },
            steps: vec![StepView {
                id: StepId::from("a"),
                op: StepOp::Run,
                label: "charge card".to_owned(),
                status: "completed",
                started_at: START,
                ended_at: None,
                until: None,
                memo: None,
                position: None,
            }],
            history,
            jobs: Vec::new(),
            waits: Vec::new(),
            held: Vec::new(),
            deferrals: Vec::new(),
        }
    }

    fn entry(after: u64, kind: HistoryKind, step: Option<&str>, detail: &Value) -> HistoryEntry {
        HistoryEntry {
            at: START.after(Duration::from_millis(after)),
            kind,
            step: step.map(StepId::from),
            attempt: 0,
            detail: Some(Json::from_value(detail).expect("valid")),
        }
    }

    #[test]
    fn tells_each_thing_once() {
        let started = entry(3, HistoryKind::RunStarted, None, &json!({}));
        let retry = json!({"error": {"message": "card declined"}, "retry_at": 1_750_000_001_000_i64});
        let failed = entry(9, HistoryKind::AttemptFailed, Some("a"), &retry);
        let done = json!({"started_at": 10, "ended_at": 22});
        let done = entry(22, HistoryKind::StepCompleted, Some("a"), &done);
        let mut timeline = Timeline::default();
        let first = timeline.news(&view(RunStatus::Running, vec![started.clone(), failed.clone()]));
        assert_eq!(
            first,
            [
                "     3 ms  run     started",
                "     9 ms  attempt charge card              1 failed: card declined; again at 2025-06-15T15:06:41.000Z",
            ]
        );
        let second = timeline.news(&view(RunStatus::Running, vec![started, failed, done]));
        assert_eq!(second, ["    22 ms  step    charge card              done in 12 ms"]);
    }

    #[actix_web::test]
    async fn follows_until_the_end() {
        let scheduled = entry(0, HistoryKind::RunScheduled, None, &json!({}));
        let ended = entry(70, HistoryKind::RunEnded, None, &json!({"status": "completed"}));
        let mut views = vec![
            view(RunStatus::Completed, vec![scheduled.clone(), ended]),
            view(RunStatus::Queued, vec![scheduled]),
        ];
        let mut out = Vec::new();
        let last = follow_every(Duration::ZERO, || std::future::ready(Ok(views.pop())), &mut out)
            .await
            .expect("it is followed");
        assert_eq!(last.expect("there is a run").summary.status, RunStatus::Completed);
        let text = String::from_utf8(out).expect("text");
        assert_eq!(
            text,
            "     0 ms  run     scheduled\n    70 ms  run     completed\n           output  {\"ok\":true}\n"
        );
    }
}
