//! The end of a run, once: its status and output, and the events that tell others.

use serde_json::json;

use super::decision::Decision;
use super::defer;
use super::gathering::correlation_id;
use crate::domain::{Change, Event, EventId, Failure, Json, RunStatus, Timestamp};

/// The function returned.
pub(super) fn completed(decision: &mut Decision<'_>, output: &Json) {
    end(decision, RunStatus::Completed, output.clone(), Some(("result", output)));
}

/// The function failed, and has no attempt left.
pub(super) fn failed(decision: &mut Decision<'_>, failure: &Failure) {
    let told = failure.to_report();
    end(decision, RunStatus::Failed, failure.to_output(), Some(("error", &told)));
}

/// The run broke a rule: its output tells of it within `error`, where apps' own errors are not.
pub(super) fn fatal(decision: &mut Decision<'_>, failure: &Failure) {
    let output = failure.to_output().wrapped("error");
    end(
        decision,
        RunStatus::Failed,
        output,
        Some(("error", &failure.to_report())),
    );
}

/// Somebody cancelled the run.
pub(super) fn cancelled(decision: &mut Decision<'_>, reason: &str) {
    let message = if reason.is_empty() {
        "function cancelled"
    } else {
        reason
    };
    let error = Failure::new("Error", message).to_report();
    end(decision, RunStatus::Cancelled, Json::null(), Some(("error", &error)));
}

fn end(decision: &mut Decision<'_>, status: RunStatus, output: Json, told: Option<(&str, &Json)>) {
    if decision.run.status.is_final() {
        return;
    }
    if let Some(lock) = decision.run.lock {
        decision.push(Change::Released(lock));
    }
    let at = decision.context.now;
    let deferred = defer::schedule(decision);
    decision.push(Change::Ended { status, output, at });
    decision.note_end(status);
    // Handlers of these two events end silently, or a handler that fails would call itself for ever.
    let is_observer = decision.run.is_observer();
    let reports = match status {
        RunStatus::Completed => [Some("inngest/function.finished"), None],
        RunStatus::Failed => [Some("inngest/function.finished"), Some("inngest/function.failed")],
        _ => [Some("inngest/function.finished"), Some("inngest/function.cancelled")],
    };
    for name in reports.into_iter().flatten() {
        if is_observer && name != "inngest/function.cancelled" {
            continue;
        }
        let has_listeners = decision.context.listeners.listens(name);
        // Of a batch, each member may have been an invoke, and whoever waits for it hears of the end.
        let further = match name {
            "inngest/function.finished" => decision.run.events.get(1..).unwrap_or_default(),
            _ => &[],
        };
        let awaits = |body: &Json| correlation_id(body, decision.function);
        let further: Vec<String> = further.iter().filter_map(awaits).collect();
        let first = decision.run.events.first().and_then(awaits);
        for correlation in std::iter::once(first).chain(further.into_iter().map(Some)) {
            let event = report(decision, name, status, at, told, correlation.as_deref());
            decision.push(Change::Emit { event, has_listeners });
        }
    }
    for event in deferred {
        let has_listeners = decision.context.listeners.listens(&event.name);
        decision.push(Change::Emit { event, has_listeners });
    }
}

/// The `meta` of an event. Few have one, and the others need not be parsed for it.
fn meta(body: &Json) -> Option<Json> {
    let tree = body.as_str().contains("\"meta\":").then(|| body.to_tree())?;
    Json::from_value(tree.get("meta")?).ok()
}

/// A lifecycle event. Glued from canonical parts, members in order: it holds whole events and outputs, which need not be
/// parsed for it.
/// `correlation` is who waits for it.
fn report(
    decision: &Decision<'_>,
    name: &str,
    status: RunStatus,
    at: Timestamp,
    told: Option<(&str, &Json)>,
    correlation: Option<&str>,
) -> Event {
    let run = &decision.run;
    let first = run.events.first().map_or("{}", Json::as_str);
    let all = run.events.iter().map(Json::as_str).collect::<Vec<_>>().join(",");
    let word = match status {
        RunStatus::Completed => "Completed",
        RunStatus::Cancelled => "Cancelled",
        _ => "Failed",
    };
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let member = |wanted: &str| match told {
        Some((name, value)) if name == wanted => format!("\"{name}\":{value},"),
        _ => String::new(),
    };
    let told_to = correlation.map_or(String::new(), |id| format!("\"correlation_id\":{},", quoted(id)));
    let data = format!(
        "{{\"_inngest\":{{\"status\":\"{word}\"}},{told_to}{error}\"event\":{first},\"events\":[{all}],\
         \"function_id\":{function},{result}\"run_id\":\"{run}\"}}",
        error = member("error"),
        function = quoted(&decision.function.slug),
        result = member("result"),
        run = run.id,
    );
    let id = match correlation.filter(|_| run.events.len() > 1) {
        Some(correlation) => EventId::derive(at, &format!("{name}:{}:{correlation}", run.id)),
        None => EventId::derive(at, &format!("{name}:{}", run.id)),
    };
    // The run's id as the event's: whatever reports it, handlers run once.
    let external_id = if name == "inngest/function.finished" {
        id.to_string()
    } else {
        run.id.to_string()
    };
    let meta = run.events.first().and_then(meta);
    Event::glued_with(name, id, external_id, at, &data, meta.as_ref())
}

/// The event that tells an invoking run that what it invoked does not exist or may not run.
pub(crate) fn refused_invoke(invoked: &Event, failure: &Failure, at: Timestamp) -> Option<Event> {
    let body = invoked.body.to_tree();
    let meta = body.pointer("/data/_inngest")?;
    let correlation = meta.get("correlation_id")?.as_str()?.to_owned();
    let data = json!({
        "_inngest": { "status": "Failed" },
        "correlation_id": correlation,
        "error": failure.to_report(),
        "event": body,
        "events": [body],
        "function_id": meta.get("fn_id"),
        "run_id": "",
    });
    let data = Json::from_value(&data).ok()?;
    let id = EventId::derive(at, &format!("refused:{}", invoked.id));
    Some(Event::glued(
        "inngest/function.finished",
        id,
        id.to_string(),
        at,
        data.as_str(),
    ))
}
