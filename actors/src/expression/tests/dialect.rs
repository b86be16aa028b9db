//! The table of expressions: every rule of semantics 6, one line each.

use super::{compile, event, now, truth, value};
use crate::expression::{EvalError, Expression, Scope, restrictive};
use rstest::rstest;
use serde_json::{Value as Json, json};

#[rstest]
// Missing: equality.
#[case("event.data.missing == null", true)]
#[case("null == event.data.missing", true)]
#[case("event.data.missing != null", false)]
#[case("event.data.missing == 'a'", false)]
#[case("event.data.missing != 'a'", true)]
#[case("'a' != event.data.missing", true)]
#[case("event.data.missing == event.data.other", false)]
#[case("event.data.missing != event.data.other", true)]
#[case("event.data.missing.far.below == null", true)]
#[case("event.data.text.field == null", true)]
#[case("event.data.nil.field == null", true)]
#[case("event.data['missing'] == null", true)]
#[case("event.data.tags[9] == null", true)]
#[case("event.data.tags[-1] == null", true)]
#[case("event.data.tags[0].x == null", true)]
#[case("event.data['key-with-dash'] == 1", true)]
// Missing: order. The left side decides.
#[case("event.data.missing < 1", true)]
#[case("event.data.missing <= 1", true)]
#[case("event.data.missing > 1", false)]
#[case("event.data.missing >= 1", false)]
#[case("event.data.missing < 'a'", true)]
#[case("event.data.missing < null", true)]
#[case("1 < event.data.missing", false)]
#[case("1 <= event.data.missing", false)]
#[case("1 > event.data.missing", true)]
#[case("1 >= event.data.missing", true)]
#[case("event.data.missing < event.data.other", true)]
#[case("event.data.missing >= event.data.other", false)]
// Missing: addition, functions, conditions.
#[case("event.data.id + event.data.missing == 7", true)]
#[case("event.data.missing + event.data.id == 7", true)]
#[case("event.data.missing + event.data.other == false", true)]
#[case("'a' + event.data.missing == 'a'", true)]
#[case("size(event.data.missing) == 0", true)]
#[case("event.data.missing.size() == 0", true)]
#[case("'a' in event.data.missing", false)]
#[case("event.data.missing in ['a']", false)]
#[case("event.data.missing in [null]", false)]
#[case("event.data.missing.contains('a')", false)]
#[case("'abc'.contains(event.data.missing)", false)]
#[case("event.data.missing.startsWith('a')", false)]
#[case("event.data.missing.endsWith('a')", false)]
#[case("event.data.missing.matches('a')", false)]
#[case("event.data.missing.exists(x, x == 1)", false)]
#[case("event.data.missing", false)]
#[case("!event.data.missing", true)]
#[case("has(event.data.missing)", false)]
#[case("has(event.data.id)", true)]
#[case("has(event.data.nil)", true)]
#[case("has(event.data.missing.x)", false)]
#[case("has(event.user)", true)]
#[case("has(event.v)", false)]
// Null.
#[case("event.data.nil == null", true)]
#[case("event.data.nil == 0", false)]
#[case("event.data.nil != 0", true)]
#[case("event.data.nil == ''", false)]
#[case("event.data.nil < 1", true)]
#[case("event.data.nil < 0", false)]
#[case("event.data.nil <= 0", true)]
#[case("1.5 > event.data.nil", true)]
#[case("event.data.nil < 'a'", true)]
#[case("event.data.nil >= ''", true)]
#[case("event.data.nil <= event.data.nil", true)]
#[case("event.data.nil < event.data.nil", false)]
#[case("size(event.data.nil) == 0", true)]
// Truthiness in the condition of `?:` and in `!`.
#[case("event.data.zero ? false : true", true)]
#[case("event.data.empty ? false : true", true)]
#[case("event.data.nil ? false : true", true)]
#[case("event.data.missing ? false : true", true)]
#[case("0.0 ? false : true", true)]
#[case("event.data.none ? true : false", true)]
#[case("event.data.object ? true : false", true)]
#[case("event.data.text ? true : false", true)]
#[case("!event.data.text", false)]
// Numbers.
#[case("event.data.id == 7", true)]
#[case("event.data.id == 7.0", true)]
#[case("event.data.id == 7u", true)]
#[case("event.data.whole == 5", true)]
#[case("5 == event.data.whole", true)]
#[case("event.data.half > 2", true)]
#[case("event.data.half < 3u", true)]
#[case("event.data.negative < 0u", true)]
#[case("event.data.huge == 18446744073709551615u", true)]
#[case("event.data.huge > 9223372036854775807", true)]
#[case("event.data.huge == 18446744073709551616.0", false)]
#[case("9007199254740993 == 9007199254740992.0", false)]
#[case("event.data.id % 5 == 2", true)]
#[case("event.data.whole % 2 == 1", true)]
#[case("event.data.id + 1 == 8", true)]
#[case("event.data.whole + 1 == 6", true)]
#[case("event.data.id / 2 == 3", true)]
#[case("event.data.whole / 2 == 2.5", true)]
#[case("-event.data.id == -7", true)]
#[case("2 * event.data.half == 5", true)]
#[case("event.data.digits == 200", false)]
#[case("200 == event.data.digits", false)]
#[case("event.data.digits == '200'", true)]
#[case("event.data.yes == 1", false)]
#[case("type(event.data.id) == int", true)]
#[case("type(event.data.half) == double", true)]
#[case("type(event.data.text) == string", true)]
#[case("type(event.data.tags) == list", true)]
#[case("type(event.data) == map", true)]
#[case("type(event.data.missing) == null_type", true)]
#[case("type(1u) == uint", true)]
#[case("1u - 1u == 0", true)]
#[case("double('nan') == double('nan')", false)]
#[case("double('nan') < 1", false)]
// Concatenation.
#[case("'n' + event.data.id == 'n7'", true)]
#[case("event.data.id + 'n' == '7n'", true)]
#[case("'n' + event.data.whole == 'n5'", true)]
#[case("'n' + event.data.half == 'n2.5'", true)]
#[case("'n' + true == 'ntrue'", true)]
#[case("'n' + event.data.tags == 'n[\"a\",\"b\"]'", true)]
#[case("1 + true == '1true'", true)]
#[case("[1] + [2] == [1, 2]", true)]
// Collections and macros.
#[case("'a' in event.data.tags", true)]
#[case("'z' in event.data.tags", false)]
#[case("2.0 in event.data.numbers", true)]
#[case("'id' in event.data", true)]
#[case("1 in event.data", false)]
#[case("event.data.tags == ['a', 'b']", true)]
#[case("event.data.nested == {'deep': {'er': 'x'}}", true)]
#[case("{'a': 1} == {'a': 1.0}", true)]
#[case("{1: 'x'}[1.0] == 'x'", true)]
#[case("event.data.items.exists(i, i.price > 20.0)", false)]
#[case("event.data.items.exists(i, i.price >= 20)", true)]
#[case("event.data.items.all(i, i.price > 0)", true)]
#[case("event.data.items.all(i, has(i.id))", false)]
#[case("event.data.items.exists_one(i, i.id == 1)", true)]
#[case("event.data.items.map(i, i.price) == [10.5, 20, 1]", true)]
#[case("event.data.numbers.map(n, n > 2, n * 2) == [6, 8]", true)]
#[case("event.data.numbers.filter(n, n % 2 == 0) == [2, 4]", true)]
#[case("event.data.numbers.all(n, event.data.numbers.exists(m, m == n))", true)]
#[case("event.data.nested.exists(k, k == 'deep')", true)]
#[case("[[1], [2]].exists(a, a.exists(b, b == 2)) && [3].all(a, a == 3)", true)]
#[case("[].all(x, false)", true)]
#[case("[].exists(x, true)", false)]
// Errors are absorbed by what decides.
#[case("true || 1 / 0 == 1", true)]
#[case("1 / 0 == 1 || true", true)]
#[case("1 / 0 == 1 && false", false)]
#[case("[0, 1].exists(x, 1 / x == 1)", true)]
#[case("[0, 2].all(x, 2 / x == 2)", false)]
// Strings and functions.
#[case("event.name.startsWith('shop/')", true)]
#[case("event.name.endsWith('.paid')", true)]
#[case("event.name.contains('order')", true)]
#[case("event.name.matches('^shop/[a-z.]+$')", true)]
#[case("matches(event.name, 'paid')", true)]
#[case("'2024-05-06'.matches('^\\\\d{4}-\\\\d{2}-\\\\d{2}$')", true)]
#[case("['ab1', 'c2'].all(s, s.matches(r'^\\p{L}{1,2}[0-9]$'))", true)]
#[case("size('h\u{e9}') == 2", true)]
#[case("size(event.data.tags) == 2 && event.data.tags.size() == 2", true)]
#[case("lowercase(event.user.email) == 'ada@example.com'", true)]
#[case("uppercase('abc') == 'ABC'", true)]
#[case("b64decode(event.data.b64) == 'hello'", true)]
#[case("b64decode('aGk') == 'hi'", true)]
#[case("json_parse(event.data.json).a[1] == 2.5", true)]
#[case("json_parse(event.data.json).a[2].b == null", true)]
#[case("json_parse('{\"a\": 1}') == {'a': 1}", true)]
#[case("int('42') == 42 && int(4.9) == 4 && int(-4.9) == -4 && int(3u) == 3", true)]
#[case("uint(3) == 3u && double('2.5') == 2.5 && double(1) == 1.0", true)]
#[case("string(5) == '5' && string(5.0) == '5' && string(true) == 'true'", true)]
#[case("bool('true') && !bool('0')", true)]
#[case("bytes('ab') == b'ab' && size(b'abc') == 3 && string(b'ab') == 'ab'", true)]
#[case("dyn(5) == 5", true)]
// Times.
#[case("now() == timestamp('2024-05-06T07:08:09.25Z')", true)]
#[case("now_plus('1h') > now() && now_minus('1d') < now()", true)]
#[case("now_plus('1h') - now() == duration('60m')", true)]
#[case("now_minus('1w') + duration('7d') == now()", true)]
#[case("date(event.ts) == now()", true)]
#[case("date(1714979289) == timestamp('2024-05-06T07:08:09Z')", true)]
#[case("date(event.data.when) < now()", true)]
#[case("date('2024-05-06') == timestamp('2024-05-06T00:00:00Z')", true)]
#[case("int(timestamp('1970-01-01T00:01:00Z')) == 60", true)]
#[case("timestamp(60) == timestamp('1970-01-01T00:01:00Z')", true)]
#[case("now().getFullYear() == 2024 && now().getMonth() == 4 && now().getDate() == 6", true)]
#[case(
    "now().getDayOfMonth() == 5 && now().getDayOfWeek() == 1 && now().getDayOfYear() == 126",
    true
)]
#[case("now().getHours() == 7 && now().getMinutes() == 8 && now().getSeconds() == 9", true)]
#[case("now().getMilliseconds() == 250", true)]
#[case("now().getHours('Europe/Paris') == 9 && now().getHours('-02:00') == 5", true)]
#[case("duration('90m').getHours() == 1 && duration('90m').getMinutes() == 90", true)]
#[case("string(duration('90m')) == '1h30m'", true)]
#[case("string(timestamp(0)) == '1970-01-01T00:00:00Z'", true)]
fn conditions(#[case] source: &str, #[case] expected: bool) {
    assert_eq!(truth(source), Ok(expected), "{source}");
}

#[rstest]
#[case("event.data.text || 'other'", json!("abc"))]
#[case("event.data.empty || 'other'", json!("other"))]
#[case("event.data.missing || event.data.id", json!(7))]
#[case("event.data.nil || event.data.zero", json!(0))]
#[case("event.data.missing || null", json!(null))]
#[case("event.data.zero || event.data.none", json!([]))]
#[case("event.data.text && event.data.id", json!(7))]
#[case("event.data.empty && event.data.id", json!(""))]
#[case("event.data.missing && true", json!(null))]
#[case("event.data.yes && event.data.no", json!(false))]
#[case("1 && 2 && 3", json!(3))]
#[case("0 || '' || 'c' || 'd'", json!("c"))]
#[case("event.data.id + 1", json!(8))]
#[case("event.data.items.filter(i, i.id == 2)", json!([{"id": 2, "price": 20}]))]
#[case("{'a': [event.data.missing, 1u, 2.5]}", json!({"a": [null, 1, 2.5]}))]
#[case("now()", json!("2024-05-06T07:08:09.250Z"))]
#[case("duration('1d12h')", json!("1d12h"))]
#[case("b'hi'", json!("aGk="))]
#[case("type(1)", json!("int"))]
#[case("event.data.nested", json!({"deep": {"er": "x"}}))]
fn values(#[case] source: &str, #[case] expected: Json) {
    assert_eq!(value(source), Ok(expected), "{source}");
}

#[rstest]
#[case("'global'", "global")]
#[case("event.data.id", "7")]
#[case("event.data.whole", "5")]
#[case("event.data.half", "2.5")]
#[case("event.data.yes", "true")]
#[case("event.data.missing", "null")]
#[case("event.data.text + '-' + event.data.id", "abc-7")]
#[case("[1.0, 'a', null, {'z': 1, 'a': 2}]", "[1,\"a\",null,{\"a\":2,\"z\":1}]")]
#[case("event.data.tags", "[\"a\",\"b\"]")]
fn keys(#[case] source: &str, #[case] expected: &str) {
    let event = event();
    let key = compile(source).key(&Scope::of_event(&event, now()));
    assert_eq!(key.as_deref(), Ok(expected), "{source}");
}

#[rstest]
#[case("event.data.id", Some(7))]
#[case("event.data.whole", Some(5))]
#[case("event.data.half", None)]
#[case("event.data.text", None)]
#[case("event.data.missing", None)]
#[case("event.data.huge", None)]
#[case("event.data.yes ? 120 : 0", Some(120))]
#[case("-600.0", Some(-600))]
fn integers(#[case] source: &str, #[case] expected: Option<i64>) {
    let event = event();
    let integer = compile(source).integer(&Scope::of_event(&event, now()));
    assert_eq!(integer.ok(), expected, "{source}");
}

#[rstest]
#[case("event.data.id", "it gave int")]
#[case("event.data.nil", "it gave null_type")]
#[case("event.data.text || true", "it gave string")]
#[case("1 / 0 == 1", "division by zero")]
#[case("1 % 0 == 1", "division by zero")]
#[case("9223372036854775807 + 1 > 0", "integer overflow in +")]
#[case("0u - 1u > 0u", "integer overflow in -")]
#[case("-9223372036854775807 - 2 < 0", "integer overflow in -")]
#[case("2.5 % 2 == 1", "no such overload: % applied to (double, int)")]
#[case("'a' < 1", "no such overload: < applied to (string, int)")]
#[case("'a' - 'b' == 'c'", "no such overload: -")]
#[case("event.data.tags < event.data.tags", "no such overload: < applied to (list, list)")]
#[case("1 in 5", "no such overload: in")]
#[case("5.exists(x, true)", "no such overload: exists")]
#[case("int('x') == 1", "int: not a number")]
#[case("int(1e300) == 1", "integer overflow in int")]
#[case("uint(-1) == 1u", "integer overflow in uint")]
#[case("size(5) == 1", "no such overload: size applied to (int)")]
#[case("lowercase(5) == '5'", "no such overload: lowercase")]
#[case("event.name.matches('(')", "matches: not a regular expression")]
#[case("json_parse('{') == null", "json_parse: not JSON")]
#[case("b64decode('!') == ''", "b64decode: not base64")]
#[case("date('soon') == now()", "date: not a date")]
#[case("now_plus('soon') == now()", "now_plus: not a duration")]
#[case("now().getHours('Nowhere') == 1", "getHours: unknown time zone")]
#[case("1 / 0 == 1 || false", "division by zero")]
fn failures(#[case] source: &str, #[case] expected: &str) {
    let error = truth(source).unwrap_err().to_string();
    assert!(error.contains(expected), "{source}: {error}");
}

#[rstest]
#[case("me-bad", "ERROR: <input>:1:1: undeclared reference to 'me'")]
#[case("event.data.a ==", "ERROR: <input>:1:")]
#[case("event.data.a ==\n  other", "ERROR: <input>:2:3: undeclared reference to 'other'")]
#[case("'\u{e9}' == \u{2028}x", "ERROR: <input>:1:")]
#[case("'\u{e9}\u{e9}' == x", "ERROR: <input>:1:9: undeclared reference to 'x'")]
#[case("async.data.id == 1", "undeclared reference to 'async'")]
#[case("event.data.id.frobnicate()", "undeclared reference to 'frobnicate'")]
#[case("startsWith('a', 'b')", "undeclared reference to 'startsWith'")]
#[case("'a'.lowercase()", "undeclared reference to 'lowercase'")]
#[case("size()", "found no matching overload for 'size'")]
#[case("size(1, 2)", "found no matching overload for 'size'")]
#[case("has(event)", "invalid argument to has() macro")]
#[case("[1].all(1, true)", "argument must be a simple name")]
#[case("[1].all(x, true) && x", "undeclared reference to 'x'")]
#[case("Message{a: 1}", "undeclared reference to 'Message'")]
#[case("", "ERROR: <input>")]
#[case("   ", "ERROR: <input>")]
#[case("'open", "the string is not terminated")]
#[case("'\\q'", "unknown escape sequence")]
#[case("99999999999999999999", "invalid int literal")]
#[case("event.?data", "ERROR: <input>:1:")]
#[case("if", "ERROR: <input>:1:1: reserved identifier: if")]
fn compile_errors(#[case] source: &str, #[case] expected: &str) {
    let error = Expression::compile(source, &["event"]).unwrap_err().to_string();
    assert!(
        error.starts_with("error compiling expression: ERROR: <input>"),
        "{error}"
    );
    assert!(error.contains(expected), "{source}: {error}");
}

#[rstest]
#[case("event.data.a == async.data.a && (async.data.n > 5 || !async.data.x)", true)]
#[case("int(async.data.n) + 1 == 2 && uint(1) == 1u && double(2) > 1.0", true)]
#[case("async.data.tags[0] == 'a' ? true : false", true)]
#[case("has(async.data.a)", false)]
#[case("async.data.tags.exists(t, t == 'a')", false)]
#[case("lowercase(async.data.a) == 'a'", false)]
#[case("async.data.a == 1 && size(async.data.tags) == 1", false)]
#[case("[string(1)] == ['1']", false)]
fn the_restrictive_policy(#[case] source: &str, #[case] allowed: bool) {
    let expression = Expression::compile(source, &["event", "async"]).unwrap();
    assert_eq!(restrictive(&expression).is_ok(), allowed, "{source}");
}

#[rstest]
fn a_scope_from_text_equals_a_scope_from_a_value() {
    let event = event();
    let from_text = Scope::new(now()).with_text("event", &event.to_string()).unwrap();
    let expression = compile("event.data.huge == 18446744073709551615u && event.data.whole == 5");
    assert_eq!(expression.truth(&from_text), Ok(true));
    assert_eq!(expression.truth(&Scope::of_event(&event, now())), Ok(true));
    assert_eq!(
        expression.truth(&Scope::new(now())),
        Ok(false),
        "no variable: all missing"
    );
}

#[rstest]
fn expressions_are_shared_between_threads() {
    fn shareable<T: Clone + Send + Sync + 'static>(_: &T) {}
    let expression = compile("event.data.id == 7");
    shareable(&expression);
    assert_eq!(expression.source(), "event.data.id == 7");
    assert_eq!(EvalError::TooExpensive.to_string(), "too expensive");
}
