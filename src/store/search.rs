//! The text of searches, which is the same for both databases but for how they mark parameters and take lists.
//!
//! Only fixed fragments are put together; what people search for is always a parameter. Times that have not come count as
//! [`NEVER`].

use std::time::Duration;

use callboard_actors::domain::{Event, EventId, RunId, Timestamp};
use callboard_actors::ports::{EventSearch, RunFilter, RunSearch, RunTime};

use super::paging::or_all;

/// Stands for a time that has not come, before all others.
const NEVER: i64 = -1;

/// How far the times in ids, which may be of senders, are trusted to lie from when things happened.
const CLOCK_SLACK: Duration = Duration::from_secs(24 * 60 * 60);

/// What differs between the databases.
pub(super) struct Dialect {
    /// Before the number of a parameter.
    pub(super) mark: char,
    pub(super) runs: &'static str,
    /// That `status` is in parameter 3.
    pub(super) has_status: &'static str,
    /// That `function_id` is in parameter 4, which may be null for all.
    pub(super) has_function: &'static str,
}

/// The parameters of a search for runs: 1 and 2 bound ids, 3 statuses, 4 functions, 5 and 6 bound the time, 7 and 8 are the
/// place to go on behind, 9 the limit.
pub(super) struct RunParameters {
    pub(super) low: RunId,
    pub(super) high: RunId,
    pub(super) statuses: Vec<&'static str>,
    pub(super) from: i64,
    pub(super) until: i64,
    pub(super) key: i64,
    pub(super) place: RunId,
}

impl RunParameters {
    pub(super) fn of(search: &RunSearch) -> Self {
        let from = search.from.unwrap_or(Timestamp::MIN);
        let until = search.until.unwrap_or(Timestamp::MAX);
        let (low, high) = match search.time {
            RunTime::Queued => (from, until),
            // A run starts and ends after it was created.
            RunTime::Started | RunTime::Ended => (Timestamp::MIN, until.after(CLOCK_SLACK)),
        };
        let statuses = or_all(&search.statuses);
        let (key, place) = match (search.after, search.ascending) {
            (Some(place), _) => (place.at.map_or(NEVER, Timestamp::as_millis), place.id),
            (None, true) => (NEVER - 1, RunId::first_at(Timestamp::MIN)),
            (None, false) => (i64::MAX, RunId::first_at(Timestamp::MAX)),
        };
        Self {
            low: RunId::first_at(low),
            high: RunId::first_at(high),
            statuses: statuses.iter().map(|status| status.as_str()).collect(),
            from: from.as_millis(),
            until: until.as_millis(),
            key,
            place,
        }
    }
}

/// The same as a list that has its own indexes, if it is one.
pub(super) fn as_list(search: &RunSearch) -> Option<RunFilter> {
    let is_by_id = search.time == RunTime::Queued && search.order == RunTime::Queued && !search.ascending;
    let is_list = is_by_id && search.deferred.is_none();
    is_list.then(|| RunFilter {
        statuses: search.statuses.clone(),
        functions: search.functions.clone(),
        from: search.from,
        until: search.until,
        before: search.after.map(|place| place.id),
        limit: search.limit,
    })
}

fn column(time: RunTime) -> Option<&'static str> {
    match time {
        RunTime::Queued => None,
        RunTime::Started => Some("COALESCE(started_at, -1)"),
        RunTime::Ended => Some("COALESCE(ended_at, -1)"),
    }
}

/// What a run has to fulfil, wherever the page begins. Uses the parameters 1 to 6.
fn condition(search: &RunSearch, dialect: &Dialect) -> String {
    let mark = dialect.mark;
    let time = column(search.time).map_or_else(
        || format!("{mark}5 <= {mark}6"),
        |column| format!("{column} >= {mark}5 AND {column} < {mark}6"),
    );
    let deferred = match search.deferred {
        None => String::new(),
        Some(true) => format!(" AND event_name = '{}'", Event::DEFERRED),
        Some(false) => format!(" AND event_name <> '{}'", Event::DEFERRED),
    };
    format!(
        "id >= {mark}1 AND id < {mark}2 AND {} AND {} AND {time}{deferred}",
        dialect.has_status, dialect.has_function
    )
}

/// The statement of a page.
pub(super) fn find_runs(search: &RunSearch, dialect: &Dialect) -> String {
    let mark = dialect.mark;
    let (sign, direction) = if search.ascending { ('>', "ASC") } else { ('<', "DESC") };
    let (place, order) = column(search.order).map_or_else(
        || {
            let place = format!("id {sign} {mark}8 AND {mark}7 >= -2");
            (place, format!("id {direction}"))
        },
        |column| {
            let place = format!("({column} {sign} {mark}7 OR ({column} = {mark}7 AND id > {mark}8))");
            (place, format!("{column} {direction}, id"))
        },
    );
    format!(
        "SELECT id, function_id, function_version, status, event_id, event_ids, event_name, started_at, ended_at, output,
            original_id, batch_id FROM {} WHERE {} AND {place} ORDER BY {order} LIMIT {mark}9",
        dialect.runs,
        condition(search, dialect)
    )
}

/// The statement of a count; it has the parameters 1 to 6.
pub(super) fn count_runs(search: &RunSearch, dialect: &Dialect) -> String {
    format!(
        "SELECT count(*) FROM {} WHERE {}",
        dialect.runs,
        condition(search, dialect)
    )
}

/// The parameters of a search for events: bounds of ids (the first one excluded) and of times.
pub(super) struct EventParameters {
    pub(super) above: EventId,
    pub(super) below: EventId,
    pub(super) from: i64,
    pub(super) until: i64,
}

impl EventParameters {
    pub(super) fn of(search: &EventSearch, is_paged: bool) -> Self {
        let from = search.from.unwrap_or(Timestamp::MIN);
        let until = search.until.unwrap_or(Timestamp::MAX);
        let above = EventId::first_at(from.before(CLOCK_SLACK));
        let below = EventId::first_at(until.after(CLOCK_SLACK));
        let (after, before) = if is_paged {
            (search.after, search.before)
        } else {
            (None, None)
        };
        Self {
            above: after.map_or(above, |after| above.max(after)),
            below: before.map_or(below, |before| below.min(before)),
            from: from.as_millis(),
            until: until.as_millis(),
        }
    }
}

/// The statements of searches for events: `PAGES` and `COUNTS`, each by how many names are wanted: none, which means all of
/// them, one, or several. Their parameters are the bounds (1 to 4), whether the server's own events count and what the names
/// of those begin with (5, 6), the names (7) and, of a page, the limit (8).
macro_rules! event_statements {
    (
        from: $events:literal,
        visible: $visible:literal,
        named: [$all:literal, $one:literal, $several:literal], limit: $limit:literal
    ) => {
        pub(super) const PAGES: [&str; 3] = [
            event_statements!(page: $events, $visible, $all, $limit),
            event_statements!(page: $events, $visible, $one, $limit),
            event_statements!(page: $events, $visible, $several, $limit),
        ];
        pub(super) const COUNTS: [&str; 3] = [
            event_statements!(count: $events, $visible, $all),
            event_statements!(count: $events, $visible, $one),
            event_statements!(count: $events, $visible, $several),
        ];
    };
    (page: $events:literal, $visible:literal, $named:literal, $limit:literal) => {
        concat!(
            "SELECT id, external_id, has_own_id, name, ts, received_at, body ",
            event_statements!(where: $events, $visible, $named),
            " ORDER BY id DESC LIMIT ",
            $limit
        )
    };
    (count: $events:literal, $visible:literal, $named:literal) => {
        concat!("SELECT count(*) ", event_statements!(where: $events, $visible, $named))
    };
    (where: $events:literal, $visible:literal, $named:literal) => {
        concat!($events, " AND ", $visible, " AND ", $named)
    };
}
pub(super) use event_statements;

/// The one of these statements that is about these names.
pub(super) fn by_names(names: &[String], texts: [&'static str; 3]) -> &'static str {
    let [all, one, several] = texts;
    match names {
        [] => all,
        [_] => one,
        _ => several,
    }
}
