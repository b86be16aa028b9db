//! Numbers that an operator has put in the place of those that a function was registered with, until a time.

use std::time::Duration;

use super::{ConcurrencyLimit, FlowControl, FunctionId, GateKind, RuleId, Scope, Throttle, Timestamp};

/// Other numbers for one rule of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitOverride {
    /// Whose.
    pub function: FunctionId,
    /// For which of its rules.
    pub rule: RuleId,
    /// How many at a time, or in a period; at least 1.
    pub limit: u32,
    /// Of a throttle, if it is to be another; at least a second.
    pub period: Option<Duration>,
    /// Of a throttle, if it is to be another.
    pub burst: Option<u32>,
    /// From then on the registered numbers count again.
    pub until: Timestamp,
}

impl Throttle {
    /// Which rule it is.
    #[must_use]
    pub fn rule(&self) -> RuleId {
        RuleId::derive(GateKind::Throttle, Scope::Fn, self.key.as_deref())
    }
}

impl ConcurrencyLimit {
    /// What sort of slots it limits as a rule about calls.
    #[must_use]
    pub fn kind(&self) -> GateKind {
        match self.scope {
            Scope::Fn => GateKind::Slot,
            Scope::Env | Scope::Account => GateKind::SharedSlot,
        }
    }

    /// Which rule it is, about these slots.
    #[must_use]
    pub fn rule(&self, kind: GateKind) -> RuleId {
        RuleId::derive(kind, self.scope, self.key.as_deref())
    }
}

impl LimitOverride {
    /// Puts the numbers in place. A rule that limits nothing stays so: its runs under way know of no gate.
    pub fn apply(&self, flow: &mut FlowControl) {
        let throttle = flow.throttle.iter_mut();
        for throttle in throttle.filter(|throttle| throttle.rule() == self.rule) {
            throttle.limit = self.limit;
            throttle.period = self.period.unwrap_or(throttle.period);
            throttle.burst = self.burst.unwrap_or(throttle.burst);
        }
        let calls = flow.concurrency.iter_mut().map(|limit| (limit.kind(), limit));
        let runs = flow.run_concurrency.iter_mut();
        let runs = runs.map(|limit| (GateKind::RunSlot, limit));
        for (kind, limit) in calls.chain(runs) {
            if limit.limit > 0 && limit.rule(kind) == self.rule {
                limit.limit = self.limit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(limit: u32, key: Option<&str>) -> ConcurrencyLimit {
        ConcurrencyLimit {
            limit,
            key: key.map(str::to_owned),
            scope: Scope::Fn,
        }
    }

    fn numbers(rule: RuleId, limit: u32) -> LimitOverride {
        LimitOverride {
            function: FunctionId::derive("app", "function"),
            rule,
            limit,
            period: None,
            burst: Some(3),
            until: Timestamp::from_millis(1),
        }
    }

    #[test]
    fn only_the_rule_that_is_meant_gets_other_numbers() {
        let before = FlowControl {
            concurrency: vec![
                limit(1, None),
                limit(2, Some("event.data.a")),
                limit(0, Some("event.data.b")),
            ],
            run_concurrency: Some(limit(4, None)),
            throttle: Some(Throttle {
                limit: 5,
                period: Duration::from_secs(60),
                burst: 0,
                key: None,
            }),
            ..FlowControl::default()
        };
        let with = |rule, number| {
            let mut flow = before.clone();
            numbers(rule, number).apply(&mut flow);
            flow
        };
        let calls = with(before.concurrency[1].rule(GateKind::Slot), 7);
        assert_eq!(calls.concurrency[1].limit, 7);
        assert_eq!(calls.concurrency[0], before.concurrency[0]);
        let runs = with(limit(4, None).rule(GateKind::RunSlot), 7);
        assert_eq!(runs.run_concurrency, Some(limit(7, None)));
        assert_eq!(runs.concurrency, before.concurrency, "the same key, and another rule");
        let throttle = with(before.throttle.as_ref().expect("one").rule(), 7)
            .throttle
            .expect("one");
        assert_eq!(
            (throttle.limit, throttle.burst, throttle.period),
            (7, 3, Duration::from_secs(60))
        );
        assert_eq!(
            with(before.concurrency[2].rule(GateKind::Slot), 7),
            before,
            "it limits nothing"
        );
    }
}
