//! The functions of the dialect: CEL's own, and those the original server adds.
//!
//! Promises that a missing or null argument is never an error: `size` of it is zero, every other
//! function gives false (semantics 6.3). Never reads a clock: `now()` is the scope's time.

use super::ast::Function;
use super::error::EvalError;
use super::eval::{Evaluated, Evaluator, from_bytes, from_integer, integer, no_overload};
use super::number::Number;
use super::value::{Text, Value};
use super::{duration, time};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use chrono::{DateTime, Datelike, FixedOffset, NaiveDateTime, TimeDelta, Timelike, Utc};
use std::sync::LazyLock;

/// Longest pattern of `matches`, in bytes.
const REGEX_BYTES: usize = 1_024;

/// Calls a function with evaluated arguments; their number was checked when it was compiled.
pub(super) fn call<'s>(evaluator: &mut Evaluator<'s>, function: Function, arguments: Vec<Value<'s>>) -> Evaluated<'s> {
    if arguments.iter().any(Value::is_nothing) {
        match function {
            Function::Size => return Ok(from_integer(0)),
            Function::Type | Function::Dyn => {}
            _ => return Ok(Value::Bool(false)),
        }
    }
    evaluator.spend(arguments.iter().map(Value::weight).sum())?;
    let mut arguments = arguments.into_iter();
    match (function, arguments.next(), arguments.next()) {
        (Function::Now, ..) => Ok(Value::Time(evaluator.scope.now())),
        (_, Some(first), None) => unary(evaluator, function, first),
        (_, Some(first), Some(second)) => binary(evaluator, function, &first, &second),
        (_, None, _) => Err(no_overload(function.name(), &[])),
    }
}

fn unary<'s>(evaluator: &mut Evaluator<'s>, function: Function, value: Value<'s>) -> Evaluated<'s> {
    let rejected = |reason| EvalError::Rejected {
        function: function.name(),
        reason,
    };
    match (function, value) {
        (Function::Dyn, value)
        | (Function::Bool, value @ Value::Bool(_))
        | (Function::String, value @ Value::Text(_))
        | (Function::Bytes, value @ Value::Bytes(_))
        | (Function::Timestamp | Function::Date, value @ Value::Time(_)) => Ok(value),
        (Function::Type, value) => Ok(Value::Type(value.type_name())),
        (Function::Size, Value::Text(text)) => Ok(Value::int(text.as_str().chars().count())),
        (Function::Size, Value::Bytes(bytes)) => Ok(Value::int(bytes.len())),
        (Function::Size, Value::List(list)) => Ok(Value::int(list.len())),
        (Function::Size, Value::Map(map)) => Ok(Value::int(map.len())),
        (Function::Int | Function::Uint | Function::Double, value) => number(function, value),
        (Function::Bool, Value::Text(text)) => match text.as_str() {
            "1" | "t" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(rejected("not a bool")),
        },
        (Function::String, Value::Bytes(bytes)) => String::from_utf8(bytes.to_vec())
            .map(Value::text)
            .map_err(|_| rejected("not valid UTF-8")),
        (Function::String, value) => Ok(Value::text(value.render())),
        (Function::Bytes, Value::Text(text)) => Ok(from_bytes(text.as_str().as_bytes())),
        (Function::Lowercase, Value::Text(text)) => Ok(Value::text(text.as_str().to_lowercase())),
        (Function::Uppercase, Value::Text(text)) => Ok(Value::text(text.as_str().to_uppercase())),
        (Function::Base64Decode, Value::Text(text)) => base64_text(text.as_str())
            .map(Value::text)
            .ok_or_else(|| rejected("not base64 of a text")),
        (Function::JsonParse, Value::Text(text)) => {
            // Parsing builds a copy: ten times what merely looking at the text costs.
            evaluator.spend(text.as_str().len() / 6)?;
            serde_json::from_str(text.as_str())
                .map(Value::from_owned_json)
                .map_err(|_| rejected("not JSON"))
        }
        (Function::Timestamp, Value::Text(text)) => time::rfc3339(text.as_str())
            .map(Value::Time)
            .ok_or_else(|| rejected("not an RFC 3339 time")),
        (Function::Date, Value::Text(text)) => time::lenient(text.as_str())
            .map(Value::Time)
            .ok_or_else(|| rejected("not a date")),
        (Function::Timestamp, value @ Value::Number(_)) => integer(&value)
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            .map(Value::Time)
            .ok_or_else(|| rejected("out of range")),
        (Function::Date, value @ Value::Number(_)) => integer(&value)
            .and_then(time::from_epoch)
            .map(Value::Time)
            .ok_or_else(|| rejected("out of range")),
        (Function::Duration, value) => span(function, value).map(Value::Span),
        (Function::NowPlus, value) => evaluator
            .scope
            .now()
            .checked_add_signed(span(function, value)?)
            .map(Value::Time)
            .ok_or(EvalError::Overflow("now_plus")),
        (Function::NowMinus, value) => evaluator
            .scope
            .now()
            .checked_sub_signed(span(function, value)?)
            .map(Value::Time)
            .ok_or(EvalError::Overflow("now_minus")),
        (_, Value::Time(time)) => time_part(function, time.naive_utc()),
        (_, Value::Span(span)) => span_part(function, span),
        (_, value) => Err(no_overload(function.name(), &[value])),
    }
}

fn binary<'s>(
    evaluator: &mut Evaluator<'s>,
    function: Function,
    first: &Value<'s>,
    second: &Value<'s>,
) -> Evaluated<'s> {
    match (function, first, second) {
        (Function::StartsWith, Value::Text(text), Value::Text(other)) => {
            Ok(Value::Bool(text.as_str().starts_with(other.as_str())))
        }
        (Function::EndsWith, Value::Text(text), Value::Text(other)) => {
            Ok(Value::Bool(text.as_str().ends_with(other.as_str())))
        }
        (Function::Contains, Value::Text(text), Value::Text(other)) => {
            Ok(Value::Bool(text.as_str().contains(other.as_str())))
        }
        (Function::Matches, Value::Text(text), Value::Text(pattern)) => {
            evaluator.spend(regex_cost(pattern.as_str()))?;
            evaluator.spend(text.as_str().len() / 16)?;
            matches(text, pattern).map(Value::Bool)
        }
        (_, Value::Time(time), Value::Text(zone)) => {
            let local = local_time(*time, zone.as_str()).ok_or(EvalError::Rejected {
                function: function.name(),
                reason: "unknown time zone",
            })?;
            time_part(function, local)
        }
        _ => Err(no_overload(function.name(), &[first.clone(), second.clone()])),
    }
}

/// The casts `int`, `uint` and `double`.
fn number<'s>(function: Function, value: Value<'s>) -> Evaluated<'s> {
    let overflow = EvalError::Overflow(function.name());
    let rejected = EvalError::Rejected {
        function: function.name(),
        reason: "not a number",
    };
    let result = match (function, value) {
        (Function::Double, Value::Number(number)) => Number::Double(number.as_f64()),
        (Function::Double, Value::Text(text)) => Number::Double(text.as_str().parse().map_err(|_| rejected)?),
        (Function::Int, Value::Text(text)) => Number::Int(text.as_str().parse().map_err(|_| rejected)?),
        (Function::Uint, Value::Text(text)) => Number::Uint(text.as_str().parse().map_err(|_| rejected)?),
        (Function::Int, Value::Time(time)) => Number::Int(time.timestamp()),
        (Function::Int | Function::Uint, Value::Number(number)) => {
            let truncated = match number {
                Number::Double(double) => Number::Double(double.trunc()),
                integer => integer,
            };
            let whole = truncated.whole().ok_or_else(|| overflow.clone())?;
            if function == Function::Int {
                Number::Int(whole.try_into().map_err(|_| overflow)?)
            } else {
                Number::Uint(whole.try_into().map_err(|_| overflow)?)
            }
        }
        (_, value) => return Err(no_overload(function.name(), &[value])),
    };
    Ok(Value::Number(result))
}

/// A duration, given as one or as text.
fn span(function: Function, value: Value<'_>) -> Result<TimeDelta, EvalError> {
    match value {
        Value::Span(span) => Ok(span),
        Value::Text(text) => duration::parse(text.as_str()).map_err(|_| EvalError::Rejected {
            function: function.name(),
            reason: "not a duration",
        }),
        value => Err(no_overload(function.name(), &[value])),
    }
}

/// Decodes any of the common alphabets; the result has to be text.
fn base64_text(text: &str) -> Option<String> {
    let text = text.trim();
    [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD]
        .iter()
        .find_map(|alphabet| alphabet.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
}

/// Steps to compile a pattern, which is done for every call. What makes a small pattern a large
/// program are classes of Unicode, which are escapes, and counted repetitions: of one character they
/// add up, of groups they multiply.
fn regex_cost(pattern: &str) -> usize {
    let mut size = pattern.len() + 100 * pattern.matches('\\').count();
    let mut factor = 1_usize;
    let mut pieces = pattern.split('{');
    let mut before = pieces.next().unwrap_or_default();
    for piece in pieces {
        let counts = piece.split_once('}').map_or("", |(counts, _)| counts);
        let count = counts
            .split(',')
            .filter_map(|count| count.trim().parse::<usize>().ok())
            .max();
        if before.ends_with([')', '}']) {
            factor = factor.saturating_mul(count.unwrap_or(1).max(1));
        } else {
            size = size.saturating_add(count.unwrap_or(0).saturating_mul(100));
        }
        before = piece;
    }
    size.saturating_mul(factor).saturating_mul(10).saturating_add(500)
}

/// Regular expressions are linear in the length of the text. The `cel` crate brings the engine.
fn matches(text: &Text<'_>, pattern: &Text<'_>) -> Result<bool, EvalError> {
    static MATCHES: LazyLock<cel::Program> =
        LazyLock::new(|| cel::Program::compile("text.matches(pattern)").expect("the constant source is valid"));
    let rejected = EvalError::Rejected {
        function: "matches",
        reason: "not a regular expression",
    };
    if pattern.as_str().len() > REGEX_BYTES {
        return Err(rejected);
    }
    let mut context = cel::Context::default();
    context.add_variable_from_value("text", text.as_str());
    context.add_variable_from_value("pattern", pattern.as_str());
    match MATCHES.execute(&context) {
        Ok(cel::Value::Bool(matched)) => Ok(matched),
        _ => Err(rejected),
    }
}

/// The wall clock of a zone, named as in the IANA database or as an offset such as `+02:00`.
fn local_time(time: DateTime<Utc>, zone: &str) -> Option<NaiveDateTime> {
    if let Ok(zone) = zone.parse::<chrono_tz::Tz>() {
        return Some(time.with_timezone(&zone).naive_local());
    }
    let offset: FixedOffset = zone.parse().ok()?;
    Some(time.with_timezone(&offset).naive_local())
}

fn time_part<'s>(function: Function, time: NaiveDateTime) -> Evaluated<'s> {
    Ok(from_integer(match function {
        Function::GetFullYear => time.year(),
        Function::GetMonth => time.month0() as i32,
        Function::GetDate => time.day() as i32,
        Function::GetDayOfMonth => time.day0() as i32,
        Function::GetDayOfWeek => time.weekday().num_days_from_sunday() as i32,
        Function::GetDayOfYear => time.ordinal0() as i32,
        Function::GetHours => time.hour() as i32,
        Function::GetMinutes => time.minute() as i32,
        Function::GetSeconds => time.second() as i32,
        Function::GetMilliseconds => (time.nanosecond() / 1_000_000 % 1_000) as i32,
        _ => return Err(no_overload(function.name(), &[Value::Time(time.and_utc())])),
    }))
}

fn span_part<'s>(function: Function, span: TimeDelta) -> Evaluated<'s> {
    Ok(from_integer(match function {
        Function::GetHours => span.num_hours(),
        Function::GetMinutes => span.num_minutes(),
        Function::GetSeconds => span.num_seconds(),
        Function::GetMilliseconds => span.num_milliseconds() % 1_000,
        _ => return Err(no_overload(function.name(), &[Value::Span(span)])),
    }))
}
