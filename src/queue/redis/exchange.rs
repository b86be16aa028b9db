//! The arguments and the answer of `exchange.lua`: one round trip with everything that a process has to tell and to ask.

use std::time::Duration;

use callboard_actors::domain::{FunctionId, Timestamp};
use redis::{RedisError, RedisResult, Value};

/// Largest count that is passed; nothing real is larger, and Lua's numbers are doubles.
const MAX_COUNT: usize = 1_000_000_000;

/// How a lease ended.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) field: String,
    pub(super) epoch: u64,
    pub(super) outcome: Ended,
}

/// What becomes of the job.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ended {
    /// It is done with.
    Done,
    /// It comes back, not before then.
    ComesBack(Timestamp),
    /// It was handed out in vain.
    TakenBack,
}

/// Who made a pushed job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// This process, a moment ago: nobody else can know of it.
    Fresh,
    /// This process, but it may be known by now.
    Stale,
    /// It was read from the store.
    Store,
}

/// A lease that this process holds.
#[derive(Debug, Clone)]
pub(super) struct HeldArg {
    pub(super) field: String,
    pub(super) epoch: u64,
    pub(super) since: Timestamp,
    /// Empty unless it may have to be made again.
    pub(super) version: String,
}

/// What a process asks for in one exchange.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// To be given to a Redis that has none.
    pub(super) generation: String,
    pub(super) process: String,
    pub(super) session: String,
    pub(super) number: u64,
    /// See [`flag`].
    pub(super) flags: String,
    pub(super) ttl_ms: u128,
    pub(super) lease: Option<(Timestamp, usize)>,
    pub(super) limit: usize,
    pub(super) capacity: usize,
    pub(super) share: usize,
    pub(super) epoch_seen: u64,
    pub(super) held: usize,
    /// The number of the last exchange that was answered.
    pub(super) answered: u64,
    /// Which table of limits this process knows.
    pub(super) revision: Option<u64>,
    /// By how many milliseconds the clock was set back since the last lease.
    pub(super) set_back: u128,
    /// The table, by function, if it is to be told.
    pub(super) limits: Vec<(FunctionId, String)>,
    /// How many more of a function may be held, where that is less than the limit.
    pub(super) rooms: Vec<(FunctionId, usize)>,
    pub(super) ends: Vec<End>,
    pub(super) forgets: Vec<String>,
    pub(super) holds: Vec<HeldArg>,
    /// Field, version, origin.
    pub(super) pushes: Vec<(String, String, Origin)>,
}

/// The letters of [`Request::flags`].
pub(super) mod flag {
    /// Opens the session.
    pub(in super::super) const OPEN: char = 'o';
    /// A Redis that knows nothing is a new one, and has not lost anything.
    pub(in super::super) const NEW: char = 'v';
    /// Renews it.
    pub(in super::super) const BEAT: char = 'b';
    /// Compares what is held.
    pub(in super::super) const RECONCILE: char = 's';
    /// Redis has lost something: what is held is made again where it is missing.
    pub(in super::super) const REMAKE: char = 'n';
    /// This process would take a job that becomes ready.
    pub(in super::super) const HUNGRY: char = 'h';
    /// This process can't take what it pushes.
    pub(in super::super) const WAKE: char = 'w';
    /// Leases.
    pub(in super::super) const LEASE: char = 'l';
    /// The table of limits comes along.
    pub(in super::super) const CONFIGURE: char = 'c';
    /// Ends the session and gives back what it holds.
    pub(in super::super) const CLOSE: char = 'x';
}

impl Request {
    /// As the script expects it.
    pub(super) fn to_args(&self) -> Vec<String> {
        let count = |count: usize| count.min(MAX_COUNT).to_string();
        let (now, wanted) = self
            .lease
            .map_or((String::new(), 0), |(now, wanted)| (super::codec::digits(now), wanted));
        let mut args = vec![
            self.generation.clone(),
            self.process.clone(),
            self.session.clone(),
            self.number.to_string(),
            self.flags.clone(),
            self.ttl_ms.to_string(),
            now,
            count(wanted),
            count(self.limit),
            count(self.capacity),
            count(self.share),
            self.epoch_seen.to_string(),
            count(self.held),
            self.answered.to_string(),
            self.revision.map_or_else(String::new, |revision| revision.to_string()),
            self.set_back.to_string(),
            count(self.rooms.len()),
        ];
        for (function, room) in &self.rooms {
            args.extend([function.to_string(), count(*room)]);
        }
        args.push(count(self.ends.len()));
        for end in &self.ends {
            let outcome = match end.outcome {
                Ended::Done => String::new(),
                Ended::ComesBack(due) => super::codec::digits(due),
                Ended::TakenBack => "in vain".to_owned(),
            };
            args.extend([end.field.clone(), end.epoch.to_string(), outcome]);
        }
        args.push(count(self.forgets.len()));
        args.extend(self.forgets.iter().cloned());
        args.push(count(self.holds.len()));
        for held in &self.holds {
            let since = super::codec::digits(held.since);
            args.extend([held.field.clone(), held.epoch.to_string(), since, held.version.clone()]);
        }
        args.push(count(self.pushes.len()));
        for (field, version, origin) in &self.pushes {
            let origin = match origin {
                Origin::Fresh => "c",
                Origin::Stale => "r",
                Origin::Store => "s",
            };
            args.extend([field.clone(), version.clone(), origin.to_owned()]);
        }
        if self.flags.contains(flag::CONFIGURE) {
            args.push(count(self.limits.len()));
            for (function, limits) in &self.limits {
                args.extend([function.to_string(), limits.clone()]);
            }
        }
        args
    }
}

/// What came of an exchange.
#[derive(Debug)]
pub(super) enum Answer {
    /// It happened.
    Done(Box<Outcome>),
    /// It did not happen: Redis does not know the session (any more).
    Unknown {
        generation: String,
        /// Another process has taken back what it held. Else Redis has lost it.
        is_reaped: bool,
    },
    /// It did not happen: a later one of the session has.
    Stale,
}

/// What an exchange that happened has answered.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) generation: String,
    pub(super) next: Next,
    /// Jobs held, by all processes.
    pub(super) count: usize,
    /// The time of the last lease of anybody.
    pub(super) now: Option<Timestamp>,
    /// Whether Redis believes that the session holds something else than this process does.
    pub(super) differs: bool,
    /// Whether Redis has forgotten exchanges that it had answered: it came back as it was some time ago.
    pub(super) has_lost: bool,
    /// Whether another process was found dead: what it had committed and not yet pushed nobody will push.
    pub(super) found_dead: bool,
    /// Whether Redis has no table of limits, or an older one.
    pub(super) lacks_limits: bool,
    /// Whether there was room, for each job pushed.
    pub(super) pushed: Vec<bool>,
    /// Leases that are not this process's any more.
    pub(super) lost: Vec<String>,
    pub(super) leases: Vec<Leased>,
    /// Leases taken from sessions that were gone.
    pub(super) reaped: usize,
    /// How long until another session expires, if it is not renewed; `None` without another one.
    pub(super) patience: Option<Duration>,
}

/// A lease as Redis words it.
#[derive(Debug)]
pub(super) struct Leased {
    pub(super) field: String,
    pub(super) epoch: u64,
    pub(super) version: String,
    pub(super) is_first: bool,
}

/// When the next job is due that this process may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Next {
    #[default]
    Never,
    /// One was due then, and is ready.
    Ready(Timestamp),
    At(Timestamp),
}

/// Reads the answer of the script.
pub(super) fn parse(value: Value) -> RedisResult<Answer> {
    let mut parts = Parts(list(value)?.into_iter());
    match parts.text()?.as_str() {
        "unknown" => Ok(Answer::Unknown {
            generation: parts.text()?,
            is_reaped: parts.text()? == "1",
        }),
        "stale" => Ok(Answer::Stale),
        _ => {
            let generation = parts.text()?;
            // Scores of more than 17 digits are printed with an exponent; ours have 15.
            let next = parts.text()?;
            let due = super::codec::timestamp(next.trim_start_matches('r'));
            let next = match due.ok_or_else(|| odd("a due time")) {
                _ if next.is_empty() => Next::Never,
                Ok(due) if next.starts_with('r') => Next::Ready(due),
                due => Next::At(due?),
            };
            let count = parts.number()?;
            let now = super::codec::timestamp(&parts.text()?);
            let notes = parts.text()?;
            let pushed = parts.text()?.bytes().map(|byte| byte == b'1').collect();
            let lost = texts(parts.value()?)?;
            let mut leased = texts(parts.value()?)?.into_iter();
            let mut leases = Vec::with_capacity(leased.len() / 4);
            while let Some(field) = leased.next() {
                leases.push(Leased {
                    field,
                    epoch: number(leased.next())?,
                    version: leased.next().ok_or_else(|| odd("a lease"))?,
                    is_first: leased.next().as_deref() == Some("1"),
                });
            }
            Ok(Answer::Done(Box::new(Outcome {
                generation,
                next,
                count,
                now,
                differs: notes.contains('m'),
                has_lost: notes.contains('f'),
                found_dead: notes.contains('d'),
                lacks_limits: notes.contains('c'),
                pushed,
                lost,
                leases,
                reaped: parts.number()?,
                patience: match parts.text()?.as_str() {
                    "" => None,
                    millis => Some(Duration::from_millis(number(Some(millis.to_owned()))?)),
                },
            })))
        }
    }
}

struct Parts(std::vec::IntoIter<Value>);

impl Parts {
    fn value(&mut self) -> RedisResult<Value> {
        self.0.next().ok_or_else(|| odd("a shorter list"))
    }

    fn text(&mut self) -> RedisResult<String> {
        Ok(redis::from_redis_value(self.value()?)?)
    }

    fn number<T: std::str::FromStr>(&mut self) -> RedisResult<T> {
        number(Some(self.text()?))
    }
}

/// A number in a text.
pub(super) fn number<T: std::str::FromStr>(text: Option<String>) -> RedisResult<T> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| odd("a number"))
}

/// A list of texts.
pub(super) fn texts(value: Value) -> RedisResult<Vec<String>> {
    list(value)?
        .into_iter()
        .map(|value| Ok(redis::from_redis_value(value)?))
        .collect()
}

fn list(value: Value) -> RedisResult<Vec<Value>> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(odd("no list")),
    }
}

fn odd(what: &'static str) -> RedisError {
    RedisError::from((
        redis::ErrorKind::UnexpectedReturnType,
        "a script has answered oddly",
        what.to_owned(),
    ))
}
