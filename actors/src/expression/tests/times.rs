//! Durations, dates, sleeps, timeouts, `Retry-After`, and event name patterns.

use super::{at, now};
use crate::expression::duration::{self, DurationError};
use crate::expression::pattern::{self, PatternError};
use crate::expression::time;
use chrono::TimeDelta;
use rstest::rstest;
use std::time::Duration;

const HOUR: i64 = 3_600_000_000_000;

#[rstest]
#[case("0", 0)]
#[case("-0", 0)]
#[case("0s", 0)]
#[case("1ns", 1)]
#[case("1us", 1_000)]
#[case("1\u{b5}s", 1_000)]
#[case("1\u{3bc}s", 1_000)]
#[case("1ms", 1_000_000)]
#[case("90s", 90_000_000_000)]
#[case("1h30m", HOUR + HOUR / 2)]
#[case("1d12h", 36 * HOUR)]
#[case("1w2d3h", (168 + 48 + 3) * HOUR)]
#[case("1.5h", HOUR + HOUR / 2)]
#[case(".5h", HOUR / 2)]
#[case("1.h", HOUR)]
#[case("1.0000000009s", 1_000_000_000)]
#[case("0.000000000000000000000001w", 0)]
#[case("+1h", HOUR)]
#[case("-1h30m", -HOUR - HOUR / 2)]
#[case("1h1h", 2 * HOUR)]
#[case("9223372036854775807ns", i64::MAX)]
#[case("-9223372036854775808ns", i64::MIN)]
fn durations(#[case] text: &str, #[case] nanos: i64) {
    assert_eq!(duration::parse(text), Ok(TimeDelta::nanoseconds(nanos)), "{text}");
}

#[rstest]
#[case("", DurationError::Empty)]
#[case("-", DurationError::Empty)]
#[case("1", DurationError::Unit)]
#[case("00", DurationError::Unit)]
#[case("1 h", DurationError::Unit)]
#[case("1y", DurationError::Unit)]
#[case("1mo", DurationError::Unit)]
#[case("1H", DurationError::Unit)]
#[case("1.2.3s", DurationError::Unit)]
#[case("h", DurationError::Number)]
#[case(".s", DurationError::Number)]
#[case("--1s", DurationError::Number)]
#[case("1h-1m", DurationError::Unit)]
#[case(" 1h", DurationError::Number)]
#[case("9223372036854775808ns", DurationError::Range)]
#[case("15251w", DurationError::Range)]
#[case("99999999999999999999999999999999999999999h", DurationError::Range)]
#[case("170141183460469231731687303715884105727w", DurationError::Range)]
fn bad_durations(#[case] text: &str, #[case] expected: DurationError) {
    assert_eq!(duration::parse(text), Err(expected), "{text}");
}

#[rstest]
#[case(0, "0s")]
#[case(1, "1ns")]
#[case(1_500_000_000, "1s500ms")]
#[case(-HOUR, "-1h")]
#[case(219 * HOUR, "1w2d3h")]
#[case(168 * HOUR, "1w")]
fn rendered_durations(#[case] nanos: i64, #[case] expected: &str) {
    assert_eq!(duration::render(TimeDelta::nanoseconds(nanos)), expected);
}

#[rstest]
#[case("", 0)]
#[case("0", 0)]
#[case("1d2h", 26 * 3_600_000)]
#[case("500ms", 500)]
#[case("-5s", 0)]
// Ten bytes long, and still a duration.
#[case("100000000s", 100_000_000_000)]
#[case("1w2d3h4m5s", (219 * 3_600 + 4 * 60 + 5) * 1_000)]
// The time is 07:08:09.250; distances are exact.
#[case("2024-05-06T07:08:19.250Z", 10_000)]
#[case("2024-05-06T07:08:19.700Z", 10_450)]
#[case("2024-05-06T07:08:09.251Z", 1)]
#[case("2020-01-01T00:00:00Z", 0)]
#[case("2024-05-06T09:08:19+02:00", 9_750)]
#[case("2024-05-06T07:08:19", 9_750)]
#[case("2024-05-06 07:08:19", 9_750)]
#[case("2024-05-06 07:08:19.5", 10_250)]
#[case("2024-05-06 07:08:19Z", 9_750)]
#[case("2024-05-06 07:08:19+0000", 9_750)]
#[case("2024-05-06T07:09", 50_750)]
#[case("Mon, 06 May 2024 07:08:19 GMT", 9_750)]
#[case("Mon, 06 May 2024 09:08:19 +0200", 9_750)]
#[case("2024-05-07", 60_710_750)]
fn sleeps(#[case] text: &str, #[case] millis: u64) {
    assert_eq!(time::sleep(text, now()), Ok(Duration::from_millis(millis)), "{text}");
}

#[rstest]
#[case("soon")]
#[case("2024-13-45T00:00:00Z")]
#[case("tomorrow at noon")]
#[case("15251w")]
fn bad_sleeps(#[case] text: &str) {
    assert!(time::sleep(text, now()).is_err(), "{text}");
}

#[rstest]
#[case("1h", Some("2024-05-06T08:08:09.250Z"))]
#[case("-1h", Some("2024-05-06T06:08:09.250Z"))]
#[case("1w", Some("2024-05-13T07:08:09.250Z"))]
#[case("2025-01-01T00:00:00Z", Some("2025-01-01T00:00:00Z"))]
#[case("2025-01-01T01:00:00.5+01:00", Some("2025-01-01T00:00:00.5Z"))]
#[case("2020-01-01T00:00:00Z", Some("2020-01-01T00:00:00Z"))]
// Strict where sleeps are lenient.
#[case("2025-01-01", None)]
#[case("2025-01-01 00:00:00Z", None)]
#[case("2025-01-01T00:00:00", None)]
#[case("Mon, 06 May 2024 07:08:19 GMT", None)]
#[case("", None)]
#[case("never", None)]
fn timeouts(#[case] text: &str, #[case] expected: Option<&str>) {
    assert_eq!(time::timeout(text, now()).ok(), expected.map(at), "{text}");
}

#[rstest]
#[case("5", Some(5_000))]
#[case(" 5 ", Some(5_000))]
#[case("0", Some(1_000))]
#[case("-5", Some(1_000))]
#[case("9999999", Some(86_400_000))]
#[case("99999999", None)]
#[case("1.5", None)]
#[case("", None)]
#[case("soon", None)]
#[case("10s", None)]
#[case("2024-05-06T07:08:39.250Z", Some(30_000))]
#[case("2024-05-06T07:08:39.250", Some(30_000))]
#[case("2024-05-06T07:08:09.300Z", Some(1_000))]
#[case("2020-01-01T00:00:00Z", Some(1_000))]
#[case("2030-01-01T00:00:00Z", Some(86_400_000))]
#[case("Mon, 06 May 2024 07:08:39 GMT", Some(29_750))]
fn retry_after(#[case] text: &str, #[case] millis: Option<u64>) {
    assert_eq!(
        time::retry_after(text, now()),
        millis.map(Duration::from_millis),
        "{text}"
    );
}

#[rstest]
#[case("crm/lead.won", &["crm/lead.won", "crm/*", "crm/lead.*"])]
#[case("a.b/c.d", &["a.b/c.d", "a.b/*", "a.*", "a.b/c.*"])]
#[case("plain", &["plain"])]
#[case("crm/eu/lead.won", &["crm/eu/lead.won", "crm/*", "crm/eu/*", "crm/eu/lead.*"])]
#[case("crm/*", &["crm/*"])]
#[case("//", &["//", "/*", "//*"])]
#[case("", &[""])]
fn candidates(#[case] name: &str, #[case] expected: &[&str]) {
    assert_eq!(pattern::candidates(name), expected);
}

#[rstest]
fn candidates_of_a_hostile_name_stay_few() {
    assert!(pattern::candidates(&"/".repeat(100_000)).len() < 260);
}

#[rstest]
#[case("crm/*", "crm/eu/lead.won", true)]
#[case("crm/*", "crm", false)]
#[case("crm/*", "CRM/lead", false)]
#[case("crm/le*", "crm/lead", false)]
#[case("crm/le*", "crm/le*", true)]
#[case("*", "anything/at.all", true)]
fn matching(#[case] trigger: &str, #[case] name: &str, #[case] expected: bool) {
    assert_eq!(pattern::matches(trigger, name), expected);
}

#[rstest]
#[case("shop/order.paid", Ok(()))]
#[case("shop/*", Ok(()))]
#[case("shop/order.*", Ok(()))]
#[case("*", Ok(()))]
#[case("inngest/function.failed", Ok(()))]
#[case("", Err(PatternError::Empty))]
#[case("shop*", Err(PatternError::Wildcard))]
#[case("shop/or*", Err(PatternError::Wildcard))]
#[case("*/order", Err(PatternError::Wildcard))]
#[case("shop/*/paid", Err(PatternError::Wildcard))]
#[case("shop/*.*", Err(PatternError::Wildcard))]
#[case("**", Err(PatternError::Wildcard))]
#[case("/*", Ok(()))]
fn trigger_names(#[case] trigger: &str, #[case] expected: Result<(), PatternError>) {
    assert_eq!(pattern::validate(trigger), expected, "{trigger}");
}

#[rstest]
fn trigger_names_have_at_most_255_bytes() {
    assert_eq!(pattern::validate(&"a".repeat(255)), Ok(()));
    assert_eq!(pattern::validate(&"a".repeat(256)), Err(PatternError::TooLong));
    assert_eq!(pattern::validate(&"\u{e9}".repeat(128)), Err(PatternError::TooLong));
}
