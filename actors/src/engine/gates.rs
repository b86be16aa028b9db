//! Which gates the runs of a function pass, and the numbers of its rules. Pure.

use serde_json::Value;

use crate::domain::{
    ConcurrencyLimit, Event, Function, Gate, GateKind, Gates, Limit, Limits, Rate, RuleId, Scope, Throttle,
};
use crate::expression::{self, Expression};

/// What a throttle's key counts as if it can't be evaluated; a concurrency key then counts as empty.
const NO_THROTTLE_KEY: &str = "<nil>";

/// The gates of a run that `event` starts.
#[must_use]
pub fn gates(function: &Function, event: &Event) -> Gates {
    let flow = &function.flow;
    if flow.throttle.is_none() && flow.concurrency.iter().all(|limit| limit.limit == 0) {
        return Gates::NONE;
    }
    let throttle_key = flow.throttle.as_ref().and_then(|throttle| throttle.key.as_ref());
    let has_key = throttle_key.is_some() || flow.concurrency.iter().any(|limit| limit.key.is_some());
    let body = if has_key { event.body.to_tree() } else { Value::Null };
    let scope = expression::Scope::of_event(&body, event.received_at.to_datetime());
    let value = |key: Option<&str>, otherwise: &str| match key {
        None => String::new(),
        Some(key) => Expression::compile(key, &["event"])
            .ok()
            .and_then(|expression| expression.key(&scope).ok())
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
    let slots = slot_rules(&flow.concurrency).map(|limit| {
        let key = limit.key.as_deref();
        Gate::new(kind_of(limit), limit.scope, function.id, key, &value(key, ""))
    });
    Gates::new(throttle.chain(slots).collect())
}

/// The numbers of a function's rules.
#[must_use]
pub fn limits(function: &Function) -> Limits {
    let flow = &function.flow;
    let throttle = flow.throttle.iter().map(|throttle| {
        let rule = RuleId::derive(GateKind::Throttle, Scope::Fn, throttle.key.as_deref());
        (rule, Limit::Rate(rate(throttle)))
    });
    let slots = slot_rules(&flow.concurrency).map(|limit| {
        let rule = RuleId::derive(kind_of(limit), limit.scope, limit.key.as_deref());
        (rule, Limit::Slots(limit.limit))
    });
    Limits::new(throttle.chain(slots))
}

fn rate(throttle: &Throttle) -> Rate {
    Rate::new(throttle.limit, throttle.period, throttle.burst)
}

/// Without a number a rule limits nothing.
fn slot_rules(limits: &[ConcurrencyLimit]) -> impl Iterator<Item = &ConcurrencyLimit> {
    limits.iter().filter(|limit| limit.limit > 0)
}

fn kind_of(limit: &ConcurrencyLimit) -> GateKind {
    match limit.scope {
        Scope::Fn => GateKind::Slot,
        Scope::Env | Scope::Account => GateKind::SharedSlot,
    }
}
