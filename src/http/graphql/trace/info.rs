//! What a step was about: how long it sleeps, what it waits for, whom it invokes.

use async_graphql::{SimpleObject, Union};
use callboard_actors::domain::{StepOp, Timestamp};
use callboard_actors::ports::StepView;
use serde_json::Value;

use super::super::asked::Viewed;
use super::super::scalars::{Time, Ulid};
use super::attempts::{Group, Particulars};

/// What a step was about.
#[derive(Debug, Clone, Union)]
pub(super) enum StepInfo {
    Invoke(InvokeStepInfo),
    Sleep(SleepStepInfo),
    WaitForEvent(WaitForEventStepInfo),
    Run(RunStepInfo),
    WaitForSignal(WaitForSignalStepInfo),
}

/// Of an invoke.
#[derive(Debug, Clone, SimpleObject)]
pub(super) struct InvokeStepInfo {
    #[graphql(name = "triggeringEventID")]
    triggering_event_id: Ulid,
    #[graphql(name = "functionID")]
    function_id: String,
    timeout: Time,
    #[graphql(name = "returnEventID")]
    return_event_id: Option<Ulid>,
    #[graphql(name = "runID")]
    run_id: Option<Ulid>,
    timed_out: Option<bool>,
}

/// Of a sleep.
#[derive(Debug, Clone, SimpleObject)]
pub(super) struct SleepStepInfo {
    sleep_until: Time,
}

/// Of a wait for an event.
#[derive(Debug, Clone, SimpleObject)]
pub(super) struct WaitForEventStepInfo {
    event_name: String,
    expression: Option<String>,
    timeout: Time,
    #[graphql(name = "foundEventID")]
    found_event_id: Option<Ulid>,
    timed_out: Option<bool>,
}

/// Of a step with a type of its own.
#[derive(Debug, Clone, SimpleObject)]
pub(super) struct RunStepInfo {
    #[graphql(name = "type")]
    kind: Option<String>,
}

/// Of a wait for a signal.
#[derive(Debug, Clone, SimpleObject)]
pub(super) struct WaitForSignalStepInfo {
    signal: String,
    timeout: Time,
    timed_out: Option<bool>,
}

/// The info of a step that had to wait, or that has a type of its own; one that just runs has none.
pub(super) fn of(viewed: &Viewed, step: &StepView, group: &Group) -> Option<StepInfo> {
    if step.op == StepOp::Run {
        let kind = group.run_type.clone();
        return kind.is_some().then_some(StepInfo::Run(RunStepInfo { kind }));
    }
    let scheduled = group.scheduled.as_ref()?;
    let until = scheduled.until.map(Timestamp::from_millis).or(step.until);
    let until = Time(until.unwrap_or(step.started_at));
    let came = group.outcome.as_ref().and_then(Particulars::event_id);
    let timed_out = has_timed_out(step);
    Some(match step.op {
        StepOp::Sleep => StepInfo::Sleep(SleepStepInfo { sleep_until: until }),
        StepOp::WaitForEvent => StepInfo::WaitForEvent(WaitForEventStepInfo {
            event_name: scheduled.event.clone()?,
            expression: scheduled.condition.clone(),
            timeout: until,
            found_event_id: came.map(Ulid::of),
            timed_out,
        }),
        StepOp::WaitForSignal => StepInfo::WaitForSignal(WaitForSignalStepInfo {
            signal: scheduled.signal.clone()?,
            timeout: until,
            timed_out,
        }),
        StepOp::Invoke => {
            let cause = scheduled.event_id()?;
            StepInfo::Invoke(InvokeStepInfo {
                triggering_event_id: Ulid::of(cause),
                function_id: scheduled.function.clone()?,
                timeout: until,
                return_event_id: came.map(Ulid::of),
                run_id: viewed.invoked.get(&cause).map(Ulid::of),
                timed_out,
            })
        }
        StepOp::Run | StepOp::Gateway | StepOp::AiGateway => return None,
    })
}

/// Whether nothing came in time; `None` as long as it may come.
pub(super) fn has_timed_out(step: &StepView) -> Option<bool> {
    let memo = step.memo.as_ref()?;
    if step.op != StepOp::Invoke {
        return Some(memo.is_null());
    }
    let name = memo
        .to_tree()
        .pointer("/error/name")
        .and_then(Value::as_str)
        .map(str::to_owned);
    Some(name.as_deref() == Some("InngestInvokeTimeoutError"))
}
