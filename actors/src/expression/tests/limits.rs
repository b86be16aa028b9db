//! Nothing a user writes may hang or crash the caller.

use super::{compile, now};
use crate::expression::{EvalError, Expression, MAX_SOURCE_BYTES, Scope};
use rstest::rstest;
use serde_json::json;

/// Compiling must give an error or a usable expression on half the stack of an ordinary thread.
#[rstest]
#[case::brackets("(", "1", ")")]
#[case::lists("[", "1", "]")]
#[case::maps("{'a':", "1", "}")]
#[case::calls("size(", "'a'", ")")]
#[case::indexes("", "event", "[0]")]
#[case::selections("", "event", ".a")]
#[case::methods("", "event", ".size()")]
#[case::sums("", "1", "+1")]
#[case::products("", "1", " * 1")]
#[case::relations("", "1", "==1")]
#[case::memberships("", "1", " in [1]")]
#[case::negations("-", "1", "")]
#[case::spaced_negations("- ", "1", "")]
#[case::nots("!", "true", "")]
#[case::bracketed_nots("!(", "true", ")")]
#[case::conditionals("true ? 1 : ", "1", "")]
#[case::conditionals_in_rows("true && true ? 1 : ", "1", "")]
#[case::nested_conditionals("true ? ", "1", ": 1")]
#[case::rows("", "true", "&& true")]
#[case::macros("[1].all(x, ", "true", ")")]
#[case::commas("", "event", ",.a.a.a")]
#[case::colons("", "event", ":.a.a.a")]
#[case::broken_openers("(", "", "")]
#[case::broken_closers("", "", ")")]
#[case::questions("?", "", "")]
#[case::commas_in_brackets("", "[event", ",.a.a.a.a")]
#[case::sums_after_brackets("(", "1", "+1)")]
fn deep_sources_are_errors_not_crashes(#[case] open: &str, #[case] core: &str, #[case] close: &str) {
    for times in [10, 47, 48, 79, 100, 127, 200, 255, 1_000, 4_000] {
        let source = format!("{}{core}{}", open.repeat(times), close.repeat(times));
        let attempt = move || {
            if let Ok(expression) = Expression::compile(&source, &["event"]) {
                let _ = expression.truth(&Scope::new(now()));
                let _ = expression.bind(&json!({}));
            }
        };
        let thread = std::thread::Builder::new().stack_size(1024 * 1024);
        thread.spawn(attempt).unwrap().join().unwrap();
    }
}

/// Texts that read as strings or comments to the guard have to be such for the parser as well.
#[rstest]
#[case(r"1r'\'")]
#[case(r"1.5R'\'")]
#[case("event.`a//b`")]
#[case(r"rb'\'")]
#[case("'a\n'")]
#[case(r"'\u12'")]
#[case("'''a''''")]
#[case(r"r'''\'''")]
#[case("// '\n1 2")]
#[case("/ / '\n1")]
#[case("#'")]
#[case("\u{e9}r'\\'")]
#[case("(]")]
#[case("1 'a' 'b'")]
fn no_depth_hides_from_the_guard(#[case] start: &str) {
    for part in ["+1", ".a", "==1", "[0]"] {
        for close in ["", "'", "\"", "'''", "`"] {
            let source = format!("{start}{}{close}", part.repeat(4_000));
            assert!(
                Expression::compile(&source, &["event"]).is_err(),
                "{start} {part} {close}"
            );
        }
    }
}

#[rstest]
#[case("1", "+1", 100)]
#[case("event", ".a", 100)]
#[case("true", " && true", 1_000)]
#[case("false", " || event.data.a == 1", 600)]
#[case("[1", ",1", 1_000)]
fn ordinary_long_sources_compile(#[case] start: &str, #[case] part: &str, #[case] times: usize) {
    let close = if start.starts_with('[') { "]" } else { "" };
    compile(&format!("{start}{}{close}", part.repeat(times)));
}

#[rstest]
fn a_source_that_is_too_long_is_an_error() {
    let fits = format!("'{}'", "a".repeat(MAX_SOURCE_BYTES - 2));
    assert!(Expression::compile(&fits, &[]).is_ok());
    let error = Expression::compile(&format!("{fits} "), &[]).unwrap_err();
    assert!(error.to_string().contains("longer than 16384 bytes"));
}

#[rstest]
#[case("event.data.all(a, event.data.all(b, a + b >= 0))")]
#[case("event.data.map(a, event.data.map(b, [a, b]))")]
#[case("event.data.exists(a, a == -1 || event.data.exists(b, b == -1))")]
#[case("event.data.all(a, event.data == event.data)")]
#[case("event.data.all(a, 5000 in event.data || true)")]
#[case("event.data.all(a, 'text'.matches('t+'))")]
#[case("'a'.matches('(a{1000}){1000}')")]
#[case(r"'a'.matches(r'\w{200}')")]
#[case(r"'a'.matches(r'(\w\w\w){100}')")]
#[case("'a'.matches('a{99999999999}{99999999999}{ 9}')")]
#[case("event.data.all(a, size('' + event.data) > 0)")]
fn nested_loops_over_large_lists_are_too_expensive(#[case] source: &str) {
    let event = json!({"data": (0..2_000).collect::<Vec<_>>()});
    let result = compile(source).value(&Scope::of_event(&event, now()));
    assert_eq!(result, Err(EvalError::TooExpensive));
}

#[rstest]
fn one_loop_over_a_large_list_is_fine() {
    let event = json!({"data": (0..10_000).collect::<Vec<_>>()});
    let expression = compile("event.data.all(a, a >= 0 && a < 10000)");
    assert_eq!(expression.truth(&Scope::of_event(&event, now())), Ok(true));
}

#[rstest]
fn deep_event_data_is_compared_without_recursing_into_danger() {
    let text = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    let scope = Scope::new(now()).with_text("event", &text).unwrap();
    assert_eq!(compile("event == event").truth(&scope), Ok(true));
    assert_eq!(compile("string(event)").key(&scope), Ok(text));
}
