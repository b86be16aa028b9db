//! Rate limits against a model of another kind, and what keys come to.

use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::domain::{Cadence, ClaimId, Level, RateLimit, Singleton, SingletonMode, Skip, SkipReason};
use crate::engine::rate_limit::admit;

const MILLI: i64 = 1_000_000;

fn limit(limit: u32, period: Duration) -> Cadence {
    Cadence::of(&rule(limit, period, None))
}

fn rule(limit: u32, period: Duration, key: Option<&str>) -> RateLimit {
    RateLimit {
        limit,
        period,
        key: key.map(str::to_owned),
        idempotency: false,
    }
}

/// A bucket that leaks a drop in an interval, and takes the next one if what it holds is within the tolerance.
#[derive(Default)]
struct Leaky {
    holds: i64,
    as_of: i64,
}

impl Leaky {
    fn takes(&mut self, rate: Cadence, at: i64) -> bool {
        self.holds = (self.holds - (at - self.as_of)).max(0);
        self.as_of = at;
        let takes = self.holds <= rate.tolerance;
        if takes {
            self.holds += rate.interval;
        }
        takes
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_rate_limit_is_a_leaky_bucket(
        most in 1_u32..60, period in 1_u64..5_000, gaps in prop::collection::vec(0_i64..400, 1..400),
    ) {
        let rate = limit(most, Duration::from_millis(period));
        let (mut level, mut bucket, mut at) = (None::<Level>, Leaky::default(), 0);
        let mut passed: Vec<i64> = Vec::new();
        for gap in gaps {
            at += gap;
            let admitted = admit(level, rate, Timestamp::from_millis(at));
            prop_assert_eq!(admitted.is_ok(), bucket.takes(rate, at * MILLI));
            match admitted {
                Ok(next) => {
                    level = Some(next);
                    passed.push(at);
                }
                Err(opens) => {
                    prop_assert!(opens > Timestamp::from_millis(at));
                    let before = Timestamp::from_millis(opens.as_millis() - 1);
                    prop_assert!(admit(level, rate, opens).is_ok() && admit(level, rate, before).is_err());
                }
            }
        }
        // In no period more than the limit, but for what may come at once and one at its edge.
        for (place, first) in passed.iter().enumerate() {
            let within = passed[place..].iter().take_while(|at| *at - first < i64::try_from(period).expect("small"));
            prop_assert!(within.count() <= usize::try_from(most + most / 10 + 1).expect("small"));
        }
    }

    /// Nothing is ever locked for longer than the limit that is in force says.
    #[test]
    fn a_limit_that_becomes_wider_counts_at_once(old in 1_u64..100_000, new in 1_u64..100_000, wait in 0_i64..100_000) {
        let (old, new) = (limit(1, Duration::from_millis(old)), limit(1, Duration::from_millis(new)));
        let level = admit(None, old, Timestamp::from_millis(0)).ok();
        let expected = wait * MILLI >= old.interval.min(new.interval);
        prop_assert_eq!(admit(level, new, Timestamp::from_millis(wait)).is_ok(), expected);
    }
}

#[rstest]
#[case(1, 60, 1)]
#[case(9, 60, 1)]
#[case(10, 60, 2)]
#[case(60, 60, 7)]
fn a_tenth_of_the_limit_may_come_early(#[case] most: u32, #[case] period: u64, #[case] at_once: usize) {
    let rate = limit(most, Duration::from_secs(period));
    let mut level = None;
    let mut passed = 0;
    while let Ok(next) = admit(level, rate, NOW) {
        level = Some(next);
        passed += 1;
    }
    assert_eq!(passed, at_once);
    let each = Duration::from_secs(period) / most;
    assert_eq!(
        admit(level, rate, NOW),
        Err(NOW.after(each + Duration::from_nanos(999_999))),
        "and then one at a time"
    );
}

fn with_key(key: &str) -> Function {
    let mut function = function(0);
    function.flow.rate_limit = Some(rule(3, Duration::from_secs(60), Some(key)));
    function.flow.singleton = Some(Singleton {
        mode: SingletonMode::Skip,
        key: Some(key.to_owned()),
    });
    function
}

/// Of equal values one bucket, of different ones two; a number is not its text, and a missing value is null.
#[rstest]
#[case(json!(1), json!(1.0), true)]
#[case(json!(1), json!("1"), false)]
#[case(json!("a"), json!("b"), false)]
#[case(json!(null), json!("null"), false)]
#[case(json!(true), json!("true"), false)]
#[case(json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1}), true)]
#[case(json!(""), json!(null), false)]
fn values_of_keys_are_canonical_json(#[case] one: Value, #[case] other: Value, #[case] same: bool) {
    let function = with_key("event.data.id");
    let [a, b] = [one, other].map(|id| start(&function, &event(json!({ "id": id })), NOW).expect("starts"));
    let buckets = |run: &crate::domain::NewRun| {
        let claims = (run.rate.clone().expect("a limit"), run.lock.clone().expect("a lock"));
        (claims.0.bucket, claims.1.bucket)
    };
    assert_eq!(buckets(&a) == buckets(&b), same);
    assert_eq!(buckets(&a).0 == buckets(&b).0, buckets(&a).1 == buckets(&b).1);
    assert_ne!(buckets(&a).0, buckets(&a).1, "a limit is not a lock");
    assert_eq!(a.state.lock, Some(buckets(&a).1));
    let missing = start(&function, &event(json!({})), NOW).expect("starts");
    let null = start(&function, &event(json!({"id": null})), NOW).expect("starts");
    assert_eq!(buckets(&missing), buckets(&null));
    assert_eq!(
        buckets(&null).0,
        ClaimId::of_rate(function.id, Some(("event.data.id", &Json::null())))
    );
}

#[test]
fn a_key_that_is_false_asks_for_nothing() {
    let run = start(&with_key("event.data.id == 7"), &event(json!({"id": 8})), NOW).expect("starts");
    assert_eq!((run.rate, run.lock, run.state.lock), (None, None, None));
    let run = start(&with_key("event.data.id == 7"), &event(json!({"id": 7})), NOW).expect("starts");
    assert!(run.rate.is_some() && run.lock.is_some());
}

#[test]
fn a_key_that_fails_starts_nothing_under_a_limit_and_anything_without_a_lock() {
    let broken = "event.data.id > duration('1h')";
    let refused = start(&with_key(broken), &event(json!({"id": 8})), NOW).expect_err("no key");
    let Skip { reason, detail, .. } = refused;
    assert_eq!(reason, SkipReason::ExpressionError);
    assert!(detail.starts_with("the key of the rate limit: "), "{detail}");
    let mut function = with_key(broken);
    function.flow.rate_limit = None;
    let run = start(&function, &event(json!({"id": 8})), NOW).expect("starts");
    assert_eq!(run.lock, None);
}

#[test]
fn rules_are_told_with_the_keys_value() {
    let mut function = with_key("event.data.id");
    let run = start(&function, &event(json!({"id": "x"})), NOW).expect("starts");
    let told = run.rate.expect("a limit").rule;
    assert_eq!(
        told,
        "at most 3 in 60s for `event.data.id` = \"x\"; the next one passes at "
    );
    let told = run.lock.expect("a lock").rule;
    assert_eq!(told, "one run at a time for `event.data.id` = \"x\": held by run ");
    function.flow.rate_limit = Some(rule(3, Duration::from_secs(60), None));
    let long = "y".repeat(9_000);
    let run = start(&function, &event(json!({ "id": long })), NOW).expect("starts");
    assert_eq!(
        run.rate.expect("a limit").rule,
        "at most 3 in 60s; the next one passes at "
    );
    assert!(run.lock.expect("a lock").rule.len() < 300);
}

#[test]
fn the_end_gives_the_lock_up() {
    let function = with_key("event.data.id");
    let mut case = Case::with(function, &event(json!({"id": 7})));
    let lock = case.run.lock.expect("has one");
    let changes = case.returns("start", &json!(1));
    assert!(changes.contains(&Change::Released(lock)), "{changes:?}");
    let mut case = Case::new();
    let changes = case.give(Input::Cancelled("so".to_owned()));
    assert!(!changes.iter().any(|change| matches!(change, Change::Released(_))));
}
