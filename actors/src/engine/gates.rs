//! Which gates the runs of a function pass, and the numbers of its rules. Pure.

use super::subject::Subject;
use crate::domain::{
    ConcurrencyLimit, FlowControl, Function, Gate, GateKind, Gates, Limit, Limits, Rate, RuleId, Scope, Throttle,
};
use crate::expression::Expression;

/// What a throttle's key counts as if it can't be evaluated; a concurrency key then counts as empty.
const NO_THROTTLE_KEY: &str = "<nil>";

/// The gates of a run that an event starts.
pub(super) fn gates(function: &Function, subject: &Subject<'_>) -> Gates {
    let flow = &function.flow;
    let slot_rules: Vec<_> = slot_rules(flow).collect();
    if flow.throttle.is_none() && slot_rules.is_empty() {
        return Gates::NONE;
    }
    let value = |key: Option<&str>, otherwise: &str| match key {
        None => String::new(),
        Some(key) => Expression::remembered(key, &["event"])
            .ok()
            .and_then(|expression| expression.key(&subject.scope()).ok())
            .unwrap_or_else(|| otherwise.to_owned()),
    };
    let throttle = flow.throttle.iter().map(|throttle| {
        let key = throttle.key.as_deref();
        Gate::new(
            GateKind::Throttle,
            Scope::Fn,
            function.id,
            key,
            &value(key, NO_THROTTLE_KEY),
        )
    });
    let slots = slot_rules.iter().map(|(kind, limit)| {
        let key = limit.key.as_deref();
        Gate::new(*kind, limit.scope, function.id, key, &value(key, ""))
    });
    Gates::new(throttle.chain(slots).collect())
}

/// The numbers of a function's rules, as far as they are the queue's. While it is paused its gates are shut: a call that
/// may not be made would spend its turn at a throttle.
#[must_use]
pub fn limits(function: &Function) -> Limits {
    let flow = &function.flow;
    let throttle = flow
        .throttle
        .iter()
        .map(|throttle| (throttle.rule(), Limit::Rate(rate(throttle))));
    let slots = slot_rules(flow).filter(|(kind, _)| *kind != GateKind::RunSlot);
    let slots = slots.map(|(kind, limit)| (limit.rule(kind), Limit::Slots(limit.limit)));
    let limits = Limits::new(throttle.chain(slots));
    if function.mode.is_paused() {
        limits.shut()
    } else {
        limits
    }
}

/// How many runs of a function may be between their first call and their end for one value of a key, and under which rule;
/// `None` without such a limit.
#[must_use]
pub fn run_limit(function: &Function) -> Option<(RuleId, u32)> {
    let mut rules = slot_rules(&function.flow).filter(|(kind, _)| *kind == GateKind::RunSlot);
    let (kind, limit) = rules.next()?;
    Some((limit.rule(kind), limit.limit))
}

fn rate(throttle: &Throttle) -> Rate {
    Rate::new(throttle.limit, throttle.period, throttle.burst)
}

/// What each rule about slots is about. Without a number a rule limits nothing.
fn slot_rules(flow: &FlowControl) -> impl Iterator<Item = (GateKind, &ConcurrencyLimit)> {
    let of_steps = flow.concurrency.iter().map(|limit| (limit.kind(), limit));
    let of_runs = flow.run_concurrency.iter().map(|limit| (GateKind::RunSlot, limit));
    of_steps.chain(of_runs).filter(|(_, limit)| limit.limit > 0)
}
