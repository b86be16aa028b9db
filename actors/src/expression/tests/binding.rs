//! Waits: what remains of an expression, whether it says the same, and what it is looked up by.

use super::now;
use crate::expression::{Equality, Expression, Scope};
use rstest::rstest;
use serde_json::{Value as Json, json};

fn wait(source: &str) -> Expression {
    Expression::compile(source, &["event", "async"]).unwrap()
}

fn trigger() -> Json {
    json!({"name": "a", "data": {
        "id": 5, "text": "a\"b\\c\n\u{1}\u{e9}", "yes": true, "nil": null, "half": 2.5, "negative": -3,
        "big": u64::MAX, "tags": ["x", {"y": 1.0}], "items": [{"id": 9}], "k": "id", "long": "z".repeat(300),
    }})
}

#[rstest]
#[case("event.data.id == async.data.id", "5 == async.data.id")]
#[case("event.data.missing == async.data.id", "null == async.data.id")]
#[case(
    "async.data.id == event.data.text",
    "async.data.id == \"a\\\"b\\\\c\\n\\u0001\u{e9}\""
)]
#[case("async.data.id == event.data.half + 1", "async.data.id == 3.5")]
#[case("async.data.n > event.data.negative", "async.data.n > -3")]
#[case("async.data.n - event.data.negative > 0", "async.data.n - -3 > 0")]
#[case("async.data.n == event.data.big", "async.data.n == 18446744073709551615u")]
#[case("event.data.id == 5 && async.data.id == 1", "async.data.id == 1")]
#[case("event.data.id == 6 && async.data.id == 1", "false")]
#[case("async.data.id == 1 && event.data.id == 6", "false")]
#[case("event.data.id == 5 || async.data.id == 1", "true")]
#[case("event.data.yes ? async.data.a == 1 : async.data.b == 1", "async.data.a == 1")]
#[case("has(event.data.id) && has(async.data.id)", "has(async.data.id)")]
#[case("has(event.data.nope) || has(async.data.id)", "has(async.data.id)")]
#[case("size(event.data.tags) == async.data.n", "2 == async.data.n")]
#[case(
    "async.data.x in event.data.tags",
    "async.data.x in json_parse(\"[\\\"x\\\",{\\\"y\\\":1.0}]\")"
)]
#[case("event.data.items[0].id == async.data.id", "9 == async.data.id")]
#[case("event.data[event.data.k] == async.data.id", "5 == async.data.id")]
#[case("async.data[event.data.k] == 1", "async.data[\"id\"] == 1")]
#[case(
    "event.data.items.exists(i, i.id == async.data.id)",
    "json_parse(\"[{\\\"id\\\":9}]\").exists(i, i.id == async.data.id)"
)]
#[case(
    "(async.data.a || async.data.b) && async.data.c",
    "(async.data.a || async.data.b) && async.data.c"
)]
#[case("!(!async.data.a)", "!(!async.data.a)")]
#[case("(async.a + 1) * 2 - (3 - async.b)", "(async.a + 1) * 2 - (3 - async.b)")]
#[case("(async.a ? 1 : 2) == 1", "(async.a ? 1 : 2) == 1")]
#[case("now_plus('1h') > date(async.ts)", "now_plus(\"1h\") > date(async.ts)")]
#[case("1 / event.data.zero == async.a", "false == async.a")]
fn what_remains(#[case] source: &str, #[case] expected: &str) {
    let bound = wait(source).bind(&trigger()).unwrap();
    assert_eq!(bound.expression.source(), expected);
    let again = Expression::compile_bound(expected).unwrap();
    assert_eq!(again.inner.node, bound.expression.inner.node, "{expected}");
}

#[rstest]
#[case("event.data.id == async.data.id", Some(("data.id", "n:5")))]
#[case("async.data.id == 5.0", Some(("data.id", "n:5")))]
#[case("async.data.id == 5u", Some(("data.id", "n:5")))]
#[case("async.data.id == '5'", Some(("data.id", "s:5")))]
#[case("async.data.id == event.data.missing", Some(("data.id", "null")))]
#[case("async.data.id == true", Some(("data.id", "true")))]
#[case("async['data']['id'] == 1", Some(("data.id", "n:1")))]
#[case("async.name == 'x'", Some(("name", "s:x")))]
#[case("async.data.a == true && async.data.b == 'x' && async.data.c == 1", Some(("data.b", "s:x")))]
#[case("async.data.a == 1 && async.data.b == 2", Some(("data.a", "n:1")))]
#[case("async.data.n > 5 && (event.data.id == async.data.id && true)", Some(("data.id", "n:5")))]
#[case("async.data.id == event.data.tags", None)]
#[case("async.data.a == async.data.b", None)]
#[case("async.data.a == 1 || async.data.b == 2", None)]
#[case("!(async.data.a == 1)", None)]
#[case("async.data.a != 1", None)]
#[case("async.data.tags[0] == 'x'", None)]
#[case("async.data['a.b'] == 'x'", None)]
#[case("async == null", None)]
fn the_lookup(#[case] source: &str, #[case] expected: Option<(&str, &str)>) {
    let bound = wait(source).bind(&trigger()).unwrap();
    let found = bound.equality.map(|equality| (equality.path, equality.key));
    let expected = expected.map(|(path, key)| (path.to_owned(), key.to_owned()));
    assert_eq!(found, expected, "{source}");
}

#[rstest]
#[case(json!(5), json!(5.0), true)]
#[case(json!(5), json!("5"), false)]
#[case(json!(0.0), json!(-0.0), true)]
#[case(json!(u64::MAX), json!(18_446_744_073_709_551_616.0), false)]
#[case(json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992.0), false)]
#[case(json!(1e300), json!(1e300), true)]
#[case(json!(null), json!("null"), false)]
#[case(json!(true), json!("true"), false)]
#[case(json!("a".repeat(500)), json!("a".repeat(500)), true)]
#[case(json!("a".repeat(500)), json!("a".repeat(501)), false)]
#[case(json!("a\u{0}"), json!("a\u{0}"), true)]
#[case(json!([1]), json!({"a": 1}), false)]
fn equal_values_have_equal_keys(#[case] left: Json, #[case] right: Json, #[case] same: bool) {
    let key = |value: &Json| Equality::key_of(&json!({"data": {"v": value}}), "data.v");
    assert_eq!(key(&left) == key(&right), same, "{} {}", key(&left), key(&right));
    assert!(key(&left).len() < 150 && !key(&left).contains(char::is_control));
}

#[rstest]
#[case(json!({"data": {}}))]
#[case(json!({"data": null}))]
#[case(json!({"data": {"id": null}}))]
#[case(json!({"data": ["id"]}))]
#[case(json!({"data": "id"}))]
#[case(json!(null))]
fn a_path_that_does_not_exist_has_the_key_of_null(#[case] event: Json) {
    assert_eq!(Equality::key_of(&event, "data.id"), "null");
}

#[rstest]
#[case("event.data.a == async.data.a", json!({}), json!({}), true)]
#[case("event.data.a == async.data.a", json!({}), json!({"a": null}), true)]
#[case("event.data.a == async.data.a", json!({"a": null}), json!({}), true)]
#[case("event.data.a == async.data.a", json!({}), json!({"a": 1}), false)]
#[case("event.data.a == async.data.a", json!({"a": 1}), json!({}), false)]
#[case("event.data.a == async.data.a", json!({"a": 1}), json!({"a": 1.0}), true)]
#[case("event.data.a == async.data.a", json!({"a": "1"}), json!({"a": 1}), false)]
#[case("event.data.a == async.data.a", json!({"a": [1, {"b": 2}]}), json!({"a": [1.0, {"b": 2}]}), true)]
fn matching(#[case] source: &str, #[case] event: Json, #[case] incoming: Json, #[case] expected: bool) {
    let bound = wait(source).bind(&json!({"data": event})).unwrap();
    let incoming = json!({"data": incoming});
    let scope = Scope::of_async(&incoming, now());
    assert_eq!(bound.expression.truth(&scope), Ok(expected));
    if let (Some(equality), true) = (bound.equality, expected) {
        assert_eq!(Equality::key_of(&incoming, &equality.path), equality.key);
    }
}

#[rstest]
#[case("event.data.id == 5", Some(true))]
#[case("event.data.id == 6", Some(false))]
#[case("event.data.id", Some(false))]
#[case("event.data.missing", Some(false))]
#[case("async.data.id == 5", None)]
#[case("event.data.yes || async.data.id == 5", Some(true))]
#[case("now() == now()", None)]
fn constants(#[case] source: &str, #[case] expected: Option<bool>) {
    assert_eq!(wait(source).bind(&trigger()).unwrap().constant, expected, "{source}");
}

#[rstest]
fn large_values_make_large_sources_that_compile_again() {
    let event = json!({"data": {"list": vec!["x\u{1}\"y".repeat(1_000); 100]}});
    let bound = wait("async.data.x in event.data.list").bind(&event).unwrap();
    let again = Expression::compile_bound(bound.expression.source()).unwrap();
    let incoming = json!({"data": {"x": "x\u{1}\"y".repeat(1_000)}});
    assert_eq!(again.truth(&Scope::of_async(&incoming, now())), Ok(true));
}

#[rstest]
fn values_beyond_the_limit_are_an_error() {
    let event = json!({"data": "x".repeat(5 * 1024 * 1024)});
    assert!(wait("async.data == event.data").bind(&event).is_err());
}

/// Values can need brackets that their paths did not.
#[rstest]
#[case("(", "async.x in event.data.tags", ")")]
#[case("[", "event.data.tags", "].contains(async.x)")]
#[case("[", "event.data.negative.contains(async.x)", "]")]
#[case("!(", "async.x == -event.data.id", ")")]
#[case("(true ? ", "async.x == event.data.negative", " : async.y)")]
fn what_compiles_still_compiles_when_bound(#[case] open: &str, #[case] core: &str, #[case] close: &str) {
    let deepest = (1..100).rev().find_map(|times| {
        let source = format!("{}{core}{}", open.repeat(times), close.repeat(times));
        Expression::compile(&source, &["event", "async"]).ok()
    });
    let bound = deepest.unwrap().bind(&trigger()).unwrap();
    let again = Expression::compile_bound(bound.expression.source());
    assert!(again.is_ok(), "{again:?}");
}
