//! What became of each slot of a function's crons, and which come next: for people, who see what ran and what did not, and
//! why.
//!
//! Slots follow from the schedules, and a slot's event and run from the slot; only since when a schedule is known and which
//! slots were skipped is read ([`crate::ports::SlotBook`]). Decides nothing and writes nothing.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::catch_up::LATE;
use super::cron::{Tick, event_id, schedules};
use crate::domain::{EventId, Function, FunctionId, RunId, RunStatus, Timestamp};
use crate::expression::cron::Schedule;
use crate::ports::{CronGap, CronMark, Store, StoreError, TickView};

/// Slots to come that are told of.
pub const UPCOMING: usize = 10;

/// Which slots to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotFilter {
    /// Of then or later.
    pub from: Option<Timestamp>,
    /// Of before.
    pub until: Option<Timestamp>,
    /// Behind the page that ended there.
    pub before: Option<SlotCursor>,
    /// At most so many.
    pub limit: usize,
}

/// Where a page has ended: with a slot of this time, the so manieth of that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotCursor {
    at: Timestamp,
    told: usize,
}

impl fmt::Display for SlotCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.at.as_millis(), self.told)
    }
}

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct CursorError;

impl FromStr for SlotCursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (at, told) = text.split_once('-').ok_or(CursorError)?;
        let at = Timestamp::from_millis(at.parse().map_err(|_| CursorError)?);
        let told = told.parse().ok().filter(|told| *told <= usize::from(u8::MAX));
        let is_time = (Timestamp::MIN..=Timestamp::MAX).contains(&at);
        told.filter(|_| is_time)
            .map(|told| Self { at, told })
            .ok_or(CursorError)
    }
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Of which schedule, as it is written.
    pub schedule: Arc<str>,
    /// When the schedule says.
    pub at: Timestamp,
    /// When it fires or should have fired: later by its jitter.
    pub fires_at: Timestamp,
}

/// A slot that has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastSlot {
    /// The slot.
    pub slot: Slot,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It fired.
    Ran {
        /// Its event.
        event: EventId,
        /// The run it started.
        run: RunId,
        /// Where the run stands; `None` if the run is not kept any more.
        status: Option<RunStatus>,
        /// When it fired.
        fired_at: Timestamp,
        /// How long after its time it did, if that is more than [`LATE`].
        late: Option<Duration>,
    },
    /// It started no run.
    Skipped {
        /// Why: the name of a [`crate::ports::GapReason`] or of a [`crate::domain::SkipReason`].
        reason: &'static str,
        /// The particulars, if any were recorded.
        detail: Option<String>,
    },
    /// Its time has come, and nobody has dealt with it so far.
    Due,
    /// There is no record of it.
    Unknown {
        /// Whether what there was may have been deleted for its age.
        expired: bool,
    },
}

/// Slots of a function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotPage {
    /// Those that have passed, from new to old.
    pub slots: Vec<PastSlot>,
    /// For the next page; `None` on the last one.
    pub cursor: Option<SlotCursor>,
    /// Those to come that fire first, in that order.
    pub upcoming: Vec<Slot>,
}

/// A schedule and the time of which its slots are asked for.
struct Line {
    schedule: Schedule,
    text: Arc<str>,
    jitter: Option<Duration>,
    mark: CronMark,
}

/// The slots of a function as of `now`. What became of those before `expired` may have been deleted.
///
/// # Errors
/// When the store can't.
pub async fn read(
    store: &dyn Store,
    function: &Function,
    filter: SlotFilter,
    now: Timestamp,
    expired: Timestamp,
) -> Result<SlotPage, StoreError> {
    let lines = lines(function, store.cron_marks(Some(function.id)).await?);
    let mut page = SlotPage {
        upcoming: upcoming(function, &lines, now),
        ..SlotPage::default()
    };
    let mut found = past(&lines, filter, now);
    page.cursor = cut(&mut found, filter);
    let (Some((newest, _)), Some((oldest, _))) = (found.first(), found.last()) else {
        return Ok(page);
    };
    let gaps = store.cron_gaps(function.id, oldest.at, newest.at).await?;
    let ids = found.iter().map(|(tick, line)| ids(function.id, line, tick.at));
    let ids: Vec<(EventId, RunId)> = ids.collect();
    let ticks = store.ticks(&ids).await?;
    let ticks: HashMap<EventId, TickView> = ticks.into_iter().map(|tick| (tick.event, tick)).collect();
    let slots = found.into_iter().zip(ids).map(|((tick, line), (event, run))| {
        let known = ticks.get(&event);
        PastSlot {
            slot: Slot {
                schedule: Arc::clone(&line.text),
                at: tick.at,
                fires_at: known.map_or(tick.fires_at, |known| known.due_at),
            },
            outcome: match known {
                Some(known) => fired(known, run),
                None => unfired(tick, line, &gaps, expired),
            },
        }
    });
    page.slots = slots.collect();
    Ok(page)
}

/// The schedules that a function has or had.
fn lines(function: &Function, marks: Vec<CronMark>) -> Vec<Line> {
    let schedules = schedules(function);
    let line = |mark: CronMark| {
        let now = schedules.iter().find(|(text, _)| *text == mark.schedule);
        Some(Line {
            schedule: Schedule::parse(&mark.schedule).ok()?,
            text: mark.schedule.as_str().into(),
            jitter: now.and_then(|(_, jitter)| *jitter),
            mark,
        })
    };
    marks.into_iter().filter_map(line).collect()
}

fn ids(function: FunctionId, line: &Line, at: Timestamp) -> (EventId, RunId) {
    let event = event_id(function, &line.text, at);
    (event, RunId::derive(event, function))
}

/// The newest slots that the filter means, from new to old: enough of them to tell a page and whether there are more.
fn past(lines: &[Line], filter: SlotFilter, now: Timestamp) -> Vec<(Tick, &Line)> {
    let just_before = |time: Timestamp| time.before(Duration::from_millis(1));
    let told = filter.before.map_or(0, |cursor| cursor.told);
    let mut found = Vec::new();
    for line in lines {
        let after = filter
            .from
            .map_or(line.mark.since, |from| just_before(from).max(line.mark.since));
        let bounds = [
            line.mark.ended.map(|end| end.at),
            filter.until.map(just_before),
            filter.before.map(|cursor| cursor.at),
        ];
        let until = bounds.into_iter().flatten().fold(now, Timestamp::min);
        if until <= after {
            continue;
        }
        // Those that wait for their jitter are still to come.
        let waiting = line.jitter.map_or(0, |jitter| jitter.as_secs() / 60 + 1);
        let count = (filter.limit + told + 1).saturating_add(usize::try_from(waiting).unwrap_or(usize::MAX));
        let slots = line
            .schedule
            .last_fires(after.to_datetime(), until.to_datetime(), count);
        let ticks = slots.into_iter().map(Timestamp::from_datetime);
        let ticks = ticks.map(|at| Tick::new(line.mark.function, &line.text, line.jitter, at));
        found.extend(ticks.filter(|tick| tick.fires_at <= now).map(|tick| (tick, line)));
    }
    found.sort_by(|(a, of), (b, other)| b.at.cmp(&a.at).then_with(|| of.text.cmp(&other.text)));
    found
}

/// Cuts a page out of what was found. Answers where it ends, if there is more.
fn cut(found: &mut Vec<(Tick, &Line)>, filter: SlotFilter) -> Option<SlotCursor> {
    if let Some(cursor) = filter.before {
        let told = found.iter().take_while(|(tick, _)| tick.at == cursor.at).count();
        found.drain(..told.min(cursor.told));
    }
    let has_more = found.len() > filter.limit;
    found.truncate(filter.limit);
    let (last, _) = found.last().filter(|_| has_more)?;
    let here = found.iter().filter(|(tick, _)| tick.at == last.at).count();
    let before = filter.before.filter(|cursor| cursor.at == last.at);
    Some(SlotCursor {
        at: last.at,
        told: here + before.map_or(0, |cursor| cursor.told),
    })
}

fn fired(tick: &TickView, run: RunId) -> Outcome {
    if let (None, Some((reason, detail))) = (tick.status, &tick.skip) {
        return Outcome::Skipped {
            reason: reason.as_str(),
            detail: Some(detail.clone()).filter(|detail| !detail.is_empty()),
        };
    }
    Outcome::Ran {
        event: tick.event,
        run,
        status: tick.status,
        fired_at: tick.fired_at,
        late: Some(tick.fired_at.since(tick.due_at)).filter(|late| *late > LATE),
    }
}

fn unfired(tick: Tick, line: &Line, gaps: &[CronGap], expired: Timestamp) -> Outcome {
    let is_in = |gap: &&CronGap| gap.schedule == line.mark.schedule && (gap.first..=gap.last).contains(&tick.at);
    if let Some(gap) = gaps.iter().find(is_in) {
        return Outcome::Skipped {
            reason: gap.reason.as_str(),
            detail: None,
        };
    }
    if line.mark.ended.is_none() && line.mark.through < tick.at {
        return Outcome::Due;
    }
    Outcome::Unknown {
        expired: tick.fires_at < expired,
    }
}

/// The slots that fire next, of a function that is not archived.
fn upcoming(function: &Function, lines: &[Line], now: Timestamp) -> Vec<Slot> {
    let mut found = Vec::new();
    if function.archived {
        return found;
    }
    for (text, jitter) in schedules(function) {
        // Registration refuses schedules that don't parse.
        let Ok(schedule) = Schedule::parse(text) else { continue };
        let known = lines.iter().find(|line| *line.text == *text);
        let since = known.map_or(now, |line| line.mark.since.min(now));
        // Slots that have come may wait for their jitter.
        let from = now.before(jitter.unwrap_or_default()).max(since);
        let next = |time: Timestamp| schedule.next_after(time.to_datetime()).map(Timestamp::from_datetime);
        let slots = std::iter::successors(next(from), |at| next(*at));
        let ticks = slots.map(|at| Tick::new(function.id, text, jitter, at));
        let text: Arc<str> = text.into();
        let to_come = ticks
            .filter(|tick| tick.fires_at > now)
            .take(UPCOMING)
            .map(|tick| Slot {
                schedule: Arc::clone(&text),
                at: tick.at,
                fires_at: tick.fires_at,
            });
        found.extend(to_come);
    }
    found.sort_by(|a, b| a.fires_at.cmp(&b.fires_at).then_with(|| a.schedule.cmp(&b.schedule)));
    found.truncate(UPCOMING);
    found
}
