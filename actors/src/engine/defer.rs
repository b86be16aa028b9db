//! What a run puts off until its end, and what becomes of it then.
//!
//! A deferral is taken down once, under its id, in the commit of whatever brought it; one that is known stays as it is, so an
//! app may say the same again. What breaks a limit is remembered as refused, and the run goes on: nothing of this fails an
//! attempt. At the run's end, whatever that end is, each one that is pending is an event of the same commit: it starts its
//! function once, and none is lost.

use serde_json::{Value, json};

use super::decision::Decision;
use crate::domain::{
    Change, DeferAdd, DeferRefused, Deferral, DeferralStatus, Event, EventId, FunctionId, Json, Opcode, OpcodeKind,
    RunState, SpanId, StepId, limits,
};

/// Takes down what these opcodes put off and take back. Answers whether there was anything new.
pub(super) fn take_down(decision: &mut Decision<'_>, ops: &[Opcode]) -> bool {
    let news = news(&decision.run, ops);
    let is_any = !news.is_empty();
    for deferral in news {
        if let Some(reason) = &deferral.reason {
            tracing::warn!(run = %decision.run.id, function = deferral.function, name = deferral.name, reason,
                "a function is not put off");
        }
        decision.push(Change::Deferred(deferral));
    }
    is_any
}

/// Whether these opcodes put off or take back something that is not known as yet.
pub(super) fn has_news(run: &RunState, ops: &[Opcode]) -> bool {
    !news(run, ops).is_empty()
}

/// The deferrals that come of these opcodes, in order.
fn news(run: &RunState, ops: &[Opcode]) -> Vec<Deferral> {
    let mut news: Vec<Deferral> = Vec::new();
    let (mut count, mut bytes) = (run.deferrals.len(), run.deferred_bytes());
    for op in ops {
        let latest = |news: &[Deferral], id: &StepId| {
            let new = news.iter().rev().find(|deferral| deferral.id == *id);
            new.or_else(|| run.deferrals.get(id)).cloned()
        };
        match &op.kind {
            OpcodeKind::DeferAdd(_) if op.id.as_str().is_empty() || latest(&news, &op.id).is_some() => {}
            OpcodeKind::DeferAdd(add) => {
                let Some(deferral) = added(op, add, count, bytes) else {
                    continue;
                };
                count += 1;
                bytes += deferral.input_bytes();
                news.push(deferral);
            }
            // What is unknown was taken back before it was ever sent; what is settled can't be.
            OpcodeKind::DeferAbort { target } => {
                if let Some(pending) = latest(&news, target).filter(Deferral::is_pending) {
                    bytes -= pending.input_bytes();
                    news.push(pending.settled(DeferralStatus::Aborted, None));
                }
            }
            _ => {}
        }
    }
    news
}

/// What one more comes to, beside so many with so many bytes.
fn added(op: &Opcode, add: &DeferAdd, count: usize, bytes: usize) -> Option<Deferral> {
    let input = match &add.input {
        Ok((input, _)) if bytes + input.len() > limits::DEFERRAL_INPUT_BYTES => Err(DeferRefused::TooLarge),
        other => other.clone(),
    };
    let refused = if count >= limits::DEFERRALS_PER_RUN {
        Some(DeferRefused::TooMany)
    } else {
        input.as_ref().err().copied()
    };
    // What can't be remembered, or need not be for nobody has a place left for it.
    if let Some(why @ (DeferRefused::NoFunction | DeferRefused::TooMany)) = refused {
        tracing::warn!(name = add.name, function = add.function, %why, "a function is not put off");
        return None;
    }
    let (input, meta) = input.ok().map_or((None, None), |(input, meta)| (Some(input), meta));
    Some(Deferral {
        id: op.id.clone(),
        name: add.name.clone(),
        function: add.function.clone(),
        status: refused.map_or(DeferralStatus::Pending, |_| DeferralStatus::Rejected),
        reason: refused.map(|why| why.to_string()),
        input,
        meta,
        event: None,
    })
}

/// The run is about to end: all that is pending is scheduled. Answers the events, to be emitted when the run has ended.
pub(super) fn schedule(decision: &mut Decision<'_>) -> Vec<Event> {
    let pending = decision.run.deferrals.values().filter(|deferral| deferral.is_pending());
    let pending: Vec<Deferral> = pending.cloned().collect();
    let mut events = Vec::with_capacity(pending.len());
    for deferral in pending {
        let event = event(decision, &deferral);
        decision.push(Change::Deferred(
            deferral.settled(DeferralStatus::Scheduled, Some(event.id)),
        ));
        events.push(event);
    }
    events
}

/// The event that starts the function.
fn event(decision: &Decision<'_>, deferral: &Deferral) -> Event {
    let (run, function, at) = (&decision.run, decision.function, decision.context.now);
    let mut data = match deferral.input.as_ref().map(Json::to_tree) {
        Some(Value::Object(input)) => input,
        _ => serde_json::Map::new(),
    };
    let own = json!({
        "fn_slug": deferral.function,
        "parent_app_id": FunctionId::app_uuid(&function.app),
        "parent_defer_span": SpanId::of_deferral(run.id, &deferral.id),
        "parent_fn_id": function.id.to_string(),
        "parent_fn_slug": function.slug,
        "parent_run_id": run.id,
    });
    data.insert("_inngest".to_owned(), own);
    let data = Json::from_value(&data).expect("numbers that have been canonical before");
    let id = EventId::derive(at, &format!("deferred:{}:{}", run.id, deferral.id));
    Event::glued_with(
        Event::DEFERRED,
        id,
        id.to_string(),
        at,
        data.as_str(),
        deferral.meta.as_ref(),
    )
}
