//! How jobs are written in Redis. Pure; [`super`] describes the keys, `scripts/common.lua` the records.
//!
//! A *field* names a job: the 26 characters of its run's id, then its key. A *version* is a job as it was pushed, with what
//! the scripts need of it in places they know: function (36 characters), rank (15 digits), due time (15 digits), then `g` and
//! its gates, if it has any. Two pushes
//! are of the same version if their texts are equal.

use std::fmt::Write as _;

use callboard_actors::domain::{
    Deadline, FunctionId, Gates, Job, JobId, JobKey, Json, Limit, Limits, Priority, RunId, StepId, Timestamp,
};

/// Largest number that the scripts' 15 digits hold.
const MAX_DIGITS: i64 = 999_999_999_999_999;
/// Characters of a run's id.
const RUN_LEN: usize = 26;

/// A time as the scripts have it: 15 digits that compare as text.
pub(super) fn digits(at: Timestamp) -> String {
    format!("{:015}", at.as_millis().clamp(0, MAX_DIGITS))
}

/// The time in such digits, or in a score that Redis has printed.
pub(super) fn timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp::from_millis)
}

/// A function's numbers, as the scripts read them; with `!` behind them if its gates are shut.
pub(super) fn limits(limits: &Limits) -> String {
    let mut text = String::new();
    for (rule, limit) in limits.iter() {
        let _ = match limit {
            Limit::Slots(slots) => write!(text, "{rule}s{slots}:0;"),
            Limit::Rate(rate) => write!(text, "{rule}r{}:{};", rate.interval(), rate.capacity()),
        };
    }
    if limits.is_shut() {
        text.push('!');
    }
    text
}

/// The name of a job.
pub(super) fn field(id: &JobId) -> String {
    let mut field = String::with_capacity(80);
    let _ = write!(field, "{}", id.run);
    push_key(&mut field, &id.key);
    field
}

/// The digit sorts as the domain sorts keys, so that ties in a line are broken in its order.
fn push_key(field: &mut String, key: &JobKey) {
    let (digit, step) = match key {
        JobKey::Start => ('0', None),
        JobKey::Discover(step) => ('1', Some(step)),
        JobKey::Step(step) => ('2', Some(step)),
        JobKey::Wake(step) => ('3', Some(step)),
        JobKey::Timeout(step) => ('4', Some(step)),
        JobKey::Resume(step) => ('5', Some(step)),
        JobKey::Cancel => ('6', None),
        JobKey::Deadline(Deadline::Start) => ('7', None),
        JobKey::Deadline(Deadline::Finish) => ('8', None),
    };
    field.push(digit);
    field.push_str(step.map_or("", StepId::as_str));
}

fn parse_key(text: &str) -> Option<JobKey> {
    let step = || text.get(1..).map(StepId::from);
    Some(match text.as_bytes().first()? {
        b'0' => JobKey::Start,
        b'1' => JobKey::Discover(step()?),
        b'2' => JobKey::Step(step()?),
        b'3' => JobKey::Wake(step()?),
        b'4' => JobKey::Timeout(step()?),
        b'5' => JobKey::Resume(step()?),
        b'6' => JobKey::Cancel,
        b'7' => JobKey::Deadline(Deadline::Start),
        b'8' => JobKey::Deadline(Deadline::Finish),
        _ => return None,
    })
}

/// The job of that name; `None` if it is not one of ours.
pub(super) fn parse_field(field: &str) -> Option<JobId> {
    Some(JobId {
        run: field.get(..RUN_LEN)?.parse::<RunId>().ok()?,
        key: parse_key(field.get(RUN_LEN..)?)?,
    })
}

/// A job as it was pushed.
pub(super) fn version(job: &Job) -> String {
    let payload = job.payload.as_ref().map_or("", Json::as_str);
    let mut text = String::with_capacity(100 + payload.len());
    let rank = digits(job.priority.counts_from(job.id.run.at()));
    let due = digits(job.due);
    let exact = job.due.as_millis();
    let (function, attempt, priority) = (job.function, job.attempt, job.priority.seconds());
    let _ = write!(text, "{function}{rank}{due}");
    if !job.gates.is_empty() {
        text.push('g');
        text.push_str(&job.gates.to_text());
    }
    let _ = write!(text, "{exact}|{attempt}|{priority}|");
    if job.payload.is_some() {
        text.push('=');
        text.push_str(payload);
    }
    text
}

/// The job of that name and version.
pub(super) fn parse_job(field: &str, version: &str) -> Option<Job> {
    let rest = version.get(66..)?;
    let (gates, rest) = match rest.strip_prefix('g') {
        Some(gates) => Gates::parse_prefix(gates)?,
        None => (Gates::NONE, rest),
    };
    let mut rest = rest.splitn(4, '|');
    let due = timestamp(rest.next()?)?;
    let attempt = rest.next()?.parse().ok()?;
    let priority = Priority::from_seconds(rest.next()?.parse().ok()?);
    let payload = rest.next()?;
    Some(Job {
        id: parse_field(field)?,
        function: version.get(..36)?.parse::<FunctionId>().ok()?,
        attempt,
        due,
        priority,
        payload: payload.strip_prefix('=').map(Json::from_canonical),
        gates,
    })
}

#[cfg(test)]
mod tests {
    use callboard_actors::domain::{Gate, GateKind, Scope};

    use super::*;

    #[test]
    fn jobs_survive_their_text() {
        let odd = StepId::from("a|b/c d{e}\u{0}ü\n\"");
        let keys = [
            JobKey::Start,
            JobKey::Discover(odd.clone()),
            JobKey::Step(odd.clone()),
            JobKey::Wake(odd.clone()),
            JobKey::Timeout(odd.clone()),
            JobKey::Resume(odd),
            JobKey::Cancel,
            JobKey::Deadline(Deadline::Start),
            JobKey::Deadline(Deadline::Finish),
        ];
        let mut fields = Vec::new();
        for (attempt, key) in (0..).zip(keys) {
            let function = FunctionId::derive("app", "function");
            let gate = |kind| Gate::new(kind, Scope::Fn, function, Some("event.data.x"), "|=:g\n");
            let gates = [GateKind::Slot, GateKind::Throttle].map(gate).to_vec();
            let gates = Gates::new(gates).of_job(&key, attempt);
            for payload in [None, Some(Json::null()), Some(Json::from_canonical("\"|=\u{0}ü\""))] {
                for due in [-5, 0, 1_750_000_000_000, i64::MAX] {
                    let job = Job {
                        id: JobId {
                            run: RunId::new(Timestamp::from_millis(1_750_000_000_000), 7),
                            key: key.clone(),
                        },
                        function: FunctionId::derive("app", "function"),
                        attempt,
                        due: Timestamp::from_millis(due),
                        priority: Priority::from_seconds(-5),
                        payload: payload.clone(),
                        gates: gates.clone(),
                    };
                    assert_eq!(parse_job(&field(&job.id), &version(&job)), Some(job.clone()));
                    fields.push(job);
                }
            }
        }
        assert!(fields.is_sorted_by_key(|job| field(&job.id)));
    }

    #[test]
    fn what_is_not_ours_is_no_job() {
        for field in ["", "short", "01JXYZ0000000000000000000", "!!!!!!!!!!!!!!!!!!!!!!!!!!0"] {
            assert_eq!(parse_field(field), None);
        }
        assert_eq!(parse_job("", "nonsense"), None);
    }
}
