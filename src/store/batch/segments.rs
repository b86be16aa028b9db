//! Where a batch has to be cut, so that the order of its writes shows.
//!
//! Within a segment no two writes touch the same event, run, idempotency key or signal, and none joins what another one
//! fires, so it makes no difference that their statements are run kind by kind instead of write by write. Taking waits of
//! different runs is no such thing, nor is joining one gathering.

use std::collections::HashSet;
use std::ops::Range;

use callboard_actors::domain::{Change, ClaimId, EventId, FunctionId, Join, NewRun, RunId, Wait, WaitKind, Write};

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Touched<'a> {
    Event(EventId),
    Run(RunId),
    Key(FunctionId, &'a str),
    /// Whose waiter changes.
    Signal(&'a str),
    /// Some signal has another waiter.
    Signals,
    /// Some wait is taken.
    Takes,
    /// A gathering of the bucket is joined.
    Joins(ClaimId),
    /// A gathering of the bucket ends.
    Fires(ClaimId),
}

impl Touched<'_> {
    /// Something that an earlier write must not have touched. Takes and signals differ from what they touch: a wait
    /// that is taken does not say whether it is for a signal that has just changed hands, and the other way round. Any number of events join a gathering, or it
    /// ends.
    fn clashes_with(self) -> Self {
        match self {
            Self::Signals => Self::Takes,
            Self::Takes => Self::Signals,
            Self::Joins(bucket) => Self::Fires(bucket),
            Self::Fires(bucket) => Self::Joins(bucket),
            same => same,
        }
    }
}

/// Cuts a batch into the fewest consecutive segments.
pub(in crate::store) fn split(batch: &[Write]) -> Vec<Range<usize>> {
    let mut segments = Vec::with_capacity(1);
    let mut start = 0;
    let mut seen = HashSet::new();
    for (index, write) in batch.iter().enumerate() {
        let own = touched(write);
        if own.iter().any(|touched| seen.contains(&touched.clashes_with())) {
            segments.push(start..index);
            start = index;
            seen.clear();
        }
        seen.extend(own);
    }
    segments.push(start..batch.len());
    segments
}

/// What a write touches. Touching something twice itself is no reason to cut.
fn touched(write: &Write) -> Vec<Touched<'_>> {
    let mut touched = Vec::new();
    match write {
        Write::Accept(accept) => {
            touched.push(Touched::Event(accept.event.id));
            accept.runs.iter().for_each(|run| new_run(run, &mut touched));
            accept.joins.iter().for_each(|join| new_join(join, &mut touched));
        }
        Write::Route(route) => {
            touched.push(Touched::Event(route.event));
            route.runs.iter().for_each(|run| new_run(run, &mut touched));
            route.joins.iter().for_each(|join| new_join(join, &mut touched));
            touched.extend(route.takes.iter().map(|take| Touched::Run(take.run)));
            if !route.takes.is_empty() {
                touched.push(Touched::Takes);
            }
        }
        Write::Fire(fire) => {
            touched.push(Touched::Fires(fire.bucket));
            fire.runs.iter().for_each(|run| new_run(run, &mut touched));
            touched.extend(fire.answers.iter().map(|event| Touched::Event(event.id)));
        }
        Write::Advance(advance) => {
            touched.push(Touched::Run(advance.run));
            for change in &advance.changes {
                match change {
                    Change::Emit { event, .. } => touched.push(Touched::Event(event.id)),
                    Change::WaitPut(wait) => new_wait(wait, &mut touched),
                    _ => {}
                }
            }
        }
    }
    touched
}

fn new_run<'a>(run: &'a NewRun, touched: &mut Vec<Touched<'a>>) {
    touched.push(Touched::Run(run.state.id));
    if let Some(key) = &run.idempotency {
        touched.push(Touched::Key(run.state.function, key));
    }
    run.waits.iter().for_each(|wait| new_wait(wait, touched));
}

fn new_join<'a>(join: &'a Join, touched: &mut Vec<Touched<'a>>) {
    touched.push(Touched::Joins(join.bucket));
    if let Some(key) = &join.idempotency {
        touched.push(Touched::Key(join.function, key));
    }
}

fn new_wait<'a>(wait: &'a Wait, touched: &mut Vec<Touched<'a>>) {
    if wait.kind == WaitKind::Signal {
        touched.push(Touched::Signal(&wait.name));
        touched.push(Touched::Signals);
    }
}

#[cfg(test)]
mod tests {
    use callboard_actors::domain::{
        Accept, Cadence, ClaimId, Event, Gates, Job, JobId, JobKey, Json, LockClaim, RateClaim, RunState,
        SingletonMode, SkipReason, Timestamp,
    };

    use super::*;

    #[test]
    fn claims_of_one_bucket_are_no_reason_to_cut() {
        let at = Timestamp::from_millis(1_750_000_000_000);
        let function = FunctionId::derive("app", "one");
        let batch: Vec<Write> = (0..500)
            .map(|number| {
                let id = EventId::derive(at, &number.to_string());
                let event = Event::glued("go", id, id.to_string(), at, "{}");
                let run = RunId::derive(id, function);
                let state = RunState::new(run, function, "go".to_owned(), vec![id], [Json::null()].into());
                let new = NewRun {
                    job: Job {
                        id: JobId {
                            run,
                            key: JobKey::Start,
                        },
                        function,
                        attempt: 0,
                        due: at,
                        priority: state.priority,
                        payload: None,
                        gates: Gates::NONE,
                    },
                    state,
                    deadline: None,
                    waits: Vec::new(),
                    idempotency: None,
                    rate: Some(RateClaim {
                        bucket: ClaimId::of_rate(function, None),
                        rate: Cadence {
                            interval: 1,
                            tolerance: 0,
                        },
                        at,
                        reason: SkipReason::RateLimited,
                        rule: String::new(),
                        refusal: None,
                    }),
                    lock: Some(LockClaim {
                        bucket: ClaimId::of_lock(function, None),
                        mode: SingletonMode::Cancel,
                        at,
                        rule: String::new(),
                        refusal: None,
                    }),
                };
                Write::Accept(Accept {
                    event,
                    runs: vec![new],
                    joins: Vec::new(),
                    skips: Vec::new(),
                    catalog: None,
                })
            })
            .collect();
        assert_eq!(split(&batch).len(), 1);
    }
}
