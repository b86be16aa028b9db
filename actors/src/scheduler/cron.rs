//! The plan of cron ticks: pure, told of every catalog and of what the store knows of each schedule.
//!
//! Promises: a slot is looked at until it is dealt with, which is to fire or to be skipped for a reason that is noted; a
//! schedule's slots from before it was known are nobody's. A slot that is looked at twice, after a restart or by a clock
//! that was set back, fires once, for its event has an id that follows from function, schedule and slot.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::catch_up::{CatchUp, MOST, Span};
use crate::catalog::Catalog;
use crate::domain::{Accept, Event, EventId, Function, FunctionId, JsonError, Timestamp, Trigger};
use crate::engine;
use crate::expression::cron::{Schedule, jitter};
use crate::ports::{CronEnd, CronGap, CronMark, GapReason};

/// A slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tick {
    /// When the schedule says.
    pub(super) at: Timestamp,
    /// When it fires: later by its jitter.
    pub(super) fires_at: Timestamp,
}

impl Tick {
    pub(super) fn new(function: FunctionId, schedule: &str, most: Option<Duration>, at: Timestamp) -> Self {
        let delay = most.map_or(Duration::ZERO, |most| jitter(&cause(function, schedule, at), most));
        let fires_at = at.after(delay);
        Self { at, fires_at }
    }
}

/// Names a tick, the same in every instance.
fn cause(function: FunctionId, schedule: &str, at: Timestamp) -> String {
    format!("cron:{function}:{schedule}:{}", at.as_millis())
}

/// The id of a tick's event. The jitter has no part in it, so that a slot fires once also if that changes.
pub(super) fn event_id(function: FunctionId, schedule: &str, at: Timestamp) -> EventId {
    EventId::derive(at, &cause(function, schedule, at))
}

/// The schedules of a function, each once, with their jitters.
pub(super) fn schedules(function: &Function) -> Vec<(&str, Option<Duration>)> {
    let mut all: Vec<(&str, _)> = Vec::new();
    for trigger in &function.triggers {
        if let Trigger::Cron { cron, jitter } = trigger
            && !all.iter().any(|(known, _)| known == cron)
        {
            all.push((cron, *jitter));
        }
    }
    all
}

/// A tick that has come.
#[derive(Debug)]
pub(super) struct Fired {
    pub(super) at: Timestamp,
    pub(super) function: Arc<Function>,
    pub(super) event: Event,
}

impl Fired {
    /// The tick's event with the run it starts. Its ids follow from function, schedule and slot, so whoever accepts it
    /// second changes nothing.
    pub(super) fn into_accept(mut self, now: Timestamp) -> Accept {
        // What it says of itself is when it was due.
        self.event.received_at = now;
        let mut started = engine::start(&self.function, &self.event, now);
        if let Ok(run) = &mut started {
            // Two schedules of one function may tick at the same time; each has its run.
            run.idempotency = None;
        }
        Accept {
            event: self.event,
            skips: started.as_ref().err().cloned().into_iter().collect(),
            runs: started.into_iter().collect(),
            // Each slot has its own run, also of a function that gathers events.
            joins: Vec::new(),
            // A tick of a function that is being changed elsewhere at this moment still counts.
            catalog: None,
        }
    }
}

/// What is to be written down.
#[derive(Debug, Default)]
pub(super) struct Notes {
    marks: BTreeMap<(FunctionId, String), CronMark>,
    pub(super) gaps: Vec<CronGap>,
}

impl Notes {
    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.gaps.is_empty()
    }

    pub(super) fn marks(&self) -> Vec<CronMark> {
        self.marks.values().cloned().collect()
    }

    fn mark(&mut self, mark: CronMark) {
        self.marks.insert((mark.function, mark.schedule.clone()), mark);
    }
}

/// All cron triggers of all live functions.
#[derive(Debug)]
pub(super) struct Plan {
    catch_up: CatchUp,
    /// The one that was last followed.
    catalog: Option<Arc<Catalog>>,
    lines: HashMap<FunctionId, (Arc<Function>, Vec<Line>)>,
    notes: Notes,
}

impl Plan {
    pub(super) fn new(catch_up: CatchUp) -> Self {
        Self {
            catch_up,
            catalog: None,
            lines: HashMap::new(),
            notes: Notes::default(),
        }
    }

    /// Whether this is the catalog that was last followed.
    pub(super) fn follows(&self, catalog: &Arc<Catalog>) -> bool {
        self.catalog.as_ref().is_some_and(|known| Arc::ptr_eq(known, catalog))
    }

    /// Follows the catalog. A schedule that stays goes on where it was, one that is new begins now, and one that the store
    /// knows goes on where the store says; `marks` is all that it knows.
    pub(super) fn follow(&mut self, catalog: Arc<Catalog>, marks: Vec<CronMark>, now: Timestamp) {
        let keyed = |mark: CronMark| ((mark.function, mark.schedule.clone()), mark);
        let mut marks: HashMap<_, _> = marks.into_iter().map(keyed).collect();
        let mut before = std::mem::take(&mut self.lines);
        for function in catalog.live_functions() {
            let mut old = before.remove(&function.id).map_or(Vec::new(), |(_, lines)| lines);
            let mut lines = Vec::new();
            for (text, jitter) in schedules(function) {
                let mark = marks.remove(&(function.id, text.to_owned()));
                if let Some(place) = old.iter().position(|line| line.text == text) {
                    let mut line = old.swap_remove(place);
                    line.set_jitter(jitter);
                    if mark.is_none_or(|mark| mark.ended.is_some()) {
                        self.notes.mark(line.mark());
                    }
                    lines.push(line);
                } else if let Ok(schedule) = Schedule::parse(text) {
                    // Registration refuses schedules that don't parse.
                    lines.push(Line::begin(
                        function.id,
                        schedule,
                        jitter,
                        mark.as_ref(),
                        now,
                        &mut self.notes,
                    ));
                }
            }
            for line in old {
                line.end(false, now, &mut self.notes);
            }
            if !lines.is_empty() {
                self.lines.insert(function.id, (Arc::clone(function), lines));
            }
        }
        for line in before.into_values().flat_map(|(_, lines)| lines) {
            line.end(true, now, &mut self.notes);
        }
        // What was lost while nobody was there to see it. Later, whoever had it sees it.
        if self.catalog.is_none() {
            for mark in marks.into_values().filter(|mark| mark.ended.is_none()) {
                let function = catalog.function(mark.function);
                let archived = function.is_none_or(|function| function.archived);
                self.notes.mark(CronMark {
                    ended: Some(CronEnd { at: now, archived }),
                    ..mark
                });
            }
        }
        self.catalog = Some(catalog);
    }

    /// The ticks that have come by `now` and fire, the oldest slots first. The slots that have come and don't fire are
    /// noted.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Fired> {
        let mut fired = Vec::new();
        for (function, lines) in self.lines.values_mut() {
            for line in lines {
                for tick in line.pass(self.catch_up, now, &mut self.notes) {
                    match line.event(&tick) {
                        Ok(event) => fired.push(Fired {
                            at: tick.at,
                            function: Arc::clone(function),
                            event,
                        }),
                        Err(error) => {
                            tracing::error!(function = %function.id, slug = %function.slug, %error, "tick not fired");
                        }
                    }
                }
            }
        }
        fired.sort_by_key(|fired| fired.at);
        fired
    }

    /// When there is something to do next.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let lines = self.lines.values().flat_map(|(_, lines)| lines);
        lines.filter_map(Line::wakes_at).min()
    }

    /// What is to be written down once the ticks are durable.
    pub(super) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// It was.
    pub(super) fn noted(&mut self) {
        self.notes = Notes::default();
    }
}

/// One cron trigger.
#[derive(Debug)]
struct Line {
    function: FunctionId,
    schedule: Schedule,
    text: String,
    jitter: Option<Duration>,
    since: Timestamp,
    /// Slots until then have been looked at: they are dealt with, or `waiting`.
    opened: Timestamp,
    /// Slots that wait for their jitter, in order.
    waiting: Vec<Tick>,
    /// The first slot after `opened`.
    next: Option<Timestamp>,
}

impl Line {
    /// A line that begins, or goes on where its mark says.
    fn begin(
        function: FunctionId,
        schedule: Schedule,
        jitter: Option<Duration>,
        mark: Option<&CronMark>,
        now: Timestamp,
        notes: &mut Notes,
    ) -> Self {
        let ended = mark.and_then(|mark| mark.ended);
        let (since, opened) = match (mark, ended) {
            // A clock that is behind the one that wrote the mark looks at its slots again.
            (Some(mark), None) => (mark.since, mark.through.min(now)),
            (Some(mark), Some(end)) if end.archived => (mark.since, now),
            _ => (now, now),
        };
        let mut line = Self {
            function,
            text: schedule.text().to_owned(),
            schedule,
            jitter,
            since,
            opened,
            waiting: Vec::new(),
            next: None,
        };
        line.next = line.next_after(opened);
        if let Some(end) = ended.filter(|end| end.archived)
            && line.next_after(end.at).is_some_and(|slot| slot <= now)
        {
            notes.gaps.push(line.gap((end.at, now, GapReason::Archived)));
        }
        if mark.is_none() || ended.is_some() {
            notes.mark(line.mark());
        }
        line
    }

    /// The function has lost it.
    fn end(self, archived: bool, now: Timestamp, notes: &mut Notes) {
        let reason = if archived {
            GapReason::Archived
        } else {
            GapReason::Removed
        };
        if let (Some(first), Some(last)) = (self.waiting.first(), self.waiting.last()) {
            notes.gaps.push(self.gap((first.at, last.at, reason)));
        }
        notes.mark(CronMark {
            ended: Some(CronEnd { at: now, archived }),
            ..self.mark()
        });
    }

    /// Looks at the slots that have come. Answers those that fire now.
    fn pass(&mut self, catch_up: CatchUp, now: Timestamp, notes: &mut Notes) -> Vec<Tick> {
        if now < self.opened {
            // The clock was set back: what is to come by it may have come already, and then changes nothing.
            self.waiting.retain(|tick| tick.at <= now);
            self.since = self.since.min(now);
            self.opened = now;
            self.next = self.next_after(now);
        }
        let mut spans = self.open(catch_up, now);
        let (due, waiting): (Vec<Tick>, _) = self.waiting.iter().partition(|tick| tick.fires_at <= now);
        if spans.is_empty() && due.is_empty() {
            return Vec::new();
        }
        self.waiting = waiting;
        let verdict = catch_up.judge(due, now);
        spans.extend(verdict.spans());
        notes.gaps.extend(spans.into_iter().map(|span| self.gap(span)));
        notes.mark(self.mark());
        verdict.fire
    }

    /// Has the slots that have come wait for their jitter, the newest ones if they are very many. Answers the others.
    fn open(&mut self, catch_up: CatchUp, now: Timestamp) -> Vec<Span> {
        let Some(first) = self.next.filter(|next| *next <= now) else {
            return Vec::new();
        };
        // Slots are a minute apart at the least.
        let minutes = self.jitter.map_or(0, |jitter| jitter.as_secs() / 60);
        let room = MOST + 2 + usize::try_from(minutes).unwrap_or(usize::MAX).min(MOST);
        let slots = self
            .schedule
            .last_fires(self.opened.to_datetime(), now.to_datetime(), room);
        let slots = slots.into_iter().map(Timestamp::from_datetime);
        let ticks: Vec<_> = slots
            .map(|at| Tick::new(self.function, &self.text, self.jitter, at))
            .collect();
        let oldest = ticks.first().map_or(first, |tick| tick.at);
        self.opened = ticks.last().map_or(first, |tick| tick.at);
        self.next = self.next_after(self.opened);
        self.waiting.extend(ticks);
        if first < oldest {
            catch_up.skip_many(first, Timestamp::from_millis(oldest.as_millis() - 1), now)
        } else {
            Vec::new()
        }
    }

    /// When there is something to do next: a slot comes, or its jitter is over.
    fn wakes_at(&self) -> Option<Timestamp> {
        let fires = self.waiting.iter().map(|tick| tick.fires_at).min();
        fires.into_iter().chain(self.next).min()
    }

    fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        self.schedule
            .next_after(time.to_datetime())
            .map(Timestamp::from_datetime)
    }

    fn set_jitter(&mut self, jitter: Option<Duration>) {
        self.jitter = jitter;
        for tick in &mut self.waiting {
            *tick = Tick::new(self.function, &self.text, jitter, tick.at);
        }
    }

    /// How far its slots have been dealt with.
    fn mark(&self) -> CronMark {
        let waiting = self.waiting.first();
        CronMark {
            function: self.function,
            schedule: self.text.clone(),
            since: self.since,
            through: waiting.map_or(self.opened, |tick| tick.at.before(Duration::from_millis(1))),
            ended: None,
        }
    }

    fn gap(&self, (first, last, reason): Span) -> CronGap {
        CronGap {
            function: self.function,
            schedule: self.text.clone(),
            first,
            last,
            reason,
        }
    }

    fn event(&self, tick: &Tick) -> Result<Event, JsonError> {
        let id = event_id(self.function, &self.text, tick.at);
        let mut data = Map::new();
        data.insert("cron".to_owned(), Value::from(self.text.as_str()));
        data.insert("scheduledAt".to_owned(), Value::from(tick.at.to_rfc3339()));
        data.insert("fireAt".to_owned(), Value::from(tick.fires_at.to_rfc3339()));
        Event::scheduled(id, tick.at.to_rfc3339(), tick.fires_at, data)
    }
}

#[cfg(test)]
mod tests;
