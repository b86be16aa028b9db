//! Properties: no input panics, what is rendered parses back, and the index never misses.

use super::now;
use crate::expression::cron::{self, Schedule};
use crate::expression::{Equality, Expression, Scope, duration, pattern, time};
use chrono::TimeDelta;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::time::Duration;

/// JSON scalars with many collisions, so that equal values are common.
fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-3_i64..4).prop_map(Json::from),
        (-3_i64..4).prop_map(|whole| Json::from(whole as f64)),
        (-3_i64..4).prop_map(|half| Json::from(half as f64 / 2.0)),
        prop_oneof![Just(i64::MAX), Just(i64::MIN), any::<i64>()].prop_map(Json::from),
        prop_oneof![Just(u64::MAX), Just(1 << 63)].prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        prop_oneof![Just(9.223_372_036_854_776e18), Just(1.844_674_407_370_955_2e19)].prop_map(Json::from),
        "[0-3]{0,2}|true|null|\\PC{0,4}|[\\x00-\\x1f\"'\\\\`?]{0,4}".prop_map(Json::from),
    ]
}

fn json() -> impl Strategy<Value = Json> {
    scalar().prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::hash_map("[ab.]{1,2}", inner, 0..4)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

fn incoming() -> impl Strategy<Value = Json> {
    prop_oneof![
        4 => json().prop_map(|a| json!({"data": {"a": a}})),
        1 => json().prop_map(|a| json!({"data": a})),
        1 => json(),
    ]
}

/// Sources of every construct; most of them compile.
fn source() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("event.data.a".to_owned()),
        Just("async.data.a".to_owned()),
        Just("async.data['b'][0]".to_owned()),
        Just("event.nope".to_owned()),
        Just("null".to_owned()),
        Just("int".to_owned()),
        Just("b'a\\xff'".to_owned()),
        any::<bool>().prop_map(|truth| truth.to_string()),
        (-5_i64..6).prop_map(|int| int.to_string()),
        (0_u64..6).prop_map(|uint| format!("{uint}u")),
        (-5_i32..6).prop_map(|half| format!("{:?}", f64::from(half) / 2.0)),
        "[a-c]{0,3}".prop_map(|text| format!("'{text}'")),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let operator = prop::sample::select(vec![
            "==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%", "&&", "||",
        ]);
        let name = prop::sample::select(vec!["all", "exists", "exists_one", "map", "filter"]);
        prop_oneof![
            (inner.clone(), operator, inner.clone())
                .prop_map(|(left, operator, right)| format!("({left}) {operator} ({right})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
            inner.clone().prop_map(|operand| format!("!({operand})")),
            inner.clone().prop_map(|operand| format!("-({operand})")),
            inner.clone().prop_map(|operand| format!("({operand}).a")),
            inner.clone().prop_map(|operand| format!("has(({operand}).a)")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            inner.clone().prop_map(|operand| format!("size({operand})")),
            inner.clone().prop_map(|operand| format!("string({operand})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}).contains({b})")),
            (inner.clone(), name, inner).prop_map(|(range, name, body)| format!("({range}).{name}(x, x == ({body}))")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_index_never_misses_a_match(
        wanted in json(),
        event in incoming(),
        shape in prop::sample::select(vec![
            "event.data.w == async.data.a",
            "async.data.a == event.data.w",
            "event['data'].w == async.data['a']",
            "async.data.a == event.data.w && async.data != 5",
            "true && (event.data.none == null && event.data.w == async.data.a)",
        ]),
        same in any::<bool>(),
    ) {
        // Half of the time the two are made equal, or matches would be rare.
        let wanted = if same { event["data"]["a"].clone() } else { wanted };
        let wait = Expression::compile(shape, &["event", "async"]).unwrap();
        let bound = wait.bind(&json!({"data": {"w": wanted}})).unwrap();
        let again = Expression::compile_bound(bound.expression.source()).unwrap();
        let scope = Scope::of_async(&event, now());
        let matched = again.truth(&scope);
        prop_assert_eq!(&matched, &bound.expression.truth(&scope));
        if same {
            prop_assert_eq!(&matched, &Ok(true));
        }
        match bound.equality {
            Some(equality) => {
                let found = Equality::key_of(&event, &equality.path) == equality.key;
                // For these shapes the lookup is even exact.
                prop_assert_eq!(found, matched == Ok(true));
            }
            None => prop_assert!(wanted.is_array() || wanted.is_object()),
        }
    }

    #[test]
    fn binding_keeps_the_verdict_and_its_text_compiles_to_the_same(
        source in source(),
        event in incoming(),
        other in incoming(),
    ) {
        let Ok(wait) = Expression::compile(&source, &["event", "async"]) else {
            return Ok(());
        };
        let bound = wait.bind(&event).unwrap();
        let again = Expression::compile_bound(bound.expression.source());
        let again = again.map_err(|error| TestCaseError::fail(format!("{source}: {error}")))?;
        let scope = Scope::of_async(&other, now());
        let verdict = bound.expression.truth(&scope);
        prop_assert_eq!(&again.truth(&scope), &verdict, "{}", bound.expression.source());
        if let Some(constant) = bound.constant {
            prop_assert_eq!(verdict.clone().unwrap_or(false), constant);
        }
        if let (Some(equality), Ok(true)) = (bound.equality, verdict) {
            prop_assert_eq!(Equality::key_of(&other, &equality.path), equality.key);
        }
    }

    /// With an event that has every path, putting the values in changes nothing.
    #[test]
    fn binding_present_values_agrees_with_evaluating_both_events(
        source in source(),
        a in scalar(),
        other in incoming(),
    ) {
        let Ok(wait) = Expression::compile(&source.replace("event.nope", "event.data.a"), &["event", "async"]) else {
            return Ok(());
        };
        let event = json!({"data": {"a": a}});
        let both = Scope::of_event(&event, now()).with("async", &other);
        let direct = wait.truth(&both).unwrap_or(false);
        let bound = wait.bind(&event).unwrap();
        let verdict = bound.expression.truth(&Scope::of_async(&other, now())).unwrap_or(false);
        // A missing field of a present value becomes null too, which changes what it equals.
        if !source.contains(").a") && !source.contains('[') {
            prop_assert_eq!(verdict, direct, "{} -> {}", source, bound.expression.source());
        }
    }

    #[test]
    fn no_source_panics(source in "\\PC{0,60}|[-a-z0-9 .,:?!()\\[\\]{}'\"\\\\&|=<>+*/%\\n]{0,60}") {
        if let Ok(expression) = Expression::compile(&source, &["event", "a", "b", "x"]) {
            let event = json!({"a": 1});
            let _ = expression.truth(&Scope::of_event(&event, now()).with("a", &event));
            let _ = expression.bind(&event);
        }
    }

    #[test]
    fn keys_of_equal_numbers_are_equal(left in scalar(), right in scalar()) {
        let (left, right) = (json!({"v": left}), json!({"v": right}));
        let scope = Scope::new(now()).with("l", &left).with("r", &right);
        let equal = Expression::compile("l.v == r.v", &["l", "r"]).unwrap().truth(&scope);
        let same_key = Equality::key_of(&left, "v") == Equality::key_of(&right, "v");
        prop_assert_eq!(equal, Ok(same_key));
    }

    #[test]
    fn small_parsers_never_panic(text in "\\PC{0,40}|[-+0-9.wdhmsun\u{b5}TZ: ,/*]{0,40}") {
        let _ = duration::parse(&text);
        let _ = time::timeout(&text, now());
        let _ = time::sleep(&text, now());
        let _ = time::retry_after(&text, now());
        let _ = pattern::validate(&text);
        if let Ok(schedule) = Schedule::parse(&text) {
            let _ = schedule.next_after(now());
        }
    }

    #[test]
    fn durations_round_trip(nanos in any::<i64>()) {
        let duration = TimeDelta::nanoseconds(nanos);
        // The smallest one has no counterpart with a plus sign, which is what is parsed first.
        prop_assert_eq!(duration::parse(&duration::render(duration)), Ok(duration));
    }

    #[test]
    fn dates_round_trip(millis in 0_i64..4_102_444_800_000) {
        let date = chrono::DateTime::from_timestamp_millis(millis).unwrap();
        prop_assert_eq!(time::lenient(&time::render(date)), Some(date));
        prop_assert_eq!(time::rfc3339(&time::render(date)), Some(date));
    }

    #[test]
    fn candidates_are_what_matches(
        name in "[ab/.*]{0,8}",
        trigger in "[ab/.]{0,6}[/.]\\*|[ab/.*]{0,8}",
    ) {
if pattern::validate(&trigger).is_err() || trigger == pattern::CATCH_ALL {
            return Ok(());
        }
        let candidates = pattern::candidates(&name);
        prop_assert_eq!(candidates.contains(&trigger), pattern::matches(&trigger, &name));
        let mut distinct = candidates.clone();
        distinct.sort();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), candidates.len());
    }

    #[test]
    fn jitter_stays_in_its_bounds(seed in ".{0,20}", millis in 1_001_u64..300_000) {
        let bound = Duration::from_millis(millis);
        let offset = cron::jitter(&seed, bound);
        prop_assert!(offset >= Duration::from_secs(1) && offset < bound);
        prop_assert_eq!(offset, cron::jitter(&seed, bound));
    }
}

fn field(max: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("*".to_owned()),
        2 => (0..max).prop_map(|value| value.to_string()),
        1 => (2_u32..20).prop_map(|step| format!("*/{step}")),
        1 => (0..max / 2, max / 2..max).prop_map(|(from, to)| format!("{from}-{to}")),
    ]
}

/// Schedules in zones that change their clocks.
fn schedule() -> impl Strategy<Value = Schedule> {
    let zone = prop::sample::select(vec![
        "UTC",
        "Europe/Paris",
        "America/Havana",
        "Australia/Lord_Howe",
        "Pacific/Chatham",
    ]);
    let days = prop::sample::select(vec!["* * *", "1 * *", "* * SUN", "* 3 *", "29 2 *"]);
    (zone, field(60), field(24), days).prop_map(|(zone, minute, hour, days)| {
        let text = format!("TZ={zone} {minute} {hour} {days}");
        Schedule::parse(&text).unwrap_or_else(|error| panic!("{error}"))
    })
}

proptest! {
    /// The slots of a schedule are the same from wherever one looks for them: what a restart in the middle of a clock change
    /// finds is what it would have found without.
    #[test]
    fn slots_do_not_depend_on_where_the_search_begins(
        schedule in schedule(),
        begin in 0_i64..365 * 24 * 60,
        steps in prop::collection::vec(1_i64..7_200, 1..20),
    ) {
        let start = super::at("2025-01-01T00:00:30Z") + TimeDelta::minutes(begin);
        let mut fires = std::iter::successors(schedule.next_after(start), |fire| schedule.next_after(*fire)).peekable();
        let mut time = start;
        for step in steps {
            while fires.next_if(|fire| *fire <= time).is_some() {}
            prop_assert_eq!(schedule.next_after(time), fires.peek().copied(), "{} from {}", schedule.text(), time);
            time += TimeDelta::seconds(step);
        }
    }

    /// The last fires of a span are the end of all of them.
    #[test]
    fn last_fires_are_the_end_of_all(
        schedule in schedule(),
        begin in 0_i64..365 * 24 * 60,
        hours in 0_i64..24 * 60,
        count in 0_usize..50,
    ) {
        let after = super::at("2025-01-01T00:00:00Z") + TimeDelta::minutes(begin);
        let until = after + TimeDelta::hours(hours);
        let fires = std::iter::successors(schedule.next_after(after), |fire| schedule.next_after(*fire));
        let all: Vec<_> = fires.take_while(|fire| *fire <= until).collect();
        let last = schedule.last_fires(after, until, count);
        prop_assert_eq!(&last[..], &all[all.len().saturating_sub(count)..]);
    }
}
