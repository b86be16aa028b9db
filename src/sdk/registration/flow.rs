//! What a function asks of the scheduler.
//!
//! What the original server does not check is not refused here either: an unreadable `timeouts` member or
//! `debounce.timeout` counts as not set.

use std::time::Duration;

use callboard_actors::domain::{
    Batch, CancelRule, ConcurrencyLimit, Debounce, FlowControl, RateLimit, Scope, Singleton, SingletonMode, Throttle,
    Timeouts,
};
use callboard_actors::expression::{Expression, duration, restrictive};
use serde_json::{Map, Value};

use super::fields::{present, whole};
use super::{Fields, Problems};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MIN_DEBOUNCE: Duration = Duration::from_secs(1);
const MAX_DEBOUNCE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const MAX_STEP_LIMITS: usize = 2;
const MAX_RUN_LIMITS: usize = 1;
const MAX_CANCEL: usize = 5;

/// Reads everything.
pub(super) fn read(function: Fields<'_>, problems: &mut Problems) -> FlowControl {
    let (concurrency, run_concurrency) = concurrency(function.get("concurrency"), problems);
    let flow = FlowControl {
        concurrency,
        run_concurrency,
        throttle: throttle(function, problems),
        rate_limit: rate_limit(function, problems),
        debounce: debounce(function, problems),
        batch: batch(function, problems),
        priority: priority(function, problems),
        singleton: singleton(function, problems),
        cancel: cancel(function, problems),
        timeouts: timeouts(function, problems),
    };
    check_combinations(&flow, problems);
    flow
}

/// A duration that is not negative.
fn parse(text: &str) -> Result<Duration, String> {
    let parsed = duration::parse(text).map_err(|error| error.to_string())?;
    parsed.to_std().map_err(|_| "it is negative".to_owned())
}

/// A key expression; an empty one is none.
fn key(
    fields: Fields<'_>,
    problems: &mut Problems,
    describe: impl Fn(String) -> (Option<&'static str>, String),
) -> Option<String> {
    let key = present(fields.text("key", problems))?;
    if let Err(error) = Expression::compile(&key, &["event"]) {
        let (code, message) = describe(error.to_string());
        problems.push(code, message);
    }
    Some(key)
}

fn limit_from(value: i64, problems: &mut Problems) -> u32 {
    u32::try_from(value).unwrap_or_else(|_| {
        problems.add_coded(
            "concurrency_limit_invalid",
            format!("a concurrency limit cannot be {value}"),
        );
        0
    })
}

/// A number, an object, an array, or one of these each for steps and for runs.
fn concurrency(value: Option<&Value>, problems: &mut Problems) -> (Vec<ConcurrencyLimit>, Option<ConcurrencyLimit>) {
    let Some(value) = value else {
        return (Vec::new(), None);
    };
    let (steps, runs) = match value {
        Value::Object(map) => {
            let fields = Fields::new(map, "concurrency");
            match (fields.get("step"), fields.get("fn")) {
                (None, None) => (limits(value, problems), Vec::new()),
                (step, run) => (
                    step.map_or_else(Vec::new, |step| limits(step, problems)),
                    run.map_or_else(Vec::new, |run| limits(run, problems)),
                ),
            }
        }
        other => (limits(other, problems), Vec::new()),
    };
    if steps.len() > MAX_STEP_LIMITS {
        let message = format!("There are more concurrency limits specified than the allowed max of {MAX_STEP_LIMITS}");
        problems.add_coded("concurrency_limit_invalid", message);
    }
    if runs.len() > MAX_RUN_LIMITS {
        let message = format!("There are more function concurrency limits than the allowed max of {MAX_RUN_LIMITS}");
        problems.add_coded("concurrency_limit_invalid", message);
    }
    if runs.iter().any(|limit| limit.limit == 0) {
        problems.add_coded(
            "concurrency_limit_invalid",
            "a function concurrency limit must be greater than 0",
        );
    }
    let mut steps: Vec<ConcurrencyLimit> = steps
        .into_iter()
        // Without a number and without a key it limits nothing.
        .filter(|limit| limit.limit > 0 || limit.key.is_some())
        .collect();
    steps.sort_by_key(|limit| (limit.limit == 0, limit.limit));
    (steps, runs.into_iter().next())
}

fn limits(value: &Value, problems: &mut Problems) -> Vec<ConcurrencyLimit> {
    match value {
        Value::Array(items) => items.iter().filter_map(|item| limit(item, problems)).collect(),
        other => limit(other, problems).into_iter().collect(),
    }
}

fn limit(value: &Value, problems: &mut Problems) -> Option<ConcurrencyLimit> {
    match value {
        Value::Null => None,
        Value::Number(number) => match whole(number) {
            Some(number) => Some(ConcurrencyLimit {
                limit: limit_from(number, problems),
                key: None,
                scope: Scope::Fn,
            }),
            None => {
                problems.add("`concurrency` must be a whole number");
                None
            }
        },
        Value::Object(map) => Some(limit_object(map, problems)),
        _ => {
            problems.add("`concurrency` must be a number, an object or an array");
            None
        }
    }
}

fn limit_object(map: &Map<String, Value>, problems: &mut Problems) -> ConcurrencyLimit {
    let fields = Fields::new(map, "concurrency");
    let number = fields.integer("limit", problems).unwrap_or(0);
    let key = key(fields, problems, |error| {
        (None, format!("Concurrency key is invalid: {error}"))
    });
    let scope = match fields.text("scope", problems).map(str::to_ascii_lowercase).as_deref() {
        None | Some("fn") => Scope::Fn,
        Some("env") => Scope::Env,
        Some("account") => Scope::Account,
        Some(other) => {
            problems.add(format!("unknown concurrency scope: {other}"));
            Scope::Fn
        }
    };
    if scope != Scope::Fn && key.is_none() {
        problems.add("A concurrency key must be specified for the scopes env and account");
    }
    ConcurrencyLimit {
        limit: limit_from(number, problems),
        key,
        scope,
    }
}

fn throttle(function: Fields<'_>, problems: &mut Problems) -> Option<Throttle> {
    let fields = Fields::new(function.object("throttle", problems)?, "throttle");
    let limit = positive(fields.integer("limit", problems));
    let burst = fields.integer("burst", problems).unwrap_or(0);
    let text = fields.text("period", problems).unwrap_or_default();
    let period = parse(text).unwrap_or_else(|error| {
        problems.add(format!("invalid throttle period '{text}': {error}"));
        Duration::ZERO
    });
    Some(Throttle {
        limit,
        period: period.max(Duration::from_secs(1)),
        burst: u32::try_from(burst.max(0)).unwrap_or(u32::MAX),
        key: key(fields, problems, |error| {
            (None, format!("Throttle key is invalid: {error}"))
        }),
    })
}

/// At least one.
fn positive(number: Option<i64>) -> u32 {
    u32::try_from(number.unwrap_or(1).max(1)).unwrap_or(u32::MAX)
}

/// An idempotency key is a rate limit of one per day, and replaces any other.
fn rate_limit(function: Fields<'_>, problems: &mut Problems) -> Option<RateLimit> {
    if let Some(key) = present(function.text("idempotency", problems)) {
        if let Err(error) = Expression::compile(&key, &["event"]) {
            problems.add(format!("Idempotency expression is invalid: {error}"));
        }
        return Some(RateLimit {
            limit: 1,
            period: DAY,
            key: Some(key),
            idempotency: true,
        });
    }
    let fields = Fields::new(function.object("rateLimit", problems)?, "rateLimit");
    let limit = fields.integer("limit", problems).unwrap_or(0);
    if limit <= 0 {
        problems.add("limit must be greater than 0");
    }
    let text = fields.text("period", problems).unwrap_or_default();
    let period = match parse(text) {
        Ok(period) if period > DAY => {
            problems.add(format!("invalid rate limit period '{text}': it must be at most 24h"));
            DAY
        }
        Ok(period) if period.is_zero() => {
            problems.add("a rate limit must have a period");
            DAY
        }
        Ok(period) => period,
        Err(error) => {
            problems.add(format!("invalid rate limit period '{text}': {error}"));
            DAY
        }
    };
    Some(RateLimit {
        limit: positive(Some(limit)),
        period,
        key: key(fields, problems, |error| {
            (None, format!("Rate limit key is invalid: {error}"))
        }),
        idempotency: false,
    })
}

fn debounce(function: Fields<'_>, problems: &mut Problems) -> Option<Debounce> {
    let fields = Fields::new(function.object("debounce", problems)?, "debounce");
    let text = fields.text("period", problems).unwrap_or_default();
    let bounds = "a debounce period must be between 1s and 168h0m0s";
    let period = match parse(text) {
        Ok(period) if (MIN_DEBOUNCE..=MAX_DEBOUNCE).contains(&period) => period,
        Ok(_) => {
            problems.add(format!("invalid debounce period '{text}': {bounds}"));
            MIN_DEBOUNCE
        }
        Err(error) => {
            problems.add(format!("invalid debounce period '{text}': {error}; {bounds}"));
            MIN_DEBOUNCE
        }
    };
    Some(Debounce {
        period,
        key: key(fields, problems, |error| {
            (None, format!("Debounce expression is invalid: {error}"))
        }),
        timeout: lenient(fields, "timeout"),
    })
}

/// A duration, or nothing if it makes no sense.
fn lenient(fields: Fields<'_>, name: &str) -> Option<Duration> {
    let text = fields.get(name)?.as_str()?;
    parse(text).ok().filter(|period| !period.is_zero())
}

fn batch(function: Fields<'_>, problems: &mut Problems) -> Option<Batch> {
    let fields = Fields::new(function.object("batchEvents", problems)?, "batchEvents");
    let size = fields.integer("maxSize", problems).unwrap_or(0);
    if size < 2 {
        problems.add_coded(
            "batch_size_invalid",
            format!("batch size cannot be smaller than 2: {size}"),
        );
    }
    let text = fields.text("timeout", problems).unwrap_or_default();
    let timeout = match parse(text) {
        Ok(timeout) if timeout >= Duration::from_secs(1) => timeout,
        Ok(_) => {
            problems.add_coded(
                "batch_timeout_invalid",
                format!("batch timeout cannot be smaller than 1s: {text}"),
            );
            DAY
        }
        Err(error) => {
            problems.add_coded(
                "batch_timeout_invalid",
                format!("invalid batch timeout '{text}': {error}"),
            );
            DAY
        }
    };
    let key = key(fields, problems, |error| {
        (
            Some("batch_key_expression_invalid"),
            format!("Batch key expression is invalid: {error}"),
        )
    });
    let condition = present(fields.text("if", problems));
    if let Some(condition) = &condition
        && let Err(error) = Expression::compile(condition, &["event"])
    {
        problems.add_coded(
            "batch_if_expression_invalid",
            format!("Batch if expression is invalid: {error}"),
        );
    }
    Some(Batch {
        max_size: u32::try_from(size.max(2)).unwrap_or(u32::MAX),
        timeout,
        key,
        condition,
    })
}

fn priority(function: Fields<'_>, problems: &mut Problems) -> Option<String> {
    let fields = Fields::new(function.object("priority", problems)?, "priority");
    let run = present(fields.text("run", problems))?;
    if let Err(error) = Expression::compile(&run, &["event"]) {
        problems.add(format!("Priority.Run expression is invalid: {error}"));
    }
    Some(run)
}

fn singleton(function: Fields<'_>, problems: &mut Problems) -> Option<Singleton> {
    let fields = Fields::new(function.object("singleton", problems)?, "singleton");
    let mode = match fields.text("mode", problems).map(str::to_ascii_lowercase).as_deref() {
        None | Some("skip") => SingletonMode::Skip,
        Some("cancel") => SingletonMode::Cancel,
        Some(other) => {
            problems.add(format!("unknown singleton mode: {other}"));
            SingletonMode::Skip
        }
    };
    Some(Singleton {
        mode,
        key: key(fields, problems, |error| {
            (None, format!("Singleton key is invalid: {error}"))
        }),
    })
}

fn cancel(function: Fields<'_>, problems: &mut Problems) -> Vec<CancelRule> {
    let items = function.array("cancel", problems);
    if items.len() > MAX_CANCEL {
        problems.add(format!(
            "This function exceeds the max number of cancellation events: {MAX_CANCEL}"
        ));
    }
    items.iter().filter_map(|item| cancel_rule(item, problems)).collect()
}

fn cancel_rule(item: &Value, problems: &mut Problems) -> Option<CancelRule> {
    let Value::Object(map) = item else {
        problems.add("a cancellation must be an object");
        return None;
    };
    let fields = Fields::new(map, "cancel");
    let Some(event) = fields.text("event", problems) else {
        problems.add("A cancellation must specify an event name");
        return None;
    };
    let condition = present(fields.text("if", problems));
    if let Some(condition) = &condition {
        let checked = Expression::compile(condition, &["event", "async"]);
        if let Err(error) = checked.and_then(|expression| restrictive(&expression)) {
            problems.add(format!("Cancellation expression is invalid: {error}"));
        }
    }
    Some(CancelRule {
        event: event.to_owned(),
        condition,
        timeout: present(fields.text("timeout", problems)),
    })
}

fn timeouts(function: Fields<'_>, problems: &mut Problems) -> Timeouts {
    let Some(map) = function.object("timeouts", problems) else {
        return Timeouts::default();
    };
    let fields = Fields::new(map, "timeouts");
    Timeouts {
        start: lenient(fields, "start"),
        finish: lenient(fields, "finish"),
    }
}

fn check_combinations(flow: &FlowControl, problems: &mut Problems) {
    const CODE: &str = "combo_unsupported";
    if flow.batch.is_none() {
        return;
    }
    if !flow.cancel.is_empty() {
        problems.add_coded(CODE, "A function cannot have both batching and cancellation events");
    }
    if flow.debounce.is_some() {
        problems.add_coded(CODE, "A function cannot have both batching and debounce");
    }
    if flow.singleton.is_some() {
        problems.add_coded(CODE, "A function cannot have both batching and singleton");
    }
    if flow.priority.is_some() {
        problems.add("A function cannot have both batching and a priority");
    }
}
