//! The plan of cron ticks: pure, rebuilt when functions change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::catalog::Catalog;
use crate::domain::{Accept, Event, EventId, Function, FunctionId, Timestamp, Trigger};
use crate::engine;
use crate::expression::cron::{Schedule, jitter};

/// A tick that is to come.
#[derive(Debug, Clone)]
struct Tick {
    /// When the schedule says.
    at: Timestamp,
    /// When it fires: later by its jitter.
    fires_at: Timestamp,
}

/// One cron trigger.
#[derive(Debug)]
struct Line {
    schedule: Schedule,
    text: String,
    jitter: Option<Duration>,
    next: Option<Tick>,
}

/// A tick that has come.
#[derive(Debug)]
pub(super) struct Fired {
    pub(super) function: Arc<Function>,
    pub(super) event: Event,
}

impl Fired {
    /// The tick's event with the run it starts. Its ids follow from function, schedule and tick, so whoever accepts it
    /// second changes nothing.
    pub(super) fn into_accept(self, now: Timestamp) -> Accept {
        let mut started = engine::start(&self.function, &self.event, now);
        if let Ok(run) = &mut started {
            // Two schedules of one function may tick at the same time; each has its run.
            run.idempotency = None;
        }
        Accept {
            event: self.event,
            skips: started.as_ref().err().cloned().into_iter().collect(),
            runs: started.into_iter().collect(),
            // A tick of a function that is being changed elsewhere at this moment still counts.
            catalog: None,
        }
    }
}

/// All cron triggers of all live functions.
#[derive(Debug, Default)]
pub(super) struct Plan {
    lines: HashMap<FunctionId, (Arc<Function>, Vec<Line>)>,
}

impl Plan {
    /// Follows the catalog. A function that has changed starts over from now, except that a tick that has come and not
    /// fired yet, for its jitter or because it came just now, stays if its schedule does; the others keep their next ticks.
    pub(super) fn follow(&mut self, catalog: &Catalog, now: Timestamp) {
        self.lines
            .retain(|id, _| catalog.function(*id).is_some_and(|function| !function.archived));
        for function in catalog.live_functions() {
            let before = match self.lines.remove(&function.id) {
                Some((known, lines)) if known.version == function.version => {
                    self.lines.insert(function.id, (known, lines));
                    continue;
                }
                before => before.map_or(Vec::new(), |(_, lines)| lines),
            };
            let lines: Vec<_> = function
                .triggers
                .iter()
                .filter_map(|trigger| Line::new(trigger, function, now))
                .map(|line| line.going_on_from(&before, now))
                .collect();
            if !lines.is_empty() {
                self.lines.insert(function.id, (Arc::clone(function), lines));
            }
        }
    }

    /// The ticks that have come by `now`; each moves on to its next. Ticks missed meanwhile are not made up for.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Fired> {
        let mut fired = Vec::new();
        for (function, lines) in self.lines.values_mut() {
            for line in lines {
                let Some(tick) = line.next.take_if(|tick| tick.fires_at <= now) else {
                    continue;
                };
                match line.event(function, &tick) {
                    Ok(event) => fired.push(Fired {
                        function: Arc::clone(function),
                        event,
                    }),
                    Err(error) => {
                        tracing::error!(function = %function.id, slug = %function.slug, %error, "tick not fired");
                    }
                }
                line.next = line.after(function, tick.at.max(now));
            }
        }
        fired
    }

    /// When the next tick fires.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let lines = self.lines.values().flat_map(|(_, lines)| lines);
        lines
            .filter_map(|line| line.next.as_ref())
            .map(|tick| tick.fires_at)
            .min()
    }
}

impl Line {
    fn new(trigger: &Trigger, function: &Function, now: Timestamp) -> Option<Self> {
        let Trigger::Cron { cron, jitter } = trigger else {
            return None;
        };
        // Registration refuses schedules that don't parse.
        let schedule = Schedule::parse(cron).ok()?;
        let mut line = Self {
            schedule,
            text: cron.clone(),
            jitter: *jitter,
            next: None,
        };
        line.next = line.after(function, now);
        Some(line)
    }

    /// With the tick that an earlier version of the same line has come to and not fired.
    fn going_on_from(mut self, before: &[Self], now: Timestamp) -> Self {
        let same = before
            .iter()
            .find(|line| line.text == self.text && line.jitter == self.jitter);
        if let Some(tick) = same.and_then(|line| line.next.as_ref()).filter(|tick| tick.at <= now) {
            self.next = Some(tick.clone());
        }
        self
    }

    fn after(&self, function: &Function, time: Timestamp) -> Option<Tick> {
        let at = Timestamp::from_datetime(self.schedule.next_after(time.to_datetime())?);
        let delay = self
            .jitter
            .map_or(Duration::ZERO, |most| jitter(&self.cause(function, at), most));
        Some(Tick {
            at,
            fires_at: at.after(delay),
        })
    }

    /// Names the tick, the same in every instance.
    fn cause(&self, function: &Function, at: Timestamp) -> String {
        format!("cron:{}:{}:{}", function.id, self.text, at.as_millis())
    }

    fn event(&self, function: &Function, tick: &Tick) -> Result<Event, crate::domain::JsonError> {
        let id = EventId::derive(tick.fires_at, &self.cause(function, tick.at));
        let mut data = Map::new();
        data.insert("cron".to_owned(), Value::from(self.text.as_str()));
        data.insert("scheduledAt".to_owned(), Value::from(tick.at.to_rfc3339()));
        data.insert("fireAt".to_owned(), Value::from(tick.fires_at.to_rfc3339()));
        Event::scheduled(id, tick.at.to_rfc3339(), tick.fires_at, data)
    }
}

#[cfg(test)]
mod tests;
