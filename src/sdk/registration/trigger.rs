//! What starts a function.

use std::time::Duration;

use callboard_actors::domain::Trigger;
use callboard_actors::expression::cron::{CronError, Schedule};
use callboard_actors::expression::pattern::{self, PatternError};
use callboard_actors::expression::{Expression, duration};
use serde_json::Value;

use super::fields::present;
use super::{Fields, Problems};

const MAX_TRIGGERS: usize = 10;
const MIN_JITTER: Duration = Duration::from_secs(1);
const MAX_JITTER: Duration = Duration::from_secs(5 * 60);

/// Reads `triggers`; none at all make a function that is only invoked. What people write
/// may also be the bare `*`, for every event.
pub(super) fn read(items: &[Value], by_hand: bool, problems: &mut Problems) -> Vec<Trigger> {
    if items.len() > MAX_TRIGGERS {
        problems.add(format!(
            "This function exceeds the max number of triggers: {MAX_TRIGGERS}"
        ));
    }
    let triggers: Vec<Trigger> = items.iter().filter_map(|item| one(item, by_hand, problems)).collect();
    check_distinct(&triggers, problems);
    triggers
}

fn one(item: &Value, by_hand: bool, problems: &mut Problems) -> Option<Trigger> {
    let Value::Object(map) = item else {
        problems.add("a trigger must be an object");
        return None;
    };
    let fields = Fields::new(map, "triggers");
    let event = fields.text("event", problems);
    let cron = fields.text("cron", problems);
    match (event, cron) {
        (Some(event), None) => Some(event_trigger(event, fields, by_hand, problems)),
        (None, Some(cron)) => Some(cron_trigger(cron, fields, problems)),
        (Some(_), Some(_)) => {
            problems.add("A trigger must specify either an event or a cron schedule, not both");
            None
        }
        (None, None) if fields.get("event").is_some_and(Value::is_string) => {
            problems.add("An event trigger must specify an event name");
            None
        }
        (None, None) => {
            problems.add("A trigger must specify an event or a cron schedule");
            None
        }
    }
}

fn event_trigger(event: &str, fields: Fields<'_>, by_hand: bool, problems: &mut Problems) -> Trigger {
    match pattern::validate(event) {
        Ok(()) if event == pattern::CATCH_ALL && !by_hand => {
            problems.add_coded("event_name_invalid", PatternError::Wildcard.to_string());
        }
        Ok(()) => {}
        Err(error @ PatternError::Empty) => problems.add(error.to_string()),
        Err(error) => problems.add_coded("event_name_invalid", error.to_string()),
    }
    // The name of the option in SDKs; on the wire it is `expression`, but people write our own API by hand.
    let expression = fields
        .text("expression", problems)
        .or_else(|| fields.text("if", problems));
    let expression = present(expression);
    if let Some(expression) = &expression
        && let Err(error) = Expression::compile(expression, &["event"])
    {
        problems.add(format!("invalid trigger expression on '{event}': {error}"));
    }
    Trigger::Event {
        event: event.to_owned(),
        expression,
    }
}

fn cron_trigger(cron: &str, fields: Fields<'_>, problems: &mut Problems) -> Trigger {
    match Schedule::parse(cron) {
        Ok(_) => {}
        Err(error @ CronError::TooLong) => problems.add_coded("schedule_invalid", error.to_string()),
        Err(error) => problems.add(error.to_string()),
    }
    let jitter = fields.text("jitter", problems).and_then(|text| jitter(text, problems));
    Trigger::Cron {
        cron: cron.to_owned(),
        jitter,
    }
}

fn jitter(text: &str, problems: &mut Problems) -> Option<Duration> {
    let bounds = "a jitter must be between 1s (min) and 5m (max)";
    match duration::parse(text) {
        Err(error) => {
            problems.add(format!("invalid jitter '{text}': {error}; {bounds}"));
            None
        }
        Ok(parsed) => match parsed.to_std() {
            Ok(Duration::ZERO) => None,
            Ok(jitter) if (MIN_JITTER..=MAX_JITTER).contains(&jitter) => Some(jitter),
            _ => {
                problems.add(format!("invalid jitter '{text}': {bounds}"));
                None
            }
        },
    }
}

fn check_distinct(triggers: &[Trigger], problems: &mut Problems) {
    for (position, trigger) in triggers.iter().enumerate() {
        let earlier = &triggers[..position];
        match trigger {
            Trigger::Event { event, .. } if earlier.contains(trigger) => {
                problems.add(format!("duplicate trigger event: {event}"));
            }
            Trigger::Cron { cron, .. } if earlier.contains(trigger) => {
                problems.add(format!("duplicate trigger cron: {cron}"));
            }
            Trigger::Cron { cron, .. } => {
                let is_same = |other: &Trigger| matches!(other, Trigger::Cron { cron: text, .. } if text == cron);
                if earlier.iter().any(is_same) {
                    problems.add(format!("duplicate cron expression: {cron}"));
                }
            }
            Trigger::Event { .. } => {}
        }
    }
}
