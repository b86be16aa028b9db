//! What each opcode of a reply asks for, worked out before anything is changed.
//!
//! Operands are parsed and conditions compiled here, for all opcodes of a reply. If one makes no sense the whole reply
//! counts as a failed attempt, or as the end of the run where another attempt can't help; nothing of it has happened then.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Context, Replied};
use crate::domain::{
    Event, EventId, Failure, Function, JobKey, Json, Lookup, Opcode, OpcodeKind, RunState, StepOp, Timestamp, Wait,
    WaitKey, WaitKind, limits,
};
use crate::expression::{Equality, Expression, time};

/// What an opcode asks for.
pub(super) enum Plan {
    /// Record this memo.
    Record { op: StepOp, memo: Json, failed: bool },
    /// Try the step again, or record its error if no attempt is left.
    Retry { op: StepOp, failure: Failure },
    /// Call the app for this step.
    Call,
    /// Sleep.
    Sleep { until: Timestamp },
    /// Wait for what the wait says; for an invoke, after emitting the event that starts the other run.
    Wait {
        op: StepOp,
        wait: Box<Wait>,
        emit: Option<Box<Event>>,
    },
    /// The run has ended.
    Complete(Json),
    /// Call the app again.
    Again,
    /// Nothing: it is under way or done, or does not concern us.
    Nothing,
}

/// Why an opcode makes no sense.
pub(super) enum Problem {
    /// Another attempt may do better.
    Attempt(Failure),
    /// No attempt ever will.
    Fatal(Failure),
}

/// Works out what an opcode asks for.
pub(super) fn plan(
    run: &RunState,
    function: &Function,
    replied: &Replied,
    op: &Opcode,
    context: &Context<'_>,
) -> Result<Plan, Problem> {
    let is_target = matches!(&replied.job.id.key, JobKey::Step(target) if *target == op.id);
    match run.steps.get(&op.id) {
        Some(step) if step.is_done() => return Ok(Plan::Nothing),
        // Under way, and reported again, as every discovery does. The answer to the step's own call is news.
        Some(_) if op.is_plan() && !is_target && !is_fetch(op) => return Ok(Plan::Nothing),
        _ => {}
    }
    let now = context.now;
    Ok(match &op.kind {
        OpcodeKind::None | OpcodeKind::DeferAdd(_) | OpcodeKind::DeferAbort { .. } => Plan::Nothing,
        OpcodeKind::StepRun { memo } => Plan::Record {
            op: StepOp::Run,
            memo: memo.clone(),
            failed: false,
        },
        OpcodeKind::StepFailed(failure) => Plan::Record {
            op: StepOp::Run,
            memo: failure.to_json().wrapped("error"),
            failed: true,
        },
        OpcodeKind::StepError(failure) => Plan::Retry {
            op: StepOp::Run,
            failure: failure.clone(),
        },
        OpcodeKind::StepPlanned => Plan::Call,
        OpcodeKind::Sleep { operand } => Plan::Sleep {
            until: sleep(operand, now)?,
        },
        OpcodeKind::WaitForEvent {
            event,
            condition,
            timeout,
        } => wait_for_event(run, op, event, condition.as_deref(), timeout, now)?,
        OpcodeKind::WaitForSignal {
            signal,
            timeout,
            replace,
        } => {
            if !replace && replied.signals_taken.contains(signal) {
                let failure = Failure::new("Error", "Signal conflict; signal wait already exists for another run");
                return Err(Problem::Fatal(failure));
            }
            let expires_at = deadline(timeout, limits::DEFAULT_WAIT, now)?;
            let wait = wait(run, op, WaitKind::Signal, signal, expires_at, now);
            Plan::Wait {
                op: StepOp::WaitForSignal,
                wait: Box::new(wait),
                emit: None,
            }
        }
        OpcodeKind::InvokeFunction {
            function: target,
            payload,
            timeout,
        } => {
            let expires_at = deadline(timeout, limits::DEFAULT_WAIT, now)?;
            invoke(run, function, op, target, payload, expires_at, now)?
        }
        OpcodeKind::AiGateway(_) => fetched(replied, op, StepOp::AiGateway),
        OpcodeKind::Gateway(_) => fetched(replied, op, StepOp::Gateway),
        OpcodeKind::RunComplete { output } => Plan::Complete(output.clone()),
        OpcodeKind::DiscoveryRequest => Plan::Again,
    })
}

fn is_fetch(op: &Opcode) -> bool {
    matches!(op.kind, OpcodeKind::AiGateway(_) | OpcodeKind::Gateway(_))
}

fn fetched(replied: &Replied, op: &Opcode, kind: StepOp) -> Plan {
    match replied.fetched.get(&op.id) {
        Some(Ok(response)) => Plan::Record {
            op: kind,
            memo: response.memo.clone(),
            failed: false,
        },
        Some(Err(error)) => Plan::Retry {
            op: kind,
            failure: error.failure.clone(),
        },
        // The executor makes every request that a reply asks for before it lets us decide.
        None => Plan::Retry {
            op: kind,
            failure: Failure::new("GatewayError", "the request was not made"),
        },
    }
}

fn too_long() -> Problem {
    Problem::Fatal(Failure::new(
        "InngestErrTimeoutTooLong",
        "The wait is longer than a year.",
    ))
}

fn unreadable(what: &str, text: &str, error: &dyn std::fmt::Display) -> Problem {
    Problem::Attempt(Failure::new(
        "Error",
        format!("{what} `{text}` is not understood: {error}"),
    ))
}

fn sleep(operand: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    if operand.is_empty() {
        return Ok(now);
    }
    let duration = time::sleep(operand, now.to_datetime()).map_err(|error| unreadable("sleep", operand, &error))?;
    if duration > limits::LONGEST_WAIT {
        return Err(too_long());
    }
    Ok(now.after(duration))
}

/// When a wait's patience ends. Empty text stands for `default`.
fn deadline(text: &str, default: Duration, now: Timestamp) -> Result<Timestamp, Problem> {
    if text.is_empty() {
        return Ok(now.after(default));
    }
    let until = time::timeout(text, now.to_datetime()).map_err(|error| unreadable("timeout", text, &error))?;
    let until = Timestamp::from_datetime(until);
    if until.since(now) > limits::LONGEST_WAIT {
        return Err(too_long());
    }
    Ok(until.max(now))
}

fn wait(run: &RunState, op: &Opcode, kind: WaitKind, name: &str, expires_at: Timestamp, now: Timestamp) -> Wait {
    Wait {
        run: run.id,
        function: run.function,
        key: WaitKey::Step(op.id.clone()),
        kind,
        name: name.to_owned(),
        lookup: None,
        condition: None,
        created_at: now,
        expires_at,
    }
}

fn wait_for_event(
    run: &RunState,
    op: &Opcode,
    event: &str,
    condition: Option<&str>,
    timeout: &str,
    now: Timestamp,
) -> Result<Plan, Problem> {
    // No text means no patience: older SDKs write it for anything below a second.
    let expires_at = deadline(timeout, Duration::ZERO, now)?;
    let mut wait = wait(run, op, WaitKind::Event, event, expires_at, now);
    if let Some(condition) = condition {
        let bound = Expression::remembered(condition, &["event", "async"])
            .and_then(|expression| expression.bind(&run.events.first().map_or(Value::Null, Json::to_tree)))
            .map_err(|error| {
                const MESSAGE: &str = "Wait for event If expression failed to compile";
                let failure = Failure::new("InvalidExpression", MESSAGE)
                    .with("error", format!("InvalidExpression: {MESSAGE}"))
                    .with("stack", error.to_string());
                Problem::Fatal(failure)
            })?;
        wait.lookup = bound.equality.map(|equality| Lookup {
            path: equality.path,
            key: equality.key,
        });
        wait.condition = Some(bound.expression.source().to_owned());
    }
    Ok(Plan::Wait {
        op: StepOp::WaitForEvent,
        wait: Box::new(wait),
        emit: None,
    })
}

/// The indexed part of the wait for an invoked run's end.
#[must_use]
pub fn invoke_key(correlation: &str) -> Lookup {
    const PATH: &str = "data.correlation_id";
    let event = json!({ "data": { "correlation_id": correlation } });
    Lookup {
        path: PATH.to_owned(),
        key: Equality::key_of(&event, PATH),
    }
}

fn invoke(
    run: &RunState,
    function: &Function,
    op: &Opcode,
    target: &str,
    payload: &Map<String, Value>,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<Plan, Problem> {
    let correlation = format!("{}.{}", run.id, op.id);
    let own = json!({
        "correlation_id": correlation,
        "expire": expires_at.as_millis(),
        "fn_id": target,
        "name": op.label,
        "source_fn_id": function.id.to_string(),
        "source_fn_v": function.version,
    });
    // One event for one step, however often the step is reported: its id says which step it is.
    let id = EventId::derive(now, &format!("invoke:{correlation}"));
    let event = super::start::invoked_event(payload, own, id, now)
        .map_err(|error| Problem::Attempt(Failure::new("Error", error.to_string())))?;
    let mut wait = wait(run, op, WaitKind::Invoke, "inngest/function.finished", expires_at, now);
    wait.lookup = Some(invoke_key(&correlation));
    Ok(Plan::Wait {
        op: StepOp::Invoke,
        wait: Box::new(wait),
        emit: Some(Box::new(event)),
    })
}
